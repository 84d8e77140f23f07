"""Makes the plan of a storyboard: looks up in the lock, the store, the ledger and the prices what `planning.plan`
asks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from klingflow.app import approvals, lock_file
from klingflow.app.project_loader import LoadedStoryboard, own_frames
from klingflow.core.digest import of_bytes
from klingflow.core.errors import KlingflowError, StoreError, StoreSilent, UsageError
from klingflow.core.model import ANIMATIC, ClipRecord, Digest, FileStill, Film, Key, Shot, ShotFrame, ShotId, UrlStill
from klingflow.core.source import Problem, Severity
from klingflow.execution import form, host
from klingflow.execution.host import Host
from klingflow.io import config, ledger, trust
from klingflow.io.config import Config
from klingflow.io.project import find_root
from klingflow.io.remembered import cache_folder
from klingflow.io.storage_factory import cache_limit, open_store
from klingflow.io.store import Store
from klingflow.io.task_notes import TaskNotes
from klingflow.output.words import count
from klingflow.planning import accounts, price, schedule
from klingflow.planning import plan as planning
from klingflow.planning.expect import TaskKind, expectations
from klingflow.planning.job import Job, Kind, Record, State
from klingflow.planning.plan import Action, OpenOrder, Plan, PlanLookups, Step
from klingflow.planning.select import refuse_misspelt_tags
from klingflow.planning.select import select as select_shots
from klingflow.providers import BUILT_IN, PROVIDERS
from klingflow.providers.base import FailureClass, Images, Provider, Settings
from klingflow.providers.failure import RULES, recorded
from klingflow.providers.images import PIXELS, frame_bytes, image_bytes, mib
from klingflow.storyboard.lock import Lock

if TYPE_CHECKING:
    from klingflow.planning.compare import Comparison  # a plan without a base compares nothing

SAMPLE = 12
"""Jobs of the ledger that are read to learn how long a task takes; an intent can hold megabytes of inline frames."""
ANSWER_TIMEOUT_S = 120.0
"""How old an intent of a living run may be to count as one that is being answered: a paid request ends by then."""


def store_of(loaded: LoadedStoryboard) -> Store:
    return _store(loaded.config, loaded.project.root, loaded.environ)


def open_project_store(path: Path, environ: Mapping[str, str]) -> Store:
    """The store of the project that a storyboard or a folder belongs to."""
    root = find_root(path / "x" if path.is_dir() else path)
    return _store(config.load(root, environ), root, environ)


def open_unguarded_store(path: Path, environ: Mapping[str, str]) -> Store:
    """As `open_project_store`, but with records as they lie there: signatures neither written nor verified."""
    root = find_root(path / "x" if path.is_dir() else path)
    return _bare(config.load(root, environ).store, root, environ)


def open_other_store(path: Path, place: str, environ: Mapping[str, str]) -> Store:
    """Another store than the project's: a folder, relative to the folder of the start, or s3://…, gs://…, az://….
    Its records are signed and verified as the project's are; KLINGFLOW_STORE_READONLY is of the project's store."""
    root = find_root(path / "x" if path.is_dir() else path)
    bare = _bare(place if "://" in place else os.path.abspath(place), root, environ)
    return trust.guarded(bare, replace(trust.of(environ), read_only=False))


def _store(settings: Config, root: Path, environ: Mapping[str, str]) -> Store:
    return trust.guarded(_bare(settings.store, root, environ), trust.of(environ))


def _bare(place: str, root: Path, environ: Mapping[str, str]) -> Store:
    local = Path(cache_folder() or root / ".klingflow" / "cache") / "store" / of_bytes(place.encode())[:16]
    return open_store(place, root, local, cache_limit(environ))


def lookups(loaded: LoadedStoryboard, store: Store, notes: TaskNotes) -> PlanLookups:
    me = host.this()
    prices, listed = loaded.config.prices, loaded.config.listed

    @cache
    def learnt() -> Mapping[TaskKind, float]:
        # Read when something is to be made, and not before. A damaged record of another shot is no reason to stop.
        try:
            return expectations(ledger.jobs(store, most=SAMPLE))
        except StoreError:
            return {}

    def expected(shot: Shot) -> float:
        if shot.clip is not None:
            return 0.0
        kind = shot.provider, PROVIDERS[shot.provider].model(shot), shot.resolution, shot.duration
        return learnt().get(kind) or _expect(shot)

    @cache
    def find(key: Key) -> ClipRecord | OpenOrder | None:
        try:
            return ledger.clip(store, key)
        except StoreSilent:
            raise
        except StoreError as bad:  # one damaged record is no reason to stop the other shots
            return OpenOrder(action=Action.RESOLVE, reason=bad.what)

    def order(key: Key, shot: Shot) -> OpenOrder | None:
        try:
            job = ledger.job(store, key)
        except StoreSilent:
            raise
        except StoreError as bad:
            return OpenOrder(action=Action.RESOLVE, reason=bad.what)
        if ledger.unrecorded(store, job) is not None:
            why = "its clip is in the store, the record of it is lost: it is written again"
            return OpenOrder(action=Action.RESUME, reason=why)
        if job.state is State.STORED and job.taken_in is None:
            paid = PROVIDERS[shot.provider].caps.paid
            again = f"its provider is asked for task {job.task} again" if paid else "it is drawn again"
            why = f"its clip and the record of it are lost: {again}, free"
            return OpenOrder(action=Action.RESUME, reason=why)
        note = notes.find(key) if job.state is State.NEW else None
        if note is not None:
            return OpenOrder(
                action=Action.RESUME, reason=f"task {note.task} at {note.provider} was paid for, and the store lost it"
            )
        return open_order(job, me, lambda: _another(loaded, job, key, shot))

    @cache
    def picture(path: str) -> Digest | None:
        try:
            return loaded.project.picture(path)
        except KlingflowError:  # whoever needs the file reports it
            return None

    return PlanLookups(
        model=lambda shot: PROVIDERS[shot.provider].model(shot),
        price=lambda shot: price.of(
            shot.provider,
            shot.resolution,
            shot.sound,
            shot.duration,
            prices,
            PROVIDERS[shot.provider].caps.shipped,
            listed,
            by_text=shot.first_frame is None,
            with_video=bool(shot.videos),
        ),
        expect=expected,
        find=find,
        open_order=order,
        picture=picture,
        unapproved=None if loaded.rehearsal else approvals.unapproved(loaded),
    )


def open_order(job: Job, me: Host, another: Callable[[], bool] = lambda: False) -> OpenOrder | None:
    """What the ledger has for a key that has no clip yet; None where it has nothing that matters. `another`: whether
    what would be sent is another request than any that failed for good."""
    if job.orphans:
        names = ", ".join(record.path for record in job.orphans)
        return OpenOrder(action=Action.RESOLVE, reason=f"the ledger is damaged: {names} has no intent")
    intent = job.last(Kind.INTENT)
    if intent is None:
        return None
    name = str(intent.detail.get("provider"))
    match job.state:
        case State.ACCEPTED:
            return OpenOrder(action=Action.RESUME, reason=f"task {job.task} at {name} was paid for: collect it")
        case State.INTENDED if job.taken_in is not None:
            if not me.died(intent.detail) and time.time() - intent.at_ms / 1000 < ANSWER_TIMEOUT_S:
                return OpenOrder(action=Action.RESUME, reason="its clip is being taken in at this moment")
            return OpenOrder(action=Action.RESOLVE, reason="its clip was being taken in, and that was interrupted")
        case State.INTENDED:
            return _unanswered(intent, name, me)
        case State.DELIVERED:
            why = job.records[-1].detail.get("why")
            return OpenOrder(action=Action.RESOLVE, reason=f"a clip was delivered that is not what was ordered: {why}")
        case State.STORED:
            return OpenOrder(action=Action.RESOLVE, reason="its clip was stored, and the store does not have it")
        case State.FAILED:
            return _failed_before(job, another)
        case _:
            return None


def _unanswered(intent: Record, name: str, me: Host) -> OpenOrder:
    """An intent without an answer, by this machine's clock; the engine asks the provider's before it sends anything. So
    one that seems to come from the future, because this clock is slow, is left to the engine too."""
    window = PROVIDERS[name].caps.replay_s if name in PROVIDERS else None
    provider_ms = intent.detail.get("provider_ms")
    began_ms = provider_ms if isinstance(provider_ms, int) else intent.at_ms
    age = time.time() - began_ms / 1000
    if window is not None and age < window:
        again = f"asked {name}, answer not on record: the same request again"
        return OpenOrder(action=Action.RESUME, reason=again, orders=True)
    if not me.died(intent.detail) and age < ANSWER_TIMEOUT_S:
        return OpenOrder(action=Action.RESUME, reason="another run is asking for it at this moment")
    return OpenOrder(action=Action.RESOLVE, reason=f"asked {name}, and it is not known whether it was bought")


def _another(loaded: LoadedStoryboard, job: Job, key: Key, shot: Shot) -> bool:
    provider, settings = PROVIDERS[shot.provider], loaded.config.settings.get(shot.provider, Settings())
    mine = form.of(provider, shot, key, settings, images_by(loaded.config, provider))
    return not form.failed_before(job, shot.provider, mine)


def way(config: Config, provider: Provider) -> Images:
    """How images go to a provider from this project."""
    return provider.images(config.settings.get(provider.name, Settings()), config.publish is not None)


def images_by(config: Config, provider: Provider) -> str:
    """The way that images go to a provider, as far as the project decides it: what `form.of` wants to know."""
    publish, images = config.publish, way(config, provider)
    place = f" {publish.public_url or publish.to}" if publish is not None and images == "url" else ""
    return f"{images}{place} {config.shrink}"


def _failed_before(job: Job, another: Callable[[], bool]) -> OpenOrder:
    last = job.last(Kind.FAILED)
    kind = (recorded(last.detail) if last is not None else None) or FailureClass.INVALID
    if RULES[kind].again_by_run:
        return OpenOrder(action=Action.MAKE, reason=f"failed before ({kind}): tried again", orders=True)
    if another():
        return OpenOrder(action=Action.MAKE, reason=f"failed before ({kind}): another request now", orders=True)
    return OpenOrder(action=Action.MAKE, reason=f"failed before ({kind}): not ordered again unless it is changed")


def _expect(shot: Shot) -> float:
    """Seconds that making a shot takes, before anything is learnt."""
    return shot.duration * PROVIDERS[shot.provider].caps.expect_s


def make(loaded: LoadedStoryboard, lock: Lock, found: PlanLookups) -> Plan:
    variants = {film.variant for film in loaded.films}
    films = tuple(
        planning.make(film, inputs=loaded.inputs, lock=lock, lookups=found, variants=variants) for film in loaded.films
    )
    shots = {(film.variant, shot.id) for film in loaded.films for shot in film.shots}
    plan = Plan(
        storyboard=loaded.relative,
        films=films,
        rehearsal=loaded.rehearsal,
        provider=loaded.provider,
        limits=loaded.config.limits,
        paid=accounts.paid(lock),
        dropped=() if loaded.variables else accounts.dropped(films, lock, shots),  # with --var the lock stays as it is
    )
    return schedule.arranged(plan, loaded.films, _in_flight(loaded))


def _in_flight(loaded: LoadedStoryboard) -> Callable[[str], int]:
    def most(provider: str) -> int:
        own = loaded.config.settings.get(provider, Settings())
        return own.concurrency or PROVIDERS[provider].caps.concurrency

    return most


def unsendable(loaded: LoadedStoryboard, plan: Plan) -> Problem | None:
    """The first frame that its provider could not read, since it is published nowhere. A run refuses, a plan warns."""
    films = {film.variant: film for film in loaded.films}
    for film_plan in plan.films:
        film = films[film_plan.variant]
        shots = film.by_id()
        for step in film_plan.steps:
            if not step.orders or loaded.config.publish is not None:
                continue
            video = _unpublished_video(film, shots[step.shot], step)
            if video is not None:
                return video
            if way(loaded.config, PROVIDERS[step.provider]) != "url":
                continue
            for role, frame in own_frames(shots[step.shot]):
                if not isinstance(frame, UrlStill):
                    return Problem(
                        rule="unpublished",
                        what=f"shot '{step.shot}' sends a frame to {step.provider}, and this project publishes nowhere "
                        "and has data_uri: false, so it goes neither by URL nor inside the request",
                        mend=f"drop providers.{step.provider}.data_uri from klingflow.yaml; or set publish.to there (a "
                        f"folder behind a web server, or object storage){_another_of(step.provider)}",
                        span=film.where(step.shot, role),
                    )
    return None


def _unpublished_video(film: Film, shot: Shot, step: Step) -> Problem | None:
    """That a shot sends a reference video, which goes by URL alone, and nothing is published."""
    for i, video in enumerate(shot.videos):
        if isinstance(video, UrlStill) or step.provider == ANIMATIC:
            continue
        end = shot.motion_s is not None and i == len(shot.videos) - 1
        return Problem(
            rule="unpublished",
            what=f"shot '{step.shot}' sends a reference video to {step.provider}, which takes videos by URL alone, and "
            "this project publishes nowhere",
            mend="set publish.to in klingflow.yaml: a folder behind a web server, or object storage",
            span=film.where(step.shot, "continues.motion" if end else f"videos.{i}"),
        )
    return None


def too_large_perhaps(loaded: LoadedStoryboard, plan: Plan) -> Problem | None:
    """That frames may be too large for who gets them, when other shots are paid for already: the PNG of a clip's frame
    has no size before it is cut, nor has a lossless copy of a still. Told once, at the first shot that sends one."""
    if loaded.config.shrink == "high-quality":  # a JPEG always fits
        return None
    films = {film.variant: film for film in loaded.films}
    found: list[tuple[Film, Step, str, str, int]] = []
    for film_plan in plan.films:
        film = films[film_plan.variant]
        shots = film.by_id()
        records = {step.shot: step.record for step in film_plan.steps if step.is_active_take}
        for step in film_plan.steps:
            if not step.orders:
                continue
            provider = PROVIDERS[step.provider]
            how = way(loaded.config, provider)
            if how == "blob":
                continue
            most = image_bytes(provider.caps, how)
            for role, frame in own_frames(shots[step.shot]):
                if isinstance(frame, ShotFrame):
                    size = frame_bytes(_pixels(loaded, shots[frame.shot], records.get(frame.shot)))
                    what = f"a frame of '{frame.shot}', which may have {mib(size)} as a PNG when it is cut"
                elif isinstance(frame, FileStill):  # check refuses one that is too large where no copy is sent
                    size = loaded.inputs.stills[frame.path].bytes
                    what = f"{frame.path}, of which a lossless copy may have {mib(size)} too"
                else:
                    continue
                if size > most:
                    found.append((film, step, role, what, most))
    if not found:
        return None
    film, step, role, what, most = found[0]
    others = len({one.shot for _, one, *_ in found} - {step.shot})
    more = f" (so may those of {count(others, 'other shot')})" if others else ""
    return Problem(
        rule="frame-size",
        what=f"shot '{step.shot}' sends {what}, and {step.provider} takes {mib(most)}{more}: the shot would then stop, "
        "with what comes before it paid for",
        mend="set `images: {shrink: high-quality}` in klingflow.yaml: a JPEG is sent where the original is too large",
        span=film.where(step.shot, role),
        severity=Severity.WARNING,
    )


def _pixels(loaded: LoadedStoryboard, shot: Shot, record: ClipRecord | None) -> int:
    """Of each frame of a shot's clip, as far as it is known."""
    look = loaded.inputs.looks.get(shot.clip) if shot.clip is not None else None
    if look is not None:
        return look.width * look.height
    return record.facts.width * record.facts.height if record is not None else PIXELS.get(shot.resolution, PIXELS["4K"])


