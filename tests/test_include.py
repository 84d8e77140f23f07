"""Cast and shots that several storyboards share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli import Project
from tests.standins import movie

BOARD = """\
klingflow: 1
include: [../shared/cast.yaml, opening.yaml]
vars: {look: grainy}
defaults: {provider: mulerouter, elements: [captain]}
shots:
  - {id: harbour, continues: title, prompt: "{{ element.captain }} lands. {{ look }}"}
  - {id: empty, prompt: nobody, elements: []}
  - {id: both, prompt: "{{ element.gull }} over {{ element.captain }}", elements: [captain, gull]}
"""
CAST = """\
cast:
  captain: {frontal_image: captain.png, reference_images: [side.png]}
  gull:
    frontal_image: gull.png
    reference_images: [side.png]
"""
OPENING = """\
shots:
  - id: title
    first_frame: title.png
    prompt: "{{ element.captain }} at sea. {{ look }}"
"""
FILES = {"films/a.yaml": BOARD, "shared/cast.yaml": CAST, "films/opening.yaml": OPENING}


def project(root: Path, **changed: tuple[str, str]) -> Project:
    """A project whose storyboard includes two files; `changed` are (old, new) by a file's stem."""
    made = Project(root / "project", {})
    made.write("klingflow.yaml", "limits: {spend: 20.00}\n")
    for number, name in enumerate(("shared/captain.png", "shared/gull.png", "shared/side.png", "films/title.png")):
        made.write(name, movie.still(number + 1))
    for name, text in FILES.items():
        old, new = changed.get(Path(name).stem, ("", ""))
        assert old in text
        made.write(name, text.replace(old, new) if old else text)
    return made


def test_shots_and_cast_of_included_files_belong_to_the_film(tmp_path: Path) -> None:
    made = project(tmp_path)
    ended = made.run("check", "films/a.yaml")
    assert (ended.code, ended.said.strip()) == (0, "1 storyboard: good")
    planned = json.loads(made.run("plan", "films/a.yaml", "--format", "json").out)
    steps = planned["steps"]
    assert [step["shot"] for step in steps] == ["title", "harbour", "empty", "both"]
    assert [step["prompt"] for step in steps] == [
        "<<<element_1>>> at sea. grainy",
        "<<<element_1>>> lands. grainy",
        "nobody",
        "<<<element_2>>> over <<<element_1>>>",
    ]
    assert {"films/a.yaml", "films/opening.yaml", "films/title.png", "shared/cast.yaml", "shared/captain.png"} <= set(
        planned["inputs"]
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"a": ("[captain]", "[captian]")}, "films/a.yaml:4:45: the cast has no 'captian'"),
        ({"cast": ("gull.png", "gul.png")}, "shared/cast.yaml:4:20: there is no file 'shared/gul.png'"),
        ({"cast": ("frontal_image: gull", "frontal: gull")}, "shared/cast.yaml:4:5: gull of cast has no"),
        ({"opening": ("title.png", "titel.png")}, "films/opening.yaml:3:18: there is no file 'films/titel.png'"),
        ({"opening": ("{{ look }}", "{{ lock }}")}, "films/opening.yaml:4:44: 'lock' is not declared"),
        ({"opening": ("id: title", "id: harbour")}, "two shots; the first is in films/opening.yaml, line 2"),
        ({"opening": ("shots:", "klingflow: 1\nshots:")}, "1:1: the included file has no field 'klingflow'"),
        ({"opening": ("shots:", "include: [x.yaml]\nshots:")}, "an included file includes nothing"),
        ({"opening": ("shots:", "vars: {a: b}\nshots:")}, "an included file has cast and shots"),
        ({"a": ("opening.yaml", "openning.yaml")}, "films/a.yaml:2:32: there is no file 'films/openning.yaml'"),
        ({"a": ("[../shared/cast.yaml, opening.yaml]", "opening.yaml")}, "films/a.yaml:2:10: include must be a list"),
        ({"a": ("opening.yaml]", "7]")}, "films/a.yaml:2:32: "),
        ({"a": ("opening.yaml", "a.yaml")}, "films/a.yaml:2:32: this is the storyboard itself"),
        ({"a": ("opening.yaml", "../shared/cast.yaml")}, "2:32: this is '../shared/cast.yaml', which is included"),
        ({"a": ("opening.yaml", "../../x.yaml")}, "films/a.yaml:2:32: '../../x.yaml' leaves the project"),
        ({"a": ("defaults:", "cast: {gull: {frontal_image: title.png}}\ndefaults:")}, "'gull' is in the cast twice"),
        ({"opening": ("    prompt", "   prompt")}, "films/opening.yaml:4:4: this line belongs to no entry"),
        ({"cast": (CAST, "# later\n")}, "cast.yaml:1:1: the included file is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_an_included_file_is_said_there(
    tmp_path: Path, changed: dict[str, tuple[str, str]], said: str
) -> None:
    ended = project(tmp_path, **changed).run("check", "films/a.yaml")
    assert ended.code == 2, ended.said
    assert said in ended.said
    if "cast has no" not in said:  # then the prompts that name the element are wrong too
        assert ended.said.count("mend: ") == 1, ended.said


def test_a_fault_in_one_file_hides_no_consequence_of_the_same_lines_in_another(tmp_path: Path) -> None:
    changed = {"opening": ("first_frame: title.png", "last_frame: title.png"), "a": ("look: grainy", "look: '{{ x }}'")}
    ended = project(tmp_path, **changed).run("check", "films/a.yaml")
    assert "films/opening.yaml:3:" in ended.said
    assert "films/a.yaml:3:" in ended.said


def test_a_change_in_an_included_file_changes_the_plan(tmp_path: Path) -> None:
    made = project(tmp_path)

    def keys() -> dict[str, str]:
        steps = json.loads(made.run("plan", "films/a.yaml", "--format", "json").out)["steps"]
        return {step["shot"]: step["key"] for step in steps if step["key"]}

    before = keys()
    made.write("shared/gull.png", movie.still(7))
    after = keys()
    assert {shot for shot in before if before[shot] != after[shot]} == {"both"}


def test_a_storyboard_without_shots_of_its_own_needs_some_that_are_included(tmp_path: Path) -> None:
    own = BOARD[BOARD.index("shots:") :]
    assert project(tmp_path / "a", a=(own, "")).run("check", "films/a.yaml").code == 0
    none = project(tmp_path / "b", a=(own, ""), opening=(OPENING, "notes: none yet\n"))
    ended = none.run("check", "films/a.yaml")
    assert ended.code == 2
    assert "neither the storyboard nor what it includes has a shot" in ended.said


def test_an_included_file_is_no_storyboard(tmp_path: Path) -> None:
    ended = project(tmp_path).run("check", ".")
    assert "1 storyboard: good" in ended.said


def test_cast_alone_is_told_from_a_storyboard_that_lacks_its_first_line(tmp_path: Path) -> None:
    ended = project(tmp_path).run("check", "shared/cast.yaml")
    assert ended.code == 2
    assert "shared/cast.yaml:1:1: this is a file that storyboards include, not one itself" in ended.said
    assert ended.said.count("mend: ") == 1
    assert "mend: name the storyboard that includes it" in ended.said


@pytest.mark.parametrize("elements", [[], None])
def test_the_elements_of_the_defaults_can_be_emptied_for_a_shot(tmp_path: Path, elements: object) -> None:
    made = project(tmp_path, a=("elements: []", f"elements: {json.dumps(elements)}"))
    ended = made.run("check", "films/a.yaml")
    assert (ended.code, ended.said.strip()) == (0, "1 storyboard: good")
