"""A task, and an idempotency key, belong to one account at one address. Nothing is sent again for another one."""

from __future__ import annotations

import base64
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.money_helpers import (
    ONE,
    PAIR,
    actions,
    asked_and_died,
    bought_and_died,
    ended,
    forge,
    forget,
    kinds,
    posts,
    prompts,
    read_until,
    record_file,
    records,
    running,
    words,
)
from tests.paid_helpers import APIS
from tests.standins.hiapi import HiAPI


def second(api: Any) -> dict[str, str]:
    """The environment of somebody else at the same address."""
    return api.environment(api.open_account())  # type: ignore[no-any-return]


def test_an_intent_names_its_account_and_not_the_key(tmp_path: Path) -> None:
    found = []
    with words(tmp_path / "a") as (project, api):
        asked_and_died(project)
        found.append(records(project)[0]["detail"]["account"])
        for path in project.root.rglob("*.json*"):
            assert api.key not in path.read_text(encoding="utf-8", errors="replace")
    with words(tmp_path / "b") as (project, _):
        asked_and_died(project)
        found.append(records(project)[0]["detail"]["account"])
    assert found[0] != found[1], "another address is another account"


@pytest.mark.parametrize(
    "command",
    [["--yes"], ["--yes", "--max-spend", "0"], ["--frozen"], ["--yes", "--detach"]],
    ids=["yes", "nothing to spend", "frozen", "detached"],
)
def test_a_task_of_another_key_is_left_alone(tmp_path: Path, command: list[str]) -> None:
    with words(tmp_path, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        before = kinds(project)
        ran = project.run("run", "film.yaml", *command, **second(api))
        assert ran.code == 1, ran.said
        assert "account" in ran.err
        assert posts(api) == 1
        assert kinds(project) == before, "the task is still to be collected by its own account"
        api.finish_s = 0.01
        ran = project.run("run", "film.yaml")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1


def test_a_task_of_another_key_stops_no_other_shot(tmp_path: Path) -> None:
    with words(tmp_path, PAIR, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach", "--select", "dawn").code == 7
        api.finish_s = 0.01
        ran = project.run("run", "film.yaml", "--yes", **second(api))
        assert ran.code == 1, ran.said
        assert [len(api.bought_by(key)) for key in api.accounts] == [1, 1]
        assert prompts(api) == ["dawn breaks", "noon comes"]


@pytest.mark.parametrize("name", ["hiapi", "mulerouter"])
def test_a_task_of_another_address_is_left_alone(tmp_path: Path, name: str) -> None:
    with words(tmp_path, ONE, name, finish_s=3600.0) as (project, api), APIS[name]() as other:
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        ran = project.run("run", "film.yaml", "--yes", **other.environment())
        assert ran.code == 1, ran.said
        assert "account" in ran.err
        assert posts(other) == 0
        assert posts(api) == 1
        api.finish_s = 0.01
        assert project.run("run", "film.yaml").code == 0
        assert len(api.purchases) == 1


def test_a_task_that_another_key_does_not_know_is_given_up_only_by_force(tmp_path: Path) -> None:
    """It may be paid for and be made at this moment, in the account that ordered it."""
    with words(tmp_path, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        resolve = ("resolve", "film.yaml", "dawn", "--not-bought")
        refused = project.run(*resolve, **second(api))
        assert refused.code == 2, refused.said
        assert "from the account that ordered it" in refused.err
        assert kinds(project) == ["intent", "accepted"]
        assert project.run(*resolve, "--force", **second(api)).code == 0


def test_listen_leaves_a_task_of_another_key_alone(tmp_path: Path) -> None:
    with words(tmp_path, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        before = kinds(project)
        with running(project, "listen", "film.yaml", "--listen", "127.0.0.1:0", **second(api)) as listener:
            read_until(listener.stderr, "another account")
            listener.send_signal(signal.SIGINT)
            assert ended(listener).code == 0
        assert posts(api) == 1
        assert kinds(project) == before


@pytest.mark.parametrize("died", [asked_and_died, bought_and_died])
@pytest.mark.parametrize("command", [["--yes"], ["--frozen"]], ids=["yes", "frozen"])
def test_an_intent_of_another_key_is_in_doubt(tmp_path: Path, died: Any, command: list[str]) -> None:
    with words(tmp_path) as (project, api):
        died(project)
        sent = posts(api)
        ran = project.run("run", "film.yaml", *command, **second(api))
        if command == ["--frozen"]:
            assert ran.code == 6, ran.said  # the plan knows no key: the request might be sent again, and buy
        else:
            assert ran.code == 4, ran.said
            assert "account" in ran.err
        assert posts(api) == sent
        assert kinds(project) == ["intent"]


def test_an_intent_of_another_address_is_in_doubt(tmp_path: Path) -> None:
    with words(tmp_path) as (project, api), HiAPI() as other:
        bought_and_died(project)
        ran = project.run("run", "film.yaml", "--yes", **other.environment())
        assert ran.code == 4, ran.said
        assert posts(other) == 0
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1


def test_an_intent_without_an_account_is_in_doubt(tmp_path: Path) -> None:
    """Written by an older klingflow, or by somebody else: whose key it went out with cannot be known."""
    with words(tmp_path) as (project, api):
        bought_and_died(project)
        forge(record_file(project, "intent"), lambda record: record["detail"].pop("account"))
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 4, ran.said
        assert posts(api) == 1


# One's own account --------------------------------------------------------------------------------------------------


def test_an_unanswered_intent_may_still_be_charged_so_it_counts_as_money(tmp_path: Path) -> None:
    with words(tmp_path) as (project, api):
        asked_and_died(project)
        intent = records(project)[0]["detail"]
        shown = project.run("plan", "film.yaml")
        assert actions(project) == {"dawn": "resume"}
        assert "$0.25" in shown.out, "it may be charged now"
        for command, code in (([], 5), (["--frozen"], 6), (["--yes", "--max-spend", "0"], 5)):
            ran = project.run("run", "film.yaml", *command)
            assert ran.code == code, ran.said
            assert posts(api) == 0
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        (one,) = api.purchases
        assert one.token == intent["headers"]["Idempotency-Key"]
        assert one.raw.decode() == base64.b64decode(intent["body"]).decode()


def test_an_order_that_was_taken_without_an_answer_is_paid_once(tmp_path: Path) -> None:
    with words(tmp_path) as (project, api):
        bought_and_died(project)
        assert project.run("run", "film.yaml").code == 5
        assert posts(api) == 1
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1


@pytest.mark.skipif(not os.environ.get("KLINGFLOW_KILL_ALL"), reason="waits for as long as a task may be unknown")
def test_a_task_that_its_own_account_knows_no_more_is_not_sent_again(tmp_path: Path) -> None:
    with words(tmp_path) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        forget(api)
        ran = project.run("run", "film.yaml", "--yes", timeout=200)
        assert ran.code == 1, ran.said
        assert posts(api) == 1
        assert api.purchases[0].task in ran.err
        assert "resolve" in ran.err
