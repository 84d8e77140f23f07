"""What a provider says that lacks a thing, and what most of them do alike: a module takes these for its own functions.

    authorization = plain.bearer
    find, found = plain.find, plain.found
"""

from __future__ import annotations

from collections.abc import Mapping

from klingflow.core.model import Key, TaskId
from klingflow.providers import reading
from klingflow.providers.base import (
    Accepted,
    Answer,
    Later,
    Missing,
    Refused,
    Request,
    Settings,
    Status,
    Uploaded,
    WebhookRefused,
)


def another_form(said: Refused, request: Request, settings: Settings) -> Settings | None:
    """An order is written in one form."""
    return None


def result_of(task: TaskId, path: str, urls: Mapping[str, str]) -> Request:
    raise AssertionError("`status` never says that a task has Ended")  # BUG


def result(answer: Answer, task: TaskId) -> Status:
    raise AssertionError("`status` never says that a task has Ended")  # BUG


def poll_many(page: int) -> Request | None:
    """There is no list of tasks."""
    return None


def statuses(answer: Answer) -> Mapping[TaskId, Status] | Later:
    return Later(message="there is no list of tasks")


def find(key: Key, attempt: int) -> Request | None:
    """An order cannot be found by an id of ours."""
    return None


def found(answer: Answer) -> Accepted | Missing | Later:
    return Later(message="an order cannot be found by an id of ours")


def upload(data: bytes, form: str) -> Request:
    raise AssertionError("`images` never says that images are uploaded")  # BUG


def uploaded(answer: Answer) -> Uploaded | Later:
    return Later(message="nothing is uploaded")


def webhook(headers: Mapping[str, str], body: bytes, secret: str, now_s: float) -> TaskId | None:
    """There are no callbacks."""
    raise WebhookRefused("this provider sends no callbacks")


def bearer(key: str, secret: str, now_s: float) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {key}"}


def key_scheme(key: str, secret: str, now_s: float) -> Mapping[str, str]:
    """fal.ai docs, queue API, read 2026-11."""
    return {"Authorization": f"Key {key}"}


def nothing(key: str, secret: str, now_s: float) -> Mapping[str, str]:
    """Whoever asks is answered."""
    return {}


NOBODY = TaskId("00000000-0000-0000-0000-000000000000")
"""A task that nobody has: to ask after it costs nothing, and only a good key is told that it is not there."""


def nobody_is_missing(said: object, answer: Answer) -> str:
    """`probed` of a provider that is asked after NOBODY; `said` is what its `status` makes of the answer."""
    # That nobody has this task a 404 says, by the docs; another complaint about the request serves as well.
    if isinstance(said, Missing) or (answer.status in (400, 422) and not reading.is_page(answer.body)):
        return ""
    return said.message if isinstance(said, Later) else "about a task that nobody has"
