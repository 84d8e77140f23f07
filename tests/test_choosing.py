"""Choosing a take: what it makes stale, and what is written of it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import klingflow
from klingflow import KlingflowError, Storyboard, UsageError
from klingflow.app import choosing
from klingflow.cli import app
from klingflow.core.digest import of_bytes
from klingflow.core.model import ShotId
from klingflow.io import durable
from klingflow.storyboard import lock as locks
from klingflow.storyboard.lock import Pick
from tests.choosing_helpers import BOARD, clip, finished, lock_path, read, relock
from tests.cli import Project
from tests.standins import movie
from tests.test_answers import good


@pytest.fixture
def board(tmp_path: Path) -> Storyboard:
    return finished(tmp_path)


def text(storyboard: Storyboard) -> str:
    return Path(storyboard.path).read_bytes().decode()


def refused(storyboard: Storyboard, shot: str, take: int, **rest: Any) -> str:
    before = text(storyboard), lock_path(storyboard).read_bytes()
    with pytest.raises(UsageError) as bad:
        storyboard.choose(shot, take, **rest)
    assert (text(storyboard), lock_path(storyboard).read_bytes()) == before, "nothing is written"
    return f"{bad.value.what}; {bad.value.mend}"


def test_a_choice_adds_one_line_to_the_storyboard_and_a_pick_to_the_lock(board: Storyboard) -> None:
    before = read(board)
    chosen = board.choose("dawn", 3, why="the boat turns ")
    assert text(board) == BOARD.replace(
        "    takes: 3          # to choose from\n", "    takes: 3          # to choose from\n    take: 3\n"
    )
    pick = Pick(take=3, clip=clip(board, "dawn", 3), by=chosen.by, why="the boat turns", date=chosen.date)
    assert read(board) == locks.with_pick(before, "", "dawn", pick)
    assert (chosen.edited, chosen.file) == (True, "film.yaml")


def test_what_it_makes_stale_and_costs_is_known_before(board: Storyboard) -> None:
    found = board.consider("dawn", 3)
    assert [(one.shot, one.take) for one in found.stale] == [("keeper", 1), ("stairs", 1)]
    assert found.stale[1].reason == "continues keeper, which will be made"
    prices = [step.price for step in board.plan().plan.films[0].steps]
    assert set(prices) == {Decimal(0)}
    one = found.stale[0].price
    assert one is not None
    assert one > 0
    assert (found.spend, found.run) == (2 * one, 2 * one)
    assert text(board) == BOARD, "considering writes nothing"
    chosen = board.choose("dawn", 3)
    assert chosen.consequences == found
    assert [(one.shot, one.price) for one in board.consider("dawn", 1).spared] == [("keeper", one), ("stairs", one)]
    assert board.consider("dawn", 1).run == 0
    relock(board)
    assert board.consider("storm", 1).stale == ()


def test_who_chooses_is_whom_git_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = finished(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    assert board.choose("dawn", 2).by == "ada"
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "config", "user.name", "Ada \u202e Lovelace"], check=True)
    assert board.choose("dawn", 3).by == "Ada \\u202e Lovelace"


def test_a_take_that_counts_already_is_picked_without_a_change_of_the_storyboard(board: Storyboard) -> None:
    chosen = board.choose("dawn", 1, why="calm")
    assert not chosen.edited
    assert text(board) == BOARD
    assert board.choices()[0].picked
    again = board.choose("dawn", 1)
    assert read(board).pick("", "dawn") == Pick(
        take=1, clip=clip(board, "dawn", 1), by=again.by, why="calm", date=again.date
    ), "the note stays"


def test_an_old_value_is_replaced_where_it_stands(tmp_path: Path) -> None:
    flow = BOARD.replace("takes: 3 ", "takes: 3\r\n    take: 2 # so far").replace("\n", "\r\n").replace("\r\r", "\r")
    board = finished(tmp_path, "\ufeff" + flow.rstrip("\r\n"))
    board.choose("dawn", 3)
    assert text(board) == "\ufeff" + flow.rstrip("\r\n").replace("take: 2 #", "take: 3 #")


def test_a_shot_of_an_included_file_is_changed_there(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "klingflow.yaml").write_text("limits: {spend: 100}\n", "utf-8")
    city = "shots:\n  - {id: a, prompt: x}\n  - {id: b, prompt: y, takes: 2}\n"
    (tmp_path / "parts" / "city.yaml").write_text(city, "utf-8")
    (tmp_path / "parts" / "cast.yaml").write_text("cast: {}\n", "utf-8")
    own = "klingflow: 1\ninclude: [cast.yaml, city.yaml]\nshots:\n  - {id: c, continues: b, prompt: z, takes: 2}\n"
    board = finished(tmp_path, own, "parts/film.yaml")
    assert board.choose("b", 2).file == "parts/city.yaml"
    assert (tmp_path / "parts" / "city.yaml").read_text("utf-8") == (
        "shots:\n  - {id: a, prompt: x}\n  - {id: b, prompt: y, takes: 2, take: 2}\n"
    )
    assert text(board) == own
    relock(board)
    assert board.choose("c", 2).file == "parts/film.yaml"
    assert text(board) == own.replace("takes: 2}", "takes: 2, take: 2}")


MATRIX = """\
klingflow: 1
matrix: {lang: [en, de]}
defaults: {provider: mulerouter}
shots:
  - {id: dawn, prompt: "in {{ lang }}", takes: 2}
  - {id: noon, continues: dawn, prompt: x}
