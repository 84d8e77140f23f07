"""Whether a published frame can be read back: tried with a tiny picture before anything is bought."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from io import BytesIO
from ipaddress import ip_address
from urllib.parse import urlsplit

from klingflow.core.digest import of_bytes
from klingflow.core.redact import redact
from klingflow.io.downloads import Downloads
from klingflow.io.publish import Publisher
from klingflow.io.service import Broken, Gone


async def unreadable(publisher: Publisher, downloads: Downloads, other_hosts: Sequence[str] = ()) -> str | None:
    """Why a picture that was published cannot be read under its URL; None where it can, or where this cannot be known.

    It cannot be known where this machine resolves no names at all: not the one of the URL, and none of `other_hosts`
    (the providers' own). Raises StoreError where nothing can be published.
    """
    picture = trial_picture()
    url = await asyncio.to_thread(publisher.put, of_bytes(picture), picture, ".png")
    host = urlsplit(url).hostname or ""
    if not await _resolves(host):
        names = [name for name in other_hosts if not _is_address(name)]
        known = host.endswith(".invalid") or any([await _resolves(name) for name in names])
        return f"{host} is not the name of any server" if known else None
    why = await downloads.reachable(url)
    if why is not None:
        return why
    try:
        found = await downloads.get(url, 65536)
    except (Gone, Broken) as bad:
        return redact(str(bad))
    return None if found == picture else f"{redact(url)} shows something else than what was published"


def trial_picture() -> bytes:
    """A PNG of one grey pixel: the smallest thing that can be published."""
    from PIL import Image

    out = BytesIO()
    Image.new("RGB", (1, 1), (128, 128, 128)).save(out, "PNG")
    return out.getvalue()


async def _resolves(host: str) -> bool:
    try:
        await asyncio.get_running_loop().getaddrinfo(host, 443)
    except (socket.gaierror, UnicodeError):
        return False
    return True


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return host in ("", "localhost")
    return True
