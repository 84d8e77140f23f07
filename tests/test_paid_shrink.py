"""Images that are too large for a provider: refused before money, or sent as a smaller copy where that is asked for."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from klingflow.core.digest import of_bytes
from tests import odd_stills
from tests.paid_helpers import STILL, bought, studio
from tests.standins import movie

BOARD = """
    klingflow: 1
    title: Large
    defaults: {provider: mulerouter, duration: 3, resolution: 720p}
    shots:
      - id: dawn
        first_frame: frames/large.png
        prompt: dawn breaks
      - id: noon
        first_frame: frames/turned.jpg
        prompt: noon comes
"""


def large() -> bytes:
    """A numbered still of 11 MB: blocks and, between their values, grain that no coder can drop."""
    clean = np.asarray(Image.open(io.BytesIO(movie.still(1, size=(2560, 1440)))), dtype=np.int16)
    grain = np.random.default_rng(7).integers(0, 48, clean.shape)
    out = io.BytesIO()
    Image.fromarray(np.clip(clean + np.where(clean > 100, -grain, grain), 0, 255).astype(np.uint8)).save(
        out, "PNG", compress_level=0
    )
    return out.getvalue()


def turned() -> bytes:
    """A numbered still that lies on its side, as a telephone writes it."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    out = io.BytesIO()
    side = Image.open(io.BytesIO(movie.still(2, size=(640, 360)))).transpose(Image.Transpose.ROTATE_90)
    side.save(out, "JPEG", quality=95, exif=exif)
    return out.getvalue()


def test_too_large_and_turned_stills_are_refused_at_check_and_sent_as_copies_where_the_project_says_so(
    tmp_path: Path,
) -> None:
    with studio(tmp_path, "mulerouter", BOARD) as (project, api):
        originals = {"frames/large.png": large(), "frames/turned.jpg": turned()}
        for name, data in originals.items():
            project.write(name, data)
        refused = project.run("run", "film.yaml", "--yes")
        assert refused.code == 2
        assert "film.yaml:6:18: frames/large.png: the image has 10.6 MiB; the provider takes 10.0 MiB" in refused.err
        assert "film.yaml:9:18: frames/turned.jpg: the image is turned or mirrored by its EXIF" in refused.err
        assert refused.err.count("images: {shrink: lossless}") == 2
        assert api.requests == []
        before = project.run("plan", "film.yaml", "--provider", "animatic")
        assert before.code == 0, "a rehearsal turns them itself"

        project.write("klingflow.yaml", "images: {shrink: high-quality}\n")
        planned = json.loads(project.run("plan", "film.yaml", "--format", "json").out)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        dawn, noon = bought(api, "dawn breaks"), bought(api, "noon comes")
        for one, number, size in ((dawn, 1, (2560, 1440)), (noon, 2, (640, 360))):
            sent = Image.open(io.BytesIO(one.images["first_frame"]))
            assert (sent.format, sent.size) == ("JPEG", size)
            assert not sent.getexif()
            assert len(one.images["first_frame"]) <= 10 * 2**20
            assert one.numbers == {"first_frame": (STILL + number, 0)}
            assert one.body["first_frame"].startswith("data:image/jpeg;base64,")

        records = {}
        for path in (project.root / ".klingflow/store/clips").glob("*.json"):
            record = json.loads(path.read_text("utf-8"))
            records[record["key"]] = record
        assert {step["key"] for step in planned["steps"]} == set(records), "the key is by the originals"
        went_in = {record["inputs"]["first_frame"] for record in records.values()}
        assert went_in == {hashlib.sha256(one.images["first_frame"]).hexdigest() for one in (dawn, noon)}
        assert not went_in & {of_bytes(data) for data in originals.values()}

        project.write("klingflow.yaml", "images: {shrink: lossless}\n")
        assert project.run("plan", "film.yaml", "--exit-code").code == 0, "another way of sending buys nothing anew"


