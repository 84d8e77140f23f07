"""Writes the report of a storyboard: out/NAME/report.html, one page a film.

What the page shows is collected here (output.report says what that is) from the storyboard, the lock, the ledger, the
files in `out/` and the git commit that this branch left.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import klingflow
from klingflow.app import outputs, tasks
from klingflow.app.session import Session, open_session
from klingflow.core import digest as digests
from klingflow.core.errors import KlingflowError, UsageError
from klingflow.core.model import ClipFacts, Digest, Film, Key, Shot, ShotId
from klingflow.execution.outcome import Outcome, Result
from klingflow.io import durable, ledger
from klingflow.io.project import git_head, git_root
from klingflow.io.store import FolderStore
from klingflow.output import seams
from klingflow.output.cutting import Shown
from klingflow.output.seams import Verdict
from klingflow.planning.job import Job, Kind
from klingflow.planning.plan import Action, FilmPlan, Plan
from klingflow.planning.price import spent

if TYPE_CHECKING:
    from klingflow.output.report import Known, Order
    from klingflow.planning.compare import Comparison

REPORT = 2
"""Raised when the page of the same film would come out otherwise."""

_STRIP = re.compile(r"seams/[a-z0-9][a-z0-9_.-]*\.jpg")
_STAMP = re.compile(rb'<meta name="klingflow-made-from" content="([0-9a-f]{64})">')
_QUIET = frozenset({Result.REUSED, Result.HELD, Result.ADOPTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmRan:
    """One film of a run that has ended."""

    film: Film
    plan: FilmPlan
    outcomes: tuple[Outcome, ...]
    interrupted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file that was written for one film."""

    film: str
    """Its label."""
    path: Path
    bytes: int


def after_run(session: Session, films: Sequence[FilmRan]) -> list[Path]:
    """Writes the page of each film of a run; returns where they are. A page of the very same state is left as it is,
    and nothing is loaded to find that out. `session` is that with which the run began. Raises KlingflowError or
    OSError."""
    pages, changed = [], []
    for ran in films:
        path = outputs.folder_of(session.loaded, ran.film) / "report.html"
        stamp = _stamp(session, ran, path.parent)
        quiet = all(outcome.result in _QUIET for outcome in ran.outcomes) and not ran.interrupted
        if not (quiet and _stamp_of(path) == stamp):
            changed.append((ran, path, stamp))
        pages.append(path)
    if changed:
        collected = _Collected(open_session(session.loaded))  # the lock as the run has left it
        for ran, path, stamp in changed:
            _write_page(path, collected.film(ran.film, ran), stamp)
    return pages


def write(session: Session, *, embed: bool = False) -> tuple[Written, ...]:
    """Writes the page of each film anew, with the files of its clips beside it or, with `embed`, inside it. Raises
    KlingflowError."""
    collected = _Collected(session)
    out = []
    for film in session.loaded.films:
        folder = outputs.folder_of(session.loaded, film)
        outputs.deliver_clips(session.loaded, film, collected.clips(film), session.store)
        path = folder / "report.html"
        try:
            _write_page(path, collected.film(film, None), "", _inside(folder) if embed else None)
        except OSError as bad:
            raise UsageError(f"{path} cannot be written: {bad.strerror}", "make room, or the folder writable") from bad
        out.append(Written(film=film.label, path=path, bytes=path.stat().st_size))
    return tuple(out)


def write_sheet(session: Session, path: str) -> Written:
    """Writes the contact sheet of all films of a storyboard, as the ending of `path` says: .pdf or .png. Raises
    UsageError for another ending, and for a PNG that would be too high."""
    kind = Path(path).suffix.lower()
    if kind not in (".pdf", ".png"):
        raise UsageError(f"a contact sheet is a PDF or a PNG, not {path}", "name a file: sheet.pdf, sheet.png")
    from klingflow.output import report, sheet

    collected = _Collected(session)
    films = []
    for film in session.loaded.films:
        outputs.deliver_clips(session.loaded, film, collected.clips(film), session.store)
        seen = report.view(collected.film(film, None))
        films.append((seen, partial(sheet.opened, outputs.folder_of(session.loaded, film))))
    data = sheet.pdf(films) if kind == ".pdf" else sheet.png(films)
    if data is None:
        raise UsageError("that many shots make a PNG too high for what shows pictures", "name a PDF: sheet.pdf")
    try:
        durable.replace(Path(path), data)
    except OSError as bad:
        raise UsageError(f"{path} cannot be written: {bad.strerror}", "name a file in a folder that is there") from bad
    return Written(film=session.loaded.name, path=Path(path), bytes=len(data))


