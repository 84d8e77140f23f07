"""The images that go into a request: frames cut from clips of the store, stills of the project or at a URL, made to fit
the provider, and published or put inline as it takes them. Sends no paid request."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from klingflow.core.errors import KlingflowError, MediaError, StoreError
from klingflow.core.model import ClipFacts, Digest, FileStill, FileVideo, Frame, ShotFrame, ShotVideo, UrlStill
from klingflow.core.redact import redact
from klingflow.execution.offload import Offload
from klingflow.execution.order import Order
from klingflow.execution.seller import Seller
from klingflow.execution.uploads import Uploads
from klingflow.io import shrink
from klingflow.io.publish import Publisher
from klingflow.io.store import Store
from klingflow.providers.base import Images as Way
from klingflow.providers.base import Provider
from klingflow.providers.images import image_bytes, other_format, too_large


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The images of one request, by role (first_frame, images.0, …)."""

    texts: dict[str, str] = field(default_factory=dict)
    """What stands for each image in the request: a URL, a data URI, Base64, or the digest of a blob."""
    digests: dict[str, Digest] = field(default_factory=dict)
    """The bytes that really went in, where they are known."""
    published: set[str] = field(default_factory=set)
    """Those of `texts` that are URLs at which klingflow itself publishes the image."""


class Media(Protocol):
    """What is asked of media files (io.media; a fake in the simulation)."""

    def check(self, path: Path, digest: Digest, seconds: int | None) -> ClipFacts:
        """Facts of a clip that is whole, decodes, and is about as long as ordered (None: no length was). Raises
        MediaError."""
        ...

    def cut(self, clip: Path, frame: str, to: Path) -> None: ...

    def end(self, clip: Path, seconds: int, to: Path) -> None:
        """Writes the last seconds of a clip as MP4. Raises MediaError."""
        ...


class Stills(Protocol):
    """Where the bytes of a project's image come from (io.files)."""

    def read_image(self, path: str) -> tuple[bytes, str]:
        """The bytes and the format by content (PNG, JPEG, WEBP). Raises KlingflowError."""
        ...

    def read_video(self, path: str) -> bytes:
        """Raises KlingflowError."""
        ...


