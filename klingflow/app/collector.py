"""Collects the tasks of detached runs, woken by callbacks. Submits nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from klingflow.app import planner, runner, services
from klingflow.app.project_loader import StoryboardFile
from klingflow.app.services import Services
from klingflow.app.session import Session, open_session
from klingflow.core.errors import KlingflowError
from klingflow.core.model import TaskId
from klingflow.execution.outcome import Emit
from klingflow.planning.plan import Action, Plan

LOOK_S = 60.0
"""How often the ledger is looked at for tasks that no callback spoke of."""


async def serve(
    storyboard: StoryboardFile, address: str, *, emit: Emit, notify: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Until `stop` is set. Raises KlingflowError for a storyboard that is broken at the start; one that breaks later is
    reported, and collecting goes on when it is mended."""
    called = asyncio.Event()
    running = runner.Running()

    def wake(provider: str, task: TaskId) -> bool:
        known = running.wake(provider, task)
        if not known:
            called.set()  # perhaps a task that a run has submitted since: look at the ledger
        return known

    loaded = storyboard.load()
    services.refuse_foreign_store(loaded, open_session(loaded).plan())
    receiver = services.open_services(loaded, Plan(storyboard=loaded.relative, films=()), listen=address)
    stopping = asyncio.create_task(stop.wait())
    reported = ""
    async with receiver.listening(wake, notify):
        while not stop.is_set():
            try:
                session = open_session(storyboard.load())
                reported = ""
                if await _collect(session, running, emit, stop):
                    notify("collected what was being made; `klingflow run` goes on from here")
            except KlingflowError as bad:
                if reported != bad.what:
                    notify(f"{storyboard.path}: {bad.what}; nothing is collected until that is mended")
                reported = bad.what
            waiting = asyncio.create_task(called.wait())
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            called.clear()
    stopping.cancel()


async def _collect(session: Session, running: runner.Running, emit: Emit, stop: asyncio.Event) -> bool:
    """Collects every task that is under way; False where there is none."""
    plan = session.plan()
    waiting = replace(
        plan,
        films=tuple(
            replace(film, steps=tuple(s for s in film.steps if s.action is Action.RESUME and not s.orders))
            for film in plan.films
        ),
    )
    if not any(film.steps for film in waiting.films):
        return False
    services.refuse_foreign_store(session.loaded, waiting)
    opened: Services = services.open_services(session.loaded, waiting)
    options = runner.RunOptions(limits=session.loaded.config.limits)
    async with runner.buying(session, waiting, opened, options, emit) as buyer:
        running.buyers.append(buyer)
        try:
            known = planner.known_clips(plan)
            films = await runner.execute(session, waiting, known, buyer, frozen=True, emit=emit, stop=stop)
        finally:
            running.buyers.remove(buyer)
    runner.keep(session, films)
    return True
