"""The picture of a film in parts: each encoded on its own, several side by side, kept by what it shows, and joined by
its packets without another encode. The sound is done alike by output.sound.

Parts of one `Form` are closed: each begins with a key frame and needs nothing of another one. Kept parts lie in the
user's cache; they may vanish at any time, and one that is damaged is encoded again. Everything here blocks.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.container.output import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame

import klingflow
from klingflow.core.digest import canonical
from klingflow.core.errors import MediaError
from klingflow.io import media

RECIPE = 1
"""Raised when what is kept would be shown, heard or encoded otherwise by one version of klingflow."""
CRF = "18"
THREADS = "2"
"""x264's bytes depend on the number of threads, not on the machine: fixed, so that a film is the same everywhere. Two:
one long clip keeps two cores busy, and parts side by side do not wait for each other."""
MOST_WORKERS = 8
"""Parts that are encoded at one time at most: each needs some 100 MB for 4K."""
KEPT_BYTES = 4 << 30
"""Of kept parts; beyond it those go that were not used for longest. An hour of film in 1080p is some 6 GB."""
TICK_S = 0.1
"""How often progress is reported while parts are encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How the picture of a film is encoded."""

    size: tuple[int, int]
    rate: Fraction
    preset: str
    """x264's."""

    def name(self, what: object) -> str:
        """The file name of a part that shows `what` (JSON)."""
        how = [self.preset, CRF, THREADS]
        return kept_name({"shown": what, "size": list(self.size), "rate": str(self.rate), "how": how}, "mp4")


def kept_name(what: object, suffix: str) -> str:
    """The name of the file that keeps what is made of `what` (JSON) by this klingflow and these libraries."""
    libraries = {name: list(version) for name, version in av.library_versions.items()}
    made = {"recipe": [klingflow.__version__, RECIPE], "what": what, "libraries": libraries}
    return f"{hashlib.sha256(canonical(made)).hexdigest()}.{suffix}"


Task = Callable[[], None]


class Stopped(Exception):
    """The work was given up because something else failed, or was interrupted."""


