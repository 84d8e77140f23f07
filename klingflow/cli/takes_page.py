"""`klingflow takes --open`: serves the page, and shows it where there is a browser."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import webbrowser

from klingflow import Storyboard, UsageError
from klingflow.cli.error_report import say
from klingflow.web import takes_page


def serve(storyboard: Storyboard, port: int) -> None:
    """Until the command is interrupted."""
    if not 0 <= port < 65536:
        raise UsageError(f"{port} is no port", "name one of 1 to 65535, or leave --port out")
    asyncio.run(_serve(storyboard, port))


async def _serve(storyboard: Storyboard, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with takes_page.serving(storyboard, port) as page:
        print(page.url, flush=True)
        say("whoever has this address can choose; Ctrl-C ends the page")
        if _screen():
            await asyncio.to_thread(webbrowser.open, page.opening)
        await stop.wait()


def _screen() -> bool:
    """Whether a window can be shown: without one, a browser of text would take the terminal."""
    named = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return named or sys.platform == "darwin"
