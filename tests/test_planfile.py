from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klingflow.core.digest import PartChange
from klingflow.core.errors import UsageError
from klingflow.core.model import Digest, Key, ShotId
from klingflow.core.source import Problem, Severity
from klingflow.execution.outcome import Result
from klingflow.output.planfile import Options, SavedPlan, differences, dump, load
from klingflow.planning.compare import Base, compare
from klingflow.planning.plan import Action, Dropped, Plan
from klingflow.planning.price import Limits
from klingflow.storyboard import schema
from tests.review_helpers import film_plan, plan, step
from tests.test_compare import BASE

INPUTS = {"harbour.yaml": Digest("a" * 64), "harbour.lock.yaml": Digest("b" * 64), "frames/b.png": Digest("c" * 64)}
DAWN = step("dawn")
HARBOUR = step("harbour", Action.MAKE, changes=(PartChange("prompt", "a boat", "a red boat"),), depth=2)
MARKET = step("market", Action.MAKE, key=None, needs=(ShotId("harbour"),), after=(ShotId("harbour"),))


def saved(*steps: Any, **fields: Any) -> SavedPlan:
    return SavedPlan(plan=plan(film_plan(*(steps or (DAWN, HARBOUR, MARKET)))), inputs=INPUTS, **fields)


def moved(was: SavedPlan, now: SavedPlan) -> list[str]:
    return differences(load(dump(was)), now)


def test_what_was_written_is_what_is_read() -> None:
    warning = Problem(rule="long-chain", what="five shots in a row", mend="use meets", severity=Severity.WARNING)
    one = film_plan(DAWN, HARBOUR, MARKET, warnings=(warning,), critical=(ShotId("harbour"),), wall_s=93.0)
    was = SavedPlan(plan=plan(one), inputs=INPUTS, options=Options(vars={"boat": "red"}, select="dawn+"))
    assert load(dump(was)) == was


def test_what_a_purse_and_a_program_ask_is_read_back_as_it_was_written() -> None:
    made = step(
        "a", Action.MAKE, sound=True, prompt="a boat", negative_prompt="text", multi_shot=(("one", 2), ("two", 3))
    )
    twin = step("a", Action.MAKE, price=Decimal(0), seconds=0, same_as=ShotId("a"), same_as_film="en")
    films = [film_plan(made, variant="en", length_s=29.04, wall_s=120.0, chain_s=90.0), film_plan(twin, variant="de")]
    dropped = (Dropped(variant="en", shot=ShotId("a"), take=2, cost=Decimal("0.504"), gone=True),)
    limits = Limits(spend=Decimal("0.1"), tasks=9, set_in={"spend": "klingflow.yaml", "tasks": "ep/klingflow.yaml"})
    asked = plan(*films, limits=limits, paid=Decimal("1.008"), dropped=dropped, in_flight={"hiapi": 4})
    text = dump(SavedPlan(plan=asked, inputs=INPUTS))
    read = load(text).plan
    assert read == asked
    assert read.limits.set_in == limits.set_in
    (first,) = read.films[0].steps
    assert (first.prompt, first.negative_prompt, first.multi_shot) == ("a boat", "text", (("one", 2), ("two", 3)))
    data = json.loads(text)
    assert data["limits"]["refused"] == "the limit is $0.10 a run (klingflow.yaml), and this one would spend $0.56"
    assert data["films"][1]["steps"][0]["same_as_film"] == "en"


def test_films_of_a_matrix_are_one_object_each() -> None:
    wide = film_plan(DAWN, variant="16x9-en", matrix={"aspect": "16:9", "lang": "en"})
    tall = film_plan(HARBOUR, variant="9x16-en", matrix={"aspect": "9:16", "lang": "en"})
    was = SavedPlan(plan=plan(wide, tall), inputs=INPUTS)
    data = json.loads(dump(was))
    assert [film["variant"] for film in data["films"]] == ["16x9-en", "9x16-en"]
    assert data["films"][1]["matrix"] == {"aspect": "9:16", "lang": "en"}
    assert "steps" not in data
    assert data["totals"]["tasks"] == 1
    assert load(dump(was)) == was


