"""The whole line on the animatic provider, as a newcomer goes through it: the command as a process, real clips."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import av
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageStat

from klingflow.core.source import Document
from klingflow.storyboard import schema
from tests import clips
from tests.cli import Project
from tests.shared import once

BOARD = """\
klingflow: 1
title: Harbour Dawn
vars:
  boat: a red fishing boat
defaults:
  duration: 3
  resolution: 720p
shots:
  - id: dawn
    first_frame: frames/dawn.png
    prompt: Gentle waves, {{ boat }} drifts.
  - id: harbour
    continues: dawn
    last_frame: frames/harbour.png
    prompt: The boat glides in.
  - id: market
    meets: harbour
    prompt: The market opens.
    sound: true
"""
SHORT = BOARD + "film: {shots: [dawn]}\n"
"""For tests that look at clips and not at the film: one clip alone needs no second encode."""
ONE = BOARD.partition("  - id: harbour")[0]
"""For tests that need one clip, of whatever."""


def still(colour: tuple[int, int, int], size: tuple[int, int] = (640, 360)) -> bytes:
    image = Image.new("RGB", size, colour)
    draw = ImageDraw.Draw(image)
    for x in range(0, size[0], 40):
        draw.line((x, 0, size[0] - x, size[1]), fill=(255, 255, 255), width=2)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


SHOTS = ("dawn", "harbour", "market")


def write_harbour(project: Project) -> None:
    project.write("film.yaml", BOARD)
    project.write("frames/dawn.png", still((200, 120, 60)))
    project.write("frames/harbour.png", still((40, 80, 140)))


@pytest.fixture
def harbour(project: Project) -> Project:
    write_harbour(project)
    return project


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The film of BOARD, run once for all tests that begin where a first run ended."""

    def render(folder: Path) -> None:
        project = Project(folder / "project", {})
        write_harbour(project)
        ended = project.run("run", "film.yaml")
        assert ended.code == 0, ended.said
        (folder / "said").write_text(ended.err, encoding="utf-8")

    return once(tmp_path_factory, "harbour", render) / "project"


@pytest.fixture
def filmed(rendered: Path, project: Project) -> Project:
    shutil.copytree(rendered, project.root, dirs_exist_ok=True)
    return project


def plan(project: Project, *words: str) -> dict[str, dict[str, object]]:
    """The steps of a plan by shot."""
    ended = project.run("plan", "film.yaml", "--format", "json", *words)
    assert ended.code == 0, ended.said
    return {step["shot"]: step for step in json.loads(ended.out)["steps"]}


def actions(project: Project) -> dict[str, object]:
    return {shot: step["action"] for shot, step in plan(project).items()}


def pictures(path: Path) -> list[Image.Image]:
    with av.open(str(path)) as film:
        return [frame.to_image() for frame in film.decode(video=0)]


def test_a_storyboard_becomes_a_film_and_the_second_run_makes_nothing(rendered: Path, filmed: Project) -> None:
    assert "3 clips made" in (rendered.parent / "said").read_text("utf-8")
    out = filmed.root / "out" / "film"
    made = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert made == [
        ".made.json",
        "film.mp4",
        "film.otio",
        *(f"frames/{shot}.{end}" for shot in SHOTS for end in ("first.jpg", "last.jpg", "last.png")),
        "report.html",
        *(f"shots/{shot}.mp4" for shot in SHOTS),
    ]
    frames = pictures(out / "film.mp4")
    assert len(frames) == 72 * 3 - 2  # what harbour continues and the still that market meets are shown once
    timeline = json.loads((out / "film.otio").read_text("utf-8"))
    shown = [clip["source_range"]["duration"]["value"] for clip in timeline["tracks"]["children"][0]["children"]]
    assert sum(shown) == len(frames)
    lock = (filmed.root / "film.lock.yaml").read_bytes()
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.suffix != ".html"}
    second = filmed.run("run", "film.yaml")
    assert second.code == 0, second.said
    assert "0 clips made, 3 reused" in second.err
    assert (filmed.root / "film.lock.yaml").read_bytes() == lock
    assert {p: p.stat().st_mtime_ns for p in before} == before  # only the report says now that nothing was made


