"""`klingflow listen`: receives callbacks alone, and collects the tasks of detached runs. Submits nothing."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from dataclasses import replace

from klingflow.app import planner
from klingflow.app.project_loader import open_storyboard
from klingflow.app.services import open_services
from klingflow.cli.error_report import say
from klingflow.cli.run import buying, execute, keep
from klingflow.core.errors import DONE
from klingflow.core.model import TaskId
from klingflow.execution.purchase import Buyer
from klingflow.output import progress
from klingflow.planning.plan import Action, Plan

LOOK_S = 60.0
"""How often the ledger is looked at for tasks that no callback spoke of."""


def listen(path: str, listen: str) -> int:
    asyncio.run(_serve(path, listen))
    return DONE


async def _serve(path: str, address: str) -> None:
    stop, called = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        called.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    at_work: list[Buyer] = []

    def wake(provider: str, task: TaskId) -> bool:
        known = any(buyer.wake(provider, task) for buyer in at_work)
        if not known:
            called.set()  # perhaps a task that a run has submitted since: look at the ledger
        return known

    opened = open_storyboard(path)
    services = open_services(opened, Plan(storyboard=opened.relative, films=()), listen=address)
    async with services.listening(wake, say):
        while not stop.is_set():
            opened = open_storyboard(path)
            store, lock = planner.store_of(opened), planner.open_lock(opened)
            asked = planner.ask(opened, store)
            planned = planner.make(opened, lock, asked, None)
            waiting = replace(
                planned,
                films=tuple(
                    replace(film, steps=tuple(step for step in film.steps if step.action is Action.RESUME))
                    for film in planned.films
                ),
            )
            if any(film.steps for film in waiting.films):
                with progress.view(json=False, quiet=False) as show:
                    async with buying(opened, store, services, opened.config.limits, False, show) as buyer:
                        at_work.append(buyer)
                        known = planner.known_clips(planned)
                        keep(
                            opened,
                            lock,
                            await execute(opened, waiting, known, store, lock, asked, buyer, True, show, stop),
                        )
                        at_work.clear()
                        say("collected what was being made; `klingflow run` goes on from here")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await called.wait()
            called.clear()
