"""What a provider is: pure functions that build requests and read answers.

No await, no clock, no environment, no socket: the engine owns all waiting, `io.api` owns all sending.
A provider is a module that meets `Provider`; all of them are in one table (`providers.PROVIDERS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from klingflow.core.model import Film, Key, Shot, TaskId
from klingflow.core.source import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request to a provider's API; `path` begins with "/" and may carry a query."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer; header names are lower-case, `body` is capped by the client."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class FailureClass(StrEnum):
    """Why a provider refused an order or failed a task, as it answers; each has one rule (providers.failure.RULES).
    What klingflow finds by itself is `execution.outcome.RunFailure`."""

    THROTTLED = "throttled"
    """Too fast or too many at once; the same request may be sent later."""
    QUOTA = "quota"
    """No balance, or a spend limit of the account."""
    UNAUTHORISED = "unauthorised"
    """The key is missing, wrong, or lacks a permission."""
    MODERATED = "moderated"
    INVALID = "invalid"
    """The request is wrong and stays wrong, or a task failed and no documented code says that a new order may help."""
    PROVIDER_FAULT = "provider-fault"
    """Their side broke, by a code of which it is documented that a new order may help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The provider took the order: from here on it costs money."""

    task: TaskId
    replayed: bool = False
    """True where the answer says that the order was taken before, by an earlier request with the same key."""
    raw: str = ""
    """The answer's body, for the record: redacted, at most `reading.RAW_CHARS` characters; also in the other two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A definite no: nothing was bought. `retry_after` in seconds where the answer names it."""

    kind: FailureClass
    code: str
    message: str
    retry_after: float | None = None
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """The first request with this key is still on its way (HiAPI 409): send the same bytes again later."""

    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear:
    """From the answer it is not known whether the order was taken."""

    message: str
    final: bool = False
    """True where sending the same bytes again cannot settle it (HiAPI 422, key mismatch): a person must look."""
    retry_after: float | None = None
    """Seconds to wait before the same bytes are sent again, where the answer names them."""
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    state: str
    """The provider's own word, lower-case."""
    known: bool = True
    """False for a word that is in no document: treated as pending."""
    fraction: float | None = None
    """How much of the work is done, 0 to 1, where the provider reports it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    url: str
    """Where the clip can be downloaded: a URL, or "blob:DIGEST"/"file:PATH" for a local provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The task ended without a clip."""

    kind: FailureClass
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """The task has ended well, by the provider's word, and its answer names no clip that klingflow can find.

    It was paid for, and the clip may be there: the task stays open, and is never recorded as failed."""

    message: str
    raw: str
    """The answer's body, for the record: redacted, at most `reading.RAW_CHARS` characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """The provider does not know this task (404): just accepted, or lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """The poll was not answered (429, 5xx, junk): poll again; the task's state is not known."""

    message: str
    retry_after: float | None = None
    unauthorised: bool = False


Submitted = Accepted | Refused | Busy | Unclear
Status = Pending | Done | Failed | Unreadable | Missing | Later


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What a provider can do, as numbers and flags; the sources are beside the values in each module."""

    seconds: tuple[int, int] = (3, 15)
    resolutions: tuple[str, ...]
    models: tuple[str, ...]
    """Neutral model names it sells."""
    prompt_chars: int
    frames: Literal["url", "inline", "blob"]
    """How an image reaches it: a public URL, bytes inside the request, or a blob of the store."""
    image_formats: tuple[str, ...]
    image_bytes: int
    image_side: int
    """Least pixels a side."""
    image_ratio: float
    """Longest side over shortest, at most."""
    replay_s: float | None
    """For how long the same bytes with the same key give the same task; None: never, a lost answer is in doubt."""
    concurrency: int
    """Tasks in flight that klingflow begins with."""
    requests_per_minute: int | None
    inline_bytes: int | None = None
    """Of an image that goes inside the request, where `frames` is "url" and that takes less; None where it is alike."""
    list_size: int = 0
    """Tasks that one list request returns at most; 0: there is no list."""
    paid: bool = True
    key_variable: str = ""
    base_variable: str = ""
    base_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The project file's settings of one provider."""

    concurrency: int | None = None
    data_uri: bool = True
    """HiAPI: where nothing is published, frames go as data: URIs inside image_urls. False: then none can be sent."""
    storage: Literal["temp", "persistent"] | None = None
    """HiAPI: where it keeps the clip; None: it is not told, which means temp."""
    route: str | None = None
    """HiAPI: which of a model's routes makes the clip; None: the default one."""
    base64: Literal["data-uri", "raw"] = "data-uri"
    """MuleRouter: how inline frames are written."""
    multi_shot: Literal["boolean", "text"] = "boolean"
    """MuleRouter: how the field of that name is written; its pages and its client disagree."""
    reference: Literal["reference-to-video", "reference-image-to-video"] = "reference-to-video"
    """MuleRouter: the path for shots with reference images and no first frame; likewise."""
    callback_url: str | None = None
    """HiAPI: where the provider sends its callback; from the command line, never from a file."""


class Provider(Protocol):
    name: str
    caps: Caps

    def model(self, shot: Shot) -> str:
        """The neutral model that the shot buys: part of its key."""
        ...

    def check(self, film: Film, shot: Shot) -> Sequence[Problem]:
        """Everything this provider cannot do for the shot, at the shot's places, before any money."""
        ...

    def submit(self, shot: Shot, inputs: Mapping[str, str], settings: Settings, key: Key, attempt: int) -> Request:
        """The one paid request. `inputs` has by each frame's role its form in the request: a URL,
        Base64 text in the form that the settings name, or a blob's digest. The same arguments give the same bytes."""
        ...

    def accepted(self, answer: Answer) -> Submitted: ...

    def another_form(self, said: Refused, request: Request, settings: Settings) -> Settings | None:
        """The settings under which the same order may pass, where the API refused the form in which this `request` was
        written and not what it asks for; None elsewhere. Nothing was bought: the order is sent again at once, each form
        once in a run."""
        ...

    def poll(self, task: TaskId, path: str) -> Request:
        """`path` is the path of the request that made the task."""
        ...

    def status(self, answer: Answer, task: TaskId) -> Status: ...

    def poll_many(self, page: int) -> Request | None:
        """One request for the status of up to `caps.list_size` newest tasks; None where the provider has no list."""
        ...

    def statuses(self, answer: Answer) -> Mapping[TaskId, Status] | Later:
        """What a list answer says. Done tasks come as Pending(state="done"): ask for each one's URL by `poll`."""
        ...

    def webhook(self, headers: Mapping[str, str], body: bytes, secret: str, now_s: float) -> TaskId | None:
        """The task that a verified callback is about; None for a valid event without one.

        Raises WebhookRefused when the signature, the time or the form is wrong.
        """
        ...


class WebhookRefused(Exception):
    """A callback that is forged, stale or malformed. The text is for our log alone, never for the sender."""
