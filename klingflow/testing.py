"""What klingflow relies on in every provider, as tests for pytest. A package's author runs them so:

    from klingflow.testing import ProviderSuite
    import klingflow_toy

    class TestToy(ProviderSuite):
        provider = klingflow_toy

They send nothing. What they cannot know is what the seller really answers: test that with answers that it documents.
"""

from __future__ import annotations

import ast
import inspect
import json
import random
import sys
from typing import Any, ClassVar

import pytest

from klingflow.core.model import Cut, FileStill, Film, Key, Shot, ShotId, TaskId, UrlStill
from klingflow.core.source import Severity, Span
from klingflow.providers.base import (
    Accepted,
    Answer,
    Busy,
    Caps,
    Ended,
    FailureClass,
    Later,
    Missing,
    Provider,
    Refused,
    Request,
    Settings,
    Status,
    Unclear,
    Uploaded,
    WebhookRefused,
)
from klingflow.providers.reading import RAW_CHARS
from klingflow.storyboard.shots import RESOLUTIONS

__all__ = ["KEY", "ProviderSuite", "film_of"]

KEY = Key("0123456789abcdef" * 4)
TASK = TaskId("t-1")
STATUSES = [200, 201, 202, 204, 301, 400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 423, 429, 451]
STATUSES += [500, 502, 503, 504]
JUNK = (b"", b"{}", b"[]", b"null", b"1", b'"x"', b'{"data":', b"<html>no</html>", b"\xff\xfe\x00")
NAMES = ["code", "data", "taskId", "id", "status", "output", "error", "message", "url", "type", "task_info", "videos"]
NAMES += ["tasks", "error_code", "detail", "title", "task", "state", "request_id", "status_url", "task_status", "video"]
OUTSIDE = {"os", "asyncio", "time", "socket", "httpx", "requests", "urllib3", "pathlib", "random", "subprocess"}
IDS = {
    "a/../b?c#d": "a%2F..%2Fb%3Fc%23d",
    "ab+/cd==": "ab%2B%2Fcd%3D%3D",
    "任务 7": "%E4%BB%BB%E5%8A%A1%207",
    "100%": "100%25",
    "..": "%2E%2E",
    ".": "%2E",
    "a\n": "a%0A",
    "12345678901234567890123": "12345678901234567890123",
    "x" * 3000: "x" * 3000,
}
"""Ids of tasks, and each as one step of a path."""


def film_of(shot: Shot) -> Film:
    """A film of that one shot, every place in it being the name of the field."""

    def where(name: ShotId | None, field: str) -> Span:
        return Span("film.yaml", 1, 1, 2, f"{name}.{field}")

    return Film(name="film", matrix={}, title="", shots=(shot,), cut=(Cut(shot.id),), where=where)


def _shot(**fields: Any) -> Shot:
    fields = {"prompt": "x", **fields}
    return Shot(id=ShotId("dawn"), index=0, **fields)


