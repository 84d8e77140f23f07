"""Whoever can write to a store may write anything into its ledger: nothing of that is sent, no such store is used."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Project
from tests.money_helpers import (
    ONE,
    PAIR,
    actions,
    asked_and_died,
    forge,
    forge_body,
    git,
    kinds,
    lock_text,
    posts,
    prompts,
    record_file,
    store_of,
    words,
)
from tests.paid_helpers import project_for
from tests.standins import Thief
from tests.standins.mulerouter import ROOT, MuleRouter

EVIL = "https://evil.example"

# A forged intent ----------------------------------------------------------------------------------------------------


def _detail(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record["detail"].update(fields)


def _headers(**fields: str) -> Callable[[dict[str, Any]], None]:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return lambda record: record["detail"]["headers"].update(named)


FORGERIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "prompt": forge_body(lambda body: body["input"].update(prompt="an advertisement")),
    "length": forge_body(lambda body: body["input"].update(duration=15)),
    "resolution": forge_body(lambda body: body["input"].update(resolution="4K", sound=True)),
    "callback": forge_body(lambda body: body.update(callback={"url": f"{EVIL}/hook", "when": "final"})),
    "spaces": forge_body(lambda body: None),
    "path": _detail(path="/v1/other"),
    "query": _detail(path="/v1/tasks?also=this"),
    "method": _detail(method="PUT"),
    "key": _headers(Idempotency_Key="another"),
    "no key": lambda record: record["detail"]["headers"].pop("Idempotency-Key"),
    "header": _headers(X_Forwarded_Host="evil.example"),
    "authorization": _headers(Authorization="Bearer somebody-else"),
    "provider": _detail(provider="mulerouter"),
    "unknown provider": _detail(provider="nobody"),
    "no body": lambda record: record["detail"].pop("body"),
}
DAMAGE = ("unknown provider", "no body")
"""What may as well be told as a damaged record."""


@pytest.mark.parametrize("forgery", FORGERIES)
def test_nothing_of_a_forged_intent_is_sent(tmp_path: Path, forgery: str) -> None:
    with words(tmp_path, PAIR) as (project, api), MuleRouter() as other:
        asked_and_died(project, "--select", "dawn")
        forge(record_file(project, "intent"), FORGERIES[forgery])
        codes = (1, 4) if forgery in DAMAGE else (4,)
        ran = project.run("run", "film.yaml", "--yes", **other.environment())
        assert ran.code in codes, ran.said
        assert "dawn" in ran.err
        assert prompts(api) == ["noon comes"], "the other shot goes on"
        assert posts(other) == 0
        for seen in api.requests:
            assert seen.method in ("GET", "POST"), seen.line
            assert re.fullmatch(r"/v1/tasks(/[\w-]+)?|/files/.*", seen.path), seen.line
            assert "x-forwarded-host" not in seen.headers
        again = project.run("run", "film.yaml", "--yes", **other.environment())
        assert again.code in codes, again.said
        assert len(api.purchases) == 1


@pytest.mark.parametrize("where", ["path", "//", "@"])
def test_a_forged_path_leads_to_no_other_host(tmp_path: Path, where: str) -> None:
    with words(tmp_path) as (project, api), Thief() as thief:
        asked_and_died(project)
        host = f"127.0.0.1:{thief.port}"
        path = {"path": f"http://{host}/v1/tasks", "//": f"//{host}/v1/tasks", "@": f"@{host}/v1/tasks"}[where]
        forge(record_file(project, "intent"), _detail(path=path))
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 4, ran.said
        assert thief.requests == []
        assert posts(api) == 0


def test_the_budget_takes_the_price_of_today_and_not_of_a_record(tmp_path: Path) -> None:
    with words(tmp_path) as (project, api):
        asked_and_died(project)
        forge(record_file(project, "intent"), _detail(price="0.0001", seconds=0))
        shown = project.run("plan", "film.yaml")
        assert "$0.25" in shown.out
        for limit in (["--max-spend", "0.10"], ["--max-seconds", "2"]):
            ran = project.run("run", "film.yaml", "--yes", *limit)
            assert ran.code in (4, 5), ran.said
            assert posts(api) == 0
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code in (0, 4), ran.said
        assert "0.0001" not in lock_text(project)


def test_a_forged_path_of_a_task_is_not_asked(tmp_path: Path) -> None:
    with words(tmp_path, ONE, "mulerouter", finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        forge(record_file(project, "intent"), _detail(path="/vendors/other/v1/account"))
        api.finish_s = 0.01
        before = len(api.requests)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code in (0, 1, 4), ran.said
        assert posts(api) == 1
        assert [seen.line for seen in api.requests[before:] if not seen.path.startswith((f"{ROOT}/", "/files/"))] == []


def test_a_forged_answer_cannot_name_a_path_in_place_of_a_task(tmp_path: Path) -> None:
    with words(tmp_path, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        forge(record_file(project, "accepted"), _detail(task="../account?x=1#"))
        before = len(api.requests)
        with_it = project.run("run", "film.yaml", "--yes", "--detach")
        assert with_it.code != 3, with_it.said
        assert posts(api) == 1
        for seen in api.requests[before:]:
            assert re.fullmatch(r"/v1/tasks(/[^/]+)?", seen.path), seen.line
            assert "x" not in seen.query


# A store that came with the project ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The store of a project that has bought its one shot."""
    with words(tmp_path_factory.mktemp("store")) as (project, _):
        assert project.run("run", "film.yaml", "--yes").code == 0
        yield store_of(project)


