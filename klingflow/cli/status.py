"""`klingflow status`: every task that was ever submitted for a storyboard, from the ledger."""

from __future__ import annotations

import json
import time
from decimal import Decimal

from klingflow.cli import planning
from klingflow.cli.opening import Opened, open_storyboard
from klingflow.core.errors import DONE
from klingflow.io import ledger
from klingflow.io.store import Store
from klingflow.output.plantext import count, duration
from klingflow.planning.job import Job, Kind, Record, State
from klingflow.planning.price import money

_SAID = {
    State.INTENDED: "in doubt, or being asked for",
    State.ACCEPTED: "being made, or not collected",
    State.REFUSED: "refused",
    State.FAILED: "failed",
    State.STORED: "stored",
    State.ABANDONED: "given up",
}


def status(path: str, format: str = "text") -> int:
    opened = open_storyboard(path)
    rows = [row for job in jobs_of(opened, planning.store_of(opened)) for row in _rows(job)]
    rows.sort(key=lambda row: (str(row["shot"]), str(row["at"])))
    if format == "json":
        print(json.dumps({"version": 1, "storyboard": opened.relative, "tasks": rows}, ensure_ascii=False, indent=2))
        return DONE
    if not rows:
        print("no task was ever submitted for this storyboard")
    for row in rows:
        price = f"  {money(Decimal(str(row['price'])))}" if row["price"] else ""
        take = f" take {row['take']}" if row["take"] != 1 else ""
        age = duration(float(str(row["age_s"])))
        print(f"{row['shot']}{take}: {row['state']}; {row['provider']} {row['task'] or '(no task id)'}, {age} ago{price}")
        if row["message"]:
            print(f"    {row['message']}")
    paid = sum((Decimal(str(r["price"])) for r in rows if r["price"] and r["state"] not in ("refused",)), Decimal(0))
    print(f"{count(len(rows), 'task')}, {money(paid)} booked")
    return DONE


def jobs_of(opened: Opened, store: Store) -> list[Job]:
    """The ledger's jobs whose first intent was for this storyboard."""
    return [
        job
        for job in ledger.jobs(store)
        if any(r.kind is Kind.INTENT and r.detail.get("storyboard") == opened.relative for r in job.records)
    ]


def _rows(job: Job) -> list[dict[str, object]]:
    """One row an attempt."""
    rows: list[dict[str, object]] = []
    for attempt in range(1, job.attempt + 1):
        records = [record for record in job.records if record.attempt == attempt]
        if not records:
            continue
        intent, last = records[0], records[-1]
        accepted = _of(records, Kind.ACCEPTED)
        rows.append(
            {
                "shot": intent.detail.get("shot"),
                "take": intent.detail.get("take"),
                "film": intent.detail.get("film"),
                "provider": intent.detail.get("provider"),
                "task": accepted.detail.get("task") if accepted else None,
                "state": _SAID[_STATE[last.kind]],
                "attempt": attempt,
                "key": job.key,
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(intent.at_ms / 1000)),
                "age_s": round(max(0.0, time.time() - intent.at_ms / 1000), 1),
                "price": _number(intent.detail.get("price")),
                "message": last.detail.get("message") or last.detail.get("why"),
            }
        )
    return rows


_STATE = {
    Kind.INTENT: State.INTENDED,
    Kind.ACCEPTED: State.ACCEPTED,
    Kind.REFUSED: State.REFUSED,
    Kind.FAILED: State.FAILED,
    Kind.STORED: State.STORED,
    Kind.ABANDONED: State.ABANDONED,
}


def _of(records: list[Record], kind: Kind) -> Record | None:
    return next((record for record in records if record.kind is kind), None)


def _number(price: object) -> float | None:
    return None if price is None else float(str(price))