def _write_page(path: Path, known: Known, stamp: str, link: Callable[[str], str] | None = None) -> None:
    from klingflow.output import report

    seen = report.view(known)
    text = report.html(seen, stamp) if link is None else report.html(seen, stamp, link)
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.replace(path, text.encode())


def _inside(folder: Path) -> Callable[[str], str]:
    """A file of the folder as a `data:` URI; other pages as they are."""

    def link(name: str) -> str:
        kind = {".jpg": "image/jpeg", ".png": "image/png", ".mp4": "video/mp4"}.get(Path(name).suffix)
        if kind is None:  # where the page goes, these do not come along
            return ""
        return f"data:{kind};base64,{base64.b64encode((folder / name).read_bytes()).decode()}"

    return link


# ---------------------------------------------------------------- whether it changed


def _stamp_of(page: Path) -> str:
    """What a page that lies there was made from; empty where there is none."""
    try:
        found = _STAMP.search(durable.read(page, 4096))
    except OSError:
        return ""
    return found[1].decode() if found else ""


def _stamp(session: Session, ran: FilmRan, folder: Path) -> str:
    """The digest of what decides the page of a run that ordered nothing: such a run changed no record of an order, so
    that neither ledger nor git need be asked. What lies beside it counts by what it was made from."""
    film, loaded = ran.film, session.loaded
    steps = [
        (step.shot, step.take, step.action, step.reason, step.key, step.clip, step.depth) for step in ran.plan.steps
    ]
    parts = (
        (REPORT, klingflow.__version__, film.title, film.label, film.shots, film.cut, film.audio),
        [(other.variant, other.label) for other in loaded.films],
        (loaded.rehearsal, loaded.relative, steps),
        [(one.shot, one.take, one.result) for one in ran.outcomes],
        [session.lookups.price(shot) for shot in film.shots],
        sorted(session.lock.films.get(film.variant, {}).items()),
        git_head(loaded.project.root),
        sorted(outputs.there(folder).items()),
        _verdict(folder),
    )
    return digests.of_bytes(repr(parts).encode(errors="surrogatepass"))


# ---------------------------------------------------------------- what is known


