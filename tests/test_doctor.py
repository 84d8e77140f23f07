"""`klingflow doctor`: all that is wrong with keys, APIs, store, disk, clock, publishing and prices, told at once."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import klingflow
from klingflow.app import preflight
from klingflow.io import media
from tests import standins
from tests.cli import Ended, Project
from tests.paid_helpers import studio
from tests.standins.mulerouter import MuleRouter
from tests.store_helpers import fake_s3


@pytest.fixture
def house(tmp_path: Path) -> Iterator[tuple[Project, Any, Any]]:
    with studio(tmp_path, "hiapi") as (project, api), MuleRouter() as other:
        yield project, api, other
        assert api.purchases == other.purchases == []


def bad(ended: Ended) -> str:
    """What is told as bad, as one text; all else must be well."""
    assert ended.code == 2, ended.said
    assert "Traceback" not in ended.said
    assert max(len(line) for line in ended.out.splitlines() if "http" not in line and "/tmp/" not in line) <= 80
    told = " ".join(ended.out.split())
    parts = told.replace(" ok ", "\n").replace(" BAD ", "\nBAD ").split("\n")
    return "\n".join(part for part in parts if part.startswith("BAD"))


def test_prices_are_those_of_the_storyboards_own_shots(house: tuple[Project, Any, Any]) -> None:
    project, _, other = house
    told = project.run("doctor", "film.yaml", **other.environment())
    assert told.code == 0, told.said
    assert "film.yaml: 2 shots, no problem" in told.out
    assert "price: a second at hiapi: 720p $0.084 (estimates:" in told.out
    assert "1080p" not in told.out
    assert "at mulerouter:" not in told.out
    assert told.out.endswith("all is well\n")
    project.write("klingflow.yaml", "prices: {hiapi: {720p: {silent: 0.05}}}\n")
    assert "a second at hiapi: 720p $0.05\n" in project.run("doctor", "film.yaml").out
    project.write("film.yaml", "klingflow: 1\n")
    broken = bad(project.run("doctor", "film.yaml"))
    assert "klingflow check film.yaml tells them" in broken


def test_every_fault_is_told_at_once_each_with_its_mend(house: tuple[Project, Any, Any]) -> None:
    project, api, other = house
    wrong = {
        "HIAPI_API_KEY": "two words",
        "MULEROUTER_API_KEY": "sk-mule-of-somebody-else",
        "KLINGFLOW_PUBLISH_URL": f"{api.base_url}/no",
    }
    told = bad(project.run("doctor", **{**other.environment(), **wrong})).splitlines()
    assert len(told) == 3
    assert "HIAPI_API_KEY holds a character that no key has" in told[0]
    assert "mulerouter: the key is refused (HTTP 401) mend: copy MULEROUTER_API_KEY again" in told[1]
    assert "publish: a frame cannot be fetched back" in told[2]
    assert "mend: publish.public_url must show" in told[2]


def test_an_api_that_is_not_there_or_is_something_else_is_told_from_a_wrong_key(
    house: tuple[Project, Any, Any],
) -> None:
    project, api, other = house
    assert "http://127.0.0.1:9 is not reached" in bad(project.run("doctor", HIAPI_BASE_URL="http://127.0.0.1:9"))
    assert "cannot be an API's base URL" in bad(project.run("doctor", HIAPI_BASE_URL="ftp://x"))
    api.faults.add("GET", standins.html(200))
    assert "hiapi: reached, but its answer is of no use (HTTP 200)" in bad(project.run("doctor"))
    other.faults.add("GET", standins.html(404))
    assert "mulerouter: reached, but its answer is of no use (HTTP 404)" in bad(
        project.run("doctor", **other.environment())
    )


@pytest.mark.parametrize(("off", "side"), [(7200.0, "behind"), (-7200.0, "ahead of")])
def test_a_clock_that_is_off_is_told_with_its_side_also_where_the_key_is_refused(
    house: tuple[Project, Any, Any], off: float, side: str
) -> None:
    project, api, _ = house
    api.clock = lambda: time.time() + off
    told = bad(project.run("doctor", HIAPI_API_KEY="sk-of-somebody-else"))
    assert f"clock: 2 h 0 min {side} hiapi's" in told
    assert "the key is refused" in told


def test_a_key_that_is_not_set_is_bad_only_where_the_storyboard_needs_it(house: tuple[Project, Any, Any]) -> None:
    project, _, _ = house
    assert project.run("doctor", HIAPI_API_KEY="").code == 0
    assert "export HIAPI_API_KEY=" in bad(project.run("doctor", "film.yaml", HIAPI_API_KEY=""))


def test_a_store_that_overwrites_is_found_out(house: tuple[Project, Any, Any]) -> None:
    project, _, _ = house
    with fake_s3() as s3:
        s3.overwrites = True
        told = bad(
            project.run(
                "doctor",
                KLINGFLOW_STORE="s3://bucket/x",
                AWS_ENDPOINT_URL=s3.url,
                AWS_ALLOW_HTTP="true",
                AWS_ACCESS_KEY_ID="a",
                AWS_SECRET_ACCESS_KEY="b",
                AWS_REGION="us-east-1",
            )
        )
    assert "store: s3://bucket/x overwrites silently" in told
    assert "If-None-Match" in told


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="needs a file system without room")
def test_room_is_looked_for_where_the_store_lies(house: tuple[Project, Any, Any]) -> None:
    project, _, _ = house
    told = bad(project.run("doctor", KLINGFLOW_STORE="/proc/1/store"))
    assert "disk of the store: 0.0 GiB free" in told
    assert "store: cannot write" in told


def test_looking_makes_no_store(house: tuple[Project, Any, Any]) -> None:
    project, _, _ = house
    before = sorted(project.root.rglob("*"))
    store = project.root / "mistyped/store"
    told = project.run("doctor", KLINGFLOW_STORE=str(store)).out
    assert "mistyped/store is not there yet; the first run makes it" in " ".join(told.split())
    ended = project.run("store", KLINGFLOW_STORE=str(store))
    assert (ended.code, ended.out) == (0, f"{store} is not there yet; the first run makes it\n")
    assert project.run("store", "no.yaml").err.startswith("there is no file or folder 'no.yaml'\n")
    assert sorted(project.root.rglob("*")) == before


def test_a_path_that_is_not_there_is_told(tmp_path: Path) -> None:
    ended = Project(tmp_path, {}).run("doctor", "no/film.yaml")
    assert (ended.code, "there is no file or folder 'no/film.yaml'" in ended.err) == (2, True)


BOARD = """
klingflow: 1
title: Another
defaults: {provider: hiapi, duration: 3, resolution: 720p}
shots:
  - {id: lamp, first_frame: frames/dusk.png, prompt: a lamp}
