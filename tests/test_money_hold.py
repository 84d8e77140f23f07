"""`hold` keeps the clip that the lock names. Where its line cannot be found it stops, and never becomes a purchase."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli import Project
from tests.money_helpers import PAIR, actions, lock_text, locked, posts, prompts, words
from tests.paid_helpers import dedented

HELD = PAIR.replace("prompt: dawn breaks", "hold: true\n        prompt: dawn breaks")
MATRIX = "    matrix: {lang: [en, de]}\n    shots:\n"


def board(project: Project, text: str, name: str = "film.yaml") -> None:
    project.write(name, dedented(text).replace("NAME", "hiapi"))


def bought(project: Project, text: str = HELD) -> None:
    """Buys a storyboard, whose clips are held from then on."""
    board(project, text.replace("hold: true\n        ", ""))
    ran = project.run("run", "film.yaml", "--yes")
    assert ran.code == 0, ran.said
    board(project, text)


def changed(text: str) -> str:
    """The held shot's prompt is another one: by its key it cannot be found."""
    return text.replace("dawn breaks", "dawn breaks anew")


def renamed(text: str) -> str:
    return text.replace("id: dawn", "id: daybreak")


def test_a_held_shot_that_was_renamed_is_found_by_its_key(tmp_path: Path) -> None:
    with words(tmp_path, HELD) as (project, api):
        bought(project)
        clip = locked(project, "dawn")
        board(project, renamed(HELD))
        assert actions(project)["daybreak"] in ("hold", "reuse")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert posts(api) == 2
        assert locked(project, "daybreak") == clip
        assert locked(project, "dawn") == ""


def test_a_held_shot_that_was_renamed_and_changed_is_found_where_it_alone_can_be_meant(tmp_path: Path) -> None:
    with words(tmp_path, HELD) as (project, api):
        bought(project)
        clip = locked(project, "dawn")
        board(project, changed(renamed(HELD)))
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert posts(api) == 2
        assert locked(project, "daybreak") == clip


@pytest.mark.parametrize("frozen", [False, True])
def test_a_held_shot_that_was_renamed_and_changed_stops_where_two_can_be_meant(tmp_path: Path, frozen: bool) -> None:
    with words(tmp_path, HELD) as (project, api):
        bought(project)
        before = lock_text(project)
        board(project, changed(renamed(HELD)).partition("      - id: noon")[0])
        assert actions(project) == {"daybreak": "hold"}
        ran = project.run("run", "film.yaml", "--yes", *(["--frozen"] if frozen else []))
        assert ran.code == 1, ran.said
        assert "daybreak" in ran.err
        assert "held, and its lock entry is not there" in ran.err
        assert posts(api) == 2
        assert lock_text(project) == before, "one of its lines may be the held shot's"


def test_the_clip_of_another_shot_that_was_renamed_is_not_held(tmp_path: Path) -> None:
    """`dawn` is `daybreak` now, by its key; the held `eve` is new and never had a clip."""
    with words(tmp_path, PAIR) as (project, api):
        bought(project, PAIR)
        eve = "\n      - id: eve\n        hold: true\n        prompt: eve comes\n"
        board(project, renamed(PAIR) + eve)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert "held, and its lock entry is not there" in ran.err
        assert posts(api) == 2
        assert locked(project, "eve") == ""
        assert locked(project, "daybreak")


def test_a_held_shot_without_a_line_stops_and_the_others_are_made(tmp_path: Path) -> None:
    with words(tmp_path, HELD) as (project, api):
        assert actions(project)["dawn"] != "make"
        assert "$0.25" in project.run("plan", "film.yaml").out, "one shot, not two"
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert "held" in ran.err
        assert prompts(api) == ["noon comes"]
        assert locked(project, "noon")


def test_a_matrix_that_is_added_finds_held_clips_by_their_key(tmp_path: Path) -> None:
    with words(tmp_path, HELD) as (project, api):
        bought(project)
        board(project, HELD.replace("    shots:\n", MATRIX))
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert posts(api) == 2


def test_a_matrix_that_is_added_to_a_held_and_changed_shot_stops(tmp_path: Path) -> None:
    with words(tmp_path, HELD) as (project, api):
        bought(project)
        board(project, changed(HELD).replace("    shots:\n", MATRIX))
        ran = project.run("run", "film.yaml", "--yes")
        if ran.code != 0:  # the one clip may also be held for every film of the matrix
            assert ran.code in (1, 2), ran.said
            assert "held" in ran.err
        assert posts(api) == 2


def test_another_value_of_a_matrix_is_not_bought_for_a_held_shot(tmp_path: Path) -> None:
    text = HELD.replace("    shots:\n", MATRIX).replace("prompt: dawn breaks", "prompt: dawn breaks in {{ lang }}")
    with words(tmp_path, text) as (project, api):
        bought(project, text)
        before = posts(api)
        board(project, text.replace("[en, de]", "[en, de, fr]"))
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code in (1, 2), ran.said
        assert "held" in ran.err
        assert [prompt for prompt in prompts(api) if "fr" in prompt] == []
        assert posts(api) == before


@pytest.mark.parametrize("text", [HELD, changed(HELD)], ids=["same", "changed"])
def test_a_renamed_storyboard_keeps_its_held_clip(tmp_path: Path, text: str) -> None:
    """The former lock is found where it is the only one whose storyboard is gone."""
    with words(tmp_path, HELD) as (project, api):
        bought(project)
        clip = locked(project, "dawn")
        (project.root / "film.yaml").unlink()
        board(project, text, "movie.yaml")
        ran = project.run("run", "movie.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert posts(api) == 2
        assert f"clip: {clip}" in lock_text(project, "movie")


def test_a_renamed_storyboard_beside_another_that_is_gone_stops(tmp_path: Path) -> None:
    """Which of two former locks it had cannot be known."""
    with words(tmp_path, HELD) as (project, api):
        bought(project)
        (project.root / "film.yaml").unlink()
        shutil.copy(project.root / "film.lock.yaml", project.root / "other.lock.yaml")
        board(project, changed(HELD), "movie.yaml")
        ran = project.run("run", "movie.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert "held" in ran.err
        assert posts(api) == 2


def test_a_storyboard_beside_the_lock_of_another_takes_nothing_from_it(tmp_path: Path) -> None:
    """That lock's own storyboard is still there: it is no former lock."""
    with words(tmp_path, HELD) as (project, api):
        bought(project)
        board(project, changed(HELD), "movie.yaml")
        ran = project.run("run", "movie.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert "held" in ran.err
        assert posts(api) == 2


def test_a_lock_that_was_deleted_buys_no_held_clip(tmp_path: Path) -> None:
    with words(tmp_path, HELD) as (project, api):
        bought(project)
        (project.root / "film.lock.yaml").unlink()
        board(project, changed(HELD))
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code in (1, 2), ran.said
        assert "held" in ran.err
        assert posts(api) == 2


def test_what_continues_a_held_shot_without_a_line_is_not_bought(tmp_path: Path) -> None:
    text = (
        HELD
        + """
      - id: eve
        continues: dawn
        prompt: eve comes
    """
    )
    with words(tmp_path, text, "mulerouter") as (project, api):
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert prompts(api) == ["noon comes"]


def test_a_new_take_of_a_held_shot_is_no_way_round(tmp_path: Path) -> None:
    """`take: 2` asks for a new clip and `hold` for the old one: it stops, and says so."""
    with words(tmp_path, HELD) as (project, api):
        bought(project)
        board(project, HELD.replace("hold: true", "hold: true\n        take: 2"))
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code in (1, 2), ran.said
        assert "held" in ran.err
        assert posts(api) == 2
