"""Clips of one's own that are not as every screen shows them, by the command line: told, and used as they are seen."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
from PIL import Image

from klingflow.io import media
from tests import clips
from tests.cli import Project

BOARD = """\
klingflow: 1
shots:
  - {id: own, clip: footage/own.mov}
  - {id: after, continues: own, prompt: On it goes., duration: 3}
"""
KINDS = {
    "HDR (HLG)": {"pixels": "yuv420p10le", "transfer": 18, "matrix": 9},
    "HDR (PQ)": {"pixels": "yuv420p10le", "transfer": 16, "matrix": 9},
    "alpha": {"codec": "qtrle", "pixels": "argb"},
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", {})
    made.write("film.yaml", BOARD)
    (made.root / "footage").mkdir()
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_warning_with_its_place_and_no_error(project: Project, kind: str) -> None:
    clips.make(project.root / "footage/own.mov", frames=24, **KINDS[kind])  # type: ignore[arg-type]
    checked = project.run("check", "film.yaml")
    assert checked.code == 0, checked.said
    assert "film.yaml:3:21: warning: footage/own.mov " in checked.out
    assert kind in checked.out
    planned = project.run("plan", "film.yaml")
    assert planned.code == 0
    assert "film.yaml:3:21: warning: footage/own.mov " in planned.err
    assert kind in str(json.loads(project.run("plan", "film.yaml", "--format", "json").out)["warnings"])


@pytest.mark.parametrize("name", ["own.mov", "own.mp4"])
@pytest.mark.parametrize("kind", ["HDR (HLG)", "HDR (PQ)"])
def test_hdr_is_seen_as_sdr_everywhere(project: Project, kind: str, name: str) -> None:
    own = clips.make(project.root / "footage" / name, frames=24, **KINDS[kind])  # type: ignore[arg-type]
    before = own.read_bytes()
    project.write("film.yaml", BOARD.replace("own.mov", name))
    ran = project.run("run", "film.yaml")
    assert ran.code == 0, ran.said
    media.cut(own, "last", project.root / "wanted.png")
    with Image.open(project.root / "wanted.png") as wanted:
        white = wanted.getpixel((40, 22))
        assert wanted.convert("L").getpixel((40, 22)) == pytest.approx(252, abs=4), "signal of 92 %"
    out = project.root / "out/film"
    for file in ("film.mp4", "shots/own.mp4"):
        with av.open(str(out / file)) as container:
            context = container.streams.video[0].codec_context
            tags = (context.color_trc, context.color_primaries, context.colorspace, context.pix_fmt)
            assert tags == (1, 1, 1, "yuv420p")
        media.cut(out / file, "0.9s", project.root / "seen.png")
        with Image.open(project.root / "seen.png") as seen:
            corner = (seen.width // 8, seen.height // 8)
            assert seen.getpixel(corner) == pytest.approx(white, abs=3)
    assert (out / "frames/own.last.png").read_bytes() == (project.root / "wanted.png").read_bytes()
    assert own.read_bytes() == before
    made = (out / "film.mp4").stat().st_mtime_ns
    assert project.run("run", "film.yaml", "--frozen").code == 0
    assert (out / "film.mp4").stat().st_mtime_ns == made


def test_a_tall_clip_of_ones_own_in_a_wide_film_is_told(project: Project) -> None:
    clips.make(project.root / "footage/own.mov", frames=24, rotate=90)
    project.write("film.yaml", BOARD + "  - {id: c, prompt: x}\n  - {id: d, prompt: x}\n")
    checked = project.run("check", "film.yaml")
    assert checked.code == 0
    told = "film.yaml:3:21: warning: shot 'own' is 9:16 in a film of 16:9: there will be bars at its sides"
    assert told in checked.out
