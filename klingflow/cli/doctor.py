"""`klingflow doctor`: is everything there that a run needs? Says all that is wrong at once, and how to mend it.

Costs nothing, but for `--paid-probe`: that sends HiAPI's cheapest request twice with one Idempotency-Key and demands
the same task and the replay header, because the key is known from the vendor's own clients, not from its API pages.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import struct
import sys
import textwrap
import time
import zlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from klingflow.app.planner import open_project_store
from klingflow.app.project_loader import inspect
from klingflow.core.digest import of_bytes
from klingflow.core.errors import DONE, KlingflowError, SpendRefused, UsageError
from klingflow.core.model import Key, Shot, ShotId, TaskId
from klingflow.core.redact import redact
from klingflow.core.source import Severity, inert, visible
from klingflow.io import api, config, http
from klingflow.io.downloads import Downloads
from klingflow.io.project import find_root
from klingflow.io.service import NotSent, Unanswered
from klingflow.io.storage_factory import open_publisher
from klingflow.io.store import proves_create_only
from klingflow.output.plantext import WIDTH, count, duration
from klingflow.planning import price
from klingflow.providers import PROVIDERS, reading
from klingflow.providers.base import Accepted, Answer, Later, Missing, Provider, Request, Settings

FREE_BYTES = 2 * 2**30
"""Room for some tens of clips: 15 s of 4K take about 100 MB."""
CLOCK_S = 60.0
"""HiAPI refuses callbacks 300 s off; a clock that far out also spoils replay windows."""
NOBODY = TaskId("00000000-0000-0000-0000-000000000000")


@dataclass(frozen=True, slots=True)
class Finding:
    good: bool
    what: str
    mend: str = ""


def doctor(path: str | None = None, paid_probe: bool = False, yes: bool = False) -> int:
    """Exit code 0 when all is well, 2 when something must be mended."""
    start = Path(path or ".")
    if not start.exists():
        raise UsageError(f"there is no {start}", "name a storyboard, or a folder of the project")
    root = find_root(start / "x" if start.is_dir() else start)
    settings = config.load(root, os.environ)
    shots, findings = _shots(start)
    findings += [*_store(start), *_disk(root, settings.store)]
    findings += asyncio.run(_network(settings, os.environ, {shot.provider for shot in shots}))
    findings += _prices(settings, shots)
    _tell(findings)
    if paid_probe:
        probed = asyncio.run(_probe(settings, os.environ, yes))
        _tell(probed)
        findings += probed
    bad = sum(not finding.good for finding in findings)
    print(f"{count(bad, 'thing')} to mend" if bad else "all is well")
    return UsageError.code if bad else DONE


def _tell(findings: Sequence[Finding]) -> None:
    for finding in findings:
        texts = [f"{'ok  ' if finding.good else 'BAD '} {finding.what}"]
        texts += [f"     mend: {finding.mend}"] if finding.mend and not finding.good else []
        for text in texts:
            lines = textwrap.wrap(
                visible(redact(text)),
                WIDTH,
                subsequent_indent="     ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            print(inert("\n".join(lines)))


def _shots(start: Path) -> tuple[list[Shot], list[Finding]]:
    """The shots that are made, of a storyboard that was named."""
    if start.is_dir():
        return [], []
    opened, problems = inspect(str(start), {}, None, os.environ)
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    shots = [shot for film in opened.films for shot in film.shots if shot.clip is None] if opened else []
    if errors:
        return shots, [Finding(False, f"storyboard: {count(errors, 'problem')}", f"klingflow check {start} tells them")]
    return shots, [Finding(True, f"storyboard: {count(len(shots), 'shot')}, no problem")]


def _store(start: Path) -> list[Finding]:
    try:
        place = open_project_store(start)
        if proves_create_only(place):
            return [Finding(True, f"store: {place.where} keeps what is there")]
        return [Finding(False, f"store: {place.where} overwrites silently", "use a store that honours If-None-Match")]
    except KlingflowError as bad:
        return [Finding(False, f"store: {bad.what}", bad.mend)]


def _disk(root: Path, store: str) -> list[Finding]:
    """Room where clips are kept, and where they arrive and the film is put together, if that is another disk."""
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
            what = f"disk of {name}: {free / 2**30:.1f} GiB free"
            out.append(Finding(free >= FREE_BYTES, what, "make room: a clip takes up to 100 MB"))
    return out


_ORDER = ("720p", "1080p", "4K")


def _prices(settings: config.Config, shots: Sequence[Shot]) -> list[Finding]:
    """What a second costs of whatever the storyboard orders; without one, of all that can be ordered."""
    out: list[Finding] = []
    for name, provider in PROVIDERS.items():
        if not provider.caps.paid:
            continue
        sold = provider.caps.resolutions
        wanted = {(s.resolution, s.sound) for s in shots if s.provider == name and s.resolution in sold}
        if not shots:
            wanted = {(resolution, sound) for resolution in sold for sound in (False, True)}
        told: dict[str, list[str]] = {}
        unknown: list[str] = []
        estimated = False
        for resolution, sound in sorted(wanted, key=lambda kind: (_ORDER.index(kind[0]), kind[1])):
            cost = price.of(name, resolution, sound, 1, settings.prices)
            estimated = estimated or cost.estimate
            if cost.amount is None:
                unknown.append(f"{resolution}{' with sound' if sound else ''}")
            else:
                told.setdefault(resolution, []).append(f"{'with sound ' if sound else ''}${cost.amount.normalize():f}")
        if unknown:
            mend = f"state it in klingflow.yaml: `prices: {{{name}: {{1080p: {{silent: 0.112, sound: 0.14}}}}}}`"
            out.append(Finding(False, f"price: of {', '.join(unknown)} at {name} no price is known", mend))
        if told:
            listed = "; ".join(f"{resolution} {', '.join(amounts)}" for resolution, amounts in told.items())
            note = "estimates: Kling's list price, read 2026-11; state your own under `prices`"
            out.append(Finding(True, f"price: a second at {name}: {listed}{f' ({note})' if estimated else ''}"))
    return out


async def _network(settings: config.Config, environ: Mapping[str, str], used: set[str]) -> list[Finding]:
    """The APIs (`used`: those that the storyboard orders from), the clock against theirs, and the way of a frame."""
    out: list[Finding] = []
    for name, provider in PROVIDERS.items():
        if provider.caps.paid:
            try:
                out += await _api(name, provider, environ, name in used)
            except KlingflowError as bad:
                out.append(Finding(False, f"{name}: {bad.what}", bad.mend))
    try:
        return out + await _published(settings, environ, used)
    except KlingflowError as bad:
        return [*out, Finding(False, f"publish: {bad.what}", bad.mend)]


async def _api(name: str, provider: Provider, environ: Mapping[str, str], used: bool) -> list[Finding]:
    variable = provider.caps.key_variable
    key = config.secret(environ, variable)
    if not key:
        what = f"{name}: no key ({variable} is not set), so nothing can be ordered there"
        return [Finding(not used, what, f"export {variable}=…, or rehearse for nothing with --provider animatic")]
    service = _door(provider, key, environ)
    try:
        answer = await service.send(_question(provider))
    except (NotSent, Unanswered) as lost:
        base = redact(environ.get(provider.caps.base_variable) or provider.caps.base_url)
        mend = f"check the network, HTTPS_PROXY, and {provider.caps.base_variable} if it is set"
        return [Finding(False, f"{name}: {base} is not reached: {lost}", mend)]
    finally:
        await service.close()
    return [_heard(name, provider, answer), *_clock(name, answer)]


def _door(provider: Provider, key: str, environ: Mapping[str, str]) -> api.HttpService:
    base = environ.get(provider.caps.base_variable)
    url = base or provider.caps.base_url
    return api.HttpService(url, key, trusted_base=bool(base), proxy=http.proxy_for(url, environ))


def _question(provider: Provider) -> Request:
    """A request that costs nothing and that only a good key is answered: the list, or a task that nobody has."""
    listed = provider.poll_many(1)
    path = "/vendors/klingai/v1/kling-v3-omni/image-to-video/generation"
    return listed if listed is not None else provider.poll(NOBODY, path)


def _heard(name: str, provider: Provider, answer: Answer) -> Finding:
    """What the answer says of the key and of the address. A page of something in between does not count."""
    said = provider.statuses(answer) if provider.poll_many(1) is not None else provider.status(answer, NOBODY)
    if answer.status in (401, 403):
        mend = f"copy {provider.caps.key_variable} again from {name}'s console, and see that the key is not disabled"
        return Finding(False, f"{name}: the key is refused (HTTP {answer.status})", mend)
    # That nobody has this task a 404 says, by the docs; another complaint about the request serves as well.
    complains = answer.status in (400, 422) and provider.poll_many(1) is None and not reading.is_page(answer.body)
    if isinstance(said, Missing | Mapping) or complains:
        return Finding(True, f"{name}: reached, the key is taken")
    why = said.message if isinstance(said, Later) else "about a task that nobody has"
    mend = "try again later; if it stays so, look at the provider's status page"
    if provider.caps.base_variable in os.environ:
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
        if settings.settings["hiapi"].data_uri:
            return [Finding(True, "publish: not set; hiapi gets frames inside the request (data_uri)")]
        return [Finding(True, "publish: not set, so hiapi gets no frames (mulerouter needs none)")]
    picture = _dot()
    downloads = Downloads(
        tuple(url for url in (environ.get("KLINGFLOW_PUBLISH_URL"),) if url),
        proxy=http.proxy_for("https://", environ),
    )
    try:
        url = publisher.put(of_bytes(picture), picture, ".png")
        why = await downloads.reachable(url)
    finally:
        await downloads.close()
    if why is None:
        return [Finding(True, f"publish: a frame put into {publisher.where} can be fetched back")]
    mend = f"publish.public_url must show what lies in {publisher.where}, over https, to anybody"
    return [Finding(False, f"publish: a frame cannot be fetched back: {why}", mend)]


def _dot() -> bytes:
    """A PNG of one pixel: the smallest thing that can be published."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\x80\x80\x80")) + chunk(b"IEND", b"")


