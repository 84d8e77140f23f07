"""A plan as text for people."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from klingflow.output.plantext import summary
from klingflow.planning.compare import compare
from klingflow.planning.plan import Action
from tests.review_helpers import film, film_plan, plan, shot, step
from tests.test_compare import side


def test_against_a_base_every_shot_that_differs_has_its_line() -> None:
    base = film(shot("dawn"), shot("old"), shot("gone"), shot("noon"), shot("rest"), title="Harbour")
    head = film(shot("noon"), shot("dawn", prompt="the red dawn"), shot("new", prompt="the old"), shot("rest"))
    steps = (step("noon"), step("dawn", Action.MAKE), step("new"), step("rest"))
    planned = plan(film_plan(*steps))
    compared = {"": compare(side(base), replace(side(head), plan=planned.films[0]))}
    text = summary(planned, details=True, against="origin/main", compared=compared)
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
