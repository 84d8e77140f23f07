"""`klingflow init`: a project that runs at once, and never over somebody's files."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from PIL import Image

from klingflow.core.errors import UsageError
from klingflow.output import scaffold
from tests.cli import Project
from tests.test_action import git


def test_what_init_writes_is_right_and_can_be_planned(tmp_path: Path) -> None:
    """test_package makes a film of it, from an installed wheel."""
    project = Project(tmp_path / "film", {})
    project.root.mkdir()
    ended = project.run("init")
    assert ended.code == 0, ended.said
    assert "klingflow run film.yaml" in ended.out
    assert project.run("check", "film.yaml").code == 0
    planned = project.run("plan", "film.yaml")
    assert (planned.code, "5 clips to make" in planned.out) == (0, True), planned.said


def test_every_file_is_named_and_is_what_it_says(tmp_path: Path) -> None:
    written = scaffold.create(tmp_path / "new" / "deep", "my-film")
    names = {str(path.relative_to(tmp_path / "new" / "deep")) for path in written}
    assert names == {
        "my-film.yaml",
        "klingflow.yaml",
        ".gitignore",
        ".gitattributes",
        ".github/workflows/klingflow.yml",
        "schemas/project.schema.json",
        "schemas/storyboard.schema.json",
        "frames/lighthouse.png",
        "frames/lantern.png",
        "frames/dawn.png",
    }
    assert all(path.is_file() for path in written)
    folder = tmp_path / "new" / "deep"
    text = (folder / "my-film.yaml").read_text("utf-8")
    assert "NAME" not in text
    assert json.loads((folder / "schemas/storyboard.schema.json").read_text("utf-8"))["$schema"]
    for path in folder.glob("frames/*.png"):
        with Image.open(path) as image:
            assert (image.format, image.size) == ("PNG", (1280, 720))


def test_the_recipe_holds_no_key_and_its_commands_are_real(tmp_path: Path) -> None:
    scaffold.create(tmp_path, "film")
    text = (tmp_path / ".github/workflows/klingflow.yml").read_text("utf-8")
    recipe = yaml.safe_load(text)
    assert recipe["permissions"] == {}
    assert {name: job["permissions"] for name, job in recipe["jobs"].items()} == {"plan": {"contents": "read"}}
    assert "secrets." not in text
    project = Project(tmp_path, {})
    for line in re.findall(r"klingflow (check|plan) (.*)", text):
        words = [word.strip('"') for word in " ".join(line).split(" >>")[0].split()]
        if "--against" in words:  # needs a repository; the rest of the command stands alone
            at = words.index("--against")
            del words[at : at + 2]
        ended = project.run(*words)
        assert ended.code == 0, ended.said


def test_inside_a_repository_the_recipe_is_where_github_looks(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: elsewhere", "utf-8")  # as in a worktree
    for folder in ("films/the #1", "films/two"):
        written = scaffold.create(tmp_path / folder, "film")
        [recipe] = [path for path in written if path.suffix == ".yml"]
        assert recipe.parent == tmp_path.resolve() / ".github/workflows"
        [job] = yaml.safe_load(recipe.read_text("utf-8"))["jobs"].values()
        assert job["defaults"]["run"]["working-directory"] == folder
        assert not (tmp_path / folder / ".github").exists()
    assert len(list((tmp_path / ".github/workflows").iterdir())) == 2


def test_the_recipe_says_what_must_be_filled_in_and_promises_no_index(tmp_path: Path) -> None:
    [job] = yaml.safe_load(scaffold.WORKFLOW)["jobs"].values()
    [install] = [step for step in job["steps"] if step.get("name") == "Install klingflow"]
    assert "install klingflow\n" not in scaffold.WORKFLOW
    for given, code in (("", 1), ("vendor/klingflow.whl", 0)):
        (tmp_path / "python").write_text('#!/bin/sh\necho "$@"\n', "utf-8")
        (tmp_path / "python").chmod(0o755)
        ended = subprocess.run(
            ["bash", "-e", "-c", install["run"]],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **job["env"], "KLINGFLOW": given},
            capture_output=True,
            encoding="utf-8",
        )
        assert ended.returncode == code
        assert ended.stdout.startswith("::error::KLINGFLOW is empty" if code else f"-I -m pip install {given}")


def test_what_a_run_leaves_behind_is_not_committed(tmp_path: Path) -> None:
    scaffold.create(tmp_path, "film")
    git(tmp_path, "init", "-q")
    for name in (
        "out/film/film.mp4",
        ".klingflow/store/x",
        ".klingflow/film.tasks.jsonl",
        "film.tasks.jsonl",
        "cut/b.tasks.jsonl",
    ):
        assert git(tmp_path, "check-ignore", name) == name
    git(tmp_path, "add", "-A")
    assert "film.yaml" in git(tmp_path, "ls-files")


@pytest.mark.parametrize("existing", ["film.yaml", ".gitignore", "frames/dawn.png"])
def test_nothing_that_exists_is_overwritten(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / existing).write_text("mine", "utf-8")
    with pytest.raises(UsageError) as refused:
        scaffold.create(tmp_path, "film")
    assert existing in refused.value.what
    assert (tmp_path / existing).read_text("utf-8") == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / existing]


@pytest.mark.parametrize("name", ["../film", "", "a/b", ".hidden", "klingflow", "film.yaml"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        scaffold.create(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(UsageError, match="cannot be written"):
        scaffold.create(tmp_path / "file", "film")
