"""What a command may import. A library that slips into the start costs every user of every command, and no other test
would notice."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import Project
from tests.shared import ran

STORYBOARD = """\
klingflow: 1
title: Three
vars: {look: muted teal}
defaults: {provider: animatic, resolution: 720p, duration: 3}
shots:
  - {id: one, prompt: "A pier. {{ look }}"}
  - {id: two, continues: one, prompt: "A boat. {{ look }}"}
  - {id: three, first_frame: {shot: one, frame: -3}, prompt: A lamp.}
"""

SPY = """\
import sys
from klingflow.cli.app import main
if "settled" in sys.argv:
    from klingflow.output import shown
    shown._RACY_NS = 0  # what was written a moment ago counts as old
    sys.argv.remove("settled")
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code or 0
print(code, *sorted(sys.modules))
"""

OURS = "klingflow"
RUNNER = {"sitecustomize", "usercustomize", "_distutils_hack", "a1_coverage", "coverage"}
"""What the interpreter's own installation may load before us."""

HEAVY = {"asyncio", "ssl", "socket", "subprocess", "email", "http", "sqlite3", "unittest", "importlib.metadata"}
"""Of the standard library, what a command without network and without children has no use for."""

VERSION: set[str] = set()
CHECK_WARM = {"rfc8785"}
JSONSCHEMA = {"jsonschema", "jsonschema_specifications", "referencing", "attr", "attrs", "rpds"}
JSONSCHEMA |= {"idna", "typing_extensions"}
CHECK_COLD = CHECK_WARM | JSONSCHEMA | {"yaml", "_yaml", "cython_runtime"}
PLAN_WARM = {"rfc8785"}


TURNS = itertools.count()


def loaded(project: Project, *words: str, again: bool = False) -> set[str]:
    """The modules that are there when the command ends well, by their whole names. Nothing is shown `again` but where
    that is asked for."""
    ended = subprocess.run(
        [sys.executable, "-c", SPY, *words, *(["settled"] if again else [])],
        cwd=project.root,
        env=project.environment({} if again else {"TURN": str(next(TURNS))}),
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=60,
    )
    code, *modules = ended.stdout.splitlines()[-1].split()
    assert code == "0", ended.stdout + ended.stderr
    return set(modules)


def strangers(modules: set[str]) -> set[str]:
    """Top-level names of what is neither ours nor Python's."""
    tops = {name.partition(".")[0] for name in modules} - RUNNER
    return {top for top in tops if top not in sys.stdlib_module_names and not top.startswith((OURS, "__", "_cython_"))}


@pytest.fixture
def warm(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Project:
    """A project whose film is up to date and whose files have been read before."""
    files = {"klingflow.yaml": "limits: {spend: 1.00}\n", "film.yaml": STORYBOARD}
    project = ran(tmp_path_factory, "three", tmp_path / "project", files, "film.yaml")
    assert project.run("plan", "film.yaml").code == 0
    return project


def test_the_version_needs_no_library_and_nearly_none_of_klingflow(project: Project) -> None:
    modules = loaded(project, "--version")
    assert strangers(modules) == VERSION
    assert {name for name in modules if name.startswith(OURS)} == {"klingflow", "klingflow.cli", "klingflow.cli.app"}
    assert not modules & (HEAVY | {"dataclasses", "typing", "pathlib", "json", "hashlib"})


def test_check_reads_yaml_and_schema_once(project: Project) -> None:
    project.write("film.yaml", STORYBOARD)
    cold = loaded(project, "check", "film.yaml")
    assert strangers(cold) <= CHECK_COLD
    assert {"yaml", "jsonschema"} <= cold
    warm = loaded(project, "check", "film.yaml")
    assert strangers(warm) == CHECK_WARM
    assert not warm & HEAVY


def test_check_knows_no_plan_no_lock_and_no_way_out_of_the_machine(project: Project) -> None:
    project.write("film.yaml", STORYBOARD)
    loaded(project, "check", "film.yaml")
    modules = loaded(project, "check", "film.yaml")
    assert not modules & {
        "klingflow.planning.plan",
        "klingflow.storyboard.lock",
        "klingflow.io.http",
        "klingflow.io.media",
        "klingflow.io.git",
    }
    upper = {name for name in modules if name.startswith(("klingflow.execution", "klingflow.output"))}
    assert upper == {"klingflow.output", "klingflow.output.shown"}


def test_a_plan_with_nothing_to_do_needs_no_more_than_check(warm: Project) -> None:
    modules = loaded(warm, "plan", "film.yaml")
    assert strangers(modules) == PLAN_WARM
    assert not modules & HEAVY
    assert not modules & {
        "klingflow.io.http",
        "klingflow.io.media",
        "klingflow.io.git",
        "klingflow.output.film",
        "klingflow.output.markdown",
        "klingflow.output.planfile",
        "klingflow.planning.compare",
    }


@pytest.mark.parametrize("command", ["check", "plan"])
def test_what_was_shown_before_is_shown_again_with_next_to_nothing(warm: Project, command: str) -> None:
    loaded(warm, command, "film.yaml", again=True)
    modules = loaded(warm, command, "film.yaml", again=True)
    ours = {name for name in modules if name.startswith(OURS)} - {"klingflow", "klingflow.cli", "klingflow.cli.app"}
    # `settled` loads its module by itself, and what that needs.
    assert ours == {"klingflow.output", "klingflow.output.shown", "klingflow.io", "klingflow.io.remembered"}
    assert strangers(modules) == set()
    assert not modules & (HEAVY | {"dataclasses", "typing", "pathlib"})


def test_a_template_that_does_more_than_name_values_needs_jinja2(project: Project) -> None:
    project.write("film.yaml", "klingflow: 1\nshots:\n  - {id: one, prompt: \"{% if true %}A pier.{% endif %}\"}\n")
    loaded(project, "check", "film.yaml")
    assert strangers(loaded(project, "check", "film.yaml")) == CHECK_WARM | {"jinja2", "markupsafe"}


def test_a_run_with_nothing_to_make_loads_no_media_library_and_reads_no_certificates(warm: Project) -> None:
    loaded(warm, "run", "film.yaml")  # whose files are copies, and read anew once
    modules = loaded(warm, "run", "film.yaml")
    assert not modules & {"av", "PIL", "certifi", "opentimelineio", "cv2", "numpy"}


def test_the_joins_of_a_film_with_a_gate_are_measured_once(warm: Project) -> None:
    gated = STORYBOARD.replace("klingflow: 1\n", "klingflow: 1\nfilm: {gate: {velocity: 1000}}\n")
    assert gated != STORYBOARD
    warm.write("film.yaml", gated)
    assert "cv2" in loaded(warm, "run", "film.yaml")
    assert not loaded(warm, "run", "film.yaml") & {"av", "PIL", "certifi", "opentimelineio", "cv2", "numpy"}
