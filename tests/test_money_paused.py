"""A runner that slept between its intent and its request, and clocks that are hours apart: nothing is sent late."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Project
from tests.money_helpers import (
    CONTINUED,
    ONE,
    asked_and_died,
    bought_and_died,
    ended,
    forge,
    killed,
    kinds,
    locked,
    posts,
    record_file,
    records,
    running,
    until,
    words,
)
from tests.paid_helpers import both
from tests.standins import Hold, answer

HOUR_S = 3600.0
RESOLVE = ("resolve", "film.yaml", "dawn")

# Paused -------------------------------------------------------------------------------------------------------------


@contextmanager
def asleep(project: Project) -> Iterator[subprocess.Popen[str]]:
    """A run that stopped right after its intent was on disk."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pauser", "run", "film.yaml", "--yes"],
        cwd=project.root,
        env=project.environment({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"it did not stop: {process.communicate()}"
        assert kinds(project) == ["intent"]
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate()


@both
def test_a_runner_that_wakes_up_after_its_order_was_settled_sends_nothing(tmp_path: Path, name: str) -> None:
    with words(tmp_path, ONE, name) as (project, api), asleep(project) as sleeper:
        refused = project.run(*RESOLVE, "--not-bought")
        assert refused.code == 2, "its writer may wake up"
        settled = project.run(*RESOLVE, "--not-bought", "--force")
        assert settled.code == 0, settled.said
        sleeper.send_signal(signal.SIGCONT)
        woken = ended(sleeper)
        assert posts(api) == 0
        assert woken.code not in (0, 3), woken.said
        assert kinds(project) == ["intent", "abandoned"]


@both
def test_a_runner_that_wakes_up_after_another_one_bought_adopts_its_clip(tmp_path: Path, name: str) -> None:
    with words(tmp_path, ONE, name) as (project, api), asleep(project) as sleeper:
        assert project.run(*RESOLVE, "--not-bought", "--force").code == 0
        other = project.run("run", "film.yaml", "--yes")
        assert other.code == 0, other.said
        sleeper.send_signal(signal.SIGCONT)
        woken = ended(sleeper)
        assert posts(api) == 1
        assert woken.code != 3, woken.said
        assert project.run("run", "film.yaml", "--frozen").code == 0
        assert locked(project, "dawn")


def test_a_runner_that_wakes_up_after_its_order_was_replayed_sends_nothing(tmp_path: Path) -> None:
    """HiAPI's key makes it safe inside the window; a day later it would be a second purchase."""
    with ExitStack() as stack:
        offset = [0.0]
        project, api = stack.enter_context(words(tmp_path, clock=lambda: time.time() + offset[0]))
        sleeper = stack.enter_context(asleep(project))
        settled = project.run(*RESOLVE, "--not-bought", "--force")
        assert settled.code == 0, settled.said
        assert project.run("run", "film.yaml", "--yes").code == 0
        offset[0] = 30 * HOUR_S
        sleeper.send_signal(signal.SIGCONT)
        ended(sleeper)
        assert len(api.purchases) == 1


def test_a_runner_that_was_told_of_its_task_while_it_slept_sends_nothing(tmp_path: Path) -> None:
    """A person has bought the same thing by hand, and named the task."""
    with words(tmp_path, ONE, "mulerouter") as (project, api):
        with asleep(project) as sleeper:
            task = "00000000-0000-4000-8000-000000000001"
            settled = project.run(*RESOLVE, "--task", task)
            assert settled.code == 0, settled.said
            sleeper.send_signal(signal.SIGCONT)

            def asked() -> bool:
                return any(task in seen.path for seen in api.calls("GET"))

            until(lambda: asked() or sleeper.poll() is not None, "a question about that task")
            assert asked()
            sleeper.send_signal(signal.SIGINT)
            ended(sleeper)
        assert posts(api) == 0


class Deaf:
    """An address where connections are made only when it begins to hear: until then its queue is full."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(0)
        self._queue = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.socket.getsockname())
            self._queue.append(filler)
        self.heard: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def hear(self, process: subprocess.Popen[str]) -> None:
        """Takes every connection until the process ends, and keeps what is said on them."""
        for filler in self._queue:
            filler.close()
        self.socket.settimeout(0.2)
        while process.poll() is None:
            try:
                connection, _ = self.socket.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(2)
                try:
                    data = connection.recv(65536)
                except TimeoutError:
                    data = b""
                if data:
                    self.heard.append(data)

    def close(self) -> None:
        for filler in self._queue:
            filler.close()
        self.socket.close()


def test_a_request_that_waited_for_its_connection_is_not_sent_after_its_order_was_settled(tmp_path: Path) -> None:
    with words(tmp_path, ONE, "mulerouter") as (project, _):
        deaf = Deaf()
        try:
            with running(project, "run", "film.yaml", "--yes", MULEROUTER_BASE_URL=deaf.url) as sleeper:
                until(lambda: kinds(project) == ["intent"], "the intent")
                connecting = f"{deaf.socket.getsockname()[1]:04X} 02"  # /proc/net/tcp: SYN_SENT
                until(lambda: connecting in Path("/proc/net/tcp").read_text(encoding="ascii"), "the connection")
                sleeper.send_signal(signal.SIGSTOP)
                settled = project.run(*RESOLVE, "--not-bought", "--force", MULEROUTER_API_KEY="")
                assert settled.code == 0, settled.said
                sleeper.send_signal(signal.SIGCONT)
                deaf.hear(sleeper)
            assert [said for said in deaf.heard if said.startswith(b"POST")] == []
        finally:
            deaf.close()


# Clocks -------------------------------------------------------------------------------------------------------------


@contextmanager
def clocked(folder: Path, **options: Any) -> Iterator[tuple[Project, Any, list[float]]]:
    """A project and its API, whose clock is as many seconds ahead as the list says."""
    offset = [0.0]
    with words(folder, clock=lambda: time.time() + offset[0], **options) as (project, api):
        yield project, api, offset


@pytest.mark.parametrize("later_h", [21.0, 30.0, 24.0 * 400])
def test_a_window_that_is_over_by_the_providers_clock_is_over(tmp_path: Path, later_h: float) -> None:
    """This machine's clock stood still: by it the intent is seconds old."""
    with clocked(tmp_path) as (project, api, offset):
        bought_and_died(project)
        offset[0] = later_h * HOUR_S
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 4, ran.said
        assert posts(api) == 1
        assert kinds(project) == ["intent"]


@pytest.mark.parametrize("earlier_h", [2.0, 30.0])
def test_an_intent_from_the_providers_future_is_in_doubt(tmp_path: Path, earlier_h: float) -> None:
    with clocked(tmp_path, finish_s=0.0) as (project, api, offset):
        offset[0] = earlier_h * HOUR_S
        bought_and_died(project)
        offset[0] = 0.0
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 4, ran.said
        assert posts(api) == 1


@pytest.mark.parametrize("when", ["always", "at the end"])
def test_without_the_providers_clock_the_age_is_not_known(tmp_path: Path, when: str) -> None:
    with words(tmp_path) as (project, api):
        if when == "always":
            api.sends_date = False
        bought_and_died(project)
        if when == "at the end":
            api.sends_date = False
        sent = posts(api)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 4, ran.said
        assert posts(api) == sent
        assert len(api.purchases) == 1


def test_a_provider_without_a_clock_can_still_be_bought_from(tmp_path: Path) -> None:
    with words(tmp_path) as (project, api):
        api.sends_date = False
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1


@pytest.mark.parametrize("hours", [-30.0, -21.0, 5.0, 30.0])
def test_a_local_clock_that_was_wrong_decides_nothing(tmp_path: Path, hours: float) -> None:
    """The intent is of a moment ago by the provider's clock, whatever its writer's clock said."""
    with clocked(tmp_path) as (project, api, _):
        bought_and_died(project)
        forge(
            record_file(project, "intent"),
            lambda record: record.update(at_ms=record["at_ms"] + round(hours * HOUR_S * 1000)),
        )
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1


@pytest.mark.parametrize("hours", [-5.0, 30.0])
def test_both_clocks_wrong_never_buy_twice(tmp_path: Path, hours: float) -> None:
    with clocked(tmp_path) as (project, api, offset):
        bought_and_died(project)
        offset[0] = 30 * HOUR_S
        forge(
            record_file(project, "intent"),
            lambda record: record.update(at_ms=record["at_ms"] + round(hours * HOUR_S * 1000)),
        )
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 4, ran.said
        assert posts(api) == 1


def test_an_order_that_never_left_is_sent_inside_the_window_by_the_providers_clock(tmp_path: Path) -> None:
    with clocked(tmp_path) as (project, api, offset):
        asked_and_died(project)
        offset[0] = 2 * HOUR_S
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        (one,) = api.purchases
        assert one.token == records(project)[0]["detail"]["headers"]["Idempotency-Key"]


DAY_S = 86_400


@pytest.mark.parametrize("ahead_s", [-30 * DAY_S, -28_800, 28_800])
def test_a_runner_whose_clock_is_wrong_settles_an_order_that_lost_its_answer(tmp_path: Path, ahead_s: int) -> None:
    """The provider's clock says that the same request can be sent again; the plan leaves it to be asked."""
    with words(tmp_path, CONTINUED) as (project, api):
        bought_and_died(project)
        ran = project.run_fork("tests.farm_worker", "run", "film.yaml", "--yes", WRONG_CLOCK_S=str(ahead_s))
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 2
        assert project.run("run", "film.yaml", "--frozen").code == 0


def test_a_runner_whose_clock_is_fast_waits_for_the_answer_that_another_one_waits_for(tmp_path: Path) -> None:
    """MuleRouter cannot be asked again. Its Date header says that the other run's request left a moment ago."""
    with ExitStack() as stack:
        project, api = stack.enter_context(words(tmp_path, ONE, "mulerouter"))
        held = Hold("answer")
        api.faults.add("POST", held)
        first = stack.enter_context(running(project, "run", "film.yaml", "--yes"))
        until(held.reached.is_set, "the order")
        before = len(api.calls("GET"))
        second = subprocess.Popen(
            [sys.executable, "-m", "tests.farm_worker", "run", "film.yaml", "--yes"],
            cwd=project.root,
            env=project.environment({"WRONG_CLOCK_S": "28800"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        stack.callback(second.kill)
        until(lambda: len(api.calls("GET")) > before or second.poll() is not None, "a question for the time")
        held.release()
        both = ended(first), ended(second)
        assert [one.code for one in both] == [0, 0], both
        assert len(api.purchases) == 1


def test_an_order_that_was_refused_is_sent_with_its_first_key_whatever_a_clock_says(tmp_path: Path) -> None:
    """Another runner may have replayed it, and not have heard that it was taken."""
    with words(tmp_path) as (project, api):
        api.faults.add("POST", answer(429, {"code": 429, "message": "slow down"}))
        killed(project, "create", 2, "after")
        assert kinds(project) == ["intent", "refused"]
        ran = project.run_fork("tests.farm_worker", "run", "film.yaml", "--yes", WRONG_CLOCK_S="-28800")
        assert ran.code == 0, ran.said
        (one,) = api.purchases
        assert one.token == records(project)[0]["detail"]["headers"]["Idempotency-Key"]
