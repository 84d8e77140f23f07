"""What a plan means for the purse, and how whoever pays reads it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from klingflow.core.model import Digest, Key, ShotId
from klingflow.output.answers import answers, ready
from klingflow.planning.accounts import bills, dropped, paid
from klingflow.planning.plan import Action, Dropped, Plan
from klingflow.planning.price import Limits
from klingflow.storyboard.lock import Entry, Lock
from tests.review_helpers import film_plan, plan, step
from tests.test_plan import DAWN, entry

SHOTS = {("", ShotId(name)) for name in "abc"}


def bought(letter: str, cost: str | None = "0.56") -> Entry:
    key = Key(Digest(letter.encode().hex().ljust(64, "0")))
    return replace(entry(DAWN), key=key, cost=None if cost is None else Decimal(cost))


def lock(**shots: Entry) -> Lock:
    return Lock({"": {ShotId(name): {1: each} for name, each in shots.items()}})


def said(one: Plan) -> dict[str, str]:
    return dict(answers(one))


def test_a_bill_is_one_provider_at_one_rate_and_what_is_free_has_none() -> None:
    silent = {"resolution": "1080p", "seconds": 5}
    films = [
        film_plan(
            step("a", Action.MAKE, price=Decimal("0.56"), **silent),
            step("b", Action.MAKE, price=Decimal("0.70"), sound=True, **silent),
            step("c", Action.MAKE, price=Decimal("0.56"), **silent),
            step("d", Action.MAKE, price=Decimal("0.25"), provider="mulerouter", basis="", **silent),
            step("e", Action.MAKE, price=None, provider="mulerouter", basis="", **silent),
            step("f", Action.MAKE, price=Decimal(0), provider="animatic", **silent),
            step("g"),
        )
    ]
    told = [(bill.provider, bill.sound, bill.clips, bill.rate, bill.amount) for bill in bills(films)]
    assert told == [
        ("mulerouter", False, 1, None, None),
        ("hiapi", False, 2, Decimal("0.112"), Decimal("1.12")),
        ("hiapi", True, 1, Decimal("0.14"), Decimal("0.70")),
        ("mulerouter", False, 1, Decimal("0.05"), Decimal("0.25")),
    ]
    lines = [answer for question, answer in answers(plan(*films)) if question == "bill"]
    assert lines == [
        "mulerouter, 1080p, silent: 1 clip, 5 s, price unknown",
        "hiapi, 1080p, silent: 2 clips, 10 s at $0.112 a second, $1.12 (estimate)",
        "hiapi, 1080p, with sound: 1 clip, 5 s at $0.14 a second, $0.70 (estimate)",
        "mulerouter, 1080p, silent: 1 clip, 5 s at $0.05 a second, $0.25",
    ]


def test_it_is_said_where_the_rate_comes_from() -> None:
    ours, stated = (step("a", Action.MAKE, basis=basis) for basis in ("estimate", ""))
    assert said(plan(film_plan(ours)))["rate"].startswith("an estimate, by the list price")
    assert said(plan(film_plan(stated)))["rate"] == "as klingflow.yaml states under `prices`"
    assert "what is marked as an estimate, by" in said(plan(film_plan(ours, replace(stated, shot=ShotId("b")))))["rate"]
    assert "rate" not in said(plan(film_plan(step("a"))))


def test_what_was_paid_counts_a_clip_once() -> None:
    assert paid(lock(a=bought("a"), twin=bought("a"), b=bought("b"), free=bought("c", None))) == Decimal("1.12")
    one = plan(film_plan(step("c", Action.MAKE)), paid=Decimal("1.12"))
    assert said(one)["paid so far"].startswith("$1.12 for the clips in the lock; $1.68 after this run")
    assert "after this run" not in said(replace(one, films=(film_plan(step("c")),)))["paid so far"]


def test_what_a_change_sets_aside_is_named_with_its_worth() -> None:
    films = [film_plan(step("a", Action.MAKE, key=Key(Digest("1" * 64))), step("b"), step("c", Action.MAKE, key=None))]
    was = lock(a=bought("a"), b=bought("b"), c=bought("c", "0.70"), old=bought("o"), free=bought("f", None))
    found = dropped(films, was, SHOTS)
    assert [(clip.shot, clip.cost, clip.gone) for clip in found] == [
        ("a", Decimal("0.56"), False),
        ("c", Decimal("0.70"), False),
        ("old", Decimal("0.56"), True),
    ]
    told = said(plan(*films, dropped=found))["not used any more"]
    assert told == "the clips of a, c, old (removed): $1.82 were paid; they stay in the store"
    one = said(plan(*films, dropped=found[:1]))["not used any more"]
    assert one == "the clip of a: $0.56 was paid; it stays in the store"


def test_a_renamed_a_held_and_an_unplanned_take_are_not_set_aside() -> None:
    held = step("b", Action.HOLD)
    films = [film_plan(step("new", key=bought("a").key), held)]
    was = Lock({"": {ShotId("a"): {1: bought("a")}, ShotId("b"): {1: bought("b"), 2: bought("2")}}})
    assert dropped(films, was, {("", ShotId("new")), ("", ShotId("b"))}) == ()


def test_how_near_the_limits_it_is_and_which_one_refuses() -> None:
    films = (film_plan(step("a", Action.MAKE), step("b", Action.MAKE)),)
    near = plan(*films, limits=Limits(spend=Decimal(20), seconds=60, tasks=1000))
    here = "klingflow.yaml"
    assert said(near)["limit"] == "$1.12 of $20.00, 10 of 60 s of clips, 2 of 1000 tasks a run"
    for files, shown in (
        ({"spend": here, "tasks": here}, f"$1.12 of $20.00, 2 of 9 tasks a run ({here})"),
        ({"spend": here, "tasks": "a/b.yaml"}, f"$1.12 of $20.00 ({here}), 2 of 9 tasks (a/b.yaml) a run"),
    ):
        limits = Limits(spend=Decimal(20), tasks=9, set_in=files)
        assert said(plan(*films, limits=limits))["limit"] == shown
    over = said(plan(*films, limits=Limits(spend=Decimal(1), set_in={"spend": here})))["limit"]
    why = f"the limit is $1.00 a run ({here}), and this one would spend $1.12"
    assert over == f"a run is refused: {why}"
    assert said(plan(*films))["limit"].startswith("none is set; `limits` in klingflow.yaml")
    assert "limit" not in said(plan(film_plan(step("a", Action.MAKE, price=Decimal(0)))))
    assert "limit" not in said(plan(film_plan(step("a")), limits=Limits(spend=Decimal(20))))


def test_a_chain_is_explained_where_one_is_made_longer() -> None:
    first, second = step("a"), step("b", Action.MAKE, depth=2)
    assert said(plan(film_plan(first, second)))["chain"].endswith("the last frame of the one before it: 2 at most")
    assert "chain" not in said(plan(film_plan(first, step("b", depth=2))))
    assert "chain" not in said(plan(film_plan(first, step("b", Action.MAKE))))


def test_the_films_length_and_when_it_is_ready() -> None:
    one = film_plan(step("a", Action.MAKE), length_s=125.4, wall_s=600, chain_s=90)
    assert ready(one, plan(one, in_flight={"hiapi": 4})) == (
        "2 min 05 s of film, ready in about 10 min, 4 tasks at a time"
    )
    two = plan(one, in_flight={"hiapi": 4, "mulerouter": 1})
    assert ready(one, two).endswith("4 tasks at a time at hiapi and 1 task at a time at mulerouter")
    assert ready(replace(one, chain_s=600), two) == "2 min 05 s of film, ready in about 10 min"
    assert ready(film_plan(step("a")), two) == ""


def test_clips_of_a_matrix_that_are_set_aside_are_named_with_their_film() -> None:
    clips = [Dropped(variant=name, shot=ShotId("a"), take=2, cost=Decimal(1), gone=False) for name in ("en", "de")]
    told = said(plan(film_plan(step("a")), dropped=tuple(clips)))["not used any more"]
    assert told.startswith("the clips of a take 2 [en], a take 2 [de]: $2.00")
