"""A store on object storage that cannot be used is refused before anything is made, with its mend."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import klingflow
from klingflow.app import farm_jobs
from klingflow.core.errors import StoreSilent
from klingflow.io import objects
from tests.cli import Project
from tests.paid_helpers import studio
from tests.store_helpers import FakeS3, fake_s3, needs_s3, real_s3

BOARD = """\
klingflow: 1
defaults: {provider: animatic, resolution: 720p, duration: 3}
shots: [{id: dawn, prompt: A pier.}, {id: dusk, continues: dawn, prompt: A boat.}]
"""


@pytest.fixture
def s3() -> Iterator[FakeS3]:
    with fake_s3() as server:
        yield server


@pytest.mark.parametrize(
    ("fault", "what", "mend"),
    [
        ("no_bucket", "s3://bucket/pre/fix does not exist", "make the bucket"),
        ("skewed", "RequestTimeTooSkewed", "set the clock of this machine"),
        ("forbidden", "cannot write format.json", "AWS_ACCESS_KEY_ID"),
        ("overwrites", "overwrites silently", "use a storage service that honours it"),
    ],
)
def test_a_place_that_cannot_be_a_store_is_refused_before_anything_is_made(
    project: Project, s3: FakeS3, fault: str, what: str, mend: str
) -> None:
    project.write("film.yaml", BOARD)
    setattr(s3, fault, True)
    ended = project.run("run", **s3.environment("pre/fix"))
    assert (ended.code, what in ended.err, mend in ended.err) == (2, True, True), ended.said
    assert "nothing was made" in ended.err
    assert "secret-of-the-test" not in ended.said
    assert not any(name.startswith("pre/fix/blobs/") for name in s3.objects)


def test_a_store_without_credentials_says_which_are_missing(project: Project, s3: FakeS3) -> None:
    project.write("film.yaml", BOARD)
    given = {name: value for name, value in s3.environment("pre/fix").items() if "ACCESS" not in name}
    ended = project.run("run", **given, AWS_METADATA_ENDPOINT=s3.url)
    assert (ended.code, "nothing was made" in ended.err) == (2, True), ended.said


def test_a_bucket_that_does_not_answer_is_no_damaged_ledger(
    project: Project, s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan does not ask a person to settle what it could not read, and a farm tries the job again later."""
    for name, value in s3.environment("pre/fix").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(objects, "PATIENCE_S", 0.05)
    monkeypatch.setattr(objects, "RETRIES", 0)
    path = project.write("film.yaml", BOARD)
    planned = klingflow.open(path).plan()
    [job] = farm_jobs.makes(planned)
    s3.busy = -1
    with pytest.raises(StoreSilent, match="503"):
        klingflow.open(path).plan()
    s3.busy = 0
    monkeypatch.setattr(objects.ObjectStore, "ready", silent)
    with pytest.raises(StoreSilent, match="nothing was made"):
        asyncio.run(farm_jobs.do(job, project.root, s3.environment("pre/fix"), lambda event: None, asyncio.Event()))


def silent(store: objects.ObjectStore) -> None:
    raise StoreSilent("it does not answer")


@needs_s3
def test_another_machine_takes_everything_from_a_real_server(project: Project) -> None:
    place = real_s3() | {"KLINGFLOW_STORE": f"s3://klingflow/{os.urandom(6).hex()}"}
    project.write("film.yaml", BOARD)
    assert project.run("run", **place).code == 0
    film = (project.root / "out/film/film.mp4").read_bytes()
    assert json.loads(project.run("store", "--json", **place).out)["damaged"] == []
    other = Project(project.root.with_name("other"), {})
    other.root.mkdir()
    other.write("film.yaml", BOARD)
    other.write("film.lock.yaml", (project.root / "film.lock.yaml").read_bytes())
    ended = other.run("run", "--frozen", **place)
    assert ended.code == 0, ended.said
    assert (other.root / "out/film/film.mp4").read_bytes() == film


@pytest.mark.parametrize("left", ["detached", "killed"])
def test_another_machine_on_another_day_collects_what_a_runner_left(tmp_path: Path, left: str) -> None:
    """Nothing but the store and what is in git goes from one to the other."""
    shared = {"KLINGFLOW_STORE": str(tmp_path / "shared")}
    with studio(tmp_path, "mulerouter", finish_s=3.0) as (runner, api):
        if left == "killed":
            died = runner.run_killed("create", 2, "after", "run", "film.yaml", "--yes", **shared)
            assert died.code == -signal.SIGKILL, died.said
        else:
            assert runner.run("run", "film.yaml", "--yes", "--detach", **shared).code == 7
        assert len(api.purchases) == 1
        other = Project(tmp_path / "other", runner.env)
        shutil.copytree(runner.root, other.root, ignore=shutil.ignore_patterns(".klingflow", "out", "*.tasks.jsonl"))
        shutil.rmtree(runner.root)
        ended = other.run("run", "film.yaml", "--yes", **shared)
        assert ended.code == 0, ended.said
        assert len(api.purchases) == 2
        assert (other.root / "out/film/film.mp4").is_file()
