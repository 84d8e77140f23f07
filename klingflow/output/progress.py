"""What a run shows while it goes on: a live board on a terminal, plain lines elsewhere, JSON lines for programs.

All three read the same events; nothing here knows how they come about.
"""

from __future__ import annotations

import json as jsonlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from klingflow.core.redact import redact
from klingflow.core.source import inert, visible
from klingflow.execution.outcome import Emit, Event, Result
from klingflow.output.run_board import RunBoard
from klingflow.planning.plan import Action, Plan
from klingflow.providers.failure import RULES


@contextmanager
def view(*, json: bool, quiet: bool, plan: Plan | None = None) -> Iterator[Emit]:
    """How to show events on this output. `plan` is what is run; None where tasks of other runs are collected."""
    if json:
        yield _json_line
    elif quiet:
        yield lambda event: None
    elif plan is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI"):
        with _live(plan) as show:
            yield show
    else:
        yield _plain_lines(plan)


def _json_line(event: Event) -> None:
    if event.event == "film" and "fraction" in event.data:
        return  # for bars alone; programs hear of the film when it is there
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line: dict[str, object] = {"version": 1, "time": now, "event": event.event}
    line |= {name: value for name, value in (("film", event.film), ("shot", event.shot), ("take", event.take)) if value}
    line |= event.data
    sys.stdout.write(inert(redact(jsonlib.dumps(line, ensure_ascii=False))) + "\n")
    sys.stdout.flush()


MANY = 20
"""Clips of a run whose log says how each ended, and at times how far all are; a smaller run's says each state."""
EVERY_S = 60.0
"""How often such a log says how far all are, at most."""
_ENDINGS = frozenset({"step-done", "step-failed", "step-in-doubt", "film"})


def _plain_lines(plan: Plan | None, clock: Callable[[], float] = time.monotonic) -> Emit:
    """A line for each thing that happens; a state that a shot is still in is not repeated."""
    last: dict[tuple[str, str | None, int | None], str] = {}
    tell = _once()
    board = RunBoard(plan, clock()) if plan is not None else None
    many = board is not None and board.size > MANY
    said_at = clock()

    def say(text: str) -> None:
        print(inert(redact(visible(text))), file=sys.stderr, flush=True)

    def show(event: Event) -> None:
        nonlocal said_at
        text = tell(event)
        place = (event.film, event.shot, event.take)
        if text and last.get(place) != text and (not many or event.event in _ENDINGS):
            last[place] = text
            say(text)
        if board is not None and many:
            now = clock()
            board.see(event, now)
            if now - said_at >= EVERY_S:
                said_at = now
                say(board.summary(now))

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
            signed = _SIGNATURES.get(str(data.get("credentials")), "")
            return f"{name}: joined, {data['frames']} frames, {data['seconds']:.3f} s, {data['size']}{signed}"
    return ""


_SIGNATURES = {
    "signed": ", signed",
    "lost": "; the film before it was signed, this one is not: klingflow film --sign",
}


@contextmanager
def _live(plan: Plan) -> Iterator[Emit]:
    """The board of the run in place, and lines above it for what went wrong."""
    from rich.console import Console  # costs 30 ms, and only a terminal has a board
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    board = RunBoard(plan, time.monotonic(), ascii=not console.encoding.lower().startswith("utf"))
    tell = _once()
    one_at_a_time = threading.Lock()
    """Events come from the run, frames from the board's own thread."""

    def frame() -> Text:
        with one_at_a_time:
            rows = board.rows(time.monotonic(), console.width - 1, console.height)
        lines = (Text(redact(row.text), _STYLE.get(row.kind, "")) for row in rows)
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)

    console.print()
    with Live(get_renderable=frame, console=console, refresh_per_second=2, transient=True):

        def show(event: Event) -> None:
            with one_at_a_time:
                board.see(event, time.monotonic())
            text = tell(event) if event.event in _WRONG else ""
            if text:
                console.print(inert(redact(visible(text))), markup=False)

        yield show


_WRONG = frozenset({"step-failed", "step-in-doubt"})
_STYLE = {"waiting": "dim", "ended": "green", "sum": "bold"}
