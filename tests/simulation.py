"""A world in one thread: the real engine, Buyer, Poller and ledger on a fake clock, against providers that misbehave.

Time is virtual: the loop never waits, it jumps to the next timer, so an hour of polling costs a millisecond. Runners
share a store in memory; each of their doors (a store call, a request, a download) may be slow, fail, or be the last one
that the runner crosses: a killed runner's doors do nothing any more, while what it sent lives on at the provider.
After the storm comes the calm: no faults, one runner, a person who settles what is in doubt by looking at the
provider's console. Then every shot must have its clip, for as many purchases as there are shots.

Some films have approval gates. A person picks takes, merges picks, takes them back and re-rolls shots while the runners
plan and buy; nothing may be ordered behind a gate that was closed when its run was planned.

Everything that happens follows from the seed:

    python -m tests.simulation SEED     runs one schedule again and prints what happened
    KLINGFLOW_SIM_SEEDS=100000 pytest tests/test_simulation.py
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import random
import selectors
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from decimal import Decimal
from email.utils import formatdate
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from klingflow.core.errors import MediaError, StoreError
from klingflow.core.model import (
    ClipFacts,
    ClipRecord,
    Cut,
    Digest,
    FileStill,
    Film,
    Frame,
    ImageFacts,
    Key,
    Shot,
    ShotFrame,
    ShotId,
)
from klingflow.core.source import Span
from klingflow.execution import engine
from klingflow.execution.account import account
from klingflow.execution.budget import Budget
from klingflow.execution.buyer import Buyer
from klingflow.execution.host import Host
from klingflow.execution.inputs import InputImages
from klingflow.execution.outcome import Event, Outcome, Result
from klingflow.execution.seller import Seller
from klingflow.io import ledger
from klingflow.io.service import Broken, Gone, NotSent, Unanswered
from klingflow.io.store import BlobMissing, blob_name
from klingflow.io.task_notes import TaskNote
from klingflow.planning import plan as planning
from klingflow.planning.job import Kind, Record, State
from klingflow.planning.plan import Action, FilmPlan, Inputs, OpenOrder, PlanLookups, Step
from klingflow.planning.price import Limits, Price
from klingflow.providers import PROVIDERS
from klingflow.providers.base import Answer, Request, Settings
from klingflow.storyboard.lock import Lock, Pick

DAY_S = 24 * 3600.0
EPOCH_S = 1_780_000_000.0
"""The providers' time when the world begins."""
NO_LIMITS = Limits(spend=None, seconds=None, tasks=None)
PRICE = Decimal("0.50")
STILL = b"the project's still"
P = ParamSpec("P")
T = TypeVar("T")


class Hang(Exception):
    """Nothing is scheduled any more, or it never ends."""


class _Clock(selectors.BaseSelector):
    """Never waits: the time until the next timer is over at once."""

    def __init__(self, most: float) -> None:
        self.now = 0.0
        self.most = most

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Hang("nothing is scheduled, and somebody still waits")
        self.now += max(timeout, 0.0)
        if self.now > self.most:
            raise Hang(f"still going on after {self.now / DAY_S:.1f} days")
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time costs nothing. `most` seconds of it are a hang."""

    def __init__(self, most: float = 30 * DAY_S) -> None:
        self.clock = _Clock(most)
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def run_virtually(main: Callable[[], Coroutine[Any, Any, T]], most: float = 30 * DAY_S) -> T:
    """Runs a coroutine in virtual time, and ends what it left running. What asyncio complains of is an error."""
    loop = VirtualLoop(most)
    loop.set_task_factory(_factory)
    asyncio.set_event_loop(loop)
    errors: list[str] = []
    loop.set_exception_handler(lambda _, said: errors.append(f"{said.get('message')}: {said.get('exception')!r}"))
    try:
        result = loop.run_until_complete(main())
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.clock.most = float("inf")
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=1))
        asyncio.set_event_loop(None)
        loop.close()
    assert not errors, errors
    return result


# -- the store -------------------------------------------------------------------------------------------------------


class Memory:
    """A store that every runner sees, as atomic as a folder's."""

    where = "memory"

    def __init__(self, folder: Path) -> None:
        self.records: dict[str, bytes] = {}
        self.folders: dict[str, list[str]] = {}
        self.blobs: set[Digest] = set()
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        return self.records.get(name)

    def list(self, prefix: str, most: int | None = None) -> Iterator[str]:
        if prefix.count("/") == 2:
            return iter(sorted(self.folders.get(prefix, ())))
        return iter(sorted(name for name in self.records if name.startswith(prefix)))

    def create(self, name: str, data: bytes) -> bool:
        if name in self.records:
            return False
        self.records[name] = data
        self.folders.setdefault(name.rpartition("/")[0] + "/", []).append(name)
        return True

    def put(self, file: Path, *, move: bool = False) -> Digest:
        data = file.read_bytes()
        digest = _sha(data)
        self.blobs.add(digest)
        kept = self._folder / digest
        if not kept.exists():
            kept.write_bytes(data)
        return digest

    def blob(self, digest: Digest) -> Path:
        if digest not in self.blobs:
            raise BlobMissing(f"{blob_name(digest)} is not there")
        return self._folder / digest

    def holds(self, digest: Digest) -> bool:
        return digest in self.blobs

    def delete(self, name: str) -> None:
        raise AssertionError("the engine deletes nothing")


class ShakyStore:
    """One runner's way to the shared store: it may be refused, before or after what it asked for was done."""

    where = "memory"

    def __init__(self, runner: Runner) -> None:
        self._world = runner.world
        self._runner = runner
        self._late: list[tuple[str, bytes]] = []
        self.read = self._early_read if runner.world.sins.intent_last else runner.world.store.read
        self.list = self._early_list if runner.world.sins.intent_last else runner.world.store.list
        self.put = runner.world.store.put
        self.blob = runner.world.store.blob
        self.holds = runner.world.store.holds
        self.delete = runner.world.store.delete

    def _early_read(self, name: str) -> bytes | None:
        return dict(self._late).get(name) or self._world.store.read(name)

    def _early_list(self, prefix: str, most: int | None = None) -> Iterator[str]:
        late = {name for name, _ in self._late if name.startswith(prefix)}
        return iter(sorted({*self._world.store.list(prefix), *late}))

    def create(self, name: str, data: bytes) -> bool:
        world = self._world
        if not world.calm and world.rng.random() < world.bad_store:
            if world.rng.random() < 0.5:
                self._write(name, data)
            world.note(self._runner, f"the store fails at {name}")
            raise StoreError(f"{name} cannot be written", "mend the store")
        return self._write(name, data)

    def _write(self, name: str, data: bytes) -> bool:
        world = self._world
        if world.sins.forget_accepted and name.endswith("-accepted.json"):
            return True
        if world.sins.intent_last:
            if name.endswith("-intent.json"):
                self._late.append((name, data))
                return name not in world.store.records
            while self._late:
                world.written(self._runner, *self._late.pop(0))
        return world.written(self._runner, name, data)


