"""`klingflow takes`: the takes of each shot, and which one counts."""

from __future__ import annotations

import json

import klingflow
from klingflow import TakeRow, money
from klingflow.cli import storyboards
from klingflow.core.errors import DONE


def takes(path: str | None, format: str = "text") -> int:
    """Lists what the lock names: a run keeps every take of a shot that lives, so that a person can go back to one."""
    storyboard = klingflow.open(storyboards.one(path))
    rows = storyboard.takes()
    if format == "json":
        out = {"version": 1, "storyboard": storyboard.relative(), "takes": [_json(row) for row in rows]}
        print(json.dumps(out, ensure_ascii=False, indent=2))
        return DONE
    for row in rows:
        price = f"  {money(row.cost)}" if row.cost else ""
        notes = "  (stale: klingflow plan says why)" if row.stale else ""
        notes += "" if row.here else "  (not in this store)"
        variant = f"  [{row.variant}]" if row.variant else ""
        print(
            f"{'*' if row.counts else ' '} {row.shot:<20} take {row.take}  {row.seconds} s  {row.provider:<10} "
            f"{row.date}  {row.clip[:12]}{price}{notes}{variant}"
        )
    if rows:
        print("* counts: the film uses it, and other shots continue it. `take: N` in the storyboard chooses another.")
    else:
        print("no take yet: klingflow run makes them")
    return DONE


def _json(row: TakeRow) -> dict[str, object]:
    return {
        "film": row.film,
        "shot": row.shot,
        "take": row.take,
        "counts": row.counts,
        "stale": row.stale,
        "clip": row.clip,
        "here": row.here,
        "seconds": float(row.seconds),
        "provider": row.provider,
        "date": row.date,
        "cost": None if row.cost is None else float(row.cost),
    }
