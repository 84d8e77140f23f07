"""The joins of films, measured and judged: after a run, and for `klingflow seams`.

What was measured of a clip and of a pair of clips is remembered by their digests in the user's cache, and so is each
film's verdict: nothing is measured twice, and nothing is believed that lies in `out/`.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from klingflow.app import outputs
from klingflow.app.project_loader import LoadedStoryboard
from klingflow.app.session import Session
from klingflow.core import digest as digests
from klingflow.core.errors import StoryboardError, UsageError
from klingflow.core.model import ANIMATIC, ClipFacts, Film, ShotId
from klingflow.core.source import Problem
from klingflow.io import durable
from klingflow.io.remembered import recall, remember
from klingflow.io.store import Store
from klingflow.output import cutting, seams
from klingflow.output.cutting import Shown
from klingflow.output.seams import Across, FilmSeams, Inside, Seam
from klingflow.storyboard.lock import Lock

if TYPE_CHECKING:
    from klingflow.output.seam_measure import Look

RECIPE = 4
"""Raised when the same clips would be measured otherwise."""
DRAWN = "Clips that the animatic drew are not measured, unless film.gate asks for it: their cards change at their ends."
INSTALL = "pip install 'klingflow[seams]'"
_STRIP = re.compile(r"[a-z0-9][a-z0-9_-]{1,200}-[0-9a-f]{10}\.jpg")
"""The names of strips that we write; others are not touched."""


def installed() -> bool:
    """Whether joins can be measured here."""
    return importlib.util.find_spec("cv2") is not None


def refuse_gate(films: Sequence[Film]) -> None:
    """Raises StoryboardError where a film has a gate that cannot be judged here: before anything is spent."""
    gated = next((film for film in films if film.gate), None)
    if gated is not None and not installed():
        raise StoryboardError(
            [
                Problem(
                    rule="gate",
                    what="film.gate needs the extra klingflow[seams], which is not installed here",
                    mend=f"{INSTALL}, or remove the gate",
                    span=gated.where(None, "film.gate"),
                )
            ]
        )


def measure(session: Session) -> tuple[FilmSeams, ...]:
    """The joins of every film, measured as far as they are not known, with seams.json and strips written. Raises
    UsageError where the extra is not installed, or where clips are missing; MediaError where one cannot be read."""
    if not installed():
        raise UsageError("joins are measured with OpenCV, which is not installed here", INSTALL)
    planned = session.plan().films
    found = []
    for film, plan in zip(session.loaded.films, planned, strict=True):
        facts: dict[ShotId, ClipFacts] = {}
        for step in plan.steps:
            if step.is_active_take and step.clip is not None and session.store.holds(step.clip):
                entry = session.lock.entry(film.variant, step.shot, step.take)
                record = step.record
                if record is not None and record.facts.digest == step.clip:
                    facts[step.shot] = record.facts
                elif entry is not None and entry.clip == step.clip:
                    facts[step.shot] = entry.facts()
        missing = dict.fromkeys(cut.shot for cut in film.cut if cut.shot not in facts)
        if missing:
            names = ", ".join(list(missing)[:6]) + (", …" if len(missing) > 6 else "")
            raise UsageError(f"{film.label} has no clip yet of {names}", "klingflow run makes them")
        found.append(judge(session.loaded, film, facts, session.lock, session.store))
    return tuple(found)


def judge(
    loaded: LoadedStoryboard, film: Film, facts: dict[ShotId, ClipFacts], lock: Lock, store: Store
) -> FilmSeams:
    """The joins of a film whose clips are all at hand; brings seams.json and the strips in its folder up to date. A
    film that was judged before is not looked at again."""
    film = replace(film, gate={kind: film.gate[kind] for kind in seams.KINDS if kind in film.gate})
    source = _source(loaded, film, facts, lock)
    folder = outputs.folder_of(loaded, film)
    verdict = seams.load(recall("seams", source))
    if verdict is None and not film.gate:
        # Nothing is decided by it, so what stands there is as good. A gate believes nothing that may have come with
        # somebody's branch.
        verdict = _standing(folder / "seams.json", source)
    if verdict is None or not all(_stands(folder, seam) for seam in verdict.seams):
        shown = outputs.cut_list(loaded, film, facts, lock, store)
        rate = outputs.rate_of(film, facts)
        verdict = _measured(loaded, film, shown, rate, store, folder, source)
        remember("seams", source, seams.dump(verdict))
    text = seams.text(verdict)
    file = folder / "seams.json"
    with suppress(OSError, UnicodeDecodeError):
        if file.read_text(encoding="utf-8") == text:
            return verdict
    durable.replace(loaded.project.to_write(file.relative_to(loaded.project.root).as_posix()), text.encode())
    _tidy(folder, verdict)
    return verdict


def _source(loaded: LoadedStoryboard, film: Film, facts: dict[ShotId, ClipFacts], lock: Lock) -> str:
    """A digest of what is measured, from what is on record: no clip is opened."""
    shown, rate = outputs.cut_on_record(loaded, film, facts, lock)
    asked = [film.shot(each.shot).multi_shot is not None for each in shown]
    made = {
        "recipe": RECIPE,
        "film": [loaded.relative, film.variant, film.title, str(rate)],
        "shown": [[each.shot, each.clip, each.first, each.end, each.film_start] for each in shown],
        "joins": [_join(film, shown, n) for n in range(1, len(shown))],
        "asked": asked,
        "drawn": [_drawn(film, each.shot) for each in shown],
        "gate": film.gate,
    }
    return digests.of_bytes(digests.canonical(made))


def _standing(file: Path, source: str) -> FilmSeams | None:
    try:
        found = seams.load(json.loads(file.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None
    return found if found is not None and found.source == source else None


def _stands(folder: Path, seam: Seam) -> bool:
    return seam.strip is None or (folder / seam.strip).is_file()


def _tidy(folder: Path, verdict: FilmSeams) -> None:
    """Removes the strips of joins that are gone."""
    wanted = {seam.strip for seam in verdict.seams}
    with suppress(OSError):
        for file in (folder / "seams").iterdir():
            if _STRIP.fullmatch(file.name) and f"seams/{file.name}" not in wanted:
                file.unlink()


def _measured(
    loaded: LoadedStoryboard,
    film: Film,
    shown: Sequence[Shown],
    rate: Fraction,
    store: Store,
    folder: Path,
    source: str,
) -> FilmSeams:
    limits = seams.limits(film.gate)
    joins = [_join(film, shown, n) for n in range(1, len(shown))]
    left_out = [not film.gate and _drawn(film, each.shot) for each in shown]
    insides: list[Inside | None] = []
    acrosses: list[Across] = []
    strips: list[str | None] = []
    with closing(_Eyes(store, shown, left_out)) as eyes:
        for n, each in enumerate(shown):
            inside = None if left_out[n] else eyes.inside(n)
            if inside is not None and film.shot(each.shot).multi_shot is not None:  # its cuts are asked for
                inside = replace(inside, cuts=())
            insides.append(inside)
            if n and (left_out[n - 1] or left_out[n]):
                acrosses.append(Across())
                strips.append(None)
            elif n:
                acrosses.append(eyes.across(n, joins[n - 1]))
                strip = f"seams/{shown[n - 1].shot[:80]}-{each.shot[:80]}-{eyes.pair(n, '')[:10]}.jpg"
                path = loaded.project.to_write((folder / strip).relative_to(loaded.project.root).as_posix())
                if not path.is_file():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    durable.replace(path, eyes.strip(n))
                strips.append(strip)
    found = seams.judge(
        [each.shot for each in shown],
        insides,
        acrosses,
        joins,
        limits,
        starts=[each.film_start for each in shown],
        rate=float(rate),
    )
    return FilmSeams(
        storyboard=loaded.relative,
        variant=film.variant,
        title=film.title,
        source=source,
        limits=limits,
        gate=tuple(film.gate),
        seams=tuple(replace(seam, strip=strip) for seam, strip in zip(found, strips, strict=True)),
        notes=(DRAWN,) if any(left_out) else (),
    )


def _drawn(film: Film, name: ShotId) -> bool:
    shot = film.shot(name)
    return shot.clip is None and shot.provider == ANIMATIC


def _join(film: Film, shown: Sequence[Shown], n: int) -> str:
    """What an eye expects at a join. Where `film.shots` shows other parts of the clips than those that meet, it is a
    planned cut."""
    meant = film.cut[n].start is None and film.cut[n - 1].end is None
    match shown[n].join:
        case cutting.Join.CONTINUES | cutting.Join.EARLIER if meant:
            return "continues"
        case cutting.Join.MEETS if meant:
            return "meets"
    return "cut"


class _Eyes:
    """Looks at the clips of a film, each once at most, and only where what is asked is not remembered."""

    def __init__(self, store: Store, shown: Sequence[Shown], left_out: Sequence[bool]) -> None:
        self._store = store
        self._shown = shown
        self._left_out = left_out
        self._looks: dict[int, Future[Look]] = {}
        self._threads: ThreadPoolExecutor | None = None

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def inside(self, n: int) -> Inside:
        known = self._known(n)
        if known is None:
            known = self._look(n).inside
            remember("seam-clip", self._key(n), asdict(known))
        return known

    def _known(self, n: int) -> Inside | None:
        return seams.load_inside(recall("seam-clip", self._key(n)))

    def _key(self, n: int) -> str:
        return digests.of_bytes(digests.canonical([RECIPE, *self._part(n)]))

    def across(self, n: int, join: str) -> Across:
        """Of the join before the n-th clip."""
        key = self.pair(n, join)
        known = seams.load_across(recall("seam-pair", key))
        if known is None:
            from klingflow.output import seam_measure

            known = seam_measure.across(self._look(n - 1), self._look(n), join)
            remember("seam-pair", key, asdict(known))
        return known

    def strip(self, n: int) -> bytes:
        from klingflow.output import seam_measure

        return seam_measure.strip(self._look(n - 1), self._look(n))

    def pair(self, n: int, join: str) -> str:
        return digests.of_bytes(digests.canonical([RECIPE, *self._part(n - 1), *self._part(n), join]))

    def _part(self, n: int) -> tuple[str, int, int]:
        shown = self._shown[n]
        return shown.clip, shown.first, shown.end

    def _look(self, n: int) -> Look:
        """The n-th clip, looked at; those that are asked for next are looked at meanwhile."""
        from klingflow.output import seam_measure

        self._threads = self._threads or ThreadPoolExecutor(seam_measure.AT_ONCE, thread_name_prefix="seams")
        self._looks = {m: look for m, look in self._looks.items() if m >= n - 1}  # each holds many pictures
        for m in range(n, min(n + 1 + seam_measure.AT_ONCE, len(self._shown))):
            if m not in self._looks and (m == n or not (self._left_out[m] or self._known(m))):
                shown = self._shown[m]
                clip = seam_measure.Clip(
                    shot=shown.shot, path=self._store.blob(shown.clip), first=shown.first, end=shown.end
                )
                self._looks[m] = self._threads.submit(seam_measure.look, clip)
        return self._looks[n].result()
