"""Project files in one another: what the outer ones limit, no inner one widens."""

from __future__ import annotations

import html
import json
from decimal import Decimal
from pathlib import Path

import pytest

import klingflow
from klingflow.core.errors import SpendRefused, StoryboardError
from klingflow.io import config
from klingflow.planning.price import Limits
from tests.cli import Project
from tests.money_helpers import git

BOARD = "klingflow: 1\nshots: [{id: a, prompt: A boat., provider: hiapi, duration: 10, resolution: 1080p}]\n"  # $1.12


def settings(project: Project, **files: str) -> None:
    """Project files by folder, `_` being the root, and a storyboard in ep/deep."""
    for name, text in files.items():
        project.write(f"{'' if name == '_' else name.replace('_', '/') + '/'}klingflow.yaml", text)
    project.write("ep/deep/film.yaml", BOARD)


def limits(folder: Path) -> tuple[Limits, dict[str, str]]:
    found = config.load(folder, {}).limits
    return found, dict(found.set_in)


def test_the_limit_of_the_outer_file_refuses_what_the_inner_one_would_allow(project: Project) -> None:
    settings(project, _="limits: {spend: 1}\n", ep="store: films\n")
    git(project, "init", "-q")
    why = "the limit is $1.00 a run (klingflow.yaml), and this one would spend $1.12"
    assert f"limit: a run is refused: {why}" in " ".join(project.run("plan", "ep/deep/film.yaml").out.split())
    assert why in html.unescape(project.run("plan", "ep/deep/film.yaml", "--format", "markdown").out)
    shown = json.loads(project.run("plan", "ep/deep/film.yaml", "--format", "json").out)["limits"]
    assert shown == {"spend": 1, "seconds": None, "tasks": None, "set_in": {"spend": "klingflow.yaml"}, "refused": why}
    ran = project.run("run", "ep/deep/film.yaml", "--yes", HIAPI_API_KEY="sk-none")
    assert ran.code == 5, ran.said
    assert why in ran.err
    with pytest.raises(SpendRefused, match=r"\(klingflow.yaml\)"):
        klingflow.open(project.root / "ep/deep/film.yaml").run(confirmed=True, limits=Limits(spend=Decimal(100)))
    assert not (project.root / "ep/films").exists()


def test_the_tightest_of_each_kind_counts_whichever_file_sets_it(project: Project) -> None:
    settings(
        project,
        _="limits: {spend: 5, seconds: 10, tasks: 7}\n",
        ep="limits: {spend: 9, seconds: 20, tasks: 3}\n",
        ep_deep="limits: {spend: 2, seconds: 10}\n",
    )
    git(project, "init", "-q")
    found, files = limits(project.root / "ep/deep")
    assert found == Limits(spend=Decimal(2), seconds=10, tasks=3)
    assert files["spend"] == "ep/deep/klingflow.yaml"
    assert files["tasks"] == "ep/klingflow.yaml"
    assert limits(project.root / "ep")[0] == Limits(spend=Decimal(5), seconds=10, tasks=3)
    assert limits(project.root)[0] == Limits(spend=Decimal(5), seconds=10, tasks=7)
    near = "$1.12 of $2.00 (ep/deep/klingflow.yaml), 10 of 10 s of clips (klingflow.yaml), 1 of 3 tasks"
    assert f"limit: {near}" in " ".join(project.run("plan", "ep/deep/film.yaml").out.split())


def test_a_limit_of_the_command_line_has_no_file(project: Project) -> None:
    settings(project, _="limits: {spend: 5}\n", ep="{}\n")
    ran = project.run("run", "ep/deep/film.yaml", "--yes", "--max-spend", "1")
    assert "the limit is $1.00 a run, and this one" in ran.err
    ran = project.run("run", "ep/deep/film.yaml", "--yes", "--max-spend", "50", "--max-tasks", "0")
    assert "the limit is 0 tasks a run, and this one" in ran.err


def test_files_above_the_git_root_are_another_project_and_without_git_all_count(project: Project) -> None:
    settings(project, _="limits: {spend: 1}\n", ep="{}\n", ep_deep="{}\n")
    assert limits(project.root / "ep/deep") == (Limits(spend=Decimal(1)), {"spend": "klingflow.yaml"})
    git(project, "-C", "ep", "init", "-q")
    assert limits(project.root / "ep/deep") == (Limits(), {})


def test_a_repository_in_a_repository_is_held_to_the_limits_of_both(project: Project) -> None:
    settings(project, _="limits: {spend: 1}\n", ep="{}\n", ep_deep="{}\n")
    git(project, "init", "-q")
    project.write("ep/.git", "gitdir: ../.git/modules/ep\n")
    assert limits(project.root / "ep/deep") == (Limits(spend=Decimal(1)), {"spend": "klingflow.yaml"})


