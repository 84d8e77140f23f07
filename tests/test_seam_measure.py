"""What is measured at real joins: a pan over a picture, with one fault in it. benchmarks/seams.py tries many more."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import jsonschema
import numpy as np
import pytest

from klingflow.io.downmix import RATE
from klingflow.output import seam_measure, seams
from klingflow.output.seam_measure import Clip, Look, Picture, _Step
from klingflow.output.seams import Seam
from klingflow.storyboard import schema
from tests.cli import Project

Array = np.ndarray[Any, Any]
WIDE, HIGH, FRAMES = 320, 176, 26


def ground() -> Array:
    rng = np.random.default_rng(5)
    out = np.zeros((HIGH * 2, WIDE * 4, 3), np.float32)
    for cell, weight in ((64, 80), (20, 50), (8, 30), (3, 30)):
        small = rng.uniform(-1, 1, (HIGH * 2 // cell + 2, WIDE * 4 // cell + 2, 3)).astype(np.float32)
        out += weight * cv2.resize(small, (WIDE * 4, HIGH * 2), interpolation=cv2.INTER_CUBIC)
    return out + 128


GROUND = ground()


def view(x: float, y: float = 0.0) -> Array:
    matrix = np.array([[1, 0, -(x + WIDE)], [0, 1, -(y + HIGH / 2)]])
    return cv2.warpAffine(GROUND, matrix, (WIDE, HIGH), flags=cv2.INTER_LINEAR)


def written(path: Path, pictures: Sequence[Array], sound: Array | None = None) -> Path:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(24))
        video.width, video.height, video.pix_fmt = WIDE, HIGH, "yuv420p"
        video.codec_context.options = {"preset": "veryfast", "crf": "20", "threads": "1"}
        audio = container.add_stream("aac", rate=48000, layout="stereo") if sound is not None else None
        for picture in pictures:
            levels = np.clip(picture, 0, 255).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(levels, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            for at in range(0, len(sound), 1024):
                part = np.ascontiguousarray(np.stack([sound[at : at + 1024]] * 2).astype(np.float32))
                frame = av.AudioFrame.from_ndarray(part, "fltp", "stereo")
                frame.sample_rate, frame.pts = 48000, at
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


PACE = 2.0
"""Pixels a frame."""
LAST = PACE * (FRAMES - 1)


def before() -> list[Array]:
    return [view(PACE * n) for n in range(FRAMES)]


def after(pace: float = PACE, way: float = 0.0, back: int = 0) -> list[Array]:
    steps = [pace * (n - back) for n in range(FRAMES)]
    return [view(LAST + step * np.cos(way), step * np.sin(way)) for step in steps]


def found(folder: Path, one: Sequence[Array], two: Sequence[Array], join: str = "continues") -> Seam:
    clips = [
        Clip(shot="a", path=written(folder / "a.mp4", one)),
        Clip(shot="b", path=written(folder / "b.mp4", two), first=1),
    ]
    [seam] = seam_measure.seams_of(clips, [join], seams.limits({}))
    return seam


def kinds(seam: Seam) -> set[str]:
    return {one.kind for one in seam.findings}


def test_a_pan_that_goes_on_has_no_finding_and_a_planned_cut_no_velocity(tmp_path: Path) -> None:
    steady = found(tmp_path, before(), after())
    assert kinds(steady) == set()
    assert steady.numbers["velocity"] is not None
    assert (steady.frame, steady.at_s) == (FRAMES, round(FRAMES / 24, 3))
    cut = found(tmp_path, before(), [view(-200 + 4 * n, 30) for n in range(FRAMES)], "cut")
    assert kinds(cut) == set()
    assert cut.numbers["velocity"] is None


def test_a_picture_that_stands_still_goes_on_standing_still(tmp_path: Path) -> None:
    assert kinds(found(tmp_path, [view(0)] * FRAMES, [view(0)] * FRAMES)) == set()


FAULTS: dict[str, tuple[Callable[[], list[Array]], Callable[[], list[Array]]]] = {
    "velocity": (before, lambda: after(pace=3.2)),
    "freeze": (lambda: [view(PACE * min(n, FRAMES - 6)) for n in range(FRAMES)], lambda: after(back=5)),
    "echo": (before, lambda: after(back=4)),
    "colour": (before, lambda: [each * np.array([1.08, 1, 0.92]) for each in after()]),
    "luma": (before, lambda: [each + 8 for each in after()]),
    "texture": (before, lambda: [cv2.GaussianBlur(each, (0, 0), 1.6) for each in after()]),
    "cut": (before, lambda: [*after()[:14], *(view(-220 + n, -40) for n in range(12))]),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_found(tmp_path: Path, kind: str) -> None:
    one, two = FAULTS[kind]
    assert kind in kinds(found(tmp_path, one(), two()))


def test_a_turn_of_the_motion_is_told_in_degrees(tmp_path: Path) -> None:
    [finding] = found(tmp_path, before(), after(way=np.radians(60))).findings
    assert finding.kind == "velocity"
    assert any(f"turns by {angle} degrees" in finding.note for angle in range(56, 65)), finding.note


def test_how_many_frames_are_still_or_shown_again_is_counted(tmp_path: Path) -> None:
    assert found(tmp_path, *(each() for each in FAULTS["freeze"])).numbers["freeze"] == 5
    assert found(tmp_path, *(each() for each in FAULTS["echo"])).numbers["echo"] == 4


def test_a_dropout_and_a_click_are_heard(tmp_path: Path) -> None:
    t = np.arange(round(2 * FRAMES / 24 * 48000)) / 48000
    tone = 0.2 * np.sin(2 * np.pi * 330 * t)
    each = round(FRAMES / 24 * 48000)
    begin = each - 2000  # the later clip begins a frame earlier, with the picture that both show

    def heard(whole: Array) -> Seam:
        parts = (whole[:each], whole[begin : begin + each])
        clips = [
            Clip(shot=name, path=written(tmp_path / f"{name}.mp4", pictures, sound), first=n)
            for n, (name, pictures, sound) in enumerate(zip("ab", (before(), after()), parts, strict=True))
        ]
        [seam] = seam_measure.seams_of(clips, ["continues"], seams.limits({}))
        return seam

    assert kinds(heard(tone)) == set()
    dropped = tone.copy()
    dropped[each : each + 6000] = 0
    assert kinds(heard(dropped)) == {"loudness"}
    clicked = tone.copy()
    clicked[each + 900 : each + 930] += 0.5 * np.exp(-np.arange(30) / 5)
    assert kinds(heard(clicked)) == {"click"}


def test_grain_hides_neither_a_stop_nor_a_repetition() -> None:
    rng = np.random.default_rng(9)

    def film(places: Sequence[float]) -> list[Picture]:
        grained = [view(0.5 * x) + rng.normal(0, 6, (HIGH, WIDE, 1)) for x in places]
        light = [cv2.cvtColor(np.clip(each, 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY) for each in grained]
        small = [cv2.resize(each, (WIDE // 2, HIGH // 2), interpolation=cv2.INTER_AREA) for each in light]
        return [Picture(*each, None, 1, False) for each in zip(light, small, strict=True)]

    pan = film(range(24))
    assert seam_measure._still(pan) == (0, False)
    assert seam_measure._still(film([min(n, 15) for n in range(24)]))[0] in (7, 8, 9)
    slower = film([20 - 0.05 * max(0, 20 - n) ** 2 for n in range(21)])
    assert not seam_measure._still(slower)[1], "it comes to rest, and is no freeze where what comes rests too"
    assert seam_measure._again(pan, film(range(24, 40))) == 0
    assert seam_measure._again(pan, film(range(16, 32))) == 8
    assert seam_measure._again(pan, film(range(22, 6, -1))) == 0, "the way back"


def film(places: Sequence[float], grain: float = 0.0, seed: int = 9) -> list[Picture]:
    """A pan, as small pictures."""
    rng = np.random.default_rng(seed)
    seen = [view(0.5 * x) + rng.normal(0, grain, (HIGH, WIDE, 1)) for x in places]
    light = [cv2.cvtColor(np.clip(each, 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY) for each in seen]
    small = [cv2.resize(each, (WIDE // 2, HIGH // 2), interpolation=cv2.INTER_AREA) for each in light]
    return [Picture(*each, None, 1, False) for each in zip(light, small, strict=True)]


def test_a_small_thing_that_slows_down_is_seen_in_the_grain_of_a_picture_that_stands_still(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    thing = np.kron(rng.uniform(0, 255, (4, 4, 3)), np.ones((7, 7, 1))).astype(np.float32)

    def drawn(place: float) -> Array:
        picture = view(0).copy()
        matrix = np.array([[1, 0, 40 + place], [0, 1, 80]], np.float64)
        cv2.warpAffine(thing, matrix, (WIDE, HIGH), picture, borderMode=cv2.BORDER_TRANSPARENT)
        return np.asarray(picture + rng.normal(0, 6, (HIGH, WIDE, 1)))

    one = [drawn(3 * n) for n in range(FRAMES)]
    steady = found(tmp_path, one, [drawn(3 * (FRAMES - 1 + n)) for n in range(FRAMES)])
    assert "velocity" not in kinds(steady)
    slower = found(tmp_path, one, [drawn(3 * (FRAMES - 1) + n) for n in range(FRAMES)])
    assert "velocity" in kinds(slower), slower.numbers


def test_a_hand_that_hesitates_and_goes_on_did_not_stop() -> None:
    gone = [0, 11.4, 11.3, 16.1, 16.1, 15.8, 24.7, 45.1, 61.2, 62.5, 64.0, 78.9]
    before = [35.1, 27.6, 18.4, 17.2, 18.4, 22.3]
    assert seam_measure._settled(gone, [*before, 2.9, 4.2, 6.0, 7.7, 11.4]) == 0
    assert seam_measure._settled(gone, [*before, 11.2, 11.9, 11.5, 11.1, 11.4]) == 5, "grain alone"


def test_a_first_frame_that_stands_still_is_a_repetition_although_it_was_coded_anew() -> None:
    held = film([23] * 7 + list(range(24, 40)))
    for picture in held[:7]:  # less sharp than the clip before it
        picture.half = cv2.GaussianBlur(picture.half, (0, 0), 0.5)
    assert seam_measure._again(film(range(24)), held) == 7
    assert seam_measure._again(film(range(24)), film(range(24, 40))) == 0


def test_two_repeated_frames_are_found_although_a_coder_keeps_them_apart() -> None:
    assert seam_measure._again(film(range(24), 4), film(range(22, 38), 4, seed=2)) == 2


def test_what_comes_back_by_itself_is_no_repetition() -> None:
    swing = [9 * float(np.sin(2 * np.pi * n / 12)) for n in range(48)]
    assert seam_measure._again(film(swing[:24]), film(swing[24:])) == 0


def test_a_shaking_hand_is_no_break_of_the_motion() -> None:
    rng = np.random.default_rng(4)
    for _ in range(3):
        places = np.cumsum(rng.normal(0, 4, 30))
        seen = [view(float(x)) for x in places]
        light = [cv2.cvtColor(np.clip(each, 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY) for each in seen]
        small = [Picture(each, each, None, 1, False) for each in light]
        motion = seam_measure._motion(_seen(tail=small[:15]), _seen(head=small[15:]))
        assert motion is not None
        assert motion.broken < seams.KINDS["velocity"].limit


def _seen(*, head: Sequence[Picture] = (), tail: Sequence[Picture] = ()) -> Look:
    """A look of which only the ends are known."""
    nothing = cast("Any", None)
    clip = Clip(shot="a", path=Path())
    return Look(clip, 24.0, nothing, list(head), list(tail), nothing, nothing, None, 0)


def test_a_cut_in_a_fast_pan_is_found() -> None:
    def steps(cut: float) -> list[_Step]:
        return [_Step(4.2, 0.7, 4.0)] * 12 + [_Step(cut, 9.8, 8.0)] + [_Step(4.2, 0.5, 8.0)] * 12

    assert seam_measure._cuts(steps(11.4)) == [13]
    assert seam_measure._cuts(steps(5.0)) == [], "the flow failed once"


def test_a_shadow_that_passes_over_a_part_of_the_picture_is_no_drift_of_it() -> None:
    changes = np.random.default_rng(6).normal(0, 0.2, 1000)
    assert seam_measure._middle(changes + 1.5) == pytest.approx(1.5, abs=0.05)
    changes[:250] -= 6
    assert seam_measure._middle(changes) == pytest.approx(0, abs=0.05)


def test_a_click_is_heard_in_wind_and_between_beats_and_at_the_very_end_of_a_clip() -> None:
    rng = np.random.default_rng(3)
    count = 2 * RATE
    t = np.arange(2 * count) / RATE
    wind = np.convolve(rng.normal(0, 0.35, 2 * count), np.ones(24) / 24, "same")
    beats = 0.4 * np.exp(-((t * 2.1) % 1.0) * 9) * np.sin(2 * np.pi * 220 * t)
    for sound in (wind, beats):
        for at in (-96, 1200):
            whole = np.stack([sound] * 2, axis=1).astype(np.float32)
            assert (seam_measure._click(whole[:count], whole[count - 2000 :], 2000) or 0) < 12
            whole[count + at : count + at + 24] += (0.6 * np.exp(-np.arange(24) / 5))[:, None]
            assert (seam_measure._click(whole[:count], whole[count - 2000 :], 2000) or 0) > 12, at


# ---------------------------------------------------------------- a run

BOARD = """\
klingflow: 1
title: Two
shots:
  - {id: a, clip: a.mp4}
  - {id: b, clip: b.mp4}
