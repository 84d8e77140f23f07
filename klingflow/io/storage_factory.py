"""Opens the places that a project names: its store, and where it publishes frames; a folder or object storage.

Which of the two is decided here alone, and the library for object storage, an extra, is loaded by its users alone.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from klingflow.core.errors import UsageError
from klingflow.core.redact import redact
from klingflow.io.publish import LEAST_S, MOST_S, FolderPublisher, Publish, Publisher
from klingflow.io.store import FolderStore, Store


def open_store(place: str, root: Path, cache: Path) -> Store:
    """The store at `place`: a folder (relative to `root`), or s3://bucket/prefix, gs://…, az://….

    `cache` is a local folder for what object storage holds. Nothing is read, written or connected to here.
    """
    if "://" not in place:
        return FolderStore(root / place)
    try:
        from klingflow.io import objects  # obstore is an extra, and a folder store must not pay for it
    except ModuleNotFoundError as exc:
        raise missing_extra(place) from exc
    return objects.open_objects(place, FolderStore(cache))


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
