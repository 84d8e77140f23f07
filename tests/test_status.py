"""`klingflow status`: what was ever submitted, as a person reads it and as a program does."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import jsonschema
import pytest

from klingflow.app import planner
from klingflow.core.model import Key
from klingflow.execution import host
from klingflow.io import ledger
from klingflow.io.store import FolderStore
from klingflow.planning.job import Job, Kind, Record, State, fold
from klingflow.storyboard import schema
from tests import standins
from tests.cli import Project
from tests.paid_helpers import studio

BOARD = "klingflow: 1\ntitle: T\nshots:\n  - id: dawn\n    prompt: dawn\n"
TASK = "tk-hiapi-01HZTQ8BX2N3GM3YFK4Z9D7VQR"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", {})
    made.write("film.yaml", BOARD)
    return made


def book(
    project: Project, letter: str, *records: tuple[Kind, dict[str, object]], age_s: float = 7300, **intent: object
) -> None:
    """One job in the project's ledger, from its records; the first is the intent."""
    store = FolderStore(project.root / ".klingflow/store")
    base = {
        "provider": "mulerouter", "storyboard": "film.yaml", "film": "film", "shot": "dawn", "take": 1, "price": "0.56",
        "seconds": 5,
    }  # fmt: skip
    job = Job(key=Key(letter * 64), state=State.NEW, attempt=0, records=())
    for kind, detail in ((Kind.INTENT, {**base, **intent}), *records):
        record = job.next(kind, int((time.time() - age_s) * 1000), detail)
        assert ledger.write(store, record)
        job = fold(job.key, [*job.records, record])


def test_every_task_stands_in_one_table_doubts_first_with_the_next_command(project: Project) -> None:
    accepted = (Kind.ACCEPTED, {"task": TASK})
    book(project, "a", accepted, (Kind.STORED, {"clip": "c" * 64}), provider="hiapi", shot="noon", age_s=200_000)
    book(project, "b", accepted, provider="hiapi", shot="dusk", age_s=150, price=None)
    refused = (Kind.REFUSED, {"class": "moderated", "message": "no \x1b[31mviolence", "sent": True})
    book(project, "c", refused, shot="night")
    book(project, "d", take=2)
    book(project, "e", accepted, (Kind.STORED, {}), provider="animatic", price="0", storyboard="other.yaml")
    told = project.run("status", "film.yaml")
    assert told.code == 0, told.said
    assert told.out.splitlines() == [
        "SHOT         STATE         AGE    PRICE  PROVIDER",
        "dawn take 2  in doubt      2 h    $0.56  mulerouter",
        "dusk         being made  2 min  unknown  hiapi",
        f"    task {TASK}",
        "noon         stored        2 d    $0.56  hiapi",
        f"    task {TASK}",
        "night        refused       2 h    $0.56  mulerouter",
        "    no \\x1b[31mviolence",
        "4 tasks, $1.12 booked, and 1 task of unknown price",
        "in doubt: look at the console of mulerouter, then say what you found",
        "  klingflow resolve film.yaml dawn --take 2 --task ID  # or --not-bought",
        "to collect: klingflow run film.yaml",
    ]

    rows = json.loads(project.run("status", "film.yaml", "--format", "json").out)["tasks"]
    assert [(row["shot"], row["take"], row["state"], row["price"]) for row in rows] == [
        ("dawn", 2, "in doubt", 0.56),
        ("dusk", 1, "being made", None),
        ("noon", 1, "stored", 0.56),
        ("night", 1, "refused", 0.56),
    ]
    assert rows[1]["task"] == TASK
    assert rows[1]["next"] == "klingflow run film.yaml"
    assert rows[2]["next"] is None
    assert 150 <= rows[1]["age_s"] < 300


def test_a_broken_storyboard_hides_nothing_that_was_paid_for(project: Project) -> None:
    subprocess.run(["git", "init", "-q"], cwd=project.root, check=True)  # git says that the ledger is in no commit
    assert "no task was ever submitted" in project.run("status", "film.yaml").out
    book(project, "a")
    project.write("film.yaml", "klingflow: [")
    told = project.run("status", "film.yaml")
    assert (told.code, "in doubt" in told.out) == (0, True)
    settled = project.run("resolve", "film.yaml", "dawn", "--not-bought")
    assert settled.code == 0, settled.said
    assert "given up" in project.run("status", "film.yaml").out
    missing = project.run("status", "flim.yaml")
    assert missing.code == 2
    assert missing.err == "there is no file 'flim.yaml'\nmend: did you mean 'film.yaml'?\n"
    unknown = project.run("resolve", "film.yaml", "dwan", "--not-bought")
    assert (unknown.code, "did you mean 'dawn'?" in unknown.err) == (2, True)


