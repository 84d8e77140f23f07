"""`resolve` asks the provider before it throws a paid task away, and a person who knows better is believed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from tests.cli import Project
from tests.money_helpers import (
    ONE,
    PAIR,
    asked_and_died,
    bought_and_died,
    ended,
    forget,
    kinds,
    locked,
    posts,
    record_file,
    records,
    running,
    store_of,
    until,
    words,
)
from tests.paid_helpers import both
from tests.standins import Hold, Outcome, drop_after, drop_before

RESOLVE = ("resolve", "film.yaml", "dawn")


@both
def test_a_running_task_is_given_up_only_by_force_and_comes_back_by_its_id(tmp_path: Path, name: str) -> None:
    with words(tmp_path, ONE, name, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        (one,) = api.purchases
        before = len(api.requests)
        refused = project.run(*RESOLVE, "--not-bought")
        assert refused.code == 2, refused.said
        assert one.task in refused.err
        assert "--force" in refused.err
        assert one.task in "".join(seen.path for seen in api.requests[before:]), "the provider was asked"
        assert kinds(project) == ["intent", "accepted"]

        assert project.run(*RESOLVE, "--not-bought", "--force").code == 0
        assert kinds(project)[-1] == "abandoned"
        back = project.run(*RESOLVE, "--task", one.task)
        assert back.code == 0, back.said
        api.finish_s = 0.01
        ran = project.run("run", "film.yaml")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1


def test_a_finished_task_that_nobody_fetched_is_not_given_up(tmp_path: Path) -> None:
    with words(tmp_path, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        api.finish_s = 0.01
        refused = project.run(*RESOLVE, "--not-bought")
        assert refused.code == 2, refused.said
        assert kinds(project) == ["intent", "accepted"]
        assert project.run("run", "film.yaml").code == 0
        assert len(api.purchases) == 1


def test_where_the_provider_cannot_be_asked_a_task_is_given_up_only_by_force(tmp_path: Path) -> None:
    with words(tmp_path, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        for api_key in ("", "sk-of-somebody-else"):
            refused = project.run(*RESOLVE, "--not-bought", HIAPI_API_KEY=api_key)
            assert refused.code == 2, refused.said
            assert kinds(project) == ["intent", "accepted"]
        api.faults.add("GET /v1/tasks", drop_before, times=-1)
        refused = project.run(*RESOLVE, "--not-bought")
        assert refused.code == 2, refused.said
        assert kinds(project) == ["intent", "accepted"]


def test_a_task_that_its_provider_does_not_know_is_given_up_without_force(tmp_path: Path) -> None:
    with words(tmp_path, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        forget(api)
        before = len(api.requests)
        settled = project.run(*RESOLVE, "--not-bought")
        assert settled.code == 0, settled.said
        assert len(api.requests) > before, "the provider was asked"
        assert kinds(project)[-1] == "abandoned"


@both
def test_an_order_whose_writer_lives_is_not_settled(tmp_path: Path, name: str) -> None:
    with words(tmp_path, ONE, name) as (project, api):
        held = Hold()
        api.faults.add("POST", held)
        with running(project, "run", "film.yaml", "--yes") as writer:
            until(lambda: api.purchases, "the order")
            refused = project.run(*RESOLVE, "--not-bought")
            assert refused.code == 2, refused.said
            assert "--force" in refused.err
            assert kinds(project) == ["intent"]
            held.release()
            assert ended(writer).code == 0
        assert len(api.purchases) == 1


def test_an_order_whose_writer_is_dead_is_settled_without_force(tmp_path: Path) -> None:
    with words(tmp_path, ONE, "mulerouter") as (project, api):
        asked_and_died(project)
        assert project.run("run", "film.yaml", "--yes").code == 4
        settled = project.run(*RESOLVE, "--not-bought")
        assert settled.code == 0, settled.said
        assert project.run("run", "film.yaml", "--yes").code == 0
        assert len(api.purchases) == 1


@both
def test_what_was_said_to_be_not_bought_and_was_comes_back_by_its_id(tmp_path: Path, name: str) -> None:
    with words(tmp_path, ONE, name) as (project, api):
        bought_and_died(project)
        assert project.run(*RESOLVE, "--not-bought", "--force").code == 0
        back = project.run(*RESOLVE, "--task", api.purchases[0].task)
        assert back.code == 0, back.said
        ran = project.run("run", "film.yaml")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1


@both
def test_a_failed_order_is_collected_where_a_person_knows_that_it_did_not_fail(tmp_path: Path, name: str) -> None:
    with words(tmp_path, ONE, name) as (project, api):
        api.becomes(Outcome(fail=("moderated", "content violates the policy")))
        assert project.run("run", "film.yaml", "--yes").code == 1
        (one,) = api.purchases
        assert kinds(project)[-1] == "failed"
        one.outcome.fail = None
        back = project.run(*RESOLVE, "--task", one.task)
        assert back.code == 0, back.said
        ran = project.run("run", "film.yaml")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1
        assert locked(project, "dawn")


@both
def test_an_order_whose_intent_is_gone_is_built_again_from_the_storyboard(tmp_path: Path, name: str) -> None:
    with words(tmp_path, PAIR, name) as (project, api):
        bought_and_died(project, "--select", "dawn")
        (one,), (record,) = api.purchases, records(project)
        record_file(project, "intent").unlink()
        back = project.run(*RESOLVE, "--task", one.task)
        assert back.code == 0, back.said
        ran = project.run("run", "film.yaml", "--select", "dawn")
        assert ran.code == 0, ran.said
        assert posts(api) == 1
        clip = json.loads((store_of(project) / f"clips/{record['key']}.json").read_bytes())
        assert (clip["provider"], clip["task"]) == (name, one.task)


def test_a_task_of_another_shot_is_refused(tmp_path: Path) -> None:
    with words(tmp_path, PAIR) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--select", "noon").code == 0
        refused = project.run(*RESOLVE, "--task", api.purchases[0].task)
        assert refused.code == 2, refused.said
        assert "noon" in refused.err
        assert "dawn" not in {record["detail"].get("shot") for record in records(project)}


def test_a_stored_order_is_not_reopened(tmp_path: Path) -> None:
    with words(tmp_path) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        before = kinds(project)
        for words_ in (["--not-bought"], ["--not-bought", "--force"], ["--task", "tk-hiapi-ANOTHER"]):
            refused = project.run(*RESOLVE, *words_)
            assert refused.code == 2, refused.said
            assert kinds(project) == before
        assert project.run("run", "film.yaml").code == 0
        assert len(api.purchases) == 1


def test_a_command_that_is_pasted_from_a_message_is_right_from_where_one_is(tmp_path: Path) -> None:
    """A storyboard in a folder of the project, with a space in its name, and the person inside that folder."""
    with words(tmp_path, ONE, "mulerouter") as (project, api):
        (project.root / "cut").mkdir()
        (project.root / "film.yaml").rename(project.root / "cut/my film.yaml")
        (project.root / "klingflow.yaml").touch()
        inside = Project(project.root / "cut", project.env | {"KLINGFLOW_STORE": str(tmp_path / "store")})
        api.faults.add("POST", drop_after)
        ran = inside.run("run", "my film.yaml", "--yes")
        assert ran.code == 4, ran.said
        shown = re.search(r"`(klingflow resolve [^`]* --not-bought)`", ran.err)
        status = inside.run("status", "my film.yaml")
        listed = re.search(r"klingflow resolve .* --task ID  # or --not-bought", status.out)
        assert shown, ran.said
        assert listed, status.said
        _, *unfinished = shlex.split(listed.group(), comments=True)
        refused = inside.run(*unfinished)
        assert (refused.code, "no task id" in refused.err) == (2, True), refused.said
        _, *command = shlex.split(shown.group(1))
        settled = inside.run(*command, "--force")
        assert settled.code == 0, settled.said
        back = re.search(r"klingflow resolve .* --task ID", settled.out)
        assert back, settled.said
        _, *command = shlex.split(back.group())
        assert inside.run(*command[:-1], api.purchases[0].task).code == 0
        ran = inside.run("run", "my film.yaml")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1