def test_the_frame_at_a_continued_seam_is_the_last_frame_of_the_clip_before(filmed: Project) -> None:
    out = filmed.root / "out" / "film"
    last = Image.open(out / "frames" / "dawn.last.png").convert("RGB")
    shown = pictures(out / "shots" / "dawn.mp4")[-1]
    assert max(ImageStat.Stat(ImageChops.difference(last, shown)).mean) < 3


def test_an_edited_prompt_in_a_chain_remakes_it_and_what_follows_and_nothing_else(filmed: Project) -> None:
    filmed.write("film.yaml", BOARD.replace("Gentle waves", "Hard waves"))
    steps = plan(filmed)
    assert steps["dawn"]["action"] == "make"
    assert steps["dawn"]["reason"] == "prompt changed"
    assert steps["harbour"]["action"] == "make"
    assert steps["harbour"]["key"] is None
    assert steps["harbour"]["reason"] == "continues dawn, which will be made"
    assert steps["market"]["action"] == "reuse"
    text = filmed.run("plan", "film.yaml").out
    assert "[-Gentle-]{+Hard+} waves, a red fishing boat drifts." in text


def test_ids_titles_notes_order_and_comments_buy_nothing(filmed: Project) -> None:
    text = BOARD.replace("harbour", "haven").replace("frames/haven", "frames/harbour")
    text = text.replace("    sound: true", "    sound: true\n    title: The market\n    notes: bread # and fish")
    filmed.write("film.yaml", text)
    assert set(actions(filmed).values()) == {"reuse"}


def test_a_fresh_clone_plans_from_the_lock_alone(filmed: Project, tmp_path: Path) -> None:
    clone = Project(tmp_path / "clone", {})
    shutil.copytree(filmed.root, clone.root, ignore=shutil.ignore_patterns(".klingflow", "out"))
    assert set(actions(clone).values()) == {"reuse"}
    planned = clone.run("plan", "film.yaml", "--exit-code")
    assert planned.code == 0
    assert "3 clips are not in this store: a run draws what it needs again, free" in planned.out
    clone.write("film.yaml", SHORT)
    lock = (clone.root / "film.lock.yaml").read_bytes()
    ended = clone.run("run", "film.yaml")  # what is free is drawn again, and comes out the same
    assert ended.code == 0, ended.said
    assert (clone.root / "film.lock.yaml").read_bytes() == lock


def test_a_rehearsal_leaves_the_lock_as_it_is(harbour: Project) -> None:
    harbour.write("film.yaml", ONE)
    ended = harbour.run("run", "film.yaml", "--provider", "animatic")
    assert ended.code == 0, ended.said
    assert (harbour.root / "out" / "film" / "animatic" / "film.mp4").is_file()
    assert not (harbour.root / "film.lock.yaml").exists()


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_half_and_the_next_one_finishes(harbour: Project) -> None:
    for after in (0.4, 0.9, 1.6):
        process = harbour.start("run", "film.yaml")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=after)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    ended = harbour.run("run", "film.yaml")
    assert ended.code == 0, ended.said
    assert harbour.run("store").code == 0
    assert len(pictures(harbour.root / "out" / "film" / "film.mp4")) == 72 * 3 - 2  # two joins show a frame once


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_run_and_says_how_to_go_on(harbour: Project, number: signal.Signals) -> None:
    harbour.write("film.yaml", ONE)
    process = harbour.start("run", "film.yaml")
    assert process.stderr is not None
    for line in process.stderr:
        if "making 3 s" in line:
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "klingflow run film.yaml" in err
    assert "Traceback" not in err
    assert not list((harbour.root / ".klingflow").glob("run-*"))
    assert harbour.run("run", "film.yaml").code == 0