def test_what_hiapi_may_be_asked_again_is_no_doubt_and_what_mulerouter_lost_is_one(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter") as (paid, api):
        api.faults.add("POST", standins.drop_after)
        assert paid.run("run", "film.yaml", "--yes").code == 4
        told = paid.run("status", "film.yaml").out
        assert "in doubt: look at the console of mulerouter" in told
        assert "  klingflow resolve film.yaml dawn --task ID  # or --not-bought" in told
        book(paid, "f", provider="hiapi", shot="noon", age_s=60)
        assert [line.split()[:2] for line in paid.run("status", "film.yaml").out.splitlines()[1:3]] == [
            ["dawn", "in"],
            ["noon", "asked"],
        ]


def test_two_doubts_about_one_shot_of_two_films_are_settled_one_by_one(tmp_path: Path) -> None:
    board = """
        klingflow: 1
        title: Two films
        matrix: {aspect: ["16:9", "9:16"]}
        defaults: {provider: mulerouter, duration: 3, resolution: 720p, aspect_ratio: "{{ aspect }}"}
        shots:
          - id: dawn
            prompt: dawn breaks
    """
    with studio(tmp_path, "mulerouter", board) as (project, api):
        api.faults.add("POST", standins.drop_before, 2)
        lost = project.run("run", "film.yaml", "--yes")
        assert lost.code == 4, lost.said
        told = project.run("status", "film.yaml").out
        lines = [line.strip() for line in told.splitlines() if "--key" in line]
        commands = [line.removesuffix(" --task ID  # or --not-bought") for line in lines]
        assert len(set(commands)) == 2, told
        assert all(f"`{command} --not-bought`" in lost.err for command in commands)
        unclear = project.run("resolve", "film.yaml", "dawn", "--not-bought")
        assert unclear.code == 2
        assert "name one with --take or --key" in unclear.err
        for command in commands:
            settled = project.run(*command.split()[1:], "--not-bought")
            assert settled.code == 0, settled.said
        assert project.run("run", "film.yaml", "--yes").code == 0
        assert len(api.purchases) == 2


@pytest.mark.parametrize(("recorded", "again"), [("provider-fault", True), ("expired", False), ("bad-output", False)])
def test_a_failed_task_is_planned_again_only_where_its_class_allows_it(recorded: str, again: bool) -> None:
    """Also a class that only older versions wrote: its task was paid."""
    key = Key("0" * 64)
    kinds = {Kind.INTENT: {"provider": "hiapi"}, Kind.ACCEPTED: {"task": "t"}, Kind.FAILED: {"class": recorded}}
    records = [Record(key=key, attempt=1, n=n, kind=k, at_ms=0, detail=d) for n, (k, d) in enumerate(kinds.items())]
    found = planner.open_order(fold(key, records), host.this())
    assert found is not None
    assert found.orders is again


def test_resolve_finds_the_storyboard_of_a_folder_by_itself(project: Project) -> None:
    subprocess.run(["git", "init", "-q"], cwd=project.root, check=True)  # git says that the ledger is in no commit
    assert project.run("status").code == 0
    book(project, "a")
    told = project.run("resolve", "dawn", "--not-bought", "--json")
    assert told.code == 0, told.said
    found = json.loads(told.out)
    jsonschema.validate(found, schema.load("answers")["$defs"]["resolve"])
    assert (found["storyboard"], found["shot"]) == ("film.yaml", "dawn")
    assert found["said"].startswith("dawn: recorded as not bought; `klingflow run film.yaml` may buy it now")
    again = project.run("resolve", "film.yaml", "--not-bought", "dawn")
    assert again.err.startswith("nothing is in doubt for shot 'dawn'")
    which = project.run("resolve", "film.yaml", "--not-bought")
    assert (which.code, which.out) == (2, "")
    assert which.err == "which shot?\nmend: klingflow resolve film.yaml SHOT; klingflow status names them\n"
