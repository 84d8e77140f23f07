"""Is everything there that a run needs? Finds all that is wrong at once, each with its mend.

Costs nothing, but for the paid probe: that sends the cheapest order twice with one key of idempotency and demands the
same task, said to be a replay, because HiAPI's key is known from its own clients, not from its API pages.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path

from klingflow.app import planner, preflight, runner
from klingflow.app.planner import open_project_store
from klingflow.app.project_loader import StoryboardFile, trusted_urls
from klingflow.app.services import USING, api_of, base_of, key_of, no_key, provider_hosts
from klingflow.app.session import Session, open_session
from klingflow.core.digest import of_bytes
from klingflow.core.errors import KlingflowError, StoreError, StoryboardError, UsageError
from klingflow.core.model import Key, Shot, ShotId
from klingflow.core.redact import redact
from klingflow.core.source import Severity
from klingflow.io import config, http, trust
from klingflow.io.downloads import Downloads
from klingflow.io.project import find_root
from klingflow.io.publish_trial import unreadable
from klingflow.io.service import NotSent, Unanswered
from klingflow.io.storage_factory import open_publisher
from klingflow.io.store import FolderStore, proves_create_only
from klingflow.output.words import count, duration
from klingflow.planning import price
from klingflow.planning.plan import Plan, Step, totals
from klingflow.planning.price import Price
from klingflow.providers import BUILT_IN, PROVIDERS
from klingflow.providers.base import Accepted, Answer, Provider, Settings

FREE_BYTES = 2 * 2**30
"""Room for some tens of clips: 15 s of 4K take about 100 MB."""
CLOCK_S = 60.0
"""HiAPI refuses callbacks 300 s off; a clock that far out also spoils replay windows."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `mend` says what to do where it is not good."""

    good: bool
    what: str
    mend: str = ""


