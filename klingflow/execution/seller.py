"""One provider as a run uses it: its door, how many tasks are in flight, its poller, its clock, and whether it is
closed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from klingflow.core.model import Digest, Key, Shot
from klingflow.execution import form
from klingflow.execution.account import Account
from klingflow.execution.outcome import Failure
from klingflow.execution.waiting import Poller, Slots
from klingflow.io.service import NotSent, Service, Unanswered
from klingflow.planning.job import Job, Kind
from klingflow.providers.base import Answer, Provider, Refused, Request, Settings

CLOCK_SLACK_S = 120.0
"""How far a provider's Date header may seem to run backwards between two answers (several servers, whole seconds)."""


class Seller:
    def __init__(
        self,
        provider: Provider,
        service: Service,
        settings: Settings,
        account: Account | None,
        rng: random.Random,
        *,
        images_by: str,
    ) -> None:
        """`account` is None for a provider that has none: a free one. `images_by`: see `form.of`."""
        self.provider = provider
        self.service = service
        self.settings = settings
        self._configured = settings
        self._images_by = images_by
        self.account = account
        self.slots = Slots(settings.concurrency or provider.caps.concurrency)
        self.poller = Poller(provider, service, rng)
        self.closed: Failure | None = None
        """Why no further order goes there in this run; tasks under way are still collected."""
        self._refused: list[Settings] = []
        self._rng = rng
        self._open_again = 0.0
        self._date: tuple[int, float] | None = None
        self._asking: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.provider.name

    @property
    def paid(self) -> bool:
        return self.provider.caps.paid

    def share(self, rank: int, runners: int) -> None:
        """So many runners use this account, this one being the `rank`-th: it keeps to its part of the limits."""
        self.service.share(runners)
        self.slots.share(rank, runners)
        self.poller.share(runners)

    async def ask(self, request: Request) -> Answer:
        """A request that costs nothing. Raises NotSent or Unanswered."""
        answer = await self.service.send(request)
        self.note_date(answer)
        return answer

    def rewritten(self, said: Refused, request: Request) -> bool:
        """Whether the order that was refused in the form of this request is to be sent again in another one, which is
        that of all orders from now on. Each form is tried once a run."""
        other = self.provider.another_form(said, request, self.settings)
        if other is None or other in self._refused:
            return False
        if other != self.settings:  # else another order has found it out meanwhile
            self._refused.append(self.settings)
            self.settings = other
        return True

    def form(self, shot: Shot, key: Key) -> Digest:
        """How the project's settings have an order written: not as it was written anew after a refusal."""
        return form.of(self.provider, shot, key, self._configured, self._images_by)

    def note_date(self, answer: Answer) -> None:
        """Keeps the provider's own time, from the Date header of an answer."""
        try:
            date = parsedate_to_datetime(answer.headers["date"])
        except (KeyError, ValueError, TypeError):
            return
        date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)  # "-0000"
        self._date = round(date.timestamp() * 1000), asyncio.get_running_loop().time()

    def now_ms(self) -> int | None:
        """The provider's time, UTC milliseconds; None while no answer has told it."""
        if self._date is None:
            return None
        date_ms, then = self._date
        return date_ms + round((asyncio.get_running_loop().time() - then) * 1000)

    async def learn_date(self) -> None:
        """Asks for the provider's time, once a run, where nothing has told it yet."""
        if self._date is not None or not self.paid:
            return
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_date(self.provider.probe()))
        await asyncio.shield(self._asking)

    async def _ask_date(self, request: Request) -> None:
        try:
            await self.ask(request)
        except (NotSent, Unanswered):
            return

    def ordered(self, job: Job) -> bool:
        """Whether the newest order of a job was certainly sent from this environment's account, at this address."""
        intent = job.last(Kind.INTENT)
        return self.account is None or (intent is not None and self.account.wrote(intent.detail))

    def within_replay_window(self, provider_ms: object) -> bool:
        """Whether an order that was sent at `provider_ms` by the provider's clock can still be sent again, by that same
        clock. False where either time is not known."""
        window, age = self.provider.caps.replay_s, self.age_s(provider_ms)
        if not self.paid:
            return window is not None
        return window is not None and age is not None and -CLOCK_SLACK_S <= age < window

    def age_s(self, provider_ms: object) -> float | None:
        """How long ago `provider_ms` was, by the provider's clock; None where either time is not known."""
        now = self.now_ms()
        if now is None or not isinstance(provider_ms, int) or isinstance(provider_ms, bool):
            return None
        return (now - provider_ms) / 1000

    def cool(self, seconds: float) -> None:
        """No order is sent for so long, 15 minutes at most."""
        until = asyncio.get_running_loop().time() + min(seconds, 900.0) * self._rng.uniform(1.0, 1.2)
        self._open_again = max(until, self._open_again)

    async def cooled(self, stopping: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        while not stopping():
            wait = self._open_again - loop.time()
            if wait <= 0:
                return
            await asyncio.sleep(wait)