def test_events_fit_their_schema(harbour: Project) -> None:
    harbour.write("film.yaml", ONE)
    ended = harbour.run("run", "film.yaml", "--json")
    assert ended.code == 0, ended.said
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert lines[0]["event"] == "plan"
    assert lines[-1]["event"] == "done"
    assert lines[-1]["made"] == 1
    for line in lines:
        problems = schema.check(Document("events", "", line, dict), "events")
        assert not problems, (line, problems)


def test_frozen_refuses_to_make_and_exit_code_tells(harbour: Project) -> None:
    harbour.write("film.yaml", ONE)
    assert harbour.run("run", "film.yaml", "--frozen").code == 6
    assert harbour.run("plan", "film.yaml", "--exit-code").code == 6
    assert harbour.run("run", "film.yaml").code == 0
    assert harbour.run("run", "film.yaml", "--frozen").code == 0
    assert harbour.run("plan", "film.yaml", "--exit-code").code == 0


def test_takes_are_bought_side_by_side_and_one_counts(filmed: Project) -> None:
    filmed.write("film.yaml", SHORT.replace("    meets: harbour\n", "    meets: harbour\n    takes: 3\n    take: 2\n"))
    assert filmed.run("run", "film.yaml").code == 0
    shots = filmed.root / "out" / "film" / "shots"
    assert {p.name for p in shots.iterdir()} >= {"market.mp4", "market.take1.mp4", "market.take3.mp4"}
    listed = filmed.run("takes", "film.yaml").out
    assert [line[0] for line in listed.splitlines() if "market" in line] == [" ", "*", " "]
    assert "stale" not in listed
    filmed.write("film.yaml", SHORT.replace("The market opens.", "The market closes.\n    take: 2"))
    listed = filmed.run("takes", "film.yaml").out
    lines = listed.splitlines()
    assert [
        (line[0], "stale" in below) for line, below in pairwise(lines) if "market" in line
    ] == [(" ", False), (" ", True), (" ", False)]


def test_hold_keeps_the_clip_whatever_changes(filmed: Project) -> None:
    before = plan(filmed)["harbour"]["clip"]
    held = BOARD.replace("Gentle", "Hard").replace("    continues: dawn\n", "    continues: dawn\n    hold: true\n")
    filmed.write("film.yaml", held)
    step = plan(filmed)["harbour"]
    assert (step["action"], step["clip"]) == ("hold", before)


def test_a_clip_of_ones_own_is_brought_in_and_continued(filmed: Project) -> None:
    (filmed.root / "footage").mkdir()
    own_file = clips.make(filmed.root / "footage" / "insert.mov", frames=72, size=(160, 90))
    assert own_file.read_bytes()[8:12] == b"qt  "
    own = (
        BOARD + "  - {id: insert, clip: footage/insert.mov}\n  - {id: after, continues: insert, prompt: On it goes.}\n"
    )
    filmed.write("film.yaml", own + "film: {size: 320x180, rate: 25}\n")
    assert actions(filmed)["insert"] == "adopt"
    ended = filmed.run("run", "film.yaml")
    assert ended.code == 0, ended.said
    assert set(actions(filmed).values()) == {"reuse"}
    shown = pictures(filmed.root / "out" / "film" / "film.mp4")
    assert (len(shown), shown[0].size) == (75 * 5 - 3, (320, 180))
    delivered = filmed.root / "out" / "film" / "shots" / "insert.mp4"
    assert delivered.read_bytes()[8:12] == b"isom", "what is named MP4 is one"
    assert len(pictures(delivered)) == 72


def test_a_clip_of_ones_own_does_not_decide_how_the_film_looks(filmed: Project) -> None:
    (filmed.root / "footage").mkdir()
    clips.make(filmed.root / "footage" / "insert.mp4", frames=150, size=(64, 128), rate=30)
    own = BOARD + "  - {id: insert, clip: footage/insert.mp4}\n"
    for said, form in (("", (960, 540, 24)), (", size: 160x90, rate: 25", (160, 90, 25))):
        filmed.write("film.yaml", own + f"film: {{shots: [insert, dawn]{said}}}\n")
        assert filmed.run("run", "film.yaml").code == 0
        with av.open(str(filmed.root / "out" / "film" / "film.mp4")) as film:
            video = film.streams.video[0]
            assert (video.width, video.height, video.average_rate) == form


