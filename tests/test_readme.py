"""The README keeps its word: its commands are the ones that CI runs, that the parser takes, and that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from klingflow.cli import app
from klingflow.storyboard import yamlread
from tests.cli import ROOT

README = (ROOT / "README.md").read_text("utf-8")
LINES = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]


def the_line(*words: str) -> str:
    """The one line of the README's commands that holds all these words."""
    found = [line for line in LINES if all(word in line for word in words)]
    assert len(found) == 1, f"the README has {len(found)} lines with {words}"
    return found[0]


DEMO = the_line("pip install", "klingflow run")
TEST = the_line("pip install", "-m pytest")


def elsewhere() -> list[tuple[Path, str]]:
    """Every line of the other documents and of what CI runs."""
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / ".ci" / "run"]
    return [(page, line.strip()) for page in pages for line in page.read_text("utf-8").splitlines()]


def test_what_ci_runs_is_the_test_command_word_for_word() -> None:
    assert TEST in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()


def test_ci_runs_the_tests_with_the_lowest_versions_too() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert re.search(r"uv\" pip install .*--resolution lowest-direct -e '\.\[dev\]'$", script, re.MULTILINE)
    assert script.rstrip().endswith('"$lowest/bin/python" -m pytest -m ""')


def test_ci_runs_the_slow_tests_and_thousands_of_simulated_schedules() -> None:
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert ".venv/bin/python -m pytest -m slow" in lines
    assert "KLINGFLOW_SIM_SEEDS=4000 .venv/bin/python -m pytest tests/test_simulation.py" in lines


def test_every_dependency_has_a_lowest_version() -> None:
    """A resolver of lowest versions takes the first release ever made of a package that has none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    asked += [name for extra in project["project"]["optional-dependencies"].values() for name in extra]
    wanted = [Requirement(name) for name in asked if not name.startswith("klingflow[")]
    assert [str(one) for one in wanted if not {"==", ">="} & {part.operator for part in one.specifier}] == []


def test_the_tests_run_with_no_cov_beside_a_test_that_is_never_traced(tmp_path: Path) -> None:
    """`pytest --no-cov` fails over the marker no_cover where the project's own options ask for coverage."""
    (tmp_path / "test_it.py").write_text("import pytest\n@pytest.mark.no_cover\ndef test_it(): pass\n", "utf-8")
    words = ["-n", "0", "--no-cov", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *words, tmp_path / "test_it.py"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(("command", "sign"), [(DEMO, "klingflow run"), (TEST, "-m pytest")], ids=["demo", "test"])
def test_nowhere_stands_another_form_of_the_two_commands(command: str, sign: str) -> None:
    others = {str(page): line for page, line in elsewhere() if "pip install" in line and sign in line}
    assert {line.strip("`") for line in others.values()} <= {command}, others


def test_the_two_commands_need_python_alone() -> None:
    for command in (DEMO, TEST):
        first, *rest = [shlex.split(part) for part in command.split("&&")]
        assert first == ["python3", "-m", "venv", ".venv"]
        assert all(words[0].startswith(".venv/bin/") for words in rest)


def test_the_demo_is_a_shipped_storyboard_that_needs_no_account() -> None:
    path = ROOT / shlex.split(DEMO)[-1]
    board = yamlread.read(str(path), path.read_text("utf-8")).data
    assert path.is_relative_to(ROOT / "pipelines")
    assert board["defaults"]["provider"] == "animatic"
    assert {shot.get("provider", "animatic") for shot in board["shots"]} == {"animatic"}
    assert f"out/{path.stem}/film.mp4" in README


def test_every_command_stands_in_the_table() -> None:
    named = re.findall(r"^\| `klingflow ([a-z-]+)", README, re.MULTILINE)
    assert named == list(app.COMMANDS)


def test_every_exit_code_is_told_as_the_help_tells_it() -> None:
    said = " ".join(README.replace("`", "").split())
    for part in " ".join(app.EXITS.removeprefix("exit codes:").split()).split("; "):
        assert part in said


@pytest.mark.parametrize("line", [line for line in LINES if "klingflow " in line])
def test_a_command_of_the_readme_is_one_that_the_parser_takes(line: str) -> None:
    for part in line.split("&&"):
        words = shlex.split(part, comments=True)
        if words and words[0].rpartition("/")[2] == "klingflow":
            app.parser().parse_args(words[1:])


def test_options_that_the_readme_names_exist() -> None:
    commands = app.parser()._subparsers
    assert commands is not None
    (action,) = commands._group_actions
    assert action.choices is not None
    known = {option for part in dict(action.choices).values() for option in part._option_string_actions}  # type: ignore[call-overload]
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= known


def test_modules_that_the_readme_names_exist() -> None:
    for name in re.findall(r"`(klingflow/[\w/]+\.py)`", README):
        assert (ROOT / name).is_file(), name
    drawing = re.search(r"^```\ntext ──.*?^```$", README, re.MULTILINE | re.DOTALL)
    assert drawing, "the drawing of a shot's way is gone"
    modules = re.findall(r"\b(storyboard|planning|core|execution|io|output|app|cli)\.(\w+)", drawing[0])
    assert len(modules) > 6
    for floor, name in modules:
        assert (ROOT / "klingflow" / floor / f"{name}.py").is_file(), f"{floor}.{name}"


def test_nothing_is_left_to_be_written() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        assert not re.search(r"\b(TODO|TBD|FIXME|XXX|coming soon)\b", page.read_text("utf-8"), re.IGNORECASE), page