"""


def test_several_storyboards_are_looked_at_in_one_go_each_by_what_a_run_would_make(
    house: tuple[Project, Any, Any],
) -> None:
    project, api, _ = house
    project.write("other.yaml", BOARD.replace("hiapi", "animatic"))
    project.write("ep2/far.yaml", BOARD)
    project.write("ep2/klingflow.yaml", "limits: {tasks: 0}\n")
    project.write("ep2/frames/dusk.png", (project.root / "frames/dusk.png").read_bytes())
    told = project.run("doctor", "film.yaml", "other.yaml", "ep2/far.yaml")
    said = " ".join(told.out.split())
    assert told.code == 2, told.said
    assert "film.yaml: to make: 2 clips, 6 s, $0.50 (estimate)" in said
    assert "other.yaml: to make: 1 clip, 3 s, free" in said
    assert "BAD ep2/far.yaml: the limit is 0 tasks a run" in said
    assert said.count("hiapi: reached, the key is taken") == 1
    assert said.count("media: clips can be read and films written") == 1
    assert said.endswith("1 thing to mend")
    assert api.calls("POST") == []


def test_what_is_made_already_needs_no_key(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi", publish=False) as (project, _):
        assert "export HIAPI_API_KEY=" in bad(project.run("doctor", "film.yaml", HIAPI_API_KEY=""))
        assert project.run("run", "film.yaml", "--yes").code == 0
        told = project.run("doctor", "film.yaml", HIAPI_API_KEY="")
        assert (told.code, "film.yaml: to make: nothing" in told.out) == (0, True), told.said


def test_what_a_run_would_refuse_or_warn_of_doctor_tells(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi", publish=False) as (project, api):
        project.write("klingflow.yaml", "providers: {hiapi: {data_uri: false}}\n")
        told = bad(project.run("doctor", "film.yaml"))
        assert "film.yaml: shot 'dawn' sends a frame to hiapi, and this project publishes nowhere" in told
        project.write("klingflow.yaml", "")
        project.write("film.yaml", BOARD.replace("720p", "4K") + "  - {id: after, continues: lamp, prompt: on}\n")
        large = project.run("doctor", "film.yaml")
        assert large.code == 0, large.said
        assert "which may have 23.8 MiB as a PNG" in " ".join(large.out.split())
        (project.root / "out").write_text("no folder", "utf-8")
        assert "nothing can be written to" in bad(project.run("doctor", "film.yaml"))
        assert api.calls("POST") == []


def test_a_disk_without_room_for_what_is_made_stops_a_run_before_it_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = klingflow.open(str(_written(tmp_path))).plan().plan
    steps = [step for film in plan.films for step in film.steps]
    needed = preflight.room(steps)
    assert needed == preflight.SPARE_BYTES + 2 * 3 * 1280 * 720
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(needed, 1, needed - 1))
    with pytest.raises(klingflow.UsageError, match="nothing was ordered"):
        preflight.refuse_full_disk(plan, [tmp_path / "not" / "there"])
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(needed, 0, needed))
    preflight.refuse_full_disk(plan, [tmp_path])


def _written(folder: Path) -> Path:
    path = folder / "film.yaml"
    path.write_text(BOARD.replace("first_frame: frames/dusk.png, ", ""), "utf-8")
    return path


def test_a_library_that_cannot_write_films_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert preflight.media_fault() is None
    monkeypatch.setattr(media, "ENCODERS", ("libx264", "no-such-encoder"))
    fault = preflight.media_fault()
    assert fault is not None
    assert fault[0] == "this build of PyAV has no encoder no-such-encoder"
