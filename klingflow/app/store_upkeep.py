"""What a person does with a store besides running from it: look into it, copy it, and remove what no film needs."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from klingflow.app import planner
from klingflow.core.errors import UsageError
from klingflow.core.model import ClipRecord, Digest, Key
from klingflow.io import git, ledger
from klingflow.io.project import find_root
from klingflow.io.store import Store, blob_name, is_valid, removed_name
from klingflow.planning.job import Job

YOUNG_DAYS = 14
"""Blobs that are not as old are never removed: the run that made them may not be merged yet."""
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
_BLOB = re.compile(r"blobs/([0-9a-f]{2})/([0-9a-f]{62})")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredClip:
    """One clip of a store: what a key bought."""

    key: str
    clip: str
    """The SHA-256 of its bytes."""
    provider: str
    model: str
    seconds: Decimal
    bytes: int
    cost: Decimal | None
    """USD; None where it is not known."""
    date: str
    here: bool
    """Whether the store has its bytes."""
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """All that a store has of one key."""

    record: ClipRecord | None
    """What the key bought; None while it bought nothing."""
    here: bool
    job: Job
    """Its orders, without the bodies of the requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied from one store to another."""

    source: str
    target: str
    blobs: int
    records: int
    bytes: int
    differing: tuple[str, ...]
    """Records that both have, with different clips: nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What no lock and no open order needs."""

    store: str
    blobs: tuple[Digest, ...]
    bytes: int
    paid: int
    """How many of them are clips that were paid for."""
    cost: Decimal
    """USD that was booked for those."""
    kept: int
    """How many blobs stay."""
    young: int
    """How many of those stay for their age alone."""
    removed: bool = False


def stored_clips(
    path: str | os.PathLike[str] = ".", *, environ: Mapping[str, str] = os.environ
) -> Iterator[StoredClip]:
    """Every clip of the store of a project, in the order of their keys, read as they are asked for. Raises StoreError
    for a record that cannot be read, UsageError for a project that cannot be used."""
    store = planner.open_project_store(_there(path), environ)
    for name in store.list("clips/"):
        record = ledger.clip(store, _key(name))
        if record is not None:
            yield StoredClip(
                key=record.key,
                clip=record.facts.digest,
                provider=record.provider,
                model=record.model,
                seconds=Decimal(record.facts.duration),
                bytes=record.facts.bytes,
                cost=record.cost,
                date=record.date,
                here=store.holds(record.facts.digest),
                prompt=str(record.parts.get("prompt") or ""),
            )


def stored_key(
    which: str, path: str | os.PathLike[str] = ".", *, environ: Mapping[str, str] = os.environ
) -> StoredKey:
    """All that the store has of a key, by the beginning of the key or of its clip's digest. Raises UsageError where
    none or several begin so."""
    store = planner.open_project_store(_there(path), environ)
    if not re.fullmatch(r"[0-9a-f]{4,64}", which):
        mend = "give the beginning of a key, or of a clip's digest: at least 4 hex digits"
        raise UsageError(f"'{which}' is no key", mend)
    found = {_key(name) for name in store.list("clips/") if _key(name).startswith(which)}
    found |= {Key(name.split("/")[1]) for name in store.list("ledger/") if name.split("/")[1].startswith(which)}
    if not found:
        for name in store.list("clips/"):
            record = ledger.clip(store, _key(name))
            if record is not None and record.facts.digest.startswith(which):
                found.add(record.key)
    if len(found) != 1:
        what = f"{len(found)} keys begin with {which}" if found else f"nothing in {store.where} begins with {which}"
        raise UsageError(what, "give more digits" if found else "`klingflow store ls` lists what is there")
    key = found.pop()
    record = ledger.clip(store, key)
    here = record is not None and store.holds(record.facts.digest)
    return StoredKey(record=record, here=here, job=ledger.job(store, key))


def push_store(
    to: str, path: str | os.PathLike[str] = ".", *, environ: Mapping[str, str] = os.environ
) -> Copied:
    """Copies to another store what it does not have: clips, frames, and every record. Nothing there is changed."""
    return _copy(
        planner.open_project_store(_there(path), environ), planner.open_other_store(Path(path), to, environ)
    )


def pull_store(
    source: str, path: str | os.PathLike[str] = ".", *, environ: Mapping[str, str] = os.environ
) -> Copied:
    """As `push_store`, from another store into the project's."""
    other = planner.open_other_store(_there(path), source, environ)
    if other.folder is not None and not other.folder.is_dir():
        raise UsageError(f"there is no store {other.where}", "name the folder or URL of a store")
    return _copy(other, planner.open_project_store(Path(path), environ))