def test_the_file_says_steps_prices_and_totals_as_documented() -> None:
    data = json.loads(dump(saved()))
    assert data["version"] == 1
    assert [(s["shot"], s["action"], s["price"]) for s in data["steps"]] == [
        ("dawn", "reuse", 0),
        ("harbour", "make", 0.56),
        ("market", "make", 0.56),
    ]
    assert data["steps"][2]["key"] is None
    assert data["totals"]["spend"] == 1.12
    assert data["totals"]["seconds"] == 10


def test_the_schema_holds_for_what_is_written_also_with_a_comparison() -> None:
    text = dump(saved(), base=Base(ref="origin/main", commit="a" * 40), comparisons={"": compare(None, BASE)})
    jsonschema.Draft202012Validator(schema.load("plan")).validate(json.loads(text))
    assert json.loads(text)["comparison"]["shots"][0]["state"] == "new"


@given(st.decimals(min_value=0, max_value=99_999, places=4))
def test_a_price_keeps_its_digits(price: Decimal) -> None:
    was = saved(replace(HARBOUR, price=price))
    assert load(dump(was)).plan.films[0].steps[0].price == price


def test_an_unmoved_plan_has_no_difference() -> None:
    assert moved(saved(), saved()) == []


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((DAWN, replace(HARBOUR, key=Key("9" * 64)), MARKET), "shot harbour: it would be another purchase"),
        ((DAWN, replace(HARBOUR, price=Decimal("0.70")), MARKET), "shot harbour: the price was $0.56, now it is $0.7"),
        ((DAWN, replace(HARBOUR, price=None), MARKET), "shot harbour: the price was $0.56, now it is not known"),
        ((DAWN, replace(HARBOUR, model="kling-4"), MARKET), "shot harbour: the model was kling-3.0-omni, now it is"),
        ((DAWN, replace(HARBOUR, provider="mulerouter"), MARKET), "shot harbour: the provider was hiapi, now it is"),
        ((replace(DAWN, action=Action.MAKE, price=Decimal(1)), HARBOUR, MARKET), "shot dawn: the action was reuse"),
        ((DAWN, HARBOUR), "shot market was planned and is not there any more"),
        ((DAWN, HARBOUR, MARKET, step("pier")), "shot pier was not planned"),
        ((replace(DAWN, take=2), HARBOUR, MARKET), "shot dawn was planned and is not there any more"),
    ],
)
def test_what_moved_is_named_in_words(steps: Any, words: str) -> None:
    assert any(what.startswith(words) for what in moved(saved(), saved(*steps)))


def test_each_input_that_moved_is_named_with_what_it_is() -> None:
    inputs = {"harbour.yaml": "1" * 64, "frames/b.png": "2" * 64, "vo.wav": "3" * 64}
    now = replace(saved(), inputs={path: Digest(text) for path, text in inputs.items()})
    assert moved(saved(), now) == [
        "the still frames/b.png changed since the plan was made",
        "the lock harbour.lock.yaml was there when the plan was made",
        "the storyboard harbour.yaml changed since the plan was made",
        "the file vo.wav was not there when the plan was made",
    ]


def test_other_options_than_the_plans_are_named() -> None:
    was = saved(options=Options(vars={"boat": "red"}, select="dawn+"))
    assert moved(was, saved(options=Options(select="market"))) == [
        "the plan was made with --select 'dawn+', this run is with --select 'market'",
        "the plan was made with --var boat 'red', this run is without --var boat",
    ]


def test_a_run_that_was_cut_off_collects_what_it_bought_under_the_same_plan() -> None:
    made = replace(HARBOUR, action=Action.ADOPT, clip=Digest("d" * 64), price=Decimal(0), seconds=0)
    follows = replace(MARKET, key=Key("e" * 64), after=())
    assert moved(saved(), saved(DAWN, made, follows)) == []
    ordered = replace(HARBOUR, action=Action.RESUME, price=Decimal(0), seconds=0)
    assert moved(saved(), saved(DAWN, ordered, MARKET)) == []


