"""How long a task takes, learnt from the ledger: what the waiting and the plan's expected time are built on.

Pure: the caller reads a sample of jobs (`ledger.jobs(store, most=…)`), and only when something is to be made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from klingflow.planning.job import Job, Kind

TaskKind = tuple[str, str, str, int]
"""(provider, model, resolution, seconds of clip)"""


def expectations(jobs: Iterable[Job]) -> Mapping[TaskKind, float]:
    """Median seconds from `accepted` to `stored` for each kind of order that was collected before.

    A median, because a task that somebody collected the next morning is no measure of the provider.
    """
    waited: defaultdict[TaskKind, list[float]] = defaultdict(list)
    for job in jobs:
        intent, accepted, stored = (job.last(kind) for kind in (Kind.INTENT, Kind.ACCEPTED, Kind.STORED))
        if intent is None or accepted is None or stored is None:
            continue
        order = _kind(intent.detail)
        if order is not None and stored.at_ms >= accepted.at_ms:
            waited[order].append((stored.at_ms - accepted.at_ms) / 1000)
    return {order: sorted(times)[len(times) // 2] for order, times in waited.items()}


def _kind(detail: Mapping[str, object]) -> TaskKind | None:
    parts = detail.get("parts")
    match detail.get("provider"), detail.get("model"), parts, detail.get("seconds"):
        case str(provider), str(model), {"resolution": str(resolution)}, int(seconds):
            return provider, model, resolution, seconds
    return None
