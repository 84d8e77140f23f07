"""The suite that every provider passes (klingflow.testing), and what the sellers of one model have in common."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from klingflow.core.model import ImageFacts, TaskId
from klingflow.core.redact import register
from klingflow.core.source import Problem
from klingflow.providers import animatic, fal, hiapi, kling, mulerouter
from klingflow.providers.base import (
    Accepted,
    Answer,
    FailureClass,
    Later,
    Provider,
    Refused,
    Settings,
    Unclear,
    Unreadable,
)
from klingflow.providers.failure import RULES
from klingflow.providers.images import image_problems
from klingflow.providers.reading import RAW_CHARS
from klingflow.testing import ProviderSuite
from tests.provider_helpers import KEY, STILL, answer, faults, film, framed, meaning, recorded, shot

PROVIDERS: tuple[Provider, ...] = (animatic, hiapi, mulerouter, fal, kling)
PAID: tuple[Provider, ...] = (hiapi, mulerouter, fal, kling)
NAMED: dict[str, Provider] = {p.name: p for p in PROVIDERS}
TASK = TaskId("t-1")
EXAMPLE = Path(__file__).parents[1] / "docs" / "example-provider"
RECORDED = {
    "hiapi": TaskId("tk-hiapi-01HZTQ8BX2N3GM3YFK4Z9D7VQR"),
    "mulerouter": TaskId("8e1e315e-b50d-4334-a231-be7d19a372f4"),
    "fal": TaskId("764cabcf-b745-4b3e-ae38-1200304cf45b"),
    "kling": TaskId("866168216002236456"),
}
"""The task that the answers of tests/answers are about."""

every = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda p: p.name)
every_paid = pytest.mark.parametrize("provider", PAID, ids=lambda p: p.name)


def example() -> Any:
    """The provider of docs/writing-a-provider.md."""
    spec = importlib.util.spec_from_file_location("klingflow_toy", EXAMPLE / "klingflow_toy.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["klingflow_toy"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


for each in (*PROVIDERS, example()):
    suite = f"Test{each.name.title()}"
    globals()[suite] = type(suite, (ProviderSuite,), {"provider": each, "__module__": __name__})



@every
@pytest.mark.parametrize("code", [200, 400, 503])
def test_what_an_order_was_answered_is_kept_for_the_record(provider: Provider, code: int) -> None:
    body = b'{"task": "t", "data": {"taskId": "t"}, "task_info": {"id": "t"}, "at": "https://cdn.e/x?Signature=abc"}'
    said = provider.accepted(Answer(status=code, body=body + b" " * 9000))
    assert isinstance(said, Accepted | Refused | Unclear)
    assert said.raw.startswith(body.decode().replace("Signature=abc", "…"))
    assert len(said.raw) == RAW_CHARS


@every_paid
def test_a_message_from_outside_is_one_harmless_line(provider: Provider) -> None:
    nasty = '{"message":"a\\u001b[31m\\n::error::b\\ud800","detail":"a\\u001b[31m\\n::error::b\\ud800","code":400}'
    said = provider.accepted(Answer(status=400, body=nasty.encode()))
    assert isinstance(said, Refused)
    assert said.message.startswith("a [31m ::error::b")
    assert said.message.isprintable()
    said.message.encode()


@every_paid
def test_an_answer_that_names_no_clip_is_kept_without_its_secrets(provider: Provider) -> None:
    register("sk-secret-of-the-account")
    word = {"data": {"status": "success", "output": [], "task_status": "succeed"}}
    word["task_info"] = {"id": TASK, "status": "completed"}
    read = provider.result if provider is fal else provider.status
    said = {**word, "key": "sk-secret-of-the-account", "at": "https://cdn.e/x?Signature=abc", "more": "ü" * 9000}
    status = read(Answer(status=200, body=json.dumps(said, ensure_ascii=False).encode() + b"\xff"), TASK)
    assert isinstance(status, Later), "what is no JSON says nothing about the task"
    status = read(Answer(status=200, body=json.dumps(said, ensure_ascii=False).encode()), TASK)
    assert isinstance(status, Unreadable)
    assert len(status.raw) == RAW_CHARS
    assert '"key": "[redacted]", "at": "https://cdn.e/x?…", "more": "üü' in status.raw


def cases(kind: str) -> list[Any]:
    out = []
    for provider in PAID:
        for case in recorded("answers", f"{provider.name}.{kind}.json")[0]:
            out.append(pytest.param(provider, case, id=f"{provider.name}: {case['name']}"))
    return out


@pytest.mark.parametrize(("provider", "case"), cases("accepted"))
def test_a_recorded_answer_to_an_order_is_read(provider: Provider, case: dict[str, Any]) -> None:
    assert meaning(provider.accepted(answer(case)), case["means"]) == case["means"]


@pytest.mark.parametrize(("provider", "case"), cases("status"))
def test_a_recorded_answer_about_a_task_is_read(provider: Provider, case: dict[str, Any]) -> None:
    assert meaning(provider.status(answer(case), RECORDED[provider.name]), case["means"]) == case["means"]


@pytest.mark.parametrize("case", recorded("answers", "fal.result.json")[0], ids=lambda c: c["name"])
def test_a_recorded_answer_about_a_task_that_has_ended_is_read(case: dict[str, Any]) -> None:
    assert meaning(fal.result(answer(case), RECORDED["fal"]), case["means"]) == case["means"]


@pytest.mark.parametrize("case", recorded("answers", "kling.found.json")[0], ids=lambda c: c["name"])
def test_a_recorded_answer_about_an_order_of_our_own_id_is_read(case: dict[str, Any]) -> None:
    assert meaning(kling.found(answer(case)), case["means"]) == case["means"]


@pytest.mark.parametrize("case", recorded("requests", "*.json"), ids=lambda c: f"{c['provider']}: {c['why'][:60]}")
def test_a_recorded_request_is_built(case: dict[str, Any]) -> None:
    provider = NAMED[case["provider"]]
    one = framed(case["inputs"], **case["shot"])
    assert [p for p in provider.check(film(one), one) if p.severity == "error"] == []
    own = {name: value for name, value in case["settings"].items() if name != "callback_url"}
    stated = Settings(own=own, callback_url=case["settings"].get("callback_url"))
    made = provider.submit(one, case["inputs"], stated, KEY, 1)
    assert (made.method, made.path) == ("POST", case["path"])
    assert made.body == json.dumps(case["body"], ensure_ascii=False, separators=(",", ":")).encode()
    for name, value in case.get("page", {}).items():
        assert case["body"][name] == value


@every_paid
@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"prompt": "x", "model": "sora"}, "model"),
        ({"prompt": "x", "duration": 2}, "duration"),
        ({"prompt": "x", "duration": 16}, "duration"),
        ({"prompt": "x", "resolution": "480p"}, "resolution"),
        ({"prompt": "x", "aspect_ratio": "21:9"}, "aspect_ratio"),
        ({"prompt": "x", "last_frame": STILL}, "last_frame"),
        ({"prompt": " "}, "prompt"),
        ({"prompt": "x" * 3073}, "prompt"),
    ],
    ids=str,
)
def test_what_no_seller_can_make_is_refused_there(provider: Provider, fields: dict[str, Any], place: str) -> None:
    found = faults(provider, shot(**fields))
    assert [(severity, at) for severity, at, _ in found] == [("error", f"dawn.{place}")]


@every_paid
def test_both_names_of_the_model_are_one_key(provider: Provider) -> None:
    names = (None, "kling-3.0-omni", "kling-v3-omni", "kling-o3")
    assert {provider.model(shot(model=name)) for name in names} == {"kling-3.0-omni"}


def test_a_refusal_says_what_and_how_to_mend_it() -> None:
    one = shot(prompt="x", resolution="4K")
    (problem,) = mulerouter.check(film(one), one)
    assert isinstance(problem, Problem)
    assert problem.what == "shot 'dawn': MuleRouter makes 720p, 1080p, not 4K"
    assert problem.mend == "choose one of 720p, 1080p, or another provider (hiapi, fal and kling make 4K)"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 1.0),
        ({"retry-after": "1e9"}, 900.0),
        ({"retry-after": "99999999"}, 900.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:40 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 40.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 1.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:40 GMT"}, None),
        ({"retry-after": "Wed, 99 Oct 2026 07:28:40 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
    ],
    ids=str,
)
@every_paid
def test_a_wait_that_is_asked_for_is_kept_within_reason(
    provider: Provider, headers: dict[str, str], seconds: float | None
) -> None:
    said = provider.accepted(Answer(status=429, headers=headers, body=b"{}"))
    assert isinstance(said, Refused)
    assert (said.kind, said.retry_after) == (FailureClass.THROTTLED, seconds)


def image(**facts: Any) -> ImageFacts:
    plain: dict[str, Any] = {"digest": "0" * 64, "format": "PNG", "width": 1920, "height": 1080, "bytes": 9_000_000}
    return ImageFacts(**(plain | facts))


@pytest.mark.parametrize(
    ("facts", "hi", "mule"),
    [
        ({}, [], []),
        ({"format": "WEBP"}, [], ["the image is WEBP; the provider takes JPEG, PNG"]),
        (
            {"format": "GIF"},
            ["the image is GIF; the provider takes JPEG, PNG, WEBP"],
            ["the image is GIF; the provider takes JPEG, PNG"],
        ),
        ({"bytes": 11 * 2**20}, [], ["the image has 11.0 MiB; the provider takes 10.0 MiB"]),
        ({"width": 299, "height": 300}, *(2 * [["the image is 299x300 pixels; each side needs at least 300"]])),
        ({"width": 1000, "height": 400}, [], []),
        (
            {"width": 1001, "height": 400},
            *(2 * [["the image is 1001x400 pixels; its longer side may be at most 2.5 times the shorter"]]),
        ),
    ],
    ids=str,
)
def test_an_image_is_held_against_the_limits(facts: dict[str, Any], hi: list[str], mule: list[str]) -> None:
    assert [what for what, _ in image_problems(hiapi.caps, image(**facts))] == hi
    assert [what for what, _ in image_problems(mulerouter.caps, image(**facts))] == mule


def test_every_failure_has_one_rule() -> None:
    assert set(RULES) == set(FailureClass)
    assert {kind: rule.new_attempts for kind, rule in RULES.items() if rule.new_attempts} == {
        FailureClass.PROVIDER_FAULT: 1
    }
    # Only where nothing can have been bought is the same order sent again within a run.
    free = {kind for kind, rule in RULES.items() if rule.free_retries}
    assert free == {FailureClass.THROTTLED}
    # What was refused, paid for, or failed for its own content is never bought again by itself.
    assert {kind for kind, rule in RULES.items() if not rule.again_by_run} == {
        FailureClass.MODERATED,
        FailureClass.INVALID,
    }
    assert {kind for kind, rule in RULES.items() if rule.stops_provider} == {
        FailureClass.QUOTA,
        FailureClass.UNAUTHORISED,
    }
    for rule in RULES.values():
        text = rule.what_next.format(storyboard="film.yaml", shot="dawn", provider="hiapi")
        assert "{" not in text
