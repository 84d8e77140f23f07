"""The fingerprint of an account: known again with the key, and nothing to be read from it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klingflow.execution.account import account

BASE, KEY = "https://api.example/v1", "sk-1"
MINE = account(BASE, KEY)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(KEYS, KEYS)
def test_an_intent_is_of_the_account_whose_key_wrote_it(one: str, other: str) -> None:
    intent = {"account": account(BASE, one).signature()}
    assert account(BASE, one).wrote(intent)
    assert account(BASE, other).wrote(intent) is (one == other)


def test_the_key_is_not_shown_and_two_signatures_cannot_be_compared() -> None:
    first, second = MINE.signature(), MINE.signature()
    assert KEY not in json.dumps(first) + repr(MINE)
    assert first["digest"] != second["digest"]


@pytest.mark.parametrize(
    "base",
    ["https://api.example/v1/", "HTTPS://API.example/v1", "https://me:secret@api.example/v1", "https://api.example/v1?a=b"],
)
def test_the_same_address_in_another_spelling_is_the_same_account(base: str) -> None:
    assert account(base, KEY).wrote({"account": MINE.signature()})
    assert "secret" not in json.dumps(account(base, KEY).signature())


@pytest.mark.parametrize(
    "base",
    [
        "http://api.example/v1",
        "https://api.example/v2",
        "https://api.example/V1",
        "https://api.example:8443/v1",
        "https://api.example.org/v1",
    ],
)
def test_another_address_is_another_account(base: str) -> None:
    assert not account(base, KEY).wrote({"account": MINE.signature()})


SIGNED = MINE.signature()


@pytest.mark.parametrize(
    "recorded",
    [
        None,
        "",
        [],
        {},
        {"base": SIGNED["base"], "digest": SIGNED["digest"]},
        {**SIGNED, "salt": 1},
        {**SIGNED, "salt": "00"},
        {**SIGNED, "digest": ""},
        {**SIGNED, "digest": "ä"},
    ],
)
def test_an_intent_that_does_not_say_so_is_of_no_account(recorded: object) -> None:
    assert not MINE.wrote({"account": recorded})
    assert not MINE.wrote({})
