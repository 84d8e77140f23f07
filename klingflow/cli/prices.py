"""`klingflow prices`: what a plan counts with, and reading a seller's list anew."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
    for text in unclear:
        say(f"warning: not understood, and left out: {visible(redact(text))}")
    if refreshed:
        print(f"{visible(refreshed.path)} is written: review the change, and commit it")
    width = terminal.width(sys.stdout)
    kinds: dict[tuple[str, ...], list[PriceRow]] = {}
    for row in rows:
        kinds.setdefault((row.provider, CLIPS[row.way], row.resolution), []).append(row)
    shown = [Row((*kind, *_cells(each))) for kind, each in kinds.items()]
    lines = table(HEAD, shown, width, right=("SILENT", "WITH SOUND"))
    print(inert("\n".join([*lines, *wrapped(ABOUT, width)])))
    return DONE


HEAD = ("PROVIDER", "CLIP", "RESOLUTION", "SILENT", "WITH SOUND", "BASIS")
CLIPS = {"image-to-video": "by image", "text-to-video": "by text", None: "any"}
ABOUT = (
    "USD a second. What `prices` in klingflow.yaml states comes first, then klingflow.prices.yaml (--refresh writes "
    "it), then klingflow's estimates: Kling's own list price."
)


def _cells(rows: Sequence[PriceRow]) -> tuple[str, ...]:
    """The amounts, silent and with sound, and what they are."""
    amounts = ["unknown" if row.amount is None else f"${row.amount.normalize():f}" for row in rows]
    bases = dict.fromkeys(row.basis or "klingflow.yaml" for row in rows if row.amount is not None)
    return (*amounts, ", ".join(bases))