# -- the providers ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Task:
    """A task at a provider: it was billed."""

    id: str
    key: Key
    prompt: str
    ends: str
    """"ok", or how it ends without a clip: "fault", "moderated"."""
    accepted_at: float
    seen_at: float
    """Readers know nothing of it before."""
    done_at: float
    urls: dict[str, float] = field(default_factory=dict)
    empty_until: float = 0.0


@dataclass(slots=True)
class Order:
    """What HiAPI knows of an idempotency key."""

    body: bytes
    at: float
    task: str | None = None


class Api:
    """One provider's side of the world, at the level of requests and answers."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.tasks: dict[str, Task] = {}
        self.orders: dict[str, Order] = {}

    def take(self, request: Request, key: Key, delay: float) -> asyncio.Future[Answer]:
        """An order arrives; its answer is ready after `delay`. From then on it is billed, whoever still listens."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        token = request.headers.get("Idempotency-Key")
        order = self.orders.get(token) if token else None
        if order is not None and loop.time() - order.at < DAY_S and not self.world.sins.ignore_key:
            answer.set_result(self._again(order, request))
            return answer
        body = request.body or b""
        order = Order(body, loop.time())
        if token:
            self.orders[token] = order

        def settle() -> None:
            task = self._bill(key, body)
            order.task = task.id
            if not answer.done():
                answer.set_result(self._taken(task.id))

        loop.call_later(delay, settle)
        return answer

    def _again(self, order: Order, request: Request) -> Answer:
        if order.body != request.body:
            return _json(422, {"code": 422, "message": "mismatch", "error_code": "IDEMPOTENCY_KEY_MISMATCH"})
        if order.task is None:
            said = {"code": 409, "message": "processing", "error_code": "IDEMPOTENCY_KEY_PROCESSING"}
            return _json(409, said, {"retry-after": "5"})
        return _json(200, {"code": 200, "data": {"taskId": order.task}}, {"idempotent-replay": "true"})

    def prompt(self, body: bytes) -> str:
        data = json.loads(body)
        return str(data["input"]["prompt"] if self.name == "hiapi" else data["prompt"])

    def _bill(self, key: Key, body: bytes) -> Task:
        world, now = self.world, asyncio.get_running_loop().time()
        prompt = self.prompt(body)
        number = sum(task.prompt == prompt for task in world.billed)
        ends = world.fortune.get(prompt, [])
        rng = world.rng
        slow = world.odds("slow task") and rng.random() < 0.25  # an hour of polls is what a schedule takes longest over
        lasts = rng.uniform(2000, 5000) if slow else rng.uniform(1, 40)
        lag = rng.uniform(0, 40) if world.odds("lag") else 0.0
        empty = rng.uniform(0, 8) if world.odds("no video yet") else 0.0
        task = Task(
            id=f"{self.name}-{len(world.billed) + 1}-{prompt}",
            key=key,
            prompt=prompt,
            ends=ends[number] if number < len(ends) else "ok",
            accepted_at=now,
            seen_at=now + world.lag_s + lag,
            done_at=now + world.making_s + lasts,
        )
        task.empty_until = task.done_at + world.empty_s + empty
        self.tasks[task.id] = task
        world.was_billed(self, task, body)
        return task

    def _taken(self, task: str) -> Answer:
        if self.name == "hiapi":
            return _json(200, {"code": 200, "message": "success", "data": {"taskId": task}})
        return _json(202, {"task_info": {"id": task, "status": "pending"}})

    def get(self, path: str) -> Answer:
        now = asyncio.get_running_loop().time()
        if path.startswith("/v1/tasks?"):
            newest = sorted(self.tasks.values(), key=lambda t: -t.accepted_at)
            told = [{"taskId": t.id, "status": self._word(t, now)} for t in newest if t.seen_at <= now]
            return _json(200, {"code": 200, "data": {"page": 1, "size": 100, "total": len(told), "tasks": told[:100]}})
        task = self.tasks.get(path.rpartition("/")[2])
        if task is None or now < task.seen_at:
            return _json(404, {"code": 404, "message": "not found", "detail": "not found"})
        word = self._word(task, now)
        done = now >= task.done_at and not self.world.sins.never_done
        url = None
        if done and task.ends == "ok" and now >= task.empty_until:
            url = f"https://cdn.test/{task.id}/{len(task.urls)}"
            life = self.world.rng.uniform(0, 5) if self.world.odds("short url") else 7 * DAY_S
            task.urls[url] = now + life
        if self.name == "hiapi":
            data: dict[str, object] = {"taskId": task.id, "status": word, "created": 1, "completed": 0}
            if done and task.ends == "ok":
                data["output"] = [{"type": "first_frame", "url": "https://cdn.test/x.jpg"}] + (
                    [{"type": "video", "url": url}] if url else []
                )
            if done and task.ends != "ok":
                code = "TASK_TIMEOUT" if task.ends == "fault" else "TASK_FAILED"
                said = "the model broke" if task.ends == "fault" else "content policy violation"
                data["error"] = {"code": code, "message": said}
            return _json(200, {"code": 200, "data": data})
        info: dict[str, object] = {"id": task.id, "status": word}
        if done and task.ends != "ok":
            info["error"] = {"code": 4008 if task.ends == "fault" else 3001, "title": "Error", "detail": task.ends}
        return _json(200, {"task_info": info, "videos": [url] if url else []})

    def _word(self, task: Task, now: float) -> str:
        if now < task.done_at or self.world.sins.never_done:
            if now < (task.accepted_at + task.done_at) / 2:
                return "queued"
            return "polishing" if self.world.odds("unknown word") else "processing"
        if task.ends == "ok":
            return "success" if self.name == "hiapi" else "completed"
        return "fail" if self.name == "hiapi" else "failed"


