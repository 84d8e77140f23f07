"""A plan as text for people."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from io import StringIO

import pytest

from klingflow.core.model import ShotId
from klingflow.core.source import Problem, Span, rendered
from klingflow.execution.outcome import Event, Failure, Outcome, Result
from klingflow.output import terminal
from klingflow.output.plantext import ending, summary
from klingflow.output.progress import sentence
from klingflow.planning.compare import compare
from klingflow.planning.plan import Action
from klingflow.planning.price import Limits
from klingflow.providers.base import FailureClass
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


LONG = "the-boat-comes-into-the-harbour-" * 2


@pytest.mark.parametrize("width", [40, 53, 80, 120, 200])
@pytest.mark.parametrize("details", [False, True])
def test_a_plan_fits_any_terminal_and_names_every_shot_whole(width: int, details: bool) -> None:
    why = "prompt, resolution and the last frame of the shot before changed; its provider's model is another one"
    names = ["a", "dawn-over-the-sea", LONG + "a", LONG + "b", LONG * 4]
    steps = [step(name, Action.MAKE, reason=why, prompt="a red boat " * 30) for name in names]
    unknown = step("b" * 20, Action.MAKE, price=None, seconds=10, reason=why)
    one = film_plan(*steps, unknown, step("old"), length_s=12.5, critical=tuple(names), chain_s=600, wall_s=900)
    text = summary(plan(one, one, limits=Limits(spend=Decimal("0.1"))), width=width, details=details, prompts=details)
    assert max(map(len, text.split("\n"))) <= width
    packed = "".join(text.split())
    assert all(packed.count(name) >= 2 for name in names)
    assert len(re.findall(r" 5 s +\$0\.56$", text, re.MULTILINE)) == 10  # beside its shot, whatever the width


def test_what_stops_many_shots_alike_is_told_once() -> None:
    def failed(name: str, message: str = "the key is refused") -> Outcome:
        failure = Failure(kind=FailureClass.UNAUTHORISED, message=message, next="check the key")
        return Outcome(shot=ShotId(name), take=1, is_active_take=True, result=Result.FAILED, failure=failure)

    outcomes = (*(failed(f"s{n}") for n in range(32)), failed("other", "moderated"))
    text = ending([(film(), film_plan(), outcomes)], "a film.yaml", Decimal(0), 3, interrupted=True)
    assert text.count("the key is refused") == text.count("shot 's0' failed") == 1
    assert "mend: check the key\nthe same for s1, s2, s3, s4, s5, s6, and 25 more\n\n" in text
    assert "shot 'other' failed: moderated" in text
    assert text.endswith("klingflow run 'a film.yaml'")


def test_a_wide_terminal_is_used() -> None:
    why = "prompt, resolution and the last frame of the shot before changed"
    assert f"make    {why} " in summary(plan(film_plan(step("a", Action.MAKE, reason=why))), width=120)


@pytest.mark.parametrize(("said", "wide"), [("40", 40), ("7", 40), ("1000", 200), ("", 80), ("x", 80), ("0", 80)])
def test_the_width_is_what_the_place_has(monkeypatch: pytest.MonkeyPatch, said: str, wide: int) -> None:
    monkeypatch.setenv("COLUMNS", said)
    assert terminal.width(StringIO()) == wide


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "3", "TERM": "dumb"}, True),
        ({"FORCE_COLOR": "0"}, False),
        ({"FORCE_COLOR": ""}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_is_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], coloured: bool
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert terminal.coloured(StringIO()) is coloured


def test_problems_that_differ_in_the_shot_alone_are_told_once() -> None:
    def problem(n: int, what: str = "shot 'S' has no field 'promt'") -> Problem:
        span = Span("film.yaml", n, 5, 6, "text")
        return Problem(rule="unknown-key", what=what.replace("S", f"s{n}"), span=span, mend="did you mean 'prompt'?")

    other = problem(99, "shot 'S' has no field 'promp'")
    first, told, *rest = rendered([other, *(problem(n) for n in range(1, 41))])
    assert not rest
    assert "'promp'" in first
    assert told.startswith("film.yaml:1:5: shot 's1' has no field 'promt'\n")
    assert told.endswith(
        "mend: did you mean 'prompt'?\nthe same 39 times more: film.yaml:2:5, film.yaml:3:5, film.yaml:4:5, "
        "film.yaml:5:5, film.yaml:6:5, film.yaml:7:5, film.yaml:8:5, film.yaml:9:5, film.yaml:10:5, film.yaml:11:5, "
        "film.yaml:12:5, film.yaml:13:5, and 27 more"
    )
    assert len(rendered([problem(n) for n in (1, 2, 3)])) == 3
    wide = "the image is in the colours of the profile 'Display P3'"
    files = [problem(n, f"frames/S.jpg: {wide}") for n in range(1, 5)]
    (told,) = rendered(files)
    assert told.startswith(f"film.yaml:1:5: frames/s1.jpg: {wide}\n")
    assert "the same 3 times more: film.yaml:2:5, " in told
    assert len(rendered([*files, problem(9, "frames/S.jpg: the image is transparent in places")])) == 2


def test_log_and_last_line_say_the_plans_words_in_the_past_tense() -> None:
    made = film(*(shot(f"s{n}") for n in range(len(Result))))
    outcomes = tuple(
        Outcome(shot=one.id, take=1, is_active_take=True, result=result)
        for one, result in zip(made.shots, Result, strict=True)
    )
    last = ending([(made, film_plan(), outcomes)], "film.yaml", Decimal(0), 12, False)
    good = "1 resumed, 1 adopted, 1 reused, 1 held"
    bad = "1 failed, 1 skipped, 1 waiting, 1 in doubt, 1 being made, 1 stopped"
    assert f"1 clip made, {good}, {bad}" in " ".join(last.split())
    for result in (Result.MADE, Result.RESUMED, Result.ADOPTED):
        place = {"film": "film", "shot": ShotId("a"), "take": 1}
        done = Event(event="step-done", data={"result": result.value, "seconds": 5.0}, **place)  # type: ignore[arg-type]
        assert sentence(done) == f"film: a: {result}, 5.000 s"
    started = {"action": "resume", "provider": "hiapi", "seconds": 5}
    begun = Event(event="step-started", film="film", shot=ShotId("a"), data=started)
    assert sentence(begun) == "film: a: resuming its order at hiapi"
    assert sentence(replace(begun, data={**started, "action": "make"})) == "film: a: making 5 s on hiapi"
