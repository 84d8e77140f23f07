"""`klingflow resolve`: a person settles what nothing else can know."""

from __future__ import annotations

import shlex

import klingflow
from klingflow import Verdict
from klingflow.cli import answer, storyboards
from klingflow.core.errors import DONE, UsageError
from klingflow.core.source import visible


def resolve(
    path: str | None,
    shot: str,
    take: int | None = None,
    key: str | None = None,
    task: str | None = None,
    not_bought: bool = False,
    accept: bool = False,
    reject: bool = False,
    force: bool = False,
    format: str = "text",
) -> int:
    if path is None and shot.endswith((".yaml", ".yml")):
        raise UsageError("which shot?", f"klingflow resolve {shlex.quote(shot)} SHOT; klingflow status names them")
    verdict = Verdict(task=task, not_bought=not_bought, accept=accept, reject=reject, force=force)
    storyboard = klingflow.open(storyboards.one(path))
    said = storyboard.resolve(shot, verdict, take=take, key=key)
    if format == "json":
        answer.show(storyboard=storyboard.relative(), shot=shot, said=said)
    else:
        print(visible(said))
    return DONE