async def _probe(settings: config.Config, environ: Mapping[str, str], yes: bool) -> list[Finding]:
    provider = PROVIDERS["hiapi"]
    key = config.secret(environ, provider.caps.key_variable)
    if not key:
        raise UsageError("--paid-probe needs HIAPI_API_KEY", "export HIAPI_API_KEY=…")
    shot = Shot(
        id=ShotId("probe"), index=0, prompt="A still grey wall.", duration=3, resolution="720p", aspect_ratio="16:9",
        provider="hiapi",
    )  # fmt: skip
    cost = price.of("hiapi", shot.resolution, False, shot.duration, settings.prices)
    amount = "an unknown sum" if cost.amount is None else f"about {price.money(cost.amount)}"
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise SpendRefused(f"the probe spends {amount}, and nobody said yes", "run it with --yes")
        sys.stderr.write(f"The probe buys one 3 s clip at HiAPI for {amount}. Only 'yes' is taken as yes: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() != "yes":
            raise SpendRefused("not confirmed; nothing was spent")
    order = provider.submit(shot, {}, Settings(), Key(of_bytes(secrets.token_bytes(32))), 1)
    service = _door(provider, key, environ)
    send: Callable[[], Coroutine[object, object, Answer]] = lambda: service.send(order, paid=True)  # noqa: E731
    task: TaskId | None = None
    try:
        first = provider.accepted(await send())
        if not isinstance(first, Accepted):
            why = getattr(first, "message", "") or "it is busy with another order of this key"
            what = f"probe: HiAPI did not take the order: {why}"
            return [Finding(False, what, "nothing was proved; mend that, and try again")]
        task = first.task
        again = provider.accepted(await send())
    except (NotSent, Unanswered) as lost:
        which = "the order" if task is None else f"its repetition (task {task} was bought)"
        return [Finding(False, f"probe: no answer to {which}: {lost}", "look at HiAPI's console before you try again")]
    finally:
        await service.close()
    same = f"probe: the same Idempotency-Key twice is one task, told as a replay (task {task})"
    if isinstance(again, Accepted) and again.task == task and again.replayed:
        return [Finding(True, same)]
    if isinstance(again, Accepted):
        other = f"two tasks: {task} and {again.task}" if again.task != task else f"task {task}, not told as a replay"
    else:
        other = f"task {task}, and then: {getattr(again, 'message', '') or 'the first is still being taken'}"
    mend = "do not trust lost answers on this account: buy through mulerouter, or resolve doubts by hand"
    return [Finding(False, f"probe: the same Idempotency-Key twice gave {other}", mend)]