def _another_of(name: str) -> str:
    """Another provider of the same model that gets frames without being published to, as a mend."""
    models = set(PROVIDERS[name].caps.models)
    others = [p.name for p in BUILT_IN.values() if models & set(p.caps.models) and p.name != name]
    others = [other for other in others if BUILT_IN[other].images(Settings(), False) != "url"]
    return f"; or use provider: {' or '.join(others)}" if others else ""


def warnings(loaded: LoadedStoryboard, lock: Lock, plan: Plan) -> list[Problem]:
    """What a run of the plan would refuse, or would not do."""
    frame = unsendable(loaded, plan)
    found = [] if frame is None else [replace(frame, severity=Severity.WARNING)]
    large = too_large_perhaps(loaded, plan)
    if large is not None:
        found.append(large)
    foreign = foreign_store(loaded.config) if pays(plan) else None
    if foreign is not None:
        what, mend = foreign
        found.append(Problem(rule="foreign-store", what=what, mend=mend, severity=Severity.WARNING))
    if lock.conflicts is not None:
        found.append(lock_file.was_unmerged(loaded.lock_path.name, lock))
    if loaded.variables and not loaded.rehearsal:
        what = f"variables are overridden, so a run leaves {loaded.lock_path.name} as it is"
        losses = lost(lock, plan)
        mend = "`run --update-lock` writes it all the same" + (f"; it would lose {losses}" if losses else "")
        found.append(Problem(rule="lock-left", what=what, mend=mend, severity=Severity.WARNING))
    return found


