"""`klingflow doctor`: is everything there that a run needs? Says what is wrong and how to mend it.

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
import time
import zlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from klingflow.cli.planning import open_project_store
from klingflow.core.digest import of_bytes
from klingflow.core.errors import DONE, KlingflowError, SpendRefused, UsageError
from klingflow.core.model import Key, Shot, ShotId, TaskId
from klingflow.core.redact import redact
from klingflow.io import client, config
from klingflow.io.files import find_root
from klingflow.io.places import open_publisher
from klingflow.io.service import NotSent, Unanswered
from klingflow.io.store import proves_create_only
from klingflow.planning import price
from klingflow.providers import TABLE
from klingflow.providers.base import Accepted, Answer, Provider, Request, Settings

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
    root = find_root(start / "x" if start.is_dir() else start)
    settings = config.load(root, os.environ)
    findings = [*_store(start), _disk(root), *asyncio.run(_apis(settings, os.environ)), *_prices(settings)]
    if paid_probe:
        findings += asyncio.run(_probe(os.environ, yes))
    for finding in findings:
        print(redact(f"{'ok  ' if finding.good else 'BAD '} {finding.what}"))
        if finding.mend and not finding.good:
            print(f"     mend: {finding.mend}")
    return DONE if all(finding.good for finding in findings) else UsageError.code


def _store(start: Path) -> list[Finding]:
    try:
        place = open_project_store(start)
        if proves_create_only(place):
            return [Finding(True, f"store: {place.where} keeps what is there")]
        return [Finding(False, f"store: {place.where} overwrites silently", "use a store that honours If-None-Match")]
    except KlingflowError as bad:
        return [Finding(False, f"store: {bad.what}", bad.mend)]


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    return Finding(free >= FREE_BYTES, f"disk: {free / 2**30:.1f} GiB free", "make room: a clip takes up to 100 MB")


def _prices(settings: config.Config) -> list[Finding]:
    out = []
    for name in ("hiapi", "mulerouter"):
        cost = price.of(name, "1080p", False, 5, settings.prices)
        kind = (
            "an estimate: Kling's list price of 2026-11; state your own under `prices`" if cost.estimate else "stated"
        )
        out.append(Finding(cost.amount is not None, f"price: 5 s of 1080p at {name} {cost.amount} USD ({kind})"))
    return out


async def _apis(settings: config.Config, environ: Mapping[str, str]) -> list[Finding]:
    out: list[Finding] = []
    for name, provider in TABLE.items():
        if not provider.caps.paid:
            continue
        key = config.secret(environ, provider.caps.key_variable)
        if not key:
            out.append(Finding(True, f"{name}: no key ({provider.caps.key_variable} is not set), so it is not used"))
            continue
        service = _door(provider, key, environ)
        try:
            answer = await service.send(_question(provider))
            out += _heard(name, provider, answer)
        except (NotSent, Unanswered) as lost:
            out.append(Finding(False, f"{name}: not reached: {lost}", "check the network, a proxy, the base URL"))
        finally:
            await service.close()
    out += await _published(settings, environ)
    return out


def _door(provider: Provider, key: str, environ: Mapping[str, str]) -> client.HttpService:
    base = environ.get(provider.caps.base_variable)
    url = base or provider.caps.base_url
    return client.HttpService(url, key, trusted_base=bool(base), proxy=client.proxy_for(url, environ))


def _question(provider: Provider) -> Request:
    """A request that costs nothing and that only a good key is answered: the list, or a task that nobody has."""
    listed = provider.poll_many(1)
    path = "/vendors/klingai/v1/kling-v3-omni/image-to-video/generation"
    return listed if listed is not None else provider.poll(NOBODY, path)


def _heard(name: str, provider: Provider, answer: Answer) -> list[Finding]:
    if answer.status in (401, 403):
        return [Finding(False, f"{name}: the key is refused ({answer.status})", f"check {provider.caps.key_variable}")]
    if answer.status not in (200, 404):
        return [
            Finding(False, f"{name}: answers {answer.status}", "look at the provider's status page, try again later")
        ]
    out = [Finding(True, f"{name}: reached, the key is taken")]
    try:
        off = parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
    except (KeyError, ValueError, TypeError):
        return out
    return [
        *out,
        Finding(abs(off) < CLOCK_S, f"clock: {abs(off):.0f} s off {name}'s", "set this machine's clock (NTP)"),
    ]


async def _published(settings: config.Config, environ: Mapping[str, str]) -> list[Finding]:
    """Publishes a tiny picture and reads it back as a stranger would."""
    publisher = open_publisher(settings.publish, settings.root)
    if publisher is None:
        return [Finding(True, "publish: not set, so hiapi gets no frames (mulerouter needs none)")]
    picture = _dot()
    downloads = client.Downloads(tuple(url for url in (environ.get("KLINGFLOW_PUBLISH_URL"),) if url))
    try:
        url = publisher.put(of_bytes(picture), picture, ".png")
        why = await downloads.reachable(url)
    except KlingflowError as bad:
        return [Finding(False, f"publish: {bad.what}", bad.mend)]
    finally:
        await downloads.close()
    what = "publish: a frame can be fetched back" if why is None else f"publish: {why}"
    return [Finding(why is None, what, "publish.public_url must show what publish.to holds, over https, to anybody")]


def _dot() -> bytes:
    """A PNG of one pixel: the smallest thing that can be published."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\x80\x80\x80")) + chunk(b"IEND", b"")


async def _probe(environ: Mapping[str, str], yes: bool) -> list[Finding]:
    provider = TABLE["hiapi"]
    key = config.secret(environ, provider.caps.key_variable)
    if not key:
        raise UsageError("--paid-probe needs HIAPI_API_KEY", "export HIAPI_API_KEY=…")
    shot = Shot(
        id=ShotId("probe"), index=0, prompt="A still grey wall.", duration=3, resolution="720p", aspect_ratio="16:9",
        provider="hiapi",
    )  # fmt: skip
    cost = price.of("hiapi", shot.resolution, False, shot.duration, {})
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
    try:
        first = provider.accepted(await send())
        if not isinstance(first, Accepted):
            return [
                Finding(False, f"probe: HiAPI did not take the order: {first}", "nothing was proved; try again later")
            ]
        again = provider.accepted(await send())
    except (NotSent, Unanswered) as lost:
        return [Finding(False, f"probe: no answer: {lost}", "look at HiAPI's console before you try again")]
    finally:
        await service.close()
    proved = isinstance(again, Accepted) and again.task == first.task and again.replayed
    return [
        Finding(
            proved,
            f"probe: the same key {'gave the same task, replayed' if proved else f'gave {again}'} (task {first.task})",
            "do not trust lost answers on this account: buy through mulerouter, or resolve doubts by hand",
        )
    ]
