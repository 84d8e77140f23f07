"""Prices: what HiAPI's public list says, where it is written down, and how a price is called wherever it is shown."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from klingflow.planning.price import Price, noted, of
from klingflow.providers import hiapi_prices, omni
from tests.paid_helpers import studio
from tests.standins import answer
from tests.standins.hiapi import PRICING

I2V, T2V = "image-to-video", "text-to-video"


def read(rows: Any) -> tuple[dict[str, Any], list[str]]:
    found, wrong = hiapi_prices.read(json.dumps({"data": rows}).encode())
    return dict(found), wrong


def test_the_most_specific_policy_counts_and_what_none_is_about_has_the_base_price() -> None:
    found, wrong = read(PRICING)
    assert wrong == []
    assert found[I2V] == {
        "720p": {"silent": Decimal("0.08"), "sound": Decimal("0.11")},
        "1080p": {"silent": Decimal("0.1"), "sound": Decimal("0.143")},
        "4K": {"silent": Decimal("0.4"), "sound": Decimal("0.4")},
    }
    assert found[T2V]["1080p"] == {"silent": Decimal("0.09"), "sound": Decimal("0.09")}
    assert hiapi_prices.read(json.dumps(PRICING).encode())[0] == found, "also without an envelope"


def test_of_equally_specific_policies_the_dearest_counts_and_names_match_whatever_their_case() -> None:
    rows = copy.deepcopy(PRICING)
    rows[0]["policies"] += [{"rule": {"resolution": {"match": "4k"}}, "usd_value": 0.5}]
    assert read(rows)[0][I2V]["4K"]["silent"] == Decimal("0.5")


def policy(**fields: Any) -> Callable[[Any], None]:
    return lambda row: row["policies"].append(fields)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda row: row.update(factors=["frames"]), "not billed by the second alone"),
        (lambda row: row.update(factors=["duration", "images"]), "not billed by the second alone"),
        (lambda row: row.pop("factors"), "not billed by the second alone"),
        (lambda row: row.pop("base_usd_value"), "base_usd_value is no price (nothing)"),
        (lambda row: row.update(base_usd_value="free"), "base_usd_value is no price (free)"),
        (lambda row: row.update(base_usd_value=-1), "base_usd_value is no price (-1)"),
        (lambda row: row.update(base_usd_value=True), "base_usd_value is no price"),
        (lambda row: row.update(policies={}), "its policies are no list"),
        (policy(rule={"duration": {"min": 5}}, usd_value=1), "a policy depends on 'duration' by 'min: 5'"),
        (policy(rule={"duration": {"match": 5}}, usd_value=1), "a policy depends on 'duration' by 'match: 5'"),
        (policy(rule={"sound": {"match": "on"}}, usd_value=1), "a policy depends on 'sound' by 'match: on'"),
        (policy(rule={"sound": True}, usd_value=1), "a policy's condition on 'sound' is not known"),
        (policy(rule=[], usd_value=1), "the rule of a policy is no object"),
        (policy(rule={}, pricing_type="tiers"), "a policy has the type 'tiers'"),
        (policy(rule={"resolution": {"match": "1080p"}}, usd_value=None), "usd_value is no price (nothing)"),
    ],
)
def test_a_row_with_anything_else_in_it_is_named_and_left_out_whole(change: Callable[[Any], None], why: str) -> None:
    rows = copy.deepcopy(PRICING)
    change(rows[0])
    if why.startswith("a policy has"):
        rows[0]["policies"] = rows[0]["policies"][-1:]
    found, wrong = read(rows)
    assert found.keys() == {T2V}
    [told] = wrong
    assert told.startswith("kling-3.0-omni/image-to-video: ")
    assert why in told


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"data": 5}', b'{"data": [1, null]}', b"[" * 100_000])
def test_whatever_is_no_list_says_nothing_of_any_price(body: bytes) -> None:
    found, wrong = hiapi_prices.read(body)
    assert found == {}
    assert wrong


def test_what_the_project_states_comes_first_then_the_list_then_the_estimate() -> None:
    shipped = omni.LIST_PRICE
    listed = {"hiapi": {"date": "2026-11-27", I2V: {"720p": {"silent": 0.05}}}}
    found = of("hiapi", "720p", False, 2, {}, shipped, listed)
    assert found == Price(amount=Decimal("0.1"), basis="list price of 2026-11-27")
    assert of("hiapi", "720p", False, 2, {}, shipped, listed, by_text=True).basis == "estimate"
    assert of("hiapi", "720p", True, 2, {}, shipped, listed).basis == "estimate"
    assert of("mulerouter", "720p", False, 2, {}, shipped, listed).basis == "estimate"
    stated = {"hiapi": {"720p": {"silent": 0.01}}}
    assert of("hiapi", "720p", False, 2, stated, shipped, listed) == Price(amount=Decimal("0.02"))
    assert noted(["estimate", "", "list price of 2026-11-27", "estimate"]) == " (estimate, list price of 2026-11-27)"
    assert noted(["", ""]) == ""


def test_a_list_is_fetched_without_a_key_written_whole_and_named_wherever_its_prices_are_shown(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, api):
        shown = project.run("prices")
        assert (shown.code, "estimate" in shown.out, api.requests) == (0, True, []), shown.said
        written = project.run("prices", "--refresh", HIAPI_API_KEY="")
        assert written.code == 0, written.said
        assert "klingflow.prices.yaml is written: review the change" in written.out
        assert [seen.path for seen in api.requests] == ["/api/pricing"]
        day = time.strftime("%Y-%m-%d", time.gmtime())
        text = (project.root / "klingflow.prices.yaml").read_text("utf-8")
        assert f'  date: "{day}"\n' in text
        assert "    720p: {silent: 0.08, sound: 0.11}\n" in text
        before = len(api.requests)
        for command in (("check", "film.yaml"), ("plan", "film.yaml"), ("prices",)):
            assert project.run(*command).code == 0
        assert len(api.requests) == before, "nothing else fetches a price"

        basis = f"list price of {day}"
        plan = project.run("plan", "film.yaml")
        assert f"2 clips to make, 6 s of clips, $0.48 ({basis})" in plan.out
        assert f"rate: the seller's {basis}, in klingflow.prices.yaml" in " ".join(plan.out.split())
        assert f"$0.48 ({basis})" in project.run("plan", "film.yaml", "--format", "markdown").out
        steps = json.loads(project.run("plan", "film.yaml", "--json").out)["steps"]
        assert [(step["price"], step["estimate"], step["basis"]) for step in steps] == [(0.24, False, basis)] * 2
        asks = project.run("run", "film.yaml")
        assert f"this run would spend $0.48 ({basis})" in asks.err
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert f"2 clips made, $0.48 booked ({basis})" in ran.err
        assert f"$0.48 booked ({basis})" in project.run("status", "film.yaml").out
        assert {row["basis"] for row in json.loads(project.run("status", "--json").out)["tasks"]} == {basis}
        assert (project.root / "film.lock.yaml").read_text("utf-8").count(f'basis: "{basis}"') == 2
        assert basis in project.run("takes", "film.yaml").out
        assert project.run("plan", "film.yaml", "--exit-code").code == 0, "the lock with a basis is read again"


def test_a_row_that_is_not_understood_is_named_and_one_list_of_nothing_changes_no_file(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, api):
        api.pricing = copy.deepcopy(PRICING)
        api.pricing[1]["factors"] = ["frames"]
        told = project.run("prices", "--refresh", "--json")
        assert told.code == 0, told.said
        document = json.loads(told.out)
        assert document["refreshed"] == "klingflow.prices.yaml"
        assert [one.partition(":")[0] for one in document["unclear"]] == ["kling-3.0-omni/text-to-video"]
        file = project.root / "klingflow.prices.yaml"
        before = file.read_bytes()
        assert b"text-to-video" not in before
        for wrong in ([], [{"model_name": "kling-3.0-omni/image-to-video"}], "junk"):
            api.pricing = wrong
            refused = project.run("prices", "--refresh")
            assert refused.code == 1, refused.said
            assert "klingflow.prices.yaml is as it was" in " ".join(refused.err.split())
        api.faults.add("GET /api/pricing", answer(404), times=-1)
        gone = project.run("prices", "--refresh")
        assert (gone.code, "cannot be had" in gone.err) == (1, True), gone.said
        assert file.read_bytes() == before


def test_a_broken_list_is_told_at_its_place(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, api):
        project.write("klingflow.prices.yaml", "hiapi:\n  date: yesterday\n  image-to-video: {720p: {silent: 0}}\n")
        for command in (("plan", "film.yaml"), ("prices",), ("prices", "--refresh")):
            told = project.run(*command)
            assert told.code == 2, told.said
            assert "klingflow.prices.yaml:2:9: " in told.err
            assert "klingflow.prices.yaml:3:35: " in told.err
        assert api.requests == []


def test_a_list_is_no_way_round_a_limit_of_a_folder_above(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, _):
        (tmp_path / "klingflow.yaml").write_text("limits: {spend: 1}\n", "utf-8")
        project.write("klingflow.yaml", "")
        project.write("klingflow.prices.yaml", 'hiapi: {date: "2026-11-27", image-to-video: {720p: {silent: 0.001}}}\n')
        told = project.run("plan", "film.yaml")
        assert told.code == 2, told.said
        assert "0.001 a second is less than the 0.084 that the spend limit of" in " ".join(told.err.split())
        assert "klingflow.prices.yaml:1:" in told.err
