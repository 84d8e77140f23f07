"""The ledger and the clip records: JSON files in the store, each written once.

    ledger/KEY/ATTEMPT.N-KIND.json    one event of a paid task's life (planning.job says which may follow which)
    orders/HASH/KEY.json              which keys were ordered for a storyboard, or as a task: where to look, no evidence
    clips/KEY.json                    what a key bought

Reading is strict where money hangs on it: a file that is torn, foreign or of a newer format is an error that names it,
never a guess. Fields that are not known are ignored. Everything written passes redaction, but what must be sent or
asked for again byte for byte: an intent's body and token, a task's id and where it is asked after. Knows no provider.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from decimal import Decimal, InvalidOperation
from itertools import groupby
from typing import TypeVar

from klingflow.core.errors import StoreError
from klingflow.core.model import ClipFacts, ClipRecord, Digest, Key, TaskId
from klingflow.core.redact import redact
from klingflow.io.store import Store
from klingflow.planning.job import Job, Kind, Record, State, fold

VERSION = 1
INDEXED = "orders/complete.json"
"""That `orders/` names every key of the ledger: written before the first order, or when all of an older ledger was
read."""
_EXACT: Mapping[Kind, frozenset[str]] = {
    **dict.fromkeys(Kind, frozenset()),
    Kind.INTENT: frozenset({"body", "token"}),
    Kind.ACCEPTED: frozenset({"task", "urls"}),
}
"""What redaction may not touch: a paid order could not be found again."""
T = TypeVar("T")


def job(store: Store, key: Key) -> Job:
    """What is known of a key: all its records, folded. Without the bodies of the requests: they may hold inline images,
    megabytes each, and a job is held while its task is made. `whole` has them."""
    return fold(key, [without_body(_record(store, name, key)) for name in store.list(f"ledger/{key}/")])


def whole(store: Store, record: Record) -> Record:
    """The record as it was written: an intent with the body of its request."""
    return _record(store, record.path, record.key)


def record(store: Store, name: str) -> Record:
    """One record by its name, without the body of its request. Raises StoreError for what is none."""
    return without_body(_record(store, name, _key(name)))


def jobs(store: Store, most: int | None = None) -> Iterator[Job]:
    """Every job of the ledger, in the order of their keys; each record is a read. Without the bodies of the requests.

    `most` stops after so many jobs, in no order, and reads no further. Keys are hashes, so any of them are a fair
    sample of all.
    """
    for seen, (key, names) in enumerate(groupby(store.list("ledger/", most), _key)):
        if seen == most:
            return
        yield fold(key, [without_body(_record(store, name, key)) for name in names])


def jobs_of(store: Store, storyboard: str) -> Iterator[Job]:
    """The jobs that were ordered for a storyboard (its path from the project's root), in the order of their keys;
    nothing else is read, but once the whole ledger of a store that has no such index yet."""
    return _indexed(store, ("storyboard", storyboard))


def jobs_with_task(store: Store, task: TaskId) -> Iterator[Job]:
    """As `jobs_of`: the jobs of which an order was accepted as this task."""
    return _indexed(store, ("task", task))


def _indexed(store: Store, which: tuple[str, str]) -> Iterator[Job]:
    if store.read(INDEXED) is None:
        for found in jobs(store):
            if which in _named(found):
                yield found
            with suppress(StoreError):  # it may only be read here
                for name in order_names(found):
                    store.create(name, b"{}\n")
        with suppress(StoreError):
            store.create(INDEXED, b"{}\n")
        return
    for name in store.list(f"{_folder(*which)}/"):
        found = job(store, Key(name.rpartition("/")[2].removesuffix(".json")))
        if which in _named(found):
            yield found


def order_names(found: Job) -> list[str]:
    """The entries of a job in `orders/`."""
    return [f"{_folder(*which)}/{found.key}.json" for which in _named(found)]


def _folder(kind: str, value: str) -> str:
    return f"orders/{hashlib.sha256(f'{kind} {value}'.encode()).hexdigest()[:32]}"


def _named(found: Job) -> list[tuple[str, str]]:
    """What a job is looked for by."""
    return list(dict.fromkeys(pair for record in found.records for pair in _names_of(record)))


def _names_of(record: Record) -> list[tuple[str, str]]:
    name = {Kind.INTENT: "storyboard", Kind.ACCEPTED: "task"}.get(record.kind)
    value = record.detail.get(name) if name else None
    return [(name, value)] if name and isinstance(value, str) else []


def without_body(record: Record) -> Record:
    """The record without the body of its request."""
    return replace(record, detail={name: value for name, value in record.detail.items() if name != "body"})


def write(store: Store, record: Record) -> bool:
    """Writes one record; False where another runner wrote the record of that name first. Durable either way. Bytes in
    its detail are written as Base64, and read as that text."""
    entries = [f"{_folder(*which)}/{record.key}.json" for which in _names_of(record)]
    if record.kind is Kind.INTENT:
        # The index first: whoever looks for a storyboard's orders finds each one that may have been paid for.
        if store.read(INDEXED) is None and next(store.list("ledger/"), None) is None:
            store.create(INDEXED, b"{}\n")
        for name in entries:
            store.create(name, b"{}\n")
    detail = {name: value if name in _EXACT[record.kind] else _clean(value) for name, value in record.detail.items()}
    data = {
        "version": VERSION,
        "key": record.key,
        "attempt": record.attempt,
        "n": record.n,
        "kind": str(record.kind),
        "at_ms": record.at_ms,
        # No two writers ever write the same bytes: so a store whose answer was lost can tell whose they are.
        "nonce": os.urandom(8).hex(),
        "detail": detail,
    }
    written = store.create(f"ledger/{record.key}/{record.name}", _dump(data))
    if record.kind is Kind.ACCEPTED:
        with suppress(StoreError):  # the task is on record, and that counts
            for name in entries:
                store.create(name, b"{}\n")
    return written


def clip(store: Store, key: Key) -> ClipRecord | None:
    """What the key bought; None while it bought nothing."""
    return _read(store, f"clips/{key}.json", lambda found: _clip(found, key))


def unrecorded(store: Store, job: Job) -> Digest | None:
    """The clip that a job says was stored, where the store has its bytes: what `clip` should know, and does not where
    its record was lost. None also for a clip that a person took in, of which the ledger does not say all."""
    stored = job.last(Kind.STORED)
    if stored is None or job.state is not State.STORED or job.taken_in is not None:
        return None
    digest = Digest(str(stored.detail.get("clip")))
    with suppress(ValueError):  # no digest
        return digest if store.holds(digest) else None
    return None


def keep(store: Store, record: ClipRecord) -> ClipRecord:
    """Writes what a key bought, once; returns what is there afterwards, which may be another runner's."""
    data = {
        "version": VERSION,
        "key": record.key,
        "clip": asdict(record.facts),
        "provider": redact(record.provider),
        "model": redact(record.model),
        "task": record.task,
        "cost": None if record.cost is None else str(record.cost),
        "basis": record.basis,
        "date": record.date,
        "parts": _clean(record.parts),
        "inputs": _clean(record.inputs),
        **({"taken_in": redact(record.taken_in)} if record.taken_in else {}),
    }
    store.create(f"clips/{record.key}.json", _dump(data))
    kept = clip(store, record.key)
    if kept is None:
        raise StoreError(
            f"clips/{record.key}.json was written to {store.where} and is not there",
            "look at the storage; run again, the task can be collected again",
        )
    return kept


def _dump(data: Mapping[str, object]) -> bytes:
    return (json.dumps(data, ensure_ascii=False, sort_keys=True, indent=1, default=_base64) + "\n").encode()


def _base64(value: object) -> str:
    """How bytes are written: only as the file is, because a request with an image inside has megabytes of them."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"{type(value).__name__} is not JSON")


def _clean(value: object) -> object:
    """The value as JSON, with every text in it redacted."""
    match value:
        case str():
            return redact(value)
        case Mapping():
            return {str(name): _clean(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_clean(inner) for inner in value]
        case Decimal():
            return str(value)
    return value


def _key(name: str) -> Key:
    return Key(name.split("/")[1])


def _record(store: Store, name: str, key: Key) -> Record:
    record = _read(store, name, _as_record)
    if record is None:
        raise StoreError(f"{name} was listed in {store.where} and is not there", "nothing may delete from the ledger")
    if f"ledger/{record.key}/{record.name}" != name or record.key != key:
        raise _unreadable(store, name, f"it says that it is ledger/{record.key}/{record.name}")
    return record


def _as_record(found: Mapping[str, object]) -> Record:
    return Record(
        key=Key(_text(found, "key")),
        attempt=_whole(found, "attempt"),
        n=_whole(found, "n"),
        kind=Kind(_text(found, "kind")),
        at_ms=_whole(found, "at_ms"),
        detail=_mapping(found, "detail"),
    )


def _clip(found: Mapping[str, object], key: Key) -> ClipRecord:
    if found["key"] != key:
        raise ValueError(f"it is of the key {found['key']}")
    facts = _mapping(found, "clip")
    task, cost, audio = found["task"], found["cost"], facts["audio"]
    if not isinstance(audio, bool) or not isinstance(task, str | None) or not isinstance(cost, str | None):
        raise TypeError("a field has the wrong type")
    return ClipRecord(
        key=key,
        facts=ClipFacts(
            digest=Digest(_text(facts, "digest")),
            bytes=_whole(facts, "bytes"),
            width=_whole(facts, "width"),
            height=_whole(facts, "height"),
            frames=_whole(facts, "frames"),
            duration=_text(facts, "duration"),
            rate=_text(facts, "rate"),
            audio=audio,
        ),
        provider=_text(found, "provider"),
        model=_text(found, "model"),
        task=None if task is None else TaskId(task),
        cost=None if cost is None else Decimal(cost),
        basis=str(found.get("basis") or ""),
        date=_text(found, "date"),
        parts=_mapping(found, "parts"),
        inputs={role: Digest(str(digest)) for role, digest in _mapping(found, "inputs").items()},
        taken_in=_text(found, "taken_in") if "taken_in" in found else "",
    )


def _read(store: Store, name: str, read: Callable[[Mapping[str, object]], T]) -> T | None:
    """A file by `read`; None where there is none."""
    try:
        data = store.read(name)
    except ValueError:
        raise StoreError(f"{name} in {store.where} is no object of klingflow's", "remove it") from None
    if data is None:
        return None
    try:
        text = data.decode()
        del data  # an intent with an image inside has megabytes, and is read again before its order leaves
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise _unreadable(store, name, "it is not JSON, or cut short") from None
    version = found.get("version") if isinstance(found, dict) else None
    if not isinstance(version, int):
        raise _unreadable(store, name, "it is no record of klingflow's")
    if version > VERSION:
        raise StoreError(
            f"{name} in {store.where} was written by a newer klingflow (version {version}; this one knows {VERSION})",
            "upgrade klingflow; nothing was touched",
        )
    try:
        return read(found)
    except (KeyError, ValueError, TypeError, InvalidOperation) as exc:
        raise _unreadable(store, name, f"no field {exc}" if isinstance(exc, KeyError) else str(exc)) from exc


def _unreadable(store: Store, name: str, why: str) -> StoreError:
    return StoreError(
        f"{name} in {store.where} cannot be read: {redact(why)}",
        "bring the file back from a backup; klingflow does not guess what was paid for",
    )


def _text(found: Mapping[str, object], name: str) -> str:
    value = found[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is not a text")
    return value


def _whole(found: Mapping[str, object], name: str) -> int:
    value = found[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is not a whole number")
    if not 0 <= value < 2**53:
        raise ValueError(f"{name} is out of range")
    return value


def _mapping(found: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = found[name]
    if not isinstance(value, dict):
        raise TypeError(f"{name} is not a mapping")
    return value
