"""`klingflow report`: the page that shows a film, anew."""

from __future__ import annotations

import os
from collections.abc import Sequence

import klingflow
from klingflow.cli import answer, storyboards
from klingflow.cli.error_report import say
from klingflow.cli.words import parse_vars
from klingflow.core.errors import DONE
from klingflow.core.source import visible

LARGE = 100_000_000
"""Bytes of one page from which on mail and browsers take it badly."""


def report(
    path: str | None = None,
    var: Sequence[str] = (),
    provider: str | None = None,
    embed: bool = False,
    sheet: str | None = None,
    format: str = "text",
) -> int:
    """Writes it, and prints where it is."""
    storyboard = klingflow.open(storyboards.one(path), variables=parse_vars(var), provider=provider)
    written = storyboard.report(embed=embed) if sheet is None else (storyboard.contact_sheet(sheet),)
    if format == "json":
        pages = [{"film": one.film, "path": os.path.relpath(one.path), "bytes": one.bytes} for one in written]
        answer.show(storyboard=storyboard.relative(), pages=pages)
        return DONE
    for one in written:
        size = f" ({_size(one.bytes)})" if embed or sheet is not None else ""
        print(f"{visible(os.path.relpath(one.path))}{size}")
        if embed and one.bytes > LARGE:
            say("that is a large page: a mail refuses it, and a browser is slow with it. Without --embed it is small")
    return DONE


def _size(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB" if count >= 1_000_000 else f"{max(1, round(count / 1000))} KB"
