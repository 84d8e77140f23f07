"""The lock is evidence, not an order: a line that lies buys nothing, and delivers no other shot's clip."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import standins
from tests.cli import Project
from tests.money_helpers import (
    CONTINUED,
    ONE,
    PAIR,
    actions,
    blob_file,
    copied,
    ended,
    git,
    lock_text,
    locked,
    posts,
    prompts,
    relock,
    running,
    store_of,
    until,
    words,
)
from tests.paid_helpers import dedented, studio
from tests.standins import Hold

NOWHERE = "0" * 64


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """PAIR, bought at HiAPI."""
    with words(tmp_path_factory.mktemp("pair"), PAIR) as (project, _):
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        yield project


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """CONTINUED, bought at HiAPI: a shot and the one that goes on from its last frame."""
    with studio(tmp_path_factory.mktemp("chain"), "hiapi", CONTINUED) as (project, _):
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        yield project


@pytest.mark.parametrize("provider", ["animatic", "own", "hiapi", "mulerouter"])
def test_a_lock_line_with_the_right_key_and_no_clip_buys_nothing(tmp_path: Path, pair: Project, provider: str) -> None:
    with words(tmp_path, PAIR) as (project, api):
        copied(pair, project, store=False)
        for shot in ("dawn", "noon"):
            relock(project, shot, clip=NOWHERE, provider=provider)
        before = lock_text(project)
        assert actions(project, "--out", "plan.json") == {"dawn": "reuse", "noon": "reuse"}
        for command in ([], ["--yes"], ["--plan", "plan.json"]):
            ran = project.run("run", "film.yaml", *command)
            assert ran.code == 1, ran.said
            assert posts(api) == 0
            assert "dawn" in ran.said
            assert "noon" in ran.said
            assert NOWHERE[:12] in ran.said
            assert "KLINGFLOW_STORE" in ran.said
            assert lock_text(project) == before


@pytest.mark.parametrize("provider", ["animatic", "hiapi"])
def test_a_lock_line_that_lies_about_one_shot_stops_no_other(tmp_path: Path, pair: Project, provider: str) -> None:
    with words(tmp_path, PAIR) as (project, api):
        copied(pair, project, store=False)
        lines = lock_text(project)
        project.write("film.lock.yaml", lines[: lines.index("  noon:")])
        relock(project, "dawn", clip=NOWHERE, provider=provider)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert prompts(api) == ["noon comes"]
        assert locked(project, "noon")
        assert locked(project, "dawn") == NOWHERE, "nobody said that this line may go"


def test_what_continues_a_clip_that_is_not_there_is_not_bought(tmp_path: Path, chain: Project) -> None:
    with studio(tmp_path, "hiapi", CONTINUED) as (project, api):
        copied(chain, project, store=False)
        lines = lock_text(project)
        project.write("film.lock.yaml", lines[: lines.index("  noon:")])
        relock(project, "dawn", clip=NOWHERE, provider="animatic")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert posts(api) == 0


@pytest.mark.parametrize("command", [[], ["--yes"]], ids=["plain", "yes"])
def test_a_lock_line_that_names_another_shots_clip_stops_the_run(
    tmp_path: Path, pair: Project, command: list[str]
) -> None:
    with words(tmp_path, PAIR) as (project, api):
        copied(pair, project)
        right, wrong = locked(project, "dawn"), locked(project, "noon")
        relock(project, "dawn", clip=wrong)
        before = lock_text(project)
        ran = project.run("run", "film.yaml", *command)
        assert ran.code == 1, ran.said
        assert posts(api) == 0
        assert "dawn" in ran.said
        assert right[:12] in ran.said
        assert wrong[:12] in ran.said
        delivered = project.root / "out/film/shots/dawn.mp4"
        assert not delivered.exists() or delivered.read_bytes() == blob_file(project, right).read_bytes()
        assert not (project.root / "out/film/film.mp4").exists(), "a film with a wrong clip in it"
        assert lock_text(project) == before


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_a_review_lists_lock_lines_whose_clip_changed_without_a_change_of_key(
    tmp_path: Path, pair: Project, form: str
) -> None:
    with words(tmp_path, PAIR) as (project, _):
        copied(pair, project)
        git(project, "add", "film.yaml", "film.lock.yaml")
        git(project, "commit", "-q", "-m", "reviewed")
        same = project.run("plan", "film.yaml", "--against", "HEAD", "--format", form)
        assert same.code == 0, same.said
        right, wrong = locked(project, "dawn"), locked(project, "noon")
        assert wrong[:12] not in same.said
        relock(project, "dawn", clip=wrong)
        told = project.run("plan", "film.yaml", "--against", "HEAD", "--format", form)
        assert told.code == 0, told.said
        said = told.said if form == "text" else told.out  # a warning; a comment holds it, a terminal shows it
        assert "dawn" in said
        assert right[:12] in said
        assert wrong[:12] in said


def test_a_held_clip_that_is_not_there_is_not_bought(tmp_path: Path, pair: Project) -> None:
    board = PAIR.replace("prompt: dawn breaks", "prompt: dawn breaks anew\n        hold: true")
    with words(tmp_path, board) as (project, api):
        copied(pair, project, store=False)
        lines = lock_text(project)
        project.write("film.lock.yaml", lines[: lines.index("  noon:")])
        relock(project, "dawn", provider="animatic")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert prompts(api) == ["noon comes"]
        assert locked(project, "dawn")[:12] in ran.said


def test_a_clip_record_whose_clip_is_gone_is_not_bought_again(tmp_path: Path, pair: Project) -> None:
    """Planned as `adopt`: the record says that the key was paid for."""
    with words(tmp_path, PAIR) as (project, api):
        copied(pair, project, lock=False)
        gone = locked(pair, "dawn")
        blob_file(project, gone).unlink()
        assert actions(project) == {"dawn": "adopt", "noon": "adopt"}
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert posts(api) == 0
        assert gone[:12] in ran.said
        assert locked(project, "noon"), "the other one is adopted"


def test_a_shot_whose_key_is_known_after_the_run_is_adopted_where_the_store_has_it(
    tmp_path: Path, chain: Project
) -> None:
    with studio(tmp_path, "hiapi", CONTINUED) as (project, api):
        copied(chain, project, lock=False)
        key = locked(chain, "dawn", "key")
        (store_of(project) / f"clips/{key}.json").unlink()
        shutil.rmtree(store_of(project) / f"ledger/{key}")
        plan = json.loads(project.run("plan", "film.yaml", "--format", "json").out)
        assert [step["key"] for step in plan["steps"]] == [key, None]
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert prompts(api) == ["dawn breaks"], "the stand-in made the same clip: what continues it was bought before"
        assert locked(project, "noon") == locked(chain, "noon")


@pytest.mark.parametrize("frozen", [False, True])
def test_a_clip_that_the_store_lost_is_named_and_not_bought(tmp_path: Path, pair: Project, frozen: bool) -> None:
    with words(tmp_path, dedented(PAIR)) as (project, api):
        copied(pair, project)
        blob_file(project, locked(project, "dawn")).unlink()
        shutil.rmtree(store_of(project) / "ledger")
        ran = project.run("run", "film.yaml", "--yes", *(["--frozen"] if frozen else []))
        assert ran.code == 1, ran.said
        assert posts(api) == 0
        assert locked(project, "dawn")[:12] in ran.said


# Two runs at once ---------------------------------------------------------------------------------------------------


def test_a_run_that_ends_later_keeps_the_lines_of_one_that_ended_before(tmp_path: Path) -> None:
    with words(tmp_path, PAIR) as (project, api):
        held = Hold()
        api.faults.add("POST", held)
        with running(project, "run", "film.yaml", "--yes", "--select", "dawn") as first:
            until(lambda: api.purchases, "the first order")
            second = project.run("run", "film.yaml", "--yes", "--select", "noon")
            assert second.code == 0, second.said
            assert locked(project, "noon")
            held.release()
            last = ended(first)
            assert last.code == 0, last.said
        assert prompts(api) == ["dawn breaks", "noon comes"]
        assert locked(project, "dawn")
        assert locked(project, "noon")
        assert project.run("run", "film.yaml", "--frozen").code == 0


def test_runs_that_end_at_the_same_time_leave_all_lines(tmp_path: Path) -> None:
    shots = "".join(f"\n      - id: shot{n}\n        prompt: prompt {n}\n" for n in range(4))
    with words(tmp_path, ONE + shots) as (project, api):
        held = Hold()
        api.faults.add("POST", held, times=-1)
        names = [f"shot{n}" for n in range(4)]
        with ExitStack() as stack:
            runs = [
                stack.enter_context(running(project, "run", "film.yaml", "--yes", "--select", name)) for name in names
            ]
            until(lambda: len(api.purchases) == 4, "four orders")
            held.release()
            for each in runs:
                said = ended(each)
                assert said.code == 0, said.said
        assert all(locked(project, name) for name in names), lock_text(project)
        assert [path.name for path in project.root.iterdir() if "lock" in path.name] == ["film.lock.yaml"]
        assert len(api.purchases) == 4


def test_a_line_that_somebody_brought_while_a_run_went_on_stays(tmp_path: Path, pair: Project) -> None:
    """A `git pull` in the middle: what the run has made is added, nothing else is touched."""
    with words(tmp_path, PAIR) as (project, api):
        held = Hold()
        api.faults.add("POST", held)
        with running(project, "run", "film.yaml", "--yes", "--select", "dawn") as first:
            until(lambda: api.purchases, "the order")
            shutil.copy(pair.root / "film.lock.yaml", project.root)
            held.release()
            assert ended(first).code == 0
        assert locked(project, "noon") == locked(pair, "noon")
        assert locked(project, "dawn")


LOST = [(what, with_lock) for what in ("bytes", "record and bytes") for with_lock in (True, False)]


def lose(project: Project, what: str, with_lock: bool) -> None:
    """Takes every clip out of a store, or the record of it, or both; and perhaps the lock."""
    if what.endswith("bytes"):
        for shot in ("dawn", "noon"):
            blob_file(project, locked(project, shot)).unlink()
    if what.startswith("record"):
        for path in store_of(project).glob("clips/*.json"):
            path.unlink()
    if not with_lock:
        (project.root / "film.lock.yaml").unlink()


REASONS = {
    "record": "its clip is in the store, the record of it is lost: it is written again",
    "bytes": "the store has this very clip",
    "record and bytes": "its clip and the record of it are lost: its provider is asked for task",
}
"""What a plan without a lock says of a clip that is lost so."""


@pytest.mark.parametrize("name", ["hiapi", "mulerouter"])
@pytest.mark.parametrize(("what", "with_lock"), [("record", True), ("record", False), *LOST])
def test_a_clip_that_is_lost_is_brought_back_and_not_bought(
    tmp_path: Path, name: str, what: str, with_lock: bool
) -> None:
    with words(tmp_path, CONTINUED, name) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        lock = (project.root / "film.lock.yaml").read_bytes()
        film = (project.root / "out/film/film.mp4").read_bytes()
        records = {path: path.read_bytes() for path in store_of(project).glob("clips/*.json")}
        lose(project, what, with_lock)
        shutil.rmtree(project.root / "out")
        if not with_lock:
            assert REASONS[what] in words_of(project.run("plan", "film.yaml").out)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 2
        assert (project.root / "film.lock.yaml").read_bytes() == lock
        if (what, with_lock) != ("record", True):  # a clip that lock and store have is not looked up by its record
            assert (project.root / "out/film/film.mp4").read_bytes() == film
            assert {path: path.read_bytes() for path in store_of(project).glob("clips/*.json")} == records
            assert project.run("store", "verify").code == 0


@pytest.mark.parametrize("command", [["film", "film.yaml"], ["run", "film.yaml", "--frozen"]])
def test_a_lost_clip_is_fetched_again_where_nothing_may_be_made(tmp_path: Path, command: list[str]) -> None:
    with words(tmp_path, CONTINUED) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        lose(project, "bytes", True)
        shutil.rmtree(project.root / "out")
        ran = project.run(*command)
        assert (ran.code, len(api.purchases)) == (0, 2), ran.said
        assert (project.root / "out/film/film.mp4").is_file()


@pytest.mark.parametrize(("what", "with_lock"), LOST)
def test_a_lost_clip_that_its_provider_does_not_give_any_more_is_left_to_a_person(
    tmp_path: Path, what: str, with_lock: bool
) -> None:
    with words(tmp_path, CONTINUED) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        lose(project, what, with_lock)
        api.faults.add("GET /v1/tasks", standins.answer(404, {"code": 404, "message": "task not found"}), times=-1)
        ran = project.run("run", "film.yaml", "--yes")
        assert (ran.code, len(api.purchases)) == (1, 2), ran.said
        assert "was stored, but the store does not have it; hiapi does not give task" in words_of(ran.err)
        assert "klingflow store verify --from" in ran.err


def test_a_lost_clip_whose_provider_does_not_answer_now_is_left_for_later(tmp_path: Path) -> None:
    with words(tmp_path, CONTINUED) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        lose(project, "bytes", True)
        task = api.purchases[0].task
        api.faults.add(f"GET /v1/tasks/{task}", standins.answer(503, {"code": 503, "message": "busy"}), times=-1)
        ran = project.run("run", "film.yaml", "--yes")
        assert (ran.code, len(api.purchases)) == (1, 2), ran.said
        assert f"hiapi was asked for task {task}: " in words_of(ran.err)
        assert "mend: run again when its provider answers, or bring it back" in words_of(ran.err)
        assert "film: noon: resumed" in ran.err


def test_a_lost_clip_in_place_of_which_its_provider_gives_another_one_is_left_to_a_person(tmp_path: Path) -> None:
    with words(tmp_path, CONTINUED) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        lose(project, "bytes", True)
        api.faults.add("GET /files/", standins.answer(200, api.clip(api.purchases[0])), times=-1)
        ran = project.run("run", "film.yaml", "--yes")
        assert (ran.code, len(api.purchases)) == (1, 2), ran.said
        assert "film: dawn: resumed" in ran.err
        assert f"hiapi gives another clip for task {api.purchases[1].task} now" in words_of(ran.err)


def test_a_lost_clip_of_another_account_is_not_asked_for(tmp_path: Path) -> None:
    with words(tmp_path, CONTINUED) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        lose(project, "bytes", True)
        polls = len(api.calls("GET /v1/tasks"))
        ran = project.run("run", "film.yaml", "--yes", **api.environment(api.open_account()))
        assert (ran.code, len(api.purchases)) == (1, 2), ran.said
        assert len(api.calls("GET /v1/tasks")) == polls


def test_a_held_clip_that_is_lost_is_fetched_again_though_the_shot_has_changed(tmp_path: Path) -> None:
    with words(tmp_path, CONTINUED) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        board = (project.root / "film.yaml").read_text("utf-8")
        project.write("film.yaml", board.replace("prompt: dawn breaks", "prompt: dusk falls\n    hold: true"))
        lose(project, "bytes", True)
        ran = project.run("run", "film.yaml", "--yes")
        assert (ran.code, len(api.purchases)) == (0, 2), ran.said
        assert project.run("store", "verify").code == 0


@pytest.mark.parametrize("with_lock", [True, False])
def test_a_free_clip_that_is_lost_with_its_record_is_drawn_again(project: Project, with_lock: bool) -> None:
    project.write("film.yaml", "klingflow: 1\nshots: [{id: a, provider: animatic, prompt: x, duration: 3}]\n")
    assert project.run("run", "film.yaml").code == 0
    lock = (project.root / "film.lock.yaml").read_bytes()
    for folder in ("clips", "blobs"):
        shutil.rmtree(store_of(project) / folder)
    shutil.rmtree(project.root / "out")
    if not with_lock:
        (project.root / "film.lock.yaml").unlink()
        planned = project.run("plan", "film.yaml")
        assert "its clip and the record of it are lost: it is drawn again, free" in words_of(planned.out)
    ran = project.run("run", "film.yaml")
    assert ran.code == 0, ran.said
    assert (project.root / "film.lock.yaml").read_bytes() == lock
    assert len(list(store_of(project).glob("clips/*.json"))) == 1


def words_of(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())