"""


def test_a_take_counts_in_every_film_of_a_matrix(tmp_path: Path) -> None:
    board = finished(tmp_path, MATRIX)
    found = board.consider("dawn", 2)
    assert [(one.variant, one.shot) for one in found.stale] == [("en", "noon"), ("de", "noon")]
    board.choose("dawn", 2)
    for variant in ("en", "de"):
        pick = read(board).pick(variant, "dawn")
        assert pick is not None
        assert pick.clip == clip(board, "dawn", 2, variant)
    assert all(choice.picked for choice in board.choices() if choice.shot == "dawn")


def test_a_take_that_one_film_of_a_matrix_lacks_is_refused(tmp_path: Path) -> None:
    board = finished(tmp_path, MATRIX)
    lock = read(board)
    films = {"en": lock.films["en"], "de": {"dawn": {1: lock.films["de"]["dawn"][1]}}}  # type: ignore[index]
    lock_path(board).write_text(locks.dump(locks.Lock(films)), "utf-8")  # type: ignore[arg-type]
    assert refused(board, "dawn", 2) == (
        "take 2 of 'dawn' is there for en, and not for de: `take` is one number for all films of the matrix; "
        "make it for all of them first: `takes: 2` for the shot, and klingflow run"
    )


def test_what_is_not_there_is_refused_with_what_is(board: Storyboard) -> None:
    assert refused(board, "dawn", 4) == "shot 'dawn' has no take 4; there are takes 1, 2 and 3"
    assert refused(board, "storm", 2) == "shot 'storm' has no take 2; there is take 1 alone"
    assert refused(board, "down", 2) == "there is no shot 'down'; did you mean 'dawn'?"
    assert refused(board, "x", 2) == "there is no shot 'x'; the shots are dawn, keeper, stairs, storm"
    assert refused(board, "dawn", 2, why="x" * 2001) == "the note has 2001 characters; write at most 2000"


def test_a_take_beyond_those_asked_for_is_refused(tmp_path: Path) -> None:
    board = finished(tmp_path)
    Path(board.path).write_text(BOARD.replace("takes: 3", "takes: 2"), "utf-8")
    said = refused(board, "dawn", 3)
    assert said == (
        "take 3 of 'dawn' is there, but `takes: 2` asks for takes 1 to 2 alone; raise takes to 3, or remove it"
    )
    Path(board.path).write_text(BOARD.replace("    takes: 3          # to choose from\n", ""), "utf-8")
    board.choose("dawn", 3)
    assert klingflow.open(board.path, environ={}).films()[0].shots[0].take == 3


def test_a_storyboard_that_changed_meanwhile_is_read_again(board: Storyboard, monkeypatch: pytest.MonkeyPatch) -> None:
    real = choosing.consider
    calls = []

    def slow(*given: Any) -> Any:
        found = real(*given)
        calls.append(found.state)
        if len(calls) == 1:
            Path(board.path).write_text(text(board).replace("Dark clouds", "Lightning"), "utf-8")
        if len(calls) == 2:
            relock(board)  # another run writes the lock
        return found

    monkeypatch.setattr(choosing, "consider", slow)
    board.choose("dawn", 3)
    assert len(set(calls)) == 3
    assert "Lightning" in text(board)
    assert "take: 3\n" in text(board)


def test_a_choice_can_be_bound_to_what_was_shown(board: Storyboard) -> None:
    seen = board.consider("dawn", 3)
    board.choose("storm", 1)
    said = refused(board, "dawn", 3, state=seen.state)
    assert said.startswith("the storyboard, a still or the lock changed meanwhile; look at what it costs now")
    board.choose("dawn", 3, state=board.consider("dawn", 3).state)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_choice_that_is_torn_apart_changes_nothing_that_counts(
    board: Storyboard, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The lock is written, and the storyboard is not: as a full disk or a crash between the two would have it."""
    before = lock_path(board).read_bytes()
    real = durable.replace

    def torn(path: Path, data: bytes, **rest: Any) -> None:
        if path.name == "film.yaml":
            raise error
        real(path, data, **rest)

    monkeypatch.setattr(durable, "replace", torn)
    plan = board.plan().json()
    if isinstance(error, OSError):
        assert refused(board, "dawn", 3) == "film.yaml cannot be written: No space left on device; nothing was chosen"
        assert lock_path(board).read_bytes() == before
    else:
        with pytest.raises(KeyboardInterrupt):
            board.choose("dawn", 3)
        assert not board.choices()[0].picked, "a pick of a take that the storyboard does not name counts nowhere"
        assert board.plan().totals.spend == 0
    assert text(board) == BOARD
    assert board.plan().plan.films[0].steps == klingflow.open(board.path, environ={}).plan().plan.films[0].steps
    assert plan
    monkeypatch.setattr(durable, "replace", real)
    board.choose("dawn", 3)
    assert board.choices()[0].picked


