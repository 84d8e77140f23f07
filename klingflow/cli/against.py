"""The same storyboard at a git ref, for `plan --against` and `check`'s neighbours: read from git, without a checkout."""

from __future__ import annotations

from klingflow.cli.opening import Opened
from klingflow.cli.planning import Asked
from klingflow.planning.compare import Comparison
from klingflow.planning.plan import Plan


def against_ref(
    opened: Opened, planned: Plan, asked: Asked, ref: str, variables: object, provider: str | None
) -> dict[str, Comparison]:
    raise NotImplementedError
