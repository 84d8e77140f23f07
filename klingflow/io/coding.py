"""What a body's bytes lie under: compression or framing, judged by the bytes, for headers are often wrong.

Object stores keep the uploader's Content-Encoding (`aws-chunked`, `binary`, `utf-8`) on bytes that are plain, and some
servers compress what nobody asked them to. gzip is known by its first bytes whatever the header says, since no clip and
no image begins so, and likewise the signed frames of aws-chunked; deflate and unsigned frames only where the header
names them and the bytes agree.
Everything else is taken as it is.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Protocol

PIECE = 1 << 20
"""Bytes that are unpacked at a time, so that a small body cannot fill the memory."""
_HEAD = 128
"""Bytes by which a layer is known."""
_LAYERS = 4
_GZIP = b"\x1f\x8b\x08"
_FRAME = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;chunk-signature=[0-9a-f]{1,128})?\r\n")


class Unreadable(Exception):
    """The bytes begin as a coding that they do not keep to, or end in the middle of it."""


class Unpacker:
    """Takes a body piece by piece and gives what is in it. `header` is its Content-Encoding, empty without one."""

    def __init__(self, header: str = "") -> None:
        named = {token.strip().lower() for token in header.split(",")}
        layers = min(_LAYERS, max(1, len(header.split(","))))
        self._layers = [_Layer(deflate="deflate" in named, frames="aws-chunked" in named) for _ in range(layers)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` adds, in pieces of at most PIECE bytes. Raises Unreadable."""
        yield from self._through(data, 0)

    def end(self) -> Iterator[bytes]:
        """What is left when the body has ended. Raises Unreadable where it ended too early."""
        for at, layer in enumerate(self._layers):
            for piece in layer.end():
                yield from self._through(piece, at + 1)

    def _through(self, data: bytes, at: int) -> Iterator[bytes]:
        if at == len(self._layers):
            yield data
            return
        for piece in self._layers[at].feed(data):
            yield from self._through(piece, at + 1)


class _Coding(Protocol):
    done: bool

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class _Layer:
    """One coding, or none: its first bytes decide."""

    def __init__(self, *, deflate: bool, frames: bool) -> None:
        self._deflate, self._frames = deflate, frames
        self._head: bytes | None = b""
        self._coding: _Coding | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._head is not None:
            self._head += data
            if len(self._head) < _HEAD:
                return
            data = self._decide()
        yield from self._pieces(data)

    def end(self) -> Iterator[bytes]:
        if self._head is not None:
            yield from self._pieces(self._decide())
        if self._coding is not None and not self._coding.done:
            raise Unreadable("what was packed ends too early")

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if data:
            yield from (data,) if self._coding is None else self._coding.feed(data)

    def _decide(self) -> bytes:
        head, self._head = self._head or b"", None
        if head.startswith(_GZIP):
            self._coding = _Inflate(zlib.MAX_WBITS | 16)
        elif (frame := _FRAME.match(head)) and (self._frames or b";chunk-signature=" in frame[0]):
            self._coding = _Frames()
        elif self._deflate and not head.startswith(b"RIFF"):  # a plain WEBP would pass for raw deflate
            # By its name deflate has zlib's header; many servers send it without.
            fits = (bits for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS) if _inflates(head, bits))
            bits = next(fits, None)
            self._coding = None if bits is None else _Inflate(bits)
        return head


def _inflates(head: bytes, bits: int) -> bool:
    try:
        out = zlib.decompressobj(bits).decompress(head[:_HEAD], PIECE)
    except zlib.error:
        return False
    return bool(out) or len(head) >= _HEAD


class _Inflate:
    """gzip, of one member or several, or deflate. What follows it is padding."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._zlib = zlib.decompressobj(bits)
        self._after = b""
        self.done = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        more = True
        while more:
            if self.done:
                data = self._after + data
                if not data.startswith(_GZIP):
                    self._after = data[: len(_GZIP)]  # perhaps the beginning of a further member
                    return
                self._zlib, self._after, self.done = zlib.decompressobj(self._bits), b"", False
            try:
                out = self._zlib.decompress(data, PIECE)
            except zlib.error as exc:
                raise Unreadable("what was packed is damaged") from exc
            if out:
                yield out
            self.done = self._zlib.eof
            data = self._zlib.unused_data if self.done else self._zlib.unconsumed_tail
            more = bool(data) or (not self.done and len(out) == PIECE)


class _Frames:
    """`SIZE;chunk-signature=…` lines, each before so many bytes; a size of 0 ends them, what follows is a trailer."""

    def __init__(self) -> None:
        self._waiting = b""
        self._left = 0
        self.done = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        data = self._waiting + data
        self._waiting = b""
        while data and not self.done:
            if self._left:
                part, data = data[: self._left], data[self._left :]
                self._left -= len(part)
                yield part
                continue
            line = data.removeprefix(b"\r\n")
            frame = _FRAME.match(line)
            if frame is None:
                if len(line) > 2 * _HEAD:
                    raise Unreadable("the frames of aws-chunked are damaged")
                self._waiting = data
                return
            self._left = int(frame[1], 16)
            self.done = self._left == 0
            data = line[frame.end() :]