class ProviderSuite:
    """`provider` is the module or object; `plain` holds fields of a shot that it sells, where the defaults are none
    (a prompt, 5 s, its first resolution)."""

    provider: ClassVar[Any]
    plain: ClassVar[dict[str, Any]] = {}

    @property
    def it(self) -> Provider:
        return self.provider  # type: ignore[no-any-return]

    def shot(self, **fields: Any) -> Shot:
        return _shot(**{"resolution": self.it.caps.resolutions[0], **self.plain, **fields})

    def order(self, shot: Shot | None = None, **inputs: str) -> Request:
        return self.it.submit(shot or self.shot(), inputs, Settings(), KEY, 1)

    # What it says of itself

    def test_it_has_every_function_of_the_protocol(self) -> None:
        lacks = [name for name in vars(Provider) if not name.startswith("_") and not hasattr(self.provider, name)]
        assert lacks == []

    def test_its_numbers_make_sense(self) -> None:
        name, caps = self.it.name, self.it.caps
        assert isinstance(caps, Caps)
        assert name == name.lower().strip("-")
        assert name.replace("-", "").isalnum()
        assert caps.title
        assert caps.resolutions
        assert set(caps.resolutions) <= set(RESOLUTIONS)
        assert set(caps.prices) <= set(caps.resolutions) | set(RESOLUTIONS)
        assert caps.prices_from or not caps.prices
        assert caps.models
        assert 0 < caps.seconds[0] <= caps.seconds[1]
        assert min(caps.prompt_chars, caps.image_bytes, caps.image_side, caps.concurrency) > 0
        assert caps.image_ratio > 1
        assert caps.expect_s > 0
        assert set(caps.image_formats) <= {"PNG", "JPEG", "WEBP"}
        assert (self.it.poll_many(1) is None) == (caps.list_size == 0)
        if caps.paid:
            assert caps.key_variable.endswith("_KEY")
            assert caps.base_url.startswith("https://")
        if not caps.local:
            assert caps.base_variable.endswith("_BASE_URL")
        assert self.it.find(KEY, 1) is None or caps.replay_s is not None, "who is looked up takes no order twice"

    def test_its_settings_are_schemas_that_people_can_read(self) -> None:
        from jsonschema import Draft202012Validator

        assert "concurrency" not in self.it.caps.settings, "that is every provider's"
        for name, schema in self.it.caps.settings.items():
            Draft202012Validator.check_schema(schema)
            assert schema.get("title"), name
            assert schema.get("description"), name
            assert "default" not in schema or Draft202012Validator(schema).is_valid(schema["default"]), name

    def test_it_touches_nothing_outside(self) -> None:
        tree = ast.parse(inspect.getsource(sys.modules[self.it.check.__module__]))
        names = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        names |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert not names & OUTSIDE, "the clock, the network and the disk are klingflow's"
        assert not any(isinstance(n, ast.Await | ast.AsyncFunctionDef) for n in ast.walk(tree))

    def test_what_proves_who_asks_follows_from_key_and_time_alone(self) -> None:
        one, again = (self.it.authorization("sk-secret-key", "other half", 1_800_000_000.0) for _ in range(2))
        assert one == again
        assert all(value.isascii() and value.isprintable() for value in one.values())
        assert not self.it.caps.variables or one, "a key that is asked for is used"

    # Shots and orders

    def test_a_plain_shot_is_nobodys_fault(self) -> None:
        still = FileStill("frames/a.png")
        one = self.shot(first_frame=still, last_frame=still)
        assert [p for p in self.it.check(film_of(one), one) if p.severity is Severity.ERROR] == []
        assert self.it.model(one) in self.it.caps.models

    def test_what_it_cannot_make_is_refused_there(self) -> None:
        caps = self.it.caps
        if caps.local:
            return
        wrong = {"duration": caps.seconds[1] + 1, "resolution": "480p", "prompt": "x" * (caps.prompt_chars + 1)}
        for field, value in wrong.items():
            one = self.shot(**{field: value})
            found = [p for p in self.it.check(film_of(one), one) if p.severity is Severity.ERROR]
            assert [p.span.text for p in found if p.span] == [f"dawn.{field}"]
            assert all("dawn" in p.what and p.mend for p in found), "what, and how to mend it"

    def test_one_order_has_one_form(self) -> None:
        one = self.shot(prompt="größer 風", first_frame=UrlStill("https://e.com/a.png"))
        first, again = (self.order(one, first_frame="https://e.com/a.png") for _ in range(2))
        assert first == again
        assert (first.method, first.path[:1]) == ("POST", "/")
        assert first.body is not None
        names = {name.lower() for name in first.headers}
        assert "content-type" in names
        assert not names & {name.lower() for name in ("authorization", *self.it.authorization("k", "s", 0.0))}

    def test_who_can_be_looked_up_or_asked_again_names_the_order_in_it(self) -> None:
        if self.it.caps.replay_s is None or self.it.caps.local:
            return
        one, other = (self.it.submit(self.shot(), {}, Settings(), KEY, attempt) for attempt in (1, 2))
        assert one != other, "a new attempt is another order"
        found = self.it.find(KEY, 1)
        assert found is None or (found.method == "GET" and found != self.it.find(KEY, 2))

    def test_its_questions_are_free(self) -> None:
        path = self.order().path
        asked = [self.it.poll(TASK, path, {}), self.it.probe()]
        asked += [one for one in (self.it.poll_many(1), self.it.find(KEY, 1)) if one is not None]
        for one in asked:
            assert (one.method, one.body) == ("GET", None)
            assert one.path.startswith("/")
        assert "t-1" in self.it.poll(TASK, path, {}).path.split("/")

    @pytest.mark.parametrize("task", IDS, ids=lambda text: text[:12])
    def test_an_id_of_any_shape_is_one_step_of_the_path(self, task: str) -> None:
        asked = self.it.poll(TaskId(task), self.order().path, {})
        assert IDS[task] in asked.path.split("/")

    # Answers

    @pytest.mark.parametrize("body", JUNK, ids=repr)
    def test_junk_is_neither_an_order_nor_a_clip(self, body: bytes) -> None:
        for code in STATUSES:
            reply = Answer(status=code, body=body)
            said = self.it.accepted(reply)
            assert isinstance(said, Refused | Busy | Unclear)
            if code < 300 or code >= 500 or (not self.it.caps.local and code in (408, 423)):
                assert isinstance(said, Unclear), code
            assert isinstance(self.it.status(reply, TASK), Missing | Later), code
            assert isinstance(self.it.statuses(reply), Later)
            assert not isinstance(self.it.found(reply), Accepted), code
            assert not isinstance(self.it.uploaded(reply), Uploaded), code
            if code in (401, 403, 500, 503):
                assert isinstance(self.it.found(reply), Later), "that nothing was bought it does not say"

    def test_no_answer_breaks_the_reading(self) -> None:
        dice = random.Random(self.it.name)
        for _ in range(400):
            body = json.dumps(_any(dice, 3)).encode()
            reply = Answer(status=dice.choice(STATUSES), body=body)
            assert isinstance(self.it.accepted(reply), Accepted | Refused | Busy | Unclear), body
            status = self.it.status(reply, TASK)
            assert isinstance(status, Status | Ended), body
            if isinstance(status, Ended):
                path = self.order().path
                assert self.it.result_of(TASK, path, status.urls).method == "GET"
                assert isinstance(self.it.result(reply, TASK), Status), body
            self.it.statuses(reply)
            self.it.found(reply)

    def test_deep_and_huge_answers_are_junk(self) -> None:
        for body in (b"[" * 100_000, b'{"data":' * 50_000, b'{"code":' + b"9" * 10_000 + b"}", b'{"a":1e999}'):
            assert isinstance(self.it.accepted(Answer(status=200, body=body)), Unclear)
            assert isinstance(self.it.status(Answer(status=200, body=body), TASK), Later)

    @pytest.mark.parametrize("code", [200, 400, 503])
    def test_what_an_order_was_answered_is_kept_for_the_record(self, code: int) -> None:
        told = {"at": "https://cdn.e/x?Signature=abc", "more": "y" * 9000}
        said = self.it.accepted(Answer(status=code, body=json.dumps(told).encode()))
        assert isinstance(said, Accepted | Refused | Unclear)
        assert said.raw.startswith('{"at": "https://cdn.e/x?…"'), "use reading.with_raw"
        assert len(said.raw) == RAW_CHARS

    def test_a_message_from_outside_is_one_harmless_line(self) -> None:
        nasty = "a\x1b[31m\n::error::b\ud800"
        error = {"message": nasty, "detail": nasty, "code": "x"}
        said = self.it.accepted(Answer(status=400, body=json.dumps({**error, "error": error}).encode()))
        assert isinstance(said, Refused)
        assert said.message.isprintable()
        said.message.encode()

    @pytest.mark.parametrize(
        ("code", "kind"),
        [(401, FailureClass.UNAUTHORISED), (402, FailureClass.QUOTA), (429, FailureClass.THROTTLED)],
    )
    def test_a_status_that_says_no_by_itself_is_a_refusal(self, code: int, kind: FailureClass) -> None:
        if self.it.caps.local:
            return
        said = self.it.accepted(Answer(status=code, headers={"retry-after": "7"}, body=b"{}"))
        assert isinstance(said, Refused)
        assert said.kind is kind
        assert code != 429 or said.retry_after == 7.0

    @pytest.mark.parametrize("name", ["", "x-hiapi-signature", "webhook-signature"])
    def test_an_unsigned_callback_is_refused(self, name: str) -> None:
        headers = {name: "v1,é", "webhook-id": "é"} if name else {}
        for secret in ("", "whsec_", "whsec_AAAA", "s" * 20):
            with pytest.raises(WebhookRefused):
                self.it.webhook(headers, b'{"taskId":"t-1"}', secret, 0.0)


def _any(dice: random.Random, depth: int) -> object:
    """Some JSON value, with names that answers have."""
    kind = dice.randrange(8 if depth else 6)
    match kind:
        case 0:
            return None
        case 1:
            return dice.random() < 0.5
        case 2:
            return dice.choice((0, -1, 7, 200, 404, 10**30, 1.5))
        case 3 | 4:
            return dice.choice(("", "t-1", "done", "failed", "completed", "ended", "https://e.com/a.mp4", "\ud800"))
        case 5:
            return []
        case 6:
            return [_any(dice, depth - 1) for _ in range(dice.randrange(3))]
    return {dice.choice(NAMES): _any(dice, depth - 1) for _ in range(dice.randrange(6))}
