"""Opens the places that a project names: its store, and where it publishes frames; a folder or object storage.

Which of the two is decided here alone, and the library for object storage, an extra, is loaded by its users alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from klingflow.core.errors import UsageError
from klingflow.core.redact import redact
from klingflow.io.publish import LEAST_S, MOST_S, FolderPublisher, Publish, Publisher
from klingflow.io.store import FolderStore, Store

CACHE_LIMIT = "KLINGFLOW_CACHE_LIMIT"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(MB|GB|TB)", re.I)
_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def cache_limit(environ: Mapping[str, str]) -> int | None:
    """How many bytes of clips from a remote store may lie on this machine (KLINGFLOW_CACHE_LIMIT, "50 GB"); None: as
    many as there are. Raises UsageError for what is no size."""
    text = environ.get(CACHE_LIMIT, "").strip()
    found = _SIZE.fullmatch(text)
    if text and not found:
        raise UsageError(f"{CACHE_LIMIT} is '{text}', which is no size", "write it like 50GB or 1.5TB")
    return int(Decimal(found[1]) * _UNITS[found[2].upper()]) if found else None


def open_store(place: str, root: Path, cache: Path, limit: int | None = None) -> Store:
    """The store at `place`: a folder (relative to `root`), or s3://bucket/prefix, gs://…, az://….

    `cache` is a local folder for what object storage holds, of at most `limit` bytes but for what is in use. Nothing is
    read, written or connected to here.
    """
    if "://" not in place:
        return FolderStore(root / place)
    try:
        from klingflow.io import objects  # obstore is an extra, and a folder store must not pay for it
    except ModuleNotFoundError as exc:
        raise missing_extra(place) from exc
    return objects.open_objects(place, FolderStore(cache), limit)


def missing_extra(place: str) -> UsageError:
    return UsageError(
        f"{redact(place)} is object storage, and the library for it is not installed",
        "pip install 'klingflow[objects]'",
    )


def open_publisher(settings: Publish | None, root: Path) -> Publisher | None:
    """The publisher that the project asks for; None where it asks for none. Writes and connects to nothing here."""
    if settings is None:
        return None
    prefix = None if settings.public_url is None else _prefix(settings.public_url, settings.trusted)
    if "://" not in settings.to:
        if prefix is None:
            raise UsageError(
                f"frames are published to the folder {settings.to}, and no `public_url` says where it can be read",
                "set `publish.public_url` in klingflow.yaml, or KLINGFLOW_PUBLISH_URL",
            )
        return FolderPublisher(root / settings.to, prefix)
    try:
        from klingflow.io import objects  # obstore is an extra, and few projects publish
    except ModuleNotFoundError as exc:
        raise missing_extra(settings.to) from exc
    if prefix is None and settings.expires_s > MOST_S:
        raise UsageError("`publish.expires` is longer than 7 days: no presigned URL lives so long", "give 7d or less")
    life = timedelta(seconds=max(settings.expires_s, LEAST_S))
    return objects.ObjectPublisher(objects.connect(settings.to), redact(settings.to.rstrip("/")), prefix, life)


def _prefix(url: str, trusted: bool) -> str:
    """The URL without a last slash, or UsageError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port == 0 or parts.username is not None or parts.query or parts.fragment or " " in url:
        raise UsageError(
            f"`public_url` {redact(url)} is not the beginning of a URL",
            "write it like https://frames.example.com/klingflow, without user, query or #",
        )
    if parts.scheme != "https" and not (trusted and parts.scheme == "http"):
        raise UsageError(
            f"`public_url` {redact(url)} is not https",
            "frames are sent to an API that reads them from the internet: serve them by https "
            "(http is allowed for a test, by KLINGFLOW_PUBLISH_URL in the environment)",
        )
    return url.rstrip("/")
