"""A plan as text for people."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from klingflow.output.plantext import summary
from klingflow.planning.compare import compare
from klingflow.planning.plan import Action
from klingflow.planning.price import Limits
from tests.review_helpers import film, film_plan, plan, shot, step
from tests.test_compare import side


def test_against_a_base_every_shot_that_differs_has_its_line() -> None:
    base = film(shot("dawn"), shot("old"), shot("gone"), shot("noon"), shot("rest"), title="Harbour")
    head = film(shot("noon"), shot("dawn", prompt="the red dawn"), shot("new", prompt="the old"), shot("rest"))
    steps = (step("noon"), step("dawn", Action.MAKE), step("new"), step("rest"))
    planned = plan(film_plan(*steps))
    compared = {"": compare(side(base), replace(side(head), plan=planned.films[0]))}
    text = summary(planned, details=True, against="origin/main", compared=compared).partition("\n\n")[0]
    assert text.split("\n") == [
        "harbour: Harbour Dawn",
        "  = noon  reuse   moved from place 3 to 1",
        "  + dawn  make    prompt changed                                    5 s    $0.56",
        "      the {+red +}dawn",
        "  = new   reuse   renamed from old",
        "  = rest  reuse   the lock names its clip",
        "  - gone  removed; what was bought stays in the store",
        "  1 clip to make, 5 s of clips, $0.56 (estimate)",
        "  against origin/main: 1 changed, 1 renamed, 1 removed, 1 moved, title changed,",
        "    adds $0.56",
    ]
    assert max(map(len, text.split("\n"))) <= 80


def test_a_title_is_one_line() -> None:
    text = summary(plan(film_plan(step("a", price=Decimal(0)), title="one\n::error::two")))
    assert text.startswith("harbour: one ::error::two\n")


def test_every_text_is_shown_as_it_is_sent_where_that_is_asked_for() -> None:
    steps = (step("a", Action.MAKE, prompt="a red boat", negative_prompt="text"), *(step(f"s{n}") for n in range(20)))
    one = plan(film_plan(*steps, step("z", prompt="x\x1b[31m " * 40)))
    assert "red boat" not in summary(one)
    text = summary(one, prompts=True)
    assert "\n      prompt: a red boat\n      negative prompt: text\n" in text
    assert "  = s7" in text  # nothing is folded away
    assert "\x1b" not in text
    assert max(map(len, text.split("\n"))) <= 80


def test_films_with_nothing_to_make_say_so_together_too() -> None:
    assert summary(plan(film_plan(step("a")), film_plan(step("a")))).endswith("\n\nall films: nothing to make")


def test_the_answers_come_last_and_fit() -> None:
    one = plan(film_plan(step("a", Action.MAKE), length_s=12.5), limits=Limits(spend=Decimal("0.1")))
    text = summary(one)
    assert "\n  12 s of film\n" in text
    assert "\n\nbill: hiapi, " in text
    assert "limit: a run is refused: the limit is $0.10 a run" in text
    assert max(map(len, text.split("\n"))) <= 80
