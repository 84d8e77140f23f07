"""Locks and storyboards of branches that met: conflict markers, the merge driver."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

import klingflow
from klingflow.app import lock_file
from klingflow.app.project_loader import LoadedStoryboard, StoryboardFile
from klingflow.core.errors import StoryboardError, UsageError
from klingflow.core.model import Digest, Key, ShotId
from klingflow.io.project import Project
from klingflow.storyboard import conflicts, lock, yamlread
from klingflow.storyboard.lock import Entry, Lock, Pick, merged, met
from tests.storyboards import faults, film
from tests.test_action import git
from tests.test_lock import entry, reread

A, B = ShotId("a"), ShotId("b")
K1, K2, K3 = (entry(seed, clip=Digest(seed * 64), cost=Decimal("0.56")) for seed in "123")


def one(shot: ShotId, kept: Entry, take: int = 1, variant: str = "") -> Lock:
    return Lock({variant: {shot: {take: kept}}})


def both(*kept: Entry) -> dict[ShotId, dict[Key, Entry]]:
    return {A: {each.key: each for each in kept}}


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "result"),
    [
        (one(A, K1), one(A, K1), one(A, K1), one(A, K1)),
        (one(A, K1), one(A, K2), one(A, K1), one(A, K2)),
        (one(A, K1), one(A, K1), one(A, K2), one(A, K2)),
        (one(A, K1), one(A, K2), one(A, K2), one(A, K2)),
        (one(A, K1), one(A, K2), one(A, K3), Lock({"": {A: {1: K2}}}, both(K2, K3))),
        (Lock(), one(A, K2), one(A, K3), Lock({"": {A: {1: K2}}}, both(K2, K3))),
        (Lock(), one(A, K1), one(B, K2), Lock({"": {A: {1: K1}, B: {1: K2}}})),
        (one(A, K1), Lock(), one(A, K1), Lock()),
        (one(A, K1), one(A, K1), Lock(), Lock()),
        (one(A, K1), Lock(), one(A, K2), one(A, K2)),
        (one(A, K1), one(A, K2), Lock(), one(A, K2)),
        (one(A, K1), one(B, K1), one(A, K1), one(B, K1)),
        (Lock(), one(A, K1), one(A, K2, take=2), Lock({"": {A: {1: K1, 2: K2}}})),
        (Lock(), one(A, K1, variant="en"), one(A, K2, variant="de"), Lock({"en": {A: {1: K1}}, "de": {A: {1: K2}}})),
        (Lock(), one(A, K1), one(A, replace(K1, date="2026-11-22")), one(A, K1)),
        (Lock(), one(A, replace(K1, task=None, parts={})), one(A, replace(K1, inputs={})), one(A, K1)),
        (Lock(), Lock({}, both(K1)), Lock({}, both(K2)), Lock({}, both(K1, K2))),
    ],
)
def test_what_one_branch_changed_is_taken_and_nothing_is_lost(
    base: Lock, ours: Lock, theirs: Lock, result: Lock
) -> None:
    assert met(base, ours, theirs) == result
    assert reread(lock.dump(result)) == result


def test_two_clips_of_one_key_are_both_kept() -> None:
    other = replace(K1, clip=Digest("9" * 64))
    lock = met(Lock(), one(A, K1), one(A, other))
    assert (lock.entry("", A, 1), lock.spare) == (K1, {A: {K1.key: other}})


def test_a_spare_entry_answers_by_its_key_and_stays_while_its_shot_lives() -> None:
    start = met(Lock(), one(A, K2), one(A, K3))
    assert start.conflicts == 1
    assert start.find(K3.key) == K3
    assert {key for key, _ in start.tasks().values()} <= {K2.key, K3.key}
    board = film("klingflow: 1\nshots: [{id: a, prompt: x}]")
    chosen = merged(start, start=start, films=[board], made={("", A, 1): K3})
    assert (chosen.entry("", A, 1), chosen.spare) == (K3, both(K2, K3))
    made_anew = merged(chosen, start=chosen, films=[board], made={("", A, 1): K1})
    assert made_anew.spare == both(K2, K3), "a third clip loses none of the two"
    other = film("klingflow: 1\nshots: [{id: b, prompt: x}]")
    assert merged(start, start=start, films=[other], made={}) == Lock()


MINE, HERS = lock.dump(Lock({"": {A: {1: K2}, B: {1: K1}}})), lock.dump(Lock({"": {A: {1: K3}, B: {1: K1}}}))


def conflicted(style: str = "") -> str:
    """As git writes it: only the lines that differ stand in conflicts."""
    out = []
    for mine, hers in zip(MINE.split("\n"), HERS.split("\n"), strict=True):
        base = "||||||| 1a2b3c4\n<<<<<<<<< nested\nold\n" if style == "diff3" else ""
        out.append(mine if mine == hers else f"<<<<<<< HEAD\n{mine}\n{base}=======\n{hers}\n>>>>>>> her-branch")
    return "\n".join(out)


@pytest.mark.parametrize("text", [conflicted(), conflicted("diff3"), conflicted().replace("\n", "\r\n")])
def test_a_lock_with_conflict_markers_is_both_locks(text: str, tmp_path: Path) -> None:
    (tmp_path / "film.lock.yaml").write_bytes(text.encode())
    lock = lock_file.read_lock(Project(tmp_path), "film.lock.yaml", "film.lock.yaml")
    assert lock == Lock({"": {A: {1: K2}, B: {1: K1}}}, both(K2, K3))
    assert lock.conflicts == 1


def parted(folder: Path, old: Entry, mine: Entry, hers: Entry) -> tuple[LoadedStoryboard, Path]:
    """A repository in the middle of a merge that git could not finish, its storyboard, and its lock."""
    git(folder, "init", "-q", "-b", "main")
    (folder / "film.yaml").write_text("klingflow: 1\nshots: [{id: a, prompt: x}]\n", "utf-8")
    path = folder / "film.lock.yaml"
    for branch, start, kept in (("main", "", old), ("hers", "main", hers), ("mine", "main", mine)):
        if start:
            git(folder, "checkout", "-q", "-b", branch, start)
        path.write_text(lock.dump(one(A, kept)), "utf-8")
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", branch)
    with pytest.raises(subprocess.CalledProcessError):
        git(folder, "-c", "merge.klingflow.driver=/nowhere/klingflow %O", "merge", "-q", "hers")
    return StoryboardFile(path=str(folder / "film.yaml")).load(), path


def test_while_git_has_both_versions_no_entry_is_mixed_from_two(tmp_path: Path) -> None:
    """`size` is changed on one side alone, away from other changes: git takes it for both sides."""
    mine = replace(K2, bytes=2, size="1920x1080")
    hers = replace(K3, bytes=3, size="1280x720")
    loaded, path = parted(tmp_path, replace(K1, bytes=1, size="1280x720"), mine, hers)
    assert path.read_text("utf-8").count("size:") == 1, "the case that this is about"
    assert lock_file.open_lock(loaded) == Lock({"": {A: {1: mine}}}, both(mine, hers))
    git(tmp_path, "add", "-A")  # git has forgotten the versions: the text is all there is
    assert lock_file.open_lock(loaded).spare[A].keys() == {K2.key, K3.key}


def test_a_merge_driver_that_is_not_there_loses_no_side(tmp_path: Path) -> None:
    (tmp_path / ".gitattributes").write_text("*.lock.yaml merge=klingflow\n", "utf-8")
    loaded, path = parted(tmp_path, K1, K2, K3)
    assert path.read_text("utf-8") == lock.dump(one(A, K2)), "git leaves one side, without a marker"
    opened = lock_file.open_lock(loaded)
    assert (opened, opened.conflicts) == (Lock({"": {A: {1: K2}}}, both(K2, K3)), 1)
    path.write_text(lock.dump(one(A, K1)), "utf-8")  # as a run, or a person, wrote it since
    assert lock_file.open_lock(loaded) == one(A, K1)


def test_a_side_that_is_no_lock_is_told_at_its_own_line(tmp_path: Path) -> None:
    text = MINE + "<<<<<<< HEAD\n=======\nwhat: is this\n>>>>>>> b\n"
    (tmp_path / "film.lock.yaml").write_text(text, "utf-8")
    with pytest.raises(StoryboardError) as caught:
        lock_file.read_lock(Project(tmp_path), "film.lock.yaml", "film.lock.yaml")
    (problem,) = caught.value.problems
    assert str(problem.span) == f"film.lock.yaml:{text[: text.index('what')].count(chr(10)) + 1}:1"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> x\n", [(2, 6)]),
        ("<<<<<<< HEAD\n=======\n>>>>>>> x\na: 1\n<<<<<<< HEAD\n||||||| b\n=======\n>>>>>>> y", [(1, 3), (5, 8)]),
        ("a: 1\n<<<<<<< HEAD\nb: 2\n", [(2, 2)]),
        ("a: 1\n>>>>>>> x\n", [(2, 2)]),
        ("a: |\n  <<<<<<< HEAD\n  =======\n  >>>>>>> x\n", []),
        ("# =======\na: <<<<<<< b\n", []),
        ("<<<<<<<< eight\n", []),
    ],
)
def test_conflicts_are_found_at_the_beginning_of_a_line(text: str, places: list[tuple[int, int]]) -> None:
    assert conflicts.found(text) == places
    if not places:
        return
    with pytest.raises(StoryboardError) as caught:
        yamlread.read("film.yaml", text)
    assert [(p.rule, p.span.line if p.span else 0) for p in caught.value.problems] == [
        ("conflict-markers", first) for first, _ in places
    ]
    assert "<<<<<<<" in caught.value.problems[0].mend


def test_a_marker_that_was_left_behind_is_named() -> None:
    with pytest.raises(StoryboardError) as caught:
        yamlread.read("film.yaml", "a: 1\n=======\nb: 2\n")
    (problem,) = caught.value.problems
    assert (problem.rule, str(problem.span)) == ("conflict-markers", "film.yaml:2:1")


@pytest.mark.parametrize("field", ["prompt_file: p.txt", 'prompt: "{% include \'p.txt\' %}"'])
def test_a_prompt_with_conflict_markers_is_never_bought(field: str) -> None:
    text = f"klingflow: 1\nshots: [{{id: a, {field}}}]"
    (fault,) = faults(text, {"p.txt": "waves\n<<<<<<< HEAD\nred\n=======\nblue\n>>>>>>> b\n"})
    assert "'p.txt', line 2: git's conflict marker" in fault
    assert film(text, {"p.txt": "a rule\n=======\n"}).shots[0].prompt == "a rule\n======="


# -- the driver


def driven(folder: Path, base: str, ours: str, theirs: str) -> tuple[str, str]:
    for name, text in (("base", base), ("ours", ours), ("theirs", theirs)):
        (folder / name).write_text(text, "utf-8")
    said = klingflow.merge_locks(folder / "base", folder / "ours", folder / "theirs", "film.lock.yaml")
    return said, (folder / "ours").read_text("utf-8")


def test_the_driver_writes_the_merged_lock(tmp_path: Path) -> None:
    said, text = driven(tmp_path, lock.dump(one(A, K1)), MINE, HERS)
    assert said == "film.lock.yaml: both branches made 1 take anew; both clips stay, and the next run chooses"
    assert reread(text) == Lock({"": {A: {1: K2}, B: {1: K1}}}, both(K2, K3))
    assert driven(tmp_path, "", MINE, MINE) == ("", MINE)
    assert reread(driven(tmp_path, "", conflicted(), MINE)[1]).spare == both(K2, K3), "a lock that met before, too"


def test_the_driver_never_leaves_one_side_alone_for_the_merged_lock(tmp_path: Path) -> None:
    with pytest.raises(StoryboardError):
        driven(tmp_path, "", MINE, "klingflow_lock: 99\n")
    text = (tmp_path / "ours").read_text("utf-8")
    assert conflicts.sides(text)[0].strip() == MINE.strip()
    assert conflicts.sides(text)[1].strip() == "klingflow_lock: 99"
    with pytest.raises(UsageError):
        klingflow.merge_locks(tmp_path / "base", tmp_path / "ours", tmp_path / "gone", "film.lock.yaml")


def picked(take: int, clip: str = "", *, by: str = "Ada", date: str = "2026-11-27") -> Lock:
    pick = Pick(take=take, clip=Digest((clip or str(take)) * 64), by=by, date=date)
    return Lock(picks={"en": {"a": pick}})


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "result"),
    [
        (Lock(), picked(2), Lock(), picked(2)),
        (Lock(), Lock(), picked(2), picked(2)),
        (picked(1), picked(2), picked(1), picked(2)),
        (picked(1), picked(1), picked(3), picked(3)),
        (picked(1), Lock(), picked(1), Lock()),
        (picked(1), Lock(), picked(3), picked(3)),
        (picked(1), picked(3), Lock(), picked(3)),
        (picked(1), picked(2, by="Bea"), picked(2, by="Ada", date="2026-11-28"), picked(2, by="Bea")),
        (picked(1), picked(2, by="Ada", date="2026-11-28"), picked(2, by="Bea"), picked(2, by="Bea")),
    ],
)
def test_a_pick_of_one_branch_is_taken(base: Lock, ours: Lock, theirs: Lock, result: Lock) -> None:
    made = met(base, ours, theirs)
    assert made == result
    assert made.disputed == ()


@pytest.mark.parametrize("theirs", [picked(3), picked(2, "9")])
def test_where_branches_picked_differently_neither_pick_counts(theirs: Lock, tmp_path: Path) -> None:
    made = met(picked(1), picked(2), theirs)
    assert made.pick("en", "a") is None
    assert made.disputed == ("a [en]",)
    for name, side in (("base", picked(1)), ("ours", picked(2)), ("theirs", theirs)):
        (tmp_path / name).write_text(lock.dump(side), "utf-8")
    said = klingflow.merge_locks(tmp_path / "base", tmp_path / "ours", tmp_path / "theirs", "film.lock.yaml")
    assert said == (
        "film.lock.yaml: the branches picked differently for a [en]: neither pick stays; "
        "pick again with `klingflow takes --set`"
    )
    assert (tmp_path / "ours").read_text("utf-8") == lock.dump(Lock())
