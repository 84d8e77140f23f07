"""Text is UTF-8 on every machine, whatever its locale: a key that follows the locale would buy a clip again."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import ROOT, Project

FOLDERS = ("klingflow", "tests", "benchmarks", "docs")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def unsaid(tree: ast.AST) -> Iterator[int]:
    """The lines of calls that take the locale's encoding, as `open(path)` does."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        method = isinstance(call.func, ast.Attribute)
        match call.func:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                pass
            case _:
                continue
        named = {word.arg: word.value for word in call.keywords}
        values = [value.value for value in (*call.args, named.get("mode")) if isinstance(value, ast.Constant)]
        modes = [value for value in values if isinstance(value, str) and set(value) <= set("rwxabt+")]
        mode_first = not call.args or (isinstance(call.args[0], ast.Constant) and call.args[0].value in modes)
        binary = any("b" in mode for mode in modes)
        if "encoding" in named:
            continue
        match name:
            case "read_text" if not call.args:
                yield call.lineno
            case "write_text" if len(call.args) < 2:
                yield call.lineno
            case "open" if (mode_first or not method) and not binary:  # methods that take a name first are no path's
                yield call.lineno
            case "fdopen" | "TemporaryFile" | "NamedTemporaryFile" if not binary:
                yield call.lineno
            case "run" | "Popen" | "check_output" if {"text", "universal_newlines"} & set(named):
                yield call.lineno


@pytest.mark.parametrize(
    ("call", "safe"),
    [
        ("open(path)", False),
        ("open(path, 'w')", False),
        ("open('a.txt')", False),
        ("path.open()", False),
        ("path.open('w')", False),
        ("path.open(mode='a')", False),
        ("path.read_text()", False),
        ("path.write_text(text)", False),
        ("os.fdopen(3, 'w')", False),
        ("subprocess.run(words, text=True)", False),
        ("open(path, encoding='utf-8')", True),
        ("open(path, 'rb')", True),
        ("path.open(mode='xb')", True),
        ("path.read_text('utf-8')", True),
        ("path.write_text(text, 'utf-8')", True),
        ("os.open(path, flags)", True),
        ("api.open('GET', url)", True),
        ("av.open(path, 'w')", True),
        ("subprocess.run(words, encoding='utf-8')", True),
    ],
)
def test_what_counts_as_an_encoding_that_is_not_named(call: str, safe: bool) -> None:
    assert (list(unsaid(ast.parse(call))) == []) is safe


def test_every_text_file_is_opened_with_its_encoding() -> None:
    """ruff's PLW1514 finds a call only where it can infer that the object is a Path, one in a hundred of ours."""
    found = [
        f"{path.relative_to(ROOT)}:{line}" for path in FILES for line in unsaid(ast.parse(path.read_text("utf-8")))
    ]
    assert found == []


TEXT = """klingflow: 1
title: Łódź – 海
vars: {boat: ein rotes Fährschiff}
defaults: {provider: animatic, duration: 3}
shots:
  - id: dawn
    prompt_file: prompts/dawn.txt
  - id: evening
    prompt: "{{ boat }} \\u2013 ¡olé! 🎬"
    continues: dawn
"""


def environment(locale: str) -> dict[str, str]:
    return {"LC_ALL": locale, "LANG": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("first", ["C.UTF-8", "C", "en_US.ISO-8859-1"])
def test_every_locale_makes_the_same_keys_and_reads_the_others_cache(first: str, project: Project) -> None:
    """A locale that this machine has not is the C locale to Python: with its UTF-8 mode off, ASCII."""

    def keys(locale: str) -> list[object]:
        ended = project.run_process("plan", "film.yaml", "--format", "json", **environment(locale))
        assert ended.code == 0, ended.said
        return [(step["shot"], step["key"]) for step in json.loads(ended.out)["steps"]]

    cache_folder = Path(project.environment({})["HOME"]) / ".cache"
    project.write("prompts/dawn.txt", "Nebel über dem Fluß, 夜明け")
    project.write("film.yaml", TEXT)
    cold = keys(first)
    assert cold[0][1]  # type: ignore[index]
    cache = {path: path.read_bytes() for path in cache_folder.rglob("*.json")}
    assert cache
    for other in ("C.UTF-8", "C", "en_US.ISO-8859-1"):
        assert keys(other) == cold
    assert cache == {path: path.read_bytes() for path in cache}


def test_a_file_that_the_locale_cannot_name_is_a_plain_error(project: Project) -> None:
    project.write("prompts/dämmerung.txt", "Nebel")
    project.write("film.yaml", TEXT.replace("dawn.txt", "dämmerung.txt"))
    ended = project.run_process("check", "film.yaml", **environment("C"))
    assert ended.code == 2, ended.said
    assert "cannot be found where file names are in ascii" in ended.said
    assert "PYTHONUTF8=1" in ended.said
    assert project.run_process("check", "film.yaml", **environment("C.UTF-8")).code == 0
