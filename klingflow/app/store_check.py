"""Reads a whole store: every clip and frame against its digest, every record against its form, its signature and the
records around it. What is damaged is named, and mended from another store where one is given."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from klingflow.app import planner
from klingflow.core.errors import StoreError, UsageError
from klingflow.core.model import Digest, Key
from klingflow.io import ledger, trust
from klingflow.io.store import MARKER, Store, blob_name, missing, removed_name
from klingflow.planning.job import Job, Kind, Record, State, fold
from klingflow.providers import PROVIDERS

RESTORE = "bring it back from a backup, or mend the store from another one: klingflow store verify --from PLACE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One thing that is wrong in a store."""

    name: str
    """The object in the store, as "clips/KEY.json"."""
    what: str
    mend: str
    healed: bool = False
    """The good one was brought from another store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReport:
    """What was found in a store."""

    store: str
    """Where it is."""
    there: bool
    """False where no run has made it yet."""
    good: int
    """How many clips and frames are what their names say."""
    records: int
    """How many records of orders and clips can be read and agree."""
    signed: Mapping[str, int]
    """How many of them each key signed, by its id; "" counts those without a signature. Empty where no key is set."""
    damaged: tuple[Damage, ...]


def verify_store(
    path: str | os.PathLike[str] = ".", *, heal_from: str | None = None, environ: Mapping[str, str] = os.environ
) -> StoreReport:
    """Verifies the store of a storyboard's or a folder's project. Damaged clips and frames are set aside.

    `heal_from` is another store (a folder, or s3://…): what is damaged here and good there is copied from there, and a
    damaged record is kept in quarantine/. Raises StoryboardError or UsageError for a project file or a place that
    cannot be used, StoreError where the store cannot be read at all.
    """
    if not os.path.exists(path):
        what = f"there is no file or folder '{os.fspath(path)}'"
        raise UsageError(what, "name a storyboard, or a folder of the project")
    bare = planner.open_unguarded_store(Path(path), environ)
    trusted = trust.of(environ)
    place = trust.guarded(bare, trusted)
    other = None
    if heal_from is not None:
        if trusted.read_only:
            raise UsageError(f"nothing can be mended: {trust.READONLY} is set", "run it where the store may be written")
        other = trust.ReadOnlyStore(planner.open_other_store(Path(path), heal_from, environ))
        if other.folder is not None and not other.folder.is_dir():
            raise UsageError(f"there is no store {other.where}", "name the folder or URL of another store after --from")
    there = bare.folder is None or bare.folder.exists()
    found: list[Damage] = []
    good: Counter[str] = Counter()
    sizes: dict[Digest, int | None] = {}
    for one in _all(place, bare, sizes) if there else ():
        if isinstance(one, Damage):
            found.append(one)
        else:
            good[one.partition("/")[0]] += 1
    if other is not None:
        found = _heal_all(found, sizes, place, bare, other)
    return StoreReport(
        store=place.where,
        there=there,
        good=good["blobs"],
        records=good["ledger"] + good["clips"],
        signed=trust.signatures(place),
        damaged=tuple(found),
    )


def _all(place: Store, bare: Store, sizes: dict[Digest, int | None]) -> Iterator[str | Damage]:
    """The name of each object that is good, and each damage. `sizes` is filled with those of the blobs that were read;
    None for one that is damaged or missing, and named."""
    try:
        bare.read(MARKER)
    except StoreError as bad:
        yield Damage(name=MARKER, what=bad.what, mend=bad.mend)
        return
    for name in place.list("blobs/"):
        digest = _digest_of(name)
        try:
            sizes[digest] = place.verify(digest)
            yield name
        except ValueError:
            yield Damage(name=name, what=f"{name} in {place.where} is no object of klingflow's", mend="remove it")
        except StoreError as bad:
            sizes[digest] = None
            yield Damage(name=name, what=bad.what, mend=bad.mend)
    keys: set[str] = set()
    for folder, names in groupby(place.list("ledger/"), lambda name: name.rpartition("/")[0]):
        key = Key(folder.removeprefix("ledger/"))
        keys.add(key)
        yield from _key(place, key, list(names), sizes)
    for name in place.list("clips/"):
        key = Key(name.removeprefix("clips/").removesuffix(".json"))
        if key not in keys:
            yield from _key(place, key, [], sizes)


def _key(
    place: Store, key: Key, names: Sequence[str], sizes: dict[Digest, int | None]
) -> Iterator[str | Damage]:
    """One key's records: each for itself, in their order, and against what the key bought."""
    records: list[Record] = []
    unread = False
    for name in names:
        try:
            records.append(ledger.record(place, name))
            yield name
        except StoreError as bad:
            unread = True
            yield Damage(name=name, what=bad.what, mend=bad.mend)
    job = fold(key, records)
    if not unread:
        yield from _gaps(place, key, records)
    for name in ledger.order_names(job) if place.read(ledger.INDEXED) is not None else ():
        if place.read(name) is None:
            what = f"{name} is not in {place.where}: `klingflow status` would not show that order"
            healed = not isinstance(place, trust.ReadOnlyStore) and place.create(name, b"{}\n")
            yield Damage(name=name, what=what, mend="verify writes it anew where it may write", healed=healed)
    name = f"clips/{key}.json"
    stored = job.last(Kind.STORED)
    try:
        clip = ledger.clip(place, key)
    except StoreError as bad:
        yield Damage(name=name, what=bad.what, mend=bad.mend)
        return
    if clip is None:
        if stored is not None:
            what = f"{name} is not in {place.where}, and the ledger says that its clip was stored"
            yield Damage(name=name, what=what, mend=RESTORE)
        return
    digest = clip.facts.digest
    if stored is not None and stored.detail.get("clip") != digest:
        ordered = str(stored.detail.get("clip"))[:12]
        what = f"{name} in {place.where} names the clip {digest[:12]}, and the ledger says that {ordered} was bought"
        yield Damage(name=name, what=what, mend=RESTORE)
    elif not unread and not _accounted(job, clip.provider, clip.task):
        what = f"{name} in {place.where} names a clip of {clip.provider} that the ledger has no order for"
        yield Damage(name=name, what=what, mend=f"find out who wrote it; {RESTORE}")
    else:
        yield name
    if digest not in sizes:
        sizes[digest] = None
        if place.read(removed_name(digest)) is None:
            away = missing(digest, place)
            yield Damage(name=blob_name(digest), what=away.what, mend=away.mend)
    size = sizes[digest]
    if size not in (None, clip.facts.bytes):
        what = f"{name} in {place.where} says that its clip has {clip.facts.bytes} bytes, and it has {size}"
        yield Damage(name=name, what=what, mend=RESTORE)


def _accounted(job: Job, provider: str, task: str | None) -> bool:
    """Whether the ledger has the order of a clip of a paid provider."""
    if provider not in PROVIDERS or not PROVIDERS[provider].caps.paid:
        return True
    tasks = {record.detail.get("task") for record in job.records if record.kind is Kind.ACCEPTED}
    return bool(job.records) and (task is None or task in tasks)


def _gaps(place: Store, key: Key, records: Sequence[Record]) -> Iterator[Damage]:
    """Records that must have been there before those that are: an attempt is numbered from 0, without a gap."""
    there = {(record.attempt, record.n) for record in records}
    most = max((attempt for attempt, _ in there), default=0)
    for attempt in range(1, most + 1):
        last = max((n for a, n in there if a == attempt), default=0)
        for n in range(last + 1):
            if (attempt, n) not in there:
                name = f"ledger/{key}/{attempt}.{n}" + (f"-{Kind.INTENT}.json" if n == 0 else "")
                what = f"a record of the ledger is not in {place.where}: {name}"
                yield Damage(name=name, what=what, mend=RESTORE)


def _heal_all(
    found: Sequence[Damage], sizes: dict[Digest, int | None], place: Store, bare: Store, other: Store
) -> list[Damage]:
    """Brings what is damaged from another store, where it is good there. What counts as mended was read again."""
    for damage in found:
        with suppress(StoreError, ValueError):
            _heal(damage, sizes, place, bare, other)
    keys = dict.fromkeys(key for damage in found if (key := _key_of(damage.name)) is not None)
    left = {(one.name, one.what): one for key in keys for one in _damage_of(place, key, sizes) if not one.healed}
    out = []
    for damage in found:
        good = (damage.name, damage.what) not in left and _key_of(damage.name) is not None
        if damage.name.startswith("blobs/"):
            good = sizes.get(_digest_of(damage.name)) is not None
        left.pop((damage.name, damage.what), None)
        out.append(replace(damage, healed=damage.healed or good))
    return out + list(left.values())


def _damage_of(place: Store, key: Key, sizes: dict[Digest, int | None]) -> list[Damage]:
    return [one for one in _key(place, key, list(place.list(f"ledger/{key}/")), sizes) if isinstance(one, Damage)]


def _heal(damage: Damage, sizes: dict[Digest, int | None], place: Store, bare: Store, other: Store) -> None:
    """Raises StoreError where either store cannot, ValueError for what is no name of klingflow's."""
    if damage.name.startswith("blobs/"):
        digest = _digest_of(damage.name)
        if other.holds(digest) and place.put(other.blob(digest)) == digest:
            sizes[digest] = place.verify(digest)
        return
    key = _key_of(damage.name)
    if key is None:
        return
    names = list(other.list(f"ledger/{key}/"))
    if damage.name.startswith("ledger/") and damage.name not in names:
        # The other store may be older than this order. Only a key that has its clip is not bought again without it.
        if ledger.job(other, key).state is not State.STORED:
            return
        _set_aside(damage.name, bare)
    for name in names:
        if name == damage.name or bare.read(name) is None:
            with suppress(StoreError):
                _bring(name, place, bare, other)
    if damage.name.startswith("clips/") and any(one.name == damage.name for one in _damage_of(place, key, sizes)):
        stored, clip = ledger.job(place, key).last(Kind.STORED), ledger.clip(other, key)
        if clip is not None and (stored is None or stored.detail.get("clip") == clip.facts.digest):
            _bring(damage.name, place, bare, other)


def _digest_of(name: str) -> Digest:
    return Digest(name.removeprefix("blobs/").replace("/", ""))


def _key_of(name: str) -> Key | None:
    """The key of a record; None for any other object."""
    folder, _, rest = name.partition("/")
    return Key(rest.partition("/")[0].removesuffix(".json")) if folder in ("ledger", "clips") else None


def _bring(name: str, place: Store, bare: Store, other: Store) -> None:
    """Copies one record, which is good there; the damaged one goes to quarantine/."""
    if name.startswith("clips/"):
        ledger.clip(other, Key(name.removeprefix("clips/").removesuffix(".json")))
    else:
        ledger.record(other, name)
    data = other.read(name)
    if data is None:
        return
    damaged = _set_aside(name, bare)
    try:
        place.create(name, data)
    except StoreError:
        if damaged is not None:
            bare.create(name, damaged)  # an order that is on record in no way would be sent again
        raise


def _set_aside(name: str, bare: Store) -> bytes | None:
    """Moves a record to quarantine/; what it held."""
    damaged = bare.read(name)
    if damaged is not None:
        bare.create(f"quarantine/{name.replace('/', '.')}.{os.urandom(4).hex()}", damaged)
        bare.delete(name)
    return damaged
