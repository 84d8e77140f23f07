"""`klingflow verify`: what a film says of how it was made, and whether that can be believed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import klingflow
from klingflow import VerifiedFilm
from klingflow.cli import answer, storyboards
from klingflow.core.errors import DONE, MediaError
from klingflow.core.source import inert, visible
from klingflow.output import provenance, terminal
from klingflow.output.provenance import FilmRecord, ShownShot
from klingflow.output.table import Row, table
from klingflow.output.words import wrapped


def verify(film: str, path: str | None = None, format: str = "text") -> int:
    """Exit code 1 where the film is not signed, was changed, has a signer who is not trusted, or differs from the
    lock."""
    found = klingflow.verify_film(film)
    differs: tuple[str, ...] | None = None
    if path is not None and found.record is not None:
        differs = klingflow.open(storyboards.one(path)).film_differences(found.record)
    code = DONE if found.good and not differs else MediaError.code
    if format == "json":
        answer.show(**_document(found, differs))
        return code
    width = terminal.width(sys.stdout)
    lines = [line for text in _seal(found) for line in wrapped(_line(text), width, "", "  ", whole=True)]
    if found.record is not None:
        lines += ["", *_told(found, found.record, width), "", *_shots(found, found.record, width)]
    if differs is not None:
        lines += ["", *_compared(differs, str(path), width)]
    print(inert("\n".join(lines)))
    return code


def _line(text: str) -> str:
    """Text of a film, which anybody may have written, as a part of one line: it cannot look like a line of ours."""
    return visible(" ".join(text.split()))


NOWHERE = "it may have been taken out when the film was uploaded or encoded anew: ask for the file that was delivered"


def _seal(found: VerifiedFilm) -> Iterator[str]:
    """Who signed the film, and whether it is as it was signed."""
    name, seal = found.film.name, found.credentials
    if seal is None:
        yield f"{name}: not signed"
        if found.record is None:
            yield f"nothing in it says how it was made; {NOWHERE}"
        else:
            yield "anybody can have changed what it says of itself"
        return
    if not seal.intact:
        yield f"{name}: CHANGED since it was signed, or the signature is not good"
        yield from seal.problems
    if seal.signer or seal.organization:
        of = f" of {seal.organization}" if seal.organization not in ("", seal.signer) else ""
        authority = "a timestamp authority" if seal.time_trusted else "a timestamp authority that is not trusted here"
        when = f", {seal.time} by {authority}" if seal.time else "; no timestamp authority saw when"
        yield f"{f'{name}: ' if seal.intact else ''}signed by {seal.signer}{of} with {seal.tool}{when}"
    if seal.intact:
        yield "not changed since"
        yield from (f"BUT {problem}" for problem in seal.problems)
    if seal.trusted:
        yield "the certificate leads to a root in KLINGFLOW_SIGN_TRUST"
    elif found.trust:
        yield "NOT TRUSTED: the certificate leads to no root in KLINGFLOW_SIGN_TRUST"
    elif seal.signer:
        yield "whether the signer is who that says was not checked: KLINGFLOW_SIGN_TRUST names no root certificate"
    if seal.record is None:
        yield (
            "klingflow did not sign it; anybody can have changed what follows"
            if seal.intact and found.record is not None
            else f"the signature says nothing of its shots; {NOWHERE}"
            if found.record is None
            else "anybody can have changed what follows: it is not what was signed"
        )
    elif not seal.intact:
        yield "what follows is what was signed, which is not what this file shows now"


def _told(found: VerifiedFilm, record: FilmRecord, width: int) -> list[str]:
    at = f", commit {record.commit[:12]}" if record.commit else ""
    dirty = " with changes that are in no commit" if record.dirty else ""
    variant = f" [{record.variant}]" if record.variant else ""
    lines = [
        f"{f'“{record.title}”' if record.title else 'a film without a title'}{variant}, "
        f"{record.seconds(record.frames):.3f} s, {record.frames} frames",
        provenance.summary(record.shots, music=bool(record.music)),
        f"IPTC digital source type: {record.digital_source_type}",
        f"by {record.generator} from {record.storyboard}{at}{dirty}",
    ]
    if record.music:
        lines.append(f"the music bed has the SHA-256 {record.music[:12]}…{_came(found, record.music, '; it')}")
    return [line for text in lines for line in wrapped(_line(text), width, "", "  ", whole=True)]


HEAD = ("SHOT", "FROM S", "TO S", "MODEL", "PROVIDER", "DATE", "KEY", "TASK")
"""Without the last one where no clip has a task."""


def _shots(found: VerifiedFilm, record: FilmRecord, width: int) -> list[str]:
    columns = len(HEAD) if any(shot.task for shot in record.shots) else len(HEAD) - 1
    rows = [Row(_cells(record, shot)[:columns], _line(_notes(found, shot))) for shot in record.shots]
    return table(HEAD[:columns], rows, width, right=("FROM S", "TO S"))


def _cells(record: FilmRecord, shot: ShownShot) -> tuple[str, ...]:
    begin, end = f"{record.seconds(shot.start):.3f}", f"{record.seconds(shot.end):.3f}"
    cells = (shot.shot, begin, end, shot.model, shot.provider, shot.date, shot.key[:12], shot.task)
    return tuple(map(_line, cells))


def _notes(found: VerifiedFilm, shot: ShownShot) -> str:
    notes = ["taken in by hand"] if shot.taken_in else []
    came = _came(found, shot.clip, "the clip")
    return "; ".join([*notes, *([came] if came else [])])


def _came(found: VerifiedFilm, digest: str, what: str) -> str:
    """Who signed a clip or the music bed before it came into the film; empty where nobody did."""
    own = found.credentials.clips.get(digest) if found.credentials is not None else None
    if own is None:
        return ""
    return f"{what} came {'signed by' if own.intact else 'with credentials that did not fit it, of'} {own.signer}"


def _compared(differs: Sequence[str], path: str, width: int) -> list[str]:
    if not differs:
        return [_line(f"{path}: the lock names the same shots, clips and keys")]
    lines = [line for text in differs for line in wrapped(_line(text), width, "  - ", "    ", whole=True)]
    return [_line(f"{path} and its lock say otherwise now:"), *lines]


def _document(found: VerifiedFilm, differs: tuple[str, ...] | None) -> dict[str, object]:
    seal, record = found.credentials, found.record
    signer = None
    if seal is not None:
        signer = {
            "name": seal.signer,
            "organization": seal.organization,
            "serial": seal.serial,
            "time": seal.time or None,
            "time_trusted": seal.time_trusted if seal.time else None,
            "tool": seal.tool,
        }
    return {
        "film": str(found.film),
        "signed": seal is not None,
        "good": found.good,
        "intact": None if seal is None else seal.intact,
        "trusted": seal.trusted if seal is not None and found.trust else None,
        "signer": signer,
        "problems": [] if seal is None else list(seal.problems),
        "record": None if record is None else _recorded(found, record),
        "differences": differs,
    }


def _recorded(found: VerifiedFilm, record: FilmRecord) -> dict[str, object]:
    own = {} if found.credentials is None else found.credentials.clips
    shots = [
        {
            **shot,
            "start_s": round(record.seconds(shot["start"]), 3),
            "end_s": round(record.seconds(shot["end"]), 3),
            "clip_signer": own[shot["clip"]].signer if shot["clip"] in own else None,
            "clip_intact": own[shot["clip"]].intact if shot["clip"] in own else None,
        }
        for shot in provenance.as_json(record)["shots"]
    ]
    return {**provenance.as_json(record), "shots": shots}
