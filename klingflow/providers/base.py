"""What a provider is: pure functions that build requests and read answers.

No await, no clock, no environment, no socket: the engine owns all waiting, `io.api` owns all sending.
A provider is a module that meets `Provider`; all of them are in one table (`providers.PROVIDERS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Literal, Protocol

from klingflow.core.model import Film, Key, Shot, TaskId
from klingflow.core.source import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request to a provider's API; `path` begins with "/" and may carry a query, or is a whole URL on the API's
    own host."""

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
    urls: Mapping[str, str] = field(default_factory=dict)
    """Where the task is asked after, as the answer has it: paths or URLs, by names of the provider's own. They are kept
    in the record and come back in `Provider.poll`, where they lead to the API's own host; others are left out."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The task has ended, and what became of it is behind one more free request: `Provider.result_of`."""

    urls: Mapping[str, str] = field(default_factory=dict)
    """Where, as the answer has it: as `Accepted.urls`, before which these go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """An image was taken in."""

    text: str
    """What stands for it in an order."""
    valid_s: float
    """For how long from now an order may name it."""


Submitted = Accepted | Refused | Busy | Unclear
Status = Pending | Done | Failed | Unreadable | Missing | Later
Images = Literal["url", "data-uri", "base64", "upload", "blob"]
"""How an image goes to a provider: a public URL, text inside the request in either form, what stands for it once it was
uploaded, or a blob of the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What a provider can do and what it needs, as numbers, names and flags; the sources are beside the values in each
    module. All that klingflow says or asks of a provider anywhere comes from here and from the provider's functions."""

    title: str
    """As people write its name."""
    seconds: tuple[int, int] = (3, 15)
    resolutions: tuple[str, ...]
    models: tuple[str, ...]
    """Neutral model names it sells."""
    prompt_chars: int
    image_formats: tuple[str, ...]
    image_bytes: int
    image_side: int
    """Least pixels a side."""
    image_ratio: float
    """Longest side over shortest, at most."""
    replay_s: float | None
    """For how long the same bytes with the same key buy nothing a second time: they give the same task, or are refused
    because of it. None: never, a lost answer is in doubt."""
    concurrency: int
    """Tasks in flight that klingflow begins with."""
    requests_per_minute: int | None
    requests_at_once: int | None = None
    """None where no limit is documented."""
    inline_bytes: int | None = None
    """Of an image that goes inside the request, where that takes less; None where it is alike."""
    videos: int = 0
    """Reference videos that one order takes."""
    list_size: int = 0
    """Tasks that one list request returns at most; 0: there is no list."""
    paid: bool = True
    local: bool = False
    """Drawn on this machine by klingflow itself: no HTTP, and the same order gives the same bytes."""
    prices: Mapping[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    """USD a second, (silent, with sound), by resolution; a resolution whose price is not public is missing."""
    prices_from: str = ""
    """Whose prices these are, and of when."""
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Its own settings in the project file: a JSON Schema for each name, with a title and a description. `concurrency`
    is every provider's."""
    key_variable: str = ""
    """The variable of the environment that holds the API key; empty where there is none."""
    secret_variable: str = ""
    """That of the key's second half, where it has one."""
    webhook_variable: str = ""
    """That of the secret with which callbacks are signed; empty where there are none."""
    webhook_keys: str = ""
    """In place of that: where it publishes the keys with which its callbacks are signed. What stands there is the
    `secret` of `Provider.webhook`, though it is none."""
    callback_in_order: bool = False
    """Whether an order names where its callback goes (`Settings.callback_url`)."""
    base_variable: str = ""
    base_url: str = ""
    expect_s: float = 19.0
    """Seconds that a second of clip takes, before anything is learnt. fal.ai's 94 s for a 5 s clip of Kling 3.0 Omni,
    standard tier, read 2026-11."""

    @property
    def shipped(self) -> Mapping[str, tuple[Decimal, Decimal]] | None:
        """What `planning.price.of` wants to know: None for what is free."""
        return self.prices if self.paid else None

    @property
    def variables(self) -> tuple[str, ...]:
        """Those of its key."""
        return tuple(filter(None, (self.key_variable, self.secret_variable)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The project file's settings of one provider."""

    concurrency: int | None = None
    own: Mapping[str, object] = field(default_factory=dict)
    """Those of `Caps.settings` that are stated."""
    callback_url: str | None = None
    """Where the provider sends its callback; from the command line, never from a file."""


class Provider(Protocol):
    """A provider that lacks something takes the function that says so from `providers.plain`."""

    name: str
    """As a storyboard writes it: small letters, digits and "-"."""
    caps: Caps

    def model(self, shot: Shot) -> str:
        """The neutral model that the shot buys: part of its key."""
        ...

    def check(self, film: Film, shot: Shot) -> Sequence[Problem]:
        """Everything this provider cannot do for the shot, at the shot's places, before any money."""
        ...

    def images(self, settings: Settings, published: bool) -> Images:
        """How images go to it; `published`: the project has a place to publish them."""
        ...

    def submit(self, shot: Shot, inputs: Mapping[str, str], settings: Settings, key: Key, attempt: int) -> Request:
        """The one paid request. `inputs` has by each frame's role its form in the request: a URL, text in the form that
        `images` says, or a blob's digest. The same arguments give the same bytes."""
        ...

    def accepted(self, answer: Answer) -> Submitted: ...

    def another_form(self, said: Refused, request: Request, settings: Settings) -> Settings | None:
        """The settings under which the same order may pass, where the API refused the form in which this `request` was
        written and not what it asks for; None elsewhere. Nothing was bought: the order is sent again at once, each form
        once in a run."""
        ...

    def poll(self, task: TaskId, path: str, urls: Mapping[str, str]) -> Request:
        """`path` is the path of the request that made the task, `urls` what its answer gave (`Accepted.urls`), as far
        as that is known and allowed: perhaps nothing."""
        ...

    def status(self, answer: Answer, task: TaskId) -> Status | Ended: ...

    def result_of(self, task: TaskId, path: str, urls: Mapping[str, str]) -> Request:
        """The free request for what became of a task of which `status` said that it has Ended; as `poll`."""
        ...

    def result(self, answer: Answer, task: TaskId) -> Status:
        """What the answer to `result_of` says."""
        ...

    def poll_many(self, page: int) -> Request | None:
        """One request for the status of up to `caps.list_size` newest tasks; None where the provider has no list."""
        ...

    def statuses(self, answer: Answer) -> Mapping[TaskId, Status] | Later:
        """What a list answer says. Done tasks come as Pending(state="done"): ask for each one's URL by `poll`."""
        ...

    def find(self, key: Key, attempt: int) -> Request | None:
        """A free request for the task of an order by the id that `submit` gave it; None where that cannot be asked.

        A provider that has it never takes two orders of one id within `caps.replay_s`: it is asked first where an
        answer was lost, and where it knows of nothing the same bytes are sent again.
        """
        ...

    def found(self, answer: Answer) -> Accepted | Missing | Later:
        """What the answer to `find` says. Missing: by its word there is no such task."""
        ...

    def upload(self, data: bytes, form: str) -> Request:
        """The free request that takes in an image; `form` is PNG, JPEG or WEBP. For `images` of "upload" alone."""
        ...

    def uploaded(self, answer: Answer) -> Uploaded | Later: ...

    def authorization(self, key: str, secret: str, now_s: float) -> Mapping[str, str]:
        """The headers that prove who asks. `secret` is the key's second half, `now_s` UTC seconds since 1970."""
        ...

    def probe(self) -> Request:
        """A free request that is answered well only with a good key."""
        ...

    def probed(self, answer: Answer) -> str:
        """Why the answer to `probe` is not the API's to a good key; empty where it is. A refused key (401, 403) is told
        before."""
        ...

    def webhook(self, headers: Mapping[str, str], body: bytes, secret: str, now_s: float) -> TaskId | None:
        """The task that a verified callback is about; None for a valid event without one.

        Raises WebhookRefused when the signature, the time or the form is wrong.
        """
        ...


class WebhookRefused(Exception):
    """A callback that is forged, stale or malformed. The text is for our log alone, never for the sender."""
