"""What a plan decides, and why: values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from klingflow.core import digest
from klingflow.core.model import (
    ClipFacts,
    ClipRecord,
    Cut,
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
from klingflow.planning.schedule import arranged, only, prices_anew
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
        "cut": tuple(Cut(s.id) for s in shots),
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


def lookups(
    store: Mapping[Key, ClipRecord] | None = None,
    orders: Mapping[str, OpenOrder] | None = None,
    pictures: Mapping[str, Digest] | None = None,
) -> PlanLookups:
    return PlanLookups(
        model=lambda shot: MODEL,
        price=lambda shot: Price(amount=Decimal("0.1") * shot.duration, basis="estimate"),
        expect=lambda shot: 100.0,
        find=(store or {}).get,
        open_order=lambda key, shot: (orders or {}).get(shot.id),
        picture=(pictures or {}).get,
        unapproved=lambda variant, shot, pick: "",
    )


def make(
    one: Film,
    lock: Mapping[str, Entry] | None = None,
    store: Mapping[Key, ClipRecord] | None = None,
    order: OpenOrder | None = None,
) -> FilmPlan:
    entries = {ShotId(name): {1: found} for name, found in (lock or {}).items()}
    orders = {shot.id: order for shot in one.shots} if order is not None else {}
    (found,) = plan_of([one], Lock({"": entries}), lookups(store, orders)).films
    return found


def plan_of(films: Sequence[Film], lock: Lock, found: PlanLookups, in_flight: int = 100) -> planning.Plan:
    made = tuple(planning.make(film, inputs=INPUTS, lock=lock, lookups=found) for film in films)
    return arranged(planning.Plan(storyboard="film.yaml", films=made), films, lambda provider: in_flight)


def steps(found: FilmPlan) -> dict[str, Step]:
    return {f"{step.shot}.{step.take}" if step.take > 1 else step.shot: step for step in found.steps}


DAWN = shot("dawn", first_frame=FileStill("a.png"))
HARBOUR = shot("harbour", first_frame=ShotFrame(ShotId("dawn")), last_frame=FileStill("b.png"))


def test_a_new_film_is_made_and_priced() -> None:
    found = make(film(DAWN, HARBOUR))
    dawn, harbour = found.steps
    assert (dawn.action, dawn.reason, dawn.price, dawn.basis) == (Action.MAKE, "new shot", Decimal("0.5"), "estimate")
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
            price=lambda shot: Price(amount=None),
            expect=lambda shot: 100.0,
            find=lambda key: (_ for _ in ()).throw(AssertionError("asked the store")),
            open_order=lambda key, shot: (_ for _ in ()).throw(AssertionError("asked the ledger")),
            picture=lambda path: (_ for _ in ()).throw(AssertionError("decoded a file")),
            unapproved=lambda variant, shot, pick: (_ for _ in ()).throw(AssertionError("asked git")),
        ),
    )
    assert [step.action for step in found.steps] == [Action.REUSE, Action.REUSE]
    assert found.wall_s == 0


def test_a_file_that_shows_what_another_one_showed_buys_nothing() -> None:
    own = shot("own", clip="own.mp4")
    after = shot("after", first_frame=ShotFrame(ShotId("own")), last_frame=FileStill("a.png"))
    last = shot("last", first_frame=ShotFrame(ShotId("after")))
    then = Inputs(
        stills={**INPUTS.stills, "a.png": replace(STILL, digest=Digest("ee" * 32))},
        clips={"own.mp4": Digest("ff" * 32)},
    )
    bought = digest.parts(after, MODEL, then.stills, {ShotId("own"): Digest("ff" * 32)}, then.clips)
    assert bought is not None
    first = replace(entry(DAWN), key=digest.key(bought), parts=digest.brief(bought))
    second = entry(last, "33", {ShotId("after"): first.clip})
    entries = {ShotId("after"): {1: first}, ShotId("last"): {1: second}}
    seen = {Digest(file * 32): Digest(picture * 32) for file, picture in (("ee", "01"), ("ff", "02"), ("dd", "03"))}

    def plan(pictures: Mapping[str, Digest], known: Mapping[Digest, Digest] = seen) -> FilmPlan:
        return planning.make(
            film(own, after, last),
            inputs=INPUTS,
            lock=Lock({"": entries}, pictures=known),
            lookups=lookups(pictures=pictures),
        )

    found = plan({"a.png": Digest("01" * 32), "own.mp4": Digest("02" * 32)}).steps
    assert [step.action for step in found] == [Action.ADOPT, Action.REUSE, Action.REUSE]
    assert (found[1].key, found[1].clip) == (first.key, first.clip)
    assert found[1].reason == "up to date: own.mp4, a.png: other bytes, the same pixels"
    for one, other in (("01", "03"), ("03", "02"), ("02", "01")):
        found = plan({"a.png": Digest(one * 32), "own.mp4": Digest(other * 32)}).steps
        assert [step.action for step in found] == [Action.ADOPT, Action.MAKE, Action.MAKE]
    assert plan({"a.png": Digest("01" * 32)}).steps[1].action is Action.MAKE, "a clip that cannot be read"
    assert plan({"a.png": Digest("01" * 32), "own.mp4": Digest("02" * 32)}, {}).steps[1].action is Action.MAKE


def test_a_file_that_the_lock_knows_is_not_decoded_for_another_change() -> None:
    asked: list[str] = []
    known = {STILL.digest: Digest("03" * 32)}
    found = planning.make(
        film(replace(DAWN, prompt="another"), shot("eve", first_frame=FileStill("b.png"))),
        inputs=INPUTS,
        lock=Lock({"": {ShotId("dawn"): {1: entry(DAWN)}}}, pictures=known),
        lookups=replace(lookups(), picture=lambda path: asked.append(path)),
    )
    assert [step.action for step in found.steps] == [Action.MAKE, Action.MAKE]
    assert asked == ["b.png"]


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


def test_a_clip_of_the_animatic_that_is_drawn_in_another_way_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "MODEL", "animatic")
    old = entry(DAWN)
    monkeypatch.setattr(digest, "DRAWING", digest.DRAWING + 1)
    step = make(film(DAWN), lock={"dawn": old}).steps[0]
    assert (step.action, step.reason) == (Action.MAKE, "the animatic draws it in another way now")


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
    assert planning.totals([found]).spend == Decimal("0.5")


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


def test_a_step_knows_its_place_in_a_chain() -> None:
    chain = [DAWN, *(shot(f"s{n}", first_frame=ShotFrame(ShotId(f"s{n - 1}" if n else "dawn"))) for n in range(4))]
    found = make(film(*chain, max_chain=4))
    assert [step.depth for step in found.steps] == [1, 2, 3, 4, 5]


def test_an_unknown_price_makes_the_total_unknown() -> None:
    found = planning.make(
        film(DAWN),
        inputs=INPUTS,
        lock=Lock(),
        lookups=PlanLookups(
            model=lambda shot: MODEL,
            price=lambda shot: Price(amount=None),
            expect=lambda shot: 1.0,
            find=lambda key: None,
            open_order=lambda key, shot: None,
            picture=lambda path: None,
            unapproved=None,
        ),
    )
    assert planning.totals([found]).spend is None


def test_the_second_of_two_equal_purchases_orders_where_the_first_is_not_selected() -> None:
    three = film(DAWN, replace(DAWN, id=ShotId("copy")), replace(DAWN, id=ShotId("third")))
    twins = make(three)
    whole = planning.Plan(storyboard="film.yaml", films=(twins,))
    assert [(step.same_as, step.orders) for step in twins.steps] == [(None, True), ("dawn", False), ("dawn", False)]
    (narrow,) = only(whole, {"": {ShotId("copy"), ShotId("third")}}, [three], lambda provider: 4).films
    copy, third = narrow.steps
    assert (copy.same_as, copy.orders, copy.price, copy.reason) == (None, True, twins.steps[0].price, "new shot")
    assert (third.same_as, third.orders, third.price) == ("copy", False, 0)
    assert planning.totals([narrow]).tasks == 1


TALL = replace(film(DAWN, HARBOUR, shot("end", first_frame=ShotFrame(ShotId("harbour")))), variant="en")


def dub(**prompts: str) -> Film:
    """The film in another language: the same shots, but for those prompts."""
    shots = tuple(replace(one, prompt=prompts.get(one.id, one.prompt)) for one in TALL.shots)
    return replace(TALL, shots=shots, variant="de")


def test_what_two_films_share_is_one_purchase_also_what_continues_it() -> None:
    found = plan_of([TALL, dub(end="das Ende")], Lock(), lookups())
    english, german = found.films
    assert [step.same_as for step in english.steps] == [None, None, None]
    told = [(step.same_as, step.same_as_film, step.reason, step.price, step.seconds) for step in german.steps[:2]]
    assert told == [(name, "en", "same purchase as [en]", 0, 0) for name in ("dawn", "harbour")]
    assert (german.steps[2].reason, german.steps[2].price) == ("continues harbour, which will be made", Decimal("0.5"))
    sums = planning.totals(found.films)
    assert (sums.tasks, sums.seconds, sums.spend) == (4, 20, Decimal("2.0"))
    assert sums.spend == sum(planning.totals([film]).spend or 0 for film in found.films)


def test_what_continues_different_clips_is_not_one_purchase() -> None:
    found = plan_of([TALL, dub(dawn="Morgen")], Lock(), lookups())
    assert planning.totals(found.films).tasks == 6


def test_the_same_shot_after_a_clip_that_is_there_and_after_one_that_is_made_are_two_purchases() -> None:
    bought = Lock({"de": {ShotId("dawn"): {1: entry(replace(DAWN, prompt="Morgen"))}}})
    found = plan_of([TALL, dub(dawn="Morgen")], bought, lookups())
    assert [step.same_as for step in found.films[1].steps] == [None, None, None]


def test_another_shot_of_another_film_is_named_with_its_film() -> None:
    other = replace(film(replace(DAWN, id=ShotId("opening"))), variant="de")
    (step,) = plan_of([TALL, other], Lock(), lookups()).films[1].steps
    assert (step.reason, step.same_as, step.same_as_film) == ("same purchase as dawn [en]", "dawn", "en")


def test_takes_of_two_films_are_shared_take_by_take() -> None:
    three = replace(film(replace(DAWN, takes=3)), variant="en")
    found = plan_of([three, replace(three, variant="de")], Lock(), lookups())
    assert planning.totals(found.films).tasks == 3


def test_a_film_that_is_selected_alone_orders_what_the_other_would_have_ordered() -> None:
    films = [TALL, dub()]
    whole = plan_of(films, Lock(), lookups())
    narrow = only(whole, {"de": {shot.id for shot in TALL.shots}}, films, lambda provider: 4)
    assert [(step.same_as, step.orders) for step in narrow.films[1].steps] == [(None, True)] * 3


def test_what_waits_for_a_clip_that_this_run_does_not_make_orders_nothing_and_says_why() -> None:
    doubt = OpenOrder(action=Action.RESOLVE, reason="?")
    failed = OpenOrder(action=Action.MAKE, reason="failed before (invalid): not ordered again unless it is changed")
    never = "which failed before and is not ordered again"
    for order, why in ((doubt, "which must be settled first"), (failed, never)):
        (one,) = plan_of([TALL], Lock(), lookups(orders={"dawn": order})).films
        _, harbour, end = one.steps
        assert (harbour.action, harbour.orders, harbour.price) == (Action.MAKE, False, 0)
        assert harbour.reason == f"continues dawn, {why}"
        assert (end.orders, end.reason) == (False, "continues harbour, which is not made in this run")
        assert (planning.totals([one]).tasks, one.wall_s, one.critical) == (0, 0, ())
    held = film(replace(DAWN, hold=True), HARBOUR)
    _, harbour = make(held).steps
    assert (harbour.orders, harbour.reason) == (False, "continues dawn, which is held and has no clip")
    collected = OpenOrder(action=Action.RESUME, reason="paid for")
    _, harbour, _ = plan_of([TALL], Lock(), lookups(orders={"dawn": collected})).films[0].steps
    assert (harbour.orders, harbour.reason) == (True, "continues dawn, which is being made")


def test_a_film_made_anew_has_every_take_and_what_is_shared_once() -> None:
    twin = replace(DAWN, id=ShotId("twin"))
    one = film(replace(DAWN, takes=3, hold=True), twin, HARBOUR, shot("own", clip="own.mp4"))
    there = lookups({key_of(DAWN): record(DAWN)}, {"harbour": OpenOrder(action=Action.RESOLVE, reason="?")})
    assert prices_anew([one], INPUTS, there) == {"": Decimal("2.0")}
    assert prices_anew([TALL, dub(end="das Ende")], INPUTS, lookups()) == {"en": Decimal("1.5"), "de": Decimal("0.5")}


def test_expected_time_is_that_of_the_tasks_in_flight() -> None:
    many = film(*(shot(f"s{n}") for n in range(10)))
    for in_flight, wall in ((4, 300), (5, 200), (10, 100), (100, 100)):
        found = plan_of([many], Lock(), lookups(), in_flight)
        assert (found.films[0].wall_s, found.films[0].chain_s, found.in_flight) == (wall, 100, {"hiapi": in_flight})


def test_films_share_the_tasks_in_flight_and_each_is_ready_at_its_own_time() -> None:
    films = [replace(film(shot("a"), shot("b")), variant="x"), replace(film(shot("a"), shot("c")), variant="y")]
    found = plan_of(films, Lock(), lookups(), 1)
    assert [one.wall_s for one in found.films] == [200, 300]  # a is made once, for both


def test_the_longest_chain_goes_first() -> None:
    chain = [shot("c0"), *(shot(f"c{n}", first_frame=ShotFrame(ShotId(f"c{n - 1}"))) for n in (1, 2))]
    (found,) = plan_of([film(shot("a"), shot("b"), *chain)], Lock(), lookups(), 2).films
    assert (found.wall_s, found.critical) == (300, ("c0", "c1", "c2"))


def test_no_shortcut_is_promised_where_places_in_flight_are_short() -> None:
    market = shot("market", first_frame=ShotFrame(ShotId("harbour")))
    films = [film(DAWN, HARBOUR, market, *(shot(f"s{n}") for n in range(5)))]
    assert plan_of(films, Lock(), lookups(), 8).films[0].shortcuts
    assert not plan_of(films, Lock(), lookups(), 1).films[0].shortcuts


def test_ten_thousand_shots_are_scheduled() -> None:
    names = [ShotId(f"s{n}") for n in range(10_000)]
    many = film(*(shot(name, first_frame=ShotFrame(names[n - 4]) if n >= 4 else None) for n, name in enumerate(names)))
    assert plan_of([many], Lock(), lookups(), 4).films[0].wall_s == 250_000


@pytest.mark.parametrize(
    ("cuts", "length"),
    [
        ((Cut(DAWN.id), Cut(HARBOUR.id)), 10.0),
        ((Cut(DAWN.id, "24", "72"), Cut(HARBOUR.id)), 7.0),
        ((Cut(DAWN.id, "1s", "2.5s"), Cut(DAWN.id, end="900")), 6.5),
        ((Cut(DAWN.id), Cut(ShotId("early"))), 3.0 + 5.0),  # it begins at the frame 71 of 120
        ((Cut(DAWN.id, "96"), Cut(ShotId("early"))), 1.0 + 5.0),
        ((Cut(DAWN.id, end="4s"), Cut(ShotId("early"))), 4.0 + 5.0),
        ((Cut(DAWN.id), Cut(ShotId("again"))), 10.0),
    ],
)
def test_the_length_of_a_film_follows_its_cut(cuts: tuple[Cut, ...], length: float) -> None:
    early = shot("early", first_frame=ShotFrame(DAWN.id, "-49"))
    again = shot("again", first_frame=ShotFrame(DAWN.id, "0s"))
    made = make(film(DAWN, HARBOUR, early, again, cut=cuts), {"dawn": entry(DAWN)})
    assert made.length_s == pytest.approx(length)


def test_a_place_that_a_clip_does_not_have_is_told_before_a_run() -> None:
    cuts = (Cut(DAWN.id, "120"), Cut(DAWN.id, end="5.5s"), Cut(DAWN.id, "119", "120"), Cut(HARBOUR.id, "900"))
    made = make(film(DAWN, HARBOUR, cut=cuts), {"dawn": entry(DAWN)})
    assert [(problem.rule, problem.what) for problem in made.warnings] == [
        ("cut", "the clip of 'dawn' has 120 frames (5.000 s), none at 120: a run could not join the film"),
        ("cut", "the clip of 'dawn' has 120 frames (5.000 s), none at 5.5s: it is shown to its end"),
    ]
