"""klingflow: Terraform for AI film.

`klingflow.open("film.yaml")` gives a Storyboard to check, plan and run; docs/python.md shows how. The names in
`__all__` are the public ones; each is loaded when it is first used, so that a program which only checks never loads the
engine.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # typing's own costs `--version` a third of its time
if TYPE_CHECKING:
    from klingflow.app.library import Planned, Ready, Storyboard, Tasks, load_plan, open
    from klingflow.app.runner import FilmRun, RunOptions, RunResult
    from klingflow.app.settle import Verdict
    from klingflow.app.tasks import TaskRow
    from klingflow.core.errors import (
        Interrupted,
        KlingflowError,
        SpendRefused,
        StoryboardError,
        UsageError,
        WouldMake,
    )
    from klingflow.core.source import Problem, Severity
    from klingflow.execution.outcome import Event, Failure, Outcome, Result, RunFailure
    from klingflow.planning.plan import Action, FilmPlan, Plan, Step, Totals, totals
    from klingflow.planning.price import Limits

_HOMES = {
    "klingflow.app.library": ("Planned", "Ready", "Storyboard", "Tasks", "load_plan", "open"),
    "klingflow.app.runner": ("FilmRun", "RunOptions", "RunResult"),
    "klingflow.app.settle": ("Verdict",),
    "klingflow.app.tasks": ("TaskRow",),
    "klingflow.core.errors": (
        "Interrupted",
        "KlingflowError",
        "SpendRefused",
        "StoryboardError",
        "UsageError",
        "WouldMake",
    ),
    "klingflow.core.source": ("Problem", "Severity"),
    "klingflow.execution.outcome": ("Event", "Failure", "Outcome", "Result", "RunFailure"),
    "klingflow.planning.plan": ("Action", "FilmPlan", "Plan", "Step", "Totals", "totals"),
    "klingflow.planning.price": ("Limits",),
}

__all__ = [
    "Action",
    "Event",
    "Failure",
    "FilmPlan",
    "FilmRun",
    "Interrupted",
    "KlingflowError",
    "Limits",
    "Outcome",
    "Plan",
    "Planned",
    "Problem",
    "Ready",
    "Result",
    "RunFailure",
    "RunOptions",
    "RunResult",
    "Severity",
    "SpendRefused",
    "Step",
    "Storyboard",
    "StoryboardError",
    "TaskRow",
    "Tasks",
    "Totals",
    "UsageError",
    "Verdict",
    "WouldMake",
    "load_plan",
    "open",
    "totals",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'klingflow' has no attribute {name!r}")
