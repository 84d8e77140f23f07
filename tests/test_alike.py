"""Names that look equal and are not: told apart in messages, and files among them found by their Unicode form."""

from __future__ import annotations

import io
import json
import unicodedata

import pytest
from PIL import Image

from klingflow.core import alike
from klingflow.core.errors import UsageError
from klingflow.core.source import nearest
from klingflow.io.project import BadFile
from klingflow.io.project import Project as Files
from tests.cli import Project
from tests.money_helpers import git

NBSP, ZERO, SOFT = "\u00a0", "\u200b", "\u00ad"
CYRILLIC_A = "\u0430"
NFC, NFD = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))
FORMS = "they differ in Unicode form (an accented letter as one character, or as a letter and an accent)"


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (640, 360), "teal").save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "other", "told"),
    [
        (f"dawn{NBSP}", "dawn", "the one written here has a no-break space (U+00A0) at position 5"),
        (f"my{NBSP}dawn", "my dawn", "the one written here has a no-break space (U+00A0) at position 3"),
        ("dawn", f"da{ZERO}wn", "the other has a zero width space (U+200B) at position 3"),
        (f"d{SOFT}awn", "dawn", "the one written here has a soft hyphen (U+00AD) at position 2"),
        ("dawn\ufe0f", "dawn", "the one written here has a variation selector-16 (U+FE0F) at position 5"),
        (f"d{CYRILLIC_A}wn", "dawn", "the one written here has a cyrillic small letter a (U+0430) at position 2"),
        (NFC, NFD, FORMS),
        (NFD, NFC, FORMS),
        (f"{NFD}{ZERO}", NFC, f"the one written here has a zero width space (U+200B) at position 6, and {FORMS}"),
        ("Dawn", "dawn", ""),
        ("dusk", "dawn", ""),
        ("dawn", "dawn", ""),
        ("a b", "ab", ""),
    ],
)
def test_what_two_names_differ_in_is_said_in_words(name: str, other: str, told: str) -> None:
    assert alike.difference(name, other) == told
    more = f" The two look equal: {told}" if told else ""
    assert alike.suggestion(other, name) == f"did you mean '{other}'?{more}"


def test_letters_of_a_word_in_its_own_script_are_not_odd() -> None:
    assert alike.odd("\u043c\u043e\u0440\u0435") == ""
    assert alike.odd("été \u65e5\u672c\u8a9e") == ""


def test_the_name_that_looks_equal_is_nearest_also_where_few_characters_are_left() -> None:
    assert nearest(unicodedata.normalize("NFD", "é"), ("e", "é", "a")) == "é"
    assert nearest("DAWN", ("dawn", "down")) == "dawn"


def board(project: Project, *shots: str, head: str = "") -> None:
    project.write("klingflow.yaml", "{}\n")
    lines = "".join(f"  - {{{shot}}}\n" for shot in shots)
    project.write("film.yaml", f"klingflow: 1\ndefaults: {{provider: animatic, duration: 3}}\n{head}shots:\n{lines}")


@pytest.mark.parametrize(
    ("shots", "head", "told"),
    [
        (("id: a, prompt: x", f"id: b, continues: 'a{NBSP}', prompt: y"), "", "no-break space (U+00A0) at position 2"),
        ((f"id: 'a{ZERO}', prompt: x",), "", "a zero width space (U+200B) at position 2"),
        ((f"id: d{CYRILLIC_A}wn, prompt: x",), "", "a cyrillic small letter a (U+0430) at position 2"),
        (("id: a, prompt: x",), f"matrix: {{l{ZERO}: [x, y]}}\n", "a zero width space (U+200B) at position 2"),
        (("id: a, prompt: x",), f"vars: {{'boat{NBSP}': x}}\n", "a no-break space (U+00A0) at position 5"),
        ((f"id: a, 'prompt{ZERO}': x",), "", "did you mean 'prompt'? The two look equal: the one written here"),
        (("id: a, prompt: x",), f"matrix: {{l: [{NFC}, {NFD}]}}\n", f"'l' has '{NFD}' twice, as it seems: {FORMS}"),
        (("id: a, prompt: x",), f"matrix: {{l: [{NFC}, b], exclude: [{{l: {NFD}}}]}}\n", f"look equal: {FORMS}"),
        ((f"id: a, prompt: x, tags: [{NFC}]", f"id: b, prompt: y, tags: [{NFD}]"), "", "and one above it look equal"),
        ((f"id: a, prompt: x, first_frame: 'a{NBSP}b.png'",), "", "cannot be seen: a no-break space (U+00A0)"),
    ],
)
def test_check_says_what_cannot_be_seen(project: Project, shots: tuple[str, ...], head: str, told: str) -> None:
    board(project, *shots, head=head)
    ended = project.run("check", "film.yaml")
    assert ended.code == 2, ended.said
    assert told in " ".join(ended.said.split())