film:
  gate: {velocity: 5, cut: 0}
"""
MEASURED = {"MEASURES_SEAMS": "1"}


@pytest.fixture
def two(project: Project) -> Project:
    written(project.root / "a.mp4", before())
    written(project.root / "b.mp4", FAULTS["cut"][1]())
    project.write("klingflow.yaml", "")
    project.write("film.yaml", BOARD)
    return project


def test_a_gate_fails_a_run_after_everything_is_kept_each_time_anew(two: Project) -> None:
    for _ in range(2):
        ended = two.run("run", "film.yaml", **MEASURED)
        assert ended.code == 1, ended.said
        assert "film.yaml:7:28" in ended.err
        assert "a > b at 0:01.7" in ended.err
        assert "cut 1 cut (limit 0 cuts)" in ended.err
    out = two.root / "out/film"
    assert (out / "film.mp4").exists()
    assert (two.root / "film.lock.yaml").exists()
    data = json.loads((out / "seams.json").read_text("utf-8"))
    jsonschema.validate(data, schema.load("seams"))
    assert data["gate"] == ["velocity", "cut"]
    assert (out / data["seams"][0]["strip"]).read_bytes()[:3] == b"\xff\xd8\xff"
    listed = two.run("seams", "film.yaml", "--json", **MEASURED)
    assert listed.code == 1
    assert json.loads(listed.out) == data


def test_without_a_gate_findings_fail_nothing_and_nothing_is_measured_twice(two: Project) -> None:
    two.write("film.yaml", BOARD.partition("film:")[0])
    assert two.run("run", "film.yaml", **MEASURED).code == 0
    file = two.root / "out/film/seams.json"
    written_at = file.stat().st_mtime_ns
    shown = two.run("seams", "film.yaml", **MEASURED)
    assert shown.code == 0
    assert "a > b (planned cut)" in shown.out
    assert "'b' has a cut that nobody asked for" in " ".join(shown.out.split())
    assert file.stat().st_mtime_ns == written_at


def test_drawn_clips_are_measured_only_where_a_gate_asks(project: Project) -> None:
    project.write("klingflow.yaml", "")
    board = BOARD.replace("clip: a.mp4", "prompt: Dawn, duration: 3").replace(
        "clip: b.mp4", "prompt: Noon, duration: 3, first_frame: {shot: a}"
    )
    project.write("film.yaml", board.partition("film:")[0])
    assert project.run("run", "film.yaml", **MEASURED).code == 0
    data = json.loads((project.root / "out/film/seams.json").read_text("utf-8"))
    jsonschema.validate(data, schema.load("seams"))
    [seam] = data["seams"]
    assert set(seam["numbers"].values()) == {None}
    assert (seam["strip"], seam["findings"]) == (None, [])
    assert not list((project.root / "out/film").glob("seams/*"))
    listed = " ".join(project.run("seams", "film.yaml", **MEASURED).out.split())
    assert listed == f"Two: 1 join, none measured {data['notes'][0]}"
    assert "animatic" in listed
    page = (project.root / "out/film/report.html").read_text("utf-8")
    assert "no fault found" not in page
    assert "pip install" not in page
    assert data["notes"][0] in page
    project.write("film.yaml", board)
    project.run("run", "film.yaml", **MEASURED)
    data = json.loads((project.root / "out/film/seams.json").read_text("utf-8"))
    assert data["seams"][0]["numbers"]["velocity"] is not None
    assert data["notes"] == []


def test_without_the_extra_a_gate_is_refused_before_anything_is_made_and_seams_says_what_to_install(
    two: Project,
) -> None:
    ended = two.run("run", "film.yaml")
    assert ended.code == 2
    assert "film.yaml:7:" in ended.err
    assert "pip install 'klingflow[seams]'" in ended.err
    assert not (two.root / "out").exists()
    two.write("film.yaml", BOARD.partition("film:")[0])
    assert two.run("run", "film.yaml").code == 0
    assert not (two.root / "out/film/seams.json").exists()
    listed = two.run("seams", "film.yaml")
    assert (listed.code, listed.out) == (2, "")
    assert "pip install 'klingflow[seams]'" in listed.err


def test_seams_names_the_shots_that_have_no_clip_yet(two: Project) -> None:
    ended = two.run("seams", "film.yaml", **MEASURED)
    assert ended.code == 2
    assert "no clip yet of a, b" in ended.err
