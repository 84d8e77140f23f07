from __future__ import annotations

from textwrap import dedent

import pytest

from klingflow.core.source import Severity
from klingflow.storyboard import mentions
from tests.storyboards import faults, loaded

ONE = {"element": 1, "image": 0}


@pytest.mark.parametrize(
    ("text", "given", "what"),
    [
        ("<<<element_1>>> waves", ONE, None),
        ("no mention, 3 << 4 <<a>> <b>", ONE, None),
        ("<<<element_2>>> waves", ONE, "<<<element_2>>> is mentioned, and the shot has 1 element"),
        ("<<<element_1>>> waves", {"element": 0, "image": 2}, "the shot has no elements"),
        ("like <<<image_3>>>", {"element": 0, "image": 2}, "the shot has 2 images"),
        ("<<<element_0>>> waves", ONE, "<<<element_0>>> is no mention of an image"),
        ("<<<elment_1>>> waves", ONE, "<<<elment_1>>> is no mention of an image"),
        ("<<<element_01>>> waves", ONE, "is no mention"),
        ("<<< element_1 >>> waves", ONE, "is no mention"),
    ],
)
def test_wrong_names_each_mention_that_means_nothing(text: str, given: dict[str, int], what: str | None) -> None:
    found = list(mentions.wrong(["before", text], given))
    assert [fault.text for fault in found] == ([] if what is None else [1])
    for fault in found:
        assert what is not None
        assert what in fault.what
        assert text[fault.start : fault.start + fault.length] in fault.what


@pytest.mark.parametrize(
    ("text", "given", "left"),
    [
        ("<<<element_1>>>", ONE, []),
        ("a boat", ONE, ["<<<element_1>>> is given"]),
        ("<<<element_2>>>", {"element": 3, "image": 0}, ["<<<element_1>>> and <<<element_3>>> are given"]),
        ("a boat", {"element": 0, "image": 2}, []),  # they may set the style
        ("<<<image_2>>>", {"element": 0, "image": 2}, ["<<<image_1>>> is given"]),
    ],
)
def test_missing_names_what_no_prompt_mentions(text: str, given: dict[str, int], left: list[str]) -> None:
    found = [fault.what for fault in mentions.missing([text], given)]
    assert [what.startswith(start) for what, start in zip(found, left, strict=True)] == [True] * len(left)


def test_replaced_writes_mentions_as_a_seller_spells_them() -> None:
    text = "<<<element_1>>> meets <<<image_12>>>; <<<element_x>>> stays"
    spelled = mentions.replaced(text, lambda kind, n: f"@{kind.title()}{n}")
    assert spelled == "@Element1 meets @Image12; <<<element_x>>> stays"


BOARD = """\
klingflow: 1
defaults: {provider: mulerouter}
shots:
  - id: dawn
    first_frame: a.png
    elements: [{frontal_image: a.png}]
    prompt: |
      Waves.
      Then PROMPT comes.
"""


@pytest.mark.parametrize("provider", ["mulerouter", "animatic", "hiapi"])
def test_a_storyboard_is_refused_where_its_prompt_mentions_what_it_does_not_give(provider: str) -> None:
    text = BOARD.replace("PROMPT", "<<<element_1>>> and <<<element_4>>>").replace("mulerouter", provider)
    assert faults(text) == ["9:32 mention: shot 'dawn': <<<element_4>>> is mentioned, and the shot has 1 element"]


def test_an_element_that_is_never_mentioned_is_a_warning_where_it_is_given() -> None:
    _, (fault,) = loaded(BOARD.replace("PROMPT", "she"))
    assert (fault.severity, fault.span and fault.span.line) == (Severity.WARNING, 6)
    assert "never mentioned" in fault.what


def test_mentions_in_the_prompts_of_a_multi_shot_count() -> None:
    text = dedent("""\
        klingflow: 1
        shots:
          - id: dawn
            provider: mulerouter
            elements: [{frontal_image: a.png}]
            duration: 5
            multi_shot:
              by: customize
              shots:
                - {prompt: "<<<element_1>>> waves", duration: 2}
                - {prompt: "<<<element_2>>> leaves", duration: 3}
        """)
    assert faults(text) == ["11:21 mention: shot 'dawn': <<<element_2>>> is mentioned, and the shot has 1 element"]
