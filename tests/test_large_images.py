"""What an order with a large image inside holds in memory: while it is sent, while its clip is made, and at most."""

from __future__ import annotations

import hashlib
import math
import random
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from klingflow.core.model import ClipFacts, Cut, Digest, FileStill, Film, Key, Shot, ShotId
from klingflow.core.source import Span
from klingflow.execution.account import account
from klingflow.execution.budget import Budget
from klingflow.execution.buyer import Buyer
from klingflow.execution.host import this
from klingflow.execution.inputs import InputImages
from klingflow.execution.order import Bought, Order
from klingflow.execution.outcome import Result
from klingflow.execution.seller import Seller
from klingflow.io.store import FolderStore
from klingflow.planning.price import Limits
from klingflow.providers import PROVIDERS
from klingflow.providers.base import Answer, Request, Settings
from tests.simulation import NoNotes, run_virtually

IMAGE = random.Random(1).randbytes(3 * 2**20)
TEXT = 4 * 2**20
"""The image as Base64."""
DIGEST = Digest(hashlib.sha256(IMAGE).hexdigest())
CLIP = b"a clip"


@dataclass
class Wire:
    """MuleRouter, as far as one purchase needs it; notes what is held when an order arrives and when it is asked
    after."""

    sending: int = 0
    waiting: int = 0
    bodies: list[int] = field(default_factory=list)

    async def send(
        self,
        request: Request,
        *,
        paid: bool = False,
        before: float = math.inf,
        wanted: Callable[[], Awaitable[bool]] | None = None,
    ) -> Answer:
        if paid:
            assert wanted is not None
            assert await wanted()
            self.bodies.append(len(request.body or b""))
            self.sending = tracemalloc.get_traced_memory()[0]
            return Answer(status=202, body=b'{"task_info": {"id": "task-1", "status": "pending"}}')
        self.waiting = tracemalloc.get_traced_memory()[0]
        return Answer(
            status=200, body=b'{"task_info": {"id": "task-1", "status": "completed"}, "videos": ["https://cdn.test/1"]}'
        )

    async def fetch(self, url: str, to: Path, progress: Callable[[int, int | None], None]) -> Digest:
        to.write_bytes(CLIP)
        return Digest(hashlib.sha256(CLIP).hexdigest())

    async def close(self) -> None: ...


class Media:
    def check(self, path: Path, digest: Digest, seconds: int) -> ClipFacts:
        return ClipFacts(
            digest=digest, bytes=len(CLIP), width=8, height=8, frames=72, duration="3.000", rate="24", audio=False
        )

    def cut(self, clip: Path, frame: str, to: Path) -> None:
        raise AssertionError


class Stills:
    def read_image(self, path: str) -> tuple[bytes, str]:
        return bytes(bytearray(IMAGE)), "PNG"  # read anew, as from a disk


async def at_once(call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return call(*args, **kwargs)


async def no_still(url: str) -> tuple[bytes, str]:
    raise AssertionError(url)


async def buy(wire: Wire, folder: Path) -> Bought:
    provider = PROVIDERS["mulerouter"]
    rng = random.Random(1)
    seller = Seller(provider, wire, Settings(), account("https://mulerouter.test", "k"), rng, images_by="")
    store = FolderStore(folder / "store")
    media = Media()
    inputs = InputImages(
        store=store,
        media=media,
        stills=Stills(),
        fetch_still=no_still,
        publisher=None,
        shrinks=None,
        scratch=folder,
        store_calls=at_once,
        media_calls=at_once,
    )
    buyer = Buyer(
        store=store,
        sellers={provider.name: seller},
        inputs=inputs,
        media=media,
        notes=NoNotes(),
        budget=Budget(Limits(spend=None, seconds=None, tasks=None)),
        storyboard="film.yaml",
        shown="film.yaml",
        scratch=folder,
        host=this(),
        now_ms=lambda: 1_790_000_000_000,
        emit=lambda event: None,
        rng=rng,
        store_calls=at_once,
        media_calls=at_once,
        tasks={},
    )
    return await buyer.obtain(_order())


def _order() -> Order:
    shot = Shot(
        id=ShotId("dawn"), index=0, prompt="dawn", first_frame=FileStill("dawn.png"), provider="mulerouter", duration=3
    )
    span = Span("film.yaml", 1, 1, 1, "")
    film = Film(name="film", matrix={}, title="", shots=(shot,), cut=(Cut(shot.id),), where=lambda shot, name: span)
    return Order(
        film=film,
        shot=shot,
        key=Key("0" * 64),
        parts={},
        clips={},
        stills={"dawn.png": DIGEST},
        provider="mulerouter",
        model="kling-v3-omni",
        price=Decimal("0.30"),
        expected_s=60.0,
        priority=1.0,
        may_order=True,
    )


@pytest.fixture
def bought(tmp_path: Path) -> tuple[Wire, int]:
    """One purchase: what was held on its way, and the most of it."""
    wire = Wire()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        ended = run_virtually(lambda: buy(wire, tmp_path))
        most = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert ended.result is Result.MADE, ended
    assert wire.bodies[0] > TEXT
    return Wire(wire.sending - before, wire.waiting - before), most


def test_an_order_holds_its_image_once_while_it_is_sent_and_not_at_all_while_it_is_made(
    bought: tuple[Wire, int],
) -> None:
    held, most = bought
    print(f"\nsending {held.sending / TEXT:.2f}, waiting {held.waiting / TEXT:.2f}, most {most / TEXT:.2f}")
    assert held.sending < 1.5 * TEXT
    assert held.waiting < 0.5 * TEXT
    assert most < 4.5 * TEXT, "the intent, which holds the request as Base64 again, is put together once"
