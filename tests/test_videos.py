"""Reference videos: what moves in a shot comes from another video."""

from __future__ import annotations

from pathlib import Path

import pytest

from klingflow.core import digest
from klingflow.core.model import Digest, ShotId
from klingflow.io import media
from klingflow.planning import graph
from tests.paid_helpers import studio
from tests.standins import Outcome, movie
from tests.storyboards import faults, film
from tests.test_echo import pan, written

ALONE = """
    klingflow: 1
    title: Dance
    defaults: {provider: mulerouter, duration: 3, resolution: 720p}
    shots:
      - {id: dance, prompt: "<<<video_1>>> in chalk", videos: [footage/dance.mp4]}
"""
MOVING = """
    klingflow: 1
    title: Run
    defaults: {provider: mulerouter, duration: 5, resolution: 720p}
    shots:
      - {id: start, first_frame: frames/dawn.png, prompt: start}
      - {id: on, continues: {shot: start, motion: 3s}, prompt: on}
"""


def test_a_video_of_the_project_is_published_and_goes_along_as_a_reference(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", ALONE) as (project, api):
        footage = movie.clip(77, 4)
        project.write("footage/dance.mp4", footage)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        (one,) = api.purchases
        assert api.videos == [footage]
        assert one.path.endswith("/reference-video-to-video/generation")
        body = {name: value for name, value in one.body.items() if name != "video"}
        assert body == {"prompt": "@Video1 in chalk", "mode": "std", "aspect_ratio": "16:9"}
        assert "made, 4.042 s" in ran.said, "the clip is as long as its reference"
        assert "up to date" in project.run("plan", "film.yaml").said
        project.write("footage/dance.mp4", movie.clip(78, 4))
        assert "videos.0" in project.run("plan", "film.yaml").said


def test_the_end_of_the_clip_that_is_continued_goes_along_with_its_last_frame(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", MOVING) as (project, api):
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        start, on = api.purchases
        assert on.path.endswith("/video-to-video/generation")
        assert (on.seconds, on.body["duration"], on.body["video_list"][0]["refer_type"]) == (5, 5, "feature")
        frames = movie.numbers(api.videos[0])
        last = 5 * 24  # the stand-in's clips have one frame more than was ordered
        assert frames == [(start.number, n) for n in range(last - 72, last + 1)][-len(frames) :]
        assert 71 <= len(frames) <= 73


@pytest.mark.parametrize("live", ["reference-video-to-video", "video-to-video"])
def test_a_reference_video_goes_to_the_path_that_is_there(tmp_path: Path, live: str) -> None:
    with studio(tmp_path, "mulerouter", ALONE, video=live) as (project, api):
        project.write("footage/dance.mp4", movie.clip(77, 3))
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert [one.path.split("/")[-2] for one in api.purchases] == [live]


def test_a_clip_made_by_hand_after_a_video_may_be_as_long_as_that(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", ALONE) as (project, api):
        project.write("footage/dance.mp4", movie.clip(77, 4))
        project.write("console.mp4", movie.clip(9, 4))
        taken = project.run("take-in", "console.mp4", "film.yaml", "--as", "dance")
        assert taken.code == 0, taken.said
        assert "it lasts" not in taken.said
        assert api.requests == []


def test_a_place_of_publishing_that_nobody_can_read_is_found_before_money(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", ALONE) as (project, api):
        project.write("footage/dance.mp4", movie.clip(77, 3))
        project.env["KLINGFLOW_PUBLISH_URL"] = f"{api.base_url}/nowhere"
        ran = project.run("run", "film.yaml", "--yes")
        assert (ran.code, api.purchases) == (2, []), ran.said
        assert not api.calls("POST")


def test_what_a_clip_with_a_video_costs_only_the_project_can_say(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", ALONE) as (project, api):
        project.write("footage/dance.mp4", movie.clip(77, 3))
        assert "price unknown" in project.run("plan", "film.yaml").said
        project.write("klingflow.yaml", "limits: {spend: 1.00}\n")
        assert (project.run("run", "film.yaml", "--yes").code, api.purchases) == (5, [])
        project.write("klingflow.yaml", "limits: {spend: 1.00}\nprices: {mulerouter: {720p: {video: 0.25}}}\n")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert "$0.75 booked" in ran.said


def test_a_video_that_is_published_nowhere_is_refused_before_money(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", ALONE, publish=False) as (project, api):
        project.write("footage/dance.mp4", movie.clip(77, 3))
        assert "a reference video" in project.run("plan", "film.yaml").said
        ran = project.run("run", "film.yaml", "--yes")
        assert (ran.code, api.purchases) == (2, [])
        assert "publish.to" in ran.said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"motion": "2s"}, "6:47: shot 'on': with a reference video MuleRouter wants 3 to 10 seconds of it, not 2"),
        ({"motion": "6s"}, "'start' lasts 5 s: it has no last 6 s"),
        ({"motion": "3.5s"}, "write whole seconds, 1s to 15s"),
        ({"more": ", sound: true"}, "with a reference video MuleRouter makes no sound"),
        ({"more": ", videos: [a.mp4]"}, "mulerouter takes 1 reference video"),
        ({"provider": "hiapi"}, "6:47: shot 'on': hiapi takes no reference videos"),
    ],
)  # fmt: skip
def test_what_a_provider_cannot_is_said_at_its_place(tmp_path: Path, change: dict[str, str], said: str) -> None:
    board = MOVING.replace("motion: 3s", f"motion: {change.get('motion', '3s')}")
    board = board.replace("prompt: on", f"prompt: on{change.get('more', '')}")
    name = change.get("provider", "mulerouter")
    with studio(tmp_path, name, board.replace("mulerouter", "NAME")) as (project, _):
        project.write("a.mp4", movie.clip(5, 3))
        ended = project.run("check", "film.yaml")
        assert ended.code == 2, ended.said
        assert said in ended.said


def test_a_video_that_is_not_there_is_told_at_its_place(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", ALONE) as (project, _):
        ended = project.run("check", "film.yaml")
        assert "film.yaml:5:60: there is no file 'footage/dance.mp4'" in ended.said


def test_the_animatic_rehearses_a_shot_with_a_reference_video(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", MOVING) as (project, api):
        assert project.run("run", "film.yaml", "--provider", "animatic").code == 0
        assert api.purchases == []


def parts(videos: str, clips: dict[ShotId, Digest]) -> dict[str, object] | None:
    made = film(f"klingflow: 1\nshots:\n  - {{id: a, prompt: a}}\n  - {{id: b, prompt: b, videos: [{videos}]}}\n")
    files = {"x.mp4": Digest("11"), "y.mp4": Digest("22")}
    return digest.parts(made.shots[1], "m", {}, clips, files)


def test_a_key_holds_which_video_and_how_much_of_it() -> None:
    written = ["x.mp4", "y.mp4", "{shot: a}", "{shot: a, last: 3s}", "{shot: a, last: 4s}"]
    written += ["{url: 'https://e.com/x.mp4'}"]
    keys = {digest.key(parts(one, {ShotId("a"): Digest("33")}) or {}) for one in written}
    assert len(keys) == len(written)


def test_a_key_waits_for_the_clip_that_is_a_reference() -> None:
    assert parts("{shot: a, last: 3s}", {}) is None


def test_a_circle_through_a_video_is_told_where_the_video_is_named() -> None:
    made = film("""\
        klingflow: 1
        shots:
          - {id: a, prompt: a, videos: [{shot: b}]}
          - {id: b, continues: a, prompt: b}
        """)
    (fault,) = graph.cycles(made)
    assert "a" in fault.what
    assert fault.span is not None
    assert (fault.span.line, fault.span.col) == (3, 33)


def test_a_video_of_itself_is_told() -> None:
    (fault,) = faults("klingflow: 1\nshots:\n  - {id: a, prompt: a, videos: [{shot: a}]}\n")
    assert fault.startswith("3:40 self-reference")


def test_what_a_clip_repeats_of_the_end_that_went_along_is_shown_once(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", MOVING) as (project, api):
        clips = {"start": pan(0, 120), "on": pan(120 - 30, 120)}
        for name, moments in clips.items():
            made = written(tmp_path / f"{name}.mp4", moments)
            api.becomes(Outcome(clip=made.read_bytes()), prompt=f'"{name}"')
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert f"joined, {120 + 120 - 30} frames" in ran.said
        assert media.facts(project.root / "out/film/shots/on.mp4", Digest("")).frames == 120, "the clip itself is whole"
