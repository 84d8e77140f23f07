"""`klingflow init`: a project that runs at once, and never over somebody's files."""

from __future__ import annotations

import json
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from PIL import Image

from klingflow import __version__
from klingflow.cli.init import init
from klingflow.core.errors import UsageError
from klingflow.output import scaffold, vendored
from tests.cli import ROOT, Project
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
        ".github/workflows/klingflow-plan.yml",
        "vendor/klingflow/action.yml",
        f"vendor/klingflow/klingflow-{__version__}-py3-none-any.whl",
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


def plan_workflows(root: Path) -> list[Path]:
    return sorted((root / ".github/workflows").iterdir())


def test_the_recipe_is_the_one_of_the_documentation(tmp_path: Path) -> None:
    scaffold.create(tmp_path, "film")
    [recipe] = plan_workflows(tmp_path)
    assert recipe.read_bytes() == (ROOT / "docs/ci/github-plan.yml").read_bytes()
    assert recipe.read_text("utf-8").startswith(f"# {recipe.relative_to(tmp_path)}: ")
    assert (tmp_path / scaffold.VENDOR / "action.yml").read_bytes() == (ROOT / "action.yml").read_bytes()


def test_the_action_that_the_recipe_uses_has_the_klingflow_that_wrote_it(tmp_path: Path) -> None:
    scaffold.create(tmp_path, "film")
    [job] = yaml.safe_load(plan_workflows(tmp_path)[0].read_text("utf-8"))["jobs"].values()
    assert job["steps"][-1]["uses"] == f"./{scaffold.VENDOR}"
    [wheel] = (tmp_path / scaffold.VENDOR).glob("*.whl")
    assert wheel.name == f"klingflow-{__version__}-py3-none-any.whl"
    again = vendored.wheel()
    assert again is not None
    assert wheel.read_bytes() == again[1], "the same installation gives the same bytes"
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        rows = archive.read(f"klingflow-{__version__}.dist-info/RECORD").decode().splitlines()
        for row in rows[:-1]:
            path, digest, size = row.rsplit(",", 2)
            data = archive.read(path)
            assert len(data) == int(size)
            assert urlsafe_b64encode(sha256(data).digest()).decode().rstrip("=") == digest.removeprefix("sha256=")
        assert [row.rsplit(",", 2)[0] for row in rows] == archive.namelist()


def test_inside_a_repository_the_recipe_is_where_github_looks_and_there_is_one_action(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: elsewhere", "utf-8")  # as in a worktree
    folders = ["films/the #1", "films/two", "films-two", "films/two-", "."]
    for folder in folders:
        written = scaffold.create(tmp_path / folder, "film")
        recipes = [path for path in written if path.suffix == ".yml" and path.name != "action.yml"]
        assert [path.resolve().parent for path in recipes] == [tmp_path.resolve() / ".github/workflows"]
        assert folder == "." or not (tmp_path / folder / ".github").exists()
        assert [path for path in written if path.name == "action.yml"] == (
            [tmp_path.resolve() / "vendor/klingflow/action.yml"] if folder == folders[0] else []
        )
    recipes = plan_workflows(tmp_path)
    assert len(recipes) == len(folders)
    names, planned = set(), set()
    for recipe in recipes:
        text = recipe.read_text("utf-8")
        assert text.startswith(f"# .github/workflows/{recipe.name}: ")
        read = yaml.safe_load(text)
        names.add(read["name"])
        assert "github.workflow }}" in read["concurrency"]["group"], "two films do not cancel each other's plan"
        planned.add(read["jobs"]["plan"]["steps"][-1]["with"]["storyboards"])
    assert len(names) == len(folders)
    assert planned == {f"{folder}/film.yaml\n".removeprefix("./") for folder in folders}
    assert len(list((tmp_path / scaffold.VENDOR).iterdir())) == 2


@pytest.mark.parametrize("folder", [" a", "a\nb", "${{ a }}"])
def test_a_folder_that_a_workflow_cannot_name_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(UsageError, match="cannot name the folder"):
        scaffold.create(tmp_path / folder, "film")
    assert list(tmp_path.iterdir()) == [tmp_path / ".git"]


def test_a_klingflow_that_was_not_installed_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vendored, "wheel", lambda: None)
    monkeypatch.chdir(tmp_path)
    assert init("a b") == 0
    said = capsys.readouterr().out
    assert "pip wheel --no-deps -w 'a b/vendor/klingflow' PATH" in said
    assert list((tmp_path / "a b" / scaffold.VENDOR).iterdir()) == [tmp_path / "a b" / scaffold.VENDOR / "action.yml"]


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