def test_two_shots_with_one_key_are_made_once(harbour: Project) -> None:
    twin = "  - {id: twin, first_frame: frames/dawn.png, prompt: 'Gentle waves, {{ boat }} drifts.'}\n"
    harbour.write("film.yaml", ONE + twin + "film: {shots: [dawn]}\n")
    assert plan(harbour)["twin"]["same_as"] == "dawn"
    ended = harbour.run("run", "film.yaml")
    assert "1 clip made, 1 adopted" in ended.err, ended.said
    assert len(list((harbour.root / ".klingflow" / "store" / "clips").iterdir())) == 1


def test_a_free_clip_that_the_store_lost_is_drawn_again_where_the_plan_says_so(harbour: Project) -> None:
    harbour.write("film.yaml", ONE)
    assert harbour.run("run", "film.yaml").code == 0
    blobs = harbour.root / ".klingflow" / "store" / "blobs"
    before = {path.relative_to(blobs): path.read_bytes() for path in blobs.rglob("*") if path.is_file()}
    for lost in ("film.lock.yaml", ""):  # adopted from the store's record, then reused by the lock
        (harbour.root / (lost or "nothing")).unlink(missing_ok=True)
        shutil.rmtree(blobs)
        shutil.rmtree(harbour.root / "out")
        told = harbour.run("plan", "film.yaml").out
        assert "dawn's clip is not in this store: a run draws what it needs again, free" in told
        for words in (["run", "film.yaml", "--frozen"], ["film", "film.yaml"], ["run", "film.yaml"]):
            shutil.rmtree(blobs, ignore_errors=True)
            ran = harbour.run(*words)
            assert ran.code == 0, ran.said
            assert "1 clip made" in ran.err
        assert {path.relative_to(blobs): path.read_bytes() for path in blobs.rglob("*") if path.is_file()} == before


def test_a_failed_shot_skips_what_needs_it_and_nothing_else(filmed: Project) -> None:
    bad = "  - {id: insert, clip: footage/bad.mp4}\n  - {id: after, continues: insert, prompt: Never.}\n"
    filmed.write("film.yaml", BOARD + bad)
    data = clips.make(filmed.root / "bad.mp4", frames=48, options={"crf": "4"}).read_bytes()
    end = (data.find(b"mdat") + 4 + len(data)) // 2
    filmed.write("footage/bad.mp4", data[:end] + bytes(len(data) - end))  # whole by its first frame, which check reads
    ended = filmed.run("run", "film.yaml")
    assert ended.code == 1
    assert "0 clips made, 3 reused" in ended.err
    assert "1 failed" in ended.err
    assert "skipped: after (needs insert)" in ended.err
    assert "film.yaml:20:" in ended.err
    assert "Traceback" not in ended.err


def test_variables_override_and_unknown_ones_are_refused(harbour: Project) -> None:
    ended = harbour.run("plan", "film.yaml", "--var", "boat=a white yacht", "--format", "json")
    assert ended.code == 0
    refused = harbour.run("plan", "film.yaml", "--var", "boot=x")
    assert refused.code == 2
    assert "did you mean" in refused.err


def test_a_damaged_clip_in_the_store_is_found_and_not_handed_on(filmed: Project) -> None:
    clip = str(plan(filmed)["dawn"]["clip"])
    blob = filmed.root / ".klingflow" / "store" / "blobs" / clip[:2] / clip[2:]
    blob.chmod(0o644)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(bytes(data))
    ended = filmed.run("store")
    assert ended.code == 1
    assert clip[:12] in ended.said


def test_output_never_follows_a_link_out_of_the_project(harbour: Project, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, harbour.root / "out")
    ended = harbour.run("run", "film.yaml")
    assert ended.code == 2, ended.said
    assert "'out' is a link" in ended.err
    assert not list(outside.iterdir())


