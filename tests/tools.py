"""Programs that the tests do not bring along. Where they are missing, what needs them is skipped; under .ci/run, which
installs them and says so by KLINGFLOW_TOOLS, it fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

NODE = shutil.which("node") or ""


def wanted() -> bool:
    """Whether a missing program is a failure."""
    return "KLINGFLOW_TOOLS" in os.environ


def needs(install: str, *programs: str | Path) -> pytest.MarkDecorator:
    """Skips what is marked where one of the programs is missing; `install` is the command that brings them."""
    missing = [str(program) for program in programs if not Path(program).is_file()]
    return pytest.mark.skipif(bool(missing) and not wanted(), reason=f"needs node and: {install}")
