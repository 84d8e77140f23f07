"""A worker: does the jobs of a farm in its own copy of the project, until it is stopped."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from klingflow.app import doctor, farm_jobs
from klingflow.app.services import key_of, no_key
from klingflow.core.errors import Interrupted, KlingflowError, StoreError, UsageError
from klingflow.execution.outcome import Event
from klingflow.farm import engine
from klingflow.io import config, trust
from klingflow.io.project import find_root
from klingflow.providers import PROVIDERS

DEFAULT_SLOTS = 8
"""Jobs at once in one worker: nearly all of their time is waiting for a provider."""
PATIENCE_S = 20.0
"""How long a worker that is stopped waits for its jobs to be on record."""
JOIN = "join"

Say = Callable[[farm_jobs.Job, str], None]
"""Is told when a job begins and how it ends."""


def queue_of(job: farm_jobs.Job) -> str:
    """The queue of a job: one for each seller, whose limits its jobs share, and one for joining films."""
    return JOIN if job.kind == "join" else f"make-{job.seller}"


class Work:
    """The jobs that a worker does, each in a thread and an event loop of its own."""

    def __init__(self, root: Path, environ: Mapping[str, str], say: Say, emit: Callable[[Event], None]) -> None:
        self._root = root
        self._environ = environ
        self._say = say
        self._emit = emit
        self._lock = threading.Lock()
        self._running: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}
        self._leaving = threading.Event()
        self._idle = threading.Condition(self._lock)

    def do(self, text: str) -> str:
        """Does a job. Raises StoreError for what a later try may find otherwise. Never returns when the worker leaves:
        the job is not done, and others take it over."""
        job = farm_jobs.read(text)
        self._say(job, "begins")
        try:
            done = asyncio.run(self._do(job))
        except StoreError as bad:
            self._say(job, f"tries again later: {bad.what}")
            raise
        except KlingflowError as bad:
            done = farm_jobs.JobResult(code=bad.code, what=bad.what, mend=bad.mend)
        if done.code == Interrupted.code:
            threading.Event().wait()
        self._say(job, "done" if done.code == 0 else f"ended with code {done.code}: {done.what}")
        return done.text()

    async def _do(self, job: farm_jobs.Job) -> farm_jobs.JobResult:
        stop = asyncio.Event()
        if self._leaving.is_set():
            stop.set()
        me = threading.get_ident()
        with self._lock:
            self._running[me] = asyncio.get_running_loop(), stop
        try:
            return await farm_jobs.do(job, self._root, self._environ, self._emit, stop)
        finally:
            with self._lock:
                del self._running[me]
                self._idle.notify_all()

    def leave(self) -> None:
        """Stops every job soon, with all of it on record."""
        self._leaving.set()
        with self._lock:
            for loop, stop in self._running.values():
                with suppress(RuntimeError):  # it has just ended
                    loop.call_soon_threadsafe(stop.set)
            self._idle.wait_for(lambda: not self._running, timeout=PATIENCE_S)


def refuse_store(path: Path, environ: Mapping[str, str]) -> None:
    """Raises UsageError where the store of the project that `path` lies in cannot be used: every job would fail."""
    bad = next((finding for finding in doctor.store_of(path, environ) if not finding.good), None)
    if bad is not None:
        raise UsageError(bad.what.removeprefix("store: "), bad.mend)
    if trust.of(environ).read_only:
        what = f"the store may only be read here ({trust.READONLY}), and a farm writes to it"
        raise UsageError(what, f"leave {trust.READONLY} out on workers and where farm run is started")


def lacking(environ: Mapping[str, str]) -> dict[str, str]:
    """The sellers for which this environment has no key, and what is not set."""
    paid = {name: provider for name, provider in PROVIDERS.met().items() if not provider.caps.local}
    return {name: no_key(each)[0] for name, each in paid.items() if key_of(each, environ) is None}


def queues(root: Path, environ: Mapping[str, str], slots: int) -> dict[str, tuple[int | None, int]]:
    """By queue, how many of its jobs are done at once, in all of the farm and in one worker: those that join films, and
    those of the sellers whose keys it has. Others are left to workers that can do them."""
    settings = config.load(root, environ).settings
    keyless = lacking(environ)
    out: dict[str, tuple[int | None, int]] = {JOIN: (None, max(1, (os.cpu_count() or 2) // 2))}
    for name, provider in PROVIDERS.met().items():
        if name in keyless:
            continue
        own = settings.get(name)
        most = None if provider.caps.local else (own and own.concurrency) or provider.caps.concurrency
        here = min(slots, os.cpu_count() or 2) if provider.caps.local else min(slots, most or slots)
        out[f"make-{name}"] = (most, here)
    return out


def work(
    path: str,
    url: str,
    slots: int,
    environ: Mapping[str, str],
    say: Say,
    tell: Callable[[str], None],
    emit: Callable[[Event], None],
) -> tuple[engine.Worker, Work]:
    """Starts a worker of the project that `path` lies in. `tell` is told of what concerns no job. Raises KlingflowError
    for a project or a store that cannot be used."""
    folder = Path(path).absolute()
    root = find_root(folder / "x" if folder.is_dir() else folder)
    refuse_store(root, environ)
    jobs = Work(root, environ, say, emit)
    worker = engine.Worker(url, jobs.do, queues(root, environ, slots), tell)
    worker.start()
    return worker, jobs
