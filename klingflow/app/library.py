"""klingflow as a Python library: what `import klingflow` offers, and all that the command line uses.

Values in, values out: a storyboard is opened, checked, planned and run; plans and results are frozen values, and errors
are the exceptions of klingflow.core.errors. Nothing here prints, reads the command line, or ends the process.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from klingflow.app import project_loader
from klingflow.app.project_loader import LoadedStoryboard
from klingflow.core.errors import SpendRefused, UsageError
from klingflow.core.source import Problem

if TYPE_CHECKING:
    import asyncio

    from klingflow.app.runner import RunOptions, RunResult
    from klingflow.app.services import Services
    from klingflow.app.session import Session
    from klingflow.app.settle import Verdict
    from klingflow.app.tasks import TaskRow
    from klingflow.execution.outcome import Emit, Event
    from klingflow.output.planfile import Saved
    from klingflow.planning.compare import Comparison
    from klingflow.planning.job import Job
    from klingflow.planning.plan import Plan, Totals
    from klingflow.planning.price import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan with what it was made from: to be shown, saved, compared, and run."""

    plan: Plan
    """The selected steps of every film, each with its action, reason, key and price."""
    whole: Plan
    """The same without a selection."""
    session: Session
    select: str | None = None
    exclude: str | None = None
    comparisons: Mapping[str, Comparison] | None = None
    """By variant, what differs from the git ref that it was compared with."""
    warnings: tuple[Problem, ...] = ()
    """What is not wrong with the storyboard, but would stop or surprise a run."""

    @property
    def totals(self) -> Totals:
        """What a run would make and book, in all."""
        from klingflow.planning.plan import totals

        return totals(self.plan.films)

    @property
    def pays(self) -> bool:
        """Whether a run may send a request that costs money."""
        from klingflow.planning.price import FREE

        return any(step.orders and step.provider not in FREE for film in self.plan.films for step in film.steps)

    def absent(self) -> str:
        """A sentence about clips that the lock names and this store does not hold; empty where all are there."""
        from klingflow.app import planner

        return planner.absent(self.session.store, self.plan)

    def options(
        self,
        *,
        limits: Limits | None = None,
        frozen: bool = False,
        detach: bool = False,
        listen: str | None = None,
        callback_url: str | None = None,
    ) -> RunOptions:
        """How to run it. `limits` narrow those of the project file, and never widen them."""
        from klingflow.app import planner
        from klingflow.app.runner import RunOptions

        return RunOptions(
            limits=planner.narrowed(self.session.loaded.config.limits, limits),
            frozen=frozen,
            detach=detach,
            listen=listen,
            callback_url=callback_url,
        )

    def refuse(self, options: RunOptions) -> Ready:
        """Everything that can refuse a run without a connection, before anything is spent. Returns what was found good.
        Raises KlingflowError."""
        from klingflow.app import runner

        return Ready(planned=self, options=options, services=runner.refuse(self.session, self.plan, options))

    def saved(self) -> Saved:
        """The plan as `plan --out` saves it: with the digest of every file that it was made from."""
        from klingflow.app import plan_snapshot

        return plan_snapshot.of(self.session.loaded, self.plan, self.select, self.exclude)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A plan that nothing refused, with the keys and places that its run needs."""

    planned: Planned
    options: RunOptions
    services: Services

    async def run(
        self,
        *,
        on_event: Emit | None = None,
        notify: Callable[[str], None] | None = None,
        stop: asyncio.Event | None = None,
    ) -> RunResult:
        """Runs it. Money is spent where the plan says so: whoever calls this has confirmed it. `notify` gets sentences
        about callbacks."""
        import asyncio

        from klingflow.app import planner, runner

        return await runner.run(
            self.planned.session,
            self.planned.plan,
            planner.known_clips(self.planned.whole),
            self.services,
            self.options,
            emit=on_event or (lambda event: None),
            notify=notify or (lambda text: None),
            stop=stop if stop is not None else asyncio.Event(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """Every order that the ledger has for a storyboard."""

    rows: tuple[TaskRow, ...]
    jobs: tuple[Job, ...]
    store: str
    """Where the ledger is."""


class Storyboard:
    """One storyboard file. Made by `klingflow.open`; reading it is left to the methods, so that a broken one can be
    checked."""

    def __init__(
        self, path: str | os.PathLike[str], variables: Mapping[str, str], provider: str | None, environ: Mapping[str,
        str]
    ) -> None:
        self.path = os.fspath(path)
        self.variables = dict(variables)
        self.provider = provider
        self.environ = environ

    def check(self) -> tuple[Problem, ...]:
        """Everything that is wrong with it, at once: no network, no key. Raises UsageError where it is no
        storyboard."""
        return tuple(project_loader.inspect(self.path, self.variables, self.provider, self.environ)[1])

    def load(self) -> LoadedStoryboard:
        """Its films, shots and files. Raises StoryboardError with every fault."""
        return project_loader.load_storyboard(self.path, self.variables, self.provider, self.environ)

    def session(self) -> Session:
        """The storyboard with its lock, its store and its ledger. Raises StoryboardError, UsageError or StoreError."""
        from klingflow.app.session import open_session

        return open_session(self.load())

    def tasks(self) -> Tasks:
        """Every order that was ever recorded for it; what is still open comes first. The storyboard itself is not
        read."""
        from klingflow.app import tasks

        store, jobs = tasks.jobs_at(self.path)
        return Tasks(rows=tuple(tasks.rows(self.path, jobs)), jobs=tuple(jobs), store=store.where)

    def resolve(self, shot: str, verdict: Verdict, *, take: int | None = None, key: str | None = None) -> str:
        """Settles an order of a shot that only a person can settle; returns a sentence for them. `key` is the beginning
        of the key of one of several. Raises UsageError where there is nothing to settle, or where the verdict
        contradicts what is known (`Verdict.force` overrules that)."""
        import asyncio

        from klingflow.app import settle

        return asyncio.run(settle.settle(self, shot, verdict, take=take, key=key))

    async def collect(self, address: str, *, emit: Emit, notify: Callable[[str], None], stop: asyncio.Event) -> None:
        """Receives callbacks at HOST:PORT and collects the tasks of detached runs until `stop` is set. Submits
        nothing."""
        from klingflow.app import collector

        await collector.serve(self, address, emit=emit, notify=notify, stop=stop)

    def relative(self) -> str:
        """Its path from the project's root, with forward slashes."""
        return project_loader.below_root(self.path)

    def plan(
        self,
        *,
        select: str | None = None,
        exclude: str | None = None,
        against: str | None = None,
        saved: Saved | None = None,
    ) -> Planned:
        """What a run would do, and why. No network, no key; nothing is written.

        `select` and `exclude` are selections ("dawn+ tag:night"); `against` is a git ref to compare with; `saved` is a
        saved plan whose shots are selected, and from which nothing may differ (UsageError names what does).
        Raises StoryboardError, or UsageError.
        """
        from klingflow.app import planner

        session = self.session()
        whole = session.plan()
        comparisons: Mapping[str, Comparison] | None = None
        warnings: list[Problem] = []
        if against is not None:
            from klingflow.app import base_plan

            comparisons, found = base_plan.against_ref(session, whole, against)
            warnings += found
        if saved is not None and select is None and exclude is None:
            # A selection against a base (`state:…`) cannot be made again here: the plan's own shots are meant.
            select, exclude = saved.options.select, saved.options.exclude
            plan = planner.only(whole, {f.variant: {step.shot for step in f.steps} for f in saved.plan.films})
        else:
            plan = planner.chosen(session.loaded, whole, select, exclude, comparisons)
        warnings += planner.warnings(session.loaded, plan)
        planned = Planned(
            plan=plan,
            whole=whole,
            session=session,
            select=select,
            exclude=exclude,
            comparisons=comparisons,
            warnings=tuple(warnings),
        )
        if saved is not None:
            _refuse_if_moved(saved, planned)
        return planned

    def run(
        self,
        planned: Planned | None = None,
        *,
        confirmed: bool = False,
        limits: Limits | None = None,
        frozen: bool = False,
        detach: bool = False,
        on_event: Emit | None = None,
    ) -> RunResult:
        """Makes what a plan says (by default the plan of the whole storyboard), keeps every clip, delivers the film.

        `confirmed`: money may be spent; without it a run that would spend raises SpendRefused. `limits` narrow those of
        the project file, and `frozen` refuses to make anything (WouldMake). `on_event` gets each event as it happens. A
        shot that fails is in the result and raises nothing. Blocks; `run_async` is the same inside an event loop.
        """
        import asyncio

        return asyncio.run(
            self.run_async(
                planned,
                confirmed=confirmed,
                limits=limits,
                frozen=frozen,
                detach=detach,
                on_event=on_event,
            )
        )

    async def run_async(
        self,
        planned: Planned | None = None,
        *,
        confirmed: bool = False,
        limits: Limits | None = None,
        frozen: bool = False,
        detach: bool = False,
        on_event: Emit | None = None,
        stop: asyncio.Event | None = None,
    ) -> RunResult:
        """As `run`. When `stop` is set it submits nothing more and ends within seconds; tasks go on at the provider,
        and the next run collects them."""
        planned = planned if planned is not None else self.plan()
        ready = planned.refuse(planned.options(limits=limits, frozen=frozen, detach=detach))
        if planned.pays and not confirmed:
            raise SpendRefused("this run would spend money, and nobody confirmed it", "pass confirmed=True")
        return await ready.run(on_event=on_event, stop=stop)

    async def events(
        self, planned: Planned | None = None, *, confirmed: bool = False, limits: Limits | None = None
    ) -> AsyncIterator[Event | RunResult]:
        """A run as an asynchronous iterator: every event as it happens, and at last the result. Leaving the loop stops
        the run as `stop` does."""
        import asyncio

        queue: asyncio.Queue[Event] = asyncio.Queue()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def put(event: Event) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, event)

        run = asyncio.create_task(
            self.run_async(planned, confirmed=confirmed, limits=limits, on_event=put, stop=stop)
        )
        try:
            while not run.done() or not queue.empty():
                getting = asyncio.create_task(queue.get())
                await asyncio.wait({getting, run}, return_when=asyncio.FIRST_COMPLETED)
                if getting.done():
                    yield getting.result()
                else:
                    getting.cancel()
            yield run.result()
        finally:
            stop.set()
            await asyncio.wait({run})