ODD = {
    "inks.jpg": (odd_stills.cmyk(200, 30, 90, 40), "in CMYK, the colours of print", (46, 189, 139)),
    "photoshop.jpg": (odd_stills.ycck(200, 30, 90, 40), "in CMYK, the colours of print", (46, 189, 139)),
    "deep.png": (odd_stills.deep(0, 40000), "of 16 bits a channel", (156, 156, 156)),
    "wide.png": (
        odd_stills.saved(Image.new("RGB", odd_stills.SIZE, (200, 60, 20)), "PNG", icc_profile=odd_stills.wide()),
        "in the colours of the profile 'Display P3'",
        (217, 42, 0),
    ),
    "glass.webp": (
        odd_stills.saved(Image.new("RGBA", odd_stills.SIZE, (200, 100, 50, 128)), "WEBP", lossless=True),
        "transparent in places",
        (100, 50, 25),
    ),
}
"""What each is, how a message names it, and its colour as an eye sees it."""


def test_a_still_of_which_no_seller_speaks_is_told_at_its_place_and_sent_as_it_looks_where_the_project_says_so(
    tmp_path: Path,
) -> None:
    board = "klingflow: 1\ntitle: Odd\ndefaults: {provider: hiapi, duration: 3, resolution: 720p}\nshots:\n"
    for name in ODD:
        board += f"  - id: {name.partition('.')[0]}\n    prompt: of {name}\n    first_frame: frames/{name}\n"
    with studio(tmp_path, "hiapi", board) as (project, api):
        for name, (data, _, _) in ODD.items():
            project.write(f"frames/{name}", data)
        for _ in "first look", "known":
            checked = project.run("check", "film.yaml")
            assert checked.code == 0, checked.said
            for n, (name, (_, said, _)) in enumerate(ODD.items()):
                place = f"film.yaml:{7 + 3 * n}:18"
                told = f"{place}: warning: frames/{name}: the image is {said}; the provider does not say"
                assert told in checked.said
            assert checked.said.count("images: {shrink: lossless}") == len(ODD)
        rehearsed = project.run("plan", "film.yaml", "--provider", "animatic")
        assert "the image is" not in rehearsed.said, "the animatic shows them as they look"
        before = json.loads(project.run("plan", "film.yaml", "--format", "json").out)

        project.write("klingflow.yaml", "images: {shrink: lossless}\n")
        assert "the image is" not in project.run("check", "film.yaml").said
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        for name, (_, _, colour) in ODD.items():
            sent = Image.open(io.BytesIO(bought(api, f"of {name}").images["image_urls.0"]))
            assert (sent.format, sent.mode, sent.size, sent.info) == ("PNG", "RGB", odd_stills.SIZE, {})
            found = sent.getpixel((640, 360))
            assert isinstance(found, tuple)
            assert all(abs(one - other) <= 2 for one, other in zip(found, colour, strict=True)), (name, found)
        after = json.loads(project.run("plan", "film.yaml", "--format", "json").out)
        keys = [[step["key"] for step in plan["steps"]] for plan in (before, after)]
        assert keys[0] == keys[1], "the key is by the originals"


@pytest.mark.slow
def test_a_frame_of_a_clip_that_is_too_large_stops_its_shot_before_money_or_is_sent_as_a_copy(tmp_path: Path) -> None:
    board = """
        klingflow: 1
        title: Large frame
        defaults: {provider: mulerouter, duration: 3, resolution: 720p}
        shots:
          - id: own
            clip: footage/own.mp4
          - id: next
            continues: own
            prompt: on it goes
        film: {shots: [next]}
    """
    with studio(tmp_path, "mulerouter", board) as (project, api):
        project.write("footage/own.mp4", grainy())
        stopped = project.run("run", "film.yaml", "--yes")
        assert stopped.code == 1, stopped.said
        assert "first_frame for mulerouter: the image has " in stopped.err
        assert "the provider takes 10.0 MiB" in stopped.err
        assert "images: {shrink: lossless}" in stopped.err
        assert "cost: nothing in this run" in stopped.err
        assert api.calls("POST") == []

        project.write("klingflow.yaml", "images: {shrink: high-quality}\n")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        (one,) = api.purchases
        sent = one.images["first_frame"]
        assert len(sent) <= 10 * 2**20
        assert (Image.open(io.BytesIO(sent)).format, Image.open(io.BytesIO(sent)).size) == ("JPEG", SIZE)


SIZE = 2560, 1600


def grainy() -> bytes:
    """A clip of two large frames of grain: as PNG each has more than 11 MB."""
    out = io.BytesIO()
    width, height = SIZE
    grain = np.random.default_rng(3).integers(16, 235, (height * 3 // 2, width), dtype=np.uint8)
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "ultrafast", "crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(2):
            frame = av.VideoFrame.from_ndarray(grain, format="yuv420p")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()
