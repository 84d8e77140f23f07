"""Where films are delivered: each storyboard to a folder of its own, or to none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import klingflow
from klingflow.app import out_folder
from klingflow.core.errors import StoryboardError
from tests.cli import Project

BOARD = "klingflow: 1\ndefaults: {provider: animatic, duration: 3}\nshots: [{id: a, prompt: A boat.}]\n"
MATRIX = "matrix: {cut: [film, short]}\n"


def said(path: Path) -> list[str]:
    """What `check` says of shared folders."""
    return [f"{p.span}: {p.what}" for p in klingflow.open(path).check() if p.rule == "shared-output"]


@pytest.mark.parametrize(
    ("relative", "folder"),
    [
        ("film.yaml", "film"),
        ("film.yml", "film"),
        ("ep1/film.yaml", "ep1/film"),
        ("harbour/harbour.yaml", "harbour"),
        ("a/harbour/harbour.yaml", "a/harbour"),
        ("harbour/harbour/harbour.yaml", "harbour/harbour"),
        ("ep1/cut.v2.yaml", "ep1/cut.v2"),
    ],
)
def test_the_folder_follows_the_path_and_says_a_folders_own_name_once(relative: str, folder: str) -> None:
    assert out_folder.of(relative) == folder


def test_two_storyboards_of_one_name_have_each_its_film(project: Project) -> None:
    project.write("klingflow.yaml", "{}\n")
    for episode in ("ep1", "ep2"):
        project.write(f"{episode}/film.yaml", BOARD.replace("A boat.", f"Episode {episode}."))
    films = []
    for episode in ("ep1", "ep2"):
        ran = project.run("run", f"{episode}/film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert f"the film: out/{episode}/film/film.mp4" in ran.err
        assert project.run("open", f"{episode}/film.yaml").out == f"out/{episode}/film/film.mp4\n"
        films.append((project.root / f"out/{episode}/film/film.mp4").read_bytes())
    assert films[0] != films[1]
    assert (project.root / "out/ep1/film/film.mp4").read_bytes() == films[0]
    assert sorted(os.listdir(project.root / "out")) == ["ep1", "ep2"]


def test_a_matrix_and_a_rehearsal_lie_below_the_folder(project: Project) -> None:
    project.write("klingflow.yaml", "{}\n")
    project.write("ep1/film.yaml", BOARD.replace("animatic", "hiapi") + "matrix: {lang: [de]}\n")
    assert project.run("run", "ep1/film.yaml", "--provider", "animatic").code == 0
    assert (project.root / "out/ep1/film/de/animatic/film.mp4").is_file()


@pytest.mark.parametrize(
    ("one", "more", "other", "folder"),
    [
        ("harbour.yaml", "", "harbour/harbour.yaml", "out/harbour"),
        ("film.yaml", "", "film.yml", "out/film"),
        ("ep1.yaml", MATRIX, "ep1/film.yaml", "out/ep1/film"),
        ("ep1/ep1.yaml", MATRIX, "ep1/film.yaml", "out/ep1/film"),
        ("deep/ep1.yml", MATRIX, "deep/ep1/film/film.yaml", "out/deep/ep1/film"),
        ("ep1.yaml", "", "ep1/shots.yaml", "out/ep1/shots"),
        ("ep1.yaml", "", "ep1/animatic.yaml", "out/ep1/animatic"),
        ("ep1.yaml", MATRIX, "ep1/film/animatic/frames.yaml", "out/ep1/film/animatic/frames"),
    ],
)
def test_storyboards_that_would_share_a_folder_are_refused_whichever_of_them_is_run(
    project: Project, one: str, more: str, other: str, folder: str
) -> None:
    project.write("klingflow.yaml", "{}\n")
    project.write(one, BOARD + more)
    project.write(other, BOARD)
    for path, twin in ((one, other), (other, one)):
        span = f"{project.root / path}:1:1"
        both = f"{path} and {twin} would both be delivered to {folder}, the one in place of the other"
        assert said(project.root / path) == [f"{span}: {both}"]
        ran = project.run("run", path, "--yes")
        assert ran.code == 2, ran.said
        assert ran.err.count(both) == 1
        assert "mend: rename one of the two storyboards, and its lock with it" in ran.err
    assert not (project.root / "out").exists()
    assert not (project.root / ".klingflow").exists()


@pytest.mark.parametrize("other", ["ep1/Film.yaml", "Ep1/film.yaml", "EP1.yaml"])
def test_folders_that_are_one_where_case_is_ignored_are_shared(project: Project, other: str) -> None:
    project.write("klingflow.yaml", "{}\n")
    project.write("ep1.yaml", BOARD + MATRIX)
    if (project.root / other).exists():
        pytest.skip("this disk ignores case: the two are one file")
    project.write(other, BOARD)
    for path, twin in (("ep1.yaml", other), (other, "ep1.yaml")):
        [shared] = said(project.root / path)
        assert f"{path} and {twin} would both be delivered to out/" in shared


def test_storyboards_whose_names_look_equal_are_told_apart(project: Project) -> None:
    project.write("caf\u00e9.yaml", BOARD)
    if (project.root / "cafe\u0301.yaml").exists():
        pytest.skip("this disk takes every Unicode form for one name: the two are one file")
    project.write("cafe\u0301.yaml", BOARD)
    [shared] = said(project.root / "caf\u00e9.yaml")
    assert "(the two look equal: they differ in Unicode form" in shared


@pytest.mark.parametrize(
    ("one", "more", "other"),
    [
        ("ep1.yaml", "", "ep1/film.yaml"),
        ("ep1.yaml", "matrix: {cut: [short]}\n", "ep1/film.yaml"),
        ("ep1.yaml", MATRIX, "ep1/film/de.yaml"),
        ("ep1.yaml", MATRIX, "ep1/animatic.yaml"),
        ("film.yaml", "", "ep1/film.yaml"),
    ],
)
def test_storyboards_whose_films_lie_apart_are_good(project: Project, one: str, more: str, other: str) -> None:
    project.write("klingflow.yaml", "{}\n")
    project.write(one, BOARD + more)
    project.write(other, BOARD)
    assert [said(project.root / path) for path in (one, other)] == [[], []]


def test_what_is_no_storyboard_of_this_project_shares_nothing(project: Project) -> None:
    project.write("klingflow.yaml", "{}\n")
    project.write("ep1.yaml", BOARD + MATRIX)
    project.write("ep1/film.yaml", "services: {}\n")
    project.write("ep1/ep1.yaml/file", "a folder")
    project.write("ep1/ep1.lock.yaml", BOARD)
    (project.root / "ep1.yml").symlink_to("ep1.yaml")
    project.write("film.yaml", BOARD)
    project.write("film/klingflow.yaml", "{}\n")  # a project of its own, with an `out` of its own
    project.write("film/film.yaml", BOARD)
    assert [said(project.root / path) for path in ("ep1.yaml", "film.yaml", "film/film.yaml")] == [[], [], []]


def test_of_a_broken_storyboard_the_folder_is_known_and_no_film_of_its_matrix(project: Project) -> None:
    project.write("klingflow.yaml", "{}\n")
    project.write("ep1.yaml", "klingflow: 1\nmatrix: {cut: [film\n")
    project.write("ep1/film.yaml", BOARD)
    project.write("ep1/ep1.yaml", BOARD)
    assert said(project.root / "ep1/film.yaml") == []
    [shared] = said(project.root / "ep1/ep1.yaml")
    assert "ep1/ep1.yaml and ep1.yaml would both be delivered to out/ep1, " in shared


def test_the_library_refuses_before_it_plans(project: Project) -> None:
    project.write("klingflow.yaml", "{}\n")
    project.write("harbour.yaml", BOARD)
    project.write("harbour/harbour.yaml", BOARD)
    with pytest.raises(StoryboardError, match="would both be delivered to out/harbour"):
        klingflow.open(project.root / "harbour.yaml").plan()
