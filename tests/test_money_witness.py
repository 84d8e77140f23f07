"""The store is lost while a task is in flight: `NAME.tasks.jsonl` still knows what was ordered, and where."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Project
from tests.money_helpers import ONE, PAIR, git, kinds, locked, posts, prompts, records, store_of, words
from tests.paid_helpers import both, project_for

PLACES = ["inside", "outside"]


def placed(project: Project, api: Any, folder: Path, where: str) -> Project:
    """The project with its store where the test wants it."""
    if where == "inside":
        return project
    return project_for(project.root, api, None, KLINGFLOW_STORE=str(folder / "store"))


def witness(project: Project, where: str) -> Path:
    """Beside the lock where the store lies in .klingflow, else in .klingflow."""
    return project.root / "film.tasks.jsonl" if where == "inside" else project.root / ".klingflow/film.tasks.jsonl"


def planned(project: Project) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = json.loads(project.run("plan", "film.yaml", "--format", "json").out)["steps"]
    return steps


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@both
@pytest.mark.parametrize("where", PLACES)
def test_a_task_in_flight_is_collected_when_its_store_is_gone(tmp_path: Path, name: str, where: str) -> None:
    with words(tmp_path, ONE, name, finish_s=3600.0) as (project, api):
        project = placed(project, api, tmp_path, where)
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        (one,) = api.purchases
        (key,) = {record["key"] for record in records(project)}
        told = [line for line in lines(witness(project, where)) if line.get("task") == one.task]
        assert {(line["key"], line["attempt"], line["provider"]) for line in told} == {(key, 1, name)}
        assert api.key not in witness(project, where).read_text(encoding="utf-8")

        shutil.rmtree(store_of(project))
        api.finish_s = 0.01
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert posts(api) == 1
        assert locked(project, "dawn")
        assert kinds(project)[-1] == "stored"
        assert project.run("run", "film.yaml", "--frozen").code == 0


@pytest.mark.parametrize("command", [[], ["--yes", "--detach"], ["--yes", "--max-spend", "0"]])
def test_what_the_witness_knows_is_no_purchase(tmp_path: Path, command: list[str]) -> None:
    with words(tmp_path, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        shutil.rmtree(store_of(project))
        api.finish_s = 0.0
        ran = project.run("run", "film.yaml", *command)
        assert ran.code == 0, ran.said
        assert posts(api) == 1


def test_only_the_lost_task_is_collected_and_others_are_bought(tmp_path: Path) -> None:
    with words(tmp_path, PAIR, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach", "--select", "dawn").code == 7
        shutil.rmtree(store_of(project))
        api.finish_s = 0.01
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert prompts(api) == ["dawn breaks", "noon comes"]


def test_a_witness_that_was_cut_short_still_tells_its_whole_lines(tmp_path: Path) -> None:
    with words(tmp_path, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        path = witness(project, "inside")
        with path.open("ab") as file:
            file.write(b'{"key": "12ab')
        shutil.rmtree(store_of(project))
        api.finish_s = 0.01
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert posts(api) == 1


def test_a_lost_task_of_another_account_is_not_bought_again(tmp_path: Path) -> None:
    with words(tmp_path, finish_s=3600.0) as (project, api), words(tmp_path / "other") as (_, other):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        shutil.rmtree(store_of(project))
        ran = project.run("run", "film.yaml", "--yes", **other.environment())
        assert ran.code in (1, 4), ran.said
        assert posts(other) == 0
        assert posts(api) == 1


def test_resolve_builds_a_lost_order_again(tmp_path: Path) -> None:
    with words(tmp_path, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        shutil.rmtree(store_of(project))
        settled = project.run("resolve", "film.yaml", "dawn", "--task", api.purchases[0].task)
        assert settled.code == 0, settled.said
        api.finish_s = 0.01
        ran = project.run("run", "film.yaml")
        assert ran.code == 0, ran.said
        assert posts(api) == 1


def test_a_task_that_ended_is_bought_again_when_its_store_is_gone_only_by_a_yes(tmp_path: Path) -> None:
    """Its clip may still be at the provider, so it is asked first: a clip that can be had is never bought."""
    with words(tmp_path) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        shutil.rmtree(store_of(project))
        (project.root / "film.lock.yaml").unlink()
        unsaid = project.run("run", "film.yaml")
        assert unsaid.code in (0, 5), unsaid.said
        assert posts(api) == 1


def test_a_witness_that_came_with_the_project_is_not_believed(tmp_path: Path) -> None:
    """A pull request could name a task of its own: another picture under the reviewed prompt."""
    with words(tmp_path, PAIR, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        path = witness(project, "inside")
        dawn, noon = (records(project, shot)[1]["detail"]["task"] for shot in ("dawn", "noon"))
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(dawn, "?").replace(noon, dawn).replace("?", noon), encoding="utf-8")
        shutil.rmtree(store_of(project))
        git(project, "init", "-q")
        git(project, "add", "-f", "film.yaml", "film.tasks.jsonl")
        git(project, "commit", "-q", "-m", "a")
        api.finish_s = 0.01
        ran = project.run("run", "film.yaml")
        assert ran.code != 0, ran.said
        assert posts(api) == 2
        assert locked(project, "dawn") == locked(project, "noon") == ""


@pytest.mark.parametrize("account", [None, {"base": "", "salt": "00", "digest": "11"}])
def test_a_note_that_was_written_without_the_key_is_not_believed(tmp_path: Path, account: Any) -> None:
    """No git says where it came from: somebody who knows a task of this account names it for another shot."""
    with words(tmp_path, PAIR) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--select", "noon").code == 0
        key = next(step["key"] for step in planned(project) if step["shot"] == "dawn")
        note = {"key": key, "attempt": 1, "provider": "hiapi", "task": api.purchases[0].task, "film": "film"}
        note |= {"shot": "dawn", "take": 1, "at_ms": 1_764_000_000_000, "account": account}
        witness(project, "inside").write_text(json.dumps(note) + "\n", encoding="utf-8")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert "film.tasks.jsonl" in ran.err
        assert posts(api) == 1
        assert locked(project, "dawn") == ""
        assert kinds(project, "dawn") == []
