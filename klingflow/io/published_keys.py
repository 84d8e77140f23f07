"""The public keys with which a provider signs its callbacks, read from where it publishes them and kept fresh.

They are fetched without any key of ours. Where they cannot be had, callbacks are not believed, and polls go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager, suppress

from klingflow.core.redact import redact
from klingflow.io.downloads import Downloads
from klingflow.io.service import Broken, Gone

BYTES = 64 * 1024
FRESH_S = 3600.0
"""fal.ai asks to keep its keys for no longer than a day (docs, webhooks, read 2026-11)."""
AGAIN_S = 60.0
"""After a fetch that failed."""
NONE = "{}"
"""A set without keys: nothing that is signed is believed."""


@asynccontextmanager
async def kept(
    urls: Mapping[str, str],
    downloads: Downloads,
    keys: MutableMapping[str, str],
    notify: Callable[[str], None],
    *,
    fresh_s: float = FRESH_S,
    again_s: float = AGAIN_S,
) -> AsyncIterator[None]:
    """Puts the text of each provider's key set into `keys`, by its name, and keeps it fresh until the block is left.

    `notify` gets a sentence for a person where a set cannot be fetched, once each.
    """
    told: set[str] = set()

    async def fetch(name: str, url: str) -> float:
        try:
            keys[name] = (await downloads.get(url, BYTES)).decode()
        except (Gone, Broken, ValueError) as bad:
            keys.setdefault(name, NONE)
            if name not in told:
                told.add(name)
                why = redact(str(bad)).removesuffix(".")
                notify(f"callbacks of {name} are not believed: its keys at {redact(url)} cannot be had ({why})")
            return again_s
        return fresh_s

    async def refresh(name: str, url: str, wait_s: float) -> None:
        while True:
            await asyncio.sleep(wait_s)
            wait_s = await fetch(name, url)

    tasks = [asyncio.create_task(refresh(name, url, await fetch(name, url))) for name, url in urls.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
