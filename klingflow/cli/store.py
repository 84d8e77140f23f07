"""`klingflow store`: verifies a store, shows what is in it, copies it, and removes what nothing needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import klingflow
from klingflow import money
from klingflow.cli import answer
from klingflow.core.errors import DONE, StoreError, UsageError
from klingflow.core.source import inert, visible
from klingflow.output import terminal
from klingflow.output.table import Row, table
from klingflow.output.words import count

HEAD = ("KEY", "DATE", "PROVIDER", "LENGTH", "PRICE", "CLIP", "PROMPT")


def store(
    words: Sequence[str] = (),
    heal_from: str | None = None,
    keep: Sequence[str] | None = None,
    remove: bool = False,
    format: str = "text",
) -> int:
    """Exit code 1 where something is damaged and could not be mended, or two stores differ."""
    what, rest = (words[0], list(words[1:])) if words and words[0] in VERBS else ("verify", list(words))
    for name, given, verb in (
        ("--from", heal_from is not None, "verify"),
        ("--keep", keep is not None, "gc"),
        ("--remove", remove, "gc"),
    ):
        if given and what != verb:
            raise UsageError(f"{name} goes with `klingflow store {verb}`", f"leave {name} out")
    if what == "gc":
        return _gc(rest, keep or (), remove, format)
    if what == "verify":
        return _verify(_path(rest), heal_from, format)
    return VERBS[what](rest, format)


def _path(words: Sequence[str]) -> str:
    if len(words) > 1:
        raise UsageError(f"'{words[1]}' is one argument too many", "name one storyboard, or one folder of the project")
    return words[0] if words else "."


def _first(words: Sequence[str], what: str) -> tuple[str, str]:
    """The word that a verb needs, and the path after it."""
    if not words:
        raise UsageError(f"{what} is missing", "klingflow store --help shows how it is called")
    return words[0], _path(words[1:])


def _verify(path: str, heal_from: str | None, format: str) -> int:
    found = klingflow.verify_store(path, heal_from=heal_from)
    code = StoreError.code if any(not damage.healed for damage in found.damaged) else DONE
    if format == "json":
        damaged = [asdict(damage) for damage in found.damaged]
        answer.show(
            store=found.store,
            there=found.there,
            good=found.good,
            records=found.records,
            signed=[{"key": key, "records": number} for key, number in sorted(found.signed.items())],
            damaged=damaged,
        )
        return code
    if not found.there:
        print(f"{found.store} is not there yet; the first run makes it")
        return DONE
    for damage in found.damaged:
        source = f" from {visible(heal_from)}" if heal_from and not damage.name.startswith("orders/") else ""
        mend = f"mended{source}" if damage.healed else f"mend: {damage.mend}"
        print(inert(f"{damage.what}\n{mend}"))
    healed = sum(damage.healed for damage in found.damaged)
    print(
        f"{found.store}: {count(found.good, 'blob')} and {count(found.records, 'record')} good, "
        f"{len(found.damaged)} damaged" + (f", {healed} of them mended" if healed else "")
    )
    if found.signed:
        by = [f"{n} with {key}" if key else f"{n} not" for key, n in sorted(found.signed.items())]
        print("signed: " + ", ".join(by))
    return code


def _ls(words: Sequence[str], format: str) -> int:
    clips = klingflow.stored_clips(_path(words))
    if format == "json":
        answer.show(clips=[asdict(clip) for clip in clips])
        return DONE
    rows = []
    for clip in clips:
        price = "unknown" if clip.cost is None else money(clip.cost) if clip.cost else "free"
        notes = "" if clip.here else "its bytes are not in this store"
        length = f"{clip.seconds} s"
        cells = (clip.key[:12], clip.date, clip.provider, length, price, clip.clip[:12], visible(clip.prompt[:60]))
        rows.append(Row(cells, notes))
    if rows:
        print(inert("\n".join(table(HEAD, rows, terminal.width(sys.stdout), right=("LENGTH", "PRICE")))))
    else:
        print("no clip yet: klingflow run makes them")
    return DONE


def _show(words: Sequence[str], format: str) -> int:
    which, path = _first(words, "the beginning of a key")
    found = klingflow.stored_key(which, path)
    record = found.record
    events = [
        {"name": event.name, "at_ms": event.at_ms, "kind": str(event.kind), "detail": dict(event.detail)}
        for event in found.job.records
    ]
    if format == "json":
        clip = None if record is None else asdict(record.facts)
        answer.show(
            key=found.job.key,
            state=str(found.job.state),
            here=found.here,
            clip=clip,
            provider=None if record is None else record.provider,
            model=None if record is None else record.model,
            task=None if record is None else record.task,
            cost=None if record is None else record.cost,
            date=None if record is None else record.date,
            parts={} if record is None else dict(record.parts),
            inputs={} if record is None else dict(record.inputs),
            events=events,
        )
        return DONE
    lines = [f"key       {found.job.key}"]
    if record is not None:
        facts = record.facts
        price = "unknown" if record.cost is None else money(record.cost) if record.cost else "free"
        lines += [
            f"clip      {facts.digest}" + ("" if found.here else "  (not in this store)"),
            f"          {facts.duration} s, {facts.width}x{facts.height}, {facts.rate} a second, {facts.bytes} bytes",
            f"made by   {record.provider}, {record.model}, {record.date}, {price}",
            f"task      {record.task or '-'}",
            *(f"part      {name}: {value}" for name, value in record.parts.items()),
            *(f"input     {role}: {digest}" for role, digest in record.inputs.items()),
        ]
    lines += [f"event     {event['name']}" for event in events]
    print(inert("\n".join(visible(line) for line in lines)))
    return DONE


def _push(words: Sequence[str], format: str) -> int:
    place, path = _first(words, "the other store")
    return _copied(klingflow.push_store(place, path), format)


def _pull(words: Sequence[str], format: str) -> int:
    place, path = _first(words, "the other store")
    return _copied(klingflow.pull_store(place, path), format)


def _copied(done: klingflow.Copied, format: str) -> int:
    code = StoreError.code if done.differing else DONE
    if format == "json":
        answer.show(**asdict(done))
        return code
    for name in done.differing:
        print(f"{name} names another clip in {done.source} than in {done.target}; nothing was changed")
    print(
        f"{done.source} -> {done.target}: {count(done.blobs, 'blob')} ({_size(done.bytes)}) "
        f"and {count(done.records, 'record')} copied"
    )
    return code


def _gc(paths: Sequence[str], keep: Sequence[str], remove: bool, format: str) -> int:
    found = klingflow.store_garbage(keep, paths or (".",), remove=remove)
    if format == "json":
        answer.show(**asdict(found))
        return DONE
    for digest in found.blobs:
        print(f"{'removed' if remove else 'would be removed'}: {digest}")
    what = f"{count(len(found.blobs), 'blob')} ({_size(found.bytes)} of clips)"
    if found.paid:
        what += f", {count(found.paid, 'clip')} of them paid for with {money(found.cost)}"
    young = f", {found.young} of them for being younger than {klingflow.YOUNG_DAYS} days" if found.young else ""
    done = "removed" if remove else "would be removed"
    print(f"{found.store}: {what} {done}; {found.kept} kept{young}")
    if found.blobs and not remove:
        print("nothing was removed: add --remove")
    return DONE


def _size(number: int) -> str:
    for unit in ("bytes", "KB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number //= 1000
    return f"{number:.0f} GB"


VERBS: Mapping[str, Callable[[Sequence[str], str], int]] = {
    "verify": lambda words, format: _verify(_path(words), None, format),
    "ls": _ls,
    "show": _show,
    "gc": lambda words, format: _gc(words, (), False, format),
    "push": _push,
    "pull": _pull,
}