def doctor(*paths: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> tuple[Finding, ...]:
    """Looks at keys, APIs, clock, store, disk, media, publishing and prices of the projects of storyboards or folders
    (here, where none is named), and at all that a run of these storyboards would refuse. Asks the APIs only what is
    free, and publishes one tiny picture. Raises UsageError where a path is not there, StoryboardError for a broken
    project file. Blocks."""
    starts = [_start(path) for path in paths or (".",)]
    projects: dict[Path, list[Path]] = {}
    for start in starts:
        projects.setdefault(_root(start), []).append(start)
    found = [finding for root, own in projects.items() for finding in _project(root, own, environ)]
    return tuple(dict.fromkeys(found))


def _project(root: Path, starts: Sequence[Path], environ: Mapping[str, str]) -> list[Finding]:
    settings = config.load(root, environ)
    looked = [_looked_at(start, environ) for start in starts if not start.is_dir()]
    steps = [step for one in looked for step in one.steps if step.action in USING]
    used = {step.provider for step in steps}
    used |= {shot.provider for one in looked if one.session is None for shot in one.shots}  # it cannot be planned
    findings = [finding for one in looked for finding in one.findings]
    findings += store_of(starts[0], environ)
    findings += _disk(root, settings.store, preflight.room(steps) if looked else FREE_BYTES)
    findings += [*_media(), *asyncio.run(_network(settings, environ, used))]
    for one in looked:
        findings += _refused(one, findings)
    return findings + _prices(settings, [shot for one in looked for shot in one.shots] if looked else None)


def _start(path: str | os.PathLike[str]) -> Path:
    start = Path(path)
    if not start.exists():
        raise UsageError(f"there is no file or folder '{start}'", "name a storyboard, or a folder of the project")
    return start


def _root(start: Path) -> Path:
    return find_root(start / "x" if start.is_dir() else start)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """A storyboard that was named."""

    shots: Sequence[Shot] = ()
    """Those that are made."""
    session: Session | None = None
    """None where it has a fault, or cannot be planned: the findings say it."""
    plan: Plan | None = None
    findings: Sequence[Finding] = ()

    @property
    def steps(self) -> list[Step]:
        return [step for film in self.plan.films for step in film.steps] if self.plan is not None else []


def _looked_at(start: Path, environ: Mapping[str, str]) -> _Looked:
    opened, problems = StoryboardFile(path=str(start), environ=environ).inspect()
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    shots = [shot for film in opened.films for shot in film.shots if shot.clip is None] if opened else []
    if errors or opened is None:
        mend = f"klingflow check {shlex.quote(str(start))} tells them"
        return _Looked(shots=shots, findings=[Finding(False, f"{start}: {count(errors, 'problem')}", mend)])
    good = Finding(True, f"{start}: {count(len(shots), 'shot')}, no problem")
    try:
        session = open_session(opened)
        plan = session.plan()
    except KlingflowError as bad:
        return _Looked(shots=shots, findings=[good, Finding(False, f"{start}: {bad.what}", bad.mend)])
    sums = totals(plan.films)
    basis = price.noted(step.basis for film in plan.films for step in film.steps if step.orders)
    amount = "price unknown" if sums.spend is None else f"{price.money(sums.spend)}{basis}" if sums.spend else "free"
    to_make = f"{count(sums.tasks, 'clip')}, {sums.seconds} s, {amount}" if sums.tasks else "nothing"
    findings = [good, Finding(True, f"{start}: to make: {to_make}")]
    large = planner.too_large_perhaps(opened, plan)
    if large is not None:
        findings.append(Finding(True, f"{start}: {large.what}; {large.mend}"))
    return _Looked(shots=shots, session=session, plan=plan, findings=findings)


def _refused(one: _Looked, told: Sequence[Finding]) -> list[Finding]:
    """What a run of the storyboard would refuse before it sends anything, unless it was told already: a lack of a key
    is one fault."""
    if one.session is None or one.plan is None:
        return []
    try:
        runner.refuse(one.session, one.plan, runner.RunOptions(limits=one.session.loaded.config.limits))
    except StoryboardError as bad:
        return [Finding(False, f"{one.session.loaded.path}: {p.what}", p.mend) for p in bad.problems]
    except KlingflowError as bad:
        keys = [key for p in PROVIDERS.values() for key in p.caps.variables if key in bad.what]
        if any(key in finding.what for key in keys for finding in told if not finding.good):
            return []
        return [Finding(False, f"{one.session.loaded.path}: {bad.what}", bad.mend)]
    return []


def _media() -> list[Finding]:
    fault = preflight.media_fault()
    if fault is not None:
        return [Finding(False, f"media: {fault[0]}", fault[1])]
    return [Finding(True, "media: clips can be read and films written; no ffmpeg is needed")]


def store_of(start: Path, environ: Mapping[str, str]) -> list[Finding]:
    """What is good or wrong about the store of the project that `start` lies in."""
    try:
        place, trusted = open_project_store(start, environ), trust.of(environ)
        signed = f", records are signed with '{next(iter(trusted.keys))}'" if trusted.keys else ""
        if trusted.read_only:
            next(place.list("clips/"), None)
            return [Finding(True, f"store: {place.where} can be read; nothing is written ({trust.READONLY})")]
        if place.folder is not None and not place.folder.exists():
            return [_to_make(place.folder, place.where)]
        if proves_create_only(place):
            return [Finding(True, f"store: {place.where} keeps what is there{signed}")]
        return [Finding(False, f"store: {place.where} overwrites silently", "use a store that honours If-None-Match")]
    except KlingflowError as bad:
        return [Finding(False, f"store: {bad.what}", bad.mend)]


def _to_make(folder: Path, where: str) -> Finding:
    """Tries the folder in which the first run will make the store. The store itself is not made by looking: a mistyped
    one would be there from then on."""
    above = next(above for above in folder.parents if above.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".klingflow-", dir=above) as trial:
            good = proves_create_only(FolderStore(Path(trial)))
    except (OSError, StoreError) as bad:
        why = bad.what if isinstance(bad, StoreError) else bad.strerror
        mend = "make the folder writable, or name another place: `store` in klingflow.yaml, or KLINGFLOW_STORE"
        return Finding(False, f"store: cannot write {where}: {why}", mend)
    if not good:
        return Finding(False, f"store: {where} would overwrite silently", "use another disk")
    return Finding(True, f"store: {where} is not there yet; the first run makes it")


def _disk(root: Path, store: str, needed: int) -> list[Finding]:
    """Room for so many bytes where clips are kept, and where they arrive and the film is put together, if that is
    another disk."""
    places = {"the project": root}
    if "://" not in store:
        places = {"the store": Path(store), **places}
    out: list[Finding] = []
    seen: set[int] = set()
    for name, place in places.items():
        while not place.exists():
            place = place.parent
        try:
            disk, free = place.stat().st_dev, shutil.disk_usage(place).free
        except OSError as bad:
            out.append(Finding(False, f"disk of {name}: {bad.strerror}", "look at the disk"))
            continue
        if disk not in seen:
            seen.add(disk)
            what = f"disk of {name}: {preflight.gib(free)} free"
            what += "" if needed == FREE_BYTES else f", and a run may take {preflight.gib(needed)}"
            out.append(Finding(free >= needed, what, "make room: a clip takes up to 100 MB"))
    return out


_ORDER = ("720p", "1080p", "4K")


def _prices(settings: config.Config, shots: Sequence[Shot] | None) -> list[Finding]:
    """What a second costs of whatever the storyboards order; without one, of all that can be ordered."""
    out: list[Finding] = []
    for name, provider in PROVIDERS.items():
        if not provider.caps.paid:
            continue
        sold = provider.caps.resolutions
        if shots is None:
            kinds = {(resolution, sound, False) for resolution in sold for sound in (False, True)}
        else:
            mine = [shot for shot in shots if shot.provider == name and shot.resolution in sold]
            kinds = {(shot.resolution, shot.sound, shot.first_frame is None) for shot in mine}
        told: dict[str, dict[str, None]] = {}
        unknown: list[str] = []
        bases = set()
        for resolution, sound, by_text in sorted(kinds, key=lambda kind: (_ORDER.index(kind[0]), *kind[1:])):
            shipped = provider.caps.shipped
            cost = price.of(name, resolution, sound, 1, settings.prices, shipped, settings.listed, by_text=by_text)
            bases.add(cost.basis)
            if cost.amount is None:
                unknown.append(f"{resolution}{' with sound' if sound else ''}")
            else:
                amount = f"{'with sound ' if sound else ''}{price.exact(cost.amount)}"
                told.setdefault(resolution, {})[amount] = None
        if unknown:
            mend = f"state it in klingflow.yaml: `prices: {{{name}: {{1080p: {{silent: 0.112, sound: 0.14}}}}}}`"
            out.append(Finding(False, f"price: of {', '.join(unknown)} at {name} no price is known", mend))
        if told:
            listed = "; ".join(f"{resolution} {', '.join(amounts)}" for resolution, amounts in told.items())
            if price.ESTIMATE in bases:
                estimates = f"estimates: {provider.caps.prices_from}; state your own under `prices`"
                bases = {estimates if basis == price.ESTIMATE else basis for basis in bases}
            note = f" ({'; '.join(sorted(filter(None, bases)))})" if any(bases) else ""
            out.append(Finding(True, f"price: a second at {name}: {listed}{note}"))
    return out


async def _network(settings: config.Config, environ: Mapping[str, str], used: set[str]) -> list[Finding]:
    """The APIs (`used`: those that the storyboard orders from), the clock against theirs, and the way of a frame."""
    try:
        http.proxy_for("https://", environ)
    except UsageError as bad:  # nothing behind it can be reached
        return [Finding(False, f"proxy: {bad.what}", bad.mend)]
    out: list[Finding] = []
    for name, provider in PROVIDERS.items():
        if not provider.caps.local:
            try:
                out += await _api(name, provider, environ, name in used)
            except KlingflowError as bad:
                out.append(Finding(False, f"{name}: {bad.what}", bad.mend))
    mend = "mend or remove the package"
    out += [Finding(False, f"{name}: {why}", mend) for name, why in PROVIDERS.broken().items()]
    try:
        return out + await _published(settings, environ, used)
    except KlingflowError as bad:
        return [*out, Finding(False, f"publish: {bad.what}", bad.mend)]


async def _api(name: str, provider: Provider, environ: Mapping[str, str], used: bool) -> list[Finding]:
    key = key_of(provider, environ)
    if key is None:
        lacks, mend = no_key(provider)
        return [Finding(not used, f"{name}: no key ({lacks}), so nothing can be ordered there", mend)]
    service = api_of(provider, key, environ)
    try:
        answer = await service.send(provider.probe())
    except (NotSent, Unanswered) as lost:
        base = redact(base_of(provider, environ))
        mend = f"check the network, HTTPS_PROXY, and {provider.caps.base_variable} if it is set"
        return [Finding(False, f"{name}: {base} is not reached: {lost}", mend)]
    finally:
        await service.close()
    return [_heard(name, provider, answer, environ), *_clock(name, answer)]


def _heard(name: str, provider: Provider, answer: Answer, environ: Mapping[str, str]) -> Finding:
    """What the answer says of the key and of the address. A page of something in between does not count."""
    if answer.status in (401, 403):
        return Finding(False, f"{name}: the key is refused (HTTP {answer.status})", preflight.key_mend(provider))
    why = provider.probed(answer)
    if not why:
        return Finding(True, f"{name}: reached" + (", the key is taken" if provider.caps.variables else ""))
    mend = "try again later; if it stays so, look at the provider's status page"
    if provider.caps.base_variable in environ:
        mend += f" and at {provider.caps.base_variable}"
    told = "" if why == f"HTTP {answer.status}" else f": {why}"
    return Finding(False, f"{name}: reached, but its answer is of no use (HTTP {answer.status}){told}", mend)


def _clock(name: str, answer: Answer) -> list[Finding]:
    """This machine's clock against the answer's, which is told in whole seconds and was on its way for a moment."""
    try:
        off = time.time() - parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return []
    if abs(off) < CLOCK_S:
        return [Finding(True, f"clock: goes with {name}'s")]
    side = "ahead of" if off > 0 else "behind"
    mend = "set this machine's clock (NTP): signed callbacks and the time in which an order may be repeated hang on it"
    return [Finding(False, f"clock: {duration(abs(off))} {side} {name}'s", mend)]


async def _published(settings: config.Config, environ: Mapping[str, str], used: set[str]) -> list[Finding]:
    """Publishes a tiny picture and reads it back as a stranger would."""
    publisher = open_publisher(settings.publish, settings.root)
    if publisher is None:
        ways = {name: p.images(settings.settings.get(name, Settings()), False) for name, p in BUILT_IN.items()}
        lack = [name for name, way in ways.items() if way == "url"]
        if not lack:
            return [Finding(True, "publish: not set, and not needed: frames go inside the requests")]
        return [Finding(True, f"publish: not set, and data_uri is false, so {' and '.join(lack)} gets no frames")]
    downloads = Downloads(trusted_urls(environ), proxy=http.proxy_for("https://", environ))
    try:
        why = await unreadable(publisher, downloads, provider_hosts(environ))
    finally:
        await downloads.close()
    if why is None:
        return [Finding(True, f"publish: a frame put into {publisher.where} can be fetched back")]
    mend = f"publish.public_url must show what lies in {publisher.where}, over https, to anybody"
    return [Finding(False, f"publish: a frame cannot be fetched back: {why}", mend)]


# -- the paid probe ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidProbe:
    """The cheapest order, to be sent twice with one key of idempotency. Made by `paid_probe`."""

    provider: str
    """Whom it is sent to, as people write the name."""
    cost: Price
    """What one clip costs: twice that where the key is not honoured."""
    _provider: Provider = field(repr=False)
    _key: tuple[str, str] = field(repr=False)
    _environ: Mapping[str, str] = field(repr=False)

    def send(self) -> Finding:
        """Spends the money: whoever calls this has confirmed it. Blocks."""
        return asyncio.run(_probe(self._provider, self._key, self._environ))


def paid_probe(path: str | os.PathLike[str] = ".", *, environ: Mapping[str, str] = os.environ) -> PaidProbe:
    """The probe of the first provider that says that it gives the same task for the same order, with what it costs;
    nothing is sent yet. Raises UsageError where its key is not set."""
    settings = config.load(_root(_start(path)), environ)
    provider = next(p for p in BUILT_IN.values() if _replays(p))
    caps = provider.caps
    key = key_of(provider, environ)
    if key is None:
        variables = " and ".join(caps.variables)
        raise UsageError(f"the paid probe needs {variables}", f"export {variables}=…")
    cost = price.of(provider.name, PROBE.resolution, False, PROBE.duration, settings.prices, caps.shipped)
    return PaidProbe(provider=caps.title, cost=cost, _provider=provider, _key=key, _environ=environ)


def _replays(provider: Provider) -> bool:
    return provider.caps.paid and provider.caps.replay_s is not None and provider.find(NOKEY, 1) is None


NOKEY = Key("0" * 64)
PROBE = Shot(
    id=ShotId("probe"), index=0, prompt="A still grey wall.", duration=3, resolution="720p", aspect_ratio="16:9"
)


async def _probe(provider: Provider, api_key: tuple[str, str], environ: Mapping[str, str]) -> Finding:
    title = provider.caps.title
    order = provider.submit(PROBE, {}, Settings(), Key(of_bytes(secrets.token_bytes(32))), 1)
    service = api_of(provider, api_key, environ)
    tasks: list[Accepted] = []
    try:
        while len(tasks) < 2:
            answer = provider.accepted(await service.send(order, paid=True))
            if not isinstance(answer, Accepted):
                break
            tasks.append(answer)
    except (NotSent, Unanswered) as lost:
        which = f"its repetition (task {tasks[0].task} was bought)" if tasks else "the order"
        return Finding(False, f"probe: no answer to {which}: {lost}", f"look at {title}'s console before you try again")
    finally:
        await service.close()
    if not tasks:
        why = getattr(answer, "message", "") or "it is busy with another order of this key"
        return Finding(False, f"probe: {title} did not take the order: {why}", "mend that, and try again")
    task = tasks[0].task
    if len(tasks) == 1:
        found = f"task {task}, and then: {getattr(answer, 'message', '') or 'the first is still being taken'}"
    elif tasks[1].task != task:
        found = f"two tasks: {task} and {tasks[1].task}"
    elif not tasks[1].replayed:
        found = f"task {task}, not marked as a replay"
    else:
        return Finding(True, f"probe: the same Idempotency-Key twice is one task, marked as a replay (task {task})")
    mend = "do not trust lost answers on this account: buy from another seller, or resolve doubts by hand"
    return Finding(False, f"probe: the same Idempotency-Key twice gave {found}", mend)