def _tracked(project: Project, store: Path) -> None:
    shutil.copytree(store, project.root / ".klingflow/store")
    _commit(project)


def _named_by_the_project_file(project: Project, store: Path) -> None:
    shutil.copytree(store, project.root / "assets/store")
    project.write("klingflow.yaml", "store: assets/store\n")
    _commit(project)


def _a_tracked_link(project: Project, store: Path) -> None:
    shutil.copytree(store, project.root / "assets")
    (project.root / ".klingflow").mkdir()
    (project.root / ".klingflow/store").symlink_to("../assets")
    _commit(project)


def _below_a_tracked_link(project: Project, store: Path) -> None:
    shutil.copytree(store, project.root / "assets/store")
    (project.root / ".klingflow").symlink_to("assets")
    _commit(project)


def _an_own_link_to_a_tracked_folder(project: Project, store: Path) -> None:
    shutil.copytree(store, project.root / "assets")
    _commit(project)
    (project.root / ".klingflow").mkdir()
    (project.root / ".klingflow/store").symlink_to("../assets")


def _only_the_ledger(project: Project, store: Path) -> None:
    shutil.copytree(store, project.root / ".klingflow/store")
    git(project, "init", "-q")
    git(project, "add", "-f", "film.yaml", ".klingflow/store/ledger")
    git(project, "commit", "-q", "-m", "a")


def _a_submodule(project: Project, store: Path) -> None:
    other = Project(project.root.parent / "other", {})
    shutil.copytree(store, other.root / "store")
    _commit(other)
    git(project, "init", "-q")
    project.write("klingflow.yaml", "store: media/store\n")
    git(project, "submodule", "--quiet", "add", str(other.root), "media")
    _commit(project)


def _a_repository_of_somebody_else(project: Project, store: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    _tracked(project, store)
    for path in (project.root, *project.root.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)


def _a_broken_repository(project: Project, store: Path) -> None:
    _tracked(project, store)
    shutil.rmtree(project.root / ".git")
    project.write(".git", "gitdir: /nowhere/at/all\n")


def _unpacked_without_git(project: Project, store: Path) -> None:
    shutil.copytree(store, project.root / ".klingflow/store")


def _commit(project: Project) -> None:
    git(project, "init", "-q")
    git(project, "add", "-f", ".")
    git(project, "commit", "-q", "-m", "all")


FOREIGN = [
    _tracked,
    _named_by_the_project_file,
    _a_tracked_link,
    _below_a_tracked_link,
    _an_own_link_to_a_tracked_folder,
    _only_the_ledger,
    _a_submodule,
    _a_repository_of_somebody_else,
    _a_broken_repository,
    _unpacked_without_git,
]


@pytest.mark.parametrize("foreign", FOREIGN, ids=[each.__name__.strip("_") for each in FOREIGN])
def test_a_store_that_may_have_come_with_the_project_is_refused(
    tmp_path: Path, store: Path, foreign: Callable[[Project, Path], None]
) -> None:
    with words(tmp_path) as (project, api):
        foreign(project, store)
        if not (project.root / ".klingflow").is_symlink() and not (project.root / ".klingflow/store").is_symlink():
            assert actions(project) == {"dawn": "adopt"}  # a link is refused by plan already
        adopting = project.run("run", "film.yaml", "--yes")
        assert adopting.code == 2, adopting.said
        assert "store" in adopting.err
        project.write("film.yaml", (project.root / "film.yaml").read_text("utf-8").replace("dawn breaks", "dawn comes"))
        buying = project.run("run", "film.yaml", "--yes")
        assert buying.code == 2, buying.said
        assert api.requests == []
        assert not (project.root / "film.lock.yaml").exists()
        assert not (project.root / "out").exists()
        rehearsal = project.run("run", "film.yaml", "--provider", "animatic")
        assert rehearsal.code in (0, 2), rehearsal.said


@pytest.mark.parametrize("where", ["no git", "not tracked", "git afterwards", "outside"])
def test_a_store_that_klingflow_made_here_goes_on(tmp_path: Path, where: str) -> None:
    with words(tmp_path) as (project, api):
        if where == "outside":
            project = project_for(project.root, api, None, KLINGFLOW_STORE=str(tmp_path / "elsewhere"))
        if where in ("not tracked", "outside"):
            _commit(project)
        assert project.run("run", "film.yaml", "--yes").code == 0
        if where == "git afterwards":
            git(project, "init", "-q")
        project.write("film.yaml", (project.root / "film.yaml").read_text("utf-8").replace("dawn breaks", "dawn comes"))
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 2
        (project.root / "film.lock.yaml").unlink()
        assert project.run("run", "film.yaml").code == 0, "adopted"


def test_resolve_and_listen_leave_a_foreign_store_alone(tmp_path: Path) -> None:
    """They send the same key as `run` does."""
    with words(tmp_path, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        other = Project(tmp_path / "unpacked", project.env)
        shutil.copytree(project.root, other.root)
        before, were = len(api.requests), kinds(other)
        settled = other.run("resolve", "film.yaml", "dawn", "--not-bought")
        assert settled.code == 2, settled.said
        ended = other.run("listen", "film.yaml", "--listen", "127.0.0.1:0", timeout=20)
        assert ended.code == 2, ended.said
        assert len(api.requests) == before
        assert kinds(other) == were
