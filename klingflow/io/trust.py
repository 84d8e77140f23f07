"""How much a runner and a record are trusted: a store that is only read, and records that carry a signature.

Both are stores around a store. A signature is an HMAC-SHA256 over the record's name and bytes, so that a record that
was changed, or put under another name, is found; whoever has no key can write none. It is the record's last field, and
stays out of the bytes that `read` gives:

     "signature": "KEYID:64 hex digits"
    }

Keys come from the environment alone: the first signs, all of them are believed, so a new key is put in front and the
old one stays until nothing that it signed is needed any more.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from klingflow.core.errors import StoreError, UsageError
from klingflow.core.model import Digest
from klingflow.core.redact import register
from klingflow.io.store import Store

KEYS = "KLINGFLOW_STORE_KEYS"
SIGNED = "KLINGFLOW_STORE_SIGNED"
READONLY = "KLINGFLOW_STORE_READONLY"
LEAST_SECRET = 32
"""Characters of a key: 16 random bytes in hex, the least that HMAC-SHA256 should have."""

_RECORDS = ("clips/", "films/", "ledger/")
_END = b"\n}\n"
_SIGNATURE = re.compile(rb',\n "signature": "([A-Za-z0-9_-]{1,32}):([0-9a-f]{64})"\n}\n\Z')
_LONGEST = 160
"""Bytes of the longest signature with all that is around it."""
_KEY = re.compile(r"([A-Za-z0-9_-]{1,32}):(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What the environment says of a store."""

    keys: Mapping[str, bytes]
    """By id, the one that signs first; empty where records are neither signed nor verified."""
    demanded: bool = False
    """Whether a record without a signature is refused."""
    read_only: bool = False


def of(environ: Mapping[str, str]) -> Trust:
    """Reads KLINGFLOW_STORE_KEYS ("2026b:SECRET 2026a:SECRET"), KLINGFLOW_STORE_SIGNED=1 and
    KLINGFLOW_STORE_READONLY=1. Raises UsageError for what cannot be meant."""
    keys: dict[str, bytes] = {}
    for word in environ.get(KEYS, "").replace(",", " ").split():
        found = _KEY.fullmatch(word)
        name, secret = found.groups() if found else ("", word)
        register(secret)
        if not name:
            mend = f"export {KEYS}=2026a:$(openssl rand -hex 32)"
            raise UsageError(f"{KEYS} holds a word that is not ID:SECRET", mend)
        if len(secret) < LEAST_SECRET:
            what = f"the key {name} of {KEYS} is shorter than {LEAST_SECRET} characters: it could be guessed"
            raise UsageError(what, "make one with: openssl rand -hex 32")
        if name in keys:
            raise UsageError(f"{KEYS} names the key {name} twice", "give each key an id of its own")
        keys[name] = secret.encode()
    demanded = _switch(environ, SIGNED)
    if demanded and not keys:
        raise UsageError(f"{SIGNED} demands signed records, and no key is there to verify them", f"set {KEYS}")
    return Trust(keys=keys, demanded=demanded, read_only=_switch(environ, READONLY))


