"""The command line as a process: write files, run it, read what came."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests import forkserver

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Project:
    """A project folder with a home of its own: nothing leaks between tests, or from this machine."""

    root: Path
    env: Mapping[str, str]
    pace: int = 1
    """How many times as fast time passes for what a command waits for: pauses, polls and timeouts are so much shorter.
    Only where it runs in a fork."""

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        home = self.root.parent / f"{self.root.name}-home"
        home.mkdir(exist_ok=True)
        base = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
        return {**base, "HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **self.env, **extra}

    def start(self, *words: str, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "klingflow", *words],
            cwd=self.root,
            env=self.environment(extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def run(self, *words: str, timeout: float = 120, **extra: str) -> Ended:
        """Runs a command to its end: in a fork of a loaded Python where that is the same (tests.forkserver)."""
        env = self.environment(extra)
        if not forkserver.can_run(env):
            return self.run_process(*words, timeout=timeout, **extra)
        return self.run_fork("klingflow.cli.app", *words, timeout=timeout, **extra)

    def run_killed(self, door: str, number: int, side: str, *words: str, **extra: str) -> Ended:
        """Runs a command that dies at the N-th crossing of one of its doors (tests.killer)."""
        line = (door, str(number), side, *words)
        env = self.environment(extra)
        if forkserver.can_run(env):
            return self.run_fork("tests.killer", *line, **extra)
        died = subprocess.run(
            [sys.executable, "-m", "tests.killer", *line],
            cwd=self.root,
            env=env,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
        return Ended(died.returncode, died.stdout, died.stderr)

    def run_fork(self, program: str, *words: str, timeout: float = 120, **extra: str) -> Ended:
        """Runs the `main` of a module to its end in a fork of a loaded Python."""
        env = self.environment(extra)
        with tempfile.TemporaryDirectory(prefix="klingflow-test-") as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            out.touch()
            err.touch()
            places = {"cwd": self.root, "out": out, "err": err}
            code = forkserver.run(words, **places, env=env, seconds=timeout, program=program, pace=self.pace)
            ended = Ended(0 if code is None else code, out.read_text("utf-8"), err.read_text("utf-8"))
        assert code is not None, f"klingflow {' '.join(words)} did not end:\n{ended.said}"
        return ended

    def run_process(self, *words: str, timeout: float = 120, **extra: str) -> Ended:
        """Runs a command to its end, as a person does: in a Python of its own."""
        process = self.start(*words, **extra)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"klingflow {' '.join(words)} did not end:\n{out}\n{err}") from None
        return Ended(process.returncode, out, err)