def test_everything_else_is_that_of_the_nearest_file(project: Project) -> None:
    outer = "store: s3://a/b\nproviders: {hiapi: {concurrency: 1}}\nimages: {shrink: lossless}\n"
    settings(project, _=f"{outer}limits: {{spend: 1}}\nprices: {{hiapi: {{1080p: {{silent: 0.1}}}}}}\n", ep="{}\n")
    found = config.load(project.root / "ep", {})
    assert found.store == str(project.root / "ep/.klingflow/store")
    assert (found.settings, found.shrink, found.prices) == ({}, None, {})


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("limits: {spent: 5}\n", "klingflow.yaml:1:10: "),
        ("limits: [\n", "klingflow.yaml:"),
        ("limits: {spend: '5'}\n", "klingflow.yaml:1:17: "),
    ],
)
def test_a_broken_outer_file_is_an_error_in_its_place(project: Project, broken: str, said: str) -> None:
    settings(project, _=broken, ep="limits: {spend: 1}\n")
    for words in (("check",), ("plan",), ("run", "--yes"), ("run", "--provider", "animatic")):
        ended = project.run(words[0], "ep/deep/film.yaml", *words[1:])
        assert ended.code == 2, ended.said
        assert f"\n{said}" in f"\n{ended.said}"
    (project.root / "klingflow.yaml").unlink()
    (project.root / "klingflow.yaml").symlink_to("/etc/hostname")
    ended = project.run("run", "ep/deep/film.yaml", "--yes")
    assert ended.code == 2
    assert "klingflow.yaml: 'klingflow.yaml' is a link out of the project" in ended.err


@pytest.mark.parametrize("name", ["klingflow.yml", ".klingflow.yaml", "Klingflow.yaml"])
@pytest.mark.parametrize("folder", ["", "ep/", "ep/deep/"])
@pytest.mark.parametrize("versioned", [True, False])
def test_limits_in_a_file_of_another_name_are_no_limits_and_that_is_told(
    project: Project, folder: str, name: str, versioned: bool
) -> None:
    project.write("ep/deep/film.yaml", BOARD)
    project.write(f"{folder}{name}", "limits: {spend: 1}\n")
    if versioned:
        git(project, "init", "-q")
    for words in (("plan",), ("run", "--yes")):
        ended = project.run(words[0], "ep/deep/film.yaml", *words[1:], HIAPI_API_KEY="sk-none")
        assert ended.code == 2, ended.said
        assert "is spelled" in ended.said or f"'{name}' is not read, so nothing that it says counts" in ended.said
    project.write(f"{folder}{name}", BOARD)
    assert project.run("plan", "ep/deep/film.yaml").code == 0  # a storyboard may be called so


@pytest.mark.parametrize(
    ("outer", "inner", "least"),
    [
        ("limits: {spend: 1}", "0.111", "0.112"),
        ("limits: {spend: 1}\nprices: {hiapi: {1080p: {silent: 0.3}}}", "0.112", "0.3"),
        ("limits: {spend: 1}", "0.112", ""),
        ("limits: {spend: 1}\nprices: {hiapi: {1080p: {silent: 0.01}}}", "0.01", ""),
        ("limits: {seconds: 1}", "0.001", ""),
    ],
)
def test_an_inner_file_states_no_price_below_that_of_the_spend_limit(
    project: Project, outer: str, inner: str, least: str
) -> None:
    settings(project, _=f"{outer}\n", ep=f"prices: {{hiapi: {{1080p: {{silent: {inner}}}}}}}\n")
    if not least:
        assert config.load(project.root / "ep", {}).prices == {"hiapi": {"1080p": {"silent": float(inner)}}}
        return
    with pytest.raises(StoryboardError) as refused:
        config.load(project.root / "ep", {})
    [problem] = refused.value.problems
    counted = f"the {least} that the spend limit of klingflow.yaml counts with"
    assert problem.what == f"{inner} a second is less than {counted}"
    assert problem.mend == "state the price in klingflow.yaml, beside the limit"
    assert problem.span is not None
    assert problem.span.col == 34


def test_a_saved_plan_is_stale_when_an_outer_file_changed(project: Project) -> None:
    settings(project, _="limits: {spend: 5}\n", ep="{}\n")
    project.run("plan", "ep/deep/film.yaml", "--out", "plan.json")
    assert "../klingflow.yaml" in json.loads((project.root / "plan.json").read_text("utf-8"))["inputs"]
    project.write("klingflow.yaml", "limits: {spend: 500}\n")
    ended = project.run("run", "ep/deep/film.yaml", "--plan", "plan.json", "--yes")
    assert ended.code == 2
    assert "the project file ../klingflow.yaml changed since the plan was made" in ended.err


def test_against_a_ref_every_project_file_that_changed_came_or_went_is_named(project: Project) -> None:
    settings(project, _="limits: {spend: 5}\n", ep_deep="limits: {tasks: 1}\n")
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "base")

    def changed() -> list[str]:
        planned = json.loads(project.run("plan", "ep/deep/film.yaml", "--against", "main", "--format", "json").out)
        return [one["what"] for one in planned["warnings"] if one["rule"] == "settings-changed"]

    assert changed() == []
    (project.root / "ep/deep/klingflow.yaml").unlink()
    assert changed() == ["ep/deep/klingflow.yaml is not what it is at main"]
    project.write("ep/klingflow.yaml", "store: films\n")
    project.write("klingflow.yaml", "limits: {spend: 50}\n")
    assert changed() == [
        f"{name} is not what it is at main"
        for name in ("ep/deep/klingflow.yaml", "ep/klingflow.yaml", "klingflow.yaml")
    ]
    project.write("ep/klingflow.prices.yaml", 'hiapi: {date: "2026-11-27", source: here}\n')
    assert changed()[3:] == ["ep/klingflow.prices.yaml is not what it is at main"]
