"""`klingflow resolve`: a person says what nothing else can know: whether a paid request was taken."""

from __future__ import annotations

import time

from klingflow.cli.status import KEY_SHOWN, jobs_at
from klingflow.core.errors import DONE, UsageError
from klingflow.core.model import task_id
from klingflow.core.source import visible
from klingflow.execution import host
from klingflow.io import ledger
from klingflow.planning.job import Job, Kind, State


def resolve(
    path: str,
    shot: str,
    take: int | None = None,
    key: str | None = None,
    task: str | None = None,
    not_bought: bool = False,
) -> int:
    """Settles the one open purchase of a shot: `--task ID` records the task, so that the next run collects it;
    `--not-bought` gives it up, so that the next run may buy."""
    store, jobs = jobs_at(path)
    meant = [job for job in jobs if _shot(job) == shot and take in (None, _take(job))]
    open_jobs = [job for job in meant if job.key.startswith(key or "")]
    wanted = (State.INTENDED,) if task is not None else (State.INTENDED, State.ACCEPTED)
    found = [job for job in open_jobs if job.state in wanted]
    if not found:
        raise UsageError(f"nothing is in doubt for shot '{shot}'", f"klingflow status {path} lists every task")
    if len(found) > 1:
        listed = ", ".join(sorted(f"take {_take(job)} of {_film(job)} (--key {job.key[:KEY_SHOWN]})" for job in found))
        raise UsageError(f"shot '{shot}' has {len(found)} open purchases: {listed}", "name one with --take or --key")
    job = found[0]
    now = time.time_ns() // 1_000_000
    me = host.this()
    if task is not None:
        task = task_id(task.strip())
        if task is None:
            raise UsageError("that is no task id", "copy it from the provider's console")
        other = next((j for j in ledger.jobs(store) if j.task == task and j.key != job.key), None)
        if other is not None:
            raise UsageError(f"task {task} already belongs to shot '{_shot(other)}'", "copy the id of this shot's task")
        record = job.next(Kind.ACCEPTED, now, {"task": task, "by": "person", "who": me.who})
        said = f"recorded task {task}; `klingflow run {path}` collects it"
    else:
        record = job.next(Kind.ABANDONED, now, {"by": me.who, "why": "a person said: not bought"})
        said = f"recorded as not bought; `klingflow run {path}` may buy it now"
    if not ledger.write(store, record):
        raise UsageError("another run settled it at this very moment", f"look again: klingflow status {path}")
    print(visible(f"{shot}: {said}"))
    return DONE


def _shot(job: Job) -> object:
    intent = job.last(Kind.INTENT)
    return intent.detail.get("shot") if intent else None


def _film(job: Job) -> object:
    intent = job.last(Kind.INTENT)
    return intent.detail.get("film") if intent else None


def _take(job: Job) -> int:
    intent = job.last(Kind.INTENT)
    found = intent.detail.get("take") if intent else None
    return found if isinstance(found, int) else 1