def test_the_storyboard_keeps_its_mode_and_a_link_or_a_read_only_file_is_left_alone(
    board: Storyboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(board.path)
    file.chmod(0o664)
    board.choose("dawn", 2)
    assert file.stat().st_mode & 0o777 == 0o664
    with monkeypatch.context() as patch:  # root may write to any file
        patch.setattr(os, "access", lambda *_: False)
        assert refused(board, "dawn", 3).startswith("film.yaml is read-only")
    (tmp_path / "real").mkdir()
    file.rename(tmp_path / "real" / "other.yaml")
    file.symlink_to(tmp_path / "real" / "other.yaml")
    with pytest.raises(KlingflowError, match="is a link"):
        board.choose("dawn", 3)
    assert not file.with_name("real").joinpath("other.lock.yaml").exists()


def test_a_renamed_storyboard_keeps_its_picks(board: Storyboard, tmp_path: Path) -> None:
    board.choose("dawn", 1)
    Path(board.path).rename(tmp_path / "lamp.yaml")
    moved = klingflow.open(tmp_path / "lamp.yaml", environ={})
    with pytest.raises(UsageError, match="was renamed"):
        moved.choose("dawn", 1)
    assert not (tmp_path / "lamp.lock.yaml").exists()


def test_candidates_are_what_the_lock_names_with_their_facts(board: Storyboard) -> None:
    dawn, *others = board.choices()
    assert [choice.name for choice in others] == ["keeper", "stairs", "storm"]
    assert [(one.take, one.clip, one.stale, one.here) for one in dawn.candidates] == [
        (take, clip(board, "dawn", take), False, False) for take in (1, 2, 3)
    ]
    assert (dawn.title, dawn.take, dawn.picked, dawn.unmade) == ("", 1, False, ())
    Path(board.path).write_text(BOARD.replace("a boat", "two boats").replace("takes: 3", "takes: 4"), "utf-8")
    dawn = board.choices()[0]
    assert [one.stale for one in dawn.candidates] == [True, True, True]
    assert [(one.take, one.under_way) for one in dawn.unmade] == [(4, False)]
    assert board.consider("dawn", 2).take == 2


STILLS = """\
klingflow: 1
defaults: {provider: mulerouter, duration: 4}
shots:
  - id: dawn
    prompt: Waves
    first_frame: {stills: [frames/a.png, frames/b.png]}  # which one?
  - id: keeper
    continues: dawn
    prompt: A door
    last_frame:
      stills:
        - frames/a.png   # the lamp
        - frames/c.png
      take: 2
  - {id: lamp, first_frame: {still: keeper}, prompt: x}
"""


@pytest.fixture
def stills(tmp_path: Path) -> Storyboard:
    (tmp_path / "frames").mkdir()
    for number, name in enumerate("abc"):
        (tmp_path / "frames" / f"{name}.png").write_bytes(movie.still(number))
    return finished(tmp_path, STILLS)


def test_a_still_is_chosen_in_the_mapping_that_proposes_it(stills: Storyboard, tmp_path: Path) -> None:
    names = [(choice.name, choice.take, len(choice.candidates)) for choice in stills.choices()]
    assert names == [
        ("dawn.first_frame", None, 2), ("dawn", 1, 0), ("keeper.last_frame", 2, 2), ("keeper", 1, 0), ("lamp", 1, 1)
    ]  # fmt: skip
    found = stills.consider("dawn.first_frame", 2)
    assert [(one.shot, one.waits) for one in found.stale] == [("dawn", False), ("keeper", False)]
    assert found.was is None
    assert found.spend == found.run
    chosen = stills.choose("dawn.first_frame", 2, why="clear sky")
    assert text(stills) == STILLS.replace("b.png]}", "b.png], take: 2}")
    digest = of_bytes((tmp_path / "frames" / "b.png").read_bytes())
    pick = Pick(take=2, clip=digest, by=chosen.by, why="clear sky", date=chosen.date)
    assert read(stills).pick("", "dawn.first_frame") == pick
    assert stills.choices()[0].picked
    relock(stills)
    stills.choose("keeper.last_frame", 1)
    assert text(stills) == STILLS.replace("b.png]}", "b.png], take: 2}").replace("take: 2\n", "take: 1\n")
    assert [one.shot for one in stills.consider("keeper.last_frame", 2).spared] == ["keeper", "lamp"]


def test_a_still_that_was_exchanged_since_it_was_seen_is_not_chosen(stills: Storyboard, tmp_path: Path) -> None:
    seen = stills.consider("dawn.first_frame", 2)
    (tmp_path / "frames" / "b.png").write_bytes(movie.still(7))
    assert "a still or the lock changed meanwhile" in refused(stills, "dawn.first_frame", 2, state=seen.state)


def test_a_still_that_is_not_proposed_is_refused(stills: Storyboard) -> None:
    assert refused(stills, "dawn.first_frame", 3) == "first_frame of 'dawn' has no still 3; there are 2: choose 1 to 2"
    assert refused(stills, "dawn.last_frame", 1) == (
        "shot 'dawn' has no stills to choose from for 'last_frame'; stills are proposed for dawn.first_frame"
    )
    assert refused(stills, "lamp.first_frame", 1) == (
        "shot 'lamp' has no stills to choose from for 'first_frame'; it proposes none: `stills: [a.png, b.png]`"
    )
    assert refused(stills, "dawn", 1) == "shot 'dawn' has no take yet; klingflow run film.yaml makes them"


def test_the_file_of_a_candidate_is_found_by_its_digest(stills: Storyboard, tmp_path: Path) -> None:
    still = tmp_path / "frames" / "b.png"
    digest = of_bytes(still.read_bytes())
    assert stills.candidate_file(digest) == still
    with pytest.raises(UsageError, match="no take has the clip"):
        stills.candidate_file(of_bytes((tmp_path / "film.yaml").read_bytes()))
    still.write_bytes(movie.still(7))
    with pytest.raises(UsageError, match="no take has the clip"):
        stills.candidate_file(digest)


def test_the_list_shows_stills_and_which_one_counts(stills: Storyboard, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["takes", str(stills.path)]) == 0
    assert capsys.readouterr().out.endswith(
        "\n"
        "dawn.first_frame: no still is chosen; --set dawn.first_frame=N chooses, and what\n"
        "  needs it is not bought before\n"
        "    1 frames/a.png\n"
        "    2 frames/b.png\n"
        "\n"
        "keeper.last_frame: still 2 counts\n"
        "    1 frames/a.png\n"
        "  * 2 frames/c.png\n"
    )
    assert app.main(["takes", str(stills.path), "--json"]) == 0
    assert [one["take"] for one in good("takes", capsys.readouterr().out)["stills"]] == [None, 2]
    assert app.main(["takes", str(stills.path), "--set", "dawn.first_frame=1"]) == 0
    assert capsys.readouterr().out.startswith("dawn.first_frame: still 1 counts now: written into film.yaml; ")


def test_what_a_choice_leaves_behind_a_gate_is_said_to_wait(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    board = finished(tmp_path, BOARD)
    Path(board.path).write_text(BOARD.replace("    takes: 3 ", "    gate: approved\n    takes: 3 "), "utf-8")
    dawn = board.choices()[0]
    assert dawn.gate is not None
    assert dawn.gate.startswith("pick a take")
    found = board.consider("dawn", 2)
    assert [(one.shot, one.waits) for one in found.stale] == [("keeper", True), ("stairs", True)]
    assert "take 2 is picked" in found.stale[0].reason, "it says what is still to be done then"
    assert (found.run, found.spend) == (0, sum(one.price or 0 for one in found.stale))
    assert found.spend


ANIMATIC = """\
klingflow: 1
defaults: {duration: 3, resolution: 720p}
shots:
  - {id: dawn, prompt: Waves, takes: 2}
  - {id: keeper, continues: dawn, prompt: A door}
"""


def test_the_command_chooses_and_says_what_follows(project: Project) -> None:
    project.write("film.yaml", ANIMATIC)
    assert project.run("run", "-q").code == 0
    done = project.run("takes", "--set", "dawn=2", "--why", "the boat turns")
    assert (done.code, done.err) == (0, "")
    first, _, rest = done.out.partition("\n\n")
    assert " ".join(first.split()).startswith(
        "dawn: take 2 counts now, and not take 1: written into film.yaml; the lock says that "
    )
    assert rest == (
        "to be made because of it:\n"
        "  keeper: dawn has a new clip, free\n"
        "klingflow run film.yaml would spend nothing in all\n"
    )
    assert (project.root / "film.yaml").read_text("utf-8") == ANIMATIC.replace("takes: 2", "takes: 2, take: 2")
    back = good("takes-set", project.run("takes", "--set", "dawn=1", "--json").out)["chosen"]
    assert ([one["shot"] for one in back["spared"]], back["stale"]) == (["keeper"], [])
    again = good("takes-set", project.run("takes", "--set", "dawn=2", "--why", "it turns", "--json").out)["chosen"]
    assert ([one["shot"] for one in again["stale"]], again["spend"]) == (["keeper"], 0)
    assert project.run("run", "-q").code == 0
    assert 'why: "it turns"' in (project.root / "film.lock.yaml").read_text("utf-8"), "a run keeps the pick"
    (project.root / "film.lock.yaml").unlink()  # as while the first run goes on: the clips are in the store alone
    board = klingflow.open(project.root / "film.yaml", environ={})
    assert [[one.take for one in choice.candidates] for choice in board.choices()] == [[1, 2], [1]]
    assert project.run("takes", "--set", "dawn=1", "--why", "calm").code == 0
    assert project.run("run", "-q").code == 0
    lock = read(board)
    assert lock.entry("", ShotId("dawn"), 2) is not None
    assert board.choices()[0].picked
    assert project.run("takes", "--set", "dawn=9").said == (
        "shot 'dawn' has no take 9\nmend: there are takes 1 and 2\n"
    )


MEND = "mend: write SHOT=N: dawn=3; or SHOT.FRAME=N: dawn.first_frame=2\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "dawn"], f"--set 'dawn' is no choice\n{MEND}"),
        (["--set", "dawn=two"], f"--set 'dawn=two' is no choice\n{MEND}"),
        (["--set", "dawn=-1"], f"--set 'dawn=-1' is no choice\n{MEND}"),
        (["--why", "x"], "--why says why a take is chosen\nmend: name it with --set SHOT=N\n"),
        (
            ["--set", "a=1", "--set", "b=1"],
            "--set is here more than once\nmend: choose one take at a time: each may make others stale\n",
        ),
    ],
)
def test_what_is_no_choice_is_told(
    board: Storyboard, words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["takes", str(board.path), *words]) == 2
    assert capsys.readouterr().err == said
    assert asdict(board.consider("dawn", 1))["stale"] == ()
