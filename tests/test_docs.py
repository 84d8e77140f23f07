"""The documents cannot rot: they are made again and compared, and every example in them is tried."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shlex
import wave
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from klingflow.cli import app
from klingflow.core import digest
from klingflow.core.errors import StoryboardError
from klingflow.core.model import Digest, Film, ImageFacts, ShotId
from klingflow.core.source import render
from klingflow.providers import PROVIDERS
from klingflow.storyboard import schema, yamlread
from tests.cli import ROOT, Project
from tests.storyboards import films

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("ci/*.md"), ROOT / "README.md"])
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_make", DOCS / "_make.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = generator()


def blocks(language: str) -> list[tuple[str, str, str]]:
    """Every fenced block of a language: (where it stands, what its info string says besides, its text)."""
    out = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for found in FENCE.finditer(text):
            name, _, rest = found[1].strip().partition(" ")
            if name == language:
                out.append((f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}", rest, found[2]))
    return out


def named(cases: list[tuple[str, str, str]]) -> list[Any]:
    return [pytest.param(*case, id=case[0]) for case in cases]


COMMANDS = {
    part.partition("\n")[0]: part.partition("\n## ")[0]
    for part in (DOCS / "commands.md").read_text("utf-8").split("\n## klingflow ")[1:]
}
"""The section of each command."""


def column(page: str, *head: str) -> set[str]:
    """The names in the first column of the table with that head."""
    _, _, rest = (DOCS / page).read_text("utf-8").partition(f"| {' | '.join(head)} |\n")
    rows = rest.partition("\n\n")[0].splitlines()[1:]
    assert rows
    return {row.split("`")[1] for row in rows}


@pytest.mark.parametrize("page", sorted(MAKE.PAGES))
def test_a_generated_page_is_what_the_code_says(page: str) -> None:
    assert (DOCS / page).read_text("utf-8") == MAKE.PAGES[page](), f"docs/{page} is stale: run `python docs/_make.py`"


def test_every_command_option_and_exit_code_is_explained() -> None:
    assert set(MAKE.commands()) == set(app.COMMANDS) == set(COMMANDS)
    assert all(re.search(r"^```sh\nklingflow ", text, re.MULTILINE) for text in COMMANDS.values())
    known = {code for code, _ in MAKE.exits()}
    assert known == {0, 1, 2, 3, 4, 5, 6, 7, 130}
    ends = [re.findall(r"^Exit codes: (.*)\.$", text, re.MULTILINE) for text in COMMANDS.values()]
    assert {int(code) for [codes] in ends for code in codes.split(", ")} | {3} == known


def test_every_variable_that_the_code_reads_is_documented() -> None:
    named_in_code = {
        name
        for path in (ROOT / "klingflow").rglob("*.py")
        for name in re.findall(r"\b(?:HIAPI|MULEROUTER|FAL|KLING|KLINGFLOW)_[A-Z_]*[A-Z]\b", path.read_text("utf-8"))
    }
    assert named_in_code == {name for name in column("format.md", "variable", "what it does") if "_" in name} - {
        "HTTPS_PROXY",
        "NO_COLOR",
        "OTEL_TRACES_EXPORTER",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_code_ends_on_a_line_of_its_own(page: Path) -> None:
    fences = [line.strip() for line in page.read_text("utf-8").splitlines() if "```" in line]
    assert [line for line in fences if not line.startswith("```")] == []
    assert len(fences) % 2 == 0
    assert set(fences[1::2]) <= {"```"}


# -- examples


def checked(text: str, name: str) -> None:
    try:
        problems = schema.check(yamlread.read("example.yaml", text), name)
    except StoryboardError as bad:
        problems = list(bad.problems)
    assert not problems, "\n".join(map(render, problems)) + f"\n{text}"


def indented(text: str, by: str) -> str:
    return "".join(f"{by}{line}" if line.strip() else line for line in text.splitlines(keepends=True))


def completed(text: str) -> str:
    """A storyboard around a fragment: top-level fields, a list of shots, or the fields of one shot."""
    data = yamlread.read("fragment.yaml", text).data
    top = schema.load("storyboard")["properties"]
    if isinstance(data, list):
        return f"klingflow: 1\nshots:\n{indented(text, '  ')}"
    if set(data) <= set(top):
        return f"klingflow: 1\n{text}" + ("" if "shots" in data else "shots: [{id: example}]\n")
    return f"klingflow: 1\nshots:\n  - id: example\n{indented(text, '    ')}"


def kind_of(text: str) -> str:
    data = yamlread.read("example.yaml", text).data
    if "klingflow" in data:
        return "storyboard"
    if "cast" in data:
        return "include"
    if any(isinstance(one, dict) and "date" in one for one in data.values()):
        return "prices"
    return "lock" if "klingflow_lock" in data else "project"


YAML = [case for case in blocks("yaml") if not case[0].startswith("docs/ci/")]  # those are workflows
FRAGMENTS = [case for case in YAML if case[1] == "fragment"]
WHOLE = [case for case in YAML if case[1] == ""]
BOARDS = [case for case in WHOLE if kind_of(case[2]) == "storyboard"]


def test_every_yaml_example_says_what_it_is() -> None:
    assert [case for case in YAML if case[1] not in ("", "fragment")] == []
    assert {"README.md", "docs/format.md"} <= {case[0].partition(":")[0] for case in BOARDS}


@pytest.mark.parametrize(("where", "info", "text"), named(FRAGMENTS))
def test_a_fragment_fits_the_schema(where: str, info: str, text: str) -> None:
    checked(completed(text), "storyboard")


@pytest.mark.parametrize(("where", "info", "text"), named(WHOLE))
def test_a_whole_example_fits_its_schema(where: str, info: str, text: str) -> None:
    checked(text, kind_of(text))


def test_every_whole_storyboard_is_good(project: Project) -> None:
    """Each in a folder of its own, with the files that it names."""
    picture = io.BytesIO()
    Image.new("RGB", (1280, 720), (40, 80, 120)).save(picture, "PNG")
    music = io.BytesIO()
    with wave.open(music, "wb") as file:
        file.setparams((1, 2, 48000, 0, "NONE", ""))
        file.writeframes(bytes(9600))
    given = {".png": picture.getvalue(), ".wav": music.getvalue(), ".txt": b"soft grain, slow"}
    given[".mp4"] = (ROOT / "pipelines/night-train/footage/insert.mp4").read_bytes()
    for where, _, text in BOARDS:
        folder = re.sub(r"\W", "-", where)
        project.write(f"{folder}/film.yaml", text)
        for name in re.findall(r"(?<=[\[ ])[\w/-]+\.yaml(?=[\],])", text):
            (shared,) = [one for _, _, one in WHOLE if f"# {name}\n" in one]
            project.write(f"{folder}/{name}", shared)
            for image in re.findall(r"[\w/-]+\.png\b", shared):
                project.write(f"{folder}/{Path(name).parent}/{image}", given[".png"])
        for name in re.findall(r"[\w/-]+\.(?:png|txt|wav|mp4)\b", re.sub(r"https?://\S+", "", text)):
            project.write(f"{folder}/{name}", given[Path(name).suffix])
    (project.root / ".git").mkdir()  # a gate wants a repository
    ended = project.run("check", ".")
    assert ended.code == 0, ended.said
    assert "warning" not in ended.said
    assert f"{len(BOARDS)} storyboard" in ended.said


COMMAND_LINES = [
    (where, line)
    for where, _, text in blocks("sh")
    for line in text.replace("\\\n", " ").splitlines()
    if re.search(r"(?:^|[ /])klingflow [a-z-]", line)
]


@pytest.mark.parametrize(("where", "line"), [pytest.param(*one, id=f"{one[0]} {one[1][:30]}") for one in COMMAND_LINES])
def test_a_command_in_a_document_is_one_that_the_parser_takes(where: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    if not words:
        return  # a remark
    at = next(i for i, word in enumerate(words) if word == "klingflow" or word.endswith("/klingflow"))
    own = []
    for word in words[at + 1 :]:
        if word in (">", ">>", "|", "&&", ";", "||"):
            break
        own.append(word)
    try:
        app.parser().parse_args(own)
    except SystemExit as refused:
        if refused.code:
            pytest.fail(f"{where}: the parser refuses {line}")


def test_the_examples_of_the_commands_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that draw and buy nothing."""
    (tmp_path / "film.yaml").write_text(TOWER, "utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("check", "plan", "status", "takes", "graph", "schema"):
        [example] = re.findall(r"^```sh\n(.*?)^```$", COMMANDS[name], re.MULTILINE | re.DOTALL)
        for line in (line for line in example.splitlines() if "--open" not in line):  # a page is served until Ctrl-C
            assert app.main(shlex.split(line.partition(" >")[0])[1:]) == 0, f"{line}\n{capsys.readouterr()}"
    assert (tmp_path / "plan.json").is_file()


TOWER = """\
klingflow: 1
shots:
  - id: tower
    prompt: Waves break below the lighthouse.
  - id: lamp
    continues: tower
    prompt: The lamp turns.
"""


def test_a_link_leads_to_a_file_and_to_a_heading() -> None:
    for page in PAGES:
        text = FENCE.sub("", page.read_text("utf-8"))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            to = (page.parent / path).resolve() if path else page
            assert to.exists(), f"{page.relative_to(ROOT)} names {target}"
            if anchor:
                slugs = {
                    re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-")
                    for title in re.findall(r"^#+ (.*)$", to.read_text("utf-8"), re.MULTILINE)
                }
                assert anchor in slugs, f"{page.relative_to(ROOT)} names {target}"


# -- the table of what a key holds

STILLS = {name: ImageFacts(digest=Digest(name[0] * 64), format="PNG", width=640, height=360, bytes=9) for name in "ab"}
CLIPS = {ShotId("up"): Digest("1" * 64), ShotId("on"): Digest("2" * 64)}
BASE: Mapping[str, Any] = {"id": "x", "prompt": "p"}
OWN = {"prompt": None, "provider": None}
OTHER: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "id": ({}, {"id": "y"}),
    "title": ({}, {"title": "t"}),
    "notes": ({}, {"notes": "n"}),
    "tags": ({}, {"tags": ["t"]}),
    "prompt": ({}, {"prompt": "q"}),
    "prompt_file": ({"prompt": None, "prompt_file": "p.txt"}, {"prompt": None, "prompt_file": "q.txt"}),
    "negative_prompt": ({}, {"negative_prompt": "n"}),
    "first_frame": ({"first_frame": "a"}, {"first_frame": "b"}),
    "last_frame": ({"first_frame": "a"}, {"first_frame": "a", "last_frame": "b"}),
    "continues": ({"continues": "up"}, {"continues": "on"}),
    "meets": ({"meets": "up"}, {"meets": "on"}),
    "images": ({}, {"images": ["a"]}),
    "elements": ({}, {"elements": [{"frontal_image": "a"}]}),
    "videos": ({"videos": ["a.mp4"]}, {"videos": ["b.mp4"]}),
    "multi_shot": ({}, {"multi_shot": {"by": "intelligence"}}),
    "duration": ({}, {"duration": 7}),
    "resolution": ({}, {"resolution": "720p"}),
    "sound": ({}, {"sound": True}),
    "aspect_ratio": ({}, {"aspect_ratio": "1:1"}),
    "model": ({}, {"model": "another"}),
    "provider": ({"provider": "hiapi"}, {"provider": "mulerouter"}),
    "take": ({}, {"take": 2}),
    "takes": ({}, {"takes": 2}),
    "hold": ({}, {"hold": True}),
    "gate": ({}, {"gate": "approved"}),
    "clip": ({**OWN, "clip": "a.mp4"}, {**OWN, "clip": "b.mp4"}),
    "vars": ({}, {"vars": {"unused": "v"}}),
}
FILES = {"p.txt": "p", "q.txt": "q"}


def key_of(fields: Mapping[str, Any]) -> str:
    shot = {name: value for name, value in {"provider": "hiapi", **BASE, **fields}.items() if value is not None}
    shots = [
        {"id": "up", "first_frame": "a", "last_frame": "a"},
        {"id": "on", "first_frame": "a", "last_frame": "b"},
        shot,
    ]
    film: Film = films(json.dumps({"klingflow": 1, "shots": shots}), FILES)[0]
    made = film.shots[2]
    model = PROVIDERS[made.provider].model(made)
    listed = digest.parts(made, model, STILLS, CLIPS, {"a.mp4": Digest("3" * 64), "b.mp4": Digest("4" * 64)})
    assert listed is not None
    return digest.key(listed)


@pytest.mark.parametrize("field", sorted(schema.load("storyboard")["$defs"]["shot"]["properties"]))
def test_the_tables_of_what_is_in_a_key_are_true(field: str) -> None:
    buys = column("format.md", "field", "how it counts")
    never = column("format.md", "field", "why not")
    assert (field in buys) is not (field in never)
    before, after = OTHER[field]
    assert (key_of(before) != key_of(after)) is (field in buys)
