"""How a frame or a video reaches an API that takes only URLs: a place to write it, and the URL under which it is read.

Knows no provider, and asks no network whether the URL works (io.downloads does). A frame's public name is the digest of
its bytes: nobody can guess it, and writing it twice is writing it once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from klingflow.core.errors import StoreError
from klingflow.core.model import Digest
from klingflow.core.redact import redact
from klingflow.io import durable

LEAST_S = 25 * 3600
"""A lost answer is replayed with the same bytes, and so with the same URL, for up to 24 h (HiAPI's own client, read
2026-11): a presigned URL that dies earlier would spoil the replay. So none is shorter, whatever the project says."""

MOST_S = 7 * 24 * 3600
"""Signature V4 allows no longer life (AWS docs, read 2026-11)."""

TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
}


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
        """Publishes an image or a video once and returns a URL that reads it. `suffix` is one of TYPES.

        A presigned URL is made anew each time: its life begins now. Blocks. Raises StoreError.
        """
        ...


def checked(digest: Digest, data: bytes, suffix: str) -> str:
    """The public name. What is published under a digest must have it: the API would read another picture."""
    if hashlib.sha256(data).hexdigest() != digest or suffix not in TYPES:
        raise ValueError(f"not a file of the digest {digest[:12]}, or neither image nor video: {suffix!r}")
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
                self._folder.mkdir(parents=True, exist_ok=True)
                durable.replace(target, data)  # readable by the web server, which is another user
        except OSError as exc:
            raise StoreError(
                f"cannot publish a frame to {self.where}: {(exc.strerror or str(exc)).lower()}",
                "mend the folder of `publish.to`; nothing was ordered for this shot",
            ) from exc
        return f"{self._prefix}/{name}"
