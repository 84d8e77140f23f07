"""klingflow: Terraform for AI film.

`klingflow.open("film.yaml")` gives a Storyboard to check, plan and run; docs/python.md shows how. The names in
`__all__` are the public ones; each is loaded when it is first used, so that a program which only checks never loads the
engine.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # typing's own costs `--version` a third of its time
if TYPE_CHECKING:
    from klingflow.app.choosing import (
        Candidate,
        Choice,
        Chosen,
        Consequences,
        Effect,
        Moved,
        StillCandidate,
        Unmade,
    )
    from klingflow.app.credentials import VerifiedFilm, verify_film
    from klingflow.app.doctor import Finding, PaidProbe, doctor, paid_probe
    from klingflow.app.draft import DraftFilm, DraftShot
    from klingflow.app.library import (
        Planned,
        PreparedRun,
        Storyboard,
        create_project,
        load_plan,
        open,
        provider_names,
        schema,
    )
    from klingflow.app.lock_file import merge_locks
    from klingflow.app.prices import PriceRow, Refreshed, prices, refresh_prices
    from klingflow.app.review import Pictures
    from klingflow.app.runner import FilmRun, RunResult
    from klingflow.app.settle import Verdict
    from klingflow.app.store_check import Damage, StoreReport, verify_store
    from klingflow.app.store_upkeep import (
        YOUNG_DAYS,
        Copied,
        Garbage,
        StoredClip,
        StoredKey,
        pull_store,
        push_store,
        store_garbage,
        stored_clips,
        stored_key,
    )
    from klingflow.app.take_in import TakenIn
    from klingflow.app.takes import TakeRow
    from klingflow.app.tasks import TaskRow, Tasks
    from klingflow.app.timeline import Exported, Imported, NotBrought
    from klingflow.app.user_cache import UserCache, clear_cache, user_cache
    from klingflow.core.errors import (
        Interrupted,
        KlingflowError,
        MediaError,
        SpendRefused,
        StoreError,
        StoryboardError,
        UsageError,
        WouldMake,
    )
    from klingflow.core.model import Film, Shot
    from klingflow.core.source import Problem, Severity, Span
    from klingflow.execution.outcome import Event, Failure, Outcome, Result, RunFailure
    from klingflow.output.planfile import SavedPlan
    from klingflow.output.seams import FilmSeams, Seam
    from klingflow.planning.plan import Action, FilmPlan, Plan, Step, Totals
    from klingflow.planning.price import Limits, Price, money
    from klingflow.providers.base import FailureClass

_HOMES = {
    "klingflow.app.choosing": (
        "Candidate",
        "Choice",
        "Chosen",
        "Consequences",
        "Effect",
        "Moved",
        "StillCandidate",
        "Unmade",
    ),
    "klingflow.app.credentials": ("VerifiedFilm", "verify_film"),
    "klingflow.app.doctor": ("Finding", "PaidProbe", "doctor", "paid_probe"),
    "klingflow.app.draft": ("DraftFilm", "DraftShot"),
    "klingflow.app.library": (
        "Planned",
        "PreparedRun",
        "Storyboard",
        "create_project",
        "load_plan",
        "open",
        "provider_names",
        "schema",
    ),
    "klingflow.app.lock_file": ("merge_locks",),
    "klingflow.app.prices": ("PriceRow", "Refreshed", "prices", "refresh_prices"),
    "klingflow.app.review": ("Pictures",),
    "klingflow.app.runner": ("FilmRun", "RunResult"),
    "klingflow.app.settle": ("Verdict",),
    "klingflow.app.store_check": ("Damage", "StoreReport", "verify_store"),
    "klingflow.app.store_upkeep": (
        "Copied",
        "Garbage",
        "StoredClip",
        "StoredKey",
        "YOUNG_DAYS",
        "pull_store",
        "push_store",
        "store_garbage",
        "stored_clips",
        "stored_key",
    ),
    "klingflow.app.take_in": ("TakenIn",),
    "klingflow.app.takes": ("TakeRow",),
    "klingflow.app.tasks": ("TaskRow", "Tasks"),
    "klingflow.app.timeline": ("Exported", "Imported", "NotBrought"),
    "klingflow.app.user_cache": ("UserCache", "clear_cache", "user_cache"),
    "klingflow.core.errors": (
        "Interrupted",
        "KlingflowError",
        "MediaError",
        "SpendRefused",
        "StoreError",
        "StoryboardError",
        "UsageError",
        "WouldMake",
    ),
    "klingflow.core.model": ("Film", "Shot"),
    "klingflow.core.source": ("Problem", "Severity", "Span"),
    "klingflow.execution.outcome": ("Event", "Failure", "Outcome", "Result", "RunFailure"),
    "klingflow.output.planfile": ("SavedPlan",),
    "klingflow.output.seams": ("FilmSeams", "Seam"),
    "klingflow.planning.plan": ("Action", "FilmPlan", "Plan", "Step", "Totals"),
    "klingflow.planning.price": ("Limits", "Price", "money"),
    "klingflow.providers.base": ("FailureClass",),
}

__all__ = [
    "Action",
    "Candidate",
    "Choice",
    "Chosen",
    "Consequences",
    "Copied",
    "Damage",
    "DraftFilm",
    "DraftShot",
    "Effect",
    "Event",
    "Exported",
    "Failure",
    "FailureClass",
    "Film",
    "FilmPlan",
    "FilmRun",
    "FilmSeams",
    "Finding",
    "Garbage",
    "Imported",
    "Interrupted",
    "KlingflowError",
    "Limits",
    "MediaError",
    "Moved",
    "NotBrought",
    "Outcome",
    "Pictures",
    "PaidProbe",
    "Plan",
    "Planned",
    "PreparedRun",
    "Price",
    "PriceRow",
    "Problem",
    "Refreshed",
    "Result",
    "RunFailure",
    "RunResult",
    "SavedPlan",
    "Seam",
    "Severity",
    "Shot",
    "Span",
    "SpendRefused",
    "Step",
    "StillCandidate",
    "StoreError",
    "StoreReport",
    "StoredClip",
    "StoredKey",
    "Storyboard",
    "StoryboardError",
    "TakeRow",
    "TakenIn",
    "TaskRow",
    "Tasks",
    "Totals",
    "Unmade",
    "UsageError",
    "UserCache",
    "Verdict",
    "VerifiedFilm",
    "WouldMake",
    "YOUNG_DAYS",
    "clear_cache",
    "create_project",
    "doctor",
    "load_plan",
    "merge_locks",
    "money",
    "open",
    "paid_probe",
    "prices",
    "provider_names",
    "pull_store",
    "push_store",
    "refresh_prices",
    "schema",
    "store_garbage",
    "stored_clips",
    "stored_key",
    "user_cache",
    "verify_film",
    "verify_store",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'klingflow' has no attribute {name!r}")
