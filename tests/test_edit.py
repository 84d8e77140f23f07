"""One value of a YAML file is written anew, and every other byte stays."""

from __future__ import annotations

import random
from typing import Any

import pytest

from klingflow.core.errors import UsageError
from klingflow.core.source import Path
from klingflow.storyboard import yamlread
from klingflow.storyboard.edit import Entry, put, put_list

BOARD = """\
# The harbour. 🚢
klingflow: 1
shots:
  - id: dawn        # the pier
    prompt: |
      Waves roll in.

      Slow.

  # a note
  - {id: harbour, continues: dawn, prompt: "Lamps: go out"}  # flow
  - id: market
    take: 2  # the second was better
    prompt: Stalls.
film:
  audio: score.wav   # the bed
"""

CUT = """\
film:
  shots:
    # the cut of November
    - dawn      # opens
    # act two
    - {shot: harbour, in: 12}   # short
    - market

    - night
  audio: score.wav
"""


def edited(text: str, way: Path, value: object, after: str | None = None) -> str:
    return put("film.yaml", text.encode(), way, value, after=after).decode()


def listed(text: str, *entries: Entry) -> str:
    return put_list("film.yaml", text.encode(), ("film", "shots"), entries).decode()


def data(text: str) -> Any:
    return yamlread.read("film.yaml", text).data


def test_a_scalar_is_written_in_its_place() -> None:
    assert edited(BOARD, ("shots", 2, "take"), 3) == BOARD.replace("take: 2 ", "take: 3 ")


def test_a_missing_key_comes_behind_the_one_that_is_named() -> None:
    new = edited(BOARD, ("shots", 0, "take"), 3, after="id")
    assert new == BOARD.replace("# the pier\n", "# the pier\n    take: 3\n")
    new = edited(BOARD, ("shots", 1, "take"), 3, after="id")
    assert new == BOARD.replace("{id: harbour, ", "{id: harbour, take: 3, ")


def test_a_missing_key_comes_at_the_end_where_none_is_named() -> None:
    assert edited(BOARD, ("shots", 2, "hold"), True) == BOARD.replace("Stalls.\n", "Stalls.\n    hold: true\n")
    new = edited(BOARD, ("film", "shots"), ["dawn", {"shot": "market", "in": 3}])
    assert new == BOARD + "  shots:\n    - dawn\n    - {shot: market, in: 3}\n"
    new = edited(BOARD, ("title",), "Yes: no")
    assert new == BOARD + 'title: "Yes: no"\n'


def test_a_key_behind_a_text_of_several_lines_leaves_the_text_as_it_is() -> None:
    new = edited(BOARD, ("shots", 0, "hold"), True)
    assert data(new)["shots"][0]["prompt"] == data(BOARD)["shots"][0]["prompt"]
    assert new == BOARD.replace("      Slow.\n", "      Slow.\n    hold: true\n")


def test_a_mapping_that_is_not_there_is_written_in_lines() -> None:
    text = "klingflow: 1\nshots: [{id: a, prompt: x}]"
    assert edited(text, ("film",), {"shots": ["a", "a"]}) == f"{text}\nfilm:\n  shots: [a, a]\n"


def test_a_section_at_the_end_is_set_apart_where_the_others_are() -> None:
    text = "klingflow: 1\n\nshots:\n  - {id: a, prompt: x}\n"
    assert edited(text, ("film",), {"shots": ["a"]}) == f"{text}\nfilm:\n  shots: [a]\n"


def test_json_stays_json() -> None:
    text = '{\n  "klingflow": 1,\n  "shots": [{"id": "a", "prompt": "x"}]\n}\n'
    new = edited(text, ("film",), {"shots": ["a", {"shot": "a", "in": 3}]})
    assert new == text.replace("}]\n", '}],\n  "film": {"shots": ["a", {"shot": "a", "in": 3}]}\n')
    again = listed(new, Entry(1, {"shot": "a", "in": 4}), Entry(0), Entry(0))
    assert '"shots": [{"shot": "a", "in": 4}, "a", "a"]' in again


def test_line_ends_and_the_byte_order_mark_stay() -> None:
    raw = b"\xef\xbb\xbf" + BOARD.replace("\n", "\r\n").encode()
    new = put("film.yaml", raw, ("shots", 0, "take"), 3, after="id")
    assert new == raw.replace(b"# the pier\r\n", b"# the pier\r\n    take: 3\r\n")


@pytest.mark.parametrize("text", ["yes", "12", "007", "1e3", "a: b", "", "é", "#x", "null", "2024-01-02", "a\u2028b"])
def test_text_is_quoted_where_it_could_be_taken_for_something_else(text: str) -> None:
    new = edited(BOARD, ("film", "audio"), text)
    assert data(new)["film"]["audio"] == text
    assert f'audio: "{text[:1]}' in new
    assert edited(BOARD, ("film", "audio"), "2.5s") == BOARD.replace("score.wav", "2.5s")


