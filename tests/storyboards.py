"""Storyboards from text, for the tests of what is made of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from textwrap import dedent

from klingflow.core.errors import UsageError
from klingflow.core.model import Film
from klingflow.core.source import Problem, Severity
from klingflow.providers import PROVIDERS
from klingflow.storyboard import load, schema, yamlread


def loaded(
    text: str,
    files: Mapping[str, str] | None = None,
    *,
    folder: str = "",
    overrides: Mapping[str, str] | None = None,
    provider: str | None = None,
    trusted: Collection[str] = (),
) -> tuple[tuple[Film, ...], list[Problem]]:
    """What load makes of a storyboard whose shape is right; `files` are the project's texts by path from the root."""
    path = f"{folder}/film.yaml" if folder else "film.yaml"
    document = yamlread.read(path, dedent(text))
    assert schema.check(document, "storyboard") == []

    def read(name: str) -> str:
        if files is None or name not in files:
            raise UsageError(f"{name} is not there", "write it")
        return files[name]

    return load.load(
        document,
        name="film",
        folder=folder,
        read=read,
        overrides=overrides or {},
        provider=provider,
        providers=PROVIDERS,
        trusted=trusted,
    )


def films(text: str, files: Mapping[str, str] | None = None, **rest: object) -> tuple[Film, ...]:
    """The films of a storyboard without a fault."""
    made, problems = loaded(text, files, **rest)  # type: ignore[arg-type]
    assert [p for p in problems if p.severity is Severity.ERROR] == []
    return made


def film(text: str, files: Mapping[str, str] | None = None, **rest: object) -> Film:
    (one,) = films(text, files, **rest)
    return one


def faults(text: str, files: Mapping[str, str] | None = None, **rest: object) -> list[str]:
    """Each fault of a storyboard as "line:col rule: what"."""
    _, problems = loaded(text, files, **rest)  # type: ignore[arg-type]
    return [
        f"{p.span.line}:{p.span.col} {p.rule}: {p.what}" if p.span else f"{p.rule}: {p.what}"
        for p in problems
        if p.severity is Severity.ERROR
    ]
