"""`take-in`: a clip that was made by hand answers a shot, with its origin on record, and what is paid for stays so."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import klingflow
from klingflow import TakenIn, UsageError
from klingflow.core.model import Digest, Key
from klingflow.io import ledger
from klingflow.io.store import FolderStore
from klingflow.planning.job import Job, Kind
from tests import clips
from tests.cli import Project
from tests.money_helpers import (
    CONTINUED,
    ONE,
    PAIR,
    actions,
    asked_and_died,
    killed,
    kinds,
    lock_text,
    locked,
    posts,
    records,
    sha256,
    store_of,
    until,
    words,
)
from tests.paid_helpers import LAST, asked, both, bought, dedented, studio
from tests.standins import Outcome, movie

TAKE_IN = ("take-in", "lamp.mp4", "--as", "dawn")
LAMP = 77
"""The number that the pictures of lamp.mp4 carry, as if it were the clip of that task."""


@pytest.fixture(autouse=True)
def _clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clip, and one home for the command and for this process: which stores klingflow made is known there."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "project-home/.local/state"))
    Path(tmp_path, "project").mkdir()
    Path(tmp_path, "project", "lamp.mp4").write_bytes(movie.clip(LAMP, 3, extra=1))


def other(project: Project, name: str = "other.mp4") -> str:
    project.write(name, movie.clip(LAMP + 1, 3, extra=1))
    return name


def files(project: Project) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in project.root.rglob("*") if path.is_file()}


def board(project: Project, text: str, name: str = "mulerouter") -> None:
    project.write("film.yaml", dedented(text).replace("NAME", name))


def took(project: Project, clip: str = "lamp.mp4", shot: str = "dawn", **more: Any) -> TakenIn:
    """As a program does it."""
    variables, provider = more.pop("variables", None), more.pop("provider", None)
    storyboard = klingflow.open(
        project.root / "film.yaml", variables=variables, provider=provider, environ=project.environment({})
    )
    return storyboard.take_in(project.root / clip, shot, **more)


def refused(project: Project, clip: str = "lamp.mp4", shot: str = "dawn", **more: Any) -> str:
    """What is said, and how it is mended; nothing is written."""
    before = files(project)
    with pytest.raises(UsageError) as error:
        took(project, clip, shot, **more)
    assert files(project) == before
    return f"{error.value.what}\n{error.value.mend}".replace(f"{project.root}/", "")


# -- what follows from it


@both
def test_a_clip_made_by_hand_is_reused_and_what_continues_it_begins_with_its_last_frame(
    tmp_path: Path, name: str
) -> None:
    with studio(tmp_path, name) as (project, api):
        done = project.run(*TAKE_IN, "--note", "the console, task 4711", "--cost", "0.42")
        assert done.code == 0, done.said
        assert api.requests == [], "nothing is asked of anybody"
        assert actions(project) == {"dawn": "reuse", "noon": "make"}
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert [asked(one)["prompt"] for one in api.purchases] == ["noon comes"]
        frame = "image_urls.0" if name == "hiapi" else "first_frame"
        assert bought(api, "noon comes").numbers == {frame: (LAMP, LAST)}
        assert (project.root / "out/film/shots/dawn.mp4").read_bytes() == (project.root / "lamp.mp4").read_bytes()
        assert actions(project) == {"dawn": "reuse", "noon": "reuse"}


def test_its_origin_is_on_record_wherever_the_clip_is_told(tmp_path: Path) -> None:
    with words(tmp_path, ONE) as (project, _):
        done = project.run(*TAKE_IN, "--note", "console https://hiapi.ai/t?sig=secret", "--cost", "0.42")
        assert done.code == 0, done.said
        origin = r"lamp.mp4, by \w+: console https://hiapi.ai/t\?…"
        clip = sha256((project.root / "lamp.mp4").read_bytes())
        key = locked(project, "dawn", "key")
        record = json.loads((store_of(project) / f"clips/{key}.json").read_bytes())
        assert (record["clip"]["digest"], record["provider"], record["model"]) == (clip, "hiapi", "kling-3.0-omni")
        assert (record["cost"], record["task"], record["parts"]["prompt"]) == ("0.42", None, "dawn breaks")
        [take] = json.loads(project.run("takes", "--json").out)["takes"]
        [task] = json.loads(project.run("status", "--json").out)["tasks"]
        assert (take["counts"], take["cost"], take["provider"]) == (True, 0.42, "hiapi")
        assert (task["state"], task["price"], task["task"], task["next"]) == ("stored", 0.42, None, None)
        for told in (record["taken_in"], take["taken_in"], task["message"], locked_line(project)):
            assert re.search(origin, told), told
        assert [path for path, data in files(project).items() if b"sig=" in data] == []
        assert "reuse   up to date: taken in by hand" in project.run("plan", "film.yaml").out
        (project.root / "film.lock.yaml").unlink()
        plan = project.run("plan", "film.yaml").out
        assert "adopt   the store has this very clip, taken in by hand" in plan
        assert project.run("run", "film.yaml").code == 0
        assert locked_line(project), "a run brings it back"


def locked_line(project: Project) -> str:
    found = [line for line in lock_text(project).splitlines() if "taken_in" in line]
    return found[0].replace("\\u2026", "…") if found else ""


def test_a_clone_with_the_lock_alone_tells_it_too(tmp_path: Path) -> None:
    with words(tmp_path, ONE) as (project, _):
        took(project)
        clone = Project(tmp_path / "clone", {**project.env, "XDG_STATE_HOME": os.environ["XDG_STATE_HOME"]})
        clone.write("film.yaml", (project.root / "film.yaml").read_bytes())
        clone.write("film.lock.yaml", lock_text(project))
        assert actions(clone) == {"dawn": "reuse"}
        assert "taken in by hand: lamp.mp4" in clone.run("takes").out
        clone.write("lamp.mp4", (project.root / "lamp.mp4").read_bytes())
        again = took(clone)
        assert (again.new, again.taken_in) == (False, took(project).taken_in)
        ran = clone.run("run", "film.yaml", "--frozen")
        assert ran.code == 0, "its bytes are in this store now"


def test_without_a_cost_its_price_is_not_known_and_no_money_is_counted(tmp_path: Path) -> None:
    with words(tmp_path, PAIR) as (project, _):
        assert took(project).cost is None
        took(project, other(project), "noon", cost=Decimal(0))
        said = project.run("status", "film.yaml").out
        assert "$0.00 booked, and 1 task of unknown price" in said
        assert "unknown" in project.run("takes").out


def test_the_same_file_once_more_changes_nothing(tmp_path: Path) -> None:
    with words(tmp_path, ONE) as (project, _):
        first = took(project, note="one")
        before = files(project)
        again = took(project, note="another", cost=Decimal(3))
        assert (first.new, again.new, again.taken_in, again.cost) == (True, False, first.taken_in, None)
        assert files(project) == before
        said = project.run(*TAKE_IN)
        assert (said.code, said.out.splitlines()[0]) == (0, "dawn: lamp.mp4 is its clip already")


def test_the_storyboard_stands_before_or_behind_the_file_or_is_found(tmp_path: Path) -> None:
    with words(tmp_path, ONE) as (project, _):
        project.write("second.yaml", (project.root / "film.yaml").read_bytes())
        for given in (
            ("take-in", "lamp.mp4", "film.yaml", "--as", "dawn"),
            ("take-in", "film.yaml", "lamp.mp4", "--as", "dawn"),
            ("take-in", "lamp.mp4", "--as", "dawn", "film.yaml"),
        ):
            done = project.run(*given)
            assert done.code == 0, done.said
        told = project.run(*TAKE_IN)
        assert (told.code, "2 storyboards" in told.err) == (2, True)
        told = project.run("take-in", "film.yaml", "--as", "dawn")
        assert told.err == "which clip?\nmend: klingflow take-in FILE film.yaml --as dawn\n"
        told = project.run("take-in", "lamp.mp4", "film.yaml", "--as", "dawn", "--cost", "a lot")
        assert told.err.startswith("--cost a lot is not an amount of dollars\nmend: ")


# -- what is refused


@pytest.mark.parametrize(
    ("text", "given", "says"),
    [
        (ONE, {"shot": "dwan"}, "there is no shot 'dwan' in film.yaml\ndid you mean 'dawn'?"),
        (ONE, {"take": 2}, "shot 'dawn' asks for take 1, not for 2\nwrite `take: 2` for it first"),
        (ONE, {"key": "zz"}, "shot 'dawn' has no key that begins with zz\n"),
        (ONE, {"provider": "animatic"}, "shot 'dawn' is drawn by animatic, and what was made elsewhere is no drawing"),
        (ONE, {"cost": Decimal(-1)}, "-1 is not an amount of dollars\n"),
        (ONE, {"cost": Decimal("NaN")}, "NaN is not an amount of dollars\n"),
        (ONE, {"note": "n" * 501}, "the note has 501 characters\nwrite up to 500"),
        (ONE, {"clip": "none.mp4"}, "none.mp4 is not there\n"),
        (ONE, {"clip": "frames"}, "frames is no file\n"),
        (ONE, {"clip": "film.yaml"}, "film.yaml is not a video: it is a text\n"),
        (ONE.replace("duration: 3", "duration: 5"), {}, "shot 'dawn': lamp.mp4 lasts 3.042 s where 5 s were ordered\n"),
        (ONE + "        hold: true\n", {}, "shot 'dawn' is held: it keeps the clip that the lock names\ntake `hold`"),
        (CONTINUED, {"shot": "noon"}, "shot 'noon' continues dawn, which has no clip yet"),
    ],
)
def test_what_cannot_be_taken_in_is_said(tmp_path: Path, text: str, given: dict[str, Any], says: str) -> None:
    project = Project(tmp_path / "project", {})
    project.write("frames/x.png", movie.still(1))
    board(project, text)
    assert refused(project, **given).startswith(says)


def test_a_shot_with_footage_of_its_own_needs_no_take_in(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    board(project, ONE + "      - {id: eve, clip: lamp.mp4}\n")
    assert refused(project, shot="eve").startswith("shot 'eve' brings a clip of its own\nname the file there")


def test_an_address_is_no_file(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    board(project, ONE)
    told = project.run("take-in", "https://x.example/clip.mp4?sig=secret", "--as", "dawn")
    assert told.code == 2
    assert told.err.startswith("https://x.example/clip.mp4?… is an address\nmend: download the clip")


def test_another_length_is_taken_by_force_and_stays_taken(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    board(project, ONE.replace("duration: 3", "duration: 5"))
    assert "--force takes it as it is" in refused(project)
    assert took(project, force=True).differs[0] == "it lasts 3.042 s, and the shot 5 s"
    assert took(project).new is False, "once it is on record, it is the shot's clip"


def test_what_differs_from_what_the_shot_asks_for_is_told(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    text = PAIR.replace("resolution: 720p", "resolution: 720p, aspect_ratio: '16:9'")
    board(project, text + "    film: {rate: 25}\n")
    clips.make(project.root / "good.mp4", frames=75, size=(1024, 576), rate=25)
    assert took(project, "good.mp4", "noon").differs == ()
    clips.make(project.root / "odd.mp4", frames=72, size=(240, 320), sound=clips.tone(3))
    told = project.run("take-in", "odd.mp4", "--as", "dawn")
    assert told.out.splitlines()[1:] == [
        "dawn: it is 240x320, and the shot asks for 720p",
        "dawn: its shape is 3:4, and that of the shot 16:9",
        "dawn: it has sound, and the shot wants none",
        "dawn: it has 24 frames a second, and the film 25",
        "if it is the wrong file: declare another `take` for the shot, and take the right one in as that",
        "next: klingflow plan film.yaml",
    ]
    board(project, text.replace("dawn breaks", "dawn is breaking"))
    assert "it is the clip of shot 'noon', too" in took(project, "good.mp4").differs


def test_another_file_for_a_take_that_has_its_clip_is_refused_with_the_place(tmp_path: Path) -> None:
    with words(tmp_path, ONE) as (project, _):
        took(project)
        said = refused(project, other(project))
        assert "take 1, has another clip" in said
        assert "film.lock.yaml: dawn, take 1" in said
        assert "write `take: 2`" in said
        (project.root / "film.lock.yaml").unlink()
        said = refused(project, "other.mp4")
        assert "/store)" in said
        assert "(clips/" in said
        board(project, ONE + "        take: 2\n", "hiapi")
        assert took(project, "other.mp4").take == 2


def test_a_clip_that_was_bought_is_not_replaced(tmp_path: Path) -> None:
    with words(tmp_path, ONE) as (project, _):
        assert project.run("run", "film.yaml", "--yes").code == 0
        said = refused(project)
        assert "of hiapi, " in said
        bought_clip = project.root / "out/film/shots/dawn.mp4"
        assert took(project, str(bought_clip.relative_to(project.root))).new is False


# -- what is paid for


@both
def test_a_task_in_flight_is_not_shadowed(tmp_path: Path, name: str) -> None:
    with words(tmp_path, ONE, name, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        [one] = api.purchases
        said = refused(project)
        assert f"task {one.task} at {name} was paid for" in said
        assert "(ledger/" in said
        assert "klingflow run" in said
        api.finish_s = 0.01
        assert project.run("run", "film.yaml").code == 0
        assert locked(project, "dawn") != sha256((project.root / "lamp.mp4").read_bytes())


@both
def test_an_order_in_doubt_is_settled_first(tmp_path: Path, name: str) -> None:
    with words(tmp_path, ONE, name) as (project, api):
        asked_and_died(project)
        assert "(ledger/" in refused(project)
        assert project.run("resolve", "film.yaml", "dawn", "--not-bought").code == 0
        assert took(project).new
        assert kinds(project) == ["intent", "abandoned", "intent", "stored"]
        assert project.run("run", "film.yaml").code == 0
        assert posts(api) == 0


def test_a_shot_that_waits_for_an_approval_can_be_answered_by_hand_but_not_over_an_open_order(tmp_path: Path) -> None:
    with words(tmp_path, CONTINUED) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--select", "dawn").code == 0
        killed(project, "create", 1, "after")  # noon's intent is on disk, and nothing was sent
        board(project, CONTINUED.replace("prompt: dawn", "gate: approved\n        prompt: dawn"), "hiapi")
        assert actions(project) == {"dawn": "reuse", "noon": "wait"}
        assert "(ledger/" in refused(project, shot="noon")
        assert project.run("resolve", "film.yaml", "noon", "--not-bought").code == 0
        assert actions(project) == {"dawn": "reuse", "noon": "wait"}
        assert took(project, shot="noon").new
        assert actions(project) == {"dawn": "reuse", "noon": "reuse"}
        assert posts(api) == 1


def test_a_shot_whose_still_is_not_chosen_has_no_key_to_answer(tmp_path: Path) -> None:
    two = "first_frame: {stills: [frames/dawn.png, frames/dusk.png]}\n        prompt: dawn"
    with words(tmp_path, ONE.replace("prompt: dawn", two)) as (project, _):
        said = refused(project)
        assert "shot 'dawn' has no key yet that a clip could answer: choose one of 2 stills for first_frame" in said


def test_an_order_that_failed_can_be_answered_by_hand(tmp_path: Path) -> None:
    with words(tmp_path, ONE) as (project, api):
        api.becomes(Outcome(fail=("moderated", "content violates the policy")))
        assert project.run("run", "film.yaml", "--yes").code == 1
        assert took(project).new
        assert project.run("run", "film.yaml").code == 0
        assert posts(api) == 1


def test_a_run_that_was_about_to_order_takes_what_was_taken_in(tmp_path: Path) -> None:
    """It is stopped after its first shot's intent; the second, whose place in flight it waits for, is taken in."""
    with words(tmp_path, PAIR) as (project, api):
        project.write("klingflow.yaml", "providers: {hiapi: {concurrency: 1}}\n")
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.pauser", "run", "film.yaml", "--yes"],
            cwd=project.root,
            env=project.environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        try:
            until(lambda: len(records(project)) == 1 and stopped(process.pid), "the intent")
            [intent] = records(project)
            waiting = {"dawn": "noon", "noon": "dawn"}[intent["detail"]["shot"]]
            assert took(project, shot=waiting).new
            assert "(ledger/" in refused(project, other(project), intent["detail"]["shot"])
            process.send_signal(signal.SIGCONT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, out + err
        assert posts(api) == 1
        assert locked(project, waiting) == sha256((project.root / "lamp.mp4").read_bytes())


def test_an_order_that_is_begun_while_the_file_is_copied_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with words(tmp_path, ONE) as (project, _):
        [step] = json.loads(project.run("plan", "--json").out)["steps"]
        put = FolderStore.put

        def slow(self: FolderStore, file: Path, *, move: bool = False) -> Digest:
            digest = put(self, file, move=move)
            intent = Job(key=Key(step["key"])).next(Kind.INTENT, 0, {"provider": "hiapi", "shot": "dawn"})
            assert ledger.write(self, intent)
            return digest

        monkeypatch.setattr(FolderStore, "put", slow)
        with pytest.raises(UsageError, match="somebody else has just begun with shot 'dawn'; nothing was taken in"):
            took(project)
        assert (kinds(project), lock_text(project)) == (["intent"], "")
        assert not (store_of(project) / "clips").exists()


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] == "T"


