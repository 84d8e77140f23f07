"""`klingflow schema`: prints a JSON Schema, for editors and other programs."""

from __future__ import annotations

import sys

import klingflow
from klingflow.core.errors import DONE


def schema(name: str) -> int:
    sys.stdout.write(klingflow.schema(name))
    return DONE
