"""Shots, films and recorded requests and answers for the tests of the providers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from klingflow.core.model import Cut, Element, FileStill, Film, Key, MultiShot, Shot, ShotFrame, ShotId, UrlStill
from klingflow.core.source import Problem, Span
from klingflow.providers.base import Answer, FailureClass, Provider

HERE = Path(__file__).parent
KEY = Key("0123456789abcdef" * 4)
STILL = FileStill("frames/a.png")


def shot(**fields: Any) -> Shot:
    """A shot with `images` as a count, `elements` as counts of reference images, `multi_shot` as in the YAML."""
    fields.setdefault("id", ShotId("dawn"))
    if isinstance(fields.get("images"), int):
        fields["images"] = (STILL,) * fields["images"]
    if fields.get("elements"):
        fields["elements"] = tuple(Element(STILL, (STILL,) * count) for count in fields["elements"])
    if isinstance(fields.get("multi_shot"), dict):
        shots = tuple((prompt, seconds) for prompt, seconds in fields["multi_shot"].get("shots", ()))
        fields["multi_shot"] = MultiShot(fields["multi_shot"]["by"], shots)
    return Shot(index=0, **fields)


def framed(inputs: Mapping[str, str], **fields: Any) -> Shot:
    """A shot that declares the frames that `inputs` stand for."""
    for role in ("first_frame", "last_frame"):
        if role in inputs:
            fields[role] = ShotFrame(ShotId("eve")) if role == "first_frame" else UrlStill("https://e.com/l.png")
    return shot(**fields)


def where(name: ShotId | None, field: str) -> Span:
    return Span("film.yaml", 1, 1, 2, f"{name}.{field}")


def film(one: Shot) -> Film:
    return Film(name="film", matrix={}, title="", shots=(one,), cut=(Cut(one.id),), where=where)


def faults(provider: Provider, one: Shot) -> list[tuple[str, str, str]]:
    """What check says: (severity, place, rule)."""
    found: list[Problem] = list(provider.check(film(one), one))
    return [(p.severity.value, p.span.text if p.span else "", p.rule) for p in found]


def recorded(folder: str, pattern: str) -> list[Any]:
    return [json.loads(path.read_text("utf-8")) for path in sorted((HERE / folder).glob(pattern))]


def answer(case: Mapping[str, Any]) -> Answer:
    body = case["body"]
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Answer(status=case["status"], headers=case.get("headers", {}), body=data)


def meaning(value: Any, like: Mapping[str, Any]) -> dict[str, Any]:
    """The value as its type's name and those fields that `like` names."""
    fields = asdict(value) | {"is": type(value).__name__}
    return {name: str(v) if isinstance(v := fields[name], FailureClass) else v for name in like}