def _copy(source: Store, target: Store) -> Copied:
    """Blobs first, then what they answer, then the orders: at no moment does the target name what it does not have.
    Where keys are set, each record is verified as it is read, and signed as it is written."""
    there = set(target.list("blobs/"))
    blobs = size = 0
    for name in source.list("blobs/"):
        if name not in there and _BLOB.fullmatch(name):
            local = source.blob(_digest(name))
            target.put(local)
            blobs, size = blobs + 1, size + local.stat().st_size
    records, differing = 0, []
    for prefix in ("removed/", "clips/", "orders/", "ledger/"):
        there = set(target.list(prefix))
        for name in source.list(prefix):
            if not is_valid(name):
                continue  # no object of klingflow's: `verify` names it
            if name == ledger.INDEXED or name in there:
                if prefix == "clips/" and _clip_of(source, name) != _clip_of(target, name):
                    differing.append(name)
                continue
            data = source.read(name)
            if data is not None and target.create(name, data):
                records += 1
    if source.read(ledger.INDEXED) is None:
        target.delete(ledger.INDEXED)  # what was copied may be in no index: the next look reads all of it
    return Copied(
        source=source.where, target=target.where, blobs=blobs, records=records, bytes=size, differing=tuple(differing)
    )


def _clip_of(store: Store, name: str) -> Digest | None:
    record = ledger.clip(store, _key(name))
    return None if record is None else record.facts.digest


def store_garbage(
    keep: Sequence[str],
    paths: Sequence[str | os.PathLike[str]] = (".",),
    *,
    remove: bool = False,
    days: int = YOUNG_DAYS,
    environ: Mapping[str, str] = os.environ,
) -> Garbage:
    """The clips and frames that nothing needs: named by no lock at any of the git refs `keep`, nor in the working
    trees, of any of the projects at `paths`, which share one store; of no open order; and older than `days`. With
    `remove` they are removed. Records stay: what was bought is never forgotten.

    Raises UsageError for a ref that a project does not have, a project without git, or projects of two stores.
    """
    if not keep:
        mend = "add --keep main, and every other branch or tag to keep"
        raise UsageError("no git ref is named whose locks count", mend)
    stores = [planner.open_project_store(_there(path), environ) for path in paths]
    if len({store.where for store in stores}) > 1:
        raise UsageError("these projects have different stores", "name projects of one store, or set KLINGFLOW_STORE")
    store = stores[0]
    needed: set[str] = set()
    for path in paths:
        needed |= _named(find_root(Path(path) / "x" if Path(path).is_dir() else Path(path)), keep)
    for job in ledger.jobs(store):
        if job.open:
            for event in job.records:
                needed |= set(_DIGEST.findall(json.dumps(event.detail, default=str)))
    made: dict[Digest, ClipRecord] = {}
    for name in store.list("clips/"):
        record = ledger.clip(store, _key(name))
        if record is not None:
            made[record.facts.digest] = record
            if record.facts.digest in needed:
                needed |= set(record.inputs.values())
    return _sort(store, needed, made, remove=remove, days=days)


def _sort(
    store: Store, needed: set[str], made: Mapping[Digest, ClipRecord], *, remove: bool, days: int
) -> Garbage:
    out: list[Digest] = []
    total = kept = young = 0
    limit = time.time() - days * 86_400
    for name in store.list("blobs/"):
        found = _BLOB.fullmatch(name)
        digest = Digest(found[1] + found[2]) if found else None
        if digest is None or digest in needed:
            kept += 1
            continue
        written = store.written_s(digest)
        if written is None or written > limit:
            kept, young = kept + 1, young + 1
            continue
        out.append(digest)
        total += made[digest].facts.bytes if digest in made else 0
    paid = [made[digest] for digest in out if digest in made and made[digest].cost]
    if remove:
        day = time.strftime("%Y-%m-%d", time.gmtime())
        for digest in out:
            # The note first: whoever misses the clip from now on learns why.
            store.create(removed_name(digest), json.dumps({"version": 1, "date": day}).encode() + b"\n")
            store.delete(blob_name(digest))
    return Garbage(
        store=store.where,
        blobs=tuple(out),
        bytes=total,
        paid=len(paid),
        cost=sum((record.cost or Decimal(0) for record in paid), Decimal(0)),
        kept=kept,
        young=young,
        removed=remove,
    )


def _named(root: Path, refs: Sequence[str]) -> set[str]:
    """Every digest in a lock of a project, in its working tree and at each of the refs. A lock is read as text: one
    that cannot be parsed keeps what it names all the same."""
    found: set[str] = set()
    for lock in root.rglob("*.lock.yaml"):
        if ".git" not in lock.parts:
            found |= set(_DIGEST.findall(lock.read_text("utf-8", errors="replace")))
    for ref in refs:
        for text in git.files_at(root, ref, ".lock.yaml"):
            found |= set(_DIGEST.findall(text.decode("utf-8", errors="replace")))
    return found


def _there(path: str | os.PathLike[str]) -> Path:
    if not os.path.exists(path):
        what = f"there is no file or folder '{os.fspath(path)}'"
        raise UsageError(what, "name a storyboard, or a folder of the project")
    return Path(path)


def _key(name: str) -> Key:
    return Key(name.removeprefix("clips/").removesuffix(".json"))


def _digest(name: str) -> Digest:
    return Digest(name.removeprefix("blobs/").replace("/", ""))
