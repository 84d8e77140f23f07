"""What a plan decides, and why: values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal

from klingflow.app.planner import only
from klingflow.core import digest
from klingflow.core.model import (
    ClipFacts,
    ClipRecord,
    Digest,
    FileStill,
    Film,
    ImageFacts,
    Inputs,
    Key,
    Shot,
    ShotFrame,
    ShotId,
)
from klingflow.core.source import Span
from klingflow.planning import plan as planning
from klingflow.planning.plan import Action, FilmPlan, OpenOrder, PlanLookups, Step
from klingflow.planning.price import Price
from klingflow.storyboard.lock import Entry, Lock

STILL = ImageFacts(digest=Digest("aa" * 32), format="PNG", width=1280, height=720, bytes=1)
INPUTS = Inputs(
    stills={"a.png": STILL, "b.png": replace(STILL, digest=Digest("ab" * 32))}, clips={"own.mp4": Digest("cc" * 32)}
)
MODEL = "kling-3.0-omni"


def shot(name: str, **fields: object) -> Shot:
    return Shot(id=ShotId(name), index=0, provider="hiapi", **{"prompt": name, **fields})  # type: ignore[arg-type]


def film(*shots: Shot, **fields: object) -> Film:
    numbered = tuple(replace(one, index=n) for n, one in enumerate(shots))
    where: Callable[[ShotId | None, str], Span] = lambda shot, field: Span("f.yaml", 1, 1, 2)  # noqa: E731
    values: dict[str, object] = {
        "name": "f",
        "matrix": {},
        "title": "",
        "cut": tuple(s.id for s in shots),
        "where": where,
    }
    return Film(shots=numbered, **{**values, **fields})  # type: ignore[arg-type]


def key_of(one: Shot, clips: Mapping[ShotId, Digest] | None = None) -> Key:
    parts = digest.parts(one, MODEL, INPUTS.stills, clips or {}, INPUTS.clips)
    assert parts is not None
    return digest.key(parts)


def entry(one: Shot, clip: str = "11", clips: Mapping[ShotId, Digest] | None = None) -> Entry:
    parts = digest.parts(one, MODEL, INPUTS.stills, clips or {}, INPUTS.clips)
    assert parts is not None
    return Entry(
        key=digest.key(parts),
        clip=Digest(clip * 32),
        duration="5.000",
        frames=120,
        size="1280x720",
        rate="24",
        bytes=1,
        audio=False,
        provider="hiapi",
        model=MODEL,
        date="2026-11-21",
        parts=digest.brief(parts),
    )


def record(one: Shot, clip: str = "22") -> ClipRecord:
    parts = digest.parts(one, MODEL, INPUTS.stills, {}, INPUTS.clips)
    assert parts is not None
    facts = ClipFacts(
        digest=Digest(clip * 32), bytes=1, width=1280, height=720, frames=120, duration="5.000", rate="24", audio=False
    )
    return ClipRecord(
        key=digest.key(parts),
        facts=facts,
        provider="hiapi",
        model=MODEL,
        task=None,
        cost=None,
        date="",
        parts=parts,
        inputs={},
    )


def make(
    one: Film,
    lock: Mapping[str, Entry] | None = None,
    store: Mapping[Key, ClipRecord] | None = None,
    order: OpenOrder | None = None,
) -> FilmPlan:
    entries = {ShotId(name): {1: found} for name, found in (lock or {}).items()}
    return planning.make(
        one,
        inputs=INPUTS,
        lock=Lock({"": entries}),
        lookups=PlanLookups(
            model=lambda shot: MODEL,
            price=lambda shot: Price(amount=Decimal("0.1") * shot.duration, estimate=True),
            expect=lambda shot: 100.0,
            find=(store or {}).get,
            open_order=lambda key, shot: order,
        ),
    )


def steps(found: FilmPlan) -> dict[str, Step]:
    return {f"{step.shot}.{step.take}" if step.take > 1 else step.shot: step for step in found.steps}


DAWN = shot("dawn", first_frame=FileStill("a.png"))
HARBOUR = shot("harbour", first_frame=ShotFrame(ShotId("dawn")), last_frame=FileStill("b.png"))


def test_a_new_film_is_made_and_priced() -> None:
    found = make(film(DAWN, HARBOUR))
    dawn, harbour = found.steps
    assert (dawn.action, dawn.reason, dawn.price, dawn.estimate) == (Action.MAKE, "new shot", Decimal("0.5"), True)
    assert (harbour.action, harbour.key, harbour.after) == (Action.MAKE, None, ("dawn",))
    assert harbour.reason == "continues dawn, which will be made"
    sums = planning.totals([found])
    assert (sums.spend, sums.seconds, sums.tasks) == (Decimal("1.0"), 10, 2)
    assert (found.critical, found.wall_s) == (("dawn", "harbour"), 200.0)


def test_the_lock_answers_and_neither_store_nor_ledger_is_asked() -> None:
    clips = {ShotId("dawn"): Digest("11" * 32)}
    found = planning.make(
        film(DAWN, HARBOUR),
        inputs=INPUTS,
        lock=Lock({"": {ShotId("dawn"): {1: entry(DAWN)}, ShotId("harbour"): {1: entry(HARBOUR, "33", clips)}}}),
        lookups=PlanLookups(
            model=lambda shot: MODEL,
            price=lambda shot: Price(amount=None, estimate=False),
            expect=lambda shot: 100.0,
            find=lambda key: (_ for _ in ()).throw(AssertionError("asked the store")),
            open_order=lambda key, shot: (_ for _ in ()).throw(AssertionError("asked the ledger")),
        ),
    )
    assert [step.action for step in found.steps] == [Action.REUSE, Action.REUSE]
    assert found.wall_s == 0


def test_a_renamed_shot_finds_its_clip_by_its_key() -> None:
    step = make(film(replace(DAWN, id=ShotId("morning"))), lock={"dawn": entry(DAWN)}).steps[0]
    assert (step.action, step.clip) == (Action.REUSE, "11" * 32)


def test_the_store_may_have_what_the_lock_does_not_name() -> None:
    step = make(film(DAWN), store={key_of(DAWN): record(DAWN)}).steps[0]
    assert (step.action, step.clip, step.price) == (Action.ADOPT, "22" * 32, 0)


def test_a_changed_still_is_named_by_its_path() -> None:
    old = replace(DAWN, first_frame=FileStill("b.png"))
    step = make(film(DAWN), lock={"dawn": entry(old)}).steps[0]
    assert (step.action, step.reason) == (Action.MAKE, "still a.png changed")


def test_every_changed_field_is_in_the_reason() -> None:
    old = replace(DAWN, prompt="x", duration=3, aspect_ratio="16:9")
    step = make(film(DAWN), lock={"dawn": entry(old)}).steps[0]
    assert step.reason == "aspect_ratio removed, duration 3 -> 5, prompt changed"


def test_a_shot_that_continues_another_one_now_says_which_it_was() -> None:
    before = entry(HARBOUR, "33", {ShotId("dawn"): Digest("11" * 32)})
    noon = shot("noon", prompt="noon")
    now = replace(HARBOUR, first_frame=ShotFrame(ShotId("noon")))
    lock = {"dawn": entry(DAWN), "noon": entry(noon, "44"), "harbour": before}
    assert steps(make(film(DAWN, noon, now), lock=lock))["harbour"].reason == "continues noon instead of dawn"
    opening = replace(now, first_frame=ShotFrame(ShotId("noon"), "first"))
    reason = steps(make(film(DAWN, noon, opening), lock=lock))["harbour"].reason
    assert reason == "takes a frame of noon instead of dawn"


def test_a_held_shot_without_a_lock_entry_is_never_made_where_that_costs_money() -> None:
    step = make(film(replace(DAWN, hold=True, provider="hiapi"))).steps[0]
    assert (step.action, step.reason) == (Action.HOLD, "held, and its lock entry is not there")
    assert (step.clip, step.orders, step.price) == (None, False, 0)
    free = make(film(replace(DAWN, hold=True, provider="animatic"))).steps[0]
    assert (free.action, free.reason) == (Action.MAKE, "new shot")


def test_an_upstream_that_got_another_clip_is_the_reason() -> None:
    before = entry(HARBOUR, "33", {ShotId("dawn"): Digest("99" * 32)})
    found = steps(make(film(DAWN, HARBOUR), lock={"dawn": entry(DAWN), "harbour": before}))
    assert found["harbour"].reason == "dawn has a new clip"


def test_hold_keeps_the_clip_and_what_continues_it_stays_too() -> None:
    held = replace(HARBOUR, hold=True, prompt="something else")
    after = shot("after", first_frame=ShotFrame(ShotId("harbour")))
    clips = {ShotId("harbour"): Digest("33" * 32)}
    lock = {"harbour": entry(HARBOUR, "33", {ShotId("dawn"): Digest("11" * 32)}), "after": entry(after, "44", clips)}
    found = steps(make(film(DAWN, held, after), lock=lock))
    assert (found["dawn"].action, found["harbour"].action, found["after"].action) == (
        Action.MAKE,
        Action.HOLD,
        Action.REUSE,
    )


def test_takes_are_steps_of_their_own_and_one_counts() -> None:
    found = steps(make(film(replace(DAWN, takes=3, take=2)), lock={"dawn": entry(DAWN)}))
    assert {name: step.action for name, step in found.items()} == {
        "dawn": Action.REUSE,
        "dawn.2": Action.MAKE,
        "dawn.3": Action.MAKE,
    }
    assert [step.is_active_take for step in found.values()] == [False, True, False]
    assert found["dawn.2"].reason == "new take 2"


def test_two_shots_with_one_key_are_paid_once() -> None:
    found = make(film(DAWN, replace(DAWN, id=ShotId("twin"))))
    assert (found.steps[1].same_as, found.steps[1].price) == ("dawn", 0)
    assert planning.totals([found]).tasks == 1
    twice = planning.totals([found, replace(found, variant="x")])
    assert (twice.tasks, twice.spend) == (1, Decimal("0.5"))


def test_a_clip_of_ones_own_is_adopted_once_and_then_reused() -> None:
    own = Shot(id=ShotId("own"), index=0, clip="own.mp4")
    first = make(film(own)).steps[0]
    assert (first.action, first.clip, first.price, first.provider) == (Action.ADOPT, "cc" * 32, 0, "own")
    assert make(film(own), lock={"own": entry(own, "cc")}).steps[0].action is Action.REUSE


def test_a_paid_task_is_collected_and_a_doubt_is_shown_for_nothing() -> None:
    for action in (Action.RESUME, Action.RESOLVE):
        step = make(film(DAWN), order=OpenOrder(action=action, reason="why")).steps[0]
        assert (step.action, step.reason, step.price) == (action, "why", 0)


def test_a_meets_that_would_shorten_the_wait_is_named() -> None:
    market = shot("market", first_frame=ShotFrame(ShotId("harbour")))
    found = make(film(DAWN, HARBOUR, market))
    assert [(s.shot, s.meets, s.saves_s) for s in found.shortcuts] == [("market", "harbour", 100.0)]


def test_a_chain_that_is_too_long_is_a_warning() -> None:
    chain = [DAWN, *(shot(f"s{n}", first_frame=ShotFrame(ShotId(f"s{n - 1}" if n else "dawn"))) for n in range(4))]
    found = make(film(*chain, max_chain=4))
    assert [step.depth for step in found.steps] == [1, 2, 3, 4, 5]
    assert len(found.warnings) == 1


def test_an_unknown_price_makes_the_total_unknown() -> None:
    found = planning.make(
        film(DAWN),
        inputs=INPUTS,
        lock=Lock(),
        lookups=PlanLookups(
            model=lambda shot: MODEL,
            price=lambda shot: Price(amount=None, estimate=False),
            expect=lambda shot: 1.0,
            find=lambda key: None,
            open_order=lambda key, shot: None,
        ),
    )
    assert planning.totals([found]).spend is None


def test_the_second_of_two_equal_purchases_orders_where_the_first_is_not_selected() -> None:
    twins = make(film(DAWN, replace(DAWN, id=ShotId("copy"), index=1), replace(DAWN, id=ShotId("third"), index=2)))
    whole = planning.Plan(storyboard="film.yaml", films=(twins,))
    assert [(step.same_as, step.orders) for step in twins.steps] == [(None, True), ("dawn", False), ("dawn", False)]
    (narrow,) = only(whole, {"": {ShotId("copy"), ShotId("third")}}).films
    copy, third = narrow.steps
    assert (copy.same_as, copy.orders, copy.price, copy.reason) == (None, True, twins.steps[0].price, "new shot")
    assert (third.same_as, third.orders, third.price) == ("copy", False, 0)
    assert planning.totals([narrow]).tasks == 1
