"""What the place where text is shown can do: its width, and whether it has colours."""

from __future__ import annotations

import os
from typing import TextIO

USUAL, LEAST, MOST = 80, 40, 200


def width(stream: TextIO) -> int:
    """The columns to fill: COLUMNS where it is set, a terminal's own, 80 for a file or a pipe; from 40 to 200."""
    told = os.environ.get("COLUMNS", "")
    columns = int(told) if told.isascii() and told.isdigit() else 0
    if not columns and stream.isatty():
        try:
            columns = os.get_terminal_size(stream.fileno()).columns  # shutil's costs more than all of a warm plan
        except (OSError, ValueError):
            columns = 0
    return min(MOST, max(LEAST, columns)) if columns else USUAL


def coloured(stream: TextIO) -> bool:
    """Whether to colour: never with NO_COLOR, always with FORCE_COLOR (CI shows colours without a terminal), otherwise
    on a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0", "false"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"
