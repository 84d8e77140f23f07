from __future__ import annotations

import json

import pytest

from klingflow.app.project_loader import parse
from klingflow.core import digest
from klingflow.storyboard import schema, yamlread
from klingflow.storyboard.scalar import WrittenFloat, WrittenInt, like, pack, scalar, unpack, written
from tests.storyboards import faults, film, films

NUMBERS = ["007", "3.10", "1e3", "00501", "+1", "-0", "1.", ".5", "0x1F", "0o17", "-007.50", "6.022E+23", "1.0", "42"]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_printed_as_it_was_written(text: str) -> None:
    assert isinstance(scalar(text), int | float)
    made = film(f'klingflow: 1\nvars: {{n: {text}}}\nshots: [{{id: a, prompt: "{{{{ n }}}} {{{{ n ~ \'!\' }}}}"}}]')
    assert made.shots[0].prompt == f"{text} {text}!"


def test_it_keeps_its_writing_wherever_a_variable_may_stand() -> None:
    made = film(
        """
        klingflow: 1
        vars: {list: [007, {n: 1.50}], same: &year 0800, again: *year}
        defaults: {vars: {d: 02}}
        shots:
          - id: a
            vars: {own: 1e3}
            prompt: >-
              {{ list[0] }} {{ list[1].n }} {{ again }} {{ d }} {{ own }}
              {{ [list[0], 'b'] | join('+') }} {{ own | upper }}
        """
    )
    assert made.shots[0].prompt == "007 1.50 0800 02 1e3 007+b 1E3"


def test_a_truth_is_printed_as_it_was_written_and_is_a_truth() -> None:
    made = film(
        """
        klingflow: 1
        vars: {a: True, b: FALSE, c: true, all: [False, {d: TRUE}]}
        defaults: {sound: True}
        shots:
          - id: a
            vars: {own: False}
            prompt: >-
              {{ a }} {{ b }} {{ c }} {{ all[0] }} {{ all[1].d }} {{ own }} {{ a | upper }}
              {{ "yes" if a and not b and a is true and b is false and a == true and a is not number }}
        """
    )
    (shot,) = made.shots
    assert shot.prompt == "True FALSE true False TRUE False TRUE yes"
    assert shot.sound is True


def test_it_is_a_number_for_everything_else() -> None:
    made = film(
        """
        klingflow: 1
        vars: {n: 007, x: 3.10, i: 01, words: [zero, one]}
        shots:
          - id: a
            prompt: >-
              {% if n > 3 and x < 3.2 and n == 7 and x == 3.1 and n is odd and n is number %}yes{% endif %}
              {{ -n }} {{ x | int }} {{ words[i] }}
            duration: 05
            multi_shot: {by: customize, shots: [{prompt: "{{ shot.duration }}", duration: 05}]}
        """
    )
    (shot,) = made.shots
    assert shot.prompt == "yes -7 3 one"
    assert (shot.multi_shot.shots if shot.multi_shot else ()) == (("5", 5),), "a field of a shot is no variable"
    assert type(shot.duration) is int, "05 seconds and 5 are the same purchase"


@pytest.mark.parametrize(
    ("declared", "given"),
    [(1234, "00501"), (1, "3.10"), (1.5, "2"), (3, "1e3"), (3, "a lot"), (True, "false"), (True, "False")],
)
def test_a_value_of_the_command_line_is_printed_as_it_was_typed(declared: object, given: str) -> None:
    assert written(like(declared, given)) == given
    assert like("text", "007") == "007"
    assert not like(True, "FALSE")
    made = film(
        'klingflow: 1\nvars: {n: 1}\nshots: [{id: a, prompt: "{{ n }}{% if n > 3 %} is more{% endif %}"}]',
        overrides={"n": "00501"},
    )
    assert made.shots[0].prompt == "00501 is more"


def test_values_of_a_matrix_are_told_apart_by_how_they_are_written() -> None:
    made = films(
        """
        klingflow: 1
        matrix: {v: [1.10, "1.1", 1.100, 1e3], exclude: [{v: "1.100"}]}
        shots: [{id: a, prompt: "version {{ v }}"}]
        """
    )
    assert [(one.variant, one.matrix["v"], one.shots[0].prompt) for one in made] == [
        ("1.10", "1.10", "version 1.10"),
        ("1.1", "1.1", "version 1.1"),
        ("1e3", "1e3", "version 1e3"),
    ]
    twice = 'klingflow: 1\nmatrix: {v: [1.10, "1.10"]}\nshots: [{id: a, prompt: x}]'
    assert faults(twice) == ["2:20 matrix: 'v' has '1.10' twice"]


def test_what_was_read_once_is_the_same_out_of_the_cache() -> None:
    data = yamlread.read("film.yaml", 'a: [007, 7, {b: 1e3, "c d": x}, 0.5, true, ~]\nd: "007"\ne: 3.10\n').data
    again = unpack(json.loads(json.dumps(pack(data))))
    assert again == data
    for value in (again["a"][0], again["a"][2]["b"], again["e"]):
        assert isinstance(value, WrittenInt | WrittenFloat)
    assert [written(one) for one in (*again["a"][:2], again["a"][2]["b"], again["d"], again["e"])] == [
        "007",
        "7",
        "1e3",
        "007",
        "3.10",
    ]
    assert unpack(data) is None, "what another version kept is read again from its text"
    first, second = (parse("film.yaml", b"klingflow: 1\nvars: {n: 007}\nshots: [{id: a}]", "storyboard") for _ in "ab")
    for document, _ in (first, second):
        assert isinstance(document.data, dict)
        assert written(document.data["vars"]["n"]) == "007"


def test_a_mend_shows_the_text_as_it_was_written() -> None:
    document = yamlread.read("film.yaml", "klingflow: 1\nshots: [{id: a, prompt: 007, duration: 0099}]")
    assert [(one.what, one.mend) for one in schema.check(document, "storyboard")] == [
        ("prompt of shot 'a' must be text, not 007", 'write it in quotes: "007"'),
        ("duration of shot 'a' must be from 3 to 15, not 0099", "write 15"),
    ]


def test_the_key_of_a_shot_knows_no_writing() -> None:
    def key(duration: str) -> str:
        made = film(f"klingflow: 1\nshots: [{{id: a, prompt: x, duration: {duration}}}]")
        listed = digest.parts(made.shots[0], "kling", {}, {}, {})
        assert listed is not None
        return digest.key(listed)

    assert key("05") == key("5")
