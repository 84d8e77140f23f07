"""`klingflow resolve`: a person settles what nothing else can know."""

from __future__ import annotations

import klingflow
from klingflow import Verdict
from klingflow.core.errors import DONE


def resolve(
    path: str,
    shot: str,
    take: int | None = None,
    key: str | None = None,
    task: str | None = None,
    not_bought: bool = False,
    accept: bool = False,
    reject: bool = False,
    force: bool = False,
) -> int:
    verdict = Verdict(task=task, not_bought=not_bought, accept=accept, reject=reject, force=force)
    print(klingflow.open(path).resolve(shot, verdict, take=take, key=key))
    return DONE
