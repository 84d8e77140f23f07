"""`klingflow film`: the film anew from the clips that the plan names. Makes nothing new, buys nothing."""

from __future__ import annotations

from collections.abc import Sequence

from klingflow.cli.run import run


def film(
    path: str | None, var: Sequence[str] = (), provider: str | None = None, sign: bool = False, format: str = "text"
) -> int:
    return run(path, var=var, provider=provider, frozen=True, sign=sign, format=format)
