from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klingflow.core.model import ClipFacts, Digest, Key, ShotId, TaskId
from klingflow.storyboard import lock, schema, yamlread
from klingflow.storyboard.lock import Entry, Lock, Pick
from klingflow.storyboard.variables import file_names
from tests.storyboards import film, films


def entry(seed: str, **fields: Any) -> Entry:
    values: dict[str, Any] = {
        "key": Key(seed * 64),
        "clip": Digest("c" * 64),
        "duration": "5.042",
        "frames": 121,
        "size": "1920x1080",
        "rate": "24",
        "bytes": 9000,
        "audio": False,
        "provider": "hiapi",
        "model": "kling-3.0-omni",
        "task": TaskId("t-1"),
        "cost": Decimal("0.560"),
        "date": "2026-11-21",
        "inputs": {"first_frame": Digest("7d" * 32)},
        "parts": {"duration": 5, "model": "kling-3.0-omni", "prompt": "0f3ac2b19e71", "recipe": 1, "sound": False},
    }
    return Entry(**{**values, **fields})


def reread(text: str) -> Lock:
    document = yamlread.read("film.lock.yaml", text)
    assert schema.check(document, "lock") == []
    return lock.parse(document)


DAWN, EVE = ShotId("dawn"), ShotId("eve")


def test_films_are_named_in_their_own_letters() -> None:
    names = file_names([("हिन्दी",), ("日本語",), ("C++",)])
    kept = Lock({name: {DAWN: {1: entry("a")}} for name in names})
    assert '  "हिन्दी":\n' in lock.dump(kept)
    assert reread(lock.dump(kept)) == kept


def test_a_lock_has_a_line_for_each_field_and_shots_in_order_of_id() -> None:
    bare = entry("a", task=None, cost=None, inputs={}, parts={})
    text = lock.dump(Lock({"": {EVE: {2: entry("1")}, DAWN: {1: bare}}}))
    assert text == (
        "# Which clip answers each take of each shot. Written by `klingflow run`: commit it, do not edit it by hand.\n"
        "klingflow_lock: 1\n"
        "shots:\n"
        "  dawn:\n"
        '    "1":\n'
        f"      key: {'a' * 64}\n"
        f"      clip: {'c' * 64}\n"
        '      duration: "5.042"\n'
        "      frames: 121\n"
        "      size: 1920x1080\n"
        '      rate: "24"\n'
        "      bytes: 9000\n"
        "      audio: false\n"
        "      provider: hiapi\n"
        "      model: kling-3.0-omni\n"
        '      date: "2026-11-21"\n'
        "  eve:\n"
        '    "2":\n'
        f'      key: "{"1" * 64}"\n'
        f"      clip: {'c' * 64}\n"
        '      duration: "5.042"\n'
        "      frames: 121\n"
        "      size: 1920x1080\n"
        '      rate: "24"\n'
        "      bytes: 9000\n"
        "      audio: false\n"
        "      provider: hiapi\n"
        "      model: kling-3.0-omni\n"
        "      task: t-1\n"
        '      cost: "0.560"\n'
        '      date: "2026-11-21"\n'
        f"      inputs: {{first_frame: {'7d' * 32}}}\n"
        "      parts: {duration: 5, model: kling-3.0-omni, prompt: 0f3ac2b19e71, recipe: 1, sound: false}\n"
    )
    assert reread(text).entry("", EVE, 2) == entry("1")


def test_a_matrix_film_stands_under_its_variant() -> None:
    made = Lock({"9x16-en": {DAWN: {1: entry("b")}}, "16x9-en": {DAWN: {1: entry("a")}}})
    text = lock.dump(made)
    assert 'films:\n  "16x9-en":\n    dawn:\n' in text
    assert text.index("16x9-en") < text.index("9x16-en")
    assert reread(text) == made


def test_an_empty_lock_is_read_back_empty() -> None:
    assert lock.dump(Lock()).endswith("klingflow_lock: 1\nshots: {}\n")
    assert reread(lock.dump(Lock())) == Lock()


