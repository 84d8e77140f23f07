"""Small films and plans for the tests of selection, comparison and review."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from klingflow.core.model import Cut, Digest, FileStill, Film, ImageFacts, Key, Shot, ShotFrame, ShotId
from klingflow.core.source import Span
from klingflow.planning.plan import Action, FilmPlan, Plan, Step


def shot(name: str, *, continues: str | None = None, still: str | None = None, **fields: Any) -> Shot:
    first = ShotFrame(ShotId(continues)) if continues else FileStill(still) if still else None
    fields = {"index": 0, "prompt": f"the {name}", "first_frame": first, "provider": "hiapi", **fields}
    return Shot(id=ShotId(name), **fields)


def film(*shots: Shot, **fields: Any) -> Film:
    cut = tuple(Cut(s.id) for s in shots)
    fields = {"name": "harbour", "matrix": {}, "title": "Harbour Dawn", "cut": cut, **fields}
    return Film(shots=shots, where=lambda _shot, _field: Span("harbour.yaml", 1, 1, 2), **fields)


def step(name: str, action: Action = Action.REUSE, **fields: Any) -> Step:
    made = action is Action.MAKE
    defaults: dict[str, Any] = {
        "take": 1,
        "is_active_take": True,
        "reason": "prompt changed" if made else "the lock names its clip",
        "key": Key(Digest(name.encode().hex().ljust(64, "0")[:64])),
        "provider": "hiapi",
        "model": "kling-3.0-omni",
        "resolution": "1080p",
        "seconds": 5 if made else 0,
        "price": Decimal("0.56") if made else Decimal(0),
        "basis": "estimate" if made else "",
    }
    return Step(shot=ShotId(name), action=action, **{**defaults, **fields})


def film_plan(*steps: Step, **fields: Any) -> FilmPlan:
    return FilmPlan(**{"name": "harbour", "variant": "", "title": "Harbour Dawn", "steps": steps, **fields})


def plan(*films: FilmPlan, **fields: Any) -> Plan:
    return Plan(**{"storyboard": "harbour.yaml", "films": films, **fields})


def image(seed: str) -> ImageFacts:
    return ImageFacts(
        digest=Digest(seed.encode().hex().ljust(64, "0")[:64]), format="PNG", width=1280, height=720, bytes=1000
    )
