"""`klingflow seams`: the joins of the film, and what an eye or an ear notices at them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import klingflow
from klingflow.cli import storyboards
from klingflow.cli.error_report import say
from klingflow.cli.words import parse_vars
from klingflow.core.errors import DONE, SHOTS_FAILED
from klingflow.core.source import inert, rendered
from klingflow.output import seamtext, terminal


def seams(path: str | None = None, var: Sequence[str] = (), provider: str | None = None, format: str = "text") -> int:
    """Measures what is not known of the joins, and lists them. Fails where film.gate does not let one pass."""
    storyboard = klingflow.open(storyboards.one(path), variables=parse_vars(var), provider=provider)
    verdicts = storyboard.seams()
    if format == "json":
        print(inert(seamtext.answer(verdicts)))
    else:
        width = terminal.width(sys.stdout)
        print(inert("\n\n".join(seamtext.shown(verdict, width) for verdict in verdicts)))
    pairs = zip(storyboard.films(), verdicts, strict=True)
    failed = [problem for film, verdict in pairs for problem in seamtext.problems(film, verdict)]
    for text in rendered(failed):
        say(f"\n{text}")
    return SHOTS_FAILED if failed else DONE
