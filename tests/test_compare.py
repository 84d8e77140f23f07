from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klingflow.core.model import Cut, Digest, Film, Shot, ShotId
from klingflow.planning.compare import Comparison, ShotChange, ShotState, Side, compare, words
from klingflow.planning.plan import Action
from tests.review_helpers import film, film_plan, image, shot, step


def side(
    of: Film, *, make: str = "", stills: dict[str, str] | None = None, depth: dict[str, int] | None = None
) -> Side:
    made, deep = make.split(), depth or {}
    steps = (step(s.id, Action.MAKE if s.id in made else Action.REUSE, depth=deep.get(s.id, 1)) for s in of.shots)
    return Side(
        film=of,
        plan=film_plan(*steps),
        stills={path: image(seed) for path, seed in (stills or {}).items()},
        clips={},
        anew=Decimal("0.56") * len(of.shots),
    )


def chain(**changed: Shot) -> Film:
    shots = {
        "dawn": shot("dawn", still="frames/dawn.png"),
        "harbour": shot("harbour", continues="dawn"),
        "market": shot("market", continues="harbour"),
        **changed,
    }
    return film(*shots.values())


STILLS = {"frames/dawn.png": "a"}
BASE = side(chain(), stills=STILLS)


def only(comparison: Comparison) -> ShotChange:
    [change] = comparison.shots
    return change


def test_two_equal_films_differ_in_nothing() -> None:
    comparison = compare(BASE, side(chain(), stills=STILLS))
    assert comparison.shots == ()
    assert set(comparison.states.values()) == {ShotState.UNCHANGED}
    assert comparison.cost.change == 0


def test_a_changed_prompt_is_shown_word_by_word_and_what_continues_it_is_not_called_changed() -> None:
    head = chain(dawn=shot("dawn", still="frames/dawn.png", prompt="the red dawn"))
    comparison = compare(BASE, side(head, make="dawn harbour market", stills=STILLS))
    change = only(comparison)
    assert (change.shot, change.state, change.buys) == ("dawn", ShotState.CHANGED, True)
    assert change.fields[0].segments == (("=", "the "), ("+", "red "), ("=", "dawn"))
    assert comparison.cost.change == Decimal("1.68")
    assert comparison.cost.film == comparison.cost.to_buy


def test_a_title_that_changed_buys_nothing() -> None:
    change = only(compare(BASE, side(chain(market=shot("market", continues="harbour", title="Fish")), stills=STILLS)))
    assert [f.field for f in change.fields] == ["title"]
    assert not change.buys


def test_a_still_whose_bytes_changed_is_a_change_though_its_path_stayed() -> None:
    change = only(compare(BASE, side(chain(), stills={"frames/dawn.png": "b"})))
    assert [(f.field, f.old[:15], f.buys) for f in change.fields] == [("first_frame", "frames/dawn.png", True)]


def test_a_still_that_only_moved_to_another_path_buys_nothing() -> None:
    head = chain(dawn=shot("dawn", still="frames/new.png"))
    change = only(compare(BASE, side(head, stills={"frames/new.png": "a"})))
    assert [(f.field, f.buys) for f in change.fields] == [("first_frame", False)]


def test_a_renamed_shot_is_found_by_what_it_says_and_its_followers_are_unchanged() -> None:
    head = film(
        shot("sunrise", still="frames/dawn.png", prompt="the dawn"),
        shot("harbour", continues="sunrise"),
        shot("market", continues="harbour"),
    )
    comparison = compare(BASE, side(head, stills=STILLS))
    change = only(comparison)
    assert (change.shot, change.was, change.state, change.buys) == ("sunrise", "dawn", ShotState.RENAMED, False)
    assert comparison.states == {
        "sunrise": ShotState.RENAMED,
        "harbour": ShotState.UNCHANGED,
        "market": ShotState.UNCHANGED,
    }


def test_a_whole_chain_that_is_renamed_is_renamed_shot_by_shot() -> None:
    head = film(
        shot("c", continues="b", prompt="the market"),
        shot("b", continues="a", prompt="the harbour"),
        shot("a", still="frames/dawn.png", prompt="the dawn"),
        cut=(Cut(ShotId("a")), Cut(ShotId("b")), Cut(ShotId("c"))),
    )
    found = compare(BASE, side(head, stills=STILLS))
    assert {c.shot: c.was for c in found.shots} == {"a": "dawn", "b": "harbour", "c": "market"}
    assert all(c.state is ShotState.RENAMED and c.moved is None for c in found.shots)


