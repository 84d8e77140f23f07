"""`klingflow film`: the film anew from clips that are there. Makes nothing, buys nothing."""

from __future__ import annotations

from collections.abc import Sequence

from klingflow.cli.run import run


def film(path: str | None, var: Sequence[str] = (), provider: str | None = None) -> int:
    return run(path, var=var, provider=provider, frozen=True)
