"""What a hostile pull request tries, end to end: each attempt ends in a refusal, or in harmless text and files.

Single readers have their own tests: paths and images (test_files), templates (test_prompt), YAML (test_yamlread), plans
(test_planfile), comments (test_markdown), addresses (test_downloads), git (test_git), the action (test_action).
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from klingflow.core.errors import StoreError
from klingflow.core.model import ShotId
from klingflow.core.source import inert
from klingflow.execution.outcome import Event
from klingflow.io.store import FolderStore
from klingflow.output import progress
from tests.cli import Ended, Project

SAYS = "x\\n::error file=a::pwned\\n  ::add-mask::a ##[error]b ##vso[task.x]c \\u202Ed @team <b>"
ACTS = SAYS + " \\e[31m\\x9b2J"  # which a prompt may not hold at all
STORYBOARD = f"""klingflow: 1
title: "{ACTS}"
vars:
  idle: "{ACTS}"
defaults: {{provider: animatic, resolution: 720p, duration: 3}}
shots:
  - id: a
    title: "{ACTS}"
    notes: "{ACTS}"
    prompt: "one {'word ' * 14}::error::{SAYS}"
"""

FILM = "klingflow: 1\ndefaults: {provider: animatic, duration: 3}\nshots: [{id: a, prompt: x}]\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "film"
    root.mkdir()
    return Project(root, {"NO_COLOR": "1"})


def harmless(ended: Ended, code: int = 0) -> None:
    assert ended.code == code, ended.said
    for line in (*ended.out.split("\n"), *ended.err.split("\n")):
        assert not line.lstrip().startswith("::"), line
        assert "##[" not in line, line
        assert "##vso" not in line, line
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", line), ascii(line)


def test_no_command_says_anything_that_acts_on_a_log_or_a_terminal(project: Project) -> None:
    project.write("klingflow.yaml", "limits: {spend: 1}\n")
    project.write("film.yaml", STORYBOARD)
    for form in ("text", "json", "sarif"):
        harmless(project.run("check", "film.yaml", "--format", form))
    harmless(project.run("run", "film.yaml", "--json"))
    project.write("film.yaml", STORYBOARD.replace("one word", "two word"))
    for form in ("text", "json", "markdown"):
        harmless(project.run("plan", "film.yaml", "--format", form, "--out", "plan.json"))
    saved = (project.root / "plan.json").read_text("utf-8")
    assert "##[" not in saved
    assert "##[error]" in json.loads(saved)["title"]  # the same text to whoever reads the file
    project.write("film.yaml", STORYBOARD.replace("notes:", f'"{ACTS}":'))
    harmless(project.run("plan", "film.yaml"), 2)
    said = project.run("check", "film.yaml", "--format", "github")
    command = r"::(error|warning) file=film\.yaml,line=\d+,col=\d+,endColumn=\d+,title=klingflow [\w-]+::"
    assert all(re.match(command, line) for line in said.out.splitlines())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::x", "\\u003a:error::x"),
        ("a\n \t::stop-commands::x", "a\n \t\\u003a:stop-commands::x"),
        ("a ##[add-mask]x", "a #\\u0023[add-mask]x"),
        ("##vso[x]", "#\\u0023vso[x]"),
        ("\x9b31m\u202e", "\\u009b31m\\u202e"),
        ("ratio 16::9, ## a heading, a :: b, café", "ratio 16::9, ## a heading, a :: b, café"),
    ],
)
def test_the_sign_of_a_command_is_escaped_and_nothing_else(text: str, shown: str) -> None:
    assert inert(text) == shown
    assert inert(shown) == shown


def test_what_a_provider_says_is_no_command_either(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"class": "moderated", "message": "no\n::error::pwned ##[error]x \x1b[2J\x9b2J"}
    for as_json in (False, True):
        with progress.view(json=as_json, quiet=False) as show:
            show(Event(event="step-failed", film="f", shot=ShotId("a"), take=1, data=data))
        said = capsys.readouterr()
        harmless(Ended(0, said.out, said.err))


def test_out_is_written_through_no_link_and_believes_no_stranger(project: Project) -> None:
    project.write("klingflow.yaml", "limits: {spend: 1}\n")
    project.write("film.yaml", FILM)
    victim = project.root.parent / "victim"
    victim.write_text("mine", "utf-8")
    out = project.root / "out" / "film"
    for name in (".film.mp4.part", "shots/.a.mp4.part", "shots/a.mp4", "frames/.a.last.png.part", "frames/a.last.png"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).symlink_to(victim)
    (out / ".made.json").symlink_to("/dev/zero")
    assert project.run("run", "film.yaml").code == 0
    assert victim.read_text("utf-8") == "mine"
    made = [out / name for name in ("film.mp4", "shots/a.mp4", "frames/a.last.png", ".made.json")]
    assert all(file.is_file() and not file.is_symlink() for file in made)
    # A link that `.made.json` vouches for would be uploaded as the film.
    for file in made[:3]:
        file.unlink()
        file.symlink_to(victim)
    assert project.run("run", "film.yaml").code == 0
    assert not any(file.is_symlink() for file in made)
    made[3].write_text("[" * 200_000, "utf-8")
    assert project.run("run", "film.yaml").code == 0
    assert victim.read_text("utf-8") == "mine"


@pytest.mark.parametrize(
    ("link", "to"),
    [
        ("out", "."),
        ("out", ".git/hooks"),
        ("out/film", "../.git/hooks"),
        ("out/film/shots", "../../.git/hooks"),
        ("out/film/frames", "../../stills"),
        (".klingflow", ".git"),
    ],
)
def test_no_link_of_a_pull_request_leads_into_git_or_onto_its_files(project: Project, link: str, to: str) -> None:
    project.write("film.yaml", FILM)
    for name in (".git/hooks/pre-commit", "stills/a.last.png"):
        project.write(name, "mine")
    (project.root / link).parent.mkdir(parents=True, exist_ok=True)
    (project.root / link).symlink_to(to)
    before = contents(project.root)
    ended = project.run("run", "film.yaml")
    assert (ended.code, f"'{link}' is a link" in ended.err) == (2, True), ended.err
    assert contents(project.root) == before


def test_a_link_in_a_films_place_is_replaced_and_what_it_names_stays(project: Project) -> None:
    project.write("film.yaml", FILM)
    out = project.root / "out" / "film"
    out.mkdir(parents=True)
    (out / "film.mp4").symlink_to("../../film.yaml")
    (out / ".made.json").symlink_to("../../film.yaml")
    assert project.run("run", "film.yaml").code == 0
    assert (project.root / "film.yaml").read_text("utf-8") == FILM
    assert not (out / "film.mp4").is_symlink()
    assert not (out / ".made.json").is_symlink()


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["ledger", "ledger/KEY", "clips"])
def test_a_store_is_written_through_no_link(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tmp_path / "store" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    with pytest.raises(StoreError, match="is not a plain file or folder"):
        FolderStore(tmp_path / "store").create(f"{name}/x.json", b"{}")
    assert not list(outside.iterdir())


def test_a_lock_names_clips_of_the_store_by_digest_and_nothing_else(project: Project) -> None:
    project.write("klingflow.yaml", "limits: {spend: 1}\n")
    project.write("film.yaml", FILM)
    assert project.run("run", "film.yaml").code == 0
    lock = (project.root / "film.lock.yaml").read_text("utf-8")
    [clip] = re.findall(r"clip: \"?(\w+)", lock)
    for forged in ("../../../../etc/passwd", "0" * 63, "/etc/passwd", "A" * 64):
        project.write("film.lock.yaml", lock.replace(clip, forged))
        refused = project.run("run", "film.yaml")
        assert refused.code == 2, refused.said
        assert "film.lock.yaml" in refused.err
    # A clip that is nowhere, said to be paid for: refused in words, not bought again, nothing else taken for it.
    project.write("film.lock.yaml", lock.replace(clip, "0" * 64).replace("provider: animatic", "provider: hiapi"))
    missing = project.run("run", "film.yaml")
    assert missing.code != 0
    assert "but what was bought for it is clip" in missing.err


def test_schemas_and_modules_of_the_repository_are_not_used(project: Project) -> None:
    for name in ("storyboard", "project", "lock"):
        project.write(f"schemas/{name}.schema.json", "{}")
    project.write("film.yaml", "klingflow: 1\nshots: [{id: a, prompt: x, hack: 1}]\n")
    refused = project.run("check", "film.yaml")
    assert refused.code == 2
    assert "no field 'hack'" in refused.out


def test_a_store_that_came_with_the_repository_buys_nothing(project: Project) -> None:
    """A pull request may commit a ledger whose intent a paid run would send again, with whatever body it likes."""
    project.write("film.yaml", "klingflow: 1\nshots:\n  - {id: a, prompt: Waves., provider: hiapi}\n")
    project.write(".klingflow/store/ledger/" + "a" * 64 + "/1.0-intent.json", "{}")
    for words in (["init", "-q"], ["add", "-Af"]):
        subprocess.run(["git", *words], cwd=project.root, check=True, capture_output=True)
    ended = project.run("run", "film.yaml", "--yes", HIAPI_API_KEY="sk-not-a-real-key")
    assert ended.code == 2, ended.said
    assert "is committed to git" in ended.err
    assert "git rm -r --cached .klingflow/store" in ended.err


def test_a_changed_project_file_is_said_beside_the_plan(project: Project) -> None:
    project.write("film.yaml", "klingflow: 1\nshots:\n  - {id: a, prompt: Waves.}\n")
    project.write("klingflow.yaml", "limits: {spend: 5}\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "base"]):
        subprocess.run(["git", *words], cwd=project.root, check=True, capture_output=True)
    ended = project.run("plan", "film.yaml", "--against", "HEAD", "--format", "markdown")
    assert "klingflow.yaml is not" not in ended.out
    project.write("klingflow.yaml", "limits: {spend: 5000}\n")
    ended = project.run("plan", "film.yaml", "--against", "HEAD", "--format", "markdown")
    assert "klingflow.yaml is not what it is at HEAD" in ended.out, ended.said
