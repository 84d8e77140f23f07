"""The engine of a farm: DBOS Transact, on Postgres or on one file of SQLite. It knows nothing of film: a job is text,
what does it is given.

Its state is disposable: where the database is dropped or emptied in the middle, workers make its tables again, whoever
waits for jobs starts them again, and everything that was paid for is found in ledger and store. Workflows and queues
are in tables of its own; `klingflow_workers` beside them says who is alive, because the free library never takes a job
from a worker that died (DBOS 3.4, tried 2026-11). Whoever sees that a worker's count does not change for DEAD_S puts
its jobs back and removes its row; a worker that was only paused then finds that others do its jobs too, which the
ledger makes harmless. No clock is compared with another machine's.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, WorkflowStatus

APP = "klingflow-farm"
VERSION = "klingflow-farm-1"
"""Raised when a workflow takes its steps in another order: jobs of another version wait for workers of theirs."""
WORKFLOW = "job"
BEAT_S = 5.0
DEAD_S = 30.0
IDLE_S = 60.0
"""A worker that is paused in the middle of a transaction keeps what it has locked for so long, as in DBOS."""
ATTEMPTS = 40
"""Tries of a job whose store or database does not answer: at most PAUSE_S apart, so for half an hour."""
PAUSE_S = 60.0
FINISHED = frozenset({"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})

DATABASE_ERRORS = (sa.exc.SQLAlchemyError, OSError)
"""What is raised where the database does not answer."""

_workers = sa.Table(
    "klingflow_workers",
    sa.MetaData(),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("beat", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A job as the engine has it."""

    id: str
    text: str
    state: str
    """ENQUEUED, PENDING, SUCCESS, ERROR, CANCELLED, …"""
    worker: str
    """Who does it or did it; empty while nobody does."""
    queue: str
    since_ms: int
    """Since when it is in this state, milliseconds since 1970 by the database's writers."""
    result: str
    """What it ended with; empty before."""


def worker_id() -> str:
    """A name that no other worker has or had."""
    return f"{socket.gethostname()}/{os.getpid()}/{os.urandom(3).hex()}"


def _config(url: str, worker: str) -> DBOSConfig:
    return DBOSConfig(
        name=APP,
        system_database_url=url,
        executor_id=worker,
        application_version=VERSION,
        serializer=DBOSPortableJSONSerializer(),
        log_level="CRITICAL",  # a database that does not answer is told in one line, by us
        console_log_level="CRITICAL",
    )


class _Outage:
    """Says once when the database stops answering, and once when it answers again."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._lasts = False

    def seen(self, bad: BaseException) -> None:
        if not self._lasts:
            self._tell(f"the farm's database does not answer, and is waited for: {reason(bad)}")
        self._lasts = True

    def over(self) -> None:
        if self._lasts:
            self._tell("the farm's database answers again")
        self._lasts = False


class Worker:
    """A process that does jobs. One a process."""

    def __init__(
        self,
        url: str,
        do: Callable[[str], str],
        queues: Mapping[str, tuple[int | None, int]],
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`do` does one job, blocking, in a thread of its own, and returns its result; what it raises is tried again.
        `queues`: by name, how many of its jobs are done at once, in all of the farm (None: as many as there are places)
        and here; jobs of other queues are left to others. `tell` is told when the database stops and begins to
        answer."""
        self.id = worker_id()
        self._url = url
        self._queues = queues
        self._outage = _Outage(tell)
        self._stop = threading.Event()
        self._seen: dict[str, tuple[int, float]] = {}

        @DBOS.step()
        def step(text: str) -> str:
            return do(text)

        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=1_000_000)
        def job(text: str) -> str:
            for attempt in range(ATTEMPTS):
                try:
                    return step(text)
                except Exception:
                    if attempt == ATTEMPTS - 1:
                        raise
                    DBOS.sleep(min(PAUSE_S, 1.5**attempt))
            raise AssertionError

    def start(self) -> None:
        """Begins to take jobs. Raises sqlalchemy's errors where the database cannot be reached."""
        self._engine = _engine(self._url)
        _workers.create(self._engine, checkfirst=True)
        self._enlist(0)  # before the first job, which nobody would take over from a worker that is not listed
        DBOS(config=_config(self._url, self.id))
        DBOS.listen_queues(list(self._queues))
        DBOS.launch()
        self._register()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def _register(self) -> None:
        for name, (everywhere, here) in self._queues.items():
            DBOS.register_queue(
                name,
                global_concurrency=everywhere,
                worker_concurrency=here,
                polling_interval_sec=1.0,
                on_conflict="always_update",
            )

    def leave(self) -> None:
        """Puts the jobs that it has back for others. It stays listed: what the engine gives it until the process ends
        is taken over as from a worker that died, and so is everything where the database does not answer."""
        self._stop.set()
        with suppress(*DATABASE_ERRORS):
            _put_back(self.id)

    def _beat(self) -> None:
        count = 0
        while not self._stop.wait(BEAT_S if count else 0):
            count += 1
            try:
                if not self._say(count):
                    self._prepare(count)
                self._bury()
            except DATABASE_ERRORS as bad:
                self._outage.seen(bad)
                self._seen.clear()  # nobody could count meanwhile
                with suppress(*DATABASE_ERRORS):  # perhaps it answers, and its tables are gone
                    self._prepare(count)
            else:
                self._outage.over()

    def _say(self, count: int) -> bool:
        """Whether this worker is still listed."""
        with self._engine.begin() as database:
            mine = _workers.update().where(_workers.c.id == self.id).values(beat=count)
            return bool(database.execute(mine).rowcount)

    def _enlist(self, count: int) -> None:
        with self._engine.begin() as database:
            database.execute(_workers.insert().values(id=self.id, beat=count))

    def _prepare(self, count: int) -> None:
        """Makes what a database lacks that was dropped or emptied; where others took this worker for dead, nothing but
        its row. That is last: until then the next beat tries it again."""
        DBOS.migrate(self._url)
        self._register()
        _workers.create(self._engine, checkfirst=True)
        self._enlist(count)

    def _bury(self) -> None:
        """Takes over from workers whose count has stood still for DEAD_S."""
        with self._engine.begin() as database:
            rows = [(str(row.id), int(row.beat)) for row in database.execute(_workers.select())]
        now = time.monotonic()
        self._seen = {
            worker: known if (known := self._seen.get(worker)) and known[0] == beat else (beat, now)
            for worker, beat in rows
        }
        for worker, (beat, since) in self._seen.items():
            if worker != self.id and now - since >= DEAD_S:
                _put_back(worker)  # first: whoever dies in between leaves the dead worker listed, for the next one
                with self._engine.begin() as database:
                    database.execute(_workers.delete().where(_workers.c.id == worker, _workers.c.beat == beat))


