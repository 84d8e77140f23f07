"""What a newcomer meets: every end of a command says what happened and what to do, with its own exit code."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import klingflow
from klingflow.animatic import design
from klingflow.cli.error_report import report
from tests.cli import Project

BOARD = """\
klingflow: 1
defaults: {duration: 3, resolution: 720p}
shots:
  - id: dawn
    prompt: Still water before sunrise.
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "my films", {})
    made.write("film.yaml", BOARD)
    made.write("klingflow.yaml", "store: .klingflow/store\n")
    return made


CHAIN = BOARD + "  - {id: noon, continues: dawn, prompt: The boat leaves.}\n"


@pytest.mark.parametrize("words", [["film", "film.yaml"], ["run", "film.yaml", "--frozen"]])
def test_film_and_frozen_draw_a_free_clip_again_that_the_plan_says_is_there(
    project: Project, words: list[str]
) -> None:
    project.write("film.yaml", CHAIN)
    assert project.run("run", "film.yaml").code == 0
    lock, film = (project.root / "film.lock.yaml").read_bytes(), (project.root / "out/film/film.mp4").read_bytes()
    for lost in (".klingflow", "out"):
        shutil.rmtree(project.root / lost)
    planned = project.run("plan", "film.yaml", "--exit-code")
    assert planned.code == 0, "nothing would be made"
    assert "2 clips are not in this store: a run draws what it needs again, free" in planned.out
    ended = project.run(*words)
    assert ended.code == 0, ended.said
    assert (project.root / "film.lock.yaml").read_bytes() == lock
    assert (project.root / "out/film/film.mp4").read_bytes() == film


def test_frozen_refuses_a_drawing_that_comes_out_otherwise_than_the_lock_says_and_keeps_nothing_of_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("film.yaml", CHAIN)
    board = klingflow.open(project.root / "film.yaml", environ=project.environment({}))
    assert board.run().exit_code == 0
    lock = (project.root / "film.lock.yaml").read_bytes()
    dawn = board.plan().plan.films[0].steps[0].clip
    shutil.rmtree(project.root / ".klingflow")
    with monkeypatch.context() as other_version:
        other_version.setattr(design, "GROUND", (90, 13, 13))
        ran = board.run(frozen=True)
        assert ran.exit_code == 6
        first, second = ran.outcomes
        assert first.failure is not None
        assert first.failure.kind == "frozen"
        assert f"this store does not hold clip {str(dawn)[:12]}; drawn again it came out as " in first.failure.message
        assert "`klingflow run " in first.failure.next
        assert (second.result, second.because) == ("skipped", "dawn")
        assert not ran.delivered
    assert (project.root / "film.lock.yaml").read_bytes() == lock
    assert not list((project.root / ".klingflow/store").glob("clips/*"))
    assert board.run(frozen=True).exit_code == 0, "with the version that drew it nothing stands in the way"
    assert (project.root / "film.lock.yaml").read_bytes() == lock


