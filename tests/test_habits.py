"""What people type by habit, from other tools and from their own: understood, or answered with what to type."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from klingflow.cli import app, error_report, hints
from tests.cli import Project

BOARD = "klingflow: 1\nshots:\n  - {id: dawn, prompt: A pier.}\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", {})
    made.write("film.yaml", BOARD)
    made.write("notes.yaml", "a: 1\n")
    return made


def answered(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert app.main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    return told.err


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (["apply"], "write klingflow run"),
        (["validate", "film.yaml"], "write klingflow check"),
        (["pln"], "did you mean klingflow plan?"),
        (["film.yaml"], "say what is to be done with it: klingflow plan film.yaml"),
        (["xyz"], "the commands are init, check, plan, "),
        (["help", "aply"], "the commands are init, "),
        (["run", "film.yaml", "--dry-run"], "`klingflow plan` shows what a run would do"),
        (["run", "film.yaml", "-n"], "`klingflow plan` shows what a run would do"),
        (["plan", "film.yaml", "--target=dawn"], "write --select WHICH"),
        (["run", "film.yaml", "--auto-approve"], "write --yes"),
        (["run", "film.yaml", "--budget", "5"], "write --max-spend USD"),
        (["run", "film.yaml", "--force"], "a shot is made anew where it changes"),
        (["status", "film.yaml", "--target", "x"], "klingflow status --help lists what it takes"),  # has no --select
        # an option is never guessed from its beginning: --max-s would spend
        (["run", "film.yaml", "--ye"], "did you mean --yes?"),
        (["run", "film.yaml", "--max-spen", "5"], "did you mean --max-spend?"),
        (["run", "a.yaml", "b.yaml"], "klingflow run --help lists what it takes"),
        (["run", "film.yaml", "--max", "5"], "write one of --max-spend, --max-seconds, --max-tasks"),
        (["taint"], "write klingflow takes"),
        (["check", "nowhere"], "name a storyboard, or a folder that holds some"),
        (["store", "nowhere"], "name a storyboard, or a folder of the project"),
    ],
)
def test_other_words_are_answered_with_the_right_one(
    capsys: pytest.CaptureFixture[str], words: list[str], mend: str
) -> None:
    assert f"\nmend: {mend}" in answered(capsys, *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "klingflow: missing: COMMAND\nmend: klingflow --help shows what it takes, with examples\n"),
        (["resolve", "--accept"], "klingflow resolve: missing: SHOT\nmend: klingflow resolve --help shows what"),
        (["check", "--format", "jsn"], "klingflow check: --format: invalid choice: 'jsn' (choose from"),
        (["completion", "bahs"], "klingflow completion: shell: invalid choice: 'bahs' (choose from"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_mend(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        app.main(words)
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\nmend: ")) == ("", 1)
    assert told.err.startswith(said)
    if "choose" in said:
        assert told.err.endswith(("\nmend: did you mean json?\n", "\nmend: did you mean bash?\n"))


def test_every_hint_names_what_there_is() -> None:
    for told in hints.COMMANDS.values():
        assert told.split()[1] in {*app.COMMANDS, "--version"}
    assert not hints.COMMANDS.keys() & app.COMMANDS.keys()
    whole = app.parser().format_help() + "".join(p.format_help() for p in app.parsers(app.parser()).values())
    for told in hints.OPTIONS.values():
        if told.startswith("write "):
            assert told.split()[1] in whole


def test_short_options_and_json_are_alike_everywhere() -> None:
    assert app.parser("run").parse_args(["run", "f", "-y", "-q"]).yes is True
    assert app.parser("run").parse_args(["run", "f", "-q"]).quiet is True
    assert app.parser("plan").parse_args(["plan", "f", "-o", "x"]).out == "x"
    for name in ("check", "plan", "run", "status", "takes"):
        for words in (["--json"], ["--format", "json"]):
            assert app.parser(name).parse_args([name, "f", *words]).format == "json"


def test_help_of_a_command_has_examples_and_the_grammar(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app.main(["help", "run"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith("usage: klingflow run ")
    assert "examples:\n  klingflow run --provider animatic\n" in told
    assert "state:changed" in told
    assert max(map(len, told.splitlines())) <= 80
    with pytest.raises(SystemExit):
        app.main(["help"])
    assert "klingflow help COMMAND" in capsys.readouterr().out


def test_every_example_can_be_parsed() -> None:
    import re
    import shlex

    for name, lines in app.EXAMPLES.items():
        for line in lines:
            words = shlex.split(re.split(" (?:>|&&) ", line)[0])
            assert words[:2] == ["klingflow", name]
            assert not app.parser(name).parse_known_args(words[1:])[1]


def test_a_folder_with_one_storyboard_needs_no_name(project: Project) -> None:
    project.write("film.lock.yaml", "klingflow_lock: 1\nshots: {}\n")
    made = project.run("run", "--json")
    assert (made.code, "made" in made.out) == (0, True)
    assert all(json.loads(line) for line in made.out.splitlines())
    assert "reuse" in project.run("plan").out
    assert "1 task, " in project.run("status", ".").out
    assert "dawn" in project.run("takes").out
    assert json.loads(project.run("status", "--json").out)["tasks"][0]["shot"] == "dawn"


def test_several_storyboards_are_planned_together_and_run_one_by_one(project: Project) -> None:
    project.write("ep2/film.yaml", BOARD.replace("dawn", "dusk"))
    project.write("b.yaml", BOARD)
    together = project.run("plan")
    assert (together.code, together.out.count("1 clip to make"), "dusk" in together.out) == (0, 3, True)
    assert project.run("plan", "b.yaml", "ep2", "b.yaml").out.count("1 clip to make") == 2
    refused = project.run("run")
    assert refused.code == 2
    assert refused.err == "this folder holds 2 storyboards\nmend: name one: b.yaml, film.yaml\n"
    refused = project.run("plan", "--json")
    assert (refused.code, "--format json holds one plan" in refused.err) == (2, True)
    assert project.run("plan", "ep2", "--exit-code").code == 6


def test_what_a_shell_makes_of_all_yaml_files_names_the_storyboards(project: Project) -> None:
    project.write("b.yaml", BOARD)
    project.write("klingflow.yaml", "limits: {tasks: 9}\n")
    project.write("film.lock.yaml", "klingflow_lock: 1\nshots: {}\n")
    everything = ["b.yaml", "film.lock.yaml", "film.yaml", "klingflow.yaml"]
    assert project.run("check", *everything).out == "2 storyboards: good\n"
    assert project.run("doctor", *everything).said.count("1 shot, no problem") == 2
    alone = project.run("check", "film.lock.yaml")
    assert (alone.code, alone.err.startswith("film.lock.yaml is not a storyboard\n")) == (2, True)


def test_a_folder_without_a_storyboard_says_so(project: Project) -> None:
    project.write("empty/x.txt", "")
    for command in ("plan", "run", "status", "check"):
        told = project.run(command, "empty")
        assert (told.code, told.err.startswith("there is no storyboard in empty\n")) == (2, True)


def test_a_bug_says_where_it_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from email.message import Message
    from importlib import metadata

    package = Message()
    package["Project-URL"] = "Homepage, https://example.com"
    package["Project-URL"] = "Issues, https://example.com/issues"
    monkeypatch.setattr(metadata, "metadata", lambda _: package)
    assert error_report.report(ZeroDivisionError()) == 3
    assert "please report it at https://example.com/issues with the text below" in capsys.readouterr().err


def test_open_names_the_newest_film_and_shows_it_where_there_is_a_screen(project: Project) -> None:
    assert project.run("open").err.startswith("there is no film yet\nmend: klingflow run")
    for place in ("out/film/film.mp4", "out/film/animatic/film.mp4"):
        project.write(place, b"a film")
    os.utime(project.root / "out/film/animatic/film.mp4", (1, 1))
    player = project.write("bin/xdg-open", '#!/bin/sh\necho "$1" >shown\n')
    player.chmod(0o755)
    path = f"{player.parent}:{os.environ['PATH']}"
    told = project.run("open", PATH=path)
    assert (told.code, told.out) == (0, "out/film/film.mp4\n")
    assert told.err == "also there: out/film/animatic/film.mp4\n"
    if sys.platform != "darwin":
        assert not (project.root / "shown").exists()
        assert project.run("open", "film.yaml", PATH=path, DISPLAY=":0").code == 0
        assert (project.root / "shown").read_text("utf-8").endswith("/out/film/film.mp4\n")


def test_the_cache_is_cleared_and_clips_stay(project: Project) -> None:
    home = project.root.parent / "home"
    clip = home / "klingflow/store/x/blobs/clip"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"all there is")
    assert project.run("check", XDG_CACHE_HOME=str(home)).code == 0
    assert list((home / "klingflow/parsed").iterdir())
    told = project.run("cache", XDG_CACHE_HOME=str(home)).out
    assert f"{home}/klingflow: 0.0 MB of known files, documents and parts of films\n0.0 MB are copies of clips" in told
    assert project.run("cache", "clear", XDG_CACHE_HOME=str(home)).code == 0
    assert not (home / "klingflow/parsed").exists()
    assert clip.read_bytes() == b"all there is"
    assert project.run("check", XDG_CACHE_HOME=str(home)).code == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_completes_every_command(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert app.main(["completion", shell]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in app.COMMANDS)
    assert "max-spend" in told