# -- killed


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize(("door", "number"), [("create", 1), ("create", 2), ("create", 3), ("put", 1)])
def test_killed_anywhere_the_same_file_again_finishes_it(
    tmp_path: Path, door: str, number: int, side: str
) -> None:
    with words(tmp_path, ONE, "hiapi") as (project, api):
        died = project.run_killed(door, number, side, *TAKE_IN)
        assert died.code == -signal.SIGKILL, died.said
        begun = kinds(project) == ["intent"]
        kept = any((store_of(project) / "clips").glob("*.json"))
        plan = actions(project)["dawn"]
        assert plan == ("adopt" if kept else "resolve" if begun else "make")
        if begun and not kept:
            said = refused(project, other(project))
            assert "was being taken in, and that was interrupted" in said
            assert "take that file in again" in said
            ran = project.run("run", "film.yaml", "--yes")
            assert (ran.code, posts(api)) == (4, 0), "nothing is bought in its place"
            assert "klingflow take-in FILE film.yaml --as dawn" in ran.err
        assert project.run(*TAKE_IN).code == 0
        assert actions(project) == {"dawn": "reuse"}
        assert kinds(project) == ["intent", "stored"]
        assert project.run("run", "film.yaml").code == 0
        assert posts(api) == 0
        assert "taken in by hand" in project.run("status").out