@pytest.mark.parametrize(
    "text",
    [
        *("12e45", "0x1f", "0o17", "1_000", "007", "1.5", ".5", "1e3", "0b11", "null", "No", "on", "~", "", " a"),
        *("a: b", "a #b", "- a", "2024-01-02", "1:30", "y", "é", "\u2028", "\x85", "😀", '"', "\\", "\n", "\x00\x7f"),
        *("\ufeff", "=", "<<", "*a", "{a}", "a,b", "1.2.3", "infinity", "0.0.0e", "e5", "-1", "+1", "?", "%a"),
    ],
)
def test_every_text_is_read_back_as_that_text_by_old_and_new_readers(text: str) -> None:
    made = Lock({"": {DAWN: {1: entry("a", parts={"prompt": text})}}})
    dumped = lock.dump(made)
    assert reread(dumped) == made
    assert yaml.safe_load(dumped)["shots"]["dawn"]["1"]["parts"]["prompt"] == text


HEX = st.one_of(
    st.text("0123456789abcdef", min_size=64, max_size=64),
    st.text("0123456789e", min_size=64, max_size=64),
    st.text("0123456789", min_size=64, max_size=64),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ENTRIES = st.builds(
    Entry,
    key=HEX.map(Key),
    clip=HEX.map(Digest),
    duration=st.decimals(0, 999, places=3).map(str),
    frames=st.integers(1, 10**6),
    size=st.tuples(st.integers(1, 9999), st.integers(1, 9999)).map(lambda size: f"{size[0]}x{size[1]}"),
    rate=st.sampled_from(["24", "24000/1001"]),
    bytes=st.integers(1, 10**12),
    audio=st.booleans(),
    provider=TEXT.filter(bool),
    model=TEXT.filter(bool),
    task=st.none() | TEXT.map(TaskId),
    cost=st.none() | st.decimals(0, 99, places=4),
    date=st.dates().map(str),
    inputs=st.dictionaries(st.sampled_from(["first_frame", "images.0", "elements.1.frontal_image"]), HEX.map(Digest)),
    parts=st.dictionaries(TEXT, TEXT | HEX | st.integers(-9, 9999) | st.booleans(), max_size=4),
)
IDS = st.sampled_from(["dawn", "12e45", "007", "null", "y", "a_b-c", "0x1f", "2024-01-02"]).map(ShotId)
TAKES = st.dictionaries(st.integers(1, 99), ENTRIES, min_size=1, max_size=2)
SHOTS = st.dictionaries(IDS, TAKES, min_size=1, max_size=2)
VARIANTS = st.sampled_from(["", "16x9-en", "9x16", "null", "1e5"])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(VARIANTS, SHOTS, max_size=3))
def test_a_lock_that_is_written_and_read_is_the_same_lock(films: dict[str, Any]) -> None:
    made = Lock(films)
    text = lock.dump(made)
    again = lock.parse(yamlread.read("film.lock.yaml", text))
    assert again == made
    assert lock.dump(again) == text


def test_pictures_are_kept_for_the_files_that_went_into_a_clip_of_the_lock() -> None:
    still, own, gone = (Digest(two * 32) for two in ("1a", "2b", "3c"))
    made = entry("a", parts={"first_frame": f"last of {own[:12]}", "last_frame": still[:12], "duration": 5})
    pictures = {still: Digest("aa" * 32), own: Digest("bb" * 32), gone: Digest("cc" * 32)}
    found = Lock({"": {ShotId("a"): {1: made}}})
    assert found.unknown_pictures(pictures) == {still, own}
    known = lock.with_pictures(found, pictures)
    assert known.pictures == {still: Digest("aa" * 32), own: Digest("bb" * 32)}
    assert known.unknown_pictures(pictures) == set()
    assert reread(lock.dump(known)) == known
    for ours, theirs in ((known, found), (found, known)):
        assert lock.met(found, ours, theirs).pictures == known.pictures
    assert lock.with_former(known).pictures == known.pictures
    assert lock.merged(known, start=known, films=(), made={}).pictures == {}, "no clip is left"
    spare = Lock({}, {ShotId("a"): {made.key: made}})
    assert lock.with_pictures(spare, pictures).pictures == known.pictures