def _switch(environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(name, "")
    if value not in ("", "0", "1"):
        raise UsageError(f"{name} is '{value}'", "set it to 1, or to 0")
    return value == "1"


def guarded(store: Store, trust: Trust) -> Store:
    """The store as this runner may use it."""
    if trust.keys:
        store = SignedStore(store, trust.keys, demanded=trust.demanded)
    return ReadOnlyStore(store) if trust.read_only else store


def signatures(store: Store) -> Mapping[str, int]:
    """How many records were read through a store, by the id of the key that signed them; "" counts those without a
    signature. Empty where none is verified."""
    while isinstance(store, _Around):
        if isinstance(store, SignedStore):
            return dict(store.seen)
        store = store._inner
    return {}


class _Around:
    """A store that does all as the one inside it does."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.where = inner.where
        self.folder = inner.folder

    @property
    def sets_aside(self) -> bool:
        return self._inner.sets_aside

    @sets_aside.setter
    def sets_aside(self, value: bool) -> None:
        self._inner.sets_aside = value

    def read(self, name: str) -> bytes | None:
        return self._inner.read(name)

    def list(self, prefix: str, most: int | None = None) -> Iterator[str]:
        return self._inner.list(prefix, most)

    def ready(self) -> None:
        self._inner.ready()

    def create(self, name: str, data: bytes) -> bool:
        return self._inner.create(name, data)

    def put(self, file: Path, *, move: bool = False) -> Digest:
        return self._inner.put(file, move=move)

    def blob(self, digest: Digest) -> Path:
        return self._inner.blob(digest)

    def holds(self, digest: Digest) -> bool:
        return self._inner.holds(digest)

    def verify(self, digest: Digest) -> int:
        return self._inner.verify(digest)

    def written_s(self, digest: Digest) -> float | None:
        return self._inner.written_s(digest)

    def delete(self, name: str) -> None:
        self._inner.delete(name)


class SignedStore(_Around):
    """Signs every record of the ledger and of clips as it is written, and verifies it as it is read."""

    def __init__(self, inner: Store, keys: Mapping[str, bytes], *, demanded: bool) -> None:
        super().__init__(inner)
        self._keys = keys
        self._demanded = demanded
        self.seen: Counter[str] = Counter()
        """Records that were read, by the id of the key that signed them; "" counts those without a signature."""

    def read(self, name: str) -> bytes | None:
        """As ever. Raises StoreError where the signature is wrong, or missing and demanded, or made with a key that is
        not known here."""
        data = self._inner.read(name)
        if data is None or not name.startswith(_RECORDS):
            return data
        found = _SIGNATURE.search(data, max(0, len(data) - _LONGEST))
        if found is None:
            if self._demanded:
                raise self._refused(name, f"has no signature, and {SIGNED} demands one")
            self.seen[""] += 1
            return data
        key, signature = found[1].decode(), found[2].decode()
        if key not in self._keys:
            raise self._refused(name, f"is signed with the key '{key}', which {KEYS} does not name")
        bare = data[: found.start()] + _END
        if not hmac.compare_digest(signature, _sign(self._keys[key], name, bare)):
            raise self._refused(name, f"was changed after it was signed with the key '{key}'")
        self.seen[key] += 1
        return bare

    def create(self, name: str, data: bytes) -> bool:
        if not name.startswith(_RECORDS):
            return self._inner.create(name, data)
        key, secret = next(iter(self._keys.items()))
        assert data.endswith(_END)  # as io.ledger writes all of them
        field = f',\n "signature": "{key}:{_sign(secret, name, data)}"'.encode()
        return self._inner.create(name, data[: -len(_END)] + field + _END)

    def _refused(self, name: str, why: str) -> StoreError:
        return StoreError(
            f"{name} in {self.where} {why}: it is not believed",
            "find out who wrote it; bring the good file back from a backup, or name its key",
        )


def _sign(secret: bytes, name: str, data: bytes) -> str:
    total = hmac.new(secret, digestmod=hashlib.sha256)
    total.update(f"klingflow record\n{name}\n".encode())
    total.update(data)
    return total.hexdigest()


class ReadOnlyStore(_Around):
    """Refuses every write, so that a job which is not trusted (a pull request's) cannot change what others paid for."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.sets_aside = False

    def ready(self) -> None:
        raise self._refused("write to")

    def create(self, name: str, data: bytes) -> bool:
        raise self._refused(f"write {name} to")

    def put(self, file: Path, *, move: bool = False) -> Digest:
        """The digest of a file that is there already. Raises StoreError for any other."""
        with file.open("rb") as opened:
            digest = Digest(hashlib.file_digest(opened, "sha256").hexdigest())
        if self.holds(digest):
            return digest
        raise self._refused(f"keep {file.name} in")

    def delete(self, name: str) -> None:
        raise self._refused(f"delete {name} from")

    def _refused(self, doing: str) -> StoreError:
        return StoreError(
            f"cannot {doing} the store {self.where}: {READONLY} is set, and this runner may only read it",
            f"unset {READONLY} where the runner is trusted, or set KLINGFLOW_STORE to a store of its own",
        )
