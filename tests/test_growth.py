"""What a command does grows with the film as the film grows, not with its square: counted in calls, not in seconds.

The benchmarks' films are used, so that these scripts keep working too.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

from klingflow.app import outputs
from klingflow.app.project_loader import StoryboardFile
from klingflow.app.session import open_session
from klingflow.core.frametimes import FrameTimes
from klingflow.core.model import Film, Key, Shot, ShotId
from klingflow.core.source import Span
from klingflow.execution.budget import Budget
from klingflow.execution.outcome import Outcome, Result
from klingflow.io import ledger
from klingflow.io.store import FolderStore, Store
from klingflow.output import film as joining
from klingflow.output.film import FilmFacts
from klingflow.planning.job import Kind, Record
from klingflow.planning.price import Limits
from tests.cli import ROOT

SMALL, LARGE = 150, 1200
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def films() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import films

        yield films
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory, films: ModuleType) -> dict[tuple[str, int], Path]:
    """Of both sizes, a film that is up to date, and one in which every prompt was changed since."""
    out = {}
    root = tmp_path_factory.mktemp("growth")
    for shots in (SMALL, LARGE):
        out["made", shots] = films.film(root / f"made-{shots}", shots).parent
        board = films.film(root / f"changed-{shots}", shots)
        board.write_text(board.read_text("utf-8").replace("drifts on", "drifts off"), "utf-8")
        out["changed", shots] = board.parent
    return out


@pytest.mark.slow
@pytest.mark.parametrize("words", ["check", "plan", "graph", "takes"])
def test_a_film_that_is_up_to_date_costs_in_proportion(projects: dict[tuple[str, int], Path], words: str) -> None:
    assert grows(projects, "made", words) < 1.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["plan", "plan --prompts", "plan --format json", "plan --format markdown", "graph --format mermaid"]
)
def test_a_film_that_changed_everywhere_costs_in_proportion(projects: dict[tuple[str, int], Path], words: str) -> None:
    assert grows(projects, "changed", words) < 1.5


def grows(projects: dict[tuple[str, int], Path], kind: str, words: str) -> float:
    """How many times more calls a shot costs in the large film than in the small one."""
    small, large = (calls(projects[kind, shots], words) for shots in (SMALL, LARGE))
    assert large > small
    return large / LARGE / (small / SMALL)


def calls(folder: Path, words: str) -> int:
    """Calls of Python functions and of those in C, while a command runs; a second time, when what can be cached is."""
    command, *options = words.split()
    counted = folder / "calls"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(folder / ".cache"),
    }
    profiled = [sys.executable, "-m", "cProfile", "-o", str(counted), "-m", "klingflow", command, "film.yaml", *options]
    for _ in range(2):
        ended = subprocess.run(profiled, cwd=folder, env=env, capture_output=True, encoding="utf-8", check=False)
        assert ended.returncode == 0, ended.stderr
    return pstats.Stats(str(counted)).total_calls  # type: ignore[attr-defined,no-any-return]


@pytest.mark.slow
def test_a_delivery_costs_in_proportion(
    projects: dict[tuple[str, int], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pieces: list[int] = []
    facts = FilmFacts(
        width=2, height=2, frames=1, rate="24", duration="1.0", starts=(), audio=False, copied=False, bytes=1
    )
    monkeypatch.setattr(outputs, "_deliver_clip", lambda *args: None)
    monkeypatch.setattr(outputs.MediaOnDemand, "cut", lambda *args: None)
    monkeypatch.setattr(outputs.MediaOnDemand, "poster", lambda *args: None)
    monkeypatch.setattr(joining, "assemble", lambda given, to, **options: (pieces.append(len(given)), facts)[1])
    times = FrameTimes(base=Fraction(1, 24), begins=tuple(range(72)), keys=(0,), seconds=Fraction(3), rate=Fraction(24))
    monkeypatch.setattr(joining, "frame_times", lambda *args: times)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def counted(shots: int) -> int:
        session = open_session(StoryboardFile(path=str(projects["made", shots] / "film.yaml")).load())
        (film,) = session.loaded.films
        outcomes = [
            Outcome(shot=step.shot, take=1, is_active_take=True, result=Result.REUSED, key=step.key, clip=step.record)
            for step in session.plan().films[0].steps
        ]
        store = cast(Store, SimpleNamespace(blob=lambda digest: Path(digest), read=lambda name: None))
        profile = cProfile.Profile()
        profile.runcall(outputs.deliver, session.loaded, film, outcomes, {}, session.lock, store, lambda event: None)
        return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]

    small, large = counted(SMALL), counted(LARGE)
    assert pieces == [SMALL, LARGE]
    assert large / LARGE < 1.5 * small / SMALL


def test_money_is_booked_without_going_through_what_was_booked_before() -> None:
    def counted(orders: int) -> int:
        profile = cProfile.Profile()
        profile.runcall(book, Budget(Limits()), orders)
        return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]

    def book(budget: Budget, orders: int) -> None:
        for number in range(orders):
            assert budget.book(Key(f"k{number}"), 1, Decimal("0.5"), 3) is None
            assert budget.spent_on(Key(f"k{number}")) == Decimal("0.5")
        budget.give_back(Key("k0"), 1)
        budget.give_back(Key("k0"), 1)  # nothing is booked any more
        assert budget.spent == (orders - 1) * Decimal("0.5")

    assert counted(LARGE) / LARGE < 1.5 * counted(SMALL) / SMALL


def test_a_film_goes_through_its_shots_once_to_find_them_all() -> None:
    class Shots(tuple[Shot, ...]):
        gone_through = 0

        def __iter__(self) -> Iterator[Shot]:
            self.gone_through += 1
            return super().__iter__()

    shots = Shots(Shot(id=ShotId(f"s{n}"), index=n, prompt="", provider="animatic") for n in range(100))
    span = Span("film.yaml", 1, 1, 1, 2)
    film = Film(name="film", matrix={}, title="", shots=shots, cut=(), where=lambda shot, name: span)
    assert [film.shot(shot.id) for shot in film.shots] == list(film.shots)
    assert shots.gone_through == 3  # here twice, and once to find them
    shorter = replace(film, shots=film.shots[:1])
    assert list(shorter.by_id()) == ["s0"]


def test_a_run_reads_little_of_a_store_that_thousands_of_runs_have_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = 3000
    root = tmp_path / "store"
    record = Record(key=Key("KEY"), attempt=1, n=0, kind=Kind.INTENT, at_ms=1, detail={})
    ledger.write(FolderStore(root), record)
    text = (root / "ledger/KEY/1.0-intent.json").read_text("utf-8")
    (root / "clips").mkdir()
    for number in range(many):
        key = f"{number:064x}"
        for folder in ("ledger", "orders"):
            (root / folder / key).mkdir()
        (root / "ledger" / key / "1.0-intent.json").write_text(text.replace("KEY", key), "utf-8")
        (root / "clips" / f"{key}.json").touch()
    entries: list[str] = []
    scandir = os.scandir

    @contextmanager
    def counting(path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scandir(path) as found:
            yield (entries.append(entry.name) or entry for entry in found)  # type: ignore[func-returns-value]

    monkeypatch.setattr(os, "scandir", counting)
    store = FolderStore(root)
    assert len(list(ledger.jobs(store, most=12))) == 12
    for name in ("clips/new.json", "orders/new/new.json", "ledger/new/1.0-intent.json"):
        assert store.create(name, b"{}")
    assert len(entries) < many / 2


@pytest.mark.parametrize("script", sorted(path.name for path in BENCHMARKS.glob("*.py")))
def test_every_benchmark_can_be_started(script: str) -> None:
    words = [sys.executable, str(BENCHMARKS / script), "--help"]
    ended = subprocess.run(words, capture_output=True, encoding="utf-8", check=False, env={**os.environ})
    assert ended.returncode == 0, ended.stderr
