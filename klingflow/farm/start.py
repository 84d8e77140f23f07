"""Starting storyboards on a farm, and looking at what it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

from klingflow.app import farm_jobs
from klingflow.app.library import Planned, Storyboard
from klingflow.core.errors import SpendRefused, UsageError
from klingflow.core.redact import register
from klingflow.farm import engine, work
from klingflow.io import durable
from klingflow.io.project import find_root
from klingflow.output import page
from klingflow.planning.price import Limits, exceeded

DATABASE = "KLINGFLOW_FARM_DATABASE"
LOOK_S = 1.0
LOOKED_AT = 500
"""Jobs of those that are started first, and of the others, that are looked at each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A storyboard's jobs on the farm."""

    storyboard: Storyboard
    planned: Planned
    names: tuple[str, ...]
    """What the engine calls them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmRow:
    """One job of a farm, for people."""

    id: str
    """As the workers' logs have it."""
    storyboard: str
    what: str
    """The shots that are made, or that films are joined."""
    state: str
    """waiting, at work, done, failed, given up."""
    worker: str
    since_ms: int
    """Since when it is in this state."""
    why: str
    """Why it did not do what it should; empty where it did."""


_STATES = {"ENQUEUED": "waiting", "DELAYED": "waiting", "PENDING": "at work", "CANCELLED": "given up"}


def database(path: str, environ: Mapping[str, str]) -> str:
    """The farm's database: KLINGFLOW_FARM_DATABASE (postgresql://user:password@host/name), else one file in the project
    that `path` lies in, for one machine. Raises UsageError for what is no such address."""
    url = environ.get(DATABASE, "").strip()
    if not url:
        folder = Path(path).absolute()
        root = find_root(folder / "x" if folder.is_dir() else folder)
        file = root / ".klingflow" / "farm.sqlite"
        file.parent.mkdir(exist_ok=True)
        return f"sqlite:///{file}"
    for secret in _secrets(url):
        register(secret)
    if not url.startswith(("postgresql://", "sqlite:///")):
        mend = "it begins with postgresql:// and goes on as user:password@host:5432/name (docs/farm.md)"
        raise UsageError(f"{DATABASE} is no address of a Postgres database", mend)
    return url


def _secrets(url: str) -> list[str]:
    """The password as the address has it, and as the server knows it. All of what is no address: it may hold one."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return [url]
    if password is None:
        return [] if url.startswith(("postgresql://", "sqlite:///")) else [url]
    return [password, unquote(password)]


def refuse_above(limits: Limits, spend: Decimal | None, tasks: int, seconds: int = 0, where: str = "") -> None:
    """Raises SpendRefused where so much would exceed the limits."""
    why = exceeded(limits, spend, seconds, tasks)
    if why:
        raise SpendRefused(f"{where}{why}", "raise the limit, or start fewer storyboards")


def write_page(to: Path, rows: Sequence[FarmRow], at: str, since: Callable[[float], str]) -> None:
    """Writes the jobs as a page. `since` shows a time in seconds since 1970."""
    html = page.render("farm", title="klingflow farm", rows=rows, at=at, since=since)
    durable.replace(to.absolute(), html.encode())


def start(farm: engine.Farm, storyboard: Storyboard, planned: Planned) -> Started:
    """Hands all that a plan would make to the farm, or joins those who did."""
    jobs = farm_jobs.makes(planned)
    names = [farm.start(job.id, job.text(), work.queue_of(job)) for job in jobs]
    return Started(storyboard=storyboard, planned=planned, names=tuple(names))


def join(farm: engine.Farm, started: Started) -> Started:
    """Has the films of a storyboard joined, whose shots are all made."""
    job = farm_jobs.join(started.planned)
    name = farm.start(job.id, job.text(), work.queue_of(job))
    return Started(storyboard=started.storyboard, planned=started.planned, names=(name,))


def ends(
    farm: engine.Farm, names: dict[str, None], show: Callable[[int, int], None]
) -> Iterator[tuple[str, farm_jobs.JobResult]]:
    """Yields each of these jobs as it ends, and takes it out of `names`, which has them in the order in which they were
    started; more may be put in meanwhile, as jobs follow others. `show` is told how many are left, and how many of them
    are at work, as far as that was seen.

    Not all of them are looked at each time: those that were started first, which are the next to end, and in turn some
    of the others. Else thousands of jobs would be read thousands of times."""
    at_work: set[str] = set()
    others: Iterator[str] = iter(())
    while names:
        turn = list(islice(others, LOOKED_AT))
        if not turn:
            others = iter(list(names))
            turn = list(islice(others, LOOKED_AT))
        looked_at = {**dict.fromkeys(islice(names, LOOKED_AT)), **{name: None for name in turn if name in names}}
        states = farm.watch(list(looked_at))
        ended = {state.id: _result(state) for state in states if state.state in engine.FINISHED}
        for name in ended:
            del names[name]
        at_work.difference_update(looked_at)
        at_work.update(state.id for state in states if state.state == "PENDING")
        show(len(names), len(at_work))
        yield from ended.items()
        if names and not ended:
            time.sleep(LOOK_S)


def _result(state: engine.JobState) -> farm_jobs.JobResult:
    if state.state == "SUCCESS":
        return farm_jobs.result(state.result)
    return farm_jobs.JobResult(code=1, what=state.result or state.state.lower())


def rows(farm: engine.Farm) -> list[FarmRow]:
    """The newest jobs of a farm."""
    out = []
    for state in farm.look():
        try:
            job = farm_jobs.read(state.text)
        except (ValueError, KeyError, TypeError):
            continue
        done = farm_jobs.result(state.result) if state.state == "SUCCESS" else None
        said = "done" if done is not None and done.code == 0 else "failed"
        out.append(
            FarmRow(
                id=job.id,
                storyboard=job.storyboard,
                what="join the film" if job.kind == "join" else ", ".join(job.shots),
                state=_STATES.get(state.state, said),
                worker=state.worker,
                since_ms=state.since_ms,
                why=done.what if done is not None else (state.result if said == "failed" else ""),
            )
        )
    return out
