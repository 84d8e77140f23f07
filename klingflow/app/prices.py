"""The prices that a project counts with, and HiAPI's list of them, fetched when somebody asks for it and never else.

The list goes into klingflow.prices.yaml, which is committed: who reviews it sees what changed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from klingflow.app.project_loader import trusted_urls
from klingflow.core.errors import KlingflowError, UsageError
from klingflow.core.redact import redact
from klingflow.io import config, durable, http
from klingflow.io.downloads import Downloads
from klingflow.io.project import PRICE_FILE, Project, find_root
from klingflow.io.service import Broken, Gone
from klingflow.planning import price
from klingflow.providers import PROVIDERS, hiapi, hiapi_prices

LIST_BYTES = 16 * 2**20
"""The list is a seller's whole catalogue; more than this is none."""
_HEADER = """\
# List prices, in USD a second of clip. Written by `klingflow prices --refresh`: review the change, and commit it.
# What klingflow.yaml states under `prices` comes before it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """The price of one second, as a plan counts it."""

    provider: str
    way: str | None
    """image-to-video or text-to-video, where the seller's list tells them apart."""
    resolution: str
    sound: bool
    amount: Decimal | None
    """USD; None where no price is known."""
    basis: str
    """"estimate", or "list price of 2026-11-27"; empty where the project states it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """A list of prices that was fetched and written."""

    path: str
    unclear: tuple[str, ...]
    """Rows that could not be understood, each with why: they are not in the file."""


def prices(path: str | os.PathLike[str] = ".", *, environ: Mapping[str, str] = os.environ) -> tuple[PriceRow, ...]:
    """What a second costs of all that can be ordered, in the project of a storyboard or folder. Raises UsageError where
    the path is not there, StoryboardError for broken settings."""
    settings = config.load(_root(path), environ)
    out = []
    for name, provider in PROVIDERS.items():
        if not provider.caps.paid:
            continue
        ways = hiapi_prices.WAYS if name in settings.listed else (None,)
        for way in ways:
            for resolution in provider.caps.resolutions:
                for sound in (False, True):
                    by_text = way == "text-to-video"
                    shipped, stated = provider.caps.shipped, settings.prices
                    one = price.of(name, resolution, sound, 1, stated, shipped, settings.listed, by_text=by_text)
                    row = PriceRow(
                        provider=name,
                        way=way,
                        resolution=resolution,
                        sound=sound,
                        amount=one.amount,
                        basis=one.basis,
                    )
                    out.append(row)
    return tuple(out)


def refresh_prices(path: str | os.PathLike[str] = ".", *, environ: Mapping[str, str] = os.environ) -> Refreshed:
    """Fetches HiAPI's public list, with no key, and writes what it states into klingflow.prices.yaml of the project, a
    model's row whole or not at all. Raises KlingflowError where it cannot be had, or nothing of it understood: the file
    is then as it was. Blocks."""
    root = _root(path)
    settings = config.load(root, environ)
    base = (environ.get(hiapi.caps.base_variable) or hiapi.caps.base_url).rstrip("/")
    url = base.removesuffix("/v1") + hiapi_prices.PATH
    found, unclear = hiapi_prices.read(asyncio.run(_fetched(url, environ)))
    if not found:
        told = "; ".join(map(redact, unclear))
        mend = f"{PRICE_FILE} is as it was; state what you pay under `prices` in klingflow.yaml"
        raise KlingflowError(f"nothing of the list at {redact(url)} can be understood: {told}", mend)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    listed = {**settings.listed, hiapi.name: {"date": today, "source": redact(url), **found}}
    file = Project(root).to_write(PRICE_FILE)
    try:
        durable.replace(file, _dump(listed).encode())
    except OSError as bad:
        raise UsageError(f"{file} cannot be written: {bad.strerror}", "make the folder writable") from bad
    return Refreshed(path=os.path.relpath(file), unclear=tuple(unclear))


def _root(path: str | os.PathLike[str]) -> Path:
    start = Path(path)
    if not start.exists():
        raise UsageError(f"there is no file or folder '{start}'", "name a storyboard, or a folder of the project")
    return find_root(start / "x" if start.is_dir() else start)


async def _fetched(url: str, environ: Mapping[str, str]) -> bytes:
    downloads = Downloads(trusted_urls(environ), proxy=http.proxy_for("https://", environ))
    try:
        return await downloads.get(url, LIST_BYTES)
    except (Gone, Broken) as bad:
        what = f"the list of prices at {redact(url)} cannot be had: {redact(str(bad))}"
        raise KlingflowError(what, f"try again later; {PRICE_FILE} is as it was") from bad
    finally:
        await downloads.close()


def _dump(listed: Mapping[str, Any]) -> str:
    """The same prices are the same text, and a change of one is a change of one line."""
    out = [_HEADER]
    for provider in sorted(listed):
        out.append(f"{provider}:\n")
        for name, value in listed[provider].items():
            if isinstance(value, str):
                out.append(f'  {name}: "{value}"\n')
                continue
            out.append(f"  {name}:\n")
            for resolution, rates in value.items():
                pairs = ", ".join(f"{kind}: {_plain(rate)}" for kind, rate in rates.items())
                out.append(f"    {resolution}: {{{pairs}}}\n")
    return "".join(out)


def _plain(rate: object) -> str:
    text = f"{Decimal(str(rate)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
