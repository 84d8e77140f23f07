"""How a frame reaches an API that takes only URLs: a place to write it, and the URL under which it is read back.

Knows no provider, and asks no network whether the URL works (io.client does). A frame's public name is the digest of
its bytes: nobody can guess it, and writing it twice is writing it once.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from klingflow.core.errors import StoreError, UsageError
from klingflow.core.model import Digest
from klingflow.core.redact import redact
from klingflow.io.store import TEMP, missing_extra

LEAST_S = 25 * 3600
"""A lost answer is replayed with the same bytes, and so with the same URL, for up to 24 h (HiAPI's own client, read
2026-11): a presigned URL that dies earlier would spoil the replay. So none is shorter, whatever the project says."""

MOST_S = 7 * 24 * 3600
"""Signature V4 allows no longer life (AWS docs, read 2026-11)."""

TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Where frames are published; the `publish` section of klingflow.yaml, or KLINGFLOW_PUBLISH_TO and _URL."""

    to: str
    """A folder that a web server serves (relative to the project root), or s3://…, gs://…, az://…."""
    public_url: str | None = None
    """The URL prefix under which `to` is readable; None on object storage: presigned URLs."""
    expires_s: int = 24 * 3600
    """Life of a presigned URL; never made shorter than LEAST_S."""
    trusted: bool = False
    """True where `public_url` came from the environment: then plain http is allowed."""


class Publisher(Protocol):
    where: str
    """The place as shown to people."""

    def put(self, digest: Digest, data: bytes, suffix: str) -> str:
        """Publishes an image once and returns a URL that reads it. `suffix` is ".png", ".jpg" or ".webp".

        A presigned URL is made anew each time: its life begins now. Blocks. Raises StoreError.
        """
        ...


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


def checked(digest: Digest, data: bytes, suffix: str) -> str:
    """The public name. What is published under a digest must have it: the API would read another picture."""
    if hashlib.sha256(data).hexdigest() != digest or suffix not in TYPES:
        raise ValueError(f"not an image of the digest {digest[:12]}, or no image: {suffix!r}")
    return f"{digest}{suffix}"


class FolderPublisher:
    """A folder that a web server serves."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.where = redact(str(folder))
        self._folder = folder
        self._prefix = prefix

    def put(self, digest: Digest, data: bytes, suffix: str) -> str:
        name = checked(digest, data, suffix)
        target = self._folder / name
        try:
            if not (target.is_file() and target.stat().st_size == len(data)):
                self._write(target, data)
        except OSError as exc:
            raise StoreError(
                f"cannot publish a frame to {self.where}: {(exc.strerror or str(exc)).lower()}",
                "mend the folder of `publish.to`; nothing was ordered for this shot",
            ) from exc
        return f"{self._prefix}/{name}"

    def _write(self, target: Path, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        temp = self._folder / f"{TEMP}{os.getpid()}-{os.urandom(8).hex()}"
        try:
            with temp.open("xb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o644)  # the web server is another user, whatever our umask
                os.fsync(file.fileno())
            os.replace(temp, target)
        finally:
            temp.unlink(missing_ok=True)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
