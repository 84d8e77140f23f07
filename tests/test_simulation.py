"""Hundreds of schedules (thousands in CI) of faults, kills and races: nobody pays twice, and every shot comes home."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests import simulation
from tests.simulation import Sins

SEEDS = int(os.environ.get("KLINGFLOW_SIM_SEEDS", "500"))
PARTS = 10
FAILED_ONCE = (1368,)
"""Seeds beyond the usual ones that showed a fault."""


@pytest.mark.no_cover  # tracing every line of hundreds of schedules would take four times as long as running them
@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_goes_wrong_each_take_is_bought_once_and_comes_home(part: int, tmp_path: Path) -> None:
    for seed in (*range(part, SEEDS, PARTS), *FAILED_ONCE[part::PARTS]):
        world = simulation.simulate(seed, tmp_path)
        if world.violations:
            pytest.fail(f"python -m tests.simulation {seed}\n\n{simulation.replay(seed)}", pytrace=False)


@pytest.mark.parametrize(
    ("sins", "complaint"),
    [
        (Sins(ignore_key=True), "was bought again"),
        (Sins(intent_last=True), "an order was sent before its intent was in the store"),
        (Sins(intent_last=True), "was bought again"),
        (Sins(forget_accepted=True), "is nowhere on record"),
        (Sins(old_frames=True), "was ordered with the wrong frames"),
        (Sins(never_done=True), "it never ends well"),
        (Sins(blind_to_gates=True), "behind the closed gate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_oracle_is_not_blind(sins: Sins, complaint: str, tmp_path: Path) -> None:
    for seed in range(150):
        if any(complaint in violation for violation in simulation.simulate(seed, tmp_path, sins).violations):
            return
    pytest.fail(f"no schedule of 150 showed it: {complaint}")


def test_gates_close_open_and_close_again_in_the_schedules(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    for seed in range(150):
        seen += simulation.simulate(seed, tmp_path).seen
        if {"wait", "open", "re-rolled"} <= seen.keys():
            return
    pytest.fail(f"in no schedule of 150: {seen}")


def test_a_seed_is_a_schedule(tmp_path: Path) -> None:
    for seed in range(20):
        one, other = (simulation.simulate(seed, tmp_path, tracing=True).trace for _ in range(2))
        assert one == other
        assert one


def test_a_failing_seed_is_told_event_by_event(tmp_path: Path) -> None:
    sins = Sins(ignore_key=True)
    seed = next(seed for seed in range(150) if simulation.simulate(seed, tmp_path, sins).violations)
    told = simulation.replay(seed, sins)
    assert f"seed {seed}" in told
    assert "BILLED" in told
    assert "VIOLATION" in told