def test_added_removed_and_moved_shots_are_named() -> None:
    head = film(
        shot("harbour", continues="dawn"),
        shot("dawn", still="frames/dawn.png"),
        shot("pier", continues="harbour"),
    )
    found = {c.shot: c for c in compare(BASE, side(head, make="pier", stills=STILLS)).shots}
    assert {name: c.state for name, c in found.items()} == {
        "harbour": ShotState.UNCHANGED,
        "pier": ShotState.NEW,
        "market": ShotState.REMOVED,
    }
    assert found["harbour"].moved == (2, 1)


def test_the_film_itself_changes_in_title_music_and_cut() -> None:
    shots = BASE.film.shots
    base = replace(BASE, film=film(*shots, audio="score.wav"), clips={"score.wav": Digest("a" * 64)})
    cut = (Cut(ShotId("market"), end="2.5s"), Cut(ShotId("dawn"), "12", "80"))
    fields = {"title": "Dusk", "cut": cut, "size": (1280, 720), "aspect": "16:9", "rate": Fraction(30000, 1001)}
    dusk = film(*shots, audio="score.wav", **fields, gate={"velocity": 2.0, "colour": 0.5})
    head = replace(BASE, film=dusk, clips={"score.wav": Digest("b" * 64)})
    comparison = compare(base, head)
    assert [(c.field, c.old, c.new, c.buys) for c in comparison.film] == [
        ("title", "Harbour Dawn", "Dusk", False),
        ("audio", "score.wav (aaaaaaaa)", "score.wav (bbbbbbbb)", False),
        ("film.size", "", "1280x720", False),
        ("film.aspect", "", "16:9", False),
        ("film.rate", "", "29.97", False),
        ("film.gate", "", "colour 0.5, velocity 2", False),
        ("film.shots", "dawn, harbour, market", "market [start to 2.5s], dawn [12 to 80]", False),
    ]


def test_two_shots_that_swap_their_ids_are_two_changed_shots() -> None:
    base = side(film(shot("a", prompt="one"), shot("b", prompt="two")))
    head = side(film(shot("a", prompt="two"), shot("b", prompt="one")))
    assert {c.shot: c.state for c in compare(base, head).shots} == {"a": ShotState.CHANGED, "b": ShotState.CHANGED}


def test_a_deeper_chain_is_told() -> None:
    head = side(chain(), stills=STILLS, depth={"market": 3})
    assert only(compare(BASE, head)).depth == (1, 3)


def test_a_film_that_the_base_lacks_is_new_in_every_shot() -> None:
    comparison = compare(None, side(chain(), make="dawn harbour market", stills=STILLS))
    assert {c.state for c in comparison.shots} == {ShotState.NEW}
    assert comparison.cost.change == comparison.cost.film == Decimal("1.68")


def test_what_the_base_would_buy_anyway_is_not_this_changes_cost() -> None:
    base = side(chain(), make="market", stills=STILLS)
    cost = compare(base, side(chain(), make="harbour market", stills=STILLS)).cost
    assert (cost.to_buy, cost.base_to_buy, cost.change) == (Decimal("1.12"), Decimal("0.56"), Decimal("0.56"))


def test_an_unknown_price_makes_the_change_unknown_not_zero() -> None:
    head = Side(
        film=chain(),
        plan=film_plan(step("dawn", Action.MAKE, price=None)),
        stills={"frames/dawn.png": image("a")},
        clips={},
        anew=None,
    )
    assert compare(BASE, head).cost.change is None


def test_a_signed_url_is_shown_without_its_query() -> None:
    from klingflow.core.model import UrlStill

    head = chain(dawn=shot("dawn", first_frame=UrlStill("https://h.example/a.png?sig=s3cret", Digest("e" * 64))))
    change = only(compare(BASE, side(head, stills=STILLS)))
    assert change.fields[0].new == "https://h.example/a.png?… (eeeeeeee)"


@pytest.mark.parametrize(
    ("old", "new", "segments"),
    [
        ("", "new text", (("+", "new text"),)),
        ("a slow pan", "a fast zoom", (("=", "a "), ("-", "slow pan"), ("+", "fast zoom"))),
        ("the boat drifts", "the boat", (("=", "the boat"), ("-", " drifts"))),
    ],
)
def test_words_are_compared_not_letters(old: str, new: str, segments: object) -> None:
    assert words(old, new) == segments


@given(st.text("ab ,\n", max_size=60), st.text("ab ,\n", max_size=60))
def test_a_word_diff_loses_no_character_of_either_text(old: str, new: str) -> None:
    pieces = words(old, new)
    assert "".join(text for op, text in pieces if op != "+") == old
    assert "".join(text for op, text in pieces if op != "-") == new


def test_very_long_texts_are_compared_at_once() -> None:
    assert [op for op, _ in words("a b " * 5_000 + "x", "c d " * 5_000 + "y")] == ["-", "+"]
    words("`*" * 4_000, "*`" * 4_000 + "x")