def lost(lock: Lock, plan: Plan) -> str:
    """The entries that the lock would not have any more after a run of the plan, and what was paid for them: "dawn, eve
    take 2 (2 clips, $1.12)". Empty where it would lose none."""
    gone = [
        (film.variant, step, entry)
        for film in plan.films
        for step in film.steps
        if (entry := lock.entry(film.variant, step.shot, step.take)) is not None
        and entry.key != step.key
        and step.action is not Action.HOLD
    ]
    if not gone:
        return ""
    names = [
        f"{step.shot}{f' take {step.take}' if step.take > 1 else ''}{f' [{variant}]' if variant else ''}"
        for variant, step, _ in gone
    ]
    paid = sum((entry.cost for _, _, entry in gone if entry.cost is not None), Decimal(0))
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"{listed} ({len(gone)} clip{'s' if len(gone) > 1 else ''}{f', {price.money(paid)}' if paid else ''})"


def pays(plan: Plan) -> bool:
    """Whether a step of the plan is at a provider that costs money, whatever is to be done for it."""
    used = {step.provider for film in plan.films for step in film.steps}
    return any(PROVIDERS[name].caps.paid for name in used & PROVIDERS.keys())


def foreign_store(settings: Config) -> tuple[str, str] | None:
    """Why the project's store may not be this machine's own, and the mend; None where it is."""
    if "://" in settings.store:
        return None
    from klingflow.io import store_origin  # git: a plan that pays nothing runs none

    return store_origin.foreign(Path(settings.store), settings.root)


