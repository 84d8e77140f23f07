"""Asks the lock, the store, the ledger and the prices what `planning.plan.make` wants to know."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from klingflow.app.project_loader import Opened, Reader, own_frames, parse
from klingflow.core.digest import of_bytes
from klingflow.core.errors import StoreError, StoryboardError, UsageError
from klingflow.core.model import ClipRecord, Digest, Key, Shot, ShotId, UrlStill
from klingflow.core.source import Problem
from klingflow.execution import host
from klingflow.execution.host import Host
from klingflow.io import config, ledger
from klingflow.io.cache import cache_folder
from klingflow.io.config import Config
from klingflow.io.project import find_root
from klingflow.io.storage_factory import open_store
from klingflow.io.store import FolderStore, Store
from klingflow.planning import plan as planning
from klingflow.planning import price
from klingflow.planning.expect import Order, expectations
from klingflow.planning.job import Job, Kind, State
from klingflow.planning.plan import Action, FilmPlan, Plan, Standing
from klingflow.planning.select import select as select_shots
from klingflow.providers import PROVIDERS
from klingflow.providers.base import FailureClass, Settings
from klingflow.providers.failure import RULES
from klingflow.storyboard import lock as locks
from klingflow.storyboard import yamlread
from klingflow.storyboard.lock import Lock

if TYPE_CHECKING:
    from klingflow.planning.compare import Comparison  # a plan without a base compares nothing

SAMPLE = 12
"""Jobs of the ledger that are read to learn how long a task takes; an intent can hold megabytes of inline frames."""
ASKING_S = 120.0
"""How old an intent of a living run may be to count as one that is being answered: a paid request ends by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The answers that a plan is made from; the engine asks the same ones again while it runs."""

    model: Callable[[Shot], str]
    price: Callable[[Shot], price.Price]
    expect: Callable[[Shot], float]
    find: Callable[[Key], ClipRecord | None]
    standing: Callable[[Key, Shot], Standing | None]


def open_lock(opened: Opened) -> Lock:
    """The lock beside the storyboard; an empty one where there is none, or in a rehearsal. Raises StoryboardError."""
    path = opened.lock_path
    if opened.rehearsal or not os.path.lexists(path):
        return Lock()
    return read_lock(opened.project, os.path.relpath(path), opened.beside(path.name))


def read_lock(files: Reader, shown: str, relative: str) -> Lock:
    document, problems = parse(shown, files.read_bytes(relative, yamlread.MAX_BYTES), "lock")
    if problems:
        raise StoryboardError(problems)
    return locks.parse(document)


def store_of(opened: Opened) -> Store:
    return _store(opened.config, opened.project.root)


def open_project_store(path: Path, environ: Mapping[str, str] = os.environ) -> Store:
    """The store of the project that a storyboard or a folder belongs to."""
    root = find_root(path / "x" if path.is_dir() else path)
    return _store(config.load(root, environ), root)


def _store(settings: Config, root: Path) -> Store:
    local = Path(cache_folder() or root / ".klingflow" / "cache") / "store" / of_bytes(settings.store.encode())[:16]
    return open_store(settings.store, root, local)


def ask(opened: Opened, store: Store) -> Asked:
    me = host.this()
    prices = opened.config.prices

    @cache
    def learnt() -> Mapping[Order, float]:
        # Read when something is to be made, and not before. A damaged record of another shot is no reason to stop.
        try:
            return expectations(ledger.jobs(store, most=SAMPLE))
        except StoreError:
            return {}

    def expected(shot: Shot) -> float:
        if shot.clip is not None:
            return 0.0
        order = shot.provider, PROVIDERS[shot.provider].model(shot), shot.resolution, shot.duration
        return learnt().get(order) or _expect(shot)

    @cache
    def find(key: Key) -> ClipRecord | None:
        return ledger.clip(store, key)

    return Asked(
        model=lambda shot: PROVIDERS[shot.provider].model(shot),
        price=lambda shot: price.of(shot.provider, shot.resolution, shot.sound, shot.duration, prices),
        expect=expected,
        find=find,
        standing=lambda key, shot: standing(ledger.job(store, key), me),
    )


def standing(job: Job, me: Host) -> Standing | None:
    """What the ledger asks of a run where nothing was bought yet; None where it says nothing."""
    intent = job.last(Kind.INTENT)
    if intent is None:
        return None
    name = str(intent.detail["provider"])
    match job.state:
        case State.ACCEPTED:
            return Standing(action=Action.RESUME, reason=f"task {job.task} at {name} was paid for: collect it")
        case State.INTENDED:
            window = PROVIDERS[name].caps.replay_s if name in PROVIDERS else None
            age = time.time() - intent.at_ms / 1000
            if window is not None and age < window:
                again = f"asked {name}, answer not on record: the same request again"
                return Standing(action=Action.RESUME, reason=again)
            if not me.died(intent.detail) and age < ASKING_S:
                return Standing(action=Action.RESUME, reason="another run is asking for it at this moment")
            return Standing(action=Action.RESOLVE, reason=f"asked {name}, and it is not known whether it was bought")
        case State.FAILED:
            last = job.last(Kind.FAILED)
            kind = FailureClass(str(last.detail["class"])) if last else FailureClass.PROVIDER_FAULT
            then = "tried again" if RULES[kind].again_by_run else "not ordered again unless it is changed"
            return Standing(action=Action.MAKE, reason=f"failed before ({kind}): {then}")
        case _:
            return None


def _expect(shot: Shot) -> float:
    """Seconds that making a shot takes. Before anything is learnt: fal.ai's 94 s for a 5 s clip of the same model
    (standard tier, read 2026-11), in proportion; the animatic draws at about a third of real time."""
    return shot.duration * (0.4 if not PROVIDERS[shot.provider].caps.paid else 19.0)


def make(opened: Opened, lock: Lock, asked: Asked, provider: str | None) -> Plan:
    films: list[FilmPlan] = [
        planning.make(
            film,
            inputs=opened.inputs,
            lock=lock,
            model=asked.model,
            price=asked.price,
            expect=asked.expect,
            find=asked.find,
            standing=asked.standing,
        )
        for film in opened.films
    ]
    return Plan(storyboard=opened.relative, films=tuple(films), rehearsal=opened.rehearsal, provider=provider)


def unsendable(opened: Opened, plan: Plan) -> Problem | None:
    """The first frame that its provider could not read, since it is published nowhere. A run refuses, a plan warns."""
    films = {film.variant: film for film in opened.films}
    for film_plan in plan.films:
        film = films[film_plan.variant]
        shots = film.by_id()
        for step in film_plan.steps:
            if step.action is not Action.MAKE or PROVIDERS[step.provider].caps.frames != "url":
                continue
            own = opened.config.settings.get(step.provider, Settings())
            if opened.config.publish is not None or own.data_uri:
                continue
            for role, frame in own_frames(shots[step.shot]):
                if not isinstance(frame, UrlStill):
                    return Problem(
                        rule="unpublished",
                        what=f"shot '{step.shot}' sends a frame to {step.provider}, which takes images by public URL "
                        "alone, and this project publishes nowhere",
                        mend="three ways: set publish.to in klingflow.yaml (a folder behind a web server, or object "
                        "storage); or use provider: mulerouter, which takes images inline; or set "
                        f"providers.{step.provider}.data_uri: true in klingflow.yaml (not documented for this model)",
                        span=film.where(step.shot, role),
                    )
    return None


def chosen(
    opened: Opened,
    plan: Plan,
    select: str | None,
    exclude: str | None,
    comparisons: Mapping[str, Comparison] | None = None,
) -> Plan:
    """The plan with only the selected shots in it. Raises UsageError where that is none, or where one needs a clip that
    is not there and is not selected."""
    if select is None and exclude is None:
        return plan
    named = {}
    for film in opened.films:
        found = (comparisons or {}).get(film.variant)
        named[film.variant] = select_shots(select or "", exclude or "", film, found.states if found else None)
    if not any(named.values()) and "state:" not in f"{select} {exclude}":  # that nothing changed is an answer
        raise UsageError("no shot is selected", "look at the ids and tags, or leave --select and --exclude out")
    return only(plan, named)


def only(plan: Plan, named: Mapping[str, Collection[ShotId]]) -> Plan:
    """The plan with only the named shots of each variant in it. Raises UsageError where one needs a clip that is not
    there and is not named."""
    films = []
    for film_plan in plan.films:
        names = named.get(film_plan.variant, ())
        waiting = {step.shot for step in film_plan.steps if step.counted and step.clip is None}
        for step in film_plan.steps:
            missing = [need for need in step.needs if need in waiting and need not in names]
            if step.shot in names and missing and step.action is not Action.HOLD:
                raise UsageError(
                    f"{step.shot} needs a frame of {missing[0]}, whose clip is not there and which is not selected",
                    f"select it too: --select '+{step.shot}'",
                )
        films.append(replace(film_plan, steps=tuple(step for step in film_plan.steps if step.shot in names)))
    return replace(plan, films=tuple(films))


def absent(store: Store, plan: Plan) -> str:
    """What a person should know of clips that the lock names and this store does not hold; empty where all are there.
    Only a store on this machine is asked: looking up every clip of a remote one would cost a request each."""
    if not isinstance(store, FolderStore):
        return ""
    steps = [s for film in plan.films for s in film.steps if s.action in (Action.REUSE, Action.HOLD) and s.clip]
    away = [step for step in steps if step.clip is not None and not store.holds(step.clip)]
    paid = [step for step in away if step.provider in PROVIDERS and PROVIDERS[step.provider].caps.paid]
    if paid:
        names = f"{paid[0].shot}'s clip is" if len(paid) == 1 else f"{len(paid)} paid clips are"
        return f"{names} not in this store: run where the store is shared (KLINGFLOW_STORE)"
    if away:
        names = f"{away[0].shot}'s clip is" if len(away) == 1 else f"{len(away)} clips are"
        return f"{names} not in this store: a run draws what it needs again, free"
    return ""


def known_clips(plan: Plan) -> dict[str, dict[ShotId, Digest]]:
    """The clips that are there before anything is made, by variant and shot."""
    return {
        film.variant: {step.shot: step.clip for step in film.steps if step.counted and step.clip is not None}
        for film in plan.films
    }
