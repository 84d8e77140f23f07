from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klingflow.core.model import ClipFacts, Digest, Key, ShotId, TaskId
from klingflow.storyboard import lock, schema, yamlread
from klingflow.storyboard.lock import Entry, Lock
from tests.storyboards import film


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


def test_a_run_keeps_other_takes_and_drops_shots_that_are_gone() -> None:
    before = Lock({"": {DAWN: {1: entry("1"), 2: entry("2")}, EVE: {1: entry("3")}}, "old": {DAWN: {1: entry("4")}}})
    made = film("klingflow: 1\nshots: [{id: dawn, prompt: x}, {id: noon, prompt: x}]\n")
    after = lock.updated(before, [made], {("", DAWN, 2): entry("5"), ("", ShotId("noon"), 1): entry("6")})
    assert after == Lock({"": {DAWN: {1: entry("1"), 2: entry("5")}, ShotId("noon"): {1: entry("6")}}})
    assert lock.updated(after, [made], {}) == after


def test_moving_a_shot_in_the_storyboard_changes_nothing() -> None:
    one = Lock({"": {DAWN: {1: entry("1")}, EVE: {1: entry("2")}}})
    other = Lock({"": {EVE: {1: entry("2")}, DAWN: {1: entry("1")}}})
    assert lock.dump(one) == lock.dump(other)
