"""What a run shows while it goes on: live bars on a terminal, plain lines elsewhere, JSON lines for programs.

All three read the same events; nothing here knows how they come about.
"""

from __future__ import annotations

import json as jsonlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from klingflow.core.redact import redact
from klingflow.core.source import inert, visible
from klingflow.execution.outcome import Emit, Event, Result
from klingflow.output.words import shortened
from klingflow.planning.plan import Action
from klingflow.providers.failure import RULES

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def view(*, json: bool, quiet: bool) -> Iterator[Emit]:
    """How to show events on this output."""
    if json:
        yield _json_line
    elif quiet:
        yield lambda event: None
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI"):
        with _bars() as show:
            yield show
    else:
        yield _plain_lines()


def _json_line(event: Event) -> None:
    if event.event == "film" and "fraction" in event.data:
        return  # for bars alone; programs hear of the film when it is there
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line: dict[str, object] = {"version": 1, "time": now, "event": event.event}
    line |= {name: value for name, value in (("film", event.film), ("shot", event.shot), ("take", event.take)) if value}
    line |= event.data
    sys.stdout.write(inert(redact(jsonlib.dumps(line, ensure_ascii=False))) + "\n")
    sys.stdout.flush()


def _plain_lines() -> Emit:
    """A line for each thing that happens; a state that a shot is still in is not repeated."""
    last: dict[tuple[str, str | None, int | None], str] = {}
    tell = _once()

    def show(event: Event) -> None:
        text = tell(event)
        place = (event.film, event.shot, event.take)
        if text and last.get(place) != text:
            last[place] = text
            print(inert(redact(visible(text))), file=sys.stderr, flush=True)

    return show


def _once() -> Callable[[Event], str]:
    """`sentence`, but what stops a provider is told of one shot alone: it stops all the others in the same way."""
    told: set[object] = set()

    def tell(event: Event) -> str:
        if _stops_provider(event):
            cause = event.data["class"], event.data["message"], event.data["next"]
            if cause in told:
                return ""
            told.add(cause)
        return sentence(event)

    return tell


_STOPPING = frozenset(kind.value for kind, rule in RULES.items() if rule.stops_provider)


def _stops_provider(event: Event) -> bool:
    return event.event == "step-failed" and event.data["class"] in _STOPPING


def sentence(event: Event) -> str:
    """One event in words; empty for those that only a bar can show."""
    data = event.data
    take = f" take {event.take}" if event.take and event.take > 1 else ""
    name = f"{event.film}: {event.shot}{take}" if event.shot else event.film
    match event.event:
        case "step-started" if data["action"] == Action.RESUME:
            return f"{name}: resuming its order at {data['provider']}"
        case "step-started":
            return f"{name}: making {data['seconds']} s on {data['provider']}"
        case "submitted" if data.get("price"):
            return f"{name}: submitted as task {data['task']}"
        case "progress":
            return f"{name}: {data['state']}"
        case "step-done" if data["result"] in (Result.MADE, Result.RESUMED, Result.ADOPTED):
            return f"{name}: {data['result']}, {data['seconds']:.3f} s"
        case "step-failed" if _stops_provider(event):
            return f"{name}: refused ({data['class']}), and nothing more is ordered there"  # why is told at the end
        case "step-failed":
            return f"{name}: failed ({data['class']}): {data['message']}"
        case "step-skipped":
            return f"{name}: skipped, because {data['because']} has no clip"
        case "step-in-doubt":
            return f"{name}: in doubt: {data['message']}"
        case "film" if data.get("fraction") is None:
            signature = _SIGNATURES.get(str(data.get("signature")), "")
            return f"{name}: joined, {data['frames']} frames, {data['seconds']:.3f} s, {data['size']}{signature}"
    return ""


_SIGNATURES = {
    "signed": ", signed",
    "lost": "; the film before it was signed, this one is not: klingflow film --sign",
}


@contextmanager
def _bars() -> Iterator[Emit]:
    """One bar a shot under way, and lines above them for what has ended."""
    from rich.console import Console  # costs 30 ms, and only a terminal has bars
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[state]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        shown: dict[tuple[str, str, int], TaskID] = {}
        tell = _once()

        def show(event: Event) -> None:
            place = (event.film, event.shot or "", event.take or 1)
            match event.event:
                case "step-started":
                    take = f" take {event.take}" if event.take and event.take > 1 else ""
                    variant = event.film[event.film.index(" [") :] if event.film.endswith("]") else ""
                    label = f"{shortened(event.shot or '', max(8, 28 - len(take + variant)))}{take}{variant}"
                    shown[place] = bars.add_task(label.ljust(14), total=1.0, state="waiting")
                case "progress" if place in shown:
                    _move(bars, shown[place], event)
                case "film" if event.data.get("fraction") is not None:
                    if place not in shown:
                        shown[place] = bars.add_task(shortened(event.film, 24).ljust(14), total=1.0, state="film")
                    _move(bars, shown[place], event)
                case "step-done" | "step-failed" | "step-skipped" | "step-in-doubt" | "film":
                    if place in shown:
                        bars.remove_task(shown.pop(place))
                    text = tell(event)
                    if text:
                        console.print(inert(redact(visible(text))), markup=False)

        yield show


def _move(bars: Progress, task: TaskID, event: Event) -> None:
    fraction = event.data.get("fraction")
    if isinstance(fraction, int | float):
        bars.update(task, completed=fraction, total=1.0, state=str(event.data.get("state", "joining")))
    else:
        bars.update(task, total=None, state=str(event.data["state"]))
