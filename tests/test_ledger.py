"""The ledger's files: written once, read strictly, and nothing secret in them."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from klingflow.core.errors import StoreError
from klingflow.core.model import ClipFacts, ClipRecord, Digest, Key, TaskId
from klingflow.core.redact import register
from klingflow.io import ledger
from klingflow.io.store import FolderStore
from klingflow.planning.expect import expectations
from klingflow.planning.job import Job, Kind, Record, State, fold

KEY, OTHER = Key("ab" * 32), Key("cd" * 32)
INTENT = {
    "provider": "hiapi",
    "model": "kling-3.0-omni",
    "body": "eyJhIjoiaHR0cHM6Ly9oL3A/WC1BbXotU2lnbmF0dXJlPTEifQ==",
    "token": f"kf1:{KEY}:1",
    "price": "0.56",
    "seconds": 5,
    "pid": 7,
    "inputs": {"first_frame": "ef" * 32},
    "parts": {"prompt": "Ein Boot – «still»", "resolution": "1080p", "duration": 5},
}

CLIP = ClipRecord(
    key=KEY,
    facts=ClipFacts(
        digest=Digest("12" * 32), bytes=9, width=1920, height=1080, frames=121, duration="5.042", rate="24", audio=True
    ),
    provider="hiapi",
    model="kling-3.0-omni",
    task=TaskId("tk-hiapi-01HZTQ8BX2N3GM3YFK4Z9D7VQR"),
    cost=Decimal("0.560"),
    date="2026-11-21",
    parts={"prompt": "Ein Boot", "take": 2, "multi_shot": {"by": "customize", "shots": [{"prompt": "a"}]}},
    inputs={"first_frame": Digest("ef" * 32)},
)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def bought(key: Key, began_ms: int = 0, took_ms: int = 90_000) -> Iterator[Record]:
    job = fold(key, [])
    for kind, at_ms, detail in (
        (Kind.INTENT, began_ms, INTENT),
        (Kind.ACCEPTED, began_ms + 1_000, {"task": "tk-1", "by": "answer"}),
        (Kind.STORED, began_ms + 1_000 + took_ms, {"clip": "12" * 32}),
    ):
        record = job.next(kind, at_ms, detail)
        job = fold(key, [*job.records, record])
        yield record


def test_a_job_is_read_as_it_was_written(store: FolderStore) -> None:
    records = list(bought(KEY))
    assert all(ledger.write(store, record) for record in records)
    reread = FolderStore(store.root)
    job = ledger.job(reread, KEY)
    assert (job.key, job.state, job.attempt) == (KEY, State.STORED, 1)
    assert job.records == tuple(map(ledger.without_body, records))
    assert [ledger.whole(reread, record) for record in job.records] == records
    assert sorted(store.list("ledger/")) == [
        f"ledger/{KEY}/1.{name}.json" for name in ("0-intent", "1-accepted", "2-stored")
    ]


def test_a_key_without_records_is_a_new_job(store: FolderStore) -> None:
    assert ledger.job(store, KEY) == Job(key=KEY, state=State.NEW, attempt=0, records=())


def test_who_writes_the_same_record_second_is_told_so_even_with_the_same_content(store: FolderStore) -> None:
    record = next(bought(KEY))
    assert [ledger.write(store, record) for _ in range(2)] == [True, False]
    name = f"ledger/{KEY}/1.0-intent.json"
    first, again = store.read(name), FolderStore(store.root / "again")
    ledger.write(again, record)
    assert first != again.read(name)


def test_all_jobs_come_key_by_key_and_a_sample_stops_early(store: FolderStore) -> None:
    for key in (OTHER, KEY):
        for record in bought(key):
            ledger.write(store, record)
    assert [job.key for job in ledger.jobs(store)] == [KEY, OTHER]
    (one,) = ledger.jobs(store, most=1)
    assert one in [ledger.job(store, key) for key in (KEY, OTHER)]


def test_a_ledger_of_large_requests_is_read_in_the_memory_of_one(store: FolderStore) -> None:
    keys = [Key(f"{n:064x}") for n in range(24)]
    body = "A" * 2**20
    for key in keys:
        intent, accepted, _ = bought(key)
        ledger.write(store, replace(intent, detail={**intent.detail, "body": body}))
        ledger.write(store, accepted)
    tracemalloc.start()
    try:
        jobs = list(ledger.jobs(store))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [job.key for job in jobs] == keys
    assert jobs[0].task is not None
    assert most < 8 * len(body)
    intent = ledger.job(store, keys[0]).records[0]
    assert "body" not in intent.detail, "a job is held while its task is made"
    assert ledger.whole(store, intent).detail["body"] == body, "who sends it again has it"


def test_a_clip_record_is_read_as_it_was_written(store: FolderStore) -> None:
    assert ledger.clip(store, KEY) is None
    for record in (CLIP, replace(CLIP, key=OTHER, task=None, cost=None)):
        assert ledger.keep(store, record) == record
        assert ledger.clip(FolderStore(store.root), record.key) == record


def test_the_first_clip_record_stays(store: FolderStore) -> None:
    ledger.keep(store, CLIP)
    assert ledger.keep(store, replace(CLIP, date="2027-01-01")) == CLIP


def test_nothing_secret_is_recorded_but_what_must_be_sent_again_stays_exact(store: FolderStore) -> None:
    register("canary-secret-of-the-ledger-test")
    url = "https://user:pass@h.example/p.png?X-Amz-Signature=deadbeef"
    told = f"{url} canary-secret-of-the-ledger-test Bearer abcdefgh12345678"
    body = f"canary-secret-of-the-ledger-test {url}"
    detail = {**INTENT, "body": body, "parts": {"images.0": {"url": told}}, "who": told}
    intent = fold(KEY, []).next(Kind.INTENT, 0, detail)
    ledger.write(store, intent)
    job = fold(KEY, [intent])
    refused = job.next(Kind.REFUSED, 0, {"message": told, "deep": [{"deeper": told}], "body": told})
    ledger.write(store, refused)
    ledger.keep(store, replace(CLIP, parts={"first_frame": {"url": told}}, provider=told))
    kept = ledger.whole(store, ledger.job(store, KEY).records[0]).detail
    assert (kept["body"], kept["token"]) == (body, INTENT["token"])
    for name in store.list(""):
        text = (store.read(name) or b"").decode()
        for secret in ("deadbeef", "user:pass", "canary-secret", "abcdefgh12345678"):
            assert secret not in (text.replace(json.dumps(body), "") if name.endswith("intent.json") else text), name


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: data[: len(data) // 2], "it is not JSON, or cut short"),
        (lambda data: b"", "it is not JSON, or cut short"),
        (lambda data: b"\xff\xfe", "it is not JSON, or cut short"),
        (lambda data: b"[" * 100_000, "it is not JSON, or cut short"),
        (lambda data: b"[]", "it is no record of klingflow's"),
        (lambda data: data.replace(b'"at_ms": 0', b'"at_ms": "0"'), "at_ms is not a whole number"),
        (lambda data: data.replace(b'"detail"', b'"details"'), "no field 'detail'"),
        (lambda data: data.replace(b'"kind": "intent"', b'"kind": "dream"'), "'dream' is not a valid Kind"),
        (lambda data: data.replace(b'"attempt": 1', b'"attempt": 2'), "it says that it is"),
        (lambda data: data.replace(b"abab", b"cdcd"), "it says that it is ledger/cdcd"),
    ],
)
def test_a_record_that_cannot_be_read_is_named_and_never_guessed(store: FolderStore, damage, why: str) -> None:  # type: ignore[no-untyped-def]
    ledger.write(store, next(bought(KEY)))
    path = store.root / "ledger" / KEY / "1.0-intent.json"
    data = damage(path.read_bytes())
    path.unlink()
    path.write_bytes(data)
    for read in (lambda: ledger.job(store, KEY), lambda: list(ledger.jobs(store))):
        with pytest.raises(StoreError) as caught:
            read()
        assert caught.value.what.startswith(f"ledger/{KEY}/1.0-intent.json in {store.root} cannot be read: {why}")


def test_a_foreign_file_in_the_ledger_is_named(store: FolderStore) -> None:
    store.create(f"ledger/{KEY}/notes.txt", b"call them")
    with pytest.raises(StoreError, match=r"notes\.txt in .* cannot be read"):
        ledger.job(store, KEY)


def test_a_record_of_a_newer_klingflow_is_refused_and_unknown_fields_of_this_one_are_not(store: FolderStore) -> None:
    ledger.write(store, next(bought(KEY)))
    ledger.keep(store, CLIP)
    for name in (f"ledger/{KEY}/1.0-intent.json", f"clips/{KEY}.json"):
        path = store.root / name
        known = json.loads(path.read_bytes())
        path.unlink()
        path.write_text(json.dumps({**known, "mood": "good"}), "utf-8")
        assert ledger.job(store, KEY).state is State.INTENDED
        assert ledger.clip(store, KEY) == CLIP
        path.write_text(json.dumps({**known, "version": 2}), "utf-8")
        read = ledger.clip if name.startswith("clips/") else ledger.job
        with pytest.raises(StoreError, match=r"was written by a newer klingflow \(version 2; this one knows 1\)"):
            read(store, KEY)
        path.write_text(json.dumps(known), "utf-8")


def test_a_clip_record_under_another_key_is_found_out(store: FolderStore) -> None:
    ledger.keep(store, CLIP)
    store.create(f"clips/{OTHER}.json", store.read(f"clips/{KEY}.json") or b"")
    with pytest.raises(StoreError, match=f"clips/{OTHER}.json in .* cannot be read: it is of the key {KEY}"):
        ledger.clip(store, OTHER)


def test_how_long_a_task_takes_is_the_median_of_what_was_collected() -> None:
    took = {Key(f"{i:064x}"): ms for i, ms in enumerate((80_000, 90_000, 9_000_000))}
    jobs = [fold(key, bought(key, 5, ms)) for key, ms in took.items()]
    open_job = fold(KEY, list(bought(KEY))[:2])
    assert expectations([*jobs, open_job]) == {("hiapi", "kling-3.0-omni", "1080p", 5): 90.0}
    assert expectations([]) == {}
