from __future__ import annotations

import time
from dataclasses import replace

import pytest

from klingflow.core.errors import StoryboardError
from klingflow.core.model import Shot, ShotFrame, ShotId
from klingflow.core.source import Severity, Span
from klingflow.planning import graph
from tests.storyboards import film

BRANCHES = """\
klingflow: 1
defaults: {max_chain: 2}
shots:
  - {id: end, continues: left, last_frame: {shot: dawn, frame: first}}
  - {id: left, continues: dawn, last_frame: l.png}
  - {id: right, continues: dawn}
  - {id: dawn, prompt: x}
  - {id: free, meets: left}
  - {id: last, first_frame: {shot: end, frame: -2}}
"""


def test_a_shot_comes_after_what_it_waits_for_and_else_in_film_order() -> None:
    made = film(BRANCHES)
    assert [shot.id for shot in graph.order(made)] == ["dawn", "left", "end", "right", "free", "last"]
    assert graph.dependants(made)[ShotId("dawn")] == ("end", "left", "right")
    assert graph.needs(made)[ShotId("end")] == ("left", "dawn")


def test_film_order_is_kept_where_it_is_good_already() -> None:
    made = film("klingflow: 1\nshots: [{id: b, prompt: x}, {id: c, continues: b}, {id: a, prompt: x}]\n")
    assert graph.order(made) is made.shots


def test_depth_counts_the_clips_that_hang_together_by_their_first_frames() -> None:
    assert dict(graph.depth(film(BRANCHES))) == {"dawn": 1, "left": 2, "end": 3, "right": 2, "free": 1, "last": 4}


def test_a_chain_is_warned_of_once_where_it_grows_too_long() -> None:
    (warning,) = graph.chain_warnings(film(BRANCHES))
    assert (str(warning.span), warning.severity) == ("film.yaml:4:26", Severity.WARNING)
    assert warning.what == "'end' is clip 3 in a chain of continues; max_chain is 2"


def test_a_circle_is_named_as_a_path_at_the_reference_that_begins_it() -> None:
    made = film(
        """\
        klingflow: 1
        shots:
          - {id: tail, continues: c}
          - {id: a, prompt: x, last_frame: {shot: c}}
          - {id: b, continues: a}
          - {id: c, continues: b}
          - {id: d, images: [{shot: e}]}
          - {id: e, continues: d}
        """
    )
    assert [(str(p.span), p.what) for p in graph.cycles(made)] == [
        ("film.yaml:4:36", "these shots wait for each other: a -> c -> b -> a"),
        ("film.yaml:7:22", "these shots wait for each other: d -> e -> d"),
    ]
    with pytest.raises(StoryboardError, match="a -> c -> b -> a"):
        graph.order(made)


@pytest.mark.parametrize("ids", ["abde", "deab", "adbe", "eadb"])
def test_a_circle_that_waits_for_another_is_a_circle_of_its_own(ids: str) -> None:
    shots = {
        "a": "{id: a, continues: b}",
        "b": "{id: b, continues: a, last_frame: {shot: d}}",
        "d": "{id: d, continues: e}",
        "e": "{id: e, continues: d}",
    }
    made = film("klingflow: 1\nshots:\n" + "".join(f"  - {shots[name]}\n" for name in ids))
    circles = {frozenset(p.what.rpartition(": ")[2].split(" -> ")) for p in graph.cycles(made)}
    assert circles == {frozenset("ab"), frozenset("de")}
    assert len(graph.cycles(made)) == 2


def test_a_shot_that_meets_its_own_clip_is_a_circle() -> None:
    made = film("klingflow: 1\nshots: [{id: a, prompt: x, last_frame: {shot: b}}, {id: b, meets: a}]\n")
    assert [p.what for p in graph.cycles(made)] == ["'b' waits for its own clip: b -> b"]


def test_the_longest_chain_goes_through_shots_that_are_to_be_made_only() -> None:
    made = film(BRANCHES)
    seconds = {shot.id: 10.0 for shot in made.shots}
    assert graph.critical(made, seconds) == (("dawn", "left", "end", "last"), 40.0)
    assert graph.critical(made, {**seconds, ShotId("right"): 35.0}) == (("dawn", "right"), 45.0)
    del seconds[ShotId("end")]
    assert graph.critical(made, seconds) == (("dawn", "left"), 20.0)
    assert graph.critical(made, {}) == ((), 0.0)


@pytest.mark.parametrize("circle", [False, True])
def test_ten_thousand_shots_in_one_chain_are_no_trouble(circle: bool) -> None:
    count = 10_001
    shots = [
        Shot(
            id=ShotId(f"s{i}"),
            index=count - 1 - i,
            first_frame=ShotFrame(ShotId(f"s{(i or count) - 1}")) if i or circle else None,
        )
        for i in reversed(range(count))
    ]
    one = film("klingflow: 1\nshots: [{id: s0, prompt: x}]\n")
    made = replace(one, shots=tuple(shots), where=lambda shot, field: Span("film.yaml", 1, 1, 2))
    start = time.process_time()
    if circle:
        (problem,) = graph.cycles(made)
        assert problem.what.startswith("these 10001 shots wait for each other: s10000 -> s9999 -> s9998 -> s9997 -> … ")
    else:
        assert graph.cycles(made) == []
        assert graph.order(made) == made.shots[::-1]
        assert graph.depth(made)[ShotId(f"s{count - 1}")] == count
        assert len(graph.chain_warnings(made)) == 1
        assert graph.critical(made, {shot.id: 1.0 for shot in made.shots})[1] == count
    assert time.process_time() - start < 3
