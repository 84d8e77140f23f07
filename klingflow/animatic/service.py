"""The animatic as a service (io.service): takes orders, draws their clips in threads, hands them over.

Work is done in threads, because Pillow and x264 let go of the interpreter while they compute (two threads drew two
clips in the time of one on two cores): they start at once and share no state. Each has a second one, which encodes.
Tasks live in memory alone: one of an earlier process is answered with 404, and the engine orders it again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import shutil
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from klingflow.core.errors import MediaError
from klingflow.core.model import Digest
from klingflow.io.service import Gone
from klingflow.providers.animatic import CLIPS
from klingflow.providers.base import Answer, Request

if TYPE_CHECKING:
    from klingflow.animatic import renderer

LONG_POLL_S = 1.0


class Stopped(Exception):
    """The service was closed while this clip was being drawn."""


@dataclass(slots=True)
class _Task:
    clip: Path
    frames: int
    drawn: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    future: Future[Digest] = field(init=False)


class AnimaticService:
    """`blob` finds the file of a still by its digest; clips are drawn into `folder`, and gone from it after `close`."""

    def __init__(self, blob: Callable[[str], Path], folder: Path, workers: int | None = None) -> None:
        self._blob = blob
        self._folder = folder
        self._threads = ThreadPoolExecutor(workers or os.cpu_count() or 2, thread_name_prefix="animatic")
        self._stop = Event()
        self._tasks: dict[str, _Task] = {}

    async def send(
        self,
        request: Request,
        *,
        paid: bool = False,
        before: float = math.inf,
        wanted: Callable[[], Awaitable[bool]] | None = None,
    ) -> Answer:
        """POST begins to draw and answers at once; GET answers when the clip is finished, or after a second."""
        if request.method == "POST" and request.path == CLIPS:
            return self._begin(request.body or b"")
        if request.method == "GET" and request.path.startswith(f"{CLIPS}/"):
            return await self._tell(request.path.removeprefix(f"{CLIPS}/"))
        return _answer(404, message=f"the animatic has no {request.method} {request.path}")

    async def fetch(self, url: str, to: Path, progress: Callable[[int, int | None], None]) -> Digest:
        clip = Path(url.removeprefix("file:"))
        task = self._tasks.get(clip.stem)
        if task is None or task.clip != clip or not task.future.done():
            raise Gone("that clip was not drawn here")
        digest = task.future.result()
        try:
            size = clip.stat().st_size
            await asyncio.to_thread(_link, clip, to)
        except FileNotFoundError as exc:
            # Somebody tidied the folder: forget the task, so that it is ordered and drawn again.
            del self._tasks[clip.stem]
            raise Gone("the clip is no longer here") from exc
        progress(size, size)
        return digest

    def share(self, runners: int) -> None:
        """Nothing is shared: each machine draws for itself."""

    def owns(self, url: str) -> bool:
        return False

    async def close(self) -> None:
        """Stops drawing within a frame and takes unfetched clips away. Must be called before the process ends."""
        self._stop.set()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        for task in self._tasks.values():
            task.clip.unlink(missing_ok=True)
        self._tasks.clear()

    def _begin(self, body: bytes) -> Answer:
        from klingflow.animatic import renderer  # loads the media library; most paid runs draw nothing

        try:
            order = renderer.RenderRequest.read(body)
        except (ValueError, KeyError, TypeError) as exc:
            return _answer(400, message=f"not an order for a clip: {exc}")
        if order.task not in self._tasks:
            self._folder.mkdir(parents=True, exist_ok=True)
            task = _Task(self._folder / f"{order.task}.mp4", order.seconds * renderer.RATE)
            loop = asyncio.get_running_loop()
            task.future = self._threads.submit(self._draw, order, task)
            task.future.add_done_callback(lambda _: loop.call_soon_threadsafe(task.ended.set))
            self._tasks[order.task] = task
        return _answer(200, task=order.task)

    async def _tell(self, name: str) -> Answer:
        task = self._tasks.get(name)
        if task is None:
            return _answer(404, message="no such task")
        try:
            await asyncio.wait_for(task.ended.wait(), LONG_POLL_S)
        except TimeoutError:
            return _answer(200, state="rendering", progress=round(task.drawn / task.frames, 3))
        try:
            task.future.result()
        except MediaError as exc:
            return _answer(200, state="failed", message=exc.what)
        except OSError as exc:
            return _answer(200, state="failed", message=f"the clip could not be written: {exc.strerror or exc}")
        return _answer(200, state="done", url=f"file:{task.clip}")

    def _draw(self, order: renderer.RenderRequest, task: _Task) -> Digest:
        def drawn() -> None:
            task.drawn += 1
            if self._stop.is_set():
                raise Stopped

        from klingflow.animatic import renderer

        part = task.clip.with_suffix(".part")
        try:
            renderer.render(order, self._blob, part, drawn)
            with part.open("rb") as file:
                digest = Digest(hashlib.file_digest(file, "sha256").hexdigest())
            os.replace(part, task.clip)
        finally:
            part.unlink(missing_ok=True)
        return digest


def _link(clip: Path, to: Path) -> None:
    to.unlink(missing_ok=True)
    try:
        os.link(clip, to)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(clip, to)


def _answer(status: int, **said: object) -> Answer:
    return Answer(status=status, headers={"content-type": "application/json"}, body=json.dumps(said).encode())
