"""What would stop a run after it has paid for something, and can be found before: asked before a run's first order,
and by doctor. Costs nothing."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from klingflow.core.errors import UsageError
from klingflow.io.service import NotSent, Unanswered
from klingflow.planning.plan import Plan, Step
from klingflow.providers.base import Answer, Provider, Request
from klingflow.providers.images import PIXELS

BYTES_A_PIXEL = 1.0
"""Of one second of a clip, for each pixel of its frame, with room to spare: 15 s of 4K take about 100 MB."""
SPARE_BYTES = 64 * 2**20
"""For frames, the ledger, and what is on its way."""


async def refuse_bad_key(provider: Provider, ask: Callable[[Request], Awaitable[Answer]]) -> None:
    """Raises UsageError where the provider refuses the key. Whatever else it answers, or that it does not, is no reason
    to stop: an order says it, and is sent again."""
    try:
        status = (await ask(provider.probe())).status
    except (NotSent, Unanswered):
        return
    if status in (401, 403):
        what = f"{provider.name} refuses the key (HTTP {status}); nothing was ordered"
        raise UsageError(what, f"{key_mend(provider)}; `klingflow doctor` tries it")


def key_mend(provider: Provider) -> str:
    variables = " and ".join(provider.caps.variables)
    return f"copy {variables} again from {provider.name}'s console, and see that the key is not disabled"


def room(steps: Iterable[Step]) -> int:
    """How many bytes a run may take on the disk: each clip, and as much again for its part of the film."""
    most = PIXELS["4K"]
    seconds = (step.seconds * PIXELS.get(step.resolution, most) for step in steps if step.orders)
    return SPARE_BYTES + int(2 * BYTES_A_PIXEL * sum(seconds))


def refuse_full_disk(plan: Plan, places: Iterable[Path]) -> None:
    """Raises UsageError where a disk has no room for what the plan makes."""
    needed = room(step for film in plan.films for step in film.steps)
    for place in places:
        there = place
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        if free < needed:
            what = f"the disk of {place} has {gib(free)} free, and this run may take {gib(needed)}; nothing was ordered"
            raise UsageError(what, "make room, or select fewer shots with --select")


def gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def media_fault() -> tuple[str, str] | None:
    """Why clips cannot be read or a film cannot be written here, and the mend; None where both can."""
    mend = "install klingflow anew in a clean environment: PyAV's own wheels bring all of it"
    try:
        from klingflow.io import media  # loads the media library
    except ImportError as bad:
        return f"PyAV cannot be loaded: {bad}", mend
    lacking = media.encoders_missing()
    return (f"this build of PyAV has no encoder {' and no '.join(lacking)}", mend) if lacking else None
