"""What a command found, as one JSON document on stdout (schemas/answers.schema.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from klingflow.core.redact import redact
from klingflow.core.source import inert


def show(**fields: object) -> None:
    """Prints the document with these fields. No secret is in it, and no command to a log."""
    print(inert(json.dumps({"version": 1, **_plain(fields)}, ensure_ascii=False, indent=2)))


def _plain(value: object) -> Any:
    match value:
        case str():
            return redact(value)
        case Decimal():
            return float(value)
        case Mapping():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
    return value
