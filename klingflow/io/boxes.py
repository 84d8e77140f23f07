"""The outermost boxes of an MP4 or MOV file: the one sure sign of whether it was cut short.

What follows a whole `moov` and `mdat` and is none of their kind is no part of the clip: cameras append trailers of
their own, uploaders a line's end, and every player reads such a file whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

STARTS = (b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
"""Boxes with which a file may begin."""
_CLIP = frozenset((*STARTS, b"moof", b"mfra", b"sidx", b"ssix", b"emsg", b"prft", b"meta", b"uuid", b"udta"))
"""Boxes that stand beside and between the parts of a clip; a file in fragments goes on after them."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """What the walk over a file's boxes found."""

    index: int | None = None
    """Bytes of its `moov`; None: it has none."""
    missing: int = 0
    """Bytes by which a box runs over the end of the file."""
    broken: int | None = None
    """Where something stands that is no box, before the clip is whole."""

    @property
    def whole(self) -> bool:
        return not self.missing and self.broken is None


def walk(fd: int) -> Boxes:
    """Steps from box to box of an open file, from its beginning."""
    size, at = os.fstat(fd).st_size, 0
    index: int | None = None
    data = False
    while at < size:
        head = os.pread(fd, 16, at)
        length, name = int.from_bytes(head[:4]), head[4:8]
        if index is not None and data and name not in _CLIP:
            break
        if length == 1:
            length = int.from_bytes(head[8:16])
        elif length == 0:
            length = size - at
        if len(head) < 8 or length < 8:
            return Boxes(index=index, broken=at)
        if at + length > size:
            return Boxes(index=index, missing=at + length - size)
        if name == b"moov":
            index = length
        data = data or name == b"mdat"
        at += length
    return Boxes(index=index)