def test_a_take_in_that_was_left_half_can_be_given_up(tmp_path: Path) -> None:
    with words(tmp_path, ONE) as (project, api):
        assert project.run_killed("create", 1, "after", *TAKE_IN).code == -signal.SIGKILL
        assert kinds(project) == ["intent"]
        [row] = json.loads(project.run("status", "--json").out)["tasks"]
        assert row["next"].startswith("klingflow take-in FILE film.yaml --as dawn  # or klingflow resolve film.yaml")
        assert project.run("resolve", "film.yaml", "dawn", "--not-bought").code == 0
        assert took(project, other(project)).new
        assert posts(api) == 0


# -- the lock, and films of a matrix


def test_nothing_else_in_the_lock_is_touched(tmp_path: Path) -> None:
    with words(tmp_path, PAIR) as (project, _):
        took(project, other(project), "noon")
        before = locked(project, "noon")
        board(project, ONE, "hiapi")
        took(project)
        assert locked(project, "noon") == before, "of a shot that is gone, or has another name now"


def test_with_overridden_variables_the_lock_stays_as_it_is(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    board(project, ONE.replace("dawn breaks", "'{{ boat }}'").replace("title: One", "vars: {boat: red}"))
    done = took(project, variables={"boat": "blue"})
    assert (done.new, done.lock, lock_text(project)) == (True, None, "")
    assert actions(project) == {"dawn": "make"}
    assert actions(project, "--var", "boat=blue") == {"dawn": "adopt"}


def test_the_lock_of_a_renamed_storyboard_is_left_to_the_run(tmp_path: Path) -> None:
    with words(tmp_path, PAIR) as (project, _):
        took(project, other(project), "noon")
        (project.root / "film.lock.yaml").rename(project.root / "old.lock.yaml")
        assert took(project).lock is None
        assert actions(project) == {"dawn": "adopt", "noon": "reuse"}


def test_films_of_a_matrix_are_told_apart_by_key_where_they_differ(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    text = PAIR.replace("title: One", "matrix: {lang: [en, de]}").replace("noon comes", "'noon in {{ lang }}'")
    board(project, text)
    assert took(project).films == ("film [en]", "film [de]")
    assert lock_text(project).count("taken_in") == 2
    said = refused(project, other(project), "noon")
    assert said.startswith("shot 'noon' asks for another clip in each film: film [en] (--key ")
    key = said.partition("film [de] (--key ")[2][:12]
    assert took(project, "other.mp4", "noon", key=key).films == ("film [de]",)
    assert lock_text(project).count("taken_in") == 3
