"""`klingflow import`: an edited timeline as a change of the storyboard."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict

import klingflow
from klingflow import Imported, money
from klingflow.cli import answer, storyboards
from klingflow.cli.error_report import say
from klingflow.cli.words import parse_vars
from klingflow.core.errors import DONE
from klingflow.core.source import inert, visible
from klingflow.output.words import count


def import_(
    edited: str,
    path: str | None = None,
    var: Sequence[str] = (),
    provider: str | None = None,
    write: bool = False,
    format: str = "text",
) -> int:
    if edited.endswith((".yaml", ".yml")) and path is not None:
        edited, path = path, edited  # as with every other command, the storyboard may come first
    path = storyboards.one(path)
    storyboard = klingflow.open(path, variables=parse_vars(var), provider=provider)
    done = storyboard.import_timeline(edited, write=write)
    if format == "json":
        answer.show(storyboard=storyboard.relative(), **asdict(done))
        return DONE
    print(inert(visible(done.diff)), end="")
    for line in _lines(done, path, edited, [*(f"--var {shlex.quote(one)}" for one in var), *_named(provider)]):
        say(visible(line))
    return DONE


def _named(provider: str | None) -> list[str]:
    return [f"--provider {shlex.quote(provider)}"] if provider else []


def _lines(done: Imported, path: str, edited: str, options: Sequence[str]) -> list[str]:
    out = []
    if done.not_brought:
        out.append("not brought back, since a storyboard cannot say it:")
        out += [f"  {one.at}  {one.what}" for one in done.not_brought]
    if not done.diff:
        return [*out, "the film's cut is as the storyboard has it: nothing changes"]
    if done.films > 1:
        out.append(f"the cut of all {done.films} films changes: they share film.shots")
    spend = "a price that is not known" if done.spend is None else money(done.spend) if done.spend else "nothing"
    free = "the recut costs nothing: no clip is made for it"
    out.append(f"the recut makes {count(done.makes, 'clip')} necessary, for {spend}" if done.makes else free)
    given = " ".join([shlex.quote(path), *options])
    if done.written:
        return [*out, f"{path} is written; next: klingflow run {given}"]
    return [*out, f"nothing is written yet: klingflow import {shlex.quote(edited)} {given} --write"]
