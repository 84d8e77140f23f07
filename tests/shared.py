"""What takes seconds to make and no test changes is made once for all workers of a session."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.cli import Project


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name`, which `make` filled. The first worker that asks makes it, the others wait for it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each worker has a folder of its own in there
    folder, whole = base / f"shared-{name}", base / f"shared-{name}.whole"
    with (base / f"shared-{name}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder


def ran(factory: pytest.TempPathFactory, name: str, to: Path, files: Mapping[str, str], *words: str) -> Project:
    """A project of these files, in `to`, in which `run` was run: once for all workers, and copied from there."""

    def make(folder: Path) -> None:
        project = Project(folder / "project", {})
        for file, text in files.items():
            project.write(file, text)
        ended = project.run("run", *words)
        assert ended.code == 0, ended.said

    shutil.copytree(once(factory, name, make) / "project", to, dirs_exist_ok=True)
    return Project(to, {})
