"""A command in a fork of a loaded Python is the command as a person gives it: each is given in both ways."""

from __future__ import annotations

import re

import pytest

from klingflow.cli.app import COMMANDS
from tests import forkserver
from tests.cli import Ended, Project

BOARD = """\
klingflow: 1
title: One
shots:
  - {id: one, prompt: the one, duration: 3}
"""
GIVEN = {
    "init": "init film.yaml",
    "check": "check film.yaml broken.yaml",
    "plan": "plan film.yaml --exit-code",
    "run": "run film.yaml --frozen",
    "status": "status film.yaml",
    "resolve": "resolve film.yaml one --not-bought",
    "take-in": "take-in film.yaml clip.mp4 --as one",
    "takes": "takes film.yaml",
    "film": "film film.yaml",
    "open": "open film.yaml",
    "graph": "graph film.yaml --format svg",
    "listen": "listen film.yaml",
    "doctor": "doctor",
    "prices": "prices",
    "verify": "verify film.mp4",
    "report": "report film.yaml",
    "seams": "seams --help",
    "export": "export film.yaml",
    "import": "import film.otio",
    "farm": "farm status",
    "worker": "worker nowhere",
    "store": "store film.yaml",
    "cache": "cache",
    "lock": "lock merge a.lock.yaml b.lock.yaml c.lock.yaml",
    "schema": "schema lock",
    "completion": "completion bash",
}

pytestmark = pytest.mark.skipif(not forkserver.USED, reason="every command is a process of its own")


def without_numbers(ended: Ended) -> tuple[int, str, str]:
    """A disk's free space and a clock's lag are never the same twice."""
    return ended.code, re.sub(r"\d+", "0", ended.out), re.sub(r"\d+", "0", ended.err)


def test_every_command_is_given() -> None:
    assert GIVEN.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", GIVEN)
def test_a_fork_says_and_ends_as_a_process_does(project: Project, command: str) -> None:
    project.write("film.yaml", BOARD)
    project.write("broken.yaml", BOARD.replace("prompt", "promt"))
    words = GIVEN[command].split()
    assert forkserver.can_run(project.environment({}))
    assert without_numbers(project.run(*words)) == without_numbers(project.run_process(*words))


def test_nothing_of_one_command_is_left_for_the_next(project: Project) -> None:
    project.write("film.yaml", BOARD)
    first = project.run("plan", "film.yaml", KLINGFLOW_STORE="elsewhere", HIAPI_API_KEY="a key")
    project.write("film.yaml", BOARD.replace("the one", "the other"))
    second = project.run("plan", "film.yaml")
    assert (first.code, second.code) == (0, 0)
    assert second == project.run_process("plan", "film.yaml")
    assert not (project.root / "elsewhere").exists()


def test_a_command_that_does_not_end_is_killed_and_the_next_one_runs(project: Project) -> None:
    project.write("film.yaml", BOARD)
    with pytest.raises(AssertionError, match="did not end"):
        project.run("run", "film.yaml", timeout=0.0)
    assert project.run("check", "film.yaml").code == 0


def test_what_python_reads_as_it_starts_needs_a_process(project: Project) -> None:
    for name in ("PYTHONUTF8", "PYTHONIOENCODING", "LC_ALL", "TZ"):
        assert not forkserver.can_run(project.environment({name: "x"})), name
