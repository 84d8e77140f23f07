"""Times commands side by side: one warm-up each, then all of them in turn, so that a busy moment hits all alike.

Only the ratios of one table mean something: another machine, or another hour on this one, has other milliseconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

KLINGFLOW = str(Path(sys.executable).with_name("klingflow"))
"""The installed command, as a user starts it."""

PASS = (sys.executable, "-c", "pass")


def anew(*words: str) -> tuple[str, ...]:
    """A command of the storyboard in an environment that differs every time: nothing is shown again, all is read and
    decided. The path is spelled otherwise than usual, because of each command line the last answer is kept."""
    return ("sh", "-c", 'TURN=$$ exec "$@"', "sh", *words, "./film.yaml")


@dataclass(frozen=True)
class Command:
    name: str
    words: Sequence[str]
    folder: Path
    expect: str = ""
    """A text that the output must hold: a tool that did something else was not measured."""


def environment(home: Path) -> dict[str, str]:
    """As on a user's machine, with a home of its own: Python keeps its bytecode, and nothing of this shell counts."""
    kept = ("PATH", "LANG", "TF_CLI_CONFIG_FILE", "SYSTEMROOT")
    passed = {name: os.environ[name] for name in kept if name in os.environ}
    return {**passed, "HOME": str(home), "CHECKPOINT_DISABLE": "1"}  # terraform asks the internet for news otherwise


def race(commands: Sequence[Command], rounds: int, environ: Mapping[str, str]) -> dict[str, float]:
    """Median wall seconds of each command. Ends the program where one fails."""
    took: dict[str, list[float]] = {command.name: [] for command in commands}
    for turn in range(rounds + 1):
        for command in commands:
            seconds = run(command, environ)
            if turn:
                took[command.name].append(seconds)
    return {name: median(times) for name, times in took.items()}


def run(command: Command, environ: Mapping[str, str]) -> float:
    start = time.perf_counter()
    ended = subprocess.run(
        command.words, cwd=command.folder, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    seconds = time.perf_counter() - start
    said = (ended.stdout + ended.stderr).decode(errors="replace")
    if ended.returncode or command.expect not in said:
        sys.exit(f"{command.name} ended with {ended.returncode} and said:\n{said[-3000:]}")
    return seconds


def table(title: str, times: Mapping[str, float], base: str) -> None:
    """Prints the times, each as a multiple of `base`."""
    print(f"\n{title}")
    wide = max(len(name) for name in times)
    for name, seconds in times.items():
        print(f"  {name:<{wide}}  {seconds * 1000:9.1f} ms  {seconds / times[base]:7.2f} x {base}", flush=True)
