from __future__ import annotations

from textwrap import dedent

import pytest

from klingflow.core import digest
from klingflow.core.model import Digest, ImageFacts, ShotId
from klingflow.core.source import Severity
from klingflow.storyboard import mentions
from tests.storyboards import faults, loaded

PICTURES = ("captain.png", "skipper.png", "side.png", "boat.png")
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


NAMED = """\
    klingflow: 1
    vars: {look: grainy}
    defaults:
      provider: mulerouter
      elements:
        captain: {frontal_image: captain.png, reference_images: [side.png]}
        boat: {frontal_image: boat.png}
    shots:
      - {id: dawn, prompt: "{{ element.boat }} and {{ element.captain }}"}
      - {id: noon, prompt: "{{ element.gull }} over {{ look }}", elements: {gull: {frontal_image: gull.png}}}
      - {id: dusk, prompt: nobody, elements: []}
"""


def test_elements_with_names_are_mentioned_by_them() -> None:
    (made,), problems = loaded(NAMED)
    assert problems == []
    assert [shot.prompt for shot in made.shots] == [
        "<<<element_2>>> and <<<element_1>>>", "<<<element_1>>> over grainy", "nobody",
    ]  # fmt: skip
    assert [[element.name for element in shot.elements] for shot in made.shots] == [["captain", "boat"], ["gull"], []]
    assert made.where(ShotId("dawn"), "elements.0.reference_images.0").line == 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("element.boat", "element.bota"), "9:25 undefined: 'element' has no 'bota'"),
        (("element.gull }} over", "element.boat }} over"), "10:25 undefined: 'element' has no 'boat'"),
        (("look: grainy", "look: '{{ element.boat }}'"), "2:15 undefined: 'element' is known only inside a shot"),
        (("look: grainy", "element: grainy"), "2:8 reserved-name: 'element' means something else in templates"),
        (("boat.png", "../../boat.png"), "7:27 path: "),
    ],
)
def test_what_is_wrong_with_a_named_element_is_said_at_its_place(change: tuple[str, str], said: str) -> None:
    assert faults(NAMED.replace(*change))[0].startswith(said)


def test_the_name_of_an_element_is_no_part_of_the_key() -> None:
    (named,), _ = loaded(NAMED.replace("captain:", "skipper:").replace("element.captain", "element.skipper"))
    (other,), _ = loaded(NAMED)
    stills = {n: ImageFacts(digest=Digest(n), format="PNG", width=9, height=9, bytes=1) for n in PICTURES}
    keys = [digest.key(digest.parts(one.shots[0], "m", stills, {}, {}) or {}) for one in (named, other)]
    assert keys[0] == keys[1]


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
