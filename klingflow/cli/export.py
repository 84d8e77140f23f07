"""`klingflow export`: the film as a timeline for editing programs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict

import klingflow
from klingflow import Exported, UsageError
from klingflow.cli import answer, storyboards
from klingflow.cli.words import parse_vars
from klingflow.core.errors import DONE
from klingflow.core.source import visible
from klingflow.output.words import count


def export(
    path: str | None = None,
    var: Sequence[str] = (),
    provider: str | None = None,
    otio: str | None = None,
    fcpxml: str | None = None,
    edl: str | None = None,
    format: str = "text",
) -> int:
    files = {kind: file for kind, file in (("otio", otio), ("fcpxml", fcpxml), ("edl", edl)) if file is not None}
    for kind, file in files.items():
        if file.endswith((".yaml", ".yml")):
            raise UsageError(f"--{kind} {file} would write a timeline", f"klingflow export {file} --{kind}")
    storyboard = klingflow.open(storyboards.one(path), variables=parse_vars(var), provider=provider)
    written = storyboard.export({kind: file or None for kind, file in files.items()})
    if format == "json":
        answer.show(storyboard=storyboard.relative(), timelines=[asdict(one) for one in written])
        return DONE
    for one in written:
        print(visible(_line(one)))
    return DONE


def _line(one: Exported) -> str:
    gaps = f"; not made, a gap each: {', '.join(one.gaps)}" if one.gaps else ""
    gaps += f"; stale, as the lock has it: {', '.join(one.stale)}" if one.stale else ""
    what = f"{count(one.clips, 'clip')}, {one.frames} frames, {one.rate} a second{gaps}"
    return f"{os.path.relpath(one.path)}: {what}"
