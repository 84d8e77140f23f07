"""`klingflow graph`: which shot waits for which, as a drawing."""

from __future__ import annotations

from collections.abc import Sequence

import klingflow
from klingflow.cli import answer, storyboards
from klingflow.cli.words import parse_vars
from klingflow.core.errors import DONE
from klingflow.core.source import inert
from klingflow.output import drawing


def graph(path: str | None, var: Sequence[str] = (), format: str = "mermaid") -> int:
    """Prints the graph of every film."""
    storyboard = klingflow.open(storyboards.one(path), variables=parse_vars(var))
    films = storyboard.films()
    if format == "json":
        answer.show(storyboard=storyboard.relative(), films=[drawing.data(film) for film in films])
        return DONE
    print(inert({"mermaid": drawing.mermaid, "dot": drawing.dot, "svg": drawing.svg}[format](films)))
    return DONE
