"""`klingflow schema`: prints a JSON Schema, for editors and other programs."""

from __future__ import annotations

import sys

from klingflow.core.errors import DONE
from klingflow.storyboard import schema as schemas


def schema(name: str) -> int:
    sys.stdout.write(schemas.text(name))
    return DONE