def test_what_an_alias_repeats_is_not_edited_by_stealth() -> None:
    text = "shots:\n  - &one {id: a, take: 1}\n  - *one\n"
    with pytest.raises(UsageError, match=r"shots\.0\.take is written in a way that cannot be edited") as caught:
        edited(text, ("shots", 0, "take"), 2)
    assert caught.value.mend == "write it there by hand, as 2"
    with pytest.raises(UsageError):
        edited(text, ("shots", 1, "take"), 2)


def test_entries_of_a_list_take_their_comments_along() -> None:
    assert listed(CUT, *(Entry(i) for i in range(4))) == CUT
    moved = listed(CUT, Entry(1), Entry(0), Entry(2), Entry(3))
    assert moved == CUT.replace("    - dawn      # opens\n    # act two\n    - {shot: harbour, in: 12}   # short\n",
                                "    # act two\n    - {shot: harbour, in: 12}   # short\n    - dawn      # opens\n")


def test_an_entry_gets_another_value_and_keeps_its_comment() -> None:
    new = listed(CUT, Entry(0, {"shot": "dawn", "out": 80}), *(Entry(i) for i in (1, 2, 3)))
    assert new == CUT.replace("- dawn      # opens", "- {shot: dawn, out: 80}      # opens")


def test_lines_above_an_entry_that_goes_stay() -> None:
    new = listed(CUT, Entry(0), Entry(2), Entry(3))
    assert new == CUT.replace("    - {shot: harbour, in: 12}   # short\n", "")
    new = listed(CUT, Entry(0))
    assert "# act two\n\n  audio" in new
    assert data(new)["film"]["shots"] == ["dawn"]


def test_an_entry_may_come_twice_and_from_nowhere() -> None:
    new = listed(CUT, Entry(0), Entry(0), Entry(None, "storm"), *(Entry(i) for i in (1, 2, 3)))
    assert new == CUT.replace("# opens\n", "# opens\n    - dawn\n    - storm\n")


def test_a_list_in_brackets_stays_in_brackets() -> None:
    text = "film: {shots: [dawn, 'harbour', market], audio: a.wav}  # here\n"
    assert listed(text, Entry(2), Entry(1)) == text.replace("dawn, 'harbour', market", "market, 'harbour'")
    many = [Entry(None, {"shot": "harbour", "in": n}) for n in range(4)]
    assert listed("film:\n  shots: [dawn]\n", Entry(0), *many).startswith(
        "film:\n  shots: [\n    dawn,\n    {shot: harbour, in: 0},\n"
    )


def test_comments_in_a_list_in_brackets_stay() -> None:
    text = "film:\n  shots: [ # cut\n    a, # one\n    # two\n    b,\n    c # three\n  ]\n"
    new = listed(text, Entry(1), Entry(2), Entry(0))
    assert data(new)["film"]["shots"] == ["b", "c", "a"]
    assert all(comment in new for comment in ("# cut", "# one", "# two", "# three"))
    assert "    # two\n    b,\n    c,  # three\n" in new


def test_random_lists_are_as_asked_and_nothing_else_changes() -> None:
    """What is asked for is what is read, and every line that is no entry stays."""
    for seed in range(150):
        rng = random.Random(seed)
        count = rng.randint(1, 6)
        lines = []
        for n in range(count):
            lines += [f"    # {n}"] * rng.randint(0, 1) + [""] * rng.randint(0, 1)
            value = rng.choice([f"s{n}", f"{{shot: s{n}, in: {n}}}", f"shot: s{n}\n      out: 9"])
            lines.append(f"    - {value}" + rng.choice(["", "   # beside"]))
        text = "a: 1 # a\nfilm:\n  shots:\n" + "\n".join(lines) + "\n  audio: x.wav\n# end"
        old = data(text)["film"]["shots"]
        entries = [
            rng.choice([Entry(n), Entry(n, {"shot": f"s{n}", "in": 5}), Entry(None, f"n{n}")])
            for n in (rng.randrange(count) for _ in range(rng.randint(1, 8)))
        ]
        new = listed(text, *entries)
        wanted = [old[e.old] if e.value is None and e.old is not None else e.value for e in entries]
        assert data(new) == data(text) | {"film": {"shots": wanted, "audio": "x.wav"}}
        above = [sorted(line for line in each.splitlines() if line.lstrip()[:1] == "#") for each in (text, new)]
        assert above[0] == above[1]
        assert new.startswith("a: 1 # a\nfilm:\n  shots:\n")
        assert new.endswith("\n  audio: x.wav\n# end")