def _put_back(worker: str) -> None:
    for found in DBOS.list_workflows(status="PENDING", executor_id=worker, load_input=False, load_output=False):
        DBOS.resume_workflows([found.workflow_id], queue_name=found.queue_name)


class Farm:
    """A farm as somebody sees it who starts jobs and looks at them."""

    def __init__(self, url: str, tell: Callable[[str], None] = lambda text: None) -> None:
        """`tell` is told when the database stops or begins to answer. Raises sqlalchemy's errors where it cannot be
        reached now."""
        self._url = url
        self._outage = _Outage(tell)
        self._started: dict[str, tuple[str, str]] = {}
        DBOS(config=_config(url, worker_id()))
        DBOS.listen_queues([])
        DBOS.launch()  # makes the tables where they are not there yet
        DBOS.destroy()
        serializer = DBOSPortableJSONSerializer()
        self._client = DBOSClient(system_database_url=url, serializer=serializer, application_name=APP)

    def start(self, job: str, text: str, queue: str) -> str:
        """Starts a job, or joins the one of that id that is under way; returns what it is called. One that ended before
        is done again."""
        for number in range(1, 10_000):
            name = f"{job}.{number}"
            there = self._client.list_workflows(workflow_ids=[name], load_input=False, load_output=False)
            if not there or there[0].status not in FINISHED:
                self._enqueue(name, text, queue)
                self._started[name] = text, queue
                return name
        raise AssertionError

    def _enqueue(self, name: str, text: str, queue: str) -> None:
        self._client.enqueue(
            {"queue_name": queue, "workflow_name": WORKFLOW, "workflow_id": name, "app_version": VERSION}, text
        )

    def watch(self, names: Sequence[str]) -> list[JobState]:
        """The jobs of these names, which this has started: none while the database does not answer, and started again
        where it was dropped or emptied."""
        try:
            found = self.look(names)
            if len(found) < len(names):
                self._start_again(set(names) - {each.id for each in found})
        except DATABASE_ERRORS as bad:
            self._outage.seen(bad)
            with suppress(*DATABASE_ERRORS):
                self._start_again(set(names))
            return []
        self._outage.over()
        return found

    def _start_again(self, names: set[str]) -> None:
        DBOS.migrate(self._url)
        names -= {each.id for each in self.look(sorted(names))}
        for name in sorted(names):
            self._enqueue(name, *self._started[name])

    def look(self, names: Sequence[str] | None = None, most: int = 1000) -> list[JobState]:
        """The jobs of these names, without their text, or the newest of all."""
        found = self._client.list_workflows(
            workflow_ids=None if names is None else list(names),
            sort_desc=True,
            limit=most if names is None else None,
            load_input=names is None,
        )
        return [
            JobState(
                id=each.workflow_id,
                text=str(each.input["args"][0]) if each.input and each.input["args"] else "",
                state=str(each.status),
                worker=each.executor_id or "" if str(each.status) != "ENQUEUED" else "",
                queue=each.queue_name or "",
                since_ms=_since(each),
                result=str(each.output or each.error or ""),
            )
            for each in found
        ]

    def cancel(self, names: Sequence[str]) -> None:
        self._client.cancel_workflows(list(names))

    def close(self) -> None:
        self._client.destroy()


def _since(each: WorkflowStatus) -> int:
    ended = each.updated_at if str(each.status) in FINISHED else None
    begun = each.dequeued_at if str(each.status) == "PENDING" else None
    return int(ended or begun or each.created_at or 0)


def reason(bad: BaseException) -> str:
    """What a database error says, in one line."""
    return str(getattr(bad, "orig", None) or bad).strip().partition("\n")[0]


def _engine(url: str) -> sa.Engine:
    """A connection of our own; as DBOS itself makes its own."""
    parts = sa.make_url(url)
    if parts.drivername.startswith("sqlite"):
        return sa.create_engine(parts, connect_args={"timeout": 30})
    made = sa.create_engine(parts.set(drivername="postgresql+psycopg"), pool_size=1, pool_pre_ping=True)

    @sa.event.listens_for(made, "connect")
    def limit(connection: Any, record: object) -> None:
        connection.execute(f"set idle_in_transaction_session_timeout = {round(IDLE_S * 1000)}")
        connection.commit()

    return made
