"""What several commands read from the command line in one way."""

from __future__ import annotations

from collections.abc import Sequence

from klingflow.core.errors import UsageError


def parse_vars(pairs: Sequence[str]) -> dict[str, str]:
    """`--var name=value`, each. Raises UsageError."""
    out = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise UsageError(f"--var {pair} is not NAME=VALUE", "write --var boat='a blue boat'")
        out[name] = value
    return out
