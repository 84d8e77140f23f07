"""A key that a seller refuses is one fault, however many shots it stops: told once, and every event is there."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from klingflow.core.errors import UsageError
from klingflow.core.model import ShotId
from klingflow.execution.outcome import Event
from klingflow.output import progress
from tests.cli import Project
from tests.paid_helpers import both, studio
from tests.standins import answer

SHOTS = 32
BOARD = "klingflow: 1\ntitle: Many\ndefaults: {provider: NAME, duration: 3, resolution: 720p}\nshots:\n" + "".join(
    f"  - {{id: s{n}, prompt: the shot with number {n}}}\n" for n in range(SHOTS)
)
SAYS = {"hiapi": "invalid api key", "mulerouter": "invalid token"}
KEY = {"hiapi": "HIAPI_API_KEY", "mulerouter": "MULEROUTER_API_KEY"}


@contextmanager
def refused(folder: Path, name: str) -> Iterator[tuple[Project, Any]]:
    """A project of 32 shots, and its API, which lets the key read and orders nothing for it."""
    with studio(folder, name, BOARD) as (project, api):
        api.lets_in = lambda seen: seen.method != "POST"
        yield project, api
        assert api.purchases == []


@both
def test_a_wrong_key_is_found_before_anything_is_ordered(tmp_path: Path, name: str) -> None:
    board = BOARD + "  - {id: other, provider: OTHER, prompt: of another seller}\n"
    (other,) = KEY.keys() - {name}
    with (
        studio(tmp_path, name, board.replace("OTHER", other)) as (project, api),
        studio(tmp_path / "other", other, BOARD) as (_, second),
    ):
        wrong = {**second.environment(), KEY[name]: "not-the-key-of-anybody"}
        ended = project.run("run", "film.yaml", "--yes", **wrong)
        assert ended.code == UsageError.code
        assert f"{name} refuses the key (HTTP 401); nothing was ordered\nmend: copy {KEY[name]} again" in ended.err
        assert [seen for each in (api, second) for seen in each.requests if seen.method == "POST"] == []


def test_a_key_that_may_order_and_not_list_is_no_wrong_key(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, api):
        api.faults.add(lambda seen: seen.path == "/v1/tasks" and seen.method == "GET", answer(403), times=-1)
        ended = project.run("run", "film.yaml", "--yes")
        assert ended.code == 0, ended.said
        assert "BAD" not in project.run("doctor").out


def test_a_key_that_may_do_nothing_is_told_whatever_the_status(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, api):
        api.faults.add("GET", answer(403), times=-1)
        ended = project.run("run", "film.yaml", "--yes")
        assert (ended.code, "refuses the key (HTTP 403)" in ended.err) == (2, True), ended.said
        assert api.calls("POST") == []


def told_once(text: str, name: str) -> None:
    errors = [line for line in text.splitlines() if SAYS[name] in line]
    assert len(errors) == 1, text
    assert errors[0].startswith("film.yaml:5:")
    assert " failed: " in errors[0]
    assert sum("failed" in line for line in text.splitlines()) == 2, "the error, and the count"
    assert text.count("\nmend: ") == 1
    assert f"mend: check the key and the base URL of {name} with `klingflow doctor`" in text
    assert f"the same for s1, s2, s3, s4, s5, s6, and {SHOTS - 7} more" in text
    assert f"0 clips made, {SHOTS} failed" in text


@both
@pytest.mark.parametrize("quiet", [[], ["--quiet"]], ids=["log", "quiet"])
def test_a_wrong_key_is_one_error_for_32_shots(tmp_path: Path, name: str, quiet: list[str]) -> None:
    with refused(tmp_path, name) as (project, _):
        ended = project.run("run", "film.yaml", "--yes", *quiet)
        assert ended.code == UsageError.code
        told_once(ended.err, name)
        assert ended.out == ""
        live = [line for line in ended.err.splitlines() if "nothing more is ordered there" in line]
        assert len(live) == (0 if quiet else 1)
        planned = json.loads(project.run("plan", "film.yaml", "--format", "json").out)
        assert {step["action"] for step in planned["steps"]} == {"make"}, "nothing is left to settle"


@both
def test_every_event_of_a_wrong_key_is_there_for_programs(tmp_path: Path, name: str) -> None:
    with refused(tmp_path, name) as (project, _):
        ended = project.run("run", "film.yaml", "--yes", "--json")
        assert ended.code == UsageError.code
        assert ended.err == ""
        events = [json.loads(line) for line in ended.out.splitlines()]
        stopped = [each for each in events if each["event"] == "step-failed"]
        assert sorted(each["shot"] for each in stopped) == sorted(f"s{n}" for n in range(SHOTS))
        assert {(each["class"], each["message"], each["charged"]) for each in stopped} == {
            ("unauthorised", SAYS[name], False)
        }
        assert (events[-1]["event"], events[-1]["failed"], events[-1]["exit_code"]) == ("done", SHOTS, 2)


def test_a_wrong_key_is_one_error_on_a_terminal(tmp_path: Path) -> None:
    with refused(tmp_path, "hiapi") as (project, _):
        ours, theirs = pty.openpty()
        env = project.environment({}) | {"TERM": "xterm", "COLUMNS": "200", "NO_COLOR": "1"}
        env.pop("CI", None)
        command = [sys.executable, "-m", "klingflow", "run", "film.yaml", "--yes"]
        with subprocess.Popen(command, cwd=project.root, env=env, stdin=subprocess.DEVNULL, stderr=theirs) as process:
            os.close(theirs)
            said = b""
            try:
                while part := os.read(ours, 65536):
                    said += part
            except OSError:  # so Linux tells that nobody writes there any more
                pass
            os.close(ours)
        assert process.returncode == UsageError.code
        text = said.decode().replace("\r\n", "\n")
        assert text.count(SAYS["hiapi"]) == 1, text
        assert text.count("nothing more is ordered there") == 1
        assert f"0 clips made, {SHOTS} failed" in text


def test_two_keys_that_are_refused_are_two_and_what_is_wrong_with_a_shot_is_told_of_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def failed(shot: str, kind: str, message: str, then: str) -> Event:
        data = {"class": kind, "message": message, "charged": False, "next": then}
        return Event(event="step-failed", film="film", shot=ShotId(shot), take=1, data=data)

    with progress.view(json=False, quiet=False) as show:
        for shot in "ab":
            show(failed(shot, "unauthorised", "no", "check the key of hiapi"))
            show(failed(f"{shot}2", "unauthorised", "no", "check the key of mulerouter"))
            show(failed(f"{shot}3", "quota", "no", "top up"))
            show(failed(f"{shot}4", "moderated", "not this", "change the prompt"))
    assert capsys.readouterr().err.splitlines() == [
        "film: a: refused (unauthorised), and nothing more is ordered there",
        "film: a2: refused (unauthorised), and nothing more is ordered there",
        "film: a3: refused (quota), and nothing more is ordered there",
        "film: a4: failed (moderated): not this",
        "film: b4: failed (moderated): not this",
    ]