class Work:
    """Tasks side by side, with one count of the frames that they have done."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._done = 0
        self._lock = threading.Lock()

    def count(self) -> None:
        """One frame is done. Raises Stopped where the work is given up."""
        if self.stop.is_set():
            raise Stopped
        with self._lock:
            self._done += 1

    def run(self, tasks: Iterable[Task], progress: Callable[[int], None]) -> None:
        """Does all tasks, and reports the frames that are done. What one of them or `progress` raises ends them all."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with ThreadPoolExecutor(min(cores, MOST_WORKERS), thread_name_prefix="film") as pool:
            pending = {pool.submit(task) for task in tasks}
            try:
                while pending:
                    done, pending = wait(pending, timeout=TICK_S, return_when=FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                    progress(self._done)
            except BaseException:
                self.stop.set()
                for future in pending:
                    future.cancel()
                raise


def encode(frames: Iterable[VideoFrame], to: Path, form: Form, work: Work) -> None:
    """Writes frames of the film's size, in yuv420p, BT.709, as one part. The file appears whole or not at all."""
    with (
        _appearing(to) as part,
        av.open(f"file:{part}", "w", format="mp4", options={"fflags": "bitexact"}) as container,
    ):
        video = container.add_stream("libx264", rate=form.rate)
        video.width, video.height, video.pix_fmt = *form.size, "yuv420p"
        context = video.codec_context
        context.time_base = 1 / form.rate
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        context.options = {"preset": form.preset, "crf": CRF, "threads": THREADS}
        for n, frame in enumerate(frames):
            frame.pts, frame.time_base, frame.duration = n, 1 / form.rate, 1
            # The source's own choice of picture type would force the encoder's.
            frame.pict_type = 0
            container.mux(video.encode(frame))
            work.count()
        container.mux(video.encode(None))


def write_kept(to: Path, data: bytes) -> None:
    """Writes a small file of the cache, which appears whole or not at all."""
    with _appearing(to) as part:
        part.write_bytes(hashlib.sha256(data).digest() + data)


def read_kept(file: Path) -> bytes | None:
    """What `write_kept` wrote; None where it is not there, or is damaged. It counts as used now."""
    try:
        seal, data = (whole := file.read_bytes())[:32], whole[32:]
        if hashlib.sha256(data).digest() != seal:
            return None
        os.utime(file)
    except OSError:
        return None
    return data


@contextmanager
def _appearing(to: Path) -> Iterator[Path]:
    part = to.with_name(f"{to.name}.{os.urandom(6).hex()}")
    try:
        yield part
        os.replace(part, to)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def kept_order(file: Path, frames: int) -> list[int] | None:
    """The `order` of a part that is there, whole; None of another. It counts as used now."""
    try:
        found = order(file) if file.exists() else []
        if len(found) == frames:
            os.utime(file)
            return found
    except (OSError, MediaError):
        pass
    return None


def is_writable(folder: Path) -> bool:
    """Whether parts can be kept in a folder, which is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def tidy(folder: Path, most: int = KEPT_BYTES) -> None:
    """Removes the parts that were not used for longest, where all of them are too many bytes. Fails in silence."""
    with suppress(OSError), os.scandir(folder) as entries:
        files = sorted(((e.stat().st_mtime_ns, e.stat().st_size, e.path) for e in entries), reverse=True)
        total = 0
        for _, size, path in files:
            total += size
            if total > most:
                os.unlink(path)


Heard: TypeAlias = "Iterator[tuple[Fraction, Packet[Any]]]"


def join(
    parts: Sequence[Path],
    orders: Mapping[Path, Sequence[int]],
    rate: Fraction,
    sound: Callable[[OutputContainer], Heard] | None,
    to: Path,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Writes the film: the packets of every part, of which `order` is given, and those of the sound beside them.
    `sound` adds its track to the film and gives the packets, each with the seconds at which it is heard. `tags` are
    what players show of it (title, comment)."""
    # A packet is decoded before it is shown, in all parts by as many frames as in the one that needs most.
    delay = max(n - shown for order in orders.values() for n, shown in enumerate(order))
    with av.open(f"file:{to}", "w", format="mp4", options={"movflags": "faststart", "fflags": "bitexact"}) as film:
        film.metadata.update(tags or {})
        with media.opened(parts[0]) as (_, first):
            video = film.add_stream_from_template(first)
        video.time_base = 1 / rate
        heard = sound(film) if sound is not None else iter(())
        following = next(heard, None)
        start = 0
        for part in parts:
            with media.opened(part, probed=False) as (container, stream):
                packets = (packet for packet in container.demux(stream) if packet.size)
                for n, (packet, shown) in enumerate(zip(packets, orders[part], strict=True)):
                    packet.time_base = 1 / rate
                    packet.pts, packet.dts, packet.duration = start + shown, start + n - delay, 1
                    packet.stream = video
                    while following is not None and following[0] <= (start + n) / rate:
                        film.mux(following[1])
                        following = next(heard, None)
                    film.mux(packet)
            start += len(orders[part])
        while following is not None:
            film.mux(following[1])
            following = next(heard, None)


def closed_order(file: Path) -> list[int] | None:
    """The `order` of an H.264 clip whose packets can stand between those of others of the same header; None of another:
    the first one has to be an IDR picture, at which a decoder forgets what was before, and none may change the header
    for what follows. A clip that was cut without an encode often begins with a key frame that is no IDR picture."""
    with media.opened(file, probed=False) as (container, video):
        header = bytes(video.codec_context.extradata or b"")
        if len(header) < 5 or header[0] != 1 or len(container.streams.video) > 1:
            return None
        shown: list[int | None] = []
        for packet in container.demux(video):
            if packet.size:
                kinds = list(_units(bytes(packet), (header[4] & 3) + 1))
                if not shown and next((kind for kind in kinds if kind in _SLICES), None) != _IDR:
                    return None
                if any(kind in _PARAMETER_SETS for kind in kinds):
                    return None
                shown.append(packet.pts)
    return _places(shown)


_SLICES = frozenset({1, 2, 3, 4, 5})
_IDR = 5
_PARAMETER_SETS = frozenset({7, 8, 13, 15})
"""Kinds of NAL units in H.264, table 7-1."""


def _units(packet: bytes, width: int) -> Iterator[int]:
    """The kind of each NAL unit of a packet, before each of which `width` bytes give its length."""
    at = 0
    while at + width < len(packet):
        yield packet[at + width] & 31
        at += width + int.from_bytes(packet[at : at + width])


def order(file: Path) -> list[int]:
    """For each packet of a part, in the order in which they are decoded, which frame it shows."""
    with media.opened(file, probed=False) as (container, video):
        return _places([packet.pts for packet in container.demux(video) if packet.size])


def _places(shown: Sequence[int | None]) -> list[int]:
    place = {pts: n for n, pts in enumerate(sorted(pts for pts in shown if pts is not None))}
    return [place[pts] for pts in shown if pts is not None]
