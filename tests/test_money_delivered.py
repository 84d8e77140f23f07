"""A clip that was paid for and is not as ordered: kept, told, and taken or turned down by a person."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import clips
from tests.cli import Project
from tests.money_helpers import (
    ONE,
    PAIR,
    actions,
    blob_file,
    kinds,
    lock_text,
    locked,
    prompts,
    records,
    sha256,
    words,
)
from tests.standins import Outcome, movie, wrong_length

LONG = movie.clip(900, 5)
"""5 s where 3 s are ordered."""


def _hlg(path: Path) -> bytes:
    return clips.make(path, frames=73, size=(640, 360), transfer=18, matrix=9).read_bytes()


def _mpeg2(path: Path) -> bytes:
    return clips.make(path, frames=73, size=(640, 360), codec="mpeg2video").read_bytes()


def _a_third_of_a_second_short(path: Path) -> bytes:
    return clips.make(path, frames=64, size=(640, 360)).read_bytes()


ODD: dict[str, Callable[[Path], bytes]] = {
    "too long": lambda path: LONG,
    "too short": _a_third_of_a_second_short,
    "HLG": _hlg,
    "mpeg2": _mpeg2,
}


def delivered(project: Project, digest: str, *, shot: str = "dawn") -> None:
    """The bytes are kept, and the ledger says so."""
    assert sha256(blob_file(project, digest).read_bytes()) == digest
    (record,) = [each for each in records(project, shot) if each["kind"] == "delivered"]
    assert digest in json.dumps(record)
    assert record["detail"].get("reason") or record["detail"].get("why") or record["detail"].get("message")
    assert not (project.root / "out/film/shots/dawn.mp4").exists()
    assert locked(project, shot) == ""


@pytest.mark.parametrize(("name", "odd"), [*(("hiapi", odd) for odd in ODD), ("mulerouter", "too long")])
def test_a_clip_that_is_not_as_ordered_is_kept_and_asked_about_once(tmp_path: Path, name: str, odd: str) -> None:
    data = ODD[odd](tmp_path / "odd.mp4")
    with words(tmp_path, ONE, name, pace=5) as (project, api):
        api.becomes(Outcome(clip=data))
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        digest = sha256(data)
        delivered(project, digest)
        assert digest[:12] in ran.err
        assert "resolve film.yaml dawn" in ran.err
        assert "--accept" in ran.err
        assert "--reject" in ran.err

        requests, before = len(api.requests), kinds(project)
        assert actions(project) == {"dawn": "resolve"}
        again = project.run("run", "film.yaml", "--yes")
        assert again.code in (1, 4), again.said
        assert "--accept" in again.err
        assert len(api.requests) == requests, "nobody is asked, nothing is bought"
        assert kinds(project) == before
        assert "--accept" in project.run("status", "film.yaml").out


def test_an_accepted_clip_is_the_shots_clip(tmp_path: Path) -> None:
    with words(tmp_path, pace=5) as (project, api):
        api.becomes(Outcome(clip=LONG))
        assert project.run("run", "film.yaml", "--yes").code == 1
        taken = project.run("resolve", "film.yaml", "dawn", "--accept")
        assert taken.code == 0, taken.said
        requests = len(api.requests)
        ran = project.run("run", "film.yaml")
        assert ran.code == 0, ran.said
        assert len(api.requests) == requests
        assert len(api.purchases) == 1
        assert locked(project, "dawn") == sha256(LONG)
        assert api.purchases[0].task in lock_text(project)
        assert (project.root / "out/film/shots/dawn.mp4").read_bytes() == LONG
        assert actions(project) == {"dawn": "reuse"}
        for late in (["--reject"], ["--accept"], ["--not-bought"]):
            assert project.run("resolve", "film.yaml", "dawn", *late).code == 2
        assert project.run("run", "film.yaml", "--frozen").code == 0


@pytest.mark.parametrize("odd", ["HLG", "mpeg2", "too short"])
def test_an_accepted_clip_of_any_kind_makes_the_run_good(tmp_path: Path, odd: str) -> None:
    data = ODD[odd](tmp_path / "odd.mp4")
    with words(tmp_path, pace=5) as (project, api):
        api.becomes(Outcome(clip=data))
        assert project.run("run", "film.yaml", "--yes").code == 1
        taken = project.run("resolve", "film.yaml", "dawn", "--accept")
        assert taken.code == 0, taken.said
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1
        assert locked(project, "dawn") == sha256(data)


def test_a_rejected_clip_is_bought_anew_only_by_a_yes(tmp_path: Path) -> None:
    with words(tmp_path, pace=5) as (project, api):
        api.becomes(Outcome(clip=LONG))
        assert project.run("run", "film.yaml", "--yes").code == 1
        turned_down = project.run("resolve", "film.yaml", "dawn", "--reject")
        assert turned_down.code == 0, turned_down.said
        assert blob_file(project, sha256(LONG)).is_file(), "it was paid for"
        assert actions(project) == {"dawn": "make"}
        unsaid = project.run("run", "film.yaml")
        assert unsaid.code == 5, unsaid.said
        assert len(api.purchases) == 1
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 2
        assert len({one.token for one in api.purchases}) == 2, "a new order has a new key"
        assert locked(project, "dawn") not in ("", sha256(LONG))


def test_a_clip_that_waits_for_a_person_stops_no_other_shot(tmp_path: Path) -> None:
    with words(tmp_path, PAIR, pace=5) as (project, api):
        api.becomes(Outcome(clip=LONG), prompt="dawn")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert prompts(api) == ["dawn breaks", "noon comes"]
        assert locked(project, "noon")
        delivered(project, sha256(LONG))
        again = project.run("run", "film.yaml", "--yes")
        assert again.code in (1, 4), again.said
        assert len(api.purchases) == 2


def test_what_waits_for_a_person_survives_the_next_attempts_of_others(tmp_path: Path) -> None:
    """A second runner with the same store finds the same question, and asks nobody."""
    with words(tmp_path, pace=5) as (project, api):
        api.becomes(Outcome(clip=LONG), times=-1)
        shared = {"KLINGFLOW_STORE": str(tmp_path / "shared")}
        assert project.run("run", "film.yaml", "--yes", **shared).code == 1
        requests = len(api.requests)
        for words_ in (["run", "film.yaml", "--yes"], ["run", "film.yaml", "--frozen"]):
            assert project.run(*words_, **shared).code in (1, 4, 6)
        assert len(api.requests) == requests


def test_nothing_is_accepted_that_was_never_delivered(tmp_path: Path) -> None:
    with words(tmp_path, finish_s=3600.0) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        for said in ("--accept", "--reject"):
            refused = project.run("resolve", "film.yaml", "dawn", said)
            assert refused.code == 2, refused.said
            assert "usage:" not in refused.err, "the option is known"
        assert kinds(project) == ["intent", "accepted"]
        api.finish_s = 0.01
        assert project.run("run", "film.yaml").code == 0
        assert len(api.purchases) == 1


def test_a_download_that_is_cut_short_is_no_delivery(tmp_path: Path) -> None:
    """Half a file is not what was paid for: it is fetched again, and no person is asked."""
    with words(tmp_path, pace=5) as (project, api):
        api.faults.add("GET /files/", wrong_length(0.6), times=1)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert kinds(project) == ["intent", "accepted", "stored"]
        assert len(api.purchases) == 1
