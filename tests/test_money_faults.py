"""Damage in the ledger stops the shot that it is about. A user's fault ends with 2, never as a bug of klingflow's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Ended, Project
from tests.money_helpers import (
    ONE,
    PAIR,
    bought_and_died,
    ended,
    forge,
    kinds,
    locked,
    posts,
    prompts,
    read_until,
    record_file,
    relock,
    running,
    words,
)
from tests.paid_helpers import both, dedented
from tests.standins import Outcome

# Damaged records ----------------------------------------------------------------------------------------------------


@both
def test_an_answer_without_its_intent_is_damage_and_no_reason_to_buy(tmp_path: Path, name: str) -> None:
    with words(tmp_path, PAIR, name, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach", "--select", "dawn").code == 7
        task = api.purchases[0].task
        accepted = record_file(project, "accepted")
        record_file(project, "intent").unlink()
        api.finish_s = 0.01
        for command in (["--yes"], ["--yes", "--frozen", "--select", "dawn"]):
            ran = project.run("run", "film.yaml", *command)
            assert ran.code in (1, 4), ran.said
            assert "dawn" in ran.err
            assert accepted.name in ran.err
            assert "resolve" in ran.err
            assert prompts(api) == ["dawn breaks", "noon comes"], "the other one goes on, and neither is bought twice"
        assert locked(project, "noon")
        settled = project.run("resolve", "film.yaml", "dawn", "--task", task)
        assert settled.code == 0, settled.said
        ran = project.run("run", "film.yaml")
        assert ran.code == 0, ran.said
        assert posts(api) == 2


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00{"),
    "a list": lambda path: path.write_bytes(b"[]"),
    "of the future": lambda path: forge(path, lambda record: record.update(version=99)),
    "of another key": lambda path: forge(path, lambda record: record.update(key="f" * 64)),
    "of an unknown kind": lambda path: forge(path, lambda record: record.update(kind="wish")),
    "without a time": lambda path: forge(path, lambda record: record.pop("at_ms")),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "nested": lambda path: path.write_bytes(b"[" * 100_000),
    "a large number": lambda path: forge(path, lambda record: record.update(at_ms=10**400)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_one_record_that_cannot_be_read_stops_one_shot(tmp_path: Path, damage: str) -> None:
    with words(tmp_path, PAIR) as (project, api):
        bought_and_died(project, "--select", "dawn")
        path = record_file(project, "intent")
        path.chmod(0o644)
        DAMAGE[damage](path)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code in (1, 4), ran.said
        assert "dawn" in ran.err
        assert path.parent.name[:12] in ran.err
        assert path.name in ran.err
        assert prompts(api) == ["dawn breaks", "noon comes"]
        assert locked(project, "noon")
        shown = project.run("plan", "film.yaml", "--format", "json")
        assert shown.code == 0, shown.said
        (dawn,) = [step for step in json.loads(shown.out)["steps"] if step["shot"] == "dawn"]
        assert dawn["action"] not in ("make", "adopt", "reuse")
        assert project.run("status", "film.yaml").code in (0, 1, 2)


@pytest.mark.parametrize("damage", ["torn", "of another key"])
def test_one_clip_record_that_cannot_be_read_stops_one_shot(tmp_path: Path, damage: str) -> None:
    with words(tmp_path, PAIR) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--select", "dawn").code == 0
        (path,) = (project.root / ".klingflow/store/clips").iterdir()
        path.chmod(0o644)
        DAMAGE[damage](path)
        (project.root / "film.lock.yaml").unlink()
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code in (1, 4), ran.said
        assert path.name in ran.err
        assert prompts(api) == ["dawn breaks", "noon comes"]
        assert locked(project, "noon")


def test_two_shots_that_are_given_one_task_stop_with_an_alarm(tmp_path: Path) -> None:
    with words(tmp_path, PAIR) as (project, api):
        for prompt in ("dawn", "noon"):
            api.becomes(Outcome(task="tk-hiapi-THESAME0000000000000000000"), prompt=prompt)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code in (1, 4), ran.said
        assert "tk-hiapi-THESAME0000000000000000000" in ran.err
        clips = [locked(project, "dawn"), locked(project, "noon")]
        assert clips.count("") >= 1, "one clip would be shown as two shots"
        bought = len(api.purchases)
        assert project.run("run", "film.yaml", "--yes").code in (1, 4)
        assert len(api.purchases) == bought, "what is sent again has the same idempotency key"
        assert [locked(project, "dawn"), locked(project, "noon")].count("") == 1


# Users' faults ------------------------------------------------------------------------------------------------------


TAKES = ONE + "        takes: 4\n"


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("out", ["nodir/p.json", "adir", "adir/", "film.yaml/p.json", "/proc/p.json", "x" * 300])
def test_a_plan_that_cannot_be_saved_is_the_users_fault(tmp_path: Path, out: str, command: str) -> None:
    with words(tmp_path) as (project, api):
        (project.root / "adir").mkdir()
        line = ["plan", "film.yaml", "--out", out] if command == "plan" else ["run", "film.yaml", "--plan", out]
        said = project.run(*line)
        assert said.code == 2, said.said
        assert "Traceback" not in said.said
        assert out[:20] in said.err
        assert list((project.root / "adir").iterdir()) == []
        assert api.requests == []


def shell(project: Project, line: str, **extra: str) -> Ended:
    """A line of a shell in which `klingflow` is the command."""
    text = f'klingflow() {{ "{sys.executable}" -m klingflow "$@"; }}; {line}'
    done = subprocess.run(
        ["bash", "-c", text], cwd=project.root, env=project.environment(extra), capture_output=True, encoding="utf-8",
        stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "1>&- 2>&-", "0<&-"])
@pytest.mark.parametrize(
    "command", ["check film.yaml", "plan film.yaml", "plan nofile.yaml", "status film.yaml", "run film.yaml"]
)
def test_a_closed_stream_is_no_bug_of_klingflow(tmp_path: Path, command: str, closed: str) -> None:
    with words(tmp_path) as (project, api):
        said = shell(project, f"klingflow {command} {closed}")
        wanted = {"plan nofile.yaml": (2,), "run film.yaml": (2, 5)}.get(command, (0, 2))
        assert said.code in wanted, said
        assert api.requests == []


@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-", "0<&-"])
def test_a_run_without_streams_buys_once_or_not_at_all(tmp_path: Path, closed: str) -> None:
    with words(tmp_path) as (project, api):
        said = shell(project, f"klingflow run film.yaml --yes {closed}")
        assert said.code in (0, 2), said
        assert len(api.purchases) == (1 if said.code == 0 else 0)
        assert kinds(project) == (["intent", "accepted", "stored"] if said.code == 0 else [])
        assert bool(locked(project, "dawn")) == (said.code == 0)


def test_a_lock_with_an_unknown_provider_is_the_users_fault(tmp_path: Path) -> None:
    with words(tmp_path, PAIR) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        relock(project, "dawn", provider="nobody", clip="0" * 64)
        for command in (["run", "film.yaml"], ["run", "film.yaml", "--yes"]):
            said = project.run(*command)
            assert said.code == 2, said.said
            assert "nobody" in said.err
            assert "film.lock.yaml" in said.err
        for command in (["plan", "film.yaml"], ["takes", "film.yaml"], ["film", "film.yaml"], ["check", "film.yaml"]):
            said = project.run(*command)
            assert said.code != 3, said.said
        assert len(api.purchases) == 2


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("HTTPS_PROXY", value) for value in ("http://[::1", "http://host:port", "http://", "://", "socks9://x:1")),
        ("https_proxy", "http://[::1"),
        ("ALL_PROXY", "http://[::1"),
    ],
)
def test_a_malformed_proxy_is_the_users_fault(tmp_path: Path, variable: str, value: str) -> None:
    with words(tmp_path) as (project, api):
        said = project.run("run", "film.yaml", "--yes", **{variable: value})
        assert said.code == 2, said.said
        assert "proxy" in said.err.lower()
        assert api.purchases == []
        doctor = project.run("doctor", "film.yaml", **{variable: value})
        assert doctor.code == 2, doctor.said


@contextmanager
def idle_listener(project: Project, api: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A listener that has collected all four takes, and its address: it waits for callbacks, and for nothing else."""
    assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
    api.finish_s = 0.0
    with running(project, "listen", "film.yaml", "--listen", "127.0.0.1:0") as listener:
        heard = read_until(listener.stderr, "/hiapi")
        if "collected" not in heard:
            read_until(listener.stderr, "collected")
        yield listener, f"http://127.0.0.1:{heard.split('127.0.0.1:')[1].split()[0]}/hiapi"
        listener.send_signal(signal.SIGINT)
        assert ended(listener).code == 0