def test_a_renamed_shot_finds_its_clip_by_key() -> None:
    made = Lock({"a": {DAWN: {3: entry("b")}}})
    assert made.find(Key("b" * 64)) == entry("b")
    assert made.find(Key("c" * 64)) is None
    assert made.entry("a", DAWN, 1) is None
    assert made.entry("", DAWN, 3) is None


def test_an_entry_gives_the_facts_of_its_clip() -> None:
    assert entry("a").facts() == ClipFacts(
        digest=Digest("c" * 64),
        bytes=9000,
        width=1920,
        height=1080,
        frames=121,
        duration="5.042",
        rate="24",
        audio=False,
    )


NOON = ShotId("noon")
TWO = film("klingflow: 1\nshots: [{id: dawn, prompt: x}, {id: noon, prompt: x}]\n")


def test_a_run_keeps_other_takes_and_drops_shots_that_are_gone() -> None:
    before = Lock({"": {DAWN: {1: entry("1"), 2: entry("2")}, EVE: {1: entry("3")}}, "old": {DAWN: {1: entry("4")}}})
    made = {("", DAWN, 2): entry("5"), ("", NOON, 1): entry("6")}
    after = lock.merged(before, start=before, films=[TWO], made=made)
    assert after == Lock({"": {DAWN: {1: entry("1"), 2: entry("5")}, NOON: {1: entry("6")}}})
    assert lock.merged(after, start=after, films=[TWO], made={}) == after


def test_what_another_run_wrote_meanwhile_is_kept() -> None:
    start = Lock({"": {DAWN: {1: entry("1")}}})
    disk = Lock({"": {DAWN: {1: entry("2")}}})
    used, changed = {("", DAWN, 1): entry("1")}, {("", DAWN, 1): entry("3")}
    assert lock.merged(disk, start=start, films=[TWO], made=used) == disk
    assert lock.merged(disk, start=start, films=[TWO], made=changed) == Lock({"": {DAWN: {1: entry("3")}}})
    assert lock.merged(Lock(), start=start, films=[TWO], made=used) == start  # a lock that was deleted meanwhile


def test_a_shot_that_is_gone_keeps_the_entry_that_another_run_wrote() -> None:
    start = Lock({"": {EVE: {1: entry("1"), 2: entry("2")}}})
    disk = Lock({"": {EVE: {1: entry("1"), 2: entry("3")}}, "en": {DAWN: {1: entry("4")}}})
    after = Lock({"": {EVE: {2: entry("3")}}, "en": {DAWN: {1: entry("4")}}})
    assert lock.merged(disk, start=start, films=[TWO], made={}) == after


def test_nothing_is_dropped_while_a_held_shot_has_no_entry() -> None:
    held = film("klingflow: 1\nshots: [{id: dawn, prompt: x, hold: true}, {id: noon, prompt: x}]\n")
    start = Lock({"": {EVE: {1: entry("1")}}})
    made = {("", NOON, 1): entry("2")}
    first = lock.merged(start, start=start, films=[held], made=made)
    assert first == Lock({"": {EVE: {1: entry("1")}, NOON: {1: entry("2")}}})
    second = lock.merged(first, start=first, films=[held], made={("", DAWN, 1): entry("1")})
    assert second == Lock({"": {DAWN: {1: entry("1")}, NOON: {1: entry("2")}}})


