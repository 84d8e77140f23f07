"""The notes of paid tasks: what one run writes the next one finds, whatever becomes of the file meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from klingflow.core.model import Key, ShotId, TaskId
from klingflow.io.task_notes import TaskFile, TaskNote

NOTE = TaskNote(
    key=Key("51ab"),
    attempt=1,
    provider="hiapi",
    task=TaskId("tk-1"),
    film="film",
    shot=ShotId("dawn"),
    take=1,
    at_ms=1_764_000_000_000,
    account={"base": "https://api.example", "salt": "00", "digest": "11"},
)
OTHER = replace(NOTE, key=Key("62bc"), task=TaskId("tk-2"), shot=ShotId("noon"))


def notes(path: Path, trusted: Callable[[], bool] = lambda: True) -> TaskFile:
    return TaskFile(path, trusted=trusted)


def written(path: Path, *each: TaskNote) -> None:
    for note in each:
        notes(path).add(note)


def test_what_one_run_wrote_the_next_one_finds(tmp_path: Path) -> None:
    path = tmp_path / "new/film.tasks.jsonl"
    written(path, NOTE, OTHER)
    found = notes(path)
    assert (found.find(NOTE.key), found.find(OTHER.key), found.find(Key("73cd"))) == (NOTE, OTHER, None)


def test_the_newest_task_of_a_key_counts(tmp_path: Path) -> None:
    path = tmp_path / "film.tasks.jsonl"
    newer = replace(NOTE, attempt=2, task=TaskId("tk-3"))
    written(path, NOTE, newer)
    assert notes(path).find(NOTE.key) == newer


def test_a_run_finds_its_own_notes_also_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = notes(tmp_path / "file/film.tasks.jsonl")
    found.add(NOTE)
    assert found.find(NOTE.key) == NOTE
    found.drop(lambda key: True)


def test_notes_that_came_with_the_project_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "film.tasks.jsonl"
    written(path, NOTE)
    assert notes(path, lambda: False).find(NOTE.key) is None


def test_where_there_are_no_notes_nobody_looks_where_they_came_from(tmp_path: Path) -> None:
    def asked() -> bool:
        raise AssertionError("git was started for nothing")

    assert notes(tmp_path / "film.tasks.jsonl", asked).find(NOTE.key) is None


@pytest.mark.parametrize(
    "line",
    [
        b'{"key": "12ab',
        b"\xff\xfe",
        b"null",
        b"[1]",
        b"{}",
        b"[" * 100_000,
        json.dumps({**asdict(NOTE), "task": ["tk-1"]}).encode(),
        json.dumps({**asdict(NOTE), "key": {}}).encode(),
        json.dumps({**asdict(NOTE), "at_ms": "now"}).encode(),
    ],
)
def test_a_line_that_is_no_note_is_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "film.tasks.jsonl"
    written(path, OTHER)
    with path.open("ab") as file:
        file.write(line + b"\n")
    found = notes(path)
    assert (found.find(NOTE.key), found.find(OTHER.key)) == (None, OTHER)


def test_a_note_after_a_line_that_was_cut_short_is_found(tmp_path: Path) -> None:
    path = tmp_path / "film.tasks.jsonl"
    written(path, OTHER)
    with path.open("ab") as file:
        file.write(b'{"key": "12ab')
    written(path, NOTE)
    assert notes(path).find(NOTE.key) == NOTE


def test_dropped_notes_are_gone_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "film.tasks.jsonl"
    written(path, NOTE, OTHER)
    notes(path).drop(lambda key: key == NOTE.key)
    found = notes(path)
    assert (found.find(NOTE.key), found.find(OTHER.key)) == (None, OTHER)
    notes(path).drop(lambda key: True)
    assert not path.exists()


def test_notes_that_are_added_while_another_run_drops_its_own_stay(tmp_path: Path) -> None:
    path = tmp_path / "film.tasks.jsonl"
    kept = [replace(NOTE, key=Key(f"kept{n}")) for n in range(200)]
    adding = threading.Thread(target=written, args=(path, *kept))
    adding.start()
    while adding.is_alive():
        written(path, OTHER)
        notes(path).drop(lambda key: key == OTHER.key)
    adding.join()
    found = notes(path)
    assert [note for note in kept if found.find(note.key) is None] == []


def test_a_link_under_the_name_is_neither_read_nor_written(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "film.tasks.jsonl", tmp_path / "elsewhere"
    written(elsewhere, OTHER)
    before = elsewhere.read_bytes()
    path.symlink_to(elsewhere)
    assert notes(path).find(OTHER.key) is None
    written(path, NOTE)
    notes(path).drop(lambda key: True)
    assert elsewhere.read_bytes() == before
