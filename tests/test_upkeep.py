"""A store as a person looks after it: damage of every kind is named and mended, copies lose nothing, and what nothing
needs is removed, nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from klingflow import StoreError, verify_store
from klingflow.io.store import FolderStore
from tests.cli import Project
from tests.paid_helpers import CHAIN, studio
from tests.shared import once

DAY_S = 86_400


@pytest.fixture(scope="module")
def bought_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose two chained shots were bought from the stand-in of MuleRouter, and have their lock."""

    def make(folder: Path) -> None:
        with studio(folder, "mulerouter", CHAIN) as (project, _):
            ended = project.run("run", "-y")
            assert ended.code == 0, ended.said

    return once(tmp_path_factory, "bought", make) / "project"


@pytest.fixture
def project(bought_once: Path, tmp_path: Path) -> Project:
    return Project(Path(shutil.copytree(bought_once, tmp_path / "project")), {})


def place(project: Project) -> Path:
    return project.root / ".klingflow/store"


def records(project: Project, kind: str) -> list[Path]:
    return sorted((place(project) / "ledger").rglob(f"*-{kind}.json"))


def clip_records(project: Project) -> list[Path]:
    return sorted((place(project) / "clips").iterdir())


def blob_of(project: Project, record: Path) -> Path:
    digest = json.loads(record.read_text("utf-8"))["clip"]["digest"]
    return place(project) / "blobs" / digest[:2] / digest[2:]


