"""`klingflow prices`: what a plan counts with, and reading a seller's list anew."""

from __future__ import annotations

import sys
from dataclasses import asdict

import klingflow
from klingflow import PriceRow
from klingflow.cli import answer
from klingflow.cli.error_report import say
from klingflow.core.errors import DONE
from klingflow.core.redact import redact
from klingflow.core.source import inert, visible
from klingflow.output import terminal
from klingflow.output.table import Row, table
from klingflow.output.words import wrapped


def prices(path: str | None = None, refresh: bool = False, format: str = "text") -> int:
    refreshed = klingflow.refresh_prices(path or ".") if refresh else None
    rows = klingflow.prices(path or ".")
    unclear = refreshed.unclear if refreshed else ()
    if format == "json":
        answer.show(
            prices=[asdict(row) for row in rows],
            refreshed=refreshed.path if refreshed else None,
            unclear=list(unclear),
        )
        return DONE
    for row in unclear:
        say(f"warning: not understood, and left out: {visible(redact(row))}")
    if refreshed:
        print(f"{visible(refreshed.path)} is written: review the change, and commit it")
    width = terminal.width(sys.stdout)
    lines = table(HEAD, [Row(_cells(row)) for row in rows], width, right=("USD A SECOND",))
    print(inert("\n".join([*lines, *wrapped(ABOUT, width)])))
    return DONE


HEAD = ("PROVIDER", "CLIP", "RESOLUTION", "SOUND", "USD A SECOND", "BASIS")
ABOUT = (
    "What `prices` in klingflow.yaml states comes first, then klingflow.prices.yaml (--refresh writes it), then "
    "klingflow's estimates: Kling's own list price."
)


def _cells(row: PriceRow) -> tuple[str, ...]:
    amount = "unknown" if row.amount is None else f"${row.amount.normalize():f}"
    basis = row.basis or ("" if row.amount is None else "klingflow.yaml")
    return row.provider, row.way or "any", row.resolution, "yes" if row.sound else "no", amount, basis
