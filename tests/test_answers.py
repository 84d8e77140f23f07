"""`--json` is alike in every command that shows something: one document of the schema on stdout, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from klingflow.cli import app
from klingflow.storyboard import schema
from tests.cli import Project
from tests.shared import ran

BOARD = """\
klingflow: 1
matrix: {lang: [en, de]}
defaults: {provider: animatic, resolution: 720p, duration: 3}
shots:
  - {id: dawn, prompt: "A pier. {{ lang }}"}
  - {id: dusk, continues: dawn, prompt: A boat.}
"""
WITHOUT = {"init", "schema", "completion"}
"""Commands that write files, or print what other programs read as it is."""
EVENTS = {"run", "film", "listen", "worker"}
GIVEN = {
    "check": ("check",),
    "status": ("status",),
    "takes": ("takes",),
    "report": ("report",),
    "open": ("open",),
    "graph": ("graph",),
    "export": ("export", "--edl"),
    "doctor": ("doctor",),
    "prices": ("prices",),
    "store": ("store",),
    "farm": ("farm", "status"),
    "cache": ("cache",),
    "verify": ("verify", "out/film/en/film.mp4"),
    "lock": ("lock", "merge", "film.lock.yaml", "film.lock.yaml", "film.lock.yaml"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return ran(tmp_path_factory, "answers", tmp_path_factory.mktemp("answers") / "project", {"film.yaml": BOARD})


def fields(node: Any, value: Any, at: str) -> None:
    """Every field of a document is described, and every one that is described is there."""
    if isinstance(value, list):
        for one in value:
            fields(node.get("items", {}), one, at)
    elif isinstance(value, dict):
        assert value.keys() == node["properties"].keys(), at
        for name, one in value.items():
            fields(node["properties"][name], one, f"{at}.{name}")


def good(name: str, text: str) -> Any:
    whole = schema.load("answers")
    found = json.loads(text)
    node = whole["$defs"][name]
    jsonschema.Draft202012Validator(node).validate(found)
    fields(node, found, name)
    return found


def test_every_command_that_shows_something_has_json() -> None:
    for name in app.COMMANDS.keys() - WITHOUT:
        given = {"lock": ("merge", "a", "b", "c"), "resolve": ("dawn", "--accept"), "cache": (), "farm": ("status",)}
        words = {**given, "take-in": ("f", "--as", "dawn")}.get(name, ("f",))
        for option in (["--json"], ["--format", "json"]):
            assert app.parser(name).parse_args([name, *words, *option]).format == "json"
    assert {*GIVEN, *EVENTS, *WITHOUT, "plan", "seams", "resolve", "take-in", "import"} == app.COMMANDS.keys()
    inner = {"film-draft", "takes-set", "store-ls", "store-show", "store-gc", "store-copy"}
    assert {*GIVEN, "resolve", "take-in", "import", *inner} == schema.load("answers")["$defs"].keys()


@pytest.mark.parametrize("name", GIVEN)
def test_a_command_prints_one_document_of_the_schema(project: Project, name: str) -> None:
    text, told = project.run(*GIVEN[name]), project.run(*GIVEN[name], "--json")
    assert told.code == text.code, told.said
    good(name, told.out)


def test_the_documents_say_what_the_text_says(project: Project) -> None:
    def told(*words: str) -> Any:
        return good(words[0], project.run(*words, "--json").out)

    assert [(row["film"], row["shot"], row["counts"], row["cost"]) for row in told("takes")["takes"]] == [
        ("film [en]", "dawn", True, 0.0),
        ("film [en]", "dusk", True, 0.0),
        ("film [de]", "dawn", True, 0.0),
        ("film [de]", "dusk", True, 0.0),
    ]
    assert len(told("open")["films"]) == 2
    graph = told("graph")["films"][1]
    assert [shot["shot"] for shot in graph["shots"]] == ["dawn", "dusk"]
    assert graph["edges"] == [{"from": "dawn", "to": "dusk", "kind": "continues", "label": ""}]
    assert told("store")["damaged"] == []
    assert [finding["good"] for finding in told("doctor")["findings"]].count(False) == 0
    assert told("cache")["cleared"] is False
    assert told("cache", "clear")["cleared"] is True
    assert told("cache")["known_bytes"] == 0


def test_a_timeline_that_comes_back_prints_one_document_of_the_schema(project: Project) -> None:
    assert project.run("export", "--edl").code == 0
    text = (project.root / "out/film/en/film.edl").read_text("utf-8")
    project.write("out/film/en/cut.edl", text.replace("  C   ", "  D  12", 1))
    told = good("import", project.run("import", "out/film/en/cut.edl", "--json").out)
    assert (told["film"], told["films"], told["cut"], told["diff"]) == ("film [en]", 2, ["dawn", "dusk"], "")
    assert told["not_brought"] == [{"at": "01:00:00:00", "what": "the transition to 'dawn.mp4' (dissolve)"}]


def test_a_choice_prints_one_document_of_the_schema(project: Project) -> None:
    told = project.run("takes", "--set", "dusk=1", "--json")
    assert told.code == 0, told.said
    chosen = good("takes-set", told.out)["chosen"]
    assert (chosen["shot"], chosen["take"], chosen["was"], chosen["edited"]) == ("dusk", 1, 1, False)
    assert [one["variant"] for one in chosen["clips"]] == ["en", "de"]


def test_what_is_wrong_is_in_the_document_and_in_the_exit_code(project: Project) -> None:
    project.write("bad.yaml", BOARD.replace("prompt: A boat.", "duraton: 4"))
    told = project.run("check", "bad.yaml", "--json")
    assert (told.code, told.err) == (2, "")
    [problem] = good("check", told.out)["problems"]
    assert (problem["rule"], problem["place"]["line"]) == ("unknown-key", 6)
    assert problem["mend"] == "did you mean 'duration'?"
    (project.root / "bad.yaml").unlink()
    damaged = next((project.root / ".klingflow/store/blobs").rglob("*/*"))
    whole = damaged.read_bytes()
    damaged.chmod(0o600)
    damaged.write_bytes(whole[:-1])
    told = project.run("store", "--json")
    assert (told.code, told.err) == (1, "")
    assert len(good("store", told.out)["damaged"]) == 1
    damaged.write_bytes(whole)


def test_an_error_leaves_stdout_empty(project: Project) -> None:
    for words in (("status", "none.yaml"), ("takes", "none.yaml"), ("open", "none.yaml"), ("resolve", "x", "--accept")):
        told = project.run(*words, "--json")
        assert (told.code, told.out) == (2, ""), words
        assert "\nmend: " in told.err, words


def test_film_prints_events(project: Project) -> None:
    told = project.run("film", "--json")
    assert told.code == 0, told.said
    assert {json.loads(line)["version"] for line in told.out.splitlines()} == {1}


def test_paths_stand_before_and_behind_options(project: Project) -> None:
    project.write("two.yaml", BOARD)
    both = project.run("check", "film.yaml", "--json", "two.yaml")
    assert (both.code, good("check", both.out)) == (0, {"version": 1, "problems": []})
    assert project.run("check", "film.yaml", "--format", "text", "two.yaml").out == "2 storyboards: good\n"
    (project.root / "two.yaml").unlink()
    told = project.run("status", "film.yaml", "--json", "two.yaml")
    assert (told.code, told.err.partition("\n")[0]) == (2, "'two.yaml' is one argument too many for klingflow status")