def write(path: Path, data: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    found = json.loads(path.read_text("utf-8"))
    change(found)
    write(path, json.dumps(found).encode())


def flipped_byte(project: Project) -> None:
    blob = blob_of(project, clip_records(project)[0])
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    write(blob, bytes(data))


def cut_short(project: Project) -> None:
    blob = blob_of(project, clip_records(project)[0])
    write(blob, blob.read_bytes()[:-1])


def emptied(project: Project) -> None:
    write(blob_of(project, clip_records(project)[0]), b"")


def clip_gone(project: Project) -> None:
    blob_of(project, clip_records(project)[0]).unlink()


def exchanged(project: Project) -> None:
    """clips/KEY.json pointed at another clip, which is there and good."""
    one, other = clip_records(project)
    clip = json.loads(other.read_text("utf-8"))["clip"]
    edit(one, lambda found: found.update(clip=clip))


def torn_record(project: Project) -> None:
    record = records(project, "accepted")[0]
    write(record, record.read_bytes()[:40])


def renamed_record(project: Project) -> None:
    record = records(project, "accepted")[0]
    record.rename(record.with_name("1.7-accepted.json"))


def moved_to_another_key(project: Project) -> None:
    one, other = records(project, "stored")
    write(one, other.read_bytes())


def intent_gone(project: Project) -> None:
    records(project, "intent")[0].unlink()


def accepted_gone(project: Project) -> None:
    records(project, "accepted")[0].unlink()


def clip_record_gone(project: Project) -> None:
    clip_records(project)[0].unlink()


def clip_record_torn(project: Project) -> None:
    write(clip_records(project)[0], b"{")


def size_changed(project: Project) -> None:
    edit(clip_records(project)[0], lambda found: found["clip"].update(bytes=7))


def task_changed(project: Project) -> None:
    edit(clip_records(project)[0], lambda found: found.update(task="another"))


DAMAGES = [
    flipped_byte,
    cut_short,
    emptied,
    clip_gone,
    exchanged,
    torn_record,
    renamed_record,
    moved_to_another_key,
    intent_gone,
    accepted_gone,
    clip_record_gone,
    clip_record_torn,
    size_changed,
    task_changed,
]


def test_a_store_as_a_run_left_it_is_good(project: Project) -> None:
    found = verify_store(project.root, environ={})
    assert (found.damaged, found.there) == ((), True)
    assert found.records == len([*(place(project) / "ledger").rglob("*.json"), *clip_records(project)])
    assert found.good == len([path for path in (place(project) / "blobs").rglob("*") if path.is_file()])


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_found_named_and_mended_from_another_store(
    project: Project, bought_once: Path, damage: Callable[[Project], None]
) -> None:
    damage(project)
    found = verify_store(project.root, environ={})
    assert found.damaged, "nothing was found"
    assert all(one.name.split("/")[0] in f"{one.what} {one.name}" and one.mend for one in found.damaged)
    assert not any(one.healed for one in found.damaged)
    backup = bought_once / ".klingflow/store"
    before = {path: path.read_bytes() for path in backup.rglob("*") if path.is_file()}
    mended = verify_store(project.root, heal_from=str(backup), environ={})
    assert [one for one in mended.damaged if not one.healed] == []
    assert verify_store(project.root, environ={}).damaged == ()
    assert before == {path: path.read_bytes() for path in backup.rglob("*") if path.is_file()}


def test_an_order_that_the_index_lost_is_found_and_indexed_again(project: Project) -> None:
    entries = list((place(project) / "orders").rglob("*/*.json"))
    assert len(entries) == 4  # two shots, by storyboard and by task
    entries[0].unlink()
    found = verify_store(project.root, environ={})
    assert [(one.name.split("/")[0], one.healed) for one in found.damaged] == [("orders", True)]
    assert entries[0].exists()
    assert verify_store(project.root, environ={}).damaged == ()


def test_a_store_without_an_index_gets_one_when_its_orders_are_asked_for(project: Project) -> None:
    def tasks(**extra: str) -> list[str]:
        return [row["task"] for row in json.loads(project.run("status", "--json", **extra).out)["tasks"]]

    before = tasks()
    assert len(before) == 2
    shutil.rmtree(place(project) / "orders")
    assert tasks(KLINGFLOW_STORE_READONLY="1") == before
    assert not (place(project) / "orders").exists()
    assert tasks() == before
    assert (place(project) / "orders/complete.json").exists()
    assert verify_store(project.root, environ={}).damaged == ()


def test_status_reads_the_orders_of_its_storyboard_alone(project: Project) -> None:
    foreign = place(project) / "ledger" / ("f" * 64)
    foreign.mkdir()
    (foreign / "1.0-intent.json").write_bytes(b"{ torn")
    ended = project.run("status", "--json")
    assert (ended.code, len(json.loads(ended.out)["tasks"])) == (0, 2), ended.said


@pytest.mark.parametrize("damage", [flipped_byte, clip_gone, torn_record], ids=lambda damage: damage.__name__)
def test_damage_that_nothing_mends_is_the_exit_code(project: Project, damage: Callable[[Project], None]) -> None:
    damage(project)
    ended = project.run("store", "verify")
    assert (ended.code, "mend: " in ended.out) == (1, True), ended.said
    missing = project.run("store", "verify", "--from", "nowhere")
    assert (missing.code, "there is no store" in missing.err) == (2, True), missing.said


def test_a_damaged_record_that_was_mended_is_kept_aside(project: Project, bought_once: Path) -> None:
    torn_record(project)
    torn = records(project, "accepted")[0].read_bytes()
    assert project.run("store", "verify", "--from", str(bought_once / ".klingflow/store")).code == 0
    [aside] = (place(project) / "quarantine").iterdir()
    assert aside.read_bytes() == torn


def test_a_backup_that_is_older_than_an_order_does_not_undo_it(project: Project, tmp_path: Path) -> None:
    """The backup knows the first attempt alone, which was refused; the order after it is torn here."""
    [key, *_] = [path.parent for path in records(project, "intent")]
    for record in key.iterdir():
        record.unlink()
    shutil.rmtree(place(project) / "clips")

    def put(name: str, kind: str, **detail: Any) -> None:
        attempt, n = name.partition("-")[0].split(".")
        data = {"version": 1, "key": key.name, "attempt": int(attempt), "n": int(n), "kind": kind, "at_ms": 1}
        (key / name).write_text(json.dumps(data | {"detail": detail}), "utf-8")

    put("1.0-intent.json", "intent")
    put("1.1-refused.json", "refused")
    backup = Path(shutil.copytree(place(project), tmp_path / "backup"))
    (key / "2.0-intent.json").write_text("{", "utf-8")
    found = [one for one in verify_store(project.root, heal_from=str(backup), environ={}).damaged if "2.0" in one.name]
    assert [one.healed for one in found] == [False]
    assert (key / "2.0-intent.json").read_text("utf-8") == "{"


def test_what_the_other_store_lacks_too_is_not_said_to_be_mended(
    project: Project, bought_once: Path, tmp_path: Path
) -> None:
    backup = Path(shutil.copytree(bought_once / ".klingflow/store", tmp_path / "backup"))
    accepted_gone(project)
    accepted = sorted(backup.rglob("*-accepted.json"))
    [gone] = [path for path in accepted if not (place(project) / path.relative_to(backup)).exists()]
    gone.unlink()
    ended = project.run("store", "verify", "--from", str(backup))
    assert (ended.code, "mended" in ended.out) == (1, False), ended.said


def test_a_ledger_that_was_lost_comes_back_with_its_clips(project: Project, bought_once: Path) -> None:
    shutil.rmtree(place(project) / "ledger")
    mended = verify_store(project.root, heal_from=str(bought_once / ".klingflow/store"), environ={})
    assert mended.damaged
    assert all(one.healed for one in mended.damaged)
    assert verify_store(project.root, environ={}).damaged == ()


def test_a_record_that_cannot_be_brought_leaves_the_damaged_one_in_its_place(
    project: Project, bought_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn_record(project)
    create = FolderStore.create

    def fails(store: FolderStore, name: str, data: bytes) -> bool:
        if name.startswith("ledger/") and len(data) > 40:
            raise StoreError("503")
        return create(store, name, data)

    monkeypatch.setattr(FolderStore, "create", fails)
    found = verify_store(project.root, heal_from=str(bought_once / ".klingflow/store"), environ={}).damaged
    assert not any(one.healed for one in found if one.name.startswith("ledger/"))
    assert len(records(project, "accepted")[0].read_bytes()) == 40


@pytest.mark.parametrize("where", ["blobs/ab/notes.txt", "clips/a (conflicted copy).json", "ledger/a b/x.json"])
def test_a_file_that_is_none_of_klingflows_is_named(project: Project, where: str) -> None:
    stray = place(project) / where
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("{}", "utf-8")
    ended = project.run("store", "verify")
    assert (ended.code, "is no object of klingflow's" in ended.out) == (1, True), ended.said
    for words in (("ls",), ("push", "backup"), ("gc", "--keep", "main")):
        assert "Traceback" not in project.run("store", *words).said


def test_signatures_are_counted_and_a_forged_one_is_damage(project: Project) -> None:
    keys = {"KLINGFLOW_STORE_KEYS": f"k1:{'ab' * 16}"}
    found = json.loads(project.run("store", "--json", **keys).out)
    assert found["signed"] == [{"key": "", "records": found["records"]}]
    assert json.loads(project.run("store", "--json", KLINGFLOW_STORE_READONLY="1", **keys).out) == found
    ended = project.run("store", KLINGFLOW_STORE_SIGNED="1", **keys)
    assert ended.code == 1
    assert ended.out.count("has no signature") == found["records"]


# Copies -------------------------------------------------------------------------------------------------------------


def test_a_copy_of_a_store_answers_every_shot(project: Project, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    pushed = project.run("store", "push", str(backup))
    assert pushed.code == 0, pushed.said
    shutil.rmtree(place(project))
    pulled = json.loads(project.run("store", "pull", str(backup), "--json").out)
    assert (pulled["differing"], pulled["blobs"] > 0) == ([], True)
    assert verify_store(project.root, environ={}).damaged == ()
    again = json.loads(project.run("store", "pull", str(backup), "--json").out)
    assert (again["blobs"], again["records"]) == (0, 0)
    plan = json.loads(project.run("plan", "--format", "json").out)
    assert [step["action"] for step in plan["steps"]] == ["reuse", "reuse"]


def test_a_copy_is_signed_as_its_source_and_one_that_was_changed_is_not_brought_back(
    project: Project, tmp_path: Path
) -> None:
    backup, secret = tmp_path / "backup", "ab" * 16
    keys = {"KLINGFLOW_STORE_KEYS": f"k1:{secret}"}
    assert project.run("store", "push", str(backup), **keys).code == 0
    whole = shutil.copytree(backup, tmp_path / "whole")
    record = next((backup / "clips").iterdir())
    edit(record, lambda found: found.update(model="another"))
    shutil.rmtree(place(project))
    keys["KLINGFLOW_STORE_SIGNED"] = "1"
    forged = project.run("store", "pull", str(backup), **keys)
    assert (forged.code, "is not believed" in forged.err) == (1, True), forged.said
    assert not (place(project) / "clips" / record.name).exists()
    pulled = project.run("store", "pull", str(whole), **keys)
    assert pulled.code == 0, pulled.said
    assert project.run("store", "verify", **keys).code == 0
    clip_records(project)[0].unlink()
    mended = project.run("store", "verify", "--from", str(whole), **keys)
    assert mended.code == 0, mended.said


def test_two_stores_that_answer_a_key_differently_are_not_mixed(project: Project, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    assert project.run("store", "push", str(backup)).code == 0
    exchanged(project)
    before = clip_records(project)[0].read_bytes()
    ended = project.run("store", "pull", str(backup))
    assert ended.code == 1
    assert "names another clip in" in ended.out
    assert clip_records(project)[0].read_bytes() == before


def test_what_is_in_a_store_is_listed_and_shown(project: Project) -> None:
    rows = json.loads(project.run("store", "ls", "--json").out)["clips"]
    assert [(row["prompt"], row["provider"], row["here"]) for row in rows] == [
        (json.loads(path.read_text("utf-8"))["parts"]["prompt"], "mulerouter", True) for path in clip_records(project)
    ]
    text = project.run("store", "ls")
    assert rows[0]["key"][:12] in text.out
    shown = json.loads(project.run("store", "show", rows[0]["key"][:6], "--json").out)
    assert [event["kind"] for event in shown["events"]] == ["intent", "accepted", "stored"]
    assert "body" not in shown["events"][0]["detail"]
    assert project.run("store", "show", rows[0]["clip"][:8]).code == 0
    assert project.run("store", "show", "0000000000").code == 2
    assert project.run("store", "show", "../x").code == 2


# What nothing needs -------------------------------------------------------------------------------------------------


def git(project: Project, *words: str) -> None:
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    subprocess.run(["git", *who, *words], cwd=project.root, check=True, capture_output=True)


@pytest.fixture
def committed(project: Project) -> Project:
    project.write(".gitignore", ".klingflow/\nout/\n*.tasks.jsonl\n")
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "film")
    return project


def age(project: Project, days: int) -> None:
    for path in (place(project) / "blobs").rglob("*"):
        if path.is_file():
            os.utime(path, (path.stat().st_mtime - days * DAY_S,) * 2)


def blobs(project: Project) -> set[str]:
    return {path.parent.name + path.name for path in (place(project) / "blobs").rglob("*") if path.is_file()}


def test_nothing_that_a_lock_names_is_garbage(committed: Project) -> None:
    age(committed, 30)
    found = json.loads(committed.run("store", "gc", "--keep", "main", "--json").out)
    named = {json.loads(path.read_text("utf-8"))["clip"]["digest"] for path in clip_records(committed)}
    assert named.isdisjoint(found["blobs"])


def test_a_clip_that_only_another_branch_names_goes_when_that_branch_is_not_kept(committed: Project) -> None:
    git(committed, "checkout", "-q", "-b", "old")
    git(committed, "checkout", "-q", "main")
    lock = committed.root / "film.lock.yaml"
    [dawn, noon] = [json.loads(path.read_text("utf-8"))["clip"]["digest"] for path in clip_records(committed)]
    lock.unlink()
    git(committed, "commit", "-q", "-am", "no clip")
    age(committed, 30)
    kept = json.loads(committed.run("store", "gc", "--keep", "main", "old", "--json").out)
    assert {dawn, noon}.isdisjoint(kept["blobs"])
    shown = committed.run("store", "gc", "--keep", "main")
    assert {dawn, noon} <= blobs(committed)
    assert "nothing was removed: add --remove" in shown.out
    assert "2 clips of them paid for with $" in shown.out
    removed = committed.run("store", "gc", "--keep", "main", "--remove")
    assert removed.code == 0, removed.said
    assert {dawn, noon}.isdisjoint(blobs(committed))
    assert verify_store(committed.root, environ={}).damaged == ()
    git(committed, "checkout", "-q", "old")
    plan = committed.run("run", "--frozen")
    assert (plan.code, "does not hold it; nothing was bought" in plan.err) == (1, True), plan.said


def test_a_lock_that_was_in_another_folder_at_a_ref_counts(committed: Project) -> None:
    named = {json.loads(path.read_text("utf-8"))["clip"]["digest"] for path in clip_records(committed)}
    (committed.root / "old").mkdir()
    git(committed, "mv", "film.lock.yaml", "old/film.lock.yaml")
    git(committed, "commit", "-q", "-m", "elsewhere")
    git(committed, "tag", "moved")
    git(committed, "rm", "-q", "old/film.lock.yaml")
    git(committed, "commit", "-q", "-m", "gone")
    age(committed, 30)
    inner = Project(committed.root / "new", {"KLINGFLOW_STORE": str(place(committed))})
    inner.root.mkdir()
    inner.write("klingflow.yaml", "limits: {tasks: 9}\n")
    ended = inner.run("store", "gc", "--keep", "moved", "--json")
    assert ended.code == 0, ended.said
    found = json.loads(ended.out)
    assert found["kept"] > 0
    assert named.isdisjoint(found["blobs"])


def test_what_is_young_stays_and_what_an_open_order_needs_too(committed: Project) -> None:
    (committed.root / "film.lock.yaml").unlink()
    git(committed, "commit", "-q", "-am", "no clip")
    young = json.loads(committed.run("store", "gc", "--keep", "main", "--json").out)
    assert (young["blobs"], young["young"]) == ([], young["kept"])
    age(committed, 30)
    everything = set(json.loads(committed.run("store", "gc", "--keep", "main", "--json").out)["blobs"])
    for record in records(committed, "stored"):
        record.unlink()  # as if both were still being made
    orders = [json.loads(path.read_text("utf-8"))["detail"] for path in records(committed, "intent")]
    needed = {digest for order in orders for digest in order["inputs"].values()}
    found = set(json.loads(committed.run("store", "gc", "--keep", "main", "--json").out)["blobs"])
    assert needed & everything, "an order's frame is a blob"
    assert needed.isdisjoint(found)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "no git ref is named"),
        (("--keep", "nosuch"), "nosuch is no commit that git knows"),
        (("--keep", "--remove"), "expected at least one argument"),
    ],
)
def test_garbage_is_never_guessed(committed: Project, words: tuple[str, ...], what: str) -> None:
    age(committed, 30)
    before = blobs(committed)
    ended = committed.run("store", "gc", *words)
    assert (ended.code, what in ended.err) == (2, True), ended.said
    assert blobs(committed) == before


def test_a_project_without_git_has_no_garbage(project: Project) -> None:
    ended = project.run("store", "gc", "--keep", "main")
    assert (ended.code, "is no commit that git knows" in ended.err) == (2, True), ended.said
