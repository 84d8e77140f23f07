"""A table as text: aligned columns, as wide as its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from klingflow.core.source import columns
from klingflow.output.words import padded, shortened, wrapped

NAME = 20
"""Columns that the names in the first column keep where they need them; the others make room."""
GAP = "  "
BELOW = " " * 4


@dataclass(frozen=True, slots=True)
class Row:
    cells: tuple[str, ...]
    """One a column; an empty one says nothing."""
    below: str = ""
    """What is said of it on lines of its own."""


def table(head: Sequence[str], rows: Sequence[Row], width: int, right: Sequence[str] = ()) -> list[str]:
    """The lines, head first. Columns named in `right` are aligned there. The last columns that find no room stand
    below each row with their names, whole, to be copied; names in the first column are then shortened in the middle."""
    needs = [max(columns(line[i]) for line in (tuple(head), *(row.cells for row in rows))) for i in range(len(head))]
    name, *others = needs
    shown = len(head)
    while shown > 1 and min(name, NAME) + sum(others[: shown - 1]) + len(GAP) * (shown - 1) > width:
        shown -= 1
    needs[0] = min(name, width - sum(others[: shown - 1]) - len(GAP) * (shown - 1))
    out = [_line(head, head[:shown], needs, right)]
    for row in rows:
        out.append(_line(head, (shortened(row.cells[0], needs[0]), *row.cells[1:shown]), needs, right))
        rest = ", ".join(f"{head[i].lower()} {row.cells[i]}" for i in range(shown, len(head)) if row.cells[i])
        out += wrapped(rest, width, BELOW, BELOW, whole=True) + wrapped(row.below, width, BELOW, BELOW)
    return out


def _line(head: Sequence[str], cells: Sequence[str], needs: Sequence[int], right: Sequence[str]) -> str:
    return GAP.join(padded(cell, needs[i], right=head[i] in right) for i, cell in enumerate(cells)).rstrip()
