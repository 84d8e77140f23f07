"""The lock: which clip answers each take of each shot. `NAME.lock.yaml`, committed beside the storyboard.

Written for reviewers: shots are in the order of their ids and a field has its line, so that moving a shot in the
storyboard changes nothing here and a new take changes only its own lines. The same lock is always the same bytes. It
holds no URL and no secret. Whatever could be read as anything but a text (a digest of digits alone, `12e45`) is quoted,
for YAML 1.2 and for the older readers too.

    klingflow_lock: 1
    shots:
      dawn:
        "1":
          key: 51ab…
          clip: 0c7e…
          …
          inputs: {first_frame: 7d1f…}
          parts: {duration: 5, model: kling-3.0-omni, prompt: 0f3ac2b19e71}

A matrix film is under `films: VARIANT:` instead of `shots:`. Under `spare:` is what two branches paid for
one take (`met`). Under `pictures:` stands, by the SHA-256 of each file of one's own (still or clip) that went into a
clip, the digest of its decoded picture: a file that was only tagged or packed anew is known again. Under `picks:` is
who chose the take that the storyboard names, and why. Knows no file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Any, cast

from klingflow.core.model import ClipFacts, ClipRecord, Digest, Film, Key, Shot, ShotId, TaskId
from klingflow.core.source import Document

VERSION = 1

Scalar = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The clip of one take."""

    key: Key
    clip: Digest
    duration: str
    """Seconds, as in ClipFacts."""
    frames: int
    size: str
    """ "1920x1080"."""
    rate: str
    bytes: int
    audio: bool
    provider: str
    model: str
    task: TaskId | None = None
    cost: Decimal | None = None
    """USD booked for it."""
    basis: str = ""
    """As `ClipRecord.basis`."""
    date: str
    taken_in: str = ""
    """As in ClipRecord."""
    inputs: Mapping[str, Digest] = field(default_factory=dict)
    """The images that really went in, by role."""
    parts: Mapping[str, Scalar] = field(default_factory=dict)
    """The parts of the key in short (core.digest.brief), for a plan to report what changed."""

    def facts(self) -> ClipFacts:
        width, _, height = self.size.partition("x")
        return ClipFacts(
            digest=self.clip,
            bytes=self.bytes,
            width=int(width),
            height=int(height),
            frames=self.frames,
            duration=self.duration,
            rate=self.rate,
            audio=self.audio,
        )

    def record(self) -> ClipRecord:
        """The entry as the store's record has it, without the texts of the key's parts, which a lock does not keep."""
        return ClipRecord(
            key=self.key,
            facts=self.facts(),
            provider=self.provider,
            model=self.model,
            task=self.task,
            cost=self.cost,
            basis=self.basis,
            date=self.date,
            parts={},
            inputs=self.inputs,
            taken_in=self.taken_in,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A person's choice of a take of a shot (or of a proposed picture of one of its frames)."""

    take: int
    clip: Digest
    """SHA-256 of the chosen clip; of a proposed picture, of its file."""
    by: str
    """Who chose."""
    why: str = ""
    date: str
    """UTC, YYYY-MM-DD."""


Takes = Mapping[int, Entry]
Shots = Mapping[ShotId, Takes]


@dataclass(frozen=True, slots=True)
class Lock:
    """Films by variant ("" without a matrix), shots, takes."""

    films: Mapping[str, Shots] = field(default_factory=dict)
    spare: Mapping[ShotId, Mapping[Key, Entry]] = field(default_factory=dict)
    """What branches that met paid for the same take, by shot and key."""
    pictures: Mapping[Digest, Digest] = field(default_factory=dict)
    """By the digest of a file of one's own, that of its decoded picture (io.decoded)."""
    picks: Mapping[str, Mapping[str, Pick]] = field(default_factory=dict)
    """By variant and what was chosen for: a shot ("dawn"), or a frame of one ("dawn.first_frame")."""
    conflicts: int | None = field(default=None, compare=False)
    """Where it is made of two that met, how many takes they name differently."""
    disputed: tuple[str, ...] = field(default=(), compare=False)
    """Likewise, the shots (or frames) that they picked differently for: neither pick counts."""
    _by_key: dict[Key, Entry] = field(init=False, repr=False, compare=False, default_factory=dict)
    _by_picture: dict[Digest, list[Digest]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for shots in self.films.values():
            for takes in shots.values():
                for entry in takes.values():
                    self._by_key.setdefault(entry.key, entry)
        for kept in self.spare.values():
            for entry in kept.values():
                self._by_key.setdefault(entry.key, entry)
        for file, picture in self.pictures.items():
            self._by_picture.setdefault(picture, []).append(file)

    def entry(self, variant: str, shot: ShotId, take: int) -> Entry | None:
        return self.films.get(variant, {}).get(shot, {}).get(take)

    def pick(self, variant: str, shot: str) -> Pick | None:
        """What was chosen for a shot, or for a frame of one ("dawn.first_frame"); None where nobody chose. It is what
        a person saw: whether the storyboard and the take's entry still say the same is for the caller to compare."""
        return self.picks.get(variant, {}).get(shot)

    def find(self, key: Key) -> Entry | None:
        """The entry of a key anywhere in the lock: a shot that was renamed finds its clip."""
        return self._by_key.get(key)

    def alike(self, file: Digest, picture: Digest) -> tuple[Digest, ...]:
        """The other files of one's own that have this picture."""
        return tuple(other for other in self._by_picture.get(picture, ()) if other != file)

    def unknown_pictures(self, files: Iterable[Digest]) -> frozenset[Digest]:
        """Those of some files that went into a clip of the lock, and whose picture it does not know."""
        went_in = self._went_in()
        return frozenset(file for file in files if file not in self.pictures and file[:12] in went_in)

    def _went_in(self) -> set[str]:
        """The digests of what the clips were made of, as short as `parts` has them; other short digests too."""
        entries = (entry for kept in self.spare.values() for entry in kept.values())
        every = (*entries, *(takes[n] for shots in self.films.values() for takes in shots.values() for n in takes))
        texts = (value for entry in every for value in entry.parts.values() if isinstance(value, str))
        return {text.rpartition(" ")[2] for text in texts}

    def tasks(self) -> dict[tuple[str, TaskId], tuple[Key, ShotId]]:
        """By provider and task, the key and shot that a task was paid for."""
        every = [(shot, entry) for shot, kept in self.spare.items() for entry in kept.values()]
        every += [
            (shot, entry)
            for shots in self.films.values()
            for shot, takes in shots.items()
            for entry in takes.values()
        ]
        return {(entry.provider, entry.task): (entry.key, shot) for shot, entry in every if entry.task is not None}

    def held(
        self,
        film: Film,
        shot: Shot,
        *,
        key: Key | None,
        variants: Collection[str],
        claimed: Collection[Key] = (),
    ) -> Entry | None:
        """The entry whose clip a shot with `hold` keeps, found again after a rename; None where it cannot be known.

        The first of these that there is:
        1. the entry at its own place: (film.variant, shot.id, shot.take);
        2. an entry with its very key, anywhere;
        3. its id in a film that the storyboard no longer has (a matrix was added, changed or removed): the clip there,
           if all such films name the same one;
        4. the one shot of its film in the lock that the storyboard no longer declares, if it alone can be meant: no
           other held shot of the film is without an entry, and no other shot of the lock lost its declaration.

        `key` is the shot's key, None where it is not known yet. `variants` are the variants of all films of the
        storyboard. `claimed` are the keys of the storyboard's other shots, as far as they are known: an entry that
        another shot claims by its key was not this one's. None means: nothing may be bought in its place, the user
        decides.
        """
        own = self.entry(film.variant, shot.id, shot.take)
        if own is None and key is not None:
            own = self.find(key)
        if own is not None:
            return own
        elsewhere = self._elsewhere(shot, variants)
        if elsewhere:
            return elsewhere[0] if len({entry.clip for entry in elsewhere}) == 1 else None
        declared = {other.id for other in film.shots}
        left = [
            takes[shot.take]
            for name, takes in self.films.get(film.variant, {}).items()
            if name not in declared and shot.take in takes and takes[shot.take].key not in claimed
        ]
        rivals = [
            other
            for other in film.shots
            if other.hold
            and other.id != shot.id
            and self.entry(film.variant, other.id, other.take) is None
            and not self._elsewhere(other, variants)
        ]
        return left[0] if len(left) == 1 and not rivals else None

    def _elsewhere(self, shot: Shot, variants: Collection[str]) -> list[Entry]:
        """The entries of the shot's id and take in films that the storyboard does not have."""
        gone = (shots for variant, shots in self.films.items() if variant not in variants)
        return [shots[shot.id][shot.take] for shots in gone if shot.take in shots.get(shot.id, {})]


def with_former(lock: Lock) -> Lock:
    """The entries of the lock of a storyboard that is gone (renamed), for keys and held shots to be found in. They are
    in films that no storyboard has, so a run does not write them down again as they are."""
    return Lock(
        {f"\0{variant}": shots for variant, shots in lock.films.items()}, lock.spare, lock.pictures, lock.picks
    )


def merged(disk: Lock, *, start: Lock, films: Sequence[Film], made: Mapping[tuple[str, ShotId, int], Entry]) -> Lock:
    """The lock after a run, when another run may have written it meanwhile.

    `disk` is the lock as it is now, `start` as it was when the run began, `made` the run's entries by (variant, shot,
    take). An entry that the run changed wins; one that it only used (it is that of `start`) gives way to what another
    run wrote there. Everything else is as on disk: also other takes of a shot, the user may go back to one.

    Entries of shots and films that the storyboard no longer has are removed, except where another run changed them,
    and except while a held shot has no entry: it may be one of these under an old name (see Lock.held). Spare entries
    and picks stay as long as their shot does.
    """
    out: dict[str, dict[ShotId, dict[int, Entry]]] = {
        variant: {shot: dict(takes) for shot, takes in shots.items()} for variant, shots in disk.films.items()
    }
    for (variant, shot, take), entry in made.items():
        takes = out.setdefault(variant, {}).setdefault(shot, {})
        if take not in takes or entry != start.entry(variant, shot, take):
            takes[take] = entry
    held = [(film.variant, shot) for film in films for shot in film.shots if shot.hold]
    if all(shot.take in out.get(variant, {}).get(shot.id, {}) for variant, shot in held):
        declared = {(film.variant, shot.id) for film in films for shot in film.shots}
        for variant, shots in out.items():
            for name, takes in shots.items():
                if (variant, name) not in declared:
                    for take in [take for take, entry in takes.items() if entry == start.entry(variant, name, take)]:
                        del takes[take]
    left = {variant: {name: takes for name, takes in shots.items() if takes} for variant, shots in out.items()}
    declared_ids = {shot.id for film in films for shot in film.shots}
    spare = {shot: entries for shot, entries in disk.spare.items() if shot in declared_ids}
    living = {film.variant: {shot.id for shot in film.shots} for film in films}
    picks = {
        variant: {name: pick for name, pick in picked.items() if name.partition(".")[0] in living.get(variant, ())}
        for variant, picked in disk.picks.items()
    }
    return with_pictures(
        Lock(
            {variant: shots for variant, shots in left.items() if shots},
            spare,
            picks={variant: picked for variant, picked in picks.items() if picked},
        ),
        disk.pictures,
    )


def with_pick(lock: Lock, variant: str, name: str, pick: Pick) -> Lock:
    """The lock with this pick for a shot, or for a frame of one."""
    return replace(lock, picks={**lock.picks, variant: {**lock.picks.get(variant, {}), name: pick}})


def with_pictures(lock: Lock, pictures: Mapping[Digest, Digest]) -> Lock:
    """The lock with these pictures of files besides its own; those of files that went into none of its clips are left
    out."""
    went_in = lock._went_in()
    known = {**lock.pictures, **pictures}
    return replace(lock, pictures={file: picture for file, picture in known.items() if file[:12] in went_in})


def met(base: Lock, ours: Lock, theirs: Lock) -> Lock:
    """The lock of two branches that meet. `base` is the lock where they parted; empty where that is not known.

    What one of them changed is taken. Where both gave a take another clip, only the storyboard as it is merged tells
    which one counts: the take keeps ours, both are spare, and the next run puts into the take what answers. A take that
    one removed and the other made anew stays. `conflicts` of the result counts the takes that differ.

    Where both picked for one shot, and not the same clip, nobody knows what was agreed on: neither pick stays
    (`disputed` names them), and somebody picks again.
    """
    out: dict[str, dict[ShotId, dict[int, Entry]]] = {}
    spare: dict[ShotId, dict[Key, Entry]] = {}
    for shot, entries in (*theirs.spare.items(), *ours.spare.items()):
        spare.setdefault(shot, {}).update(entries)
    conflicts = 0
    for variant, shot, take in sorted({*_places(base), *_places(ours), *_places(theirs)}):
        before, mine, other = (lock.entry(variant, shot, take) for lock in (base, ours, theirs))
        if mine == before or (mine is None and other != before):
            mine = other
        elif mine is not None and other not in (None, before):
            if (mine.key, mine.clip) == (other.key, other.clip):
                mine = _fuller(mine, other)
            else:
                conflicts += 1
                spare.setdefault(shot, {}).update({entry.key: entry for entry in (mine, other)})
        if mine is not None:
            out.setdefault(variant, {}).setdefault(shot, {})[take] = mine
    picks, disputed = _picks_met(base, ours, theirs)
    return with_pictures(
        Lock(out, spare, picks=picks, conflicts=conflicts, disputed=disputed), {**theirs.pictures, **ours.pictures}
    )


def _picks_met(base: Lock, ours: Lock, theirs: Lock) -> tuple[dict[str, dict[str, Pick]], tuple[str, ...]]:
    """The picks of two branches that meet, and what they picked differently for."""
    picks: dict[str, dict[str, Pick]] = {}
    disputed: list[str] = []
    names = {(variant, name) for lock in (base, ours, theirs) for variant, of in lock.picks.items() for name in of}
    for variant, name in sorted(names):
        before, mine, other = (lock.pick(variant, name) for lock in (base, ours, theirs))
        if mine == before or (mine is None and other != before):
            mine = other
        elif mine is not None and other not in (None, before):
            if (mine.take, mine.clip) == (other.take, other.clip):
                mine = min(mine, other, key=lambda pick: (pick.date, pick.by, pick.why))
            else:
                mine = None
                disputed.append(f"{name} [{variant}]" if variant else name)
        if mine is not None:
            picks.setdefault(variant, {})[name] = mine
    return picks, tuple(disputed)


def _fuller(one: Entry, other: Entry) -> Entry:
    """An entry with what only another one of the same clip says."""
    empty = [each.name for each in fields(Entry) if not getattr(one, each.name)]
    return replace(one, **{name: getattr(other, name) for name in empty})


def _places(lock: Lock) -> Iterator[tuple[str, ShotId, int]]:
    for variant, shots in lock.films.items():
        for shot, takes in shots.items():
            for take in takes:
                yield variant, shot, take


def parse(document: Document) -> Lock:
    """Reads a lock whose shape the schema has found good."""
    data = cast(Mapping[str, Any], document.data)
    return Lock(
        {
            variant: {
                ShotId(shot): {int(take): _entry(raw) for take, raw in takes.items()} for shot, takes in shots.items()
            }
            for variant, shots in _by_variant(data).items()
        },
        {
            ShotId(shot): {Key(key): _entry(raw) for key, raw in kept.items()}
            for shot, kept in data.get("spare", {}).items()
        },
        {Digest(file): Digest(picture) for file, picture in data.get("pictures", {}).items()},
        {
            variant: {name: Pick(**raw) for name, raw in picked.items()}
            for variant, picked in _by_variant(data.get("picks", {})).items()
        },
    )


def _by_variant(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is under `films` by variant, and under `shots` of a storyboard without a matrix."""
    return {**data.get("films", {}), **({"": data["shots"]} if data.get("shots") else {})}


def _entry(raw: Mapping[str, Any]) -> Entry:
    cost = raw.get("cost")
    return Entry(**{**raw, "cost": None if cost is None else Decimal(cost)})


# Writing

_HEADER = """\
# Which clip answers each take of each shot. Written by `klingflow run`: commit it, do not edit it by hand.
"""


def dump(lock: Lock) -> str:
    """The lock as text. The same lock is the same text, and `parse` reads it back equal."""
    out = [_HEADER, f"klingflow_lock: {VERSION}\n"]
    films = {variant: shots for variant, shots in lock.films.items() if shots}
    if "" in films or not films:
        _shots(out, films.pop("", {}), "")
    if films:
        out.append("films:\n")
        for variant in sorted(films):
            out.append(f"  {_text(variant)}:\n")
            _shots(out, films[variant], "    ")
    if lock.spare:
        out.append("spare:\n")
        for shot in sorted(lock.spare):
            out.append(f"  {_text(shot)}:\n")
            for key in sorted(lock.spare[shot]):
                out.append(f"    {_text(key)}:\n")
                _fields(out, lock.spare[shot][key], "      ")
    if lock.pictures:
        out.append("pictures:\n")
        out += [f"  {_text(file)}: {_text(lock.pictures[file])}\n" for file in sorted(lock.pictures)]
    picks = {variant: picked for variant, picked in lock.picks.items() if picked}
    if picks:
        out.append("picks:\n")
        if "" in picks:
            out.append("  shots:\n")
            _picks(out, picks.pop(""), "    ")
        if picks:
            out.append("  films:\n")
            for variant in sorted(picks):
                out.append(f"    {_text(variant)}:\n")
                _picks(out, picks[variant], "      ")
    return "".join(out)


def _picks(out: list[str], picks: Mapping[str, Pick], indent: str) -> None:
    for name in sorted(picks):
        pick = picks[name]
        out.append(f"{indent}{_text(name)}:\n{indent}  take: {pick.take}\n{indent}  clip: {_text(pick.clip)}\n")
        out.append(f"{indent}  by: {_text(pick.by)}\n")
        if pick.why:
            out.append(f"{indent}  why: {_text(pick.why)}\n")
        out.append(f"{indent}  date: {_text(pick.date)}\n")


def _shots(out: list[str], shots: Shots, indent: str) -> None:
    if not indent:
        out.append("shots:\n" if shots else "shots: {}\n")
        indent = "  "
    for shot in sorted(shots):
        out.append(f"{indent}{_text(shot)}:\n")
        takes = shots[shot]
        for take in sorted(takes):
            out.append(f'{indent}  "{take}":\n')
            _fields(out, takes[take], indent + "    ")


def _fields(out: list[str], entry: Entry, indent: str) -> None:
    out.append(
        f"{indent}key: {_text(entry.key)}\n"
        f"{indent}clip: {_text(entry.clip)}\n"
        f"{indent}duration: {_text(entry.duration)}\n"
        f"{indent}frames: {entry.frames}\n"
        f"{indent}size: {_text(entry.size)}\n"
        f"{indent}rate: {_text(entry.rate)}\n"
        f"{indent}bytes: {entry.bytes}\n"
        f"{indent}audio: {_scalar(entry.audio)}\n"
        f"{indent}provider: {_text(entry.provider)}\n"
        f"{indent}model: {_text(entry.model)}\n"
    )
    if entry.task is not None:
        out.append(f"{indent}task: {_text(entry.task)}\n")
    if entry.cost is not None:
        out.append(f"{indent}cost: {_text(f'{entry.cost:f}')}\n")
    if entry.basis:
        out.append(f"{indent}basis: {_text(entry.basis)}\n")
    out.append(f"{indent}date: {_text(entry.date)}\n")
    if entry.taken_in:
        out.append(f"{indent}taken_in: {_text(entry.taken_in)}\n")
    for name, values in (("inputs", entry.inputs), ("parts", entry.parts)):
        if values:
            pairs = [f"{_text(key)}: {_scalar(values[key])}" for key in sorted(values)]
            line = f"{indent}{name}: {{{', '.join(pairs)}}}\n"
            if len(line) > _LONG:
                line = f"{indent}{name}:\n" + "".join(f"{indent}  {pair}\n" for pair in pairs)
            out.append(line)


_LONG = 250
"""Characters of a line; a longer one has its pairs on lines of their own."""


_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*|(?!0[xob])[0-9][0-9a-z]*[acdfp][0-9a-z]*|[1-9][0-9]*x[0-9]+")
"""Words, and texts such as 7d1f…, 1080p and 1920x1080 that are no number in any YAML: there only e, x, o, b, _ and
digits are allowed in one."""
_MEANT = frozenset(["null", "true", "false", "yes", "no", "on", "off", "y", "n"])
_ESCAPED = re.compile(r"[^ !#-\[\]-~]")
"""All but printable ASCII, and of that the quote and the backslash."""


def _scalar(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _text(value)


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value if len(value) > 5 or value.lower() not in _MEANT else f'"{value}"'
    return '"' + _ESCAPED.sub(_escape, value) + '"'


def _escape(found: re.Match[str]) -> str:
    """As YAML escapes it; beyond ASCII all but letters and digits, because a reader takes some of it for a line break,
    or refuses it."""
    char = found.group()
    code = ord(char)
    if unicodedata.category(char)[0] in "LMN":
        return char
    if char in '\\"':
        return "\\" + char
    if code < 0x100:
        return f"\\x{code:02x}"
    if 0xD800 <= code < 0xE000:
        return "\\ufffd"  # a lone surrogate: no UTF-8 file can hold it
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
