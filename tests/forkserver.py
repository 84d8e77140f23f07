"""A Python that has klingflow loaded and waits: each command of the tests runs in a fork of it.

Starting Python and loading klingflow takes half a second of CPU, and the tests give some hundreds of commands. A fork
is a process like any other, with its own environment, working directory, signals and end; only the loading was done
before. The tests of start-up, kills and signals start real processes, and KLINGFLOW_TEST_PROCESSES=1 does so for all.

The server is this module, run as `python -m tests.forkserver`. It has one thread. A request is a line of JSON on its
stdin, the answer a line on its stdout: the exit code, or null where the command did not end in time and was killed.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import klingflow

ROOT = Path(__file__).parents[1]
USED = sys.platform.startswith("linux") and not os.environ.get("KLINGFLOW_TEST_PROCESSES")
"""macOS's own libraries do not survive a fork without an exec."""
BEFORE_MAIN = ("PYTHON", "LANG", "LC_", "TZ", "SSL_CERT")
"""Variables that are read before a fork begins: it would not see them change."""
LATE = ("anyio._backends._asyncio", "httpcore", "jinja2", "jsonschema", "PIL.PngImagePlugin", "rich.progress", "yaml")
"""What klingflow imports when it first needs it."""

_one_at_a_time = threading.Lock()


def can_run(env: Mapping[str, str]) -> bool:
    """Whether a fork is like a process that starts with this environment."""
    return USED and {name: value for name, value in env.items() if name.startswith(BEFORE_MAIN)} == _read_at_start()


def run(
    words: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    out: Path,
    err: Path,
    seconds: float,
    program: str,
    pace: int = 1,
) -> int | None:
    """Runs the `main` of a module, its output to two files; its exit code, negative where a signal ended it, None where
    it had to be killed. To its event loop time passes `pace` times as fast as it does."""
    places = {"cwd": str(cwd), "out": str(out), "err": str(err)}
    asked = {"program": program, "words": words, **places, "env": dict(env), "seconds": seconds, "pace": pace}
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with _one_at_a_time:
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
    assert answer, "the fork server is gone"
    code: int | None = json.loads(answer)
    return code


def _read_at_start() -> dict[str, str]:
    base = {"LANG": os.environ["LANG"]} if "LANG" in os.environ else {}
    return {**base, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


@cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.forkserver"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **_read_at_start()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )

    @atexit.register
    def close() -> None:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.close()
        server.stdout.close()
        server.wait()

    return server


# -- in the server ---------------------------------------------------------------------------------------------------


def _load() -> None:
    for module in pkgutil.walk_packages(klingflow.__path__, "klingflow."):
        if module.name not in ("klingflow.__main__", "klingflow.io.objects"):  # obstore may start threads
            importlib.import_module(module.name)
    for name in LATE:
        importlib.import_module(name)
    from klingflow.io import http
    from klingflow.storyboard import schema

    http._tls()
    for name in ("storyboard", "project", "lock"):
        schema._validator(name)
    gc.collect()
    gc.freeze()


def _serve() -> dict[str, Any] | None:
    """Forks for each request. Returns it in the fork, and None in the server when nobody asks any more."""
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        child = os.fork()
        if child == 0:
            return asked
        ended = os.pidfd_open(child)
        code: int | None
        if select.select([ended], [], [], asked["seconds"])[0]:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            code = None
        os.close(ended)
        print(json.dumps(code), flush=True)
    return None


def _become(asked: Mapping[str, Any]) -> None:
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, asked["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, asked["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(name, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    if "MEASURES_SEAMS" not in os.environ:  # what takes a second in each run is tried where it is meant
        sys.modules["cv2"] = None  # type: ignore[assignment]
    sys.argv[1:] = asked["words"]
    if asked["pace"] != 1:
        _hasten(asked["pace"])


def _hasten(pace: int) -> None:
    """Shortens what the event loop waits for, and lets its clock agree: all waiting of klingflow is the loop's."""

    class Selector(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            return super().select(timeout and timeout / pace)

    selectors.DefaultSelector = Selector  # type: ignore[misc]
    asyncio.BaseEventLoop.time = lambda self: time.monotonic() * pace  # type: ignore[method-assign]


if __name__ == "__main__":
    _load()
    request = _serve()
    if request is not None:
        _become(request)
        code = importlib.import_module(request["program"]).main()
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError, OSError):
                stream.flush()
        os._exit(code)  # taking apart all that was loaded takes longer than most commands
