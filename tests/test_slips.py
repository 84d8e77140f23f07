"""Slips of the pen in a storyboard: each is one message, at its place, with a mend that can be typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import klingflow
from klingflow.core.source import Problem, Severity

BOARD = """\
klingflow: 1
matrix:
  lang: [en, de]
vars:
  boat: a red fishing boat
  look: 35 mm film
defaults:
  provider: mulerouter
  sound: false
shots:
  - id: dawn
    first_frame: frames/dawn.png
    prompt: Waves, {{ boat }} drifts. {{ look }}
    tags: [night]
  - id: harbour
    continues: dawn
    last_frame: frames/lamp.png
    prompt: "The boat: it comes in. {{ look }}"
  - id: market
    prompt_file: texts/market.txt
    duration: 8
  - id: quay
    first_frame: {shot: market, frame: 2.5s}
    prompt: The quay.
  - id: sail
    meets: harbour
    prompt: "The sail. {{ lang }}"
film:
  shots: [dawn, harbour, market, quay, sail]
"""
PROJECT = "limits: {spend: 20.00}\n"

SLIPS = [
    # references
    ("continues: dawn", "continues: down", "16:16: there is no shot 'down'", "did you mean 'dawn'?"),
    ("[dawn, harbour,", "[dawn, harbuor,", "29:17: there is no shot 'harbuor'", "did you mean 'harbour'?"),
    ("- id: sail", "- id: quay", "25:9: 'quay' names two shots; the first is on line 22", "give this one another id"),
    ("- id: sail", "- id: Sail", "25:9: id of shot 'Sail' cannot be 'Sail'", "write sail; "),
    ("- id: sail", "- id: the sail", "25:9: id of shot 'the sail' cannot be 'the sail'", "write the-sail; "),
    ("- id: sail", "- id: 12", "25:9: id of shot 5 must be text, not 12", 'write it in quotes: "12"'),
    ("- id: sail", "- title: sail", "25:5: shot 5 has no 'id'", "add `id: "),
    # names in templates
    ("{{ boat }} d", "{{ baot }} d", "13:20: 'baot' is not declared", "did you mean 'boat'?"),
    ("{{ boat }} d", "{ boat } d", "13:20: { boat } is no template: it is sent as it stands", "write {{ boat }}"),
    ("{{ boat }} d", "${boat} d", "13:20: ${boat} is no template: it is sent as it stands", "write {{ boat }}"),
    ("{{ boat }} d", "{{ boat } d", "13:20: the template cannot be read: unexpected '}'", "close {{ with }}"),
    ("lang: [en, de]", "lang: en", "3:9: lang of matrix must be a list, not 'en'", "write a list: [en]"),
    ("lang: [en, de]", "lang: []", "3:9: lang of matrix is empty", "write something there"),
    ("\n  lang: [en, de]", " [en, de]", "2:9: matrix must be a mapping of fields, not a list", "write its fields"),
    # files
    ("frames/lamp.png", "frame/lamp.png", "17:17: there is no file 'frame/lamp.png'", "did you mean 'frames/lamp.p"),
    ("market.txt", "markt.txt", "20:18: there is no file 'texts/markt.txt'", "did you mean 'texts/market.txt'?"),
    # values
    ("sound: false", "sound: yes", "9:10: sound of defaults must be true or false, not 'yes'", "write true"),
    ("sound: false", 'sound: "false"', "9:10: sound of defaults must be true or false, not 'false'", "write false "),
    ("klingflow: 1", "kingflow: 1", "1:1: the storyboard has no field 'kingflow'", "did you mean 'klingflow'?"),
    (
        "    meets: harbour\n",
        "    clip: frames/own.mp4\n",
        "27:5: 'prompt' says how to make a clip, but 'sail' brings one of its own",
        "remove prompt, or clip",
    ),
    (
        "- id: sail\n",
        "- id: sail\n    clip: frames/own.mp4\n",
        "27:5: 'meets' and 'prompt' say how to make a clip, but 'sail' brings one of its own",
        "remove meets and prompt, or clip",
    ),
    ("The quay.", "The <b>quay</b> &amp; more.", "24:17: prompt of 'quay' holds HTML, <b>: it is", "write it as p"),
    # YAML
    ('look }}"', "look }}", "18:13: the quoted text that begins here is not closed in its line", "close the quote"),
    ('"The boat: it', '"The "boat" it', "18:18: the quoted text ends here, and more follows", 'write \\" for a quote'),
    ("The quay.", "'The quay's end.'", "24:22: the quoted text ends here, and more follows", "write two of them, ''"),
    ("prompt: The quay.", "prompt: “A: b”", "24:13: YAML takes “ for a part of the text", "write straight quotes"),
    ("    continues: dawn", "   continues: dawn", "16:4: this line belongs to no entry of the list", "indent it as"),
    ("    continues: dawn", "      continues: dawn", "16:7: this line is indented deeper than the one", "indent it as"),
    ("  - id: quay", "  -id: quay", "22:3: a space is missing after this `-`", "write `- key: value`"),
    ("  - id: quay", "    id: quay", "22:5: a second entry begins here without its `-`: 'id' is", "write `- id: …`"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("dawn", "lamp"):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.new("RGB", (1280, 720)).save(tmp_path / "frames" / f"{name}.png")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/market.txt").write_text("The market opens.", encoding="utf-8")
    (tmp_path / "frames/own.mp4").write_bytes(b"")
    (tmp_path / "klingflow.yaml").write_text(PROJECT, encoding="utf-8")
    return tmp_path


def found(folder: Path, board: str) -> list[Problem]:
    (folder / "film.yaml").write_text(board, encoding="utf-8")
    environ = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    return [p for p in klingflow.open(folder / "film.yaml", environ=environ).check() if "own.mp4" not in p.what]


def test_the_storyboard_is_good(folder: Path) -> None:
    assert found(folder, BOARD) == []


@pytest.mark.parametrize(("old", "new", "said", "mend"), SLIPS)
def test_a_slip_is_one_message(folder: Path, old: str, new: str, said: str, mend: str) -> None:
    assert BOARD.count(old) >= 1
    problems = found(folder, BOARD.replace(old, new, 1))
    assert len(problems) == 1, [problem.what for problem in problems]
    [problem] = problems
    span = problem.span
    assert span is not None
    assert f"{span.line}:{span.col}: {problem.what}".startswith(said)
    assert problem.mend.startswith(mend)


def test_what_does_not_follow_is_told_with_the_rest(folder: Path) -> None:
    board = BOARD.replace("continues: dawn", "continues: down").replace("- id: sail", "- id: quay")
    assert [p.what for p in found(folder, board)] == [
        "there is no shot 'down'",  # a slip of the pen, whatever the ids are
        "'quay' names two shots; the first is on line 22",
    ]
    board = BOARD.replace("{{ boat }}", "{{ baot }}").replace("lang: [en, de]", "lang: en")
    assert [p.what for p in found(folder, board)] == [
        "lang of matrix must be a list, not 'en'",
        "'baot' is not declared",
    ]
    board = BOARD.replace("continues: dawn", "duration: 99")  # has no first frame, and that is no consequence
    lone = BOARD.replace("    continues: dawn\n", "")
    assert [p.what for p in found(folder, lone)] == ["shot 'harbour': a last frame needs a first frame"]
    assert [p.what for p in found(folder, board)] == ["duration of shot 'harbour' must be from 3 to 15, not 99"]


def test_the_project_file_has_no_version(folder: Path) -> None:
    (folder / "klingflow.yaml").write_text(f"klingflow: 1\n{PROJECT}", encoding="utf-8")
    [problem] = found(folder, BOARD)
    assert problem.what == "klingflow.yaml has no field 'klingflow'"
    assert problem.mend == "only a storyboard says which version of the format it is in: remove the line"


def test_lengths_that_do_not_add_up_are_told_once(folder: Path) -> None:
    board = BOARD.replace("duration: 8", "multi_shot: {by: customize, shots: [{prompt: a, duration: 3}]}")
    errors = [p for p in found(folder, board) if p.severity is Severity.ERROR]
    assert [p.what for p in errors] == ["the shots of multi_shot last 3 s together, but 'market' lasts 5 s"]
    assert errors[0].mend == "write duration: 3"