class _Collected:
    """What is known of all films of a storyboard, looked up once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._plan = session.plan()
        self._base, self._comparisons = _against(session, self._plan)

    def film(self, film: Film, ran: FilmRan | None) -> Known:
        from klingflow.output import report

        loaded, lock = self._session.loaded, self._session.lock
        plan = self._film_plan(film)
        orders, booked, unpriced = self._orders(film)
        folder = outputs.folder_of(loaded, film)
        files = outputs.there(folder)
        facts = {shot: one for (shot, take), one in self.clips(film).items() if film.shot(shot).take == take}
        shown, rate = self._shown(film, {shot.id: _ordered(shot) for shot in film.shots} | facts)
        return report.Known(
            film=film,
            storyboard=loaded.relative,
            rehearsal=loaded.rehearsal,
            plan=plan,
            takes={} if loaded.rehearsal else lock.films.get(film.variant, {}),
            files={name: Digest(outputs.made_of(source)) for name, source in files.items()},
            price=self._session.lookups.price,
            ran=None
            if ran is None
            else report.Ran(plan=ran.plan, outcomes=ran.outcomes, interrupted=ran.interrupted),
            comparison=self._comparisons.get(film.variant),
            base=self._base,
            orders=orders,
            booked=booked,
            unpriced=unpriced,
            shown=shown,
            rate=rate,
            verdict=_verdict(folder),
            others=tuple(self._others(film)),
        )

    def clips(self, film: Film) -> dict[tuple[ShotId, int], ClipFacts]:
        """The clips of a film's takes that this store holds: where a shot was changed, the one from before."""
        lock, store = self._session.lock, self._session.store
        out = {}
        for step in self._film_plan(film).steps:
            entry = None if self._session.loaded.rehearsal else lock.entry(film.variant, step.shot, step.take)
            facts = step.record.facts if step.record is not None else entry.facts() if entry is not None else None
            if facts is not None and store.holds(facts.digest):
                out[step.shot, step.take] = facts
        return out

    def _shown(self, film: Film, facts: Mapping[ShotId, ClipFacts]) -> tuple[tuple[Shown, ...], Fraction]:
        """What the film shows of its clips, and its rate."""
        try:
            return outputs.cut_on_record(self._session.loaded, film, facts, self._session.lock)
        except KlingflowError:  # the film says why it cannot be joined
            return (), Fraction(24)

    def _film_plan(self, film: Film) -> FilmPlan:
        return next(plan for plan in self._plan.films if plan.variant == film.variant)

    def _others(self, film: Film) -> list[tuple[str, str]]:
        loaded = self._session.loaded
        here = outputs.folder_of(loaded, film)
        return [
            (other.variant, Path(os.path.relpath(outputs.folder_of(loaded, other), here), "report.html").as_posix())
            for other in loaded.films
            if other.variant != film.variant
        ]

    def _orders(self, film: Film) -> tuple[tuple[Order, ...], Decimal | None, int]:
        """The orders of a film on record, what they book, and how many have no known price. Each record of a remote
        store is a request: there only the orders of shots that are not settled are looked at, and no sum is known."""
        from klingflow.output import report

        loaded, store = self._session.loaded, self._session.store
        if loaded.rehearsal:
            return (), None, 0
        whole = isinstance(store, FolderStore)
        jobs = (
            ledger.jobs_of(store, loaded.relative)
            if whole
            else (ledger.job(store, key) for key in self._unsettled(film))
        )
        mine = [job for job in jobs if _is_of(job, film)]
        booked = spent(mine)
        orders = tuple(
            report.Order(
                shot=row.shot,
                take=row.take,
                state=row.state,
                price=None if row.price is None else Decimal(str(row.price)),
                message=row.message or "",
                next=row.next or "",
                needs_person=row.needs_person,
            )
            for row in tasks.rows(str(loaded.path), mine)
        )
        return orders, booked.amount if whole else None, booked.unpriced if whole else 0

    def _unsettled(self, film: Film) -> list[Key]:
        steps = self._film_plan(film).steps
        return [step.key for step in steps if step.key is not None and step.action is not Action.REUSE]


def _ordered(shot: Shot) -> ClipFacts:
    """A shot's clip as it will be, about, where it is not there yet."""
    return ClipFacts(
        digest=digests.of_bytes(shot.id.encode()),
        bytes=0,
        width=16,
        height=9,
        frames=shot.duration * 24,
        duration=str(shot.duration),
        rate="24",
        audio=shot.sound,
    )


def _verdict(folder: Path) -> Verdict | None:
    """What was measured of a film's joins; None where nothing was."""
    try:
        found = seams.load(json.loads(durable.read(folder / "seams.json", outputs.MOST_BYTES)))
    except (OSError, ValueError, RecursionError):
        return None
    if found is None:
        return None
    # It may have come with a pull request: nothing but a strip is named by it.
    strips = tuple(replace(one, strip=one.strip if _is_strip(folder, one.strip) else None) for one in found.seams)
    return replace(found, seams=strips)


def _is_strip(folder: Path, name: object) -> bool:
    path = folder / str(name)
    return bool(_STRIP.fullmatch(str(name))) and path.is_file() and not path.is_symlink()


def _is_of(job: Job, film: Film) -> bool:
    intents = (record for record in job.records if record.kind is Kind.INTENT)
    return any(record.detail.get("film") == film.label for record in intents)


_BASES = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
"""What a branch is compared with: the first that there is, else the last commit."""


def _against(session: Session, plan: Plan) -> tuple[str, Mapping[str, Comparison]]:
    """What the storyboard is compared with, in words, and by variant what differs; nothing where it is in no
    repository, or is not committed there."""
    root = session.loaded.project.root
    if git_root(root) is None or session.loaded.rehearsal:
        return "", {}
    from klingflow.app import base_plan
    from klingflow.io import git
    from klingflow.planning.compare import ShotState

    try:
        found = git.refs(root, _BASES)
        against = base_plan.against_ref(session, plan, found[0] if found else "HEAD")
    except KlingflowError:  # no commit yet, or no git: then there is nothing to compare with
        return "", {}
    states = {state for one in against.comparisons.values() for state in one.states.values()}
    if not states & {ShotState.UNCHANGED, ShotState.CHANGED, ShotState.RENAMED}:
        return "", {}
    ref = against.base.ref if found else "the last commit"
    return f"{ref} ({against.base.commit[:7]})", against.comparisons
