"""Which account of a provider an order was sent from, without keeping the key.

An idempotency key and a task id mean something inside one account at one address alone. So every intent records a
fingerprint: the base URL, and a hash of the API key with a salt of its own, from which the key cannot be read.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    base: str
    """The base URL of the API, without credentials, query or trailing slash."""
    _key: str = field(repr=False)

    def signature(self) -> dict[str, str]:
        """What an intent records."""
        salt = os.urandom(16).hex()
        return {"base": self.base, "salt": salt, "digest": _digest(salt, self._key)}

    def secret_name(self) -> str:
        """A text that no other account has, and from which the key cannot be read."""
        return _digest(self.base, self._key)

    def wrote(self, intent: Mapping[str, object]) -> bool:
        """Whether an intent was certainly recorded from this account; False too where it does not say."""
        match intent.get("account"):
            case {"base": str(base), "salt": str(salt), "digest": str(digest)}:
                return base == self.base and hmac.compare_digest(digest.encode(), _digest(salt, self._key).encode())
        return False


def account(base_url: str, key: str) -> Account:
    parts = urlsplit(base_url)
    host = (parts.hostname or "").lower()
    port = f":{parts.port}" if parts.port is not None else ""
    return Account(base=f"{parts.scheme.lower()}://{host}{port}{parts.path.rstrip('/')}", _key=key)


def _digest(salt: str, key: str) -> str:
    return hashlib.sha256(f"{salt}:{key}".encode()).hexdigest()
