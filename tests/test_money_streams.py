"""A run whose terminal goes away goes on to its end, with its own exit code."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from tests.cli import Project
from tests.money_helpers import ONE, kinds, locked, prompts, read_until, records, until, words
from tests.standins import Hold, Outcome

TWO_TAKES = ONE + "        takes: 2\n"


@contextmanager
def started(project: Project, *words: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A run in a session of its own, with the streams that the test gives it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "klingflow", "run", "film.yaml", "--yes", *words],
        cwd=project.root,
        env=project.environment({}),
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def done(process: subprocess.Popen[bytes]) -> int:
    """Its exit code. What is still open is read, so that it cannot wait for its reader."""
    for stream in (process.stdout, process.stderr):
        if stream is not None and not stream.closed:
            threading.Thread(target=stream.read, daemon=True).start()
    return process.wait(60)


def reached(process: subprocess.Popen[bytes], seen: Callable[[], object], what: str) -> None:
    until(lambda: seen() or process.poll() is not None, what)
    assert seen(), f"it ended before {what}, with exit {process.returncode}"


def _first_line(stream: IO[bytes] | None) -> None:
    """What `head -1` does: reads a line, and goes away."""
    assert stream is not None
    os.read(stream.fileno(), 1)
    stream.close()


def _bought(project: Project, api: Any, code: int, *, wanted: int = 0) -> None:
    said = f"exit {code}, {kinds(project)}"
    assert code == wanted, said
    assert len(api.purchases) == 1
    if wanted == 0:
        assert kinds(project) == ["intent", "accepted", "stored"]
        assert locked(project, "dawn"), "the lock is written"
        assert (project.root / "out/film/film.mp4").is_file()
        assert list((project.root / ".klingflow").glob("run-*")) == []


SHOWN: dict[str, tuple[list[str], dict[str, Any], Callable[[Any], Any]]] = {
    "--json | head": (["--json"], {}, lambda process: process.stdout),
    "--json 2>&1 | head -1": (["--json"], {"stderr": subprocess.STDOUT}, lambda process: process.stdout),
    "2>&1 | head -1": ([], {"stderr": subprocess.STDOUT}, lambda process: process.stdout),
    "stderr alone": ([], {}, lambda process: process.stderr),
}


@pytest.mark.parametrize("fails", [False, True], ids=["good", "failing"])
@pytest.mark.parametrize("shown", SHOWN)
def test_a_reader_that_goes_away_stops_the_showing_and_not_the_run(tmp_path: Path, shown: str, fails: bool) -> None:
    options, streams, chosen = SHOWN[shown]
    with words(tmp_path) as (project, api):
        if fails:
            api.becomes(Outcome(fail=("moderated", "content violates the policy")))
        held = Hold()
        api.faults.add("POST", held)
        with started(project, *options, **streams) as process:
            _first_line(chosen(process))
            reached(process, lambda: api.purchases, "the order")
            held.release()
            _bought(project, api, done(process), wanted=1 if fails else 0)


def test_readers_of_both_streams_that_go_away_before_anything_is_shown(tmp_path: Path) -> None:
    with words(tmp_path) as (project, api), started(project, "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        _bought(project, api, process.wait(60))


@pytest.mark.parametrize("frozen", ["stdout", "stderr"])
def test_a_full_disk_behind_a_stream_stops_no_run(tmp_path: Path, frozen: str) -> None:
    """`> /dev/full`: each write is an error."""
    with words(tmp_path) as (project, api), open("/dev/full", "wb") as full:
        with started(project, "--json", **{frozen: full}) as process:
            code = done(process)
        assert code != 3
        assert kinds(project) == ["intent", "accepted", "stored"]
        assert len(api.purchases) == 1
        assert locked(project, "dawn")


@pytest.mark.parametrize("where", ["in the POST", "while it waits"])
def test_a_window_that_is_closed_stops_no_run(tmp_path: Path, where: str) -> None:
    with words(tmp_path) as (project, api):
        held = Hold()
        if where == "in the POST":
            api.faults.add("POST", held)
        else:
            api.finish_s = 3600.0
        with started(project) as process:
            reached(process, lambda: api.purchases if where == "in the POST" else "accepted" in kinds(project), where)
            process.send_signal(signal.SIGHUP)
            held.release()
            api.finish_s = 0.0
            _bought(project, api, done(process))


def test_a_terminal_that_vanishes_stops_no_run(tmp_path: Path) -> None:
    with words(tmp_path) as (project, api):
        held = Hold()
        api.faults.add("POST", held)
        ours, its = pty.openpty()

        def take() -> None:
            os.setsid()
            os.close(os.open(os.ttyname(its), os.O_RDWR))  # the first terminal that is opened becomes the session's

        streams = {"stdin": its, "stdout": its, "stderr": its, "preexec_fn": take}
        with started(project, **streams) as process:
            os.close(its)
            reached(process, lambda: api.purchases, "the order")
            os.close(ours)  # SIGHUP for its session, and EIO for whoever writes
            held.release()
            _bought(project, api, process.wait(60))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_without_its_terminal_can_still_be_ended(tmp_path: Path, number: signal.Signals) -> None:
    """What is lost is the showing; to end it is another thing, and leaves the task to be collected."""
    with words(tmp_path, finish_s=3600.0) as (project, api), started(project, "--json") as process:
        _first_line(process.stdout)
        reached(process, lambda: "accepted" in kinds(project), "the task")
        process.send_signal(signal.SIGHUP)
        process.send_signal(number)
        assert process.wait(60) == 130
        assert kinds(project) == ["intent", "accepted"]
        api.finish_s = 0.01
        assert project.run("run", "film.yaml").code == 0
        assert len(api.purchases) == 1


def test_all_takes_are_bought_when_the_reader_leaves_after_the_first(tmp_path: Path) -> None:
    with words(tmp_path, TWO_TAKES) as (project, api):
        held = Hold()
        api.faults.add("POST", held, after=1)
        with started(project, "--json") as process:
            reached(process, lambda: len(api.purchases) == 2, "both orders")
            _first_line(process.stdout)
            held.release()
            assert done(process) == 0
        assert len(prompts(api)) == 2
        assert len([each for each in records(project) if each["kind"] == "stored"]) == 2


def test_listen_goes_on_when_its_log_is_closed(tmp_path: Path) -> None:
    with words(tmp_path, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        listener = project.start("listen", "film.yaml", "--listen", "127.0.0.1:0")
        try:
            read_until(listener.stderr, "listening")
            assert listener.stderr is not None
            listener.stderr.close()
            listener.send_signal(signal.SIGHUP)
            api.finish_s = 0.01
            until(lambda: kinds(project)[-1] == "stored" or listener.poll() is not None, "the clip")
            assert listener.poll() is None, "it still listens"
            assert kinds(project)[-1] == "stored"
            listener.send_signal(signal.SIGINT)
            assert listener.wait(30) == 0
        finally:
            listener.kill()
            listener.wait()
            assert listener.stdout is not None
            listener.stdout.close()
        assert len(api.purchases) == 1
