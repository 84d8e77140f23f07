"""A file of one's own that shows the same, pixel for pixel, buys nothing again, whatever its bytes are."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from klingflow.io import media, picture_digest
from tests import clips
from tests.cli import Project
from tests.paid_helpers import studio
from tests.standins import movie

BOARD = """
    klingflow: 1
    title: Own
    defaults: {provider: NAME, duration: 3, resolution: 720p}
    shots:
      - {id: own, clip: footage/own.mp4}
      - id: next
        continues: own
        last_frame: frames/dusk.png
        prompt: on it goes
      - {id: after, continues: next, prompt: and on}
      - {id: dawn, first_frame: frames/dawn.png, prompt: dawn breaks}
    film: {shots: [next, dawn]}
"""


def packed(source: Path, to: Path, **metadata: str) -> None:
    """What `ffmpeg -c copy -metadata …` does: the same packets in another file."""
    with av.open(str(source)) as old, av.open(str(to), "w") as new:
        new.metadata.update(metadata)
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)


def tagged(still: bytes, **texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    out = io.BytesIO()
    Image.open(io.BytesIO(still)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Project, movie.Any]]:
    """BOARD, bought."""
    with studio(tmp_path, "mulerouter", BOARD) as (project, api):
        (project.root / "footage").mkdir()
        clips.make(project.root / "footage/own.mp4", frames=24, size=(1280, 720), sound=clips.tone(1))
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 3
        yield project, api


def again(project: Project, name: str = "own.mp4", **metadata: str) -> None:
    clip = project.root / "footage" / name
    to = clip.with_name("new.mp4")
    packed(clip, to, **metadata)
    assert to.read_bytes() != clip.read_bytes()
    to.replace(clip)


def test_a_clip_and_stills_that_were_tagged_anew_buy_nothing_also_in_a_fresh_clone(
    own: tuple[Project, movie.Any], tmp_path: Path
) -> None:
    project, api = own
    before = (project.root / "film.lock.yaml").read_text("utf-8")
    again(project, title="x")
    for name in ("dawn", "dusk"):
        still = project.root / f"frames/{name}.png"
        still.write_bytes(tagged(still.read_bytes(), Software="another"))
    plan = json.loads(project.run("plan", "film.yaml", "--format", "json").out)
    assert {step["shot"]: step["action"] for step in plan["steps"]} == {
        "own": "adopt",
        "next": "reuse",
        "after": "reuse",
        "dawn": "reuse",
    }
    reasons = {step["shot"]: step["reason"] for step in plan["steps"]}
    assert reasons["dawn"] == "up to date: frames/dawn.png: other bytes, the same pixels"
    assert "footage/own.mp4" in reasons["next"]
    assert "frames/dusk.png" in reasons["next"]

    clone = Project(tmp_path / "clone", dict(project.env))
    clone.root.mkdir()
    for name in ("film.yaml", "film.lock.yaml", "footage", "frames"):
        source = project.root / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, clone.root / name)
    cloned = json.loads(clone.run("plan", "film.yaml", "--format", "json").out)
    assert [step["action"] for step in cloned["steps"]] == ["adopt", "reuse", "reuse", "reuse"]

    ran = project.run("run", "film.yaml", "--yes")
    assert ran.code == 0, ran.said
    assert len(api.purchases) == 3
    after = (project.root / "film.lock.yaml").read_text("utf-8")
    bought = [text[text.index("  after:") : text.index("  own:")] for text in (before, after)]
    assert bought[0] == bought[1]

    again(project, title="y")
    assert project.run("run", "film.yaml", "--yes").code == 0
    assert len(api.purchases) == 3, "and once more, though the lock names the clip by its second packing now"


def test_a_renamed_shot_with_a_tagged_still_buys_nothing(own: tuple[Project, movie.Any]) -> None:
    project, api = own
    still = project.root / "frames/dawn.png"
    still.write_bytes(tagged(still.read_bytes(), Title="Dawn"))
    board = project.root / "film.yaml"
    board.write_text(board.read_text("utf-8").replace("dawn,", "morning,").replace("next, dawn", "next"), "utf-8")
    assert project.run("run", "film.yaml", "--yes").code == 0
    assert len(api.purchases) == 3


def test_what_shows_something_else_is_bought(own: tuple[Project, movie.Any]) -> None:
    project, api = own
    still = project.root / "frames/dawn.png"
    picture = Image.open(io.BytesIO(still.read_bytes())).convert("RGB")
    picture.putpixel((5, 5), (1, 2, 3))
    picture.save(still)
    clips.make(project.root / "footage/own.mp4", frames=23, size=(1280, 720), sound=clips.tone(1))
    plan = json.loads(project.run("plan", "film.yaml", "--format", "json").out)
    assert [step["action"] for step in plan["steps"]] == ["adopt", "make", "make", "make"]
    assert project.run("run", "film.yaml", "--yes").code == 0
    assert len(api.purchases) == 6
    lock = (project.root / "film.lock.yaml").read_text("utf-8")
    assert lock.partition("pictures:")[2].count("\n") == 4, "the files that nothing was made of any more are gone"


def test_a_run_with_nothing_new_leaves_the_lock_as_it_is(own: tuple[Project, movie.Any]) -> None:
    project, _ = own
    lock = project.root / "film.lock.yaml"
    text = lock.read_text("utf-8")
    assert project.run("run", "film.yaml").code == 0
    assert lock.read_text("utf-8") == text


def test_a_run_learns_what_the_files_of_an_older_lock_show(own: tuple[Project, movie.Any]) -> None:
    project, api = own
    lock = project.root / "film.lock.yaml"
    text = lock.read_text("utf-8")
    lock.write_text(text.partition("pictures:")[0], "utf-8")
    assert project.run("run", "film.yaml").code == 0
    assert lock.read_text("utf-8") == text
    assert len(api.purchases) == 3


# ---------------------------------------------------------------- the digest


def png(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)  # type: ignore[arg-type]
    return out.getvalue()


def test_stills_with_equal_pixels_are_one_picture() -> None:
    flat = Image.new("RGB", (40, 30), (200, 10, 10))
    flat.paste((10, 200, 10), (5, 5, 20, 20))
    one = picture_digest.of_still(png(flat))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lossless = io.BytesIO()
    flat.save(lossless, "WEBP", lossless=True)
    same = [
        png(flat, compress_level=1),
        png(flat.quantize(4)),
        png(flat.convert("RGBA")),
        png(flat, dpi=(72, 72)),
        png(flat, icc_profile=srgb),
        lossless.getvalue(),
    ]
    assert {picture_digest.of_still(data) for data in same} == {one}


def test_stills_that_look_otherwise_are_not() -> None:
    flat = Image.new("RGB", (40, 30), (200, 10, 10))
    point = flat.copy()
    point.putpixel((39, 29), (200, 10, 11))
    clear = flat.convert("RGBA")
    clear.putpixel((0, 0), (200, 10, 10, 254))
    turned = Image.Exif()
    turned[0x0112] = 6
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    grey = Image.new("I;16", (40, 30), 30000)
    gamma = PngImagePlugin.PngInfo()
    gamma.add(b"gAMA", (100000).to_bytes(4, "big"))
    others = [
        png(flat),
        png(point),
        png(clear),
        png(flat.crop((0, 0, 30, 40))),
        png(flat, exif=turned),
        png(flat, icc_profile=lab),
        png(flat, pnginfo=gamma),
        png(grey),
        png(Image.new("I;16", (40, 30), 30001)),
        png(grey.convert("I").point(lambda value: value / 257).convert("L")),
    ]
    assert len({picture_digest.of_still(data) for data in others}) == len(others)


def test_clips_with_equal_frames_are_one_picture_in_any_container(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    clips.make(clip, frames=30, sound=clips.tone(1))
    one = picture_digest.of_clip(clip)
    for name in ("b.mp4", "b.mov", "b.mkv"):
        packed(clip, tmp_path / name, title="x")
        assert picture_digest.of_clip(tmp_path / name) == one, name
    clips.make(tmp_path / "c.mp4", frames=30)
    assert picture_digest.of_clip(tmp_path / "c.mp4") == one, "its sound goes into no clip that is bought"


def test_a_recording_that_was_brought_from_matroska_into_mp4_is_the_same_picture(tmp_path: Path) -> None:
    # OBS records MKV, whose clock has milliseconds; the MP4 made of it keeps the rounded times in a finer clock.
    clip = clips.make(tmp_path / "a.mp4", frames=30)
    with av.open(str(clip)) as source, av.open(str(tmp_path / "b.mp4"), "w") as target:
        track = target.add_stream_from_template(source.streams.video[0])
        track.time_base = Fraction(1, 90000)
        for packet in source.demux(source.streams.video[0]):
            if packet.size and packet.pts is not None and packet.dts is not None:
                pts, dts = (90 * round(1000 * at * packet.time_base) for at in (packet.pts, packet.dts))
                packet.pts, packet.dts, packet.time_base, packet.stream = pts, dts, track.time_base, track
                target.mux(packet)
    assert media.timeline(tmp_path / "b.mp4").rate == 24
    assert picture_digest.of_clip(tmp_path / "b.mp4") == picture_digest.of_clip(clip)


def test_a_clock_as_coarse_as_the_frames_are_long_does_not_hide_that_one_is_missing(tmp_path: Path) -> None:
    times = [Fraction(at, 24) for at in (0, 1, 2, 4, 5, 6)]
    clip = clips.make(tmp_path / "a.mp4", frames=6, times=times, muxing={"video_track_timescale": "24"})
    line = media.timeline(clip)
    assert (line.base, line.seconds) == (Fraction(1, 24), Fraction(7, 24))
    assert not line.is_steady(Fraction(24))


def test_clips_that_look_otherwise_are_not(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"frames": 29}, {"first": 1}, {"rate": 25}, {"size": (322, 180)}]
    made = [clips.make(tmp_path / f"{n}.mp4", **{"frames": 30, **change}) for n, change in enumerate(changes)]
    turned = clips.make(tmp_path / "turned.mp4", frames=30, rotate=90)
    assert len({picture_digest.of_clip(clip) for clip in (*made, turned)}) == len(changes) + 1