PLACES = st.tuples(st.sampled_from(["", "en"]), st.sampled_from([DAWN, NOON]), st.integers(1, 3))
SOME = st.builds(entry, st.sampled_from("abcdef"))


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(PLACES, SOME, max_size=8),
    st.dictionaries(PLACES, SOME, max_size=6),
    st.dictionaries(PLACES, SOME, max_size=6),
    st.booleans(),
)
def test_two_runs_over_different_shots_lose_no_entry_in_any_order(
    before: dict[Any, Entry], one: dict[Any, Entry], other: dict[Any, Entry], swapped: bool
) -> None:
    runs = [one, {place: entry for place, entry in other.items() if place not in one}]
    films = [TWO, replace(TWO, variant="en")]
    start = lock.merged(Lock(), start=Lock(), films=films, made=before)
    disk = start
    for made in reversed(runs) if swapped else runs:
        disk = lock.merged(disk, start=start, films=films, made=made)
    for (variant, shot, take), wanted in {**before, **runs[0], **runs[1]}.items():
        assert disk.entry(variant, shot, take) == wanted


def held(storyboard: str, entries: Lock, *, key: str = "", claimed: str = "") -> Entry | None:
    """The entry of the last held shot of the last film."""
    all_of_them = films("klingflow: 1\n" + storyboard)
    shot = [shot for shot in all_of_them[-1].shots if shot.hold][-1]
    return entries.held(
        all_of_them[-1],
        shot,
        key=Key(key * 64) if key else None,
        variants=[film.variant for film in all_of_them],
        claimed=[Key(one * 64) for one in claimed],
    )


ONE_HELD = "shots: [{id: noon, prompt: x, hold: true}, {id: eve, prompt: x}]\n"
MATRIX = "matrix: {lang: [en, de]}\n"


def test_a_held_shot_keeps_the_entry_at_its_own_place() -> None:
    entries = Lock({"": {NOON: {1: entry("1"), 2: entry("2")}, DAWN: {1: entry("3")}}})
    assert held(ONE_HELD, entries, key="3") == entry("1")
    assert held(ONE_HELD.replace("hold", "take: 2, hold"), entries) == entry("2")


def test_a_held_shot_that_was_renamed_is_known_by_its_key() -> None:
    entries = Lock({"": {DAWN: {1: entry("1")}, ShotId("dusk"): {1: entry("2")}}})
    assert held(ONE_HELD, entries, key="2") == entry("2")


def test_a_held_shot_that_was_renamed_is_known_where_it_alone_can_be_meant() -> None:
    entries = Lock({"": {DAWN: {1: entry("1")}, EVE: {1: entry("2")}}})
    assert held(ONE_HELD, entries) == entry("1")
    assert held(ONE_HELD, entries, key="9") == entry("1"), "its inputs changed together with its name"
    assert held(ONE_HELD, entries, claimed="1") is None, "another shot has this very key: that was renamed"
    assert held(ONE_HELD.replace("hold", "take: 2, hold"), entries) is None, "another take is another clip"
    two_gone = Lock({"": {DAWN: {1: entry("1")}, ShotId("dusk"): {1: entry("2")}}})
    assert held(ONE_HELD, two_gone) is None
    two_held = "shots: [{id: noon, prompt: x, hold: true}, {id: eve, prompt: x, hold: true}]\n"
    assert held(two_held, Lock({"": {DAWN: {1: entry("1")}}})) is None
    assert held(two_held, Lock({"": {DAWN: {1: entry("1")}, NOON: {1: entry("2")}}})) == entry("1")
    assert held(ONE_HELD, Lock({"": {EVE: {1: entry("2")}}})) is None, "what another shot has is not taken from it"


