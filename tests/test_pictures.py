"""Pictures that do not go together: told by check, before any of them is paid for."""

from __future__ import annotations

import wave
from dataclasses import replace
from typing import Any

import pytest

from klingflow.core.model import ClipLook, Cut, Digest, FileStill, Film, ImageFacts, Inputs, Shot, ShotFrame, ShotId
from klingflow.io import media
from klingflow.io.project import Project as Files
from klingflow.planning.pictures import warnings
from tests.cli import Project
from tests.review_helpers import film, shot

SIZES = {"wide.png": (1920, 1080), "tall.png": (1080, 1920), "odd.png": (1920, 1088), "old.png": (1440, 1080)}


def told(made: Film) -> list[str]:
    stills = {
        name: ImageFacts(digest=Digest("0" * 64), format="PNG", width=w, height=h, bytes=1)
        for name, (w, h) in SIZES.items()
    }
    looks = {
        "wide.mp4": ClipLook(width=1920, height=1080),
        "small.mp4": ClipLook(width=480, height=270),
        "tall.mp4": ClipLook(width=1080, height=1920),
        "hdr.mov": ClipLook(width=1920, height=1080, hdr="HLG"),
        "glass.mov": ClipLook(width=1920, height=1080, alpha=True),
    }
    return [problem.what for problem in warnings(made, Inputs(stills=stills, clips={}, looks=looks))]


@pytest.mark.parametrize(
    ("first", "last", "what"),
    [
        ("tall.png", "wide.png", "shot 'a' begins with a picture of 9:16 and ends with one of 16:9"),
        ("wide.png", "old.png", "shot 'a' begins with a picture of 16:9 and ends with one of 4:3"),
        ("wide.png", "odd.png", ""),
        ("odd.png", "wide.png", ""),
    ],
)
def test_the_frames_of_a_shot_have_one_shape(first: str, last: str, what: str) -> None:
    assert told(film(shot("a", still=first, last_frame=FileStill(last)))) == ([what] if what else [])


def test_a_last_frame_out_of_another_shot_counts_by_its_shape() -> None:
    tall = shot("tall", still="tall.png")
    wide = shot("wide", still="wide.png", last_frame=ShotFrame(ShotId("tall")))
    made = film(wide, tall, size=(1920, 1080))
    assert "shot 'wide' begins with a picture of 16:9 and ends with one of 9:16" in told(made)


@pytest.mark.parametrize(
    ("shots", "size", "what"),
    [
        # told once, where the shape comes from, not again at what continues it
        (
            [shot("a"), shot("b", still="wide.png"), shot("c", still="tall.png"), shot("d", continues="c")],
            None,
            "shot 'c' is 9:16 in a film of 16:9: there will be bars at its sides",
        ),
        ([shot("a", still="tall.png"), shot("b", continues="a")], None, ""),
        ([shot("a", aspect_ratio="9:16"), shot("b", aspect_ratio="9:16")], None, ""),
        (
            [shot("a", aspect_ratio="9:16"), shot("b", aspect_ratio="9:16"), shot("c")],
            None,
            "shot 'c' is 16:9 in a film of 9:16: there will be bars above and below it",
        ),
        ([shot("a", aspect_ratio="1:1")], (1080, 1920), "shot 'a' is 1:1 in a film of 9:16: there will be bars above"),
        ([shot("a", still="tall.png")], (1080, 1920), ""),
        ([shot("a", still="missing.png"), shot("b", aspect_ratio="wide"), shot("c", clip="x.mp4")], None, ""),
        ([shot("a"), shot("b", still="odd.png")], None, ""),
        # a clip of one's own: told there, not again at what continues it
        (
            [shot("a"), shot("own", clip="tall.mp4"), shot("b", continues="own"), shot("c")],
            None,
            "shot 'own' is 9:16 in a film of 16:9: there will be bars at its sides",
        ),
        (
            [shot("a"), shot("own", clip="tall.mp4"), shot("own2", clip="tall.mp4")],
            (1080, 1920),
            "shot 'a' is 16:9 in a film of 9:16: there will be bars above and below it",
        ),
        # it decides in a film of nothing else only
        ([shot("own", clip="tall.mp4"), shot("b", continues="own")], None, ""),
        ([shot("own", clip="tall.mp4"), shot("own2", clip="tall.mp4")], None, ""),
        ([shot("own", clip="wide.mp4"), shot("a")], None, ""),
    ],
)
def test_the_shots_of_a_film_have_one_shape(shots: list[Any], size: tuple[int, int] | None, what: str) -> None:
    found = told(film(*shots, size=size))
    assert len(found) == bool(what)
    assert all(one.startswith(what) for one in found)


def test_a_shot_that_is_not_in_the_film_may_have_any_shape() -> None:
    assert told(film(shot("a"), shot("b", still="tall.png"), cut=(Cut(ShotId("a")),))) == []