def test_a_selected_run_leaves_the_others_and_still_delivers_the_film(filmed: Project) -> None:
    before = (filmed.root / "out" / "film" / "film.mp4").read_bytes()
    filmed.write("film.yaml", BOARD.replace("The market opens.", "The market closes."))
    ended = filmed.run("run", "film.yaml", "--select", "market")
    assert ended.code == 0, ended.said
    out = filmed.root / "out" / "film"
    assert {p.name for p in (out / "shots").iterdir()} == {"dawn.mp4", "harbour.mp4", "market.mp4"}
    assert len(pictures(out / "film.mp4")) == 72 * 3 - 2
    assert (out / "film.mp4").read_bytes() != before, "the film shows the new clip, between clips of the run before"
    assert "the film: out/film/film.mp4" in ended.err
    assert set(actions(filmed).values()) == {"reuse"}


def test_a_run_removes_what_killed_runs_left_a_day_ago_and_nothing_of_runs_going_on(filmed: Project) -> None:
    left, going = (filmed.root / ".klingflow" / name for name in ("run-left", "run-going"))
    for folder in (left, going):
        folder.mkdir()
        (folder / "clip.part").write_bytes(b"half a clip")
    yesterday = time.time() - 25 * 3600
    os.utime(left, (yesterday, yesterday))
    assert filmed.run("run", "film.yaml").code == 0
    assert not left.exists()
    assert (going / "clip.part").exists()


def test_a_selection_of_nothing_and_one_without_its_upstream_are_refused(harbour: Project) -> None:
    assert harbour.run("plan", "film.yaml", "--select", "tag:none").code == 2
    refused = harbour.run("run", "film.yaml", "--select", "harbour")
    assert refused.code == 2
    assert "--select '+harbour'" in refused.err


def test_a_saved_plan_runs_or_is_refused_in_words(harbour: Project) -> None:
    assert harbour.run("plan", "film.yaml", "--select", "market", "--out", "plan.json").code == 0
    harbour.write("film.yaml", BOARD.replace("The market opens.", "The market closes."))
    refused = harbour.run("run", "film.yaml", "--plan", "plan.json")
    assert refused.code == 2
    assert "film.yaml" in refused.err
    harbour.write("film.yaml", BOARD)
    ended = harbour.run("run", "film.yaml", "--plan", "plan.json")
    assert ended.code == 0, ended.said
    assert "1 clip made" in ended.err


def test_an_image_url_without_a_digest_is_a_warning_in_the_plan_as_text_json_and_comment(project: Project) -> None:
    board = "klingflow: 1\nshots:\n  - {id: far, provider: hiapi, prompt: waves, first_frame: FRAME}\n"
    project.write("film.yaml", board.replace("FRAME", "'https://example.com/dawn.png'"))
    warned = "this image is not pinned"
    text = project.run("plan", "film.yaml")
    assert (text.code, warned in text.said, "film.yaml:3:" in text.err) == (0, True, True)
    data = project.run("plan", "film.yaml", "--format", "json")
    rules = [warning["rule"] for warning in json.loads(data.out)["warnings"]]
    assert (data.code, rules) == (0, ["unpinned-url"])
    comment = project.run("plan", "film.yaml", "--format", "markdown")
    assert (comment.code, comment.out.count(warned)) == (0, 1)
    project.write("film.yaml", board.replace("FRAME", f"{{url: 'https://example.com/dawn.png', sha256: {'ab' * 32}}}"))
    for words in ((), ("--format", "json"), ("--format", "markdown")):
        assert warned not in project.run("plan", "film.yaml", *words).said


def test_a_broken_storyboard_still_gives_a_comment(harbour: Project) -> None:
    harbour.write("film.yaml", BOARD.replace("duration: 3", "duraton: 3"))
    ended = harbour.run("plan", "film.yaml", "--format", "markdown")
    assert ended.code == 2
    assert ended.out.startswith("<!-- klingflow:film.yaml -->")
    assert "duraton" in ended.out
