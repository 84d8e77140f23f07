"""`klingflow take-in`: a clip that was made by hand answers a shot."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from pathlib import Path

import klingflow
from klingflow import TakenIn, UsageError, money
from klingflow.cli import answer, storyboards
from klingflow.cli.words import parse_vars
from klingflow.core.errors import DONE
from klingflow.core.source import visible


def take_in(
    file: str,
    shot: str,
    path: str | None = None,
    var: Sequence[str] = (),
    provider: str | None = None,
    take: int | None = None,
    key: str | None = None,
    cost: str | None = None,
    note: str = "",
    force: bool = False,
    format: str = "text",
) -> int:
    if path is not None and _is_storyboard(file) and not _is_storyboard(path):
        file, path = path, file  # as with every other command, the storyboard may come first
    elif _is_storyboard(file):
        raise UsageError("which clip?", f"klingflow take-in FILE {shlex.quote(file)} --as {shlex.quote(shot)}")
    path = storyboards.one(path)
    storyboard = klingflow.open(path, variables=parse_vars(var), provider=provider)
    done = storyboard.take_in(file, shot, take=take, key=key, cost=_dollars(cost), note=note, force=force)
    if format == "json":
        answer.show(storyboard=storyboard.relative(), **asdict(done))
        return DONE
    for line in _lines(done, file, shlex.quote(path)):
        print(visible(line))
    return DONE


def _lines(done: TakenIn, file: str, path: str) -> list[str]:
    name = done.shot + (f", take {done.take}" if done.take != 1 else "")
    cost = "price not known" if done.cost is None else money(done.cost) if done.cost else "free"
    what = f"{done.seconds} s, {done.size}, {done.rate} frames a second, {done.model} of {done.provider}, {cost}"
    lines = [f"{name}: {file} is taken in ({what})" if done.new else f"{name}: {file} is its clip already"]
    lines += [f"{name}: {differs}" for differs in done.differs]
    if done.differs:
        lines.append("if it is the wrong file: declare another `take` for the shot, and take the right one in as that")
    if done.lock is None:
        lines.append("the next run writes it into the lock")
    return [*lines, f"next: klingflow plan {path}"]


def _is_storyboard(word: str) -> bool:
    return word.endswith((".yaml", ".yml")) or Path(word).is_dir()


def _dollars(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        return Decimal(text)
    except (InvalidOperation, ValueError, TypeError):
        raise UsageError(f"--cost {text} is not an amount of dollars", "write it like --cost 0.56") from None
