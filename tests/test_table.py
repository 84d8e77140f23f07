"""Tables and lines for people: as wide as their place, in every script."""

from __future__ import annotations

import pytest

from klingflow.core.source import columns
from klingflow.output.table import Row, table
from klingflow.output.words import padded, shortened, wrapped
from tests.cli import Project
from tests.shared import ran

LONG = "this-is-a-shot-with-an-id-of-far-more-than-fifty-characters-a"
TAKES = f"""\
klingflow: 1
matrix: {{lang: [東京の夜明け前の港, de]}}
defaults: {{provider: animatic, resolution: 720p, duration: 3}}
shots:
  - {{id: {LONG}, prompt: "A pier. {{{{ lang }}}}"}}
  - {{id: b, prompt: "A boat. {{{{ lang }}}}"}}
"""


def test_a_name_is_shortened_in_its_middle_by_columns() -> None:
    assert shortened("dawn", 4) == "dawn"
    assert shortened("harbour", 6) == "har…ur"
    assert shortened("東京の夜明け", 8) == "東京…け"  # a wide character is never cut in two
    assert all(columns(shortened("a東b京c夜", room)) <= room for room in range(3, 12))


def test_a_column_is_filled_by_columns() -> None:
    assert padded("夜", 4) == "夜  "
    assert padded("5", 3, right=True) == "  5"


def test_lines_of_wide_characters_pass_no_width() -> None:
    text = "夜明けの港で漁師が船を出す and a boat"
    for width in range(8, 30):
        lines = wrapped(text, width, "- ", "  ")
        assert max(map(columns, lines)) <= width
        assert "".join(line[2:] for line in lines).replace(" ", "") == text.replace(" ", "")
    assert wrapped("a bcdefgh", 6) == ["a bcde", "fgh"]
    assert wrapped("a bcdefgh", 6, whole=True) == ["a", "bcdefgh"]


def test_columns_without_room_stand_below_whole_and_names_are_shortened_then_only() -> None:
    head = ("SHOT", "PRICE", "TASK")
    rows = [Row(("a" * 30, "$1.00", "t" * 36)), Row(("b", "", ""), "why not")]
    assert table(head, rows, 75, right=("PRICE",)) == [
        f"{'SHOT':<30}  PRICE  TASK",
        f"{'a' * 30}  $1.00  {'t' * 36}",
        "b",
        "    why not",
    ]
    assert table(head, rows, 70, right=("PRICE",))[1] == f"{'a' * 12}…{'a' * 12}  $1.00  {'t' * 36}"
    assert table(head, rows, 60, right=("PRICE",))[:3] == [
        f"{'SHOT':<30}  PRICE",
        f"{'a' * 30}  $1.00",
        f"    task {'t' * 36}",
    ]
    assert table(head, rows, 20)[1:4] == [f"{'a' * 10}…{'a' * 9}", "    price $1.00,", "    task"]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_takes_and_status_are_as_wide_as_the_terminal(project: Project, width: int) -> None:
    for command in ("takes", "status"):
        told = project.run(command, COLUMNS=str(width))
        assert (told.code, told.err) == (0, "")
        lines = told.out.splitlines()
        ids = ("animatic-",)  # a task's id is one word, and longer than the narrowest terminal
        assert max(columns(line) for line in lines if not line.strip().startswith(ids)) <= width
        assert any(line.lstrip("* ").startswith(LONG[:8]) for line in lines)
    assert (LONG in project.run("takes", COLUMNS=str(width)).out) == (width == 200)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return ran(tmp_path_factory, "takes", tmp_path_factory.mktemp("takes") / "project", {"film.yaml": TAKES})