def test_names_of_the_command_line_too(project: Project) -> None:
    board(project, f"id: dawn, prompt: 'x {{{{ boat }}}}', tags: [{NFC}]", head="vars: {boat: red}\n")
    for words, told in (
        (("--select", f"dawn{ZERO}"), "did you mean 'dawn'? The two look equal: the one written here has a zero width"),
        (("--select", f"tag:{NFD}"), f"did you mean tag:{NFC}? The two look equal: {FORMS}"),
        (("--var", f"boat{ZERO}=blue"), "did you mean 'boat'? The two look equal: the one written here has a zero"),
    ):
        ended = project.run("plan", "film.yaml", *words)
        assert ended.code == 2
        assert told in " ".join(ended.err.split())


@pytest.mark.parametrize(("written", "there"), [(NFC, NFD), (NFD, NFC)])
def test_files_in_another_unicode_form_are_found_with_a_warning_at_the_place(
    project: Project, written: str, there: str
) -> None:
    project.write(f"stills/{there}/{there}.png", png())
    project.write(f"{there}.txt", "A boat.")
    project.write(f"look-{there}.txt", "35 mm.")
    shot = f"id: a, first_frame: stills/{written}/{written}.png, prompt_file: {written}.txt"
    board(project, shot, f"id: b, prompt: 'x {{% include \"look-{written}.txt\" %}}'")
    checked = project.run("check", "film.yaml", "--format", "json")
    rows = json.loads(checked.out)["problems"]
    assert {(row["rule"], row["severity"]) for row in rows} == {("unicode-form", "warning")}, checked.said
    columns = [(4, shot.index("stills") + 6), (4, shot.index(f"{written}.txt") + 6), (5, 36)]
    assert [(row["place"]["line"], row["place"]["col"]) for row in rows] == columns
    ran = project.run("run", "film.yaml")
    assert ran.code == 0, ran.said
    assert f"'stills/{written}/{written}.png' is there in another Unicode form of its name" in " ".join(ran.err.split())
    assert project.run("run", "film.yaml", "--frozen").code == 0


def test_at_a_ref_a_file_is_found_in_either_form(project: Project) -> None:
    project.write(f"stills/{NFD}.png", png())
    project.write(f"{NFD}/line.txt", "A boat.")
    board(project, f"id: a, first_frame: stills/{NFC}.png, prompt_file: {NFC}/line.txt")
    git(project, "init", "-q", "-b", "main")
    git(project, "config", "core.precomposeunicode", "false")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "base")
    planned = json.loads(project.run("plan", "film.yaml", "--against", "main", "--format", "json").out)
    assert {row["rule"] for row in planned["warnings"]} == {"unicode-form"}
    assert planned["comparison"]["shots"] == []


def test_a_storyboard_in_another_form_than_named_is_refused_before_anything_is_made(project: Project) -> None:
    board(project, "id: a, prompt: x")
    (project.root / NFD).mkdir()
    (project.root / "film.yaml").rename(project.root / NFD / "film.yaml")
    if (project.root / NFC).exists():
        pytest.skip("this disk takes either form")
    ended = project.run("run", f"{NFC}/film.yaml")
    assert ended.code == 2, ended.said
    assert "is there in another Unicode form of its name" in ended.err
    assert project.run("run", f"{NFD}/film.yaml").code == 0


def test_a_name_that_may_be_any_of_two_files_is_refused(project: Project) -> None:
    both = ("e\u0301\u1e69", "\u00e9s\u0323\u0307")
    for name in both:
        project.write(f"{name}.txt", name)
    with pytest.raises(BadFile, match="may be any of 2 names that differ in Unicode form alone"):
        Files(project.root).read_text("\u00e9\u1e69.txt")
    assert Files(project.root).read_text(f"{both[0]}.txt") == both[0]


@pytest.mark.parametrize(
    ("there", "mend"),
    [
        (f"a{NBSP}b.png", "did you mean 'a<U+00A0>b.png'? The two look equal: the other has a no-break space"),
        (f"a {ZERO}b.png", "did you mean 'a <U+200B>b.png'? The two look equal: the other has a zero width space"),
        ("A b.png", "did you mean 'A b.png'?"),
    ],
)
def test_a_file_whose_name_only_looks_equal_is_not_taken(project: Project, there: str, mend: str) -> None:
    project.write(there, png())
    with pytest.raises(BadFile) as refused:
        Files(project.root).image("a b.png")
    assert refused.value.what == "there is no file 'a b.png'"
    assert refused.value.mend.startswith(mend)


def test_a_link_or_a_hidden_file_in_another_form_stays_refused(project: Project) -> None:
    project.write("a.txt", "x")
    (project.root / f"{NFD}.txt").symlink_to("/etc/hostname")
    project.write(f".{NFD}", "secret")
    for rel, what in ((f"{NFC}.txt", "is a link out of the project"), (f".{NFC}", "is hidden")):
        with pytest.raises(BadFile, match=what):
            Files(project.root).read_text(rel)


def test_a_selection_of_the_library_tells_it_too() -> None:
    from klingflow.planning.select import select
    from tests.review_helpers import film, shot

    with pytest.raises(UsageError) as refused:
        select(f"da{ZERO}wn", "", film(shot("dawn")))
    assert "zero width space (U+200B) at position 3" in refused.value.mend