@pytest.mark.parametrize("first", [shot("first", clip="tall.mp4"), shot("first", still="tall.png")])
def test_what_continues_a_shot_that_is_not_in_the_film_is_told_by_its_shape(first: Shot) -> None:
    shots = (shot("a"), shot("c"), first, shot("b", continues="first"), shot("d", continues="b"))
    made = film(*shots, cut=tuple(Cut(ShotId(name)) for name in ("a", "c", "b")))
    assert told(made) == ["shot 'b' is 9:16 in a film of 16:9: there will be bars at its sides"]


def test_hdr_and_transparency_are_told() -> None:
    made = film(shot("a", clip="hdr.mov"), shot("b", clip="glass.mov"), shot("c", clip="wide.mp4"))
    assert told(made) == [
        "hdr.mov is HDR (HLG): it is tone-mapped to SDR (BT.709) wherever it is shown",
        "glass.mov has an alpha channel: what is transparent is shown on black",
    ]


def test_a_drawing_in_a_paid_film_is_told() -> None:
    drawn = shot("b", provider="animatic")
    assert told(film(shot("a"), drawn)) == [
        "shot 'b' stays a drawing of the animatic in a film whose other shots are paid for"
    ]
    assert told(film(drawn)) == []
    assert told(film(shot("a"), shot("b", provider="animatic", hold=True))) == []
    assert told(film(shot("a", hold=True), drawn)) == []
    assert told(film(shot("a"), shot("c", clip="x.mp4", provider="animatic"))) == []


def test_check_tells_what_plan_tells_and_once(project: Project) -> None:
    lines = [f"  - {{id: s{n}, prompt: x, continues: s{n - 1}}}" for n in range(1, 6)]
    board = "klingflow: 1\nmatrix: {lang: [en, de]}\nshots:\n  - {id: s0, prompt: x}\n" + "\n".join(lines) + "\n"
    project.write("film.yaml", board)
    checked = project.run("check", "film.yaml")
    assert (checked.code, checked.out.count("is clip 5 in a chain of continues; max_chain is 4")) == (0, 1)
    planned = project.run("plan", "film.yaml")
    assert (planned.code, planned.err.count("is clip 5 in a chain of continues")) == (0, 1)


@pytest.fixture
def project(tmp_path: Any) -> Project:
    return Project(tmp_path / "project", {})


def test_a_bed_that_is_no_sound_is_told_by_check(project: Project) -> None:
    for name, data in (("a.wav", b"hello"), ("b.mp3", b"\x89PNG\r\n\x1a\n" + bytes(64))):
        project.write(name, data)
        project.write("film.yaml", f"klingflow: 1\nshots: [{{id: a, prompt: x}}]\nfilm: {{audio: {name}}}\n")
        for command in ("check", "run"):
            told = project.run(command, "film.yaml")
            assert (told.code, "mend: name a WAV, MP3, FLAC, M4A or OGG file" in told.said) == (2, True)
            assert f"film.yaml:3:15: {name} " in told.said


def test_a_bed_is_listened_to_once(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 48000, 0, "NONE", ""))
        file.writeframes(bytes(9600))
    files = Files(tmp_path)
    digest = files.bed("a.wav")
    monkeypatch.setattr(media, "sound", None)
    assert files.bed("a.wav") == digest == files.digest("a.wav")


def test_the_shots_of_a_film_are_not_searched_for_each_of_them() -> None:
    class Cuts(tuple[Cut, ...]):
        def __contains__(self, name: object) -> bool:
            raise AssertionError("each look costs as much as the film is long")

    made = film(shot("a", still="wide.png"), shot("b", continues="a"), shot("c", still="tall.png"))
    assert told(replace(made, cut=Cuts(made.cut))) == told(made)


@pytest.mark.parametrize(
    ("shots", "fields", "what"),
    [
        ([shot("a"), shot("card", clip="small.mp4")], {}, "shot 'card' is 480x270 in a film of 1920x1080: it is"),
        ([shot("card", clip="small.mp4"), shot("b", clip="wide.mp4")], {}, "shot 'card' is 480x270 in a film of 1920x"),
        (
            [shot("a"), shot("b", resolution="720p"), shot("card", clip="small.mp4")],
            {},
            "shot 'b' is ordered at 720p in a film of 1920x1080: it is enlarged, and so are card",
        ),
        ([shot("a"), shot("b", resolution="720p")], {"resolution": "720p"}, ""),
        ([shot("a"), shot("b", resolution="720p")], {"size": (1280, 720)}, ""),
        ([shot("a"), shot("b", resolution="4K")], {}, "shot 'a' is ordered at 1080p in a film of 3840x2160: it is en"),
        ([shot("a")], {"resolution": "4K"}, ""),  # meant so
        ([shot("a"), shot("b")], {"size": (1080, 1920), "aspect": None}, None),  # only of the bars
        ([shot("own", clip="tall.mp4"), shot("a", aspect_ratio="9:16")], {"aspect": "9:16"}, ""),
        ([shot("a", provider="animatic"), shot("card", clip="small.mp4")], {}, ""),
    ],
)
def test_a_shot_that_is_much_smaller_than_the_film_is_told(
    shots: list[Any], fields: dict[str, Any], what: str | None
) -> None:
    found = [one for one in told(film(*shots, **fields)) if "enlarged" in one]
    assert len(found) == bool(what)
    assert all(one.startswith(what or "") for one in found)
