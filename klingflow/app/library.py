"""klingflow as a Python library: what `import klingflow` offers, and all that the command line uses.

Values in, values out: a storyboard is opened, checked, planned and run; plans and results are frozen values, and errors
are the exceptions of klingflow.core.errors. Nothing here prints, reads the command line, or ends the process.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from klingflow.app import project_loader
from klingflow.app.project_loader import StoryboardFile
from klingflow.core.errors import SpendRefused, UsageError
from klingflow.core.model import Film
from klingflow.core.source import Problem
from klingflow.providers import PROVIDERS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine
    from decimal import Decimal
    from typing import Any

    from klingflow.app.base_plan import Against
    from klingflow.app.choosing import Choice, Chosen, Consequences
    from klingflow.app.credentials import Signing
    from klingflow.app.draft import DraftFilm
    from klingflow.app.report import Written
    from klingflow.app.review import Pictures
    from klingflow.app.runner import RunOptions, RunResult
    from klingflow.app.services import Services
    from klingflow.app.session import Session
    from klingflow.app.settle import Verdict
    from klingflow.app.take_in import TakenIn
    from klingflow.app.takes import TakeRow
    from klingflow.app.tasks import Tasks
    from klingflow.app.timeline import Exported, Imported
    from klingflow.execution.outcome import Event
    from klingflow.output.planfile import SavedPlan
    from klingflow.output.provenance import FilmRecord
    from klingflow.output.seams import FilmSeams
    from klingflow.planning.compare import Base, Comparison
    from klingflow.planning.plan import Plan, Totals
    from klingflow.planning.price import Limits

T = TypeVar("T")


class Storyboard:
    """A storyboard file, to check, plan and run. Made by `klingflow.open`; each method reads the file anew."""

    def __init__(self, file: StoryboardFile) -> None:
        self._file = file

    @property
    def path(self) -> str:
        """The path that it was opened with."""
        return self._file.path

    def relative(self) -> str:
        """Its path from the project's root, with forward slashes."""
        return project_loader.below_root(self.path)

    def check(self) -> tuple[Problem, ...]:
        """Everything that is wrong with it, warnings too, at once; empty where all is good. No network, no key. Raises
        UsageError where the path is no storyboard's."""
        loaded, problems = self._file.inspect()
        return tuple(problems if loaded is None else (*problems, *dict.fromkeys(project_loader.deaf_beds(loaded))))

    def films(self) -> tuple[Film, ...]:
        """Its films, one for each set of values of its matrix, with their shots. Raises StoryboardError with every
        fault."""
        return self._file.load().films

    def plan(
        self,
        *,
        select: str | None = None,
        exclude: str | None = None,
        against: str | None = None,
        saved: SavedPlan | None = None,
    ) -> Planned:
        """What a run would do, and why. No network but a remote store, no key; nothing is written.

        `select` and `exclude` are selections ("dawn+ tag:night"); `against` is a git ref to compare with, at the commit
        where this branch left it; `saved` is a saved plan whose shots are selected, and from which nothing may differ
        (UsageError names what does).
        Raises StoryboardError, UsageError, or StoreError.
        """
        from klingflow.app import planner

        session = self._session()
        whole = session.plan()
        comparisons: Mapping[str, Comparison] | None = None
        base: Base | None = None
        found: Against | None = None
        warnings = list(session.loaded.warnings)
        if against is not None:
            from klingflow.app import base_plan

            found = base_plan.against_ref(session, whole, against)
            comparisons, base = found.comparisons, found.base
            warnings += found.warnings
        if saved is not None and select is None and exclude is None:
            # A selection against a base (`state:…`) cannot be made again here: the plan's own shots are meant.
            select, exclude = saved.options.select, saved.options.exclude
            named = {film.variant: {step.shot for step in film.steps} for film in saved.plan.films}
            plan = planner.only(session.loaded, whole, named)
        else:
            plan = planner.chosen(session.loaded, whole, select, exclude, comparisons)
        warnings += planner.warnings(session.loaded, session.lock, plan)
        planned = Planned(
            plan=_with_warnings(plan, warnings),
            select=select,
            exclude=exclude,
            against=against,
            base=base,
            comparisons=comparisons,
            _against=found,
            _whole=whole,
            _session=session,
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
        update_lock: bool = False,
        sign: bool = False,
        on_event: Callable[[Event], None] | None = None,
    ) -> RunResult:
        """Does what a plan says (by default the plan of the whole storyboard), keeps every clip, delivers the film.

        `confirmed`: money may be spent; without it a run that may spend raises SpendRefused. `limits` narrow those of
        the project file; `frozen` refuses to make anything new (WouldMake); `detach` leaves while tasks are being made;
        `sign` signs the films with the key that KLINGFLOW_SIGN_KEY names.
        With overridden variables the lock is left as it is, unless `update_lock` says otherwise.
        Raises KlingflowError for what is found wrong before the first request. A shot that fails raises nothing: it is
        in the result. `on_event` and an interrupt are as with `run_async`.

        Blocks; raises UsageError inside a running event loop, where `run_async` is meant.
        """
        return _blocking(
            lambda: self.run_async(
                planned,
                confirmed=confirmed,
                limits=limits,
                frozen=frozen,
                detach=detach,
                update_lock=update_lock,
                sign=sign,
                on_event=on_event,
            ),
            "await run_async() instead",
        )

    async def run_async(
        self,
        planned: Planned | None = None,
        *,
        confirmed: bool = False,
        limits: Limits | None = None,
        frozen: bool = False,
        detach: bool = False,
        update_lock: bool = False,
        sign: bool = False,
        on_event: Callable[[Event], None] | None = None,
        stop: asyncio.Event | None = None,
    ) -> RunResult:
        """As `run`, inside an event loop.

        When `stop` is set, the run submits nothing more and ends within seconds; tasks go on at the provider, and the
        next run collects them. So it does when it is cancelled (Ctrl-C, a timeout), before the cancellation goes on.
        `on_event` gets each event as it happens, from one thread at a time. When it raises, it is not called again, the
        run is stopped in the same way, and the exception is raised at its end: no clip is lost by it.
        """
        planned = planned if planned is not None else self.plan()
        prepared = planned.prepare(limits=limits, frozen=frozen, detach=detach, update_lock=update_lock, sign=sign)
        if planned.pays and not confirmed:
            raise SpendRefused("this run may spend money, and nobody confirmed it", "pass confirmed=True")
        return await prepared.run(on_event=on_event, stop=stop)

    async def events(
        self,
        planned: Planned | None = None,
        *,
        confirmed: bool = False,
        limits: Limits | None = None,
        frozen: bool = False,
        detach: bool = False,
        update_lock: bool = False,
    ) -> AsyncGenerator[Event | RunResult, None]:
        """`run_async` as an asynchronous iterator: every event as it happens, and at last the result. Closing it
        (`contextlib.aclosing`; Python does so some time after `break`) stops the run as `stop` does, and waits for its
        end."""
        import asyncio

        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def put(event: Event | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, event)

        run = asyncio.create_task(
            self.run_async(
                planned,
                confirmed=confirmed,
                limits=limits,
                frozen=frozen,
                detach=detach,
                update_lock=update_lock,
                on_event=put,
                stop=stop,
            )
        )
        run.add_done_callback(lambda _: put(None))
        try:
            while (event := await queue.get()) is not None:
                yield event
            yield run.result()
        finally:
            stop.set()
            await asyncio.wait({run})
            if not run.cancelled():
                run.exception()  # whoever has left does not ask for it

    def tasks(self) -> Tasks:
        """Every order that was ever recorded for it. The storyboard itself is not read: also of a broken one it must be
        seen what was paid for. Raises UsageError for no storyboard, StoreError for a store that cannot be read."""
        from klingflow.app import tasks

        return tasks.tasks(self.path, self._file.environ)

    def take_in(
        self,
        file: str | os.PathLike[str],
        shot: str,
        *,
        take: int | None = None,
        key: str | None = None,
        cost: Decimal | None = None,
        note: str = "",
        force: bool = False,
    ) -> TakenIn:
        """Takes in a clip that was made by hand, at a seller's console: from now on it answers a take of the shot (by
        default the one that counts) as one that a run bought, and is on record as taken in. The lock is written, unless
        variables are overridden.

        `key` is the beginning of the key of one film's shot, where those of a matrix differ. `cost` in USD, None where
        it is not known; `note` says where the clip is from. `force` also takes one of another length, or HDR.
        Raises StoryboardError, StoreError, or UsageError: the file is no such clip, the take has another one, an order
        for it is under way or in doubt. The same file once more changes nothing."""
        from klingflow.app import take_in

        return take_in.take_in(
            self._file, os.fspath(file), shot, take=take, key=key, cost=cost, note=note, force=force
        )

    def takes(self) -> tuple[TakeRow, ...]:
        """Every take that the lock has of the shots that are in the storyboard now. Raises StoryboardError, UsageError
        or StoreError."""
        from klingflow.app import takes

        return takes.takes(self._session())

    def choices(self) -> tuple[Choice, ...]:
        """Every shot with the clips that a person can choose from: those of the lock, and those that a run has kept
        which goes on at this moment. Raises StoryboardError, UsageError or StoreError."""
        from klingflow.app import choosing

        return choosing.choices(self._session())

    def candidate_file(self, clip: str) -> Path:
        """The file of a candidate (`Candidate.clip`, `StillCandidate.clip`), to be read and left as it is. Raises
        UsageError where no candidate has that digest, StoreError where the store does not hold the clip."""
        from klingflow.app import choosing

        return choosing.candidate_file(self._session(), clip)

    def consider(self, name: str, take: int) -> Consequences:
        """What is to be made, and what that costs, when this take of a shot ("dawn") is chosen, or this one of the
        stills that are proposed for a frame of it ("dawn.first_frame"); nothing is written. Raises StoryboardError,
        UsageError or StoreError."""
        from klingflow.app import choosing

        return choosing.consider(self._session(), name, take)

    def choose(self, name: str, take: int, *, why: str = "", state: str | None = None) -> Chosen:
        """Chooses a take of a shot ("dawn"), or a still for a frame of it ("dawn.first_frame"): `take: N` is written
        into the storyboard, of which no other byte changes, and who chose, why and when into the lock. Buys nothing.
        `state` is that of the `Consequences` that a person saw: raises Moved where the storyboard or the lock is
        another one by now. Raises StoryboardError, StoreError, or UsageError: there is no such take, or the text cannot
        be edited."""
        from klingflow.app import choosing

        return choosing.choose(self._file, name, take, why=why, state=state)

    def film_differences(self, record: FilmRecord) -> tuple[str, ...]:
        """In what a finished film (`klingflow.verify_film(...).record`) differs from what the storyboard and its lock
        say now, a sentence each; empty where in nothing. Raises StoryboardError, UsageError or StoreError."""
        from klingflow.app import credentials

        return credentials.differences(self._session(), record)

    def report(self, *, embed: bool = False) -> tuple[Written, ...]:
        """Writes out/NAME/report.html anew, one page a film, as every run does: what it shows is what is there now.
        With `embed` pictures and clips are inside the page, which then opens anywhere by itself. Raises
        StoryboardError, UsageError, StoreError or MediaError."""
        from klingflow.app import report

        return report.write(self._session(), embed=embed)

    def contact_sheet(self, path: str | os.PathLike[str]) -> Written:
        """Writes a contact sheet of its films to `path`, a PDF (A3 pages) or a PNG (one picture). Raises
        StoryboardError, StoreError or MediaError; UsageError for another ending, or a place that cannot be written."""
        from klingflow.app import report

        return report.write_sheet(self._session(), os.fspath(path))

    def draft(self, on_event: Callable[[Event], None] | None = None) -> tuple[DraftFilm, ...]:
        """Joins what is there of each film into `film.draft.mp4` beside it: stale shots as the lock has them, a card in
        the place of one that has no clip. Makes nothing, buys nothing, writes no lock. `on_event` hears how far it is.
        Raises WouldMake where no shot has a clip, KlingflowError where a clip cannot be read. Blocks."""
        from klingflow.app import draft

        return draft.draft(self._session(), on_event or _ignore)

    def seams(self) -> tuple[FilmSeams, ...]:
        """The joins of its films, with what an eye or an ear notices at them; measured where that was not done before,
        and written to `out/NAME/seams.json` with a picture of each join. Raises StoryboardError, StoreError, UsageError
        where clips are missing or the extra klingflow[seams] is not installed, MediaError where a clip cannot be read.
        Blocks."""
        from klingflow.app import seams

        return seams.measure(self._session())

    def delivered(self) -> tuple[Path, ...]:
        """The finished films that stand in `out/`, the newest first, rehearsals too. Raises StoryboardError or
        UsageError."""
        from klingflow.app import outputs

        return outputs.standing(self._file.load())

    def export(self, files: Mapping[str, str | os.PathLike[str] | None] | None = None) -> tuple[Exported, ...]:
        """Writes its films as timelines for editing programs. `files` names the formats ("otio", "fcpxml", "edl"), each
        with the file to write, or None for `out/NAME/film.FORMAT`; by default that is {"otio": None}. Clips are named
        by relative paths, and put into `out/NAME/shots/` where they are not there; a shot that is not made is a gap.
        Raises StoryboardError, StoreError, MediaError, or UsageError: a file cannot be written, or OpenTimelineIO (the
        extra `klingflow[otio]`) is not installed."""
        from klingflow.app import timeline

        named = {kind: None if file is None else os.fspath(file) for kind, file in (files or {"otio": None}).items()}
        return timeline.export(self._session(), named)

    def import_timeline(self, edited: str | os.PathLike[str], *, write: bool = False) -> Imported:
        """What an edited timeline (.otio, .fcpxml or .edl) asks of the storyboard: its `film.shots` with `in` and
        `out`, and takes. `write` changes the file, with its comments and its layout as they were. Raises
        StoryboardError, StoreError, MediaError, or UsageError: the timeline cannot be read, or shows what is none of
        the storyboard's clips."""
        from klingflow.app import timeline

        return timeline.bring_back(self._file, os.fspath(edited), write=write)

    def resolve(self, shot: str, verdict: Verdict, *, take: int | None = None, key: str | None = None) -> str:
        """Settles an order of a shot that only a person can settle; returns a sentence for them. `key` is the beginning
        of the key of one of several. Raises UsageError where there is nothing to settle, or where the verdict
        contradicts what is known (`Verdict.force` overrules that). Blocks."""
        from klingflow.app import settle

        return _blocking(
            lambda: settle.settle(self._file, shot, verdict, take=take, key=key),
            "call it in a thread: await asyncio.to_thread(...)",
        )

    async def collect(
        self,
        address: str,
        *,
        stop: asyncio.Event,
        on_event: Callable[[Event], None] | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        """Receives callbacks at HOST:PORT and collects the tasks of detached runs until `stop` is set. Submits nothing.
        `notify` gets sentences for a person. Raises KlingflowError for a storyboard that is broken at the start."""
        from klingflow.app import collector

        await collector.serve(self._file, address, emit=on_event or _ignore, notify=notify or _ignore, stop=stop)

    def _session(self) -> Session:
        from klingflow.app.session import open_session

        return open_session(self._file.load())


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan with what it was made from: to be shown, saved, and run. Made by `Storyboard.plan`."""

    plan: Plan
    """The selected steps of every film, each with its action, reason, key and price."""
    select: str | None
    exclude: str | None
    against: str | None
    """The git ref that it was to be compared with."""
    base: Base | None
    """The commit that it was compared with: where this branch left that ref."""
    comparisons: Mapping[str, Comparison] | None
    """By variant, what differs from that commit."""
    _against: Against | None = field(repr=False)
    _whole: Plan = field(repr=False)
    """The same without a selection."""
    _session: Session = field(repr=False)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is not wrong with the storyboard, but would stop or surprise a run."""
        return tuple(problem for film in self.plan.films for problem in film.warnings)

    @property
    def totals(self) -> Totals:
        """What a run would make and spend, in all films."""
        from klingflow.planning.plan import totals

        return totals(self.plan.films)

    @property
    def pays(self) -> bool:
        """Whether a run may send a request that costs money."""
        steps = [step for film in self.plan.films for step in film.steps]
        return any(step.orders and PROVIDERS[step.provider].caps.paid for step in steps)

    def lost(self) -> str:
        """What a run would remove from the lock, and what was paid for it: "dawn (1 clip, $0.56)"; empty for
        nothing."""
        from klingflow.app import planner

        return planner.lost(self._session.lock, self.plan)

    def absent(self) -> str:
        """A sentence about clips that the lock names and this store does not hold; empty where all are there."""
        from klingflow.app import planner

        return planner.absent(self._session.store, self.plan)

    def json(self) -> str:
        """The plan as JSON text (schemas/plan.schema.json), with the digest of every file that it was made from."""
        from klingflow.app import plan_snapshot
        from klingflow.output import planfile

        saved = plan_snapshot.of(self._session.loaded, self.plan, self.select, self.exclude)
        return planfile.dump(saved, base=self.base, comparisons=self.comparisons)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `json()` to a file, which `klingflow.load_plan` reads. Raises UsageError where it cannot be
        written."""
        from klingflow.io import durable

        try:
            durable.replace(Path(path), self.json().encode())
        except OSError as bad:
            raise UsageError(
                f"{os.fspath(path)} cannot be written: {bad.strerror}", "name a file in a folder that is there"
            ) from bad

    def pictures(self, folder: str | os.PathLike[str]) -> Pictures:
        """Writes what a reviewer of the change looks at into a folder: a page in one file, one picture of all changed
        shots, and the frames of each before and now. Nothing where nothing differs. Raises UsageError for a plan that
        was compared with nothing, and for a folder that holds other files or cannot be written."""
        from klingflow.app import review

        if self._against is None:
            raise UsageError("pictures show what changed, and this plan is compared with nothing", "name a git ref")
        return review.write(self._session, self.plan, self._against, self.warnings, folder)

    def prepare(
        self,
        *,
        limits: Limits | None = None,
        frozen: bool = False,
        detach: bool = False,
        update_lock: bool = False,
        listen: str | None = None,
        callback_url: str | None = None,
        sign: bool = False,
    ) -> PreparedRun:
        """Finds everything that can refuse a run without a connection, before anything is spent, and raises it
        (KlingflowError). What is left is to confirm the spending and to call `PreparedRun.run`.

        `limits`, `frozen`, `detach`, `update_lock` and `sign` are as with `Storyboard.run`. `listen` is the HOST:PORT
        at which callbacks are received while the run waits, and `callback_url` the public https URL under which that,
        or with `detach` another machine, is reached.
        """
        from klingflow.app import runner
        from klingflow.planning.price import Limits, tightest

        signing: Signing | None = None
        if sign:
            from klingflow.app import credentials

            signing = credentials.signing(self._session.loaded)
        options = runner.RunOptions(
            limits=tightest((self._session.loaded.config.limits, limits or Limits())),
            frozen=frozen,
            detach=detach,
            update_lock=update_lock,
            listen=listen,
            callback_url=callback_url,
            signing=signing,
        )
        services = runner.refuse(self._session, self.plan, options)
        return PreparedRun(planned=self, _options=options, _services=services)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """A plan that nothing refused, ready to run. Made by `Planned.prepare`."""

    planned: Planned
    _options: RunOptions = field(repr=False)
    _services: Services = field(repr=False)

    @property
    def signer(self) -> str:
        """Who signs the films, by the certificate; empty where they are not signed."""
        return self._options.signing.signer.name if self._options.signing is not None else ""

    async def run(
        self,
        *,
        on_event: Callable[[Event], None] | None = None,
        notify: Callable[[str], None] | None = None,
        stop: asyncio.Event | None = None,
    ) -> RunResult:
        """Runs it. Money is spent where the plan says so: whoever calls this has confirmed it. `on_event`, `stop` and a
        cancellation are as with `Storyboard.run_async`; `notify` gets sentences about callbacks."""
        import asyncio

        from klingflow.app import planner, runner

        stop = stop if stop is not None else asyncio.Event()
        reporter = _Reporter(on_event, stop, asyncio.get_running_loop())
        run = asyncio.ensure_future(
            runner.run(
                self.planned._session,
                self.planned.plan,
                planner.known_clips(self.planned._whole),
                self._services,
                self._options,
                emit=reporter.emit,
                notify=notify or _ignore,
                stop=stop,
            )
        )
        try:
            result = await asyncio.shield(run)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait({run})
            if not run.cancelled():
                run.exception()  # the cancellation is what the caller gets
            raise
        if reporter.error is not None:
            raise reporter.error
        return result


class _Reporter:
    """Hands events to a callback. When it raises, the run is stopped, since nobody follows it any more; but it ends as
    a run does that is stopped, with every task id and clip on record."""

    def __init__(
        self, on_event: Callable[[Event], None] | None, stop: asyncio.Event, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._on_event = on_event
        self._stop = stop
        self._loop = loop
        self.error: Exception | None = None

    def emit(self, event: Event) -> None:
        if self._on_event is None or self.error is not None:
            return
        try:
            self._on_event(event)
        except Exception as error:
            self.error = error
            self._loop.call_soon_threadsafe(self._stop.set)  # the film is joined in another thread


def open(
    path: str | os.PathLike[str],
    *,
    variables: Mapping[str, str] | None = None,
    provider: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Storyboard:
    """A storyboard, to check, plan and run; nothing is read yet. `variables` override the storyboard's; `provider`
    every shot's provider ("animatic" is a rehearsal: free, and the lock stays as it is). Keys, addresses and the
    store's place come from `environ`."""
    file = StoryboardFile(path=os.fspath(path), variables=dict(variables or {}), provider=provider, environ=environ)
    return Storyboard(file)


def load_plan(path: str | os.PathLike[str]) -> SavedPlan:
    """A plan that `Planned.save` or `klingflow plan --out` wrote, for `Storyboard.plan(saved=...)`. Raises UsageError
    where it is none."""
    from klingflow.output import planfile

    try:
        text = Path(path).read_bytes()
    except OSError as bad:
        raise UsageError(
            f"{os.fspath(path)} cannot be read: {bad.strerror}", "save one with `klingflow plan --out FILE`"
        ) from bad
    return planfile.load(text, os.fspath(path))


def create_project(folder: str | os.PathLike[str], name: str = "film") -> tuple[Path, ...]:
    """Writes a project that runs at once, with the storyboard NAME.yaml; returns the files written. Raises UsageError,
    before anything is written, where a file is there already or the name is no file name."""
    from klingflow.output import scaffold

    return tuple(scaffold.create(Path(folder), name))


def schema(name: str) -> str:
    """A JSON Schema (2020-12) as text: of "storyboard", "project", "lock", "plan", "events" or "seams", among others.
    Raises UsageError for another name."""
    from klingflow.providers import schemas as composed
    from klingflow.storyboard import schema as schemas

    if name not in schemas.SCHEMAS:
        raise UsageError(f"there is no schema '{name}'", f"name one of {', '.join(schemas.SCHEMAS)}")
    if name not in ("storyboard", "project"):
        return schemas.text(name)
    made = composed.storyboard(PROVIDERS) if name == "storyboard" else composed.project(PROVIDERS)
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def provider_names() -> tuple[str, ...]:
    """The names that a shot's `provider` may have: the built-in ones, and those of installed packages."""
    return tuple(PROVIDERS)


def _ignore(_: object) -> None:
    pass


def _blocking(work: Callable[[], Coroutine[Any, Any, T]], instead: str) -> T:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    raise UsageError("this call blocks, and an event loop is running in this thread", instead)


def _with_warnings(plan: Plan, warnings: list[Problem]) -> Plan:
    """The plan with warnings about the whole storyboard among the first film's."""
    first, *others = plan.films
    return replace(plan, films=(replace(first, warnings=(*first.warnings, *warnings)), *others))


def _refuse_if_moved(saved: SavedPlan, now: Planned) -> None:
    """A saved plan is never obeyed, only compared with: what is true now runs, and must be what was reviewed."""
    from klingflow.app import plan_snapshot
    from klingflow.output import planfile

    moved = planfile.differences(saved, plan_snapshot.of(now._session.loaded, now.plan, now.select, now.exclude))
    if moved:
        listed = "\n".join(f"  - {what}" for what in moved[:20]) + ("\n  - …" if len(moved) > 20 else "")
        raise UsageError(
            f"the saved plan is not what would run now:\n{listed}", "plan again, have it reviewed, and run the new plan"
        )