def publishes(loaded: LoadedStoryboard, plan: Plan) -> bool:
    """Whether a run of the plan may publish a frame, for a provider that takes images by URL, or a video."""
    shots = {film.variant: film.by_id() for film in loaded.films}

    def sends(shot: Shot, provider: Provider) -> bool:
        by_url = way(loaded.config, provider) == "url"
        given = [*shot.videos, *((frame for _, frame in shot.frames()) if by_url else ())]
        return not provider.caps.local and any(not isinstance(one, UrlStill) for one in given)

    return any(
        step.orders and sends(shots[film.variant][step.shot], PROVIDERS[step.provider])
        for film in plan.films
        for step in film.steps
    )


def chosen(
    loaded: LoadedStoryboard,
    plan: Plan,
    select: str | None,
    exclude: str | None,
    comparisons: Mapping[str, Comparison] | None = None,
) -> Plan:
    """The plan with only the selected shots in it. Raises UsageError where that is none, or where one needs a clip that
    is not there and is not selected."""
    if select is None and exclude is None:
        return plan
    refuse_misspelt_tags(f"{select or ''} {exclude or ''}", loaded.films)
    named = {}
    for film in loaded.films:
        found = (comparisons or {}).get(film.variant)
        named[film.variant] = select_shots(select or "", exclude or "", film, found.states if found else None)
    if not any(named.values()) and "state:" not in f"{select} {exclude}":  # that nothing changed is an answer
        raise UsageError("no shot is selected", "look at the ids and tags, or leave --select and --exclude out")
    return only(loaded, plan, named)