class Wire:
    """io.service.Service of one runner at one provider."""

    def __init__(self, runner: Runner, api: Api) -> None:
        self._runner = runner
        self._world = runner.world
        self._api = api

    async def send(
        self,
        request: Request,
        *,
        paid: bool = False,
        before: float = math.inf,
        wanted: Callable[[], Awaitable[bool]] | None = None,
    ) -> Answer:
        answer = await self._exchange(request, paid, before, wanted)
        date = formatdate(EPOCH_S + asyncio.get_running_loop().time(), usegmt=True)
        return replace(answer, headers={**answer.headers, "date": date})

    async def _exchange(
        self, request: Request, paid: bool, before: float, wanted: Callable[[], Awaitable[bool]] | None
    ) -> Answer:
        self._runner.cross(f"{request.method} {self._api.name}")
        if paid and self._runner.stop.is_set() and asyncio.get_running_loop().time() > self._runner.stopped_at:
            self._world.violate(f"run {self._runner.number} orders after it was stopped")
        await self._world.latency()
        if request.method != "POST":
            self._runner.cross("question leaves")
            return await self._poll(request)
        self._runner.cross("order leaves")
        if wanted is not None and not await wanted():
            raise NotSent("not wanted")
        if asyncio.get_running_loop().time() >= before:
            raise NotSent("too late")
        answer = await self._order(request)
        self._runner.orders += 1
        if self._runner.orders == self._runner.last_order:
            self._runner.last_door = 0
        self._runner.cross("answer came")
        return answer

    async def _poll(self, request: Request) -> Answer:
        world, rng = self._world, self._world.rng
        if world.odds("poll"):
            match rng.randrange(5):
                case 0:
                    await asyncio.sleep(rng.uniform(0, 60))
                    raise Unanswered("no answer")
                case 1:
                    return Answer(status=500, body=b"<html>")
                case 2:
                    return _json(429, {"code": 429, "message": "rate limit"}, {"retry-after": "7"})
                case 3:
                    return Answer(status=200, body=b'{"code": 20')
                case _:
                    raise NotSent("refused")
        answer = self._api.get(request.path)
        await world.latency()
        return answer

    async def _order(self, request: Request) -> Answer:
        world, rng, loop = self._world, self._world.rng, asyncio.get_running_loop()
        fate, delay = world.fate()
        world.note(self._runner, f"order {_token(request)}: {fate}")
        if fate != "ok" or request.body not in self._runner.sent:
            self._runner.sent[request.body or b""] = fate
        if fate in REFUSALS:
            await asyncio.sleep(delay)
        match fate:
            case "not sent":
                raise NotSent("connection refused")
            case "cut before":
                raise Unanswered("the connection was cut")
            case "gateway":
                return Answer(status=rng.choice((500, 502, 504)), body=b"<html>bad gateway</html>")
            case "throttled":
                return _json(
                    429, {"code": 429, "message": "rate limit", "error_code": "RATE_LIMIT"}, {"retry-after": "2"}
                )
            case "unavailable":
                return _json(503, {"code": 503, "message": "later"})
            case "no money":
                return _json(402, {"code": 402, "message": "insufficient balance", "error_code": "PAYMENT_REQUIRED"})
            case "turned away":
                return _json(400, {"code": 400, "message": "not now", "error_code": "MODEL_UNAVAILABLE"})
        key = world.arrived(self._runner, request, self._api)
        told = self._api.take(request, key, delay)
        done, _ = await asyncio.wait({told}, timeout=rng.uniform(0, delay) if fate == "cut while taken" else 60.0)
        if not done or fate == "cut after":
            raise Unanswered("no answer")
        answer = told.result()
        if fate == "gateway after":
            return Answer(status=502, body=b"<html>bad gateway</html>")
        if fate == "junk after" and answer.status < 300:
            return Answer(status=answer.status, body=answer.body[: len(answer.body) // 2])
        await world.latency()
        self._runner.told.append((self._api.name, answer))
        world.note(self._runner, f"order answered {answer.status} after {loop.time() - world.began:.0f} s")
        return answer

    async def fetch(self, url: str, to: Path, progress: Callable[[int, int | None], None]) -> Digest:
        world, now = self._world, asyncio.get_running_loop().time()
        self._runner.cross("fetch")
        await world.latency()
        self._runner.cross("fetching")
        task = self._api.tasks[url.split("/")[3]]
        if now > task.urls[url]:
            raise Gone("403")
        data = self._world.cut(clip_of(task))
        if world.odds("download"):
            match world.rng.randrange(3):
                case 0:
                    raise Broken("cut again and again")
                case 1:
                    raise Gone("404")
                case _:
                    world.cuts += 1
                    data = data[: world.rng.randrange(len(data) - 1)] + str(world.cuts).encode()
        to.write_bytes(data)
        await world.latency()
        self._runner.cross("fetched")
        return _sha(data)

    async def close(self) -> None:
        pass


def clip_of(task: Task) -> bytes:
    return f"CLIP {task.id} {task.prompt} END".encode()


class Media:
    def __init__(self, world: World) -> None:
        self._world = world

    def check(self, path: Path, digest: Digest, seconds: int | None) -> ClipFacts:
        data = path.read_bytes()
        if not data.startswith(b"CLIP ") or not data.endswith(b" END"):
            raise MediaError("it does not decode", "")
        return ClipFacts(
            digest=digest, bytes=len(data), width=8, height=8, frames=24, duration="5.000", rate="24", audio=False
        )

    def cut(self, clip: Path, frame: str, to: Path) -> None:
        source = clip_of(self._world.billed[0]) if self._world.sins.old_frames else clip.read_bytes()
        to.write_bytes(frame_of(_sha(source), frame))


    def end(self, clip: Path, seconds: int, to: Path) -> None:
        raise AssertionError("no shot has a reference video")


def frame_of(clip: Digest, frame: str) -> bytes:
    return f"FRAME {frame} {clip}".encode()


# -- runners ---------------------------------------------------------------------------------------------------------

RUNNER: ContextVar[Runner | None] = ContextVar("RUNNER", default=None)


class Runner:
    """One run of klingflow, as a process: it has tasks, a clock, and perhaps a last door."""

    def __init__(
        self,
        world: World,
        number: int,
        machine: str,
        last_door: int | None,
        last_order: int | None,
        stop_door: int | None,
    ) -> None:
        self.world = world
        self.number = number
        self.dead = False
        self.doors = 0
        self.last_door = last_door
        self.last_order = last_order
        self.stop_door = stop_door
        self.stop = asyncio.Event()
        self.stopped_at = 0.0
        self.tasks: list[asyncio.Task[Any]] = []
        self.told: list[tuple[str, Answer]] = []
        self.sent: dict[bytes, str] = {}
        """Order bodies, and what became of them: "ok" where nothing went wrong with any."""
        self.orders = 0
        self.behind: frozenset[str] = frozenset()
        """The prompts of the shots behind a gate that was closed when this run was planned."""
        self.host = SimHost(who="sim", machine=machine, pid=number, started=str(number), world=world)
        self.skew_ms = world.rng.randrange(-120_000, 120_000) if world.skewed else 0

    def cross(self, door: str) -> None:
        """Every way out of the process; a dead one gets nowhere, and one that crosses its last door dies there."""
        self.doors += 1
        if self.doors == self.stop_door:
            self.world.note(self, f"Ctrl-C at: {door}")
            self.stop.set()
            self.stopped_at = asyncio.get_running_loop().time()
        if not self.dead and self.last_door is not None and self.doors >= self.last_door:
            self.world.note(self, f"killed at: {door}")
            self.die()
        if self.dead:
            raise asyncio.CancelledError

    def die(self) -> None:
        self.dead = True
        for task in self.tasks:
            task.cancel()

    async def offload(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        world = self.world
        self.cross("call")
        chance = world.rng.random()
        if chance < world.slow_calls:
            await asyncio.sleep(world.rng.uniform(30, 400) if chance < world.slow_calls / 200 else chance)
        result = call(*args, **kwargs)
        self.cross("call done")
        return result

    def now_ms(self) -> int:
        return self.world.now_ms() + self.skew_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class SimHost(Host):
    world: World

    def died(self, detail: Mapping[str, object]) -> bool:
        return detail.get("machine") == self.machine and not self.mine(detail) and detail["pid"] in self.world.gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Sins:
    """What a world may be made to do wrong, to see that the oracle is not blind."""

    ignore_key: bool = False
    """The provider does not look at Idempotency-Key."""
    intent_last: bool = False
    """The intent reaches the store only with the runner's next record, after the order was sent; until then the store
    shows it to that runner alone."""
    forget_accepted: bool = False
    """The store says that it keeps the record of an accepted task, and does not."""
    old_frames: bool = False
    """Every frame that is cut comes from the first clip of the film."""
    never_done: bool = False
    """No task ever ends."""
    blind_to_gates: bool = False
    """The plan sees no gate."""


FAULTS = ("slow no", "poll", "lag", "slow task", "no video yet", "short url", "unknown word", "download")
FATES = (
    "not sent",
    "cut before",
    "cut while taken",
    "cut after",
    "gateway",
    "gateway after",
    "junk after",
    "late",
    "throttled",
    "unavailable",
    "turned away",
)


REFUSALS = ("not sent", "cut before", "throttled", "unavailable", "no money", "turned away")
"""The fates in which nothing is bought."""


class World:
    def __init__(self, seed: int, folder: Path, sins: Sins = Sins(), *, tracing: bool = False) -> None:
        self.rng = rng = random.Random(seed)
        self.sins = sins
        self.trace: list[str] | None = [] if tracing else None
        self.violations: list[str] = []
        self.calm = False
        self.folder = folder
        self.store = Memory(folder)
        self.began = 0.0
        self.provider = rng.choice(("hiapi", "hiapi", "mulerouter", "mixed"))
        self.film = film(rng.choice(sorted(SHAPES)), self.provider)
        self.apis = {name: Api(self, name) for name in ("hiapi", "mulerouter")}
        self.billed: list[Task] = []
        self.intents: dict[bytes, Key] = {}
        """The key of each order body that has an intent in the store."""
        self.gone: set[object] = set()
        self.runners = 0
        self.frames: dict[str, bytes] = {}
        self.cuts = 0
        self.lag_s = self.making_s = self.empty_s = 0.0
        self.cut: Callable[[bytes], bytes] = bytes
        self.script: list[tuple[str, float]] = []
        """Fates of the next orders, where a test wants them so."""
        self.pardoned: Counter[Key] = Counter()
        """Orders that a person gave up."""
        self.settings: dict[str, Settings] = {}
        self.outcomes: tuple[Outcome, ...] = ()
        some = rng.choice((0.0, 0.3, 0.7))
        self._faults = {name: rng.uniform(0, 0.3) for name in FAULTS if rng.random() < some}
        self._fates = [name for name in FATES if rng.random() < some]
        self._bad_fate = rng.uniform(0, 0.7) if self._fates else 0.0
        self.bad_store = rng.uniform(0, 0.03) if rng.random() < 0.15 else 0.0
        self.slow_calls = rng.choice((0.0, 0.1, 0.4))
        begins = rng.uniform(0, 100)
        self.poor = (begins, begins + rng.uniform(0, 300)) if rng.random() < 0.1 else (0.0, 0.0)
        self.skewed = rng.random() < 0.4
        self.fortune = {shot.prompt: self._fortune() for shot in self.film.shots}
        self.person = random.Random(f"person {seed}")
        """Their own luck: a schedule without a gate is what it was before there were gates."""
        self.picked: dict[ShotId, Pick] = {}
        """In the lock of every working tree."""
        self.merged: dict[ShotId, Pick] = {}
        """At the approved ref."""
        self.seen: Counter[str] = Counter()
        """What happened to gates."""
        if self.person.random() < 0.5:
            followed = {need for shot in self.film.shots for need in shot.needs()}
            gated = {shot for shot in sorted(followed) if self.person.random() < 0.7}
            self.film = replace(
                self.film,
                shots=tuple(replace(s, gate="approved") if s.id in gated else s for s in self.film.shots),
            )

    def _fortune(self) -> list[str]:
        chance = self.rng.random()
        return ["fault"] * self.rng.randint(1, 3) if chance < 0.06 else ["moderated"] if chance < 0.08 else []

    # -- what the parts ask

    def note(self, runner: Runner | None, what: str) -> None:
        if self.trace is not None:
            who = f"run {runner.number}" if runner else "world"
            self.trace.append(f"{asyncio.get_running_loop().time():10.2f} {who:7} {what}")

    def violate(self, what: str) -> None:
        self.note(None, f"VIOLATION {what}")
        self.violations.append(what)

    def odds(self, fault: str) -> bool:
        return not self.calm and fault in self._faults and self.rng.random() < self._faults[fault]

    def fate(self) -> tuple[str, float]:
        """What becomes of an order, and the seconds until it is taken or refused."""
        if self.script:
            return self.script.pop(0)
        rng = self.rng
        fate = "ok"
        if not self.calm and self.poor[0] < asyncio.get_running_loop().time() < self.poor[1]:
            fate = "no money"
        elif not self.calm and rng.random() < self._bad_fate:
            fate = rng.choice(self._fates)
        if fate == "late":
            return fate, rng.uniform(20, 110)
        if fate in REFUSALS and self.odds("slow no"):
            return fate, rng.uniform(30, 115)
        return fate, rng.uniform(0.05, 3)

    async def latency(self) -> None:
        await asyncio.sleep(self.rng.random() * 0.5)

    def written(self, runner: Runner, name: str, data: bytes) -> bool:
        new = self.store.create(name, data)
        if new and name.endswith("-intent.json"):
            found = json.loads(data)
            self.intents[base64.b64decode(found["detail"]["body"])] = found["key"]
        self.note(runner, f"{'writes' if new else 'finds'} {name}")
        return new

    def arrived(self, runner: Runner, request: Request, api: Api) -> Key:
        """A paid request reached a provider: its intent must be in the store, and no closed gate before it."""
        key = self.intents.get(request.body or b"")
        prompt = api.prompt(request.body or b"{}")
        if prompt in runner.behind:
            self.violate(f"run {runner.number} ordered {prompt} behind the closed gate of a shot before it")
        if key is None:
            self.violate("an order was sent before its intent was in the store")
        token = request.headers.get("Idempotency-Key")
        if token and key is not None and token.split(":")[1] != key:
            self.violate(f"the key of an order, {token}, is not that of its intent")
        return key or Key("?")

    def was_billed(self, api: Api, task: Task, body: bytes) -> None:
        self.note(None, f"BILLED {task.id} for {task.key[:8]}")
        earlier = [t for t in self.billed if t.key == task.key]
        failed = sum(name.endswith("-failed.json") for name in self.store.list(f"ledger/{task.key}/"))
        if len(earlier) > failed + self.pardoned[task.key]:
            self.violate(f"{task.prompt} was bought again: {[t.id for t in earlier]} and {task.id}")
        self.billed.append(task)
        self._check_frames(api, task.prompt, body)

    def _check_frames(self, api: Api, prompt: str, body: bytes) -> None:
        shot = next(s for s in self.film.shots if s.prompt == prompt)
        data = json.loads(body)
        if api.name == "hiapi":
            sent = [self.frames.get(url, b"") for url in data["input"].get("image_urls", [])]
        else:
            texts = [data[role] for role in ("first_frame", "last_frame") if role in data]
            sent = [base64.b64decode(text.partition(",")[2]) for text in texts]
        kept = {json.loads(d)["clip"]["digest"] for n, d in self.store.records.items() if n.startswith("clips/")}
        wanted = []
        for _, frame in shot.frames():
            if isinstance(frame, ShotFrame):
                source = next(s for s in self.film.shots if s.id == frame.shot)
                clips = [_sha(clip_of(task)) for task in self.billed if task.prompt == source.prompt]
                wanted.append([frame_of(clip, frame.frame) for clip in clips if clip in kept])
            else:
                wanted.append([STILL])
        if len(sent) != len(wanted) or not all(one in right for one, right in zip(sent, wanted, strict=True)):
            self.violate(f"{prompt} was ordered with the wrong frames: {sent}, not {wanted}")

    # -- what happens

    async def run_once(
        self,
        *,
        machine: str = "calm",
        last_door: int | None = None,
        last_order: int | None = None,
        limits: Limits = NO_LIMITS,
        detach: bool = False,
        frozen: bool = False,
        stop_door: int | None = None,
    ) -> tuple[Outcome, ...] | None:
        """One run of klingflow from start to end; None where it was killed."""
        self.runners += 1
        runner = Runner(self, self.runners, machine, last_door, last_order, stop_door)
        how = f"{'detached ' if detach else ''}last door {last_door}, stop at {stop_door}, {limits}"
        self.note(runner, f"starts on {machine}: {how}")
        scratch = self.folder / f"run-{runner.number}"
        scratch.mkdir(exist_ok=True)
        events: list[Event] = []
        store, rng = ShakyStore(runner), random.Random(self.rng.random())
        sellers = {
            name: Seller(
                PROVIDERS[name],
                Wire(runner, api),
                self.settings.get(name, Settings()),
                account(f"https://{name}", "k"),
                rng,
                images_by="",
            )
            for name, api in self.apis.items()
        }
        inputs = InputImages(
            store=store,
            media=Media(self),
            stills=Stills(),
            fetch_still=_no_still,
            publisher=Publisher(self),
            shrinks=None,
            scratch=scratch,
            store_calls=runner.offload,
            media_calls=runner.offload,
        )
        buyer = Buyer(
            tasks={},
            store=store,
            sellers=sellers,
            inputs=inputs,
            media=Media(self),
            notes=NoNotes(),
            budget=Budget(limits),
            storyboard="film.yaml",
            shown="film.yaml",
            scratch=scratch,
            host=runner.host,
            now_ms=runner.now_ms,
            emit=events.append,
            rng=rng,
            store_calls=runner.offload,
            media_calls=runner.offload,
            detach=detach,
        )
        of = self.film
        plan = self.planned(runner) if self.gated else plan_of(of, orders=not frozen)
        token = RUNNER.set(runner)
        main = asyncio.create_task(
            engine.run(
                plan,
                of,
                buyer=buyer,
                known={},
                inputs=INPUTS,
                clips=StoredClips(self.store) if self.gated else NoClips(),
                expect=lambda shot: 6.0 * shot.duration,
                price=lambda shot: Price(amount=PRICE),
                frozen=frozen,
                stop=runner.stop,
                emit=events.append,
            )
        )
        RUNNER.reset(token)
        await asyncio.wait({main})
        killed = runner.dead
        runner.die()
        self.gone.add(runner.number)
        left = [task for task in runner.tasks if not task.done()]
        if left:
            await asyncio.wait(left)
        if killed:
            return None
        if main.cancelled() or main.exception() is not None:
            bug = None if main.cancelled() else main.exception()
            self.violate(f"the engine broke: {bug!r}")
            return None
        outcomes = main.result()
        self.note(runner, "ends: " + ", ".join(f"{o.shot} {o.result}" for o in outcomes))
        self._check_outcomes(runner, outcomes, buyer, limits, runner.stop.is_set())
        return outcomes

    def _check_outcomes(
        self, runner: Runner, outcomes: tuple[Outcome, ...], buyer: Buyer, limits: Limits, stopped: bool
    ) -> None:
        if [o.shot for o in outcomes] != [shot.id for shot in self.film.shots]:
            self.violate("the outcomes are not those of the plan")
        for outcome in outcomes:
            if outcome.result is Result.WAITING and self.film.shot(outcome.shot).prompt not in runner.behind:
                self.violate(f"run {runner.number}: {outcome.shot} waits, and no gate before it was closed")
            at = f"run {runner.number}: {outcome.shot} {outcome.result}"
            self.note(runner, f"{at} {outcome.failure.message if outcome.failure else ''}")
            if outcome.good != (outcome.clip is not None):
                self.violate(f"{at}: good and its clip do not agree")
            if outcome.clip is not None and not self.store.holds(outcome.clip.facts.digest):
                self.violate(f"{at}: its clip is not in the store")
            if outcome.result in (Result.FAILED, Result.IN_DOUBT) and not (outcome.failure and outcome.failure.next):
                self.violate(f"{at}: nobody is told what to do")
            if (outcome.result is Result.SKIPPED) != (
                outcome.because is not None and outcome.result is not Result.STOPPED
            ):
                self.violate(f"{at}: skipped because of {outcome.because}")
            if outcome.result is Result.STOPPED and not stopped:
                self.violate(f"{at}: nobody stopped it")
            if outcome.failure is not None and "the store does not have it" in outcome.failure.message:
                self.violate(f"{at}: {outcome.failure.message}")
            if outcome.result is Result.IN_DOUBT and outcome.key is not None:
                self._check_doubt(at, outcome.key)
        if stopped and not self.slow_calls and not self.bad_store:
            self._check_stop(runner)
        spent = sum((o.spent for o in outcomes), Decimal(0))
        if spent != buyer.budget.spent and not stopped:
            self.violate(f"run {runner.number}: the outcomes cost {spent}, the run {buyer.budget.spent}")
        if limits.spend is not None and buyer.budget.spent > limits.spend:
            self.violate(f"run {runner.number} spent {buyer.budget.spent} of {limits.spend}")
        on_record = self.on_record()
        said = " ".join(o.failure.message for o in outcomes if o.failure)
        for name, answer in runner.told:
            accepted = PROVIDERS[name].accepted(answer)
            task = getattr(accepted, "task", None)
            if task is not None and task not in on_record and task not in said and not stopped:
                self.violate(f"run {runner.number} was told of {task}, and it is nowhere on record")

    def _check_doubt(self, at: str, key: Key) -> None:
        """Nobody is asked about an order whose sender may still hear the answer."""
        intent = ledger.job(self.store, key).last(Kind.INTENT)
        if intent is None or intent.detail["pid"] in self.gone or self.slow_calls or self.skewed:
            return
        if self.now_ms() - intent.at_ms < 60_000 and intent.detail["pid"] != self.runners:
            self.violate(f"{at}: run {intent.detail['pid']} is still sending it")

    def _check_stop(self, runner: Runner) -> None:
        """An interrupt leaves no order in doubt that was not sent, or whose answer came in time."""
        for job in ledger.jobs(self.store):
            intent = job.last(Kind.INTENT)
            if job.state is not State.INTENDED or intent is None or not runner.host.mine(intent.detail):
                continue
            body = ledger.whole(self.store, intent).detail["body"]
            if runner.sent.get(base64.b64decode(str(body)), "ok") == "ok":
                self.violate(f"run {runner.number} was stopped, and left {job.key[:8]} in doubt")

    def now_ms(self) -> int:
        return int((1_790_000_000 + asyncio.get_running_loop().time()) * 1000)

    def on_record(self) -> set[object]:
        return {
            json.loads(data)["detail"]["task"]
            for name, data in self.store.records.items()
            if name.endswith("-accepted.json")
        }

    async def storm(self) -> None:
        rng = self.rng

        async def life(machine: str) -> None:
            for _ in range(rng.randint(1, 3)):
                await asyncio.sleep(rng.choice((0.0, rng.uniform(0, 3), rng.uniform(0, 200))))
                tasks = rng.randint(0, 4) if rng.random() < 0.1 else None
                await self.run_once(
                    machine=machine,
                    last_door=rng.randint(1, 120) if rng.random() < 0.4 else None,
                    last_order=rng.randint(1, 3) if rng.random() < 0.2 else None,
                    limits=Limits(spend=None if tasks is None else tasks * PRICE, seconds=None, tasks=None),
                    detach=rng.random() < 0.15,
                    stop_door=rng.randint(1, 100) if rng.random() < 0.2 else None,
                )

        machines = [f"machine {rng.randint(1, 2)}" for _ in range(rng.choice((1, 1, 2, 2, 3)))]
        await asyncio.gather(*(life(machine) for machine in machines), *([self.decisions()] if self.gated else ()))

    # -- gates

    @property
    def gated(self) -> bool:
        return any(shot.gate for shot in self.film.shots)

    def planned(self, runner: Runner | None = None) -> FilmPlan:
        """The real plan, of what the store holds by now, and what the run of it may not order."""

        def order(key: Key, shot: Shot) -> OpenOrder | None:
            match ledger.job(self.store, key).state:
                case State.ACCEPTED:
                    return OpenOrder(action=Action.RESUME, reason="a task was paid for")
                case State.INTENDED:
                    return OpenOrder(action=Action.RESUME, reason="asked", orders=True)
            return None

        def unapproved(variant: str, shot: ShotId, pick: Pick) -> str:
            return "" if self.merged.get(shot) == pick else "merge it"

        blind = self.sins.blind_to_gates or runner is None
        plan = planning.make(
            self.film,
            inputs=INPUTS,
            lock=Lock(picks={"": dict(self.picked)}),
            lookups=PlanLookups(
                model=lambda shot: "kling-3.0-omni",
                price=lambda shot: Price(amount=PRICE),
                expect=lambda shot: 6.0 * shot.duration,
                find=lambda key: ledger.clip(self.store, key),
                open_order=order,
                picture=lambda path: None,
                unapproved=None if blind else unapproved,
            ),
        )
        if runner is not None:
            runner.behind = self.behind_closed()
            self.note(runner, "plans: " + ", ".join(f"{s.shot} {s.action}" for s in plan.steps))
            self.seen["wait"] += sum(step.action is Action.WAIT for step in plan.steps)
            self.seen["open"] += not runner.behind
        return plan

    def behind_closed(self) -> frozenset[str]:
        """The prompts of all shots behind a gate that is closed now, told without the parts that plan."""
        clips = {step.shot: step.clip for step in self.planned().steps}
        closed: set[ShotId] = set()
        for shot in self.film.shots:
            here, there = self.picked.get(shot.id), self.merged.get(shot.id)
            known = here is not None and here == there and (here.take, here.clip) == (shot.take, clips[shot.id])
            closed |= {shot.id} if shot.gate is not None and not known else set()
        behind: set[ShotId] = set()
        for _ in self.film.shots:
            behind |= {shot.id for shot in self.film.shots if (closed | behind) & {*shot.needs()}}
        return frozenset(shot.prompt for shot in self.film.shots if shot.id in behind)

    async def decisions(self) -> None:
        """What a person does about gates while runners plan and buy."""
        luck = self.person
        for _ in range(luck.randint(2, 8)):
            await asyncio.sleep(luck.choice((luck.uniform(0, 5), luck.uniform(0, 60), luck.uniform(0, 400))))
            shot = luck.choice([shot for shot in self.film.shots if shot.gate is not None])
            match luck.choice(("pick", "pick", "approve", "approve", "merge", "merge", "other", "back", "again")):
                case "pick":
                    self.pick(shot)
                case "approve":
                    self.pick(shot)
                    self.merged = dict(self.picked)
                case "merge":
                    self.merged = dict(self.picked)
                case "other":  # the clip of a take that was never made
                    self.picked[shot.id] = _pick(shot.take, _sha(b"another clip"))
                    self.merged = dict(self.picked)
                case "back":
                    self.merged.pop(shot.id, None)
                case "again" if shot.take == 1:
                    other = replace(shot, take=2, duration=6)  # a body of its own: orders are known by their bodies
                    self.film = replace(
                        self.film, shots=tuple(other if s.id == shot.id else s for s in self.film.shots)
                    )
                    self.seen["re-rolled"] += 1
            self.note(None, f"a person decides: picked {sorted(self.picked)}, merged {sorted(self.merged)}")

    def pick(self, shot: Shot) -> None:
        clip = next(step.clip for step in self.planned().steps if step.shot == shot.id)
        if clip is not None:
            self.picked[shot.id] = _pick(shot.take, clip)

    def approve_all(self) -> None:
        for shot in self.film.shots:
            if shot.gate is not None:
                self.pick(shot)
        self.merged = dict(self.picked)

    async def peace(self) -> None:
        """No fault any more: whatever happened before, a few runs and a person bring every shot home."""
        await asyncio.sleep(self.rng.choice((0.0, 200.0, 3600.0, 19.99 * 3600, 21 * 3600.0, 30 * 3600.0)))
        self.calm = True
        await asyncio.sleep(120)  # what is still at the door of a provider goes in
        hopeless = {shot.id for shot in self.film.shots if "moderated" in self.fortune[shot.prompt]}
        waiting = set(hopeless)
        for _ in self.film.shots:
            waiting |= {shot.id for shot in self.film.shots if waiting & {*shot.needs()}}
        for _ in range(16 if self.gated else 12):
            self.approve_all()
            outcomes = await self.run_once()
            if outcomes is None:
                return
            await asyncio.sleep(150)
            bad = [o for o in outcomes if not o.good]
            if all(
                (o.shot in hopeless and o.result is Result.FAILED)
                or o.because in hopeless
                or (o.result is Result.WAITING and o.shot in waiting)
                for o in bad
            ):
                break
            self.settle()
            await asyncio.sleep(self.rng.uniform(0, 4000))
        else:
            self.violate(f"it never ends well: {[(o.shot, o.result, o.failure) for o in bad]}")
        if self.seen["re-rolled"]:
            self.settle()  # the take that counts no more may be in doubt still, and no run asks
        self._check_end(outcomes)

    def settle(self) -> None:
        """A person looks at each order in doubt, and says what the provider's console says."""
        for job in list(ledger.jobs(self.store)):
            if job.state is not State.INTENDED:
                continue
            open_tasks = [t.id for t in self.billed if t.key == job.key and t.id not in self.on_record()]
            at_ms = self.now_ms()
            record: Record
            if open_tasks:
                record = job.next(Kind.ACCEPTED, at_ms, {"task": open_tasks[0], "by": "person"})
            else:
                record = job.next(Kind.ABANDONED, at_ms, {"by": "sim", "why": "not bought"})
            self.note(None, f"a person says {record.name} {record.detail}")
            ledger.write(self.store, record)

    def _check_end(self, outcomes: tuple[Outcome, ...]) -> None:
        lost = {task.id for task in self.billed} - self.on_record()
        if lost:
            self.violate(f"paid, and nowhere on record: {sorted(lost)}")
        keys = {o.key for o in outcomes if o.good}
        again = self.seen["re-rolled"]  # then the clips of takes that count no more were bought, too
        bought = [task for task in self.billed if task.ends == "ok" and (not again or task.key in keys)]
        if len(bought) != len(keys):
            self.violate(f"{len(bought)} clips were bought for {len(keys)} orders")
        for outcome in outcomes:
            if outcome.clip is None:
                continue
            task = next(t for t in self.billed if t.id == outcome.clip.task)
            shot = self.film.shot(outcome.shot)
            if (task.prompt, task.key) != (shot.prompt, outcome.key) or outcome.clip.facts.digest != _sha(
                clip_of(task)
            ):
                self.violate(f"{outcome.shot} has the clip of {task.id}")


class Publisher:
    where = "memory"

    def __init__(self, world: World) -> None:
        self._world = world

    def put(self, digest: Digest, data: bytes, suffix: str) -> str:
        """Signed anew each time, as object storage does: the same frame has another URL with every order."""
        url = f"https://frames.test/{digest}{suffix}?signed={len(self._world.frames)}"
        self._world.frames[url] = data
        return url


class Stills:
    def read_image(self, path: str) -> tuple[bytes, str]:
        return STILL, "PNG"

    def read_video(self, path: str) -> bytes:
        raise AssertionError("no shot has one")


async def _no_still(url: str) -> tuple[bytes, str]:
    raise AssertionError("no shot has one")


# -- films -----------------------------------------------------------------------------------------------------------

_STILL = FileStill("still.png")
SHAPES: Mapping[str, tuple[tuple[str, str, Frame | None, Frame | None], ...]] = {
    # (id, prompt, first frame, last frame)
    "one": (("a", "a", None, None),),
    "chain": (
        ("a", "a", _STILL, None),
        ("b", "b", ShotFrame(ShotId("a")), None),
        ("c", "c", ShotFrame(ShotId("b")), None),
    ),
    "fork": (
        ("a", "a", None, None),
        ("b", "b", ShotFrame(ShotId("a")), None),
        ("c", "c", ShotFrame(ShotId("a")), _STILL),
    ),
    "loop": (
        ("a", "a", None, None),
        ("b", "b", ShotFrame(ShotId("a"), "-3"), ShotFrame(ShotId("a"), "first")),
    ),
    "twins": (("a", "a", None, None), ("b", "a", None, None), ("c", "c", ShotFrame(ShotId("b")), None)),
    "side by side": tuple((name, name, None, None) for name in "abcde"),
}
INPUTS = Inputs(
    stills={
        "still.png": ImageFacts(
            digest=Digest(hashlib.sha256(STILL).hexdigest()), format="PNG", width=8, height=8, bytes=9
        )
    },
    clips={},
)


class NoClips:
    """No clip is at hand: every shot is to be made."""

    def holds(self, record: ClipRecord) -> bool:
        raise AssertionError("no step names a clip")

    def locked(self, key: Key) -> ClipRecord | None:
        return None

    def own(self, shot: Shot, key: Key) -> ClipRecord:
        raise AssertionError("no shot has a clip of its own")


class StoredClips(NoClips):
    """Clips that the plan has found in the store."""

    def __init__(self, store: Memory) -> None:
        self._store = store

    def holds(self, record: ClipRecord) -> bool:
        return self._store.holds(record.facts.digest)


class NoNotes:
    """No second witness: the ledger alone must do."""

    def add(self, note: TaskNote) -> None: ...

    def find(self, key: Key) -> TaskNote | None:
        return None


@cache
def film(shape: str, provider: str) -> Film:
    names = ("hiapi", "mulerouter") if provider == "mixed" else (provider, provider)
    shots = tuple(
        Shot(
            id=ShotId(name),
            index=index,
            prompt=prompt,
            first_frame=first,
            last_frame=last,
            provider=names[0 if prompt == "a" else index % 2],
        )
        for index, (name, prompt, first, last) in enumerate(SHAPES[shape])
    )
    span = Span("film.yaml", 1, 1, 1, 2)
    return Film(
        name=shape,
        matrix={},
        title=shape,
        shots=shots,
        cut=tuple(Cut(shot.id) for shot in shots),
        where=lambda shot, name: span,
    )


def plan_of(of: Film, *, orders: bool) -> FilmPlan:
    steps = tuple(
        Step(
            shot=shot.id,
            take=1,
            is_active_take=True,
            action=Action.MAKE if orders else Action.RESUME,
            reason="new shot",
            key=None,
            needs=shot.needs(),
            provider=shot.provider,
            model="kling-3.0-omni",
            seconds=shot.duration if orders else 0,
            price=PRICE if orders else Decimal(0),
        )
        for shot in of.shots
    )
    return FilmPlan(name=of.name, variant="", title=of.title, steps=steps)


# -- running it ------------------------------------------------------------------------------------------------------


def simulate(seed: int, folder: Path, sins: Sins = Sins(), *, tracing: bool = False) -> World:
    """Runs the schedule of a seed from storm to peace. The world that is left tells what was violated."""
    world = World(seed, folder, sins, tracing=tracing)

    async def all_of_it() -> None:
        await world.storm()
        await world.peace()

    try:
        run_virtually(all_of_it)
    except (Hang, AssertionError) as bad:
        world.violations.append(f"{type(bad).__name__}: {bad}")
    return world


def quiet(folder: Path, shape: str = "one", provider: str = "hiapi") -> World:
    """A world in which nothing goes wrong but what a test asks for."""
    world = World(0, folder)
    world.film, world.calm, world.slow_calls, world.skewed = film(shape, provider), True, 0.0, False
    world.fortune = {}
    return world


def _factory(loop: asyncio.AbstractEventLoop, coro: Any, **rest: Any) -> asyncio.Task[Any]:
    task = asyncio.Task(coro, loop=loop, **rest)
    runner = RUNNER.get()
    if runner is not None:
        runner.tasks.append(task)
        if runner.dead:
            task.cancel()
    return task


def replay(seed: int, sins: Sins = Sins()) -> str:
    """What a seed's schedule did, as text."""
    with tempfile.TemporaryDirectory(prefix="klingflow-sim-") as folder:
        world = simulate(seed, Path(folder), sins, tracing=True)
    head = [f"seed {seed}: {world.film.name}, {world.provider}, fortune {world.fortune}"]
    return "\n".join([*head, *(world.trace or []), *(f"VIOLATION {what}" for what in world.violations)])


def _pick(take: int, clip: Digest) -> Pick:
    return Pick(take=take, clip=clip, by="sim", date="2026-11-27")


def _json(status: int, body: object, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status=status, headers=headers or {}, body=json.dumps(body).encode())


def _sha(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def _token(request: Request) -> str:
    return request.headers.get("Idempotency-Key", "")[-8:] or request.path.split("/")[-2]


if __name__ == "__main__":
    for text in sys.argv[1:]:
        print(replay(int(text)))
