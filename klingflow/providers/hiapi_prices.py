"""HiAPI's public list of prices, `GET /api/pricing`: which rate a second it states for Kling 3.0 Omni.

Read as HiAPI's own tools read it (HiAPIAI/hiapi-food-commercial-video-skill at 6bf39ea, 2026-08-20; no page documents
it, and no figure for Kling is known): the row of a model has one factor, its seconds; of the policies that match an
order the most specific counts, of several such the dearest; `usd_value` is a rate, `pricing_type: multiply` makes one
of the row's `base_usd_value`. Whatever else is there is not guessed at. No key, and nothing of an account: what an
account really pays may be less or more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from klingflow.providers import hiapi, omni, reading

PATH = "/api/pricing"
WAYS = ("image-to-video", "text-to-video")
"""The two models of the list that klingflow orders."""
_SECONDS = frozenset({"duration", "seconds", "duration_seconds"})
_MOST = Decimal(1000)
"""USD a second: above it the figure is none of a clip."""

Rates = Mapping[str, Mapping[str, Decimal]]
"""Resolution -> silent, sound -> USD a second."""


class _Unclear(Exception):
    """Why a row cannot be understood."""


def read(body: bytes) -> tuple[dict[str, Rates], list[str]]:
    """The rates of each way that the list states whole, and for each other one why it cannot be understood."""
    found: dict[str, Rates] = {}
    wrong: list[str] = []
    try:
        listed = json.loads(body, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, RecursionError):
        return {}, ["the answer is not JSON"]
    rows = listed.get("data") if isinstance(listed, dict) else listed
    if not isinstance(rows, list):
        return {}, ["the answer holds no list of prices"]
    for way in WAYS:
        name = f"{omni.MODEL}/{way}"
        mine = [row for row in rows if isinstance(row, dict) and row.get("model_name") == name]
        try:
            if len(mine) != 1:
                raise _Unclear(f"{len(mine)} rows have that name" if mine else "no row has that name")
            found[way] = _rates(mine[0], way)
        except _Unclear as why:
            wrong.append(f"{name}: {why}")
    return found, wrong


def _rates(row: Mapping[str, object], way: str) -> Rates:
    factors = row.get("factors")
    if not isinstance(factors, list) or len(factors) != 1 or str(factors[0]).strip().lower() not in _SECONDS:
        raise _Unclear(f"it is not billed by the second alone (factors: {_shown(factors)})")
    policies = row.get("policies")
    if policies is not None and not (isinstance(policies, list) and all(isinstance(one, dict) for one in policies)):
        raise _Unclear(f"its policies are no list (policies: {_shown(policies)})")
    return {
        resolution: {
            kind: _rate(row, policies or (), {"resolution": resolution, "sound": kind == "sound"}, way)
            for kind in ("silent", "sound")
        }
        for resolution in hiapi.caps.resolutions
    }


def _rate(
    row: Mapping[str, object], policies: Sequence[Mapping[str, object]], asked: Mapping[str, object], way: str
) -> Decimal:
    matching = [policy for policy in policies if all(_meets(asked, way, *each) for each in _rule(policy))]
    if not matching:
        return _base(row)
    most = max(len(list(_rule(policy))) for policy in matching)
    return max(_stated(row, policy) for policy in matching if len(list(_rule(policy))) == most)


def _rule(policy: Mapping[str, object]) -> Iterator[tuple[str, str, object]]:
    """Each condition of a policy: field, operator, what is wanted."""
    rule = policy.get("rule")
    if rule is not None and not isinstance(rule, dict):
        raise _Unclear(f"the rule of a policy is no object ({_shown(rule)})")
    for field, condition in (rule or {}).items():
        if not isinstance(condition, dict) or not condition:
            raise _Unclear(f"a policy's condition on '{_shown(field)}' is not known ({_shown(condition)})")
        for operator, wanted in condition.items():
            yield str(field), str(operator), wanted


def _meets(asked: Mapping[str, object], way: str, field: str, operator: str, wanted: object) -> bool:
    values = wanted if isinstance(wanted, list) else [wanted]
    if operator == "match" and field == "resolution" and all(isinstance(value, str) for value in values):
        return str(asked[field]).lower() in [str(value).lower() for value in values]
    if operator == "match" and field == "sound" and all(isinstance(value, bool) for value in values):
        return asked[field] in values
    if operator == "with" and field == "sound" and isinstance(wanted, bool):
        return asked[field] is wanted
    if operator == "with" and field == "image_urls" and isinstance(wanted, bool):
        return (way == "image-to-video") is wanted
    if operator == "with" and field == "resolution" and isinstance(wanted, bool):
        return wanted
    raise _Unclear(f"a policy depends on '{_shown(field)}' by '{_shown(operator)}: {_shown(wanted)}'")


def _stated(row: Mapping[str, object], policy: Mapping[str, object]) -> Decimal:
    kind = policy.get("pricing_type") or ("fixed" if "usd_value" in policy else "")
    if kind == "fixed":
        return _number(policy.get("usd_value"), "usd_value")
    if kind == "multiply":
        times = policy.get("times")
        return _base(row) * _number(policy.get("pricing_value") if times is None else times, "multiplier")
    raise _Unclear(f"a policy has the type '{_shown(kind)}'")


def _base(row: Mapping[str, object]) -> Decimal:
    base = row.get("base_usd_value")
    return _number(row.get("model_price") if base is None else base, "base_usd_value")


def _number(value: object, name: str) -> Decimal:
    """A positive number, also where it came as text."""
    try:
        number = Decimal(str(value)) if isinstance(value, Decimal | str) else Decimal(0)
    except InvalidOperation:
        number = Decimal(0)
    if not number.is_finite() or not 0 < number <= _MOST:
        raise _Unclear(f"{name} is no price ({_shown(value)})")
    return number


def _shown(value: object) -> str:
    value = str(value) if isinstance(value, Decimal) else value
    return reading.text(value, 60) or ("nothing" if value is None else reading.text(json.dumps(value, default=str), 60))
