"""An intent whose answer is not on record: waited for, sent again where that buys nothing twice, else left to a person.

Where the provider can look an order up by our id, it is asked first. It is sent again only from the account and address
that sent it, while the provider still knows its idempotency key by the provider's own clock, and where the request
rebuilt from the order is the recorded one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable, Mapping

from klingflow.core.errors import KlingflowError
from klingflow.core.model import Key
from klingflow.core.redact import redact
from klingflow.execution import replay
from klingflow.execution.collecting import Collector
from klingflow.execution.host import Host
from klingflow.execution.inputs import InputImages
from klingflow.execution.order import Bought, Order
from klingflow.execution.outcome import Result
from klingflow.execution.seller import CLOCK_SLACK_S, Seller
from klingflow.execution.sending import INTENT_VALID_S, REPLAY_TIMEOUT_S, Doubt, Sender
from klingflow.execution.waiting import backoff
from klingflow.execution.wording import Wording
from klingflow.io.service import NotSent, Unanswered
from klingflow.planning.job import Job, Kind, Record, State
from klingflow.providers.base import Accepted, Later, Missing, Request

ANSWER_TIMEOUT_S = 150.0
"""How long another runner's intent may lack an answer, from our first sight of it, before it is in doubt: the request
leaves within INTENT_VALID_S and is over 120 s later (io.client), and a margin."""
CLOCK_SKEW_S = 600.0
"""How far the clocks of two runners may be apart, where the provider's is not known: an intent that is older than that,
and than the timeout, is over at first sight. A clock that is off by more costs a question to a person, or an answer
given again; never a purchase."""
RETRY_TIMEOUT_S = 900.0
"""How long one run goes on sending the same bytes, or coming back after a throttling answer, before it leaves the rest
to the next run."""


class Doubts:
    def __init__(
        self,
        *,
        sender: Sender,
        collector: Collector,
        sellers: Mapping[str, Seller],
        inputs: InputImages,
        words: Wording,
        host: Host,
        now_ms: Callable[[], int],
        rng: random.Random,
    ) -> None:
        self._sender = sender
        self._collector = collector
        self._sellers = sellers
        self._inputs = inputs
        self._words = words
        self._host = host
        self._now_ms = now_ms
        self._rng = rng
        self._first_seen: dict[tuple[Key, int], float] = {}
        """When this run first saw an intent without an answer."""

    async def settle(self, order: Order, job: Job) -> Bought | None:
        """Somebody's intent has no answer on record: wait while it may still come, then replay, or leave it to a
        person."""
        intent = job.last(Kind.INTENT)
        assert intent is not None
        seller = self._sellers.get(str(intent.detail.get("provider")))
        now = asyncio.get_running_loop().time()
        waited = now - self._first_seen.setdefault((job.key, job.attempt), now)
        waited = max(waited, await self._over_for_s(seller, intent))
        repeatable = seller is not None and (seller.provider.caps.replay_s is not None or not seller.paid)
        timeout = REPLAY_TIMEOUT_S if repeatable else ANSWER_TIMEOUT_S
        if waited < timeout and not self._host.died(intent.detail):
            await asyncio.sleep(min(1.0 + max(0.0, waited) / 4, 15.0))
            return Bought(result=Result.OPEN) if self._sender.state.stopping else None
        if job.taken_in is not None:  # nothing was sent, and nothing may be
            return self._words.half_taken_in(order)
        ended = "the run that asked for it ended before the answer was on record"
        if seller is None:
            return await self.replay(order, job.attempt, ended)
        async with seller.slots.hold(order.priority, order.expected_s):
            return await self.replay(order, job.attempt, ended)

    async def _over_for_s(self, seller: Seller | None, intent: Record) -> float:
        """For how long an intent has certainly been there: by the provider's clock, which is the same for all."""
        if seller is not None:
            await seller.learn_date()
            age = seller.age_s(intent.detail.get("provider_ms"))
            if age is not None:
                return age - CLOCK_SLACK_S
        return (self._now_ms() - intent.at_ms) / 1000 - CLOCK_SKEW_S

    async def replay(self, order: Order, attempt: int, message: str) -> Bought | None:
        """Sends the request of an intent again until its answer is known, where that buys nothing twice; else it is in
        doubt. None where the ledger moved on."""
        loop = asyncio.get_running_loop()
        began, tries = loop.time(), 0
        while True:
            asked = await self._replay_once(order, attempt, message, tries, loop.time() - began)
            if not isinstance(asked, Doubt):
                return await self._collector.collect_sent(order, asked)
            message = asked.message
            tries += 1
            await asyncio.sleep(backoff(tries, 0.0, self._rng))
            seller = self._sellers.get(order.provider)
            if seller is not None:
                await seller.cooled(lambda: self._sender.state.stopping)

    async def _replay_once(
        self, order: Order, attempt: int, message: str, tries: int, took_s: float
    ) -> Job | Bought | Doubt | None:
        job = await self._sender.job(order.key)
        if job.state is not State.INTENDED or job.attempt != attempt:
            return None
        intent = job.last(Kind.INTENT)
        assert intent is not None
        name = str(intent.detail.get("provider"))
        seller = self._sellers.get(name)
        if seller is None:
            return self._words.doubt(
                order, name, message, f"set the key of {name} and run again: the same request is sent again"
            )
        if self._sender.state.stopping:
            return Bought(result=Result.OPEN)
        looked = await self._look_up(order, seller, job)
        if isinstance(looked, Doubt) and tries and (seller.closed is not None or took_s > RETRY_TIMEOUT_S):
            return self._words.doubt(order, name, looked.message, "run again: its task is looked up again")
        if looked is not None:
            return looked
        why = await self._not_repeatable(seller, job)
        if why:
            return self._words.doubt(order, name, f"{message}; {why}" if why != message else message)
        if not self._sender.allowed(order, seller):
            return self._words.ask_again(name)
        if tries and (seller.closed is not None or took_s > RETRY_TIMEOUT_S):
            return self._words.doubt(order, name, message, "run again: the same request is sent with the same key")
        request = await self._recorded(order, seller, intent)
        if self._sender.state.stopping:  # while its images were made ready
            return Bought(result=Result.OPEN)
        if isinstance(request, str):
            return self._words.doubt(order, name, f"{message}; {request}")
        refused = self._sender.book(order, seller, attempt)
        if refused is not None:
            return refused
        before = asyncio.get_running_loop().time() + INTENT_VALID_S
        sent = await self._sender.uninterrupted(
            self._sender.exchange(order, seller, job, request, first=False, before=before)
        )
        if isinstance(sent, Doubt) and sent.final:
            return self._words.doubt(order, name, sent.message)
        return sent

    async def _recorded(self, order: Order, seller: Seller, intent: Record) -> Request | str:
        """The request of an intent, where it is the one that the order is written as today; else why not."""
        try:
            images = await self._inputs.prepare(order, seller)
        except KlingflowError as bad:
            return f"its request cannot be made again: {bad.what}"
        rebuilt = self._sender.request(order, seller, images.texts, idempotency_attempt(intent))
        if not seller.paid:
            return rebuilt  # it buys nothing, whatever it asks for
        request = replay.recorded((await self._sender.whole(intent)).detail, rebuilt, images.published)
        if isinstance(request, Request):
            return request
        return f"the recorded request is not the one of this order ({', '.join(request)}), so it is not sent again"

    async def _look_up(self, order: Order, seller: Seller, job: Job) -> Job | Bought | Doubt | None:
        """Asks the provider for the task of an order by the id that the order gave it. None where it cannot be asked,
        or knows no such task: then the order may be sent again as far as the provider takes no two of one id."""
        intent = job.last(Kind.INTENT)
        assert intent is not None
        request = seller.provider.find(order.key, idempotency_attempt(intent))
        if request is None or not seller.ordered(job):
            return None
        try:
            said = seller.provider.found(await seller.ask(request))
        except (NotSent, Unanswered) as lost:
            return Doubt(f"its task could not be looked up: {redact(str(lost))}")
        match said:
            case Accepted():
                # Whoever sent the order has bought it: to find it books nothing.
                return await self._sender.uninterrupted(
                    self._sender.accepted(order, seller, job, dataclasses.replace(said, replayed=True), "find")
                )
            case Later():
                return Doubt(f"its task could not be looked up: {redact(said.message)}")
            case Missing():
                return None

    async def _not_repeatable(self, seller: Seller, job: Job) -> str:
        """Why the same request cannot be sent again without the risk of a second purchase; empty where it can."""
        intent = job.last(Kind.INTENT)
        assert intent is not None
        if not seller.paid:
            return ""
        if seller.provider.caps.replay_s is None:
            return f"{seller.name} has no way to ask again without buying again"
        if not seller.ordered(job):
            return "it was sent from another account, or to another address, than the one of this environment"
        await seller.learn_date()
        if not seller.within_replay_window(intent.detail.get("provider_ms")):
            return f"by {seller.name}'s clock it is not certain that the same request can still be sent again"
        return ""


def idempotency_attempt(intent: Record) -> int:
    """The attempt whose idempotency key the request of an intent carries."""
    found = intent.detail.get("idempotency_attempt")
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else intent.attempt