def only(loaded: LoadedStoryboard, plan: Plan, named: Mapping[str, Collection[ShotId]]) -> Plan:
    """The plan with only the named shots of each variant in it. Raises UsageError where one needs a clip that is not
    there and is not named."""
    return schedule.only(plan, named, loaded.films, _in_flight(loaded))


def absent(store: Store, plan: Plan) -> str:
    """What a person should know of clips that the plan names and this store does not hold; empty where all are there.
    Only a store on this machine is asked: looking up every clip of a remote one would cost a request each."""
    if store.folder is None:
        return ""
    there = (Action.REUSE, Action.ADOPT, Action.HOLD)
    steps = [s for film in plan.films for s in film.steps if s.action in there and s.provider != planning.OWN]
    away = [step for step in steps if step.clip is not None and not store.holds(step.clip)]
    gone = [step for step in away if not step.redraws]
    if gone:
        names = f"{gone[0].shot}'s clip is" if len(gone) == 1 else f"{len(gone)} clips that no run makes are"
        where = "run where the store is shared (KLINGFLOW_STORE); a clip that this store lost is asked for again, free"
        return f"{names} not in this store: {where}"
    if away:
        names = f"{away[0].shot}'s clip is" if len(away) == 1 else f"{len(away)} clips are"
        return f"{names} not in this store: a run draws what it needs again, free"
    return ""


def known_clips(plan: Plan) -> dict[str, dict[ShotId, Digest]]:
    """The clips that are there before anything is made, by variant and shot."""
    return {
        film.variant: {step.shot: step.clip for step in film.steps if step.is_active_take and step.clip is not None}
        for film in plan.films
    }
