"""Stills to choose from: what is declared, what is wrong with it, and that nothing is bought before a choice."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from klingflow.core import digest
from klingflow.core.model import FileStill, Film, ImageFacts, Proposal, ShotFrame, ShotId
from klingflow.planning import plan as planning
from klingflow.planning.compare import compare
from klingflow.planning.gates import Wait
from klingflow.planning.plan import Sums
from klingflow.planning.schedule import prices_anew
from tests import storyboards
from tests.cli import Project
from tests.storyboards import faults
from tests.test_compare import side
from tests.test_gates import actions, made, step_of
from tests.test_plan import INPUTS, entry, film, lookups, shot

THREE = Proposal(ShotId("dawn"), "first_frame", ("a.png", "b.png", "c.png"))
BOARD = """
    klingflow: 1
    shots:
    - id: dawn
      first_frame: {stills: [a.png, b.png, c.png]%s}
      last_frame: {stills: [d.png, e.png]}
      prompt: dawn
    - {id: noon, meets: dawn, prompt: noon}
    - {id: dusk, first_frame: {still: dawn}, prompt: dusk}
"""


def board(take: str = "") -> Film:
    return storyboards.film(BOARD % take)


def test_a_choice_that_is_open_has_its_first_still_and_one_that_is_made_the_very_file() -> None:
    dawn = board().shots[0]
    assert dawn.first_frame == FileStill("a.png")
    assert dawn.proposals()[0] == THREE
    chosen = board(", take: 2").shots[0]
    assert chosen.first_frame == FileStill("b.png")
    assert chosen.proposals()[0] == replace(THREE, take=2)
    plain = storyboards.film("klingflow: 1\nshots: [{id: dawn, first_frame: b.png, prompt: dawn}]\n").shots[0]
    facts = {name: ImageFacts(**{**_facts(), "digest": name * 8}) for name in ("a.png", "b.png", "d.png")}
    keys = [digest.parts(replace(one, last_frame=None), "m", facts, {}, {}) for one in (chosen, plain)]
    assert keys[0] == keys[1]


def _facts() -> dict[str, object]:
    return {"format": "PNG", "width": 1280, "height": 720, "bytes": 1}


def test_a_film_lists_every_choice_once_where_it_is_declared() -> None:
    one = board(", take: 3")
    assert [(p.shot, p.frame, p.stills, p.take) for p in one.proposals()] == [
        ("dawn", "first_frame", ("a.png", "b.png", "c.png"), 3),
        ("dawn", "last_frame", ("d.png", "e.png"), None),
    ]
    for name in ("noon", "dusk"):
        assert [(p.shot, p.frame) for p in one.shot(ShotId(name)).proposals()] == [("dawn", "last_frame")]


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        ("{stills: [a.png]}", "5:25 stills: first_frame of 'dawn' proposes nothing to choose from"),
        ("{stills: []}", "5:25 stills: first_frame of 'dawn' proposes nothing to choose from"),
        ("{stills: [a.png, b.png, a.png]}", "5:40 stills: first_frame of 'dawn' proposes 'a.png' twice"),
        (
            "{stills: [a.png, b.png], take: 3}",
            "5:47 stills: take 3 of first_frame of 'dawn' is chosen, and 2 stills are proposed",
        ),
        ('{stills: [a.png, "https://x.example/b.png"]}', "5:33 stills: a proposed still is a file"),
        ("{stills: [a.png, ../b.png]}", "5:33 path: '../b.png' leaves the project"),
    ],
)
def test_what_cannot_be_chosen_from_is_a_fault_at_its_place(frame: str, fault: str) -> None:
    text = f"klingflow: 1\nshots:\n- id: dawn\n  prompt: dawn\n  first_frame: {frame}\n"
    assert faults(text) == [fault]


def test_stills_are_proposed_for_the_ends_of_a_shot_alone(project: Project) -> None:
    project.write("film.yaml", "klingflow: 1\nshots:\n- id: a\n  prompt: a\n  images: [{stills: [a.png, b.png]}]\n")
    said = project.run("check", "film.yaml").said
    assert "film.yaml:5:13: entry 1 of images of shot 'a' has no field 'stills'" in said
    both = "{stills: [a.png, b.png], still: b}"
    project.write("film.yaml", f"klingflow: 1\nshots:\n- id: a\n  prompt: a\n  first_frame: {both}\n")
    assert "a frame is one of shot, still, stills or url, not several" in project.run("check", "film.yaml").said


def test_a_proposed_file_that_is_not_there_is_told_at_its_place(project: Project) -> None:
    project.write("film.yaml", "klingflow: 1\nshots:\n- id: a\n  prompt: a\n  first_frame: {stills: [a.png, b.png]}\n")
    said = project.run("check", "film.yaml").said
    assert "film.yaml:5:26: " in said
    assert "film.yaml:5:33: " in said
    assert said.count("there is no file") == 2


def two(take: int | None = None) -> Film:
    """dawn with two stills for its first frame <- noon, and eve that needs neither."""
    proposal = Proposal(ShotId("dawn"), "first_frame", ("a.png", "b.png"), take)
    dawn = shot("dawn", first_frame=FileStill(proposal.stills[(take or 1) - 1], proposal))
    return film(dawn, shot("noon", first_frame=ShotFrame(ShotId("dawn"))), shot("eve"))


def test_nothing_that_needs_the_frame_is_bought_before_a_choice() -> None:
    plan = made(two())
    assert actions(plan) == {"dawn": "wait", "noon": "wait", "eve": "make"}
    dawn, noon = step_of(plan, "dawn"), step_of(plan, "noon")
    assert dawn.reason == "choose one of 2 stills for first_frame: klingflow takes"
    assert noon.reason == "choose one of 2 stills for first_frame of dawn: klingflow takes"
    assert dawn.waits_for == noon.waits_for == (Wait(ShotId("dawn"), "first_frame"),)
    assert (dawn.key, dawn.purchase, dawn.orders) == (None, None, False)
    assert planning.totals(plan.films).later == Sums(spend=Decimal("1.0"), seconds=10, tasks=2)


def test_a_choice_is_the_plain_file() -> None:
    chosen = made(two(2))
    plain = made(film(shot("dawn", first_frame=FileStill("b.png")), *two().shots[1:]))
    assert actions(chosen) == {"dawn": "make", "noon": "make", "eve": "make"}
    assert step_of(chosen, "dawn").key == step_of(plain, "dawn").key


def test_a_shot_that_meets_a_proposed_still_waits_for_its_choice() -> None:
    proposal = Proposal(ShotId("dawn"), "last_frame", ("a.png", "b.png"))
    last = FileStill("a.png", proposal)
    dawn = shot("dawn", last_frame=last)
    plan = made(film(dawn, shot("noon", first_frame=last, meets=ShotId("dawn"))))
    assert actions(plan) == {"dawn": "wait", "noon": "wait"}
    assert step_of(plan, "noon").reason == "choose one of 2 stills for last_frame of dawn: klingflow takes"


def test_a_clip_that_is_there_for_the_first_stays_and_nothing_is_bought_after_it() -> None:
    one = two()
    plan = made(one, {"dawn": entry(one.shots[0])})
    assert actions(plan) == {"dawn": "reuse", "noon": "wait", "eve": "make"}
    assert step_of(plan, "dawn").reason == (
        "up to date; choose one of 2 stills for first_frame of dawn; until then the first stands in"
    )
    held = replace(one, shots=(replace(one.shots[0], hold=True), *one.shots[1:]))
    assert actions(made(held, {"dawn": entry(one.shots[0])})) == {"dawn": "hold", "noon": "make", "eve": "make"}


def test_a_gate_and_a_choice_are_told_one_after_the_other() -> None:
    one = two()
    gated = replace(one, shots=(replace(one.shots[0], gate="approved"), *one.shots[1:]))
    assert step_of(made(gated), "noon").waits_for == (Wait(ShotId("dawn"), "first_frame"), Wait(ShotId("dawn")))
    assert step_of(made(gated), "noon").reason.endswith("klingflow takes; then for dawn")


def test_a_rehearsal_uses_the_first_and_the_whole_film_has_its_price() -> None:
    assert set(actions(made(two(), todo=None)).values()) == {"make"}
    assert prices_anew([two()], INPUTS, lookups()) == {"": Decimal("1.5")}


def test_a_change_of_what_is_proposed_or_chosen_is_shown() -> None:
    open_, second = (replace(side(one), stills=INPUTS.stills) for one in (two(), two(2)))
    (changed,) = compare(open_, second).shots
    (field,) = changed.fields
    assert field.field == "first_frame"
    assert field.old.startswith("to be chosen: a.png")
    assert field.new.startswith("b.png")
    assert compare(open_, open_).shots == ()
