"""`klingflow graph`: which shot waits for which, as a drawing."""

from __future__ import annotations

from collections.abc import Sequence

from klingflow.app.project_loader import open_storyboard
from klingflow.core.errors import DONE
from klingflow.output import drawing


def graph(path: str, var: Sequence[str] = (), format: str = "mermaid") -> int:
    """Prints the graph of the first film: a matrix gives every film the same shots."""
    film = open_storyboard(path, var).films[0]
    print({"mermaid": drawing.mermaid, "dot": drawing.dot, "svg": drawing.svg}[format](film))
    return DONE
