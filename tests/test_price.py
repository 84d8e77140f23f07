"""Prices, limits and spend: exact, and an unknown price is never taken for a small one."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest

from klingflow.core.model import Key
from klingflow.planning import price
from klingflow.planning.job import Kind, fold
from klingflow.planning.price import Limits, Price, Spent, exceeded, money, spent
from klingflow.providers import PROVIDERS


def of(provider: str, resolution: str, sound: bool, seconds: int, overrides: Mapping[str, object]) -> Price:
    return price.of(provider, resolution, sound, seconds, overrides, PROVIDERS[provider].caps.shipped)


@pytest.mark.parametrize(
    ("resolution", "silent", "sound"), [("720p", "0.420", "0.560"), ("1080p", "0.560", "0.70"), ("4K", "2.10", "2.10")]
)
@pytest.mark.parametrize("provider", ["hiapi", "mulerouter"])
def test_the_shipped_prices_are_the_models_list_price_as_estimates(
    provider: str, resolution: str, silent: str, sound: str
) -> None:
    assert of(provider, resolution, False, 5, {}) == Price(amount=Decimal(silent), basis="estimate")
    assert of(provider, resolution, True, 5, {}) == Price(amount=Decimal(sound), basis="estimate")


def test_a_price_that_the_project_states_is_exact_and_no_estimate() -> None:
    prices = {"hiapi": {"1080p": {"silent": 0.1, "sound": "0.14"}}}
    assert of("hiapi", "1080p", False, 3, prices) == Price(amount=Decimal("0.3"))
    assert of("hiapi", "1080p", True, 3, prices) == Price(amount=Decimal("0.42"))
    assert of("hiapi", "720p", True, 1, prices).estimate
    assert of("mulerouter", "1080p", False, 1, prices).estimate


@pytest.mark.parametrize("nonsense", [None, "cheap", -1, float("nan"), [], {"silent": None}])
def test_nonsense_for_a_price_is_no_price(nonsense: object) -> None:
    assert of("hiapi", "1080p", False, 1, {"hiapi": {"1080p": {"silent": nonsense}}}).estimate
    assert of("hiapi", "1080p", False, 1, {"hiapi": nonsense}).estimate


def test_the_animatic_is_free_and_what_is_not_known_has_no_price() -> None:
    assert of("animatic", "4K", True, 15, {}) == Price(amount=Decimal(0))
    assert price.of("somebody", "1080p", True, 5, {}, {}) == Price(amount=None)
    assert of("hiapi", "8K", True, 5, {}) == Price(amount=None)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "$0.00"),
        ("0.56", "$0.56"),
        ("0.560", "$0.56"),
        ("0.335", "$0.34"),
        ("0.004", "<$0.01"),
        ("1234.5", "$1,234.50"),
    ],
)
def test_money_is_written_as_people_read_it(amount: str, text: str) -> None:
    assert money(Decimal(amount)) == text


@pytest.mark.parametrize(
    ("limits", "spend", "seconds", "tasks", "sentence"),
    [
        (Limits(), Decimal(10**6), 10**6, 10**6, None),
        (Limits(spend=Decimal("1.12")), Decimal("1.12"), 10, 2, None),
        (
            Limits(spend=Decimal("1.12")),
            Decimal("1.121"),
            10,
            2,
            "the limit is $1.12 a run, and this one would spend $1.121",
        ),
        (Limits(spend=Decimal(20)), Decimal(21), 10, 2, "the limit is $20.00 a run, and this one would spend $21.00"),
        (Limits(spend=Decimal(0)), Decimal("0.01"), 1, 1, "the limit is $0.00 a run, and this one would spend $0.01"),
        (Limits(spend=Decimal(0)), Decimal(0), 1, 1, None),
        (
            Limits(spend=Decimal(20)),
            None,
            5,
            1,
            "the limit is $20.00 a run, and the price of at least one shot is not known",
        ),
        (Limits(spend=Decimal(20)), None, 0, 0, None),
        (Limits(seconds=9, tasks=5), None, 9, 5, None),
        (Limits(seconds=9), None, 10, 1, "the limit is 9 seconds of clips a run, and this one would make 10"),
        (Limits(tasks=1), None, 1, 2, "the limit is 1 task a run, and this one would order 2"),
    ],
)
def test_a_run_over_a_limit_is_refused_in_a_sentence(
    limits: Limits, spend: Decimal | None, seconds: int, tasks: int, sentence: str | None
) -> None:
    assert exceeded(limits, spend, seconds, tasks) == sentence


def test_spend_is_booked_when_an_order_may_have_been_taken() -> None:
    def life(*kinds: Kind, price: str | None = "0.56", at_ms: int = 1_000) -> None:
        job = fold(Key(f"{len(jobs):064x}"), [])
        for kind in kinds:
            job = fold(job.key, [*job.records, job.next(kind, at_ms, {"price": price, "task": "t"})])
        jobs.append(job)

    jobs: list = []  # type: ignore[type-arg]
    assert spent(jobs) == Spent(amount=Decimal(0), unpriced=0)
    life(Kind.INTENT, Kind.ACCEPTED, Kind.STORED)
    life(Kind.INTENT, Kind.ACCEPTED, Kind.FAILED, Kind.INTENT, Kind.ACCEPTED)
    life(Kind.INTENT)
    life(Kind.INTENT, Kind.REFUSED)
    life(Kind.INTENT, Kind.ABANDONED)
    life(Kind.INTENT, Kind.ACCEPTED, Kind.ABANDONED)
    life(Kind.INTENT, Kind.ACCEPTED, price=None)
    life(Kind.INTENT, Kind.ACCEPTED, price="0", at_ms=999)
    assert spent(jobs) == Spent(amount=Decimal("2.80"), unpriced=1)
