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
        assert api.requests == []

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
