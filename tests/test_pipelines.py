"""The shipped storyboards: each is right, is planned, and becomes a film."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from PIL import Image, ImageChops, ImageStat

from klingflow.animatic import design
from klingflow.output import scaffold
from pipelines import scenes
from pipelines.draw import FOOTAGE, STILLS
from tests.cli import ROOT, Project

PIPELINES = ROOT / "pipelines"
NAMES = sorted(path.parent.name for path in PIPELINES.glob("*/*.yaml") if path.stem == path.parent.name)


@pytest.fixture
def copied(tmp_path: Path) -> Project:
    """All of pipelines/ as a project of its own, without what an earlier run left behind."""
    root = tmp_path / "pipelines"
    shutil.copytree(PIPELINES, root, ignore=shutil.ignore_patterns("out", ".klingflow", "*.lock.yaml", "__pycache__"))
    return Project(root, {})


def ends(clip: Path) -> tuple[Image.Image, Image.Image]:
    """The first and the last picture, by a plain decode of everything."""
    with av.open(str(clip)) as file:
        first = last = next(file.decode(video=0))
        for frame in file.decode(video=0):
            last = frame
        return first.to_image(), last.to_image()


def far_apart(a: Image.Image, b: Image.Image) -> float:
    """The mean difference of two pictures in levels."""
    return max(ImageStat.Stat(ImageChops.difference(a, b)).mean)


def test_there_are_three_and_each_has_its_folder() -> None:
    assert NAMES == ["harbour", "lighthouse-ad", "night-train"]


@pytest.mark.parametrize("name", NAMES)
def test_each_is_right_and_tells_the_editor_its_schema(copied: Project, name: str) -> None:
    path = copied.root / name / f"{name}.yaml"
    first = path.read_text("utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../../schemas/storyboard.schema.json"
    assert (PIPELINES / name / first.partition("=")[2]).resolve().is_file()
    assert "hiapi" in path.read_text("utf-8"), "says how to make it for real"
    ended = copied.run("check", f"{name}/{name}.yaml")
    assert ended.code == 0, ended.said
    assert "warning" not in ended.said


@pytest.mark.parametrize(
    ("name", "films", "makes"), [("harbour", 1, 7), ("night-train", 1, 5), ("lighthouse-ad", 4, 4)]
)
def test_each_is_planned(copied: Project, name: str, films: int, makes: int) -> None:
    ended = copied.run("plan", f"{name}/{name}.yaml", "--format", "json")
    assert ended.code == 0, ended.said
    plan = json.loads(ended.out)
    planned = plan.get("films", [plan])
    assert len(planned) == films
    assert all([step["action"] for step in film["steps"]].count("make") == makes for film in planned)


@pytest.mark.slow
def test_the_harbour_becomes_a_film_that_can_run_in_a_loop(copied: Project) -> None:
    ended = copied.run("run", "harbour/harbour.yaml")
    assert ended.code == 0, ended.said
    out = copied.root / "out" / "harbour"
    clips = {path.stem: ends(path) for path in sorted((out / "shots").glob("*.mp4"))}
    assert set(clips) == {"dawn", "gulls", "inlet", "quay", "market", "dusk", "home"}
    for before, after in (("dawn", "gulls"), ("dawn", "inlet"), ("inlet", "quay"), ("quay", "dusk"), ("home", "dawn")):
        last, first = design.picture_in(clips[before][1]), design.picture_in(clips[after][0])
        assert far_apart(last, first) < 2, f"{before} to {after}"
    again = copied.run("run", "harbour/harbour.yaml")
    assert again.code == 0, again.said
    assert "0 clips made" in again.said


@pytest.mark.slow
def test_the_night_train_carries_footage_of_another_size_and_rate(copied: Project) -> None:
    with av.open(str(copied.root / "night-train" / "footage" / "insert.mp4")) as file:
        video = file.streams.video[0]
        assert (video.width, video.height, str(video.average_rate)) == (960, 540, "25")
    ended = copied.run("run", "night-train/night-train.yaml")
    assert ended.code == 0, ended.said
    shots = copied.root / "out" / "night-train" / "shots"
    insert, departure = ends(copied.root / "night-train" / "footage" / "insert.mp4"), ends(shots / "departure.mp4")
    begins = design.picture_in(departure[0])
    assert far_apart(design.fitted(insert[1], begins.size), begins) < 3
    with av.open(str(copied.root / "out" / "night-train" / "film.mp4")) as file:
        video = file.streams.video[0]
        assert (video.width, video.height, str(video.average_rate)) == (960, 540, "24")
        assert file.streams.audio


def test_each_committed_picture_has_a_scene_and_is_small() -> None:
    committed = [*PIPELINES.glob("*/frames/*"), *scaffold.FRAMES.iterdir()]
    assert set(committed) == {(PIPELINES / path).resolve() for path in STILLS}
    assert all((PIPELINES / path).stat().st_size <= 300_000 for path in STILLS)
    assert (PIPELINES / FOOTAGE).stat().st_size < 400_000


@pytest.mark.parametrize("scene", sorted({scene for scene, _ in STILLS.values()}, key=lambda scene: scene.__name__))
def test_the_committed_pictures_are_what_the_scene_draws(scene: Callable[[scenes.Size], Image.Image]) -> None:
    drawn: dict[scenes.Size, Image.Image] = {}
    for path, (by, size) in STILLS.items():
        if by is scene:
            if size not in drawn:
                drawn[size] = scene(size)
            with Image.open(PIPELINES / path) as committed:
                assert committed.size == size
                assert far_apart(drawn[size], committed.convert("RGB")) < 1.5, path  # png() drops low bits