def test_a_task_that_would_be_bought_again_is_not_what_was_planned() -> None:
    was = saved(replace(HARBOUR, action=Action.RESUME, price=Decimal(0)))
    assert moved(was, saved(HARBOUR)) == ["shot harbour: the action was resume, now it is make"]


def _with(**fields: Any) -> str:
    return json.dumps({**json.loads(dump(saved())), **fields})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        '{"a": ' * 100_000,
        '{"version": NaN}',
        '{"version": 1, "version": 1}',
        '{"version": ' + "9" * 10_000 + "}",
        '{"version": 1e9999999999999999999999}',
        "\ud800",
        _with(version=2),
        _with(version=True),
        _with(steps={}),
        _with(steps=[{"shot": "dawn"}]),
        _with(run="rm -rf /"),
        _with(films=[]),
        _with(inputs={"../../etc/passwd": "not a digest"}),
        _with(vars={"boat": {"$ref": "https://evil.example/"}}),
    ],
)
def test_what_is_not_a_plan_is_refused_with_a_mend(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(text)
    assert "plan.json" in refused.value.what
    assert refused.value.mend


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(UsageError):
        load(b"\xff\xfe{}")


def test_neither_secrets_nor_url_queries_are_written() -> None:
    change = PartChange("prompt", "", "see https://frames.example/a.png?X-Signature=s3cr3tvalue now")
    assert "s3cr3tvalue" not in dump(saved(replace(HARBOUR, changes=(change,), reason="https://h/p?token=s3cr3tvalue")))


def test_control_characters_in_a_plan_reach_no_terminal() -> None:
    was = load(_with(select="\x1b[31m\u202e::set-output"))
    [what] = differences(was, saved())
    assert "\x1b" not in what
    assert "\u202e" not in what


SCALARS = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_no_json_makes_a_traceback(data: Any) -> None:
    with pytest.raises(UsageError):
        load(json.dumps(data))


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"version": 1, "time": "2026-11-21T22:59:48.123Z", "event": kind, **fields}


AT = {"film": "harbour", "shot": "dawn", "take": 1}


@pytest.mark.parametrize(
    "line",
    [
        event("plan", run="0a1b2c3d", steps=3, totals=json.loads(dump(saved()))["totals"]),
        event("step-started", **AT, action="make", provider="hiapi", seconds=5),
        event("submitted", **AT, provider="hiapi", task="t1", price=0.56, basis="estimate"),
        event("progress", **AT, state="handling", fraction=None),
        event("step-done", **AT, result="made", key="a" * 64, clip="b" * 64, seconds=5.04, cost=0.56),
        event("step-failed", **AT, **{"class": "moderated", "message": "no", "charged": None, "next": "change it"}),
        event("step-skipped", **AT, because="harbour"),
        event("step-waiting", **AT, reason="waits for the approval of harbour"),
        event("step-in-doubt", **AT, message="no answer", next="klingflow resolve harbour.yaml dawn"),
        event(
            "film",
            film="harbour",
            path="out/harbour/film.mp4",
            frames=360,
            seconds=15.0,
            size="1920x1080",
            rate="24",
            credentials="none",
        ),
        event(
            "done", run="0a1b2c3d", exit_code=0, spent=None, **{result.value.replace("-", "_"): 1 for result in Result}
        ),
    ],
    ids=lambda line: line["event"],
)
def test_the_event_schema_takes_each_event_and_no_other_fields(line: dict[str, Any]) -> None:
    check = jsonschema.Draft202012Validator(schema.load("events"))
    assert check.is_valid(line)
    assert not check.is_valid({**line, "surprise": 1})
    assert not check.is_valid({**line, "event": "other"})
    for name in line:
        assert not check.is_valid({k: v for k, v in line.items() if k != name})


def test_a_rehearsal_is_told() -> None:
    rehearsed = Plan(storyboard="harbour.yaml", films=(film_plan(DAWN),), rehearsal=True, provider="animatic")
    was = SavedPlan(plan=rehearsed, inputs={})
    assert load(dump(was)) == was
    assert differences(was, replace(was, plan=replace(was.plan, provider=None)))
