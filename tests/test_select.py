from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klingflow.core.errors import UsageError
from klingflow.core.model import ShotId
from klingflow.planning.select import refuse_misspelt_tags, select
from tests.review_helpers import film, shot

#   dawn -> harbour -> market -> night
#                  \-> pier
FILM = film(
    shot("dawn", tags=("sea",)),
    shot("harbour", continues="dawn", tags=("sea", "town")),
    shot("market", continues="harbour", tags=("town",)),
    shot("pier", continues="harbour", tags=("night",)),
    shot("night", continues="market", tags=("night", "town")),
    shot("2", tags=("odd",)),
)
STATES = {
    ShotId("dawn"): "unchanged",
    ShotId("harbour"): "changed",
    ShotId("market"): "unchanged",
    ShotId("pier"): "new",
    ShotId("night"): "renamed",
    ShotId("2"): "unchanged",
    ShotId("gone"): "removed",
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("", "dawn harbour market pier night 2"),
        ("*", "dawn harbour market pier night 2"),
        ("dawn", "dawn"),
        ("mar* d?wn", "market dawn"),
        ("dawn+", "dawn harbour market pier night"),
        ("dawn+1", "dawn harbour"),
        ("dawn+0", "dawn"),
        ("+market", "dawn harbour market"),
        ("1+market", "harbour market"),
        ("2+night", "harbour market night"),
        ("+harbour+", "dawn harbour market pier night"),
        ("1+harbour+1", "dawn harbour market pier"),
        ("2+", "2"),
        ("tag:night", "pier night"),
        ("tag:n*+", "pier night"),
        ("+tag:night,tag:sea", "dawn harbour"),
        ("dawn pier", "dawn pier"),
        ("dawn+,tag:town market", "harbour market night"),
        ("state:new", "pier"),
        ("state:changed", "harbour"),
        ("state:modified", "harbour pier"),
        ("state:changed+", "harbour market pier night"),
        ("state:renamed", "night"),
        ("state:removed", "gone"),
        ("nothing*", ""),
    ],
)
def test_a_selection_names_its_shots(expression: str, expected: str) -> None:
    assert select(expression, "", FILM, STATES) == set(expected.split())


def test_exclude_takes_away_what_it_names() -> None:
    assert select("dawn+", "market+ tag:sea,dawn", FILM, STATES) == {"harbour", "pier"}
    assert select("", "*", FILM) == frozenset()


@pytest.mark.parametrize(
    ("expression", "what", "mend"),
    [
        ("harbor+", "no shot is called 'harbor'", "did you mean 'harbour'?"),
        ("xyz", "no shot is called 'xyz'", "the shots are dawn, harbour, market, pier, night, 2"),
        ("state:chnged", "a shot has no state 'chnged'", "did you mean state:changed?"),
        ("tags:night", "a selection has no method 'tags'", "did you mean tag:night?"),
        ("dawn,", "cannot read '' in the selection 'dawn,'", "write a shot"),
        ("+", "cannot read '+'", "write a shot"),
        ("dawn++", "cannot read 'dawn++'", "write a shot"),
    ],
)
def test_what_cannot_be_selected_is_refused_with_a_mend(expression: str, what: str, mend: str) -> None:
    with pytest.raises(UsageError) as refused:
        select(expression, "", FILM, STATES)
    assert refused.value.what.startswith(what)
    assert refused.value.mend.startswith(mend)


def test_a_tag_that_is_nearly_another_is_a_slip_of_the_pen() -> None:
    for expression in ("tag:nigth", "dawn +tag:nigth+", "dawn,tag:nigth"):
        with pytest.raises(UsageError) as refused:
            refuse_misspelt_tags(expression, [FILM])
        assert (refused.value.what, refused.value.mend) == ("no shot has the tag 'nigth'", "did you mean tag:night?")
    refuse_misspelt_tags("tag:night tag:n* tag:advertisement nigth state:changed", [FILM])
    refuse_misspelt_tags("tag:nigth", [FILM, film(shot("x", tags=("nigth",)))])


def test_a_state_without_a_base_says_how_to_give_one() -> None:
    with pytest.raises(UsageError) as refused:
        select("state:changed+", "", FILM)
    assert "--against" in refused.value.mend


def test_a_closed_loop_of_needs_ends() -> None:
    loop = film(shot("a", continues="b"), shot("b", continues="a"))
    assert select("+a+", "", loop) == {"a", "b"}


@given(st.text(max_size=30))
def test_any_text_selects_known_shots_or_is_refused(text: str) -> None:
    with suppress(UsageError):
        assert select(text, "", FILM, STATES) <= set(STATES)
