"""What every test may ask for, and what none may do: nothing leaves this machine, nothing of the user's is read."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.cli import Project

LOCAL = ("127.", "::1", "localhost")

# A busy machine is no fault of the code: no property is held to a time.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto` is three workers a core: most of what the tests of networks, races and timeouts do is to wait."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 3 * cores


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """pytest translates each test file before it imports it, which takes seconds for all, and every worker needs all.
    So each worker does its share first and leaves it to the others as bytecode."""
    worker: dict[str, Any] | None = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args != session.config.getini("testpaths"):
        return
    sys.dont_write_bytecode = False  # it lies in __pycache__, beside that of the commands that the tests run
    share = int(worker["workerid"].removeprefix("gw"))
    for path in sorted(Path(__file__).parent.glob("test_*.py"))[share :: worker["workercount"]]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # collection tells what is wrong with it, and where
            importlib.import_module(f"tests.{path.stem}")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """A file's bytes name no test: a colour profile holds the second in which it was made, and every worker makes its
    own."""
    return argname if isinstance(val, bytes) and len(val) > 32 else None


@pytest.fixture(autouse=True)
def _sealed(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Sockets reach loopback alone, caches and claims lie in folders of the test, no key of this machine is seen."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(LOCAL):
            raise OSError(f"a test wanted to reach {address}")
        real(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", connect)
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path_factory.mktemp("user")))
    for name in ("HIAPI_API_KEY", "MULEROUTER_API_KEY", "KLINGFLOW_STORE", "KLINGFLOW_PUBLISH_TO"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project folder, in which the command runs as a process."""
    root = tmp_path / "project"
    root.mkdir()
    return Project(root, {})
