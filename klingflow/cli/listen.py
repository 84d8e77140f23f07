"""`klingflow listen`: receives callbacks alone, and collects the tasks of detached runs. Submits nothing."""

from __future__ import annotations

import asyncio
import signal

import klingflow
from klingflow.cli import storyboards
from klingflow.cli.error_report import say
from klingflow.core.errors import DONE
from klingflow.output import progress


def listen(path: str | None, listen: str, format: str = "text") -> int:
    asyncio.run(_serve(storyboards.one(path), listen, json=format == "json"))
    return DONE


async def _serve(path: str, address: str, *, json: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal ends nothing, as in `run`
    with progress.view(json=json, quiet=False) as show:
        await klingflow.open(path).collect(address, stop=stop, on_event=show, notify=say)
