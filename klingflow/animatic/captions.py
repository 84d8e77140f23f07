"""What the captions of a film's animatic lack on this machine, told once a film."""

from __future__ import annotations

import unicodedata

from klingflow.core.model import Film, Shot
from klingflow.core.source import Problem, Severity


def warnings(film: Film) -> list[Problem]:
    drawn = [shot for shot in film.shots if shot.provider == "animatic" and shot.clip is None]
    shots = [shot for shot in drawn if not all(map(str.isascii, _texts(shot)))]
    if not shots:
        return []
    from klingflow.animatic import lettering  # fonts are looked for where a text may need them

    out = []
    if signs := lettering.missing(text for shot in shots for text in _texts(shot)):
        what = f"no font of this machine has these signs of the animatic's captions: {''.join(signs[:20])}"
        what += "; they are drawn as boxes"
        out.append(_warning(film, shots[0], what, "install a font of the script, such as one of Noto"))
    if not lettering.shapes() and any(_needs_shaping(text) for shot in shots for text in _texts(shot)):
        what = (
            "this Pillow has no raqm: the animatic's captions in scripts that join letters or run from the right"
            " are drawn letter by letter, from the left"
        )
        out.append(_warning(film, shots[0], what, "install libfribidi, which Pillow's raqm needs"))
    return out


def _texts(shot: Shot) -> list[str]:
    parts = [prompt for prompt, _ in shot.multi_shot.shots] if shot.multi_shot else []
    return [shot.id, shot.title, shot.prompt, shot.negative_prompt, *parts]


def _needs_shaping(text: str) -> bool:
    return any(unicodedata.bidirectional(c) in ("R", "AL") or "\u0900" <= c <= "\u0dff" for c in text)


def _warning(film: Film, shot: Shot, what: str, mend: str) -> Problem:
    span = film.where(shot.id, "prompt")
    return Problem(rule="font-missing", what=what, mend=mend, span=span, severity=Severity.WARNING)