def test_a_run_that_is_not_frozen_takes_the_drawing_of_another_version(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = klingflow.open(project.root / "film.yaml", environ=project.environment({}))
    assert board.run().exit_code == 0
    lock = (project.root / "film.lock.yaml").read_bytes()
    shutil.rmtree(project.root / ".klingflow")
    monkeypatch.setattr(design, "GROUND", (90, 13, 13))
    assert board.run(frozen=True).exit_code == 6
    assert board.run().exit_code == 0
    assert (project.root / "film.lock.yaml").read_bytes() != lock
    assert board.run(frozen=True).exit_code == 0


def test_a_held_clip_that_the_store_lost_is_not_said_to_be_drawn_again(project: Project) -> None:
    assert project.run("run", "film.yaml").code == 0
    project.write("film.yaml", BOARD.replace("Still water", "Waves") + "    hold: true\n")
    shutil.rmtree(project.root / ".klingflow")
    planned = project.run("plan", "film.yaml")
    assert "dawn's clip is not in this store: run where the store is shared (KLINGFLOW_STORE)" in planned.out
    assert project.run("run", "film.yaml").code == 1


def test_a_run_names_the_film_as_it_can_be_opened_from_here_also_when_nothing_was_made(project: Project) -> None:
    project.write("deep/film.yaml", BOARD)
    for _ in range(2):
        assert "the film: out/deep/film/film.mp4" in project.run("run", "deep/film.yaml").err.splitlines()[-2:]
    elsewhere = Project(project.root / "deep", {})
    last = elsewhere.run("run", "film.yaml").err.splitlines()[-2:]
    assert f"the film: {project.root / 'out/deep/film/film.mp4'}" in last


def test_a_music_bed_that_is_none_is_refused_in_its_place_before_anything_is_made(project: Project) -> None:
    project.write("film.yaml", f"{BOARD}film: {{audio: score.wav}}\n")
    project.write("score.wav", "no music")
    ended = project.run("run", "film.yaml")
    assert ended.code == 2, ended.said
    assert "film.yaml:6:15: score.wav" in ended.err
    assert "mend: name a WAV, MP3, FLAC, M4A or OGG file" in ended.err
    assert not (project.root / "out").exists()


def test_a_bed_that_went_bad_leaves_the_clips_and_says_so_and_the_events_have_their_end(project: Project) -> None:
    assert project.run("run", "film.yaml").code == 0
    project.write("film.yaml", f"{BOARD}film: {{audio: score.wav}}\n")
    project.write("score.wav", "no music")
    ended = project.run("run", "film.yaml", "--json")
    assert ended.code == 2, ended.said
    last = json.loads(ended.out.splitlines()[-1])
    assert (last["event"], last["exit_code"]) == ("done", 2)
    assert "the film was not joined; every clip is kept\nfilm.yaml:6:15: score.wav" in ended.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_checkout_that_cannot_be_written_is_no_bug(project: Project) -> None:
    project.root.chmod(0o555)
    try:
        ended = project.run("run", "film.yaml")
    finally:
        project.root.chmod(0o755)
    assert ended.code == 2, ended.said
    assert "cannot be read or written: Permission denied\nmend: make the project writable" in ended.err


def test_a_place_that_refuses_is_told_with_its_path_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(PermissionError(errno.EACCES, "Permission denied", "/films/.klingflow")) == 2
    said = capsys.readouterr().err
    assert said.startswith("'/films/.klingflow' cannot be read or written: Permission denied\nmend: make the project")


def test_a_folder_that_is_gone_is_no_bug(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "klingflow", "plan", "film.yaml"]
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    ended = subprocess.run(
        ["sh", "-c", script, "sh", *words], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False, timeout=60
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr == "the folder that klingflow was started in is gone\nmend: cd to the project, and run again\n"


def test_a_frame_that_a_clip_has_not_is_told_by_the_clip_not_by_a_digest(project: Project) -> None:
    project.write("film.yaml", f"{BOARD}  - {{id: b, prompt: x, first_frame: {{shot: dawn, frame: -80}}}}\n")
    ended = project.run("run", "film.yaml")
    assert ended.code == 1, ended.said
    assert "shot 'b' failed: the clip that its frame is cut from has no frame -80: it has 72 frames" in ended.err


@pytest.mark.parametrize(
    ("shots", "said", "mend"),
    [
        ("  - {id: b, first_frame: {shot: dawn, frame: -181}}", "'dawn' lasts 3 s: it has no frame -181", "name a"),
        ('  - {id: b, prompt: "a\\0b"}', "prompt of 'b' holds the control character U+0000", "remove it"),
        ("  - {id: b, prompt: x, aspect_ratio: 16:10}", "cannot be '16:10'", "it is one of 16:9, 9:16, 1:1"),
        ('  - {id: b, prompt: "{% if shot %} x"}', "the template cannot be read", "close {{ with }}"),
        ("  - {id: b, first_frame: frames/peir.png}", "there is no file 'frames/peir.png'", "put it there, or"),
    ],
)
def test_a_slip_is_told_with_a_mend_that_fits(project: Project, shots: str, said: str, mend: str) -> None:
    project.write("frames/lantern.png", "")
    project.write("film.yaml", f"{BOARD}{shots}\n")
    ended = project.run("check", "film.yaml")
    assert ended.code == 2, ended.said
    told = next(part for part in ended.said.split("\n\n") if said in part)
    assert f"mend: {mend}" in told


def test_takes_of_a_matrix_say_of_which_film_they_are(project: Project) -> None:
    project.write("film.yaml", BOARD.replace("before sunrise", "{{ lang }}") + "matrix: {lang: [en, de]}\n")
    assert project.run("run", "film.yaml").code == 0
    listed = project.run("takes", "film.yaml").out.splitlines()
    assert ["[en]" in listed[1], "[de]" in listed[2]] == [True, True]


def test_a_held_clip_that_began_with_another_frame_is_shown_whole(project: Project) -> None:
    held = f"{BOARD}  - {{id: day, continues: dawn, prompt: x, hold: true}}\n"
    project.write("film.yaml", held)
    assert "joined, 143 frames" in project.run("run", "film.yaml").err
    project.write("film.yaml", held.replace("Still", "Rough"))
    assert "joined, 144 frames" in project.run("run", "film.yaml").err
    project.write("film.yaml", held)
    assert "joined, 143 frames" in project.run("run", "film.yaml").err
