"""Processes that really die, race and are frozen: what was paid for is never paid for again.

A sample of the points of death runs by default; KLINGFLOW_KILL_ALL=1 dies at every one.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import standins
from tests.cli import Project
from tests.paid_helpers import CHAIN, LAST, asked, both, bought, dedented, project_for, studio
from tests.standins import movie

SHORT = CHAIN.replace("    shots:\n", "    film: {shots: [dawn]}\n    shots:\n", 1)
"""The film shows one shot: what follows the last clip is not what dies here."""

CROSSINGS = {"create": 8, "index": 5, "put": 3, "post": 2, "poll": 2, "fetch": 2}
"""How often each door is crossed by SHORT: four records for each shot, and two entries; two clips and the frame between
them."""

SIDES = ("before", "after")
EVERY = [(door, n, side) for door, most in CROSSINGS.items() for n in range(1, most + 1) for side in SIDES]
SAMPLE = {
    "hiapi": [
        ("create", 1, "after"),
        ("index", 2, "after"),
        ("post", 2, "after"),
        ("create", 6, "after"),
        ("put", 3, "after"),
        ("create", 7, "after"),
    ],
    "mulerouter": [("post", 2, "after"), ("create", 2, "after"), ("index", 3, "after"), ("fetch", 2, "after")],
}
POINTS = [
    pytest.param(name, point, id=f"{name} {point[0]} {point[1]} {point[2]}")
    for name in ("hiapi", "mulerouter")
    for point in (EVERY if os.environ.get("KLINGFLOW_KILL_ALL") else SAMPLE[name])
]


def killed(project: Project, point: tuple[str, int, str]) -> None:
    door, number, side = point
    died = project.run_killed(door, number, side, "run", "film.yaml", "--yes")
    assert died.code == -signal.SIGKILL, f"{point} is not on the way: {died.said}"


def until(seen: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)


def settle(project: Project, api: Any) -> None:
    """What a person does after exit code 4: looks at the console, and says what is true."""
    for shot, prompt in (("dawn", "dawn breaks"), ("noon", "noon comes")):
        taken = [one.task for one in api.purchases if asked(one)["prompt"] == prompt]
        words = ["--task", taken[0]] if taken else ["--not-bought"]
        if project.run("resolve", "film.yaml", shot, *words).code == 0:
            return
    raise AssertionError("nothing was in doubt")


@pytest.mark.parametrize(("name", "point"), POINTS)
def test_a_run_killed_anywhere_is_finished_by_the_next_and_nothing_is_bought_twice(
    tmp_path: Path, name: str, point: tuple[str, int, str]
) -> None:
    with studio(tmp_path, name, SHORT) as (project, api):
        killed(project, point)
        ran = project.run("run", "film.yaml", "--yes")
        if name == "mulerouter" and ran.code == 4:
            assert len(api.purchases) <= 2
            posts = len(api.calls("POST"))
            assert project.run("run", "film.yaml", "--yes").code == 4, "still in doubt"
            assert len(api.calls("POST")) == posts, "and not asked for again"
            settle(project, api)
            ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert sorted(asked(one)["prompt"] for one in api.purchases) == ["dawn breaks", "noon comes"]
        frame = "image_urls.0" if name == "hiapi" else "first_frame"
        assert bought(api, "noon comes").numbers == {frame: (bought(api, "dawn breaks").number, LAST)}
        assert movie.read_number(project.root / "out/film/frames/noon.last.png") == (2, LAST)


# Several at once ----------------------------------------------------------------------------------------------------


def checkouts(tmp_path: Path, name: str, api: Any, count: int) -> list[Project]:
    """The same storyboard in folders of their own, with one store."""
    made = []
    for number in range(count):
        root = tmp_path / f"checkout{number}"
        project = project_for(root, api, tmp_path / "public", KLINGFLOW_STORE=str(tmp_path / "store"))
        project.write("film.yaml", dedented(SHORT).replace("NAME", name))
        made.append(project)
    return made


@both
def test_runs_that_race_on_one_store_buy_each_take_once_and_all_finish(tmp_path: Path, name: str) -> None:
    with studio(tmp_path, name) as (_, api):
        api.faults.add("POST", standins.delay_answer(0.5), times=-1)
        racers = [each.start("run", "film.yaml", "--yes") for each in checkouts(tmp_path, name, api, 3)]
        ended = [racer.communicate(timeout=100) for racer in racers]
        assert [racer.returncode for racer in racers] == [0, 0, 0], ended
        assert sorted(asked(one)["prompt"] for one in api.purchases) == ["dawn breaks", "noon comes"]
        assert len(api.calls("POST")) == 2


def test_two_runs_in_one_folder_finish_both(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, api):
        racers = [project.start("run", "film.yaml", "--yes") for _ in range(2)]
        ended = [racer.communicate(timeout=100) for racer in racers]
        assert [racer.returncode for racer in racers] == [0, 0], ended
        assert len(api.purchases) == 2
        assert project.run("run", "film.yaml", "--frozen").code == 0


def test_who_races_with_one_that_is_killed_goes_on_alone(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (_, api):
        api.faults.add("POST", standins.delay_answer(1.0), times=1)
        first, second = checkouts(tmp_path, "hiapi", api, 2)
        victim = first.start("run", "film.yaml", "--yes")
        until(lambda: api.purchases, "the first order")
        other = second.start("run", "film.yaml", "--yes")
        victim.kill()
        victim.communicate()
        _, err = other.communicate(timeout=100)
        assert other.returncode == 0, err
        assert len(api.purchases) == 2
        assert first.run("run", "film.yaml", "--yes").code == 0
        assert len(api.purchases) == 2


def test_a_frozen_runner_wakes_up_to_a_finished_film(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", finish_s=3600.0) as (_, api):
        first, second = checkouts(tmp_path, "mulerouter", api, 2)
        frozen = first.start("run", "film.yaml", "--yes")

        def polled() -> bool:  # not what asks for the key, before the first order
            tasks = [one.task for one in api.purchases]
            return any(seen.status and task in seen.path for seen in api.calls("GET") for task in tasks)

        until(polled, "the first poll")
        frozen.send_signal(signal.SIGSTOP)
        try:
            api.finish_s = 0.05
            ran = second.run("run", "film.yaml", "--yes")
            assert ran.code == 0, ran.said
        finally:
            frozen.send_signal(signal.SIGCONT)
        _, err = frozen.communicate(timeout=100)
        assert frozen.returncode == 0, err
        assert len(api.purchases) == 2


# Being asked to end -------------------------------------------------------------------------------------------------


Moment = Callable[[Any], tuple[Callable[[], object], Callable[[], None]]]
"""Makes one request or task hang. Returns whether it hangs, and what ends that."""


def _in_post(api: Any) -> tuple[Callable[[], object], Callable[[], None]]:
    hold = standins.Hold("answer")
    api.faults.add("POST", hold, after=1)
    return hold.reached.is_set, hold.release


def _in_poll(api: Any) -> tuple[Callable[[], object], Callable[[], None]]:
    api.becomes(standins.Outcome(finish_s=3600), prompt="noon")

    def polled() -> bool:
        return len(api.purchases) == 2 and api.calls("GET /v")[-1].at > api.purchases[1].at

    def finish() -> None:
        api.purchases[1].outcome = standins.Outcome()

    return polled, finish


def _in_download(api: Any) -> tuple[Callable[[], object], Callable[[], None]]:
    hold = standins.Hold("answer")
    api.faults.add("GET /files/2", hold, times=1)
    return hold.reached.is_set, hold.release


MOMENTS = [
    ("hiapi", _in_post, "answered", signal.SIGINT),
    ("hiapi", _in_post, "hangs", signal.SIGTERM),
    ("mulerouter", _in_post, "answered", signal.SIGTERM),
    ("mulerouter", _in_poll, "hangs", signal.SIGINT),
    ("hiapi", _in_download, "hangs", signal.SIGTERM),
]


@pytest.mark.parametrize(
    ("name", "moment", "then", "number"),
    MOMENTS,
    ids=[f"{name}{moment.__name__}_{then}" for name, moment, then, _ in MOMENTS],
)
def test_an_interrupted_run_ends_soon_and_the_next_pays_nothing(
    tmp_path: Path, name: str, moment: Moment, then: str, number: signal.Signals
) -> None:
    """What hangs does so until the run has ended: the run did not wait for it."""
    with studio(tmp_path, name, SHORT) as (project, api):
        hangs, end = moment(api)
        running = project.start("run", "film.yaml", "--yes")
        until(hangs, moment.__name__)
        running.send_signal(number)
        if then == "answered":
            end()
        _, err = running.communicate(timeout=60)
        end()
        assert running.returncode == 130, err
        assert "klingflow run film.yaml" in err
        assert "Traceback" not in err
        assert [path for path in project.root.rglob("*") if ".part" in path.name or path.name.startswith("run-")] == []
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 2


def test_a_run_interrupted_while_it_joins_the_film_leaves_no_half_film(tmp_path: Path) -> None:
    board = CHAIN.replace("duration: 3", "duration: 10")
    with studio(tmp_path, "mulerouter", board) as (project, api):
        running = project.start("run", "film.yaml", "--yes")
        folder = project.root / "out/film"
        until(lambda: folder.exists() and [path for path in folder.iterdir() if "film" in path.name], "the film's file")
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=60)
        assert running.returncode == 130, err
        assert "Traceback" not in err
        assert not (folder / "film.mp4").exists()
        whole = (".mp4", ".png", ".jpg", ".json", ".html", ".otio")
        assert [path for path in folder.rglob("*") if path.is_file() and path.suffix not in whole] == []
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 2