class InputImages:
    """Prepares the images of all orders of one run; a frame is cut once, however many shots begin with it."""

    def __init__(
        self,
        *,
        store: Store,
        media: Media,
        stills: Stills,
        fetch_still: Callable[[str], Awaitable[tuple[bytes, str]]],
        publisher: Publisher | None,
        shrinks: shrink.How | None,
        scratch: Path,
        store_calls: Offload,
        media_calls: Offload,
    ) -> None:
        self._store = store
        self._media = media
        self._stills = stills
        self._fetch_still = fetch_still
        self._publisher = publisher
        self._shrinks = shrinks
        self._scratch = scratch
        self._store_calls = store_calls
        self._media_calls = media_calls
        self._uploads = Uploads()
        self._frames: dict[tuple[Digest, str], asyncio.Task[Digest]] = {}
        self._count = itertools.count()

    async def prepare(self, order: Order, seller: Seller) -> Images:
        """Raises KlingflowError where an image cannot be had, or does not fit; StoreError where the disk fails."""
        try:
            return await self._prepare(order, seller)
        except OSError as bad:
            what = f"an image for shot '{order.shot.id}' cannot be read or written: {bad.strerror or bad}"
            mend = "look after the disk and the room on it, then run again; nothing was ordered"
            raise StoreError(what, mend) from bad

    async def _prepare(self, order: Order, seller: Seller) -> Images:
        out = Images()
        provider = seller.provider
        way = provider.images(seller.settings, self._publisher is not None)
        for role, frame in order.shot.frames():
            if isinstance(frame, UrlStill) and way != "blob":
                out.texts[role] = frame.url  # the provider fetches it itself
                if frame.digest:
                    out.digests[role] = frame.digest
                continue
            data, form = await self._bytes(order, frame)
            if way != "blob":
                most = image_bytes(provider.caps, way)
                data, form = await self._fitting(role, data, form, most, provider)
            digest = await self._media_calls(_sha256, data)
            out.digests[role] = digest
            out.texts[role] = await self._as_sent(way, seller, digest, data, form)
            if way == "url":
                out.published.add(out.texts[role])
        for i, video in enumerate(order.shot.videos):
            role = f"videos.{i}"
            if isinstance(video, UrlStill):
                out.texts[role] = video.url
                if video.digest:
                    out.digests[role] = video.digest
            elif way != "blob":
                out.digests[role], out.texts[role] = await self._video(order, video)
                out.published.add(out.texts[role])
        return out

    async def _video(self, order: Order, video: FileVideo | ShotVideo) -> tuple[Digest, str]:
        """The digest of a reference video, and the URL under which it is published: inside the request it would be far
        too large."""
        if self._publisher is None:
            raise KlingflowError("a reference video goes by URL alone", "set `publish` in klingflow.yaml")
        suffix = ".mp4"
        match video:
            case FileVideo(path):
                data = await self._store_calls(self._stills.read_video, path)
                digest, suffix = order.stills[path], ".mov" if path.lower().endswith(".mov") else ".mp4"
                if await self._media_calls(_sha256, data) != digest:
                    raise KlingflowError(f"{path} changed while the run was going on", "run again")
            case ShotVideo(shot, last_s):
                clip = order.clips[shot]
                digest = clip if last_s is None else await self._once((clip, f"end {last_s}"), self._end(clip, last_s))
                data = await self._store_calls(lambda: self._store.blob(digest).read_bytes())
        return digest, await self._store_calls(self._publisher.put, digest, data, suffix)

    async def _end(self, clip: Digest, seconds: int) -> Digest:
        path = self._temp("end.mp4")
        try:
            blob = await self._store_calls(self._store.blob, clip)
            await self._media_calls(self._media.end, blob, seconds, path)
            return await self._store_calls(self._store.put, path, move=True)
        finally:
            path.unlink(missing_ok=True)

    async def frame(self, clip: Digest, name: str) -> Digest:
        """The digest of a frame's PNG, cut once from a clip of the store and kept there."""
        return await self._once((clip, name), self._cut(clip, name))

    async def _once(self, what: tuple[Digest, str], make: Coroutine[object, object, Digest]) -> Digest:
        """What is made of a clip, made by the first who asks for it."""
        task = self._frames.get(what)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._frames[what] = asyncio.create_task(make)
        else:
            make.close()
        return await asyncio.shield(task)

    async def _bytes(self, order: Order, frame: Frame) -> tuple[bytes, str]:
        match frame:
            case ShotFrame(shot, name):
                digest = await self.frame(order.clips[shot], name)
                return await self._store_calls(lambda: self._store.blob(digest).read_bytes()), "PNG"
            case FileStill(path):
                data, form = await self._store_calls(self._stills.read_image, path)
                if await self._media_calls(_sha256, data) != order.stills[path]:
                    raise KlingflowError(f"{path} changed while the run was going on", "run again")
                return data, form
            case UrlStill(url, pinned):
                data, form = await self._fetch_still(url)
                if pinned and await self._media_calls(_sha256, data) != pinned:
                    what = f"{redact(url)} is not the image that the storyboard pins"
                    raise KlingflowError(what, "update its sha256")
                return data, form

    async def _fitting(self, role: str, data: bytes, form: str, most: int, provider: Provider) -> tuple[bytes, str]:
        """The image as the provider takes it: itself, or a smaller copy where the project asks for one."""
        if self._shrinks is None:
            if len(data) > most:
                what, mend = too_large(len(data), most)
            elif form not in provider.caps.image_formats:
                what, mend = other_format(form, provider.caps)
            else:
                return data, form
            raise KlingflowError(f"{role} for {provider.name}: {what}", mend)
        try:
            return await self._media_calls(
                shrink.smaller, data, form, most, provider.caps.image_formats, self._shrinks
            )
        except MediaError as bad:
            raise KlingflowError(f"{role} for {provider.name}: {bad.what}", bad.mend) from bad

    async def _as_sent(self, way: Way, seller: Seller, digest: Digest, data: bytes, form: str) -> str:
        match way:
            case "blob":
                await self._put(data)
                return digest
            case "base64":
                return base64.b64encode(data).decode("ascii")
            case "data-uri":
                return f"data:image/{form.lower()};base64,{base64.b64encode(data).decode('ascii')}"
            case "url":
                if self._publisher is None:
                    raise KlingflowError("an image goes by public URL, and this project publishes nowhere")
                extension = {"JPEG": ".jpg"}.get(form, f".{form.lower()}")
                return await self._store_calls(self._publisher.put, digest, data, extension)
            case "upload":
                return await self._uploads.text(seller, digest, data, form)

    async def _put(self, data: bytes) -> Digest:
        path = self._temp("still.part")
        try:
            await self._store_calls(path.write_bytes, data)
            return await self._store_calls(self._store.put, path, move=True)
        finally:
            path.unlink(missing_ok=True)

    async def _cut(self, clip: Digest, name: str) -> Digest:
        path = self._temp("frame.png")
        try:
            blob = await self._store_calls(self._store.blob, clip)
            await self._media_calls(self._media.cut, blob, name, path)
            return await self._store_calls(self._store.put, path, move=True)
        except MediaError as bad:
            raise MediaError(bad.what.replace(blob.name, "the clip that its frame is cut from"), bad.mend) from bad
        finally:
            path.unlink(missing_ok=True)

    def _temp(self, name: str) -> Path:
        return self._scratch / f"{next(self._count)}-{name}"


def _sha256(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())
