"""Whose death is certain: real processes, and process spaces made with unshare where this machine allows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from klingflow.execution import host

WRITER = (
    "import json; from klingflow.execution import host; print(json.dumps(host.this().signature()), flush=True); input()"
)

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def writer() -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """A process that has written a record, and lives."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


@pytest.fixture
def alive() -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    process, record = writer()
    with process:
        yield process, record
        process.kill()


def test_a_living_writer_is_not_dead_and_a_dead_one_is(alive: tuple[subprocess.Popen[str], dict[str, Any]]) -> None:
    process, record = alive
    assert not host.this().died(record)
    process.kill()
    process.wait()
    assert host.this().died(record)


@LINUX
def test_a_writer_whose_parent_has_not_heard_of_its_death_is_dead(
    alive: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    process, record = alive
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie now, and it stays one
    os.kill(process.pid, 0)
    assert host.this().died(record)


@LINUX
def test_a_number_that_belongs_to_a_later_process_is_not_the_writer(
    alive: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    _, record = alive
    assert host.this().died({**record, "started": "1"})
    assert not host.this().died({**record, "started": ""})  # not known: it may be the writer


def test_this_process_is_not_dead() -> None:
    me = host.this()
    assert me.mine(me.signature())
    assert not me.died(me.signature())


@pytest.mark.parametrize("pid", [0, -1, 2**31, 2**70, True, "7", None, 1.0])
def test_what_is_no_number_of_a_process_is_nobodys_death(pid: object) -> None:
    me = host.this()
    assert not me.died({**me.signature(), "pid": pid, "started": ""})


def test_a_record_of_another_machine_boot_or_process_space_is_nobodys_death(
    alive: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    process, record = alive
    process.kill()
    process.wait()
    words = record["machine"].split(" ")
    for n in range(len(words)):
        other = " ".join([*words[:n], f"{words[n]}x", *words[n + 1 :]])
        assert not host.this().died({**record, "machine": other})
    assert not host.this().died({**record, "machine": words[0]})  # the host's name alone
    assert not host.this().died({**record, "machine": None})


def inside(code: str, *unshare: str, mount: str = "") -> list[str]:
    """What the code prints, run in namespaces of its own; `mount` is a shell command before it. Skips where this
    machine does not allow that."""
    before = f"{mount} && " if mount else ""
    command = ["unshare", *unshare, "sh", "-c", f'{before}exec "$@"', "sh"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("this machine gives no namespaces of one's own")
    ended = subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(code)], capture_output=True, encoding="utf-8", timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


ONE_THAT_LIVES = f"""\
import json, os, subprocess, sys
from klingflow.execution import host
writer = subprocess.Popen([sys.executable, "-c", {WRITER!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
record = json.loads(writer.stdout.readline())
"""


@LINUX
def test_a_writer_that_hidepid_does_not_show_is_not_dead() -> None:
    code = """
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)  # now the process of root is not shown
    print(os.path.exists(f"/proc/{writer.pid}"), host.this().died(record))
    """
    said = inside(ONE_THAT_LIVES + textwrap.dedent(code), "-m", mount="mount -t proc -o hidepid=2 proc /proc")
    assert said == ["False", "False"]


@LINUX
@pytest.mark.parametrize("options", [["-p", "-f"], ["-p", "-f", "--mount-proc"]], ids=["foreign /proc", "own /proc"])
def test_in_a_process_space_of_ones_own_the_living_and_the_dead_are_told_apart(options: list[str]) -> None:
    code = """
    print(host.this().died(record), record["started"] == "")
    writer.kill()
    writer.wait()
    print(host.this().died(record))
    """
    said = inside(ONE_THAT_LIVES + textwrap.dedent(code), *options)
    assert said == ["False", str("--mount-proc" not in options), "True"]


@LINUX
def test_the_numbers_of_another_process_space_say_nothing(alive: tuple[subprocess.Popen[str], dict[str, Any]]) -> None:
    _, record = alive
    code = f"""
    from klingflow.execution import host
    record = {record!r}
    print(host.this().died(record), host.this().machine == record["machine"])
    """
    assert inside(code, "-p", "-f", "--mount-proc") == ["False", "False"]


@LINUX
def test_where_the_boot_cannot_be_known_nobody_is_dead() -> None:
    code = """
    me = host.this()
    print(me.mine(host.this().signature()), me.died(record))
    writer.kill()
    writer.wait()
    print(me.died(record))
    """
    said = inside(ONE_THAT_LIVES + textwrap.dedent(code), "-m", mount="mount -t tmpfs none /proc")
    assert said == ["True", "False", "False"]