def order_one_more(project: Project, api: Any) -> None:
    project.write("film.yaml", dedented(TAKES).replace("NAME", "hiapi").replace("takes: 4", "takes: 5"))
    api.finish_s = 3600.0
    assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
    api.finish_s = 0.0


def test_listen_survives_a_storyboard_that_is_saved_with_a_typo(tmp_path: Path) -> None:
    with words(tmp_path, TAKES, finish_s=3600.0) as (project, api), idle_listener(project, api) as (listener, hook):
        good = dedented(TAKES).replace("NAME", "hiapi")
        # Two callbacks with the same content wake it once.
        for one, broken in zip(api.purchases, (good.replace("prompt:", "promt:"), "shots: [", ""), strict=False):
            project.write("film.yaml", broken)
            assert 200 <= api.call(one, hook) < 300
            read_until(listener.stderr, "film.yaml")
            assert listener.poll() is None
        order_one_more(project, api)
        assert 200 <= api.call(api.purchases[-1], hook) < 300
        read_until(listener.stderr, "collected")
    assert kinds(project).count("stored") == 5
    assert posts(api) == 5


def test_listen_survives_a_project_that_is_away_for_a_moment(tmp_path: Path) -> None:
    """`git checkout` takes files away and brings them back."""
    with words(tmp_path, TAKES, finish_s=3600.0) as (project, api), idle_listener(project, api) as (listener, hook):
        (project.root / "film.yaml").unlink()
        api.call(api.purchases[0], hook)
        read_until(listener.stderr, "film.yaml")
        order_one_more(project, api)
        api.call(api.purchases[-1], hook)
        read_until(listener.stderr, "collected")
    assert posts(api) == 5
