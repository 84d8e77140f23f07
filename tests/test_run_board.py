"""What a run shows while it goes on: the board as text, and what a log and a terminal get of it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from klingflow.core.model import Key, ShotId
from klingflow.core.source import columns
from klingflow.execution.outcome import Event
from klingflow.output import progress
from klingflow.output.run_board import RunBoard
from klingflow.planning.gates import Wait
from klingflow.planning.plan import Action, FilmPlan, Plan, Step
from klingflow.planning.schedule import time_left
from tests.cli import Project
from tests.paid_helpers import CHAIN, dedented
from tests.review_helpers import film_plan, plan, step
from tests.standins.hiapi import HiAPI


def clip(name: str, after: str = "", **fields: Any) -> Step:
    """A clip to make in 100 s, perhaps after others."""
    needs = tuple(map(ShotId, after.split()))
    return step(name, Action.MAKE, needs=needs, after=needs, expect_s=100.0, **fields)


def of(*steps: Step, in_flight: int = 2, **fields: Any) -> Plan:
    return plan(film_plan(*steps), in_flight={"hiapi": in_flight}, **fields)


HARBOUR = of(
    clip("dawn"),
    clip("gulls", "dawn"),
    clip("inlet", "dawn"),
    clip("quay", "inlet"),
    clip("market", "quay"),
    step("there"),
)


def events(board: RunBoard, told: str, film: str = "harbour") -> None:
    """Lets the board see events, one a line: seconds, shot, what happened, and its fraction, price or reason."""
    for line in told.strip().splitlines():
        at, shot, what, *rest = line.split()
        data: dict[str, object] = {"result": "made"}
        kind = {"started": "step-started", "made": "step-done", "failed": "step-failed", "skipped": "step-skipped"}.get(
            what, what
        )
        if what == "submitted":
            data = {"price": 0.56}
        elif kind == what:
            kind, data = "progress", {"state": what, "fraction": float(rest[0]) if rest else None}
        board.see(Event(event=kind, film=film, shot=ShotId(shot), take=1, data=data), float(at))


def shown(board: RunBoard, now: float, width: int = 80, height: int = 24) -> list[str]:
    rows = [row.text for row in board.rows(now, width, height)]
    assert len(rows) < height
    assert all(columns(row) <= width for row in rows)
    return rows


def test_a_row_is_a_chain_and_says_what_waits_for_what() -> None:
    board = RunBoard(HARBOUR, 0.0, ascii=True)
    assert shown(board, 0) == [
        "  dawn > market   0/4            dawn starts > inlet > quay > market",
        "  gulls           0/1            waits for dawn",
        "  0 of 5 clips, $0.00 of $2.80, about 7 min left",
    ]
    events(board, "1 dawn started\n2 dawn submitted\n12 dawn handling")
    assert shown(board, 42)[0] == "  dawn > market   0/4  ###-----  dawn: handling, 40 s of about 2 min > inlet +2"
    events(board, "102 dawn made\n102 gulls started\n102 inlet started\n103 inlet submitted")
    assert shown(board, 153) == [
        "  dawn > market   1/4  ####----  inlet: ordered, 50 s of about 2 min > quay +1",
        "  gulls           0/1            in line at hiapi",
        "  1 of 5 clips, 1 in flight, $1.12 of $2.80, about 4 min left",
    ]


def test_what_a_provider_knows_of_its_progress_counts_before_the_clock() -> None:
    board = RunBoard(HARBOUR, 0.0, ascii=True)
    events(board, "0 dawn submitted\n1 dawn drawing 0.75")
    assert "######--  dawn: drawing, 2 s of about 2 min" in shown(board, 2)[0]


def test_how_a_chain_ended_stays_in_its_row_and_in_the_sum() -> None:
    board = RunBoard(HARBOUR, 0.0, ascii=True)
    events(board, "0 dawn submitted\n100 dawn made\n100 gulls submitted\n101 gulls made\n100 inlet submitted")
    events(board, "120 inlet failed\n120 quay skipped\n120 market skipped")
    assert shown(board, 121) == [
        "  dawn > market   4/4            1 made, 1 failed, 2 skipped",
        "  gulls           1/1            made",
        "  2 of 5 clips, 1 failed, 2 skipped, $1.68 of $2.80",
    ]


def test_the_time_left_respects_the_number_in_flight() -> None:
    side_by_side = [clip(f"s{n}") for n in range(8)]
    for in_flight, left in ((1, "13 min"), (2, "7 min"), (4, "3 min"), (8, "2 min")):
        assert f"about {left} left" in shown(RunBoard(of(*side_by_side, in_flight=in_flight), 0.0), 0)[-1]


def test_the_time_left_is_played_through_from_where_the_run_stands() -> None:
    films = HARBOUR.films
    dawn, inlet, quay = (("harbour", ShotId(name), 1) for name in ("dawn", "inlet", "quay"))
    assert time_left(films, {"hiapi": 2}, (), {}) == 400
    assert time_left(films, {"hiapi": 2}, (), {dawn: 30.0}) == 370
    assert time_left(films, {"hiapi": 2}, (), {dawn: 500.0}) == 310, "an overdue task gets a tenth of its time"
    assert time_left(films, {"hiapi": 1}, {dawn}, {inlet: 0.0}) == 400, "gulls needs the one place too"
    assert time_left(films, {"hiapi": 2}, {dawn, inlet}, {quay: 99.0}) == 110
    assert time_left(films, {"hiapi": 2}, {dawn, inlet}, {quay: 9.0}, pace=0.1) == pytest.approx(11)
    assert time_left((), {}, (), {}) == 0


def test_what_is_in_flight_keeps_its_place_before_what_has_more_work_behind_it() -> None:
    films = of(clip("one"), clip("two"), clip("head"), clip("tail", "head")).films
    running = {("harbour", ShotId(name), 1): 90.0 for name in ("one", "two")}
    assert time_left(films, {"hiapi": 2}, (), running) == 210


def test_a_purchase_that_is_there_is_waited_for_by_nobody_who_shares_it() -> None:
    same = replace(clip("two"), purchase=Key("p"))
    films = of(replace(clip("one"), purchase=Key("p")), same, in_flight=1).films
    assert time_left(films, {"hiapi": 1}, (), {}) == 100
    assert time_left(films, {"hiapi": 1}, {("harbour", ShotId("one"), 1)}, {}) == 0


def test_a_run_learns_from_its_own_clips_how_long_one_takes() -> None:
    board = RunBoard(of(*(clip(f"s{n}") for n in range(5)), in_flight=1), 0.0)
    assert "about 8 min left" in board.summary(0)
    events(board, "0 s0 submitted\n10 s0 made\n10 s1 submitted")
    assert "about 40 s left" in board.summary(10)
    assert "of about 10 s" in shown(board, 12)[1]


def test_the_time_left_runs_down_between_two_events() -> None:
    board = RunBoard(of(clip("a")), 0.0)
    events(board, "0 a submitted")
    assert "about 80 s left" in board.summary(20)
    assert "about 1 s left" in board.summary(300)


def two_hundred() -> RunBoard:
    steps = [clip(f"s{n}", f"s{n - 1}" if n % 2 else "") for n in range(200)]
    board = RunBoard(of(*steps, in_flight=3), 0.0, ascii=True)
    events(board, "\n".join(f"0 s{n} started" for n in range(0, 200, 2)))
    events(board, "1 s90 submitted\n1 s40 submitted\n1 s198 submitted\n2 s90 handling")
    return board


def test_two_hundred_shots_fit_with_what_runs_first_and_a_count_of_the_rest() -> None:
    rows = shown(two_hundred(), 11)
    assert len(rows) == 17
    assert [row.split()[0] for row in rows[:3]] == ["s40", "s90", "s198"]
    assert rows[-2] == "  and 85 more chains: 85 in line"
    assert rows[-1] == "  0 of 200 clips, 3 in flight, $1.68 of $112.00, about 1 h 52 min left"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (40, 4), (40, 3), (200, 60), (60, 24)])
def test_a_board_fits_its_terminal_whatever_it_is(width: int, height: int) -> None:
    rows = shown(two_hundred(), 11, width, height)
    assert re.search("3 (in flight|going), .*1 h 52 min left$", rows[-1])


def test_names_of_any_length_and_width_fit() -> None:
    board = RunBoard(of(clip("x" * 64), clip("y" * 64, "x" * 64)), 0.0)
    (row, _) = shown(board, 0, 90)
    assert row.startswith("  xxxxxxxxxxx…yyyyyyyyyy   0/2  ")
    assert row.endswith("  xxxxxxxxxxxxxx…xxxxxxxxxxxxx starts")
    with_states = RunBoard(of(clip("a")), 0.0)
    events(with_states, "0 a submitted")
    data = {"state": "処理中" * 40, "fraction": None}
    with_states.see(Event(event="progress", film="harbour", shot=ShotId("a"), take=1, data=data), 1.0)
    assert shown(with_states, 2)[0].endswith("…")


def test_what_a_provider_says_of_a_state_moves_no_cursor() -> None:
    board = RunBoard(of(clip("a")), 0.0)
    events(board, "0 a submitted")
    data = {"state": "\x1b[2Jdone\nnow", "fraction": None}
    board.see(Event(event="progress", film="harbour", shot=ShotId("a"), take=1, data=data), 1.0)
    assert all(text.isprintable() for text in shown(board, 2))


def test_what_waits_for_a_person_is_one_line() -> None:
    gate = {"reason": "", "seconds": 0, "price": Decimal(0)}
    steps = [step(f"s{n}", Action.WAIT, waits_for=(Wait(ShotId(f"g{n % 3}")),), **gate) for n in range(6)]
    still = step("t", Action.WAIT, waits_for=(Wait(ShotId("t"), "first_frame"),), **gate)
    assert shown(RunBoard(of(clip("a"), *steps, still), 0.0), 0)[1] == (
        "  7 clips wait for a person's decision on g0, g1 and 2 more"
    )
    assert shown(RunBoard(of(clip("a"), still), 0.0), 0)[1] == (
        "  1 clip waits for a person's decision on the first_frame of t"
    )


def test_takes_and_films_of_a_matrix_have_rows_of_their_own() -> None:
    second = clip("dawn", is_active_take=False)
    films = [
        FilmPlan(name="f", variant=name, title="", steps=(clip("dawn"), _take(second, 2))) for name in ("en", "de")
    ]
    board = RunBoard(plan(*films, in_flight={"hiapi": 4}), 0.0, ascii=True)
    events(board, "0 dawn submitted", film="f [de]")
    assert [row.split("  ")[1] for row in shown(board, 1)[:4]] == [
        "dawn [en]",
        "dawn take 2 [en]",
        "dawn [de]",
        "dawn take 2 [de]",
    ]
    assert "ordered" in shown(board, 1)[2]


def _take(one: Step, take: int) -> Step:
    return replace(one, take=take, key=None)


def test_the_film_that_is_joined_has_a_row_until_it_is_there() -> None:
    board = RunBoard(HARBOUR, 0.0, ascii=True)
    board.see(Event(event="film", film="harbour", data={"fraction": 0.5}), 1.0)
    assert "  joining harbour  ####----  50%" in shown(board, 1)
    board.see(Event(event="film", film="harbour", data={"path": "x", "frames": 1, "seconds": 1.0}), 2.0)
    assert not any("joining" in row for row in shown(board, 2))


def test_money_is_told_as_far_as_it_is_known() -> None:
    free = of(clip("a", price=Decimal(0)))
    assert RunBoard(free, 0.0).summary(0) == "0 of 1 clip, about 2 min left"
    unknown = RunBoard(of(clip("a", price=None)), 0.0)
    assert "$" not in unknown.summary(0)
    events(unknown, "0 a submitted")
    assert "$0.56 spent" in unknown.summary(0)


# -- a log


def logged(of_plan: Plan, tell: Callable[[Callable[[Event], None], list[float]], None], capsys: Any) -> list[str]:
    clock = [0.0]
    tell(progress._plain_lines(of_plan, lambda: clock[0]), clock)
    return str(capsys.readouterr().err).splitlines()


def _run(show: Callable[[Event], None], clock: list[float], shots: int) -> None:
    def event(kind: str, shot: int, **data: object) -> None:
        show(Event(event=kind, film="harbour", shot=ShotId(f"s{shot}"), take=1, data=data))

    for shot in range(shots):
        event("step-started", shot, action="make", provider="hiapi", seconds=5)
        event("submitted", shot, price=0.56, task=f"t{shot}", provider="hiapi")
        for state in ("queued", "handling"):
            event("progress", shot, state=state, fraction=None)
        clock[0] += 10
        event("step-done", shot, result="made", seconds=5.0, cost=0.56)


def test_the_log_of_a_large_run_has_a_line_a_clip_and_at_times_how_far_it_is(capsys: Any) -> None:
    large = of(*(clip(f"s{n}") for n in range(100)), in_flight=1)
    lines = logged(large, lambda show, clock: _run(show, clock, 100), capsys)
    assert [line for line in lines if ": made" in line] == [f"harbour: s{n}: made, 5.000 s" for n in range(100)]
    sums = [line for line in lines if ": made" not in line]
    assert len(sums) == 16, "one a minute of a thousand seconds"
    assert sums[0] == "6 of 100 clips, $3.36 of $56.00, about 16 min left"


def test_the_log_of_a_small_run_says_each_state_once(capsys: Any) -> None:
    small = of(*(clip(f"s{n}") for n in range(2)))
    assert logged(small, lambda show, clock: _run(show, clock, 2), capsys)[:5] == [
        "harbour: s0: making 5 s on hiapi",
        "harbour: s0: submitted as task t0",
        "harbour: s0: queued",
        "harbour: s0: handling",
        "harbour: s0: made, 5.000 s",
    ]


# -- a terminal


def on_a_terminal(project: Project, *words: str, **extra: str) -> tuple[int, str]:
    """Runs a command whose stderr is a terminal of 80 columns; returns its exit code and what the terminal got."""
    ours, theirs = pty.openpty()
    env = {**project.environment({"COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color", **extra})}
    with subprocess.Popen(
        [sys.executable, "-m", "klingflow", *words],
        cwd=project.root,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 65536):
                said += part
        except OSError:  # so Linux tells that nobody writes there any more
            pass
        os.close(ours)
    return process.returncode, said.decode().replace("\r\n", "\n")


@pytest.fixture(scope="module")
def api() -> Any:
    with HiAPI() as api:
        yield api


def paid(tmp_path: Path, api: HiAPI) -> Project:
    project = Project(tmp_path / "project", api.environment())
    project.root.mkdir()
    still = "first_frame: frames/dawn.png"
    project.write("film.yaml", dedented(CHAIN.replace("NAME", "hiapi").replace(f"        {still}\n", "")))
    return project


def test_a_terminal_has_a_board_that_leaves_no_trace(tmp_path: Path, api: HiAPI) -> None:
    code, text = on_a_terminal(paid(tmp_path, api), "run", "film.yaml", "--yes", "--select", "dawn")
    assert code == 0
    assert re.search(r"dawn\s+0/1", text)
    assert "0 of 1 clip, " in text
    assert "making" not in text
    end = text.rpartition("\x1b[2K")[2]  # the board is taken away; what follows stays
    assert "1 clip made" in end
    assert "of 1 clip" not in end


@pytest.mark.parametrize("how", [{"TERM": "dumb"}, {"CI": "true"}])
def test_a_dumb_terminal_and_a_ci_log_get_plain_lines(tmp_path: Path, api: HiAPI, how: dict[str, str]) -> None:
    how = {**how, "NO_COLOR": "1"}
    code, text = on_a_terminal(paid(tmp_path, api), "run", "film.yaml", "--yes", "--select", "dawn", **how)
    assert code == 0
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert "film: dawn: made, " in text


def test_no_color_takes_the_colours_and_quiet_takes_the_board(tmp_path: Path, api: HiAPI) -> None:
    project = paid(tmp_path, api)
    _, text = on_a_terminal(project, "run", "film.yaml", "--yes", "--select", "dawn", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)
    _, quiet = on_a_terminal(project, "run", "film.yaml", "--yes", "--quiet", "--select", "dawn")
    assert "\x1b" not in quiet
    assert quiet.startswith("0 clips made, 1 reused")
