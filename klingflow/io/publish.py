"""How a frame reaches an API that takes only URLs: a place to write it, and the URL under which it is read back.

Knows no provider. A frame's public name is the digest of its bytes: nobody can guess it, and writing it twice is
writing it once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Where frames are published; the `publish` section of klingflow.yaml, or KLINGFLOW_PUBLISH_TO and _URL."""

    to: str
    """A folder that a web server serves (relative to the project root), or s3://…, gs://…, az://…."""
    public_url: str | None = None
    """The URL prefix under which `to` is readable; None on object storage: presigned URLs."""
    expires_s: int = 24 * 3600
    """Life of a presigned URL."""
    trusted: bool = False
    """True where `public_url` came from the environment: then http and loopback are allowed."""
