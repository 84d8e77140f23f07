"""`klingflow worker`: does the jobs of a farm, until it is stopped."""

from __future__ import annotations

import json as _json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from klingflow.cli.error_report import say
from klingflow.cli.farm import unreachable, with_extra
from klingflow.core.errors import DONE, UsageError
from klingflow.core.redact import redact
from klingflow.core.source import inert, visible

if TYPE_CHECKING:
    from klingflow.app.farm_jobs import Job


def worker(path: str = ".", slots: str | None = None, format: str = "text") -> int:
    """SIGTERM or Ctrl-C: takes no more jobs, and leaves those it has for others, with everything on record."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # before the imports, which may swallow the exception of a signal
        signal.signal(number, lambda *_: stop.set())
    with with_extra():
        from klingflow.farm import start, work  # the engine is an extra
    if slots is not None and not (slots.isascii() and slots.isdecimal() and 0 < int(slots) <= 1000):
        raise UsageError(f"--slots {slots} is not a whole number from 1 to 1000", "write it like --slots 8")
    if not os.path.exists(path):
        raise UsageError(f"there is no folder '{path}'", "name the worker's copy of the project")

    def told(job: Job, what: str) -> None:
        if format == "json":
            line(what, job=job.id, storyboard=job.storyboard, shots=list(job.shots))
        else:
            shots = ", ".join(job.shots) if job.kind == "make" else "its films"
            say(f"{visible(job.storyboard)}: {visible(shots)}: {visible(redact(what))}")

    def tell(what: str) -> None:
        if format == "json":
            line(what)
        else:
            say(visible(redact(what)))

    def line(what: str, **of: object) -> None:
        fields = {"at": round(time.time(), 3), "worker": at_work.id, **of, "what": redact(what)}
        print(inert(_json.dumps(fields, ensure_ascii=False)), flush=True)

    url = start.database(path, os.environ)
    most = int(slots or work.DEFAULT_SLOTS)
    with unreachable(url):
        at_work, jobs = work.work(path, url, most, os.environ, told, tell, lambda event: None)
    tell(f"worker {at_work.id} takes jobs from {redact(url)}; Ctrl-C ends it")
    for seller, why in work.lacking(os.environ).items():
        tell(f"it takes no jobs of {seller}: {why}")
    stop.wait()
    tell("ends: what is under way is put on record, and another worker continues it")
    jobs.leave()
    at_work.leave()
    os._exit(DONE)  # threads of jobs that are not done are left as they are