def test_a_held_shot_is_known_when_a_matrix_is_added_changed_or_removed() -> None:
    plain = Lock({"": {NOON: {1: entry("1")}, EVE: {1: entry("2")}}})
    assert held(MATRIX + ONE_HELD, plain) == entry("1")
    both = Lock({"en": {NOON: {1: entry("1")}}, "de": {NOON: {1: entry("1")}}})
    assert held(ONE_HELD, both) == entry("1")
    assert held(MATRIX.replace("lang", "aspect").replace("en, de", '"16:9"') + ONE_HELD, both) == entry("1")
    differing = Lock({"en": {NOON: {1: entry("1")}}, "de": {NOON: {1: entry("2", clip=Digest("d" * 64))}}})
    assert held(ONE_HELD, differing) is None, "which of the two clips it keeps, a person decides"
    assert held(ONE_HELD, differing, key="2") == differing.entry("de", NOON, 1)
    declared = Lock({"en": {NOON: {1: entry("1")}}})
    assert held(MATRIX + ONE_HELD, declared) is None, "the clip of a film that is still there is that film's"


def test_moving_a_shot_in_the_storyboard_changes_nothing() -> None:
    one = Lock({"": {DAWN: {1: entry("1")}, EVE: {1: entry("2")}}})
    other = Lock({"": {EVE: {1: entry("2")}, DAWN: {1: entry("1")}}})
    assert lock.dump(one) == lock.dump(other)


def pick(take: int = 2, clip: str = "2", **fields: Any) -> Pick:
    values: dict[str, Any] = {"by": "Ada Lovelace", "why": "the boat: it turns", "date": "2026-11-27"}
    return Pick(take=take, clip=Digest(clip * 64), **{**values, **fields})


def test_picks_are_written_by_shot_and_film_and_read_back() -> None:
    made = Lock(
        {"": {DAWN: {2: entry("a")}}},
        picks={"": {"eve": pick(1, "1", why=""), "dawn": pick(), "dawn.first_frame": pick()}, "en": {"dawn": pick()}},
    )
    text = lock.dump(made)
    assert text.endswith(
        "picks:\n"
        "  shots:\n"
        "    dawn:\n"
        "      take: 2\n"
        f'      clip: "{"2" * 64}"\n'
        '      by: "Ada Lovelace"\n'
        '      why: "the boat: it turns"\n'
        '      date: "2026-11-27"\n'
        "    dawn.first_frame:\n"
        "      take: 2\n"
        f'      clip: "{"2" * 64}"\n'
        '      by: "Ada Lovelace"\n'
        '      why: "the boat: it turns"\n'
        '      date: "2026-11-27"\n'
        "    eve:\n"
        "      take: 1\n"
        f'      clip: "{"1" * 64}"\n'
        '      by: "Ada Lovelace"\n'
        '      date: "2026-11-27"\n'
        "  films:\n"
        "    en:\n"
        "      dawn:\n"
        "        take: 2\n"
        f'        clip: "{"2" * 64}"\n'
        '        by: "Ada Lovelace"\n'
        '        why: "the boat: it turns"\n'
        '        date: "2026-11-27"\n'
    )
    assert reread(text) == made
    assert made.pick("", "dawn") == pick()
    assert made.pick("en", "dawn.first_frame") is None


@pytest.mark.parametrize("why", ['say "no"', "two\nlines", "\u2028", "日本", "#", "", "x" * 300])
def test_a_note_of_any_text_is_read_back(why: str) -> None:
    made = Lock(picks={"": {"dawn": pick(why=why)}})
    assert reread(lock.dump(made)) == made


def test_a_run_keeps_picks_while_their_shot_lives() -> None:
    picks = {"": {"dawn": pick(), "dawn.last_frame": pick(), "eve": pick()}, "old": {"dawn": pick()}}
    before = Lock({"": {DAWN: {1: entry("1")}}}, picks=picks)
    after = lock.merged(before, start=Lock(), films=[TWO], made={("", NOON, 1): entry("2")})
    assert after.picks == {"": {"dawn": pick(), "dawn.last_frame": pick()}}
    assert lock.with_former(before).picks == picks, "of a storyboard that was renamed"
    chosen = lock.with_pick(before, "", "dawn", pick(3))
    assert chosen.picks == {**picks, "": {**picks[""], "dawn": pick(3)}}
    assert lock.with_pick(Lock(), "en", "eve", pick()).picks == {"en": {"eve": pick()}}
