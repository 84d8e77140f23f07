"""The three standard streams of a command, whatever became of them."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO


def open_all() -> None:
    """Gives every standard stream that was closed when the process began (`2>&-`) a place: the null device. Otherwise
    the next file that is opened would get its number, and whatever a C library writes there."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # in this order each takes the lowest free number, which is its own
            null = io.FileIO(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w", closefd=False)
            setattr(sys, name, io.TextIOWrapper(null, encoding="utf-8"))


def steady(stream: TextIO) -> TextIO:
    """The same stream, on which no write fails: what cannot be shown (its reader went away, the terminal is closed, the
    disk is full) is dropped. For what must go on when nobody looks any more."""
    if not isinstance(stream, io.TextIOWrapper) or stream not in (sys.__stdout__, sys.__stderr__):
        return stream  # whoever put another one in its place reads it
    raw = io.BufferedWriter(_Steady(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(
        raw, encoding=stream.encoding, errors=stream.errors, line_buffering=stream.line_buffering
    )


class _Steady(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)