def open(
    path: str | os.PathLike[str],
    *,
    variables: Mapping[str, str] | None = None,
    provider: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Storyboard:
    """A storyboard, to check, plan and run. `variables` override the storyboard's; `provider` every shot's provider
    ("animatic" is a rehearsal: free, and the lock stays as it is). Keys and places come from `environ`."""
    return Storyboard(path, variables or {}, provider, environ)


def load_plan(path: str | os.PathLike[str]) -> Saved:
    """A saved plan (`plan --out`). Raises UsageError where it is none."""
    from klingflow.output import planfile

    try:
        text = Path(path).read_bytes()
    except OSError as bad:
        raise UsageError(
            f"{os.fspath(path)} cannot be read: {bad.strerror}", "save one with `klingflow plan --out FILE`"
        ) from bad
    return planfile.load(text, os.fspath(path))


def _refuse_if_moved(saved: Saved, now: Planned) -> None:
    """A saved plan is never obeyed, only compared with: what is true now runs, and must be what was reviewed."""
    from klingflow.output import planfile

    moved = planfile.differences(saved, now.saved())
    if moved:
        listed = "\n".join(f"  - {what}" for what in moved[:20]) + ("\n  - …" if len(moved) > 20 else "")
        raise UsageError(
            f"the saved plan is not what would run now:\n{listed}", "plan again, have it reviewed, and run the new plan"
        )
