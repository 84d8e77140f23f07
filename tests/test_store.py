"""The store: one suite for every kind of place, and what only a folder or only object storage can go through."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore

from klingflow.core.errors import StoreError, StoreSilent, UsageError
from klingflow.core.model import Digest
from klingflow.io import objects as io_objects
from klingflow.io.objects import ObjectStore
from klingflow.io.storage_factory import cache_limit, open_store
from klingflow.io.store import TEMP, BlobMissing, FolderStore, Store, blob_name, proves_create_only
from tests.store_helpers import FakeS3, fake_s3, needs_s3, real_s3

REPO = Path(__file__).parent.parent


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    with fake_s3() as server:
        for name, value in {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


Open = Callable[[], Store]
"""Opens the one place of a test anew, as another process with a cache of its own would."""


@pytest.fixture(params=["folder", "memory", "local", "s3", pytest.param("radosgw", marks=needs_s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    objects: object
    match request.param:
        case "folder":
            return lambda: FolderStore(tmp_path / "store")
        case "memory":
            objects = MemoryStore()
        case "local":
            objects = LocalStore(tmp_path / "objects", mkdir=True)
        case "radosgw":
            for name, value in real_s3().items():
                request.getfixturevalue("monkeypatch").setenv(name, value)
            prefix = f"s3://klingflow/{os.urandom(6).hex()}"
            return lambda: open_store(prefix, tmp_path, tmp_path / os.urandom(4).hex())
        case _:
            request.getfixturevalue("s3")
            return lambda: open_store("s3://bucket/pre/fix", tmp_path, tmp_path / os.urandom(4).hex())
    return lambda: ObjectStore(objects, objects, "objects", "0" * 64, FolderStore(tmp_path / os.urandom(4).hex()))


def file(folder: Path, data: bytes = b"a clip") -> Path:
    path = folder / f"file-{os.urandom(4).hex()}"
    path.write_bytes(data)
    return path


def spoil(store: Store, digest: Digest, data: bytes = b"rotten") -> None:
    """Damage behind the store's back."""
    if isinstance(store, FolderStore):
        path = store.root / blob_name(digest)
        path.unlink()
        path.write_bytes(data)
    else:
        assert isinstance(store, ObjectStore)
        obstore.put(store._objects, blob_name(digest), data)


# Every kind of place


def test_a_record_is_written_once_and_the_first_one_stays(place: Open) -> None:
    store = place()
    assert store.read("clips/k.json") is None
    assert store.create("clips/k.json", b"first")
    assert not store.create("clips/k.json", b"second")
    assert not place().create("clips/k.json", b"first")
    assert place().read("clips/k.json") == b"first"


def test_an_empty_record_is_a_record(place: Open) -> None:
    assert place().create("clips/k.json", b"")
    assert place().read("clips/k.json") == b""


def test_a_list_names_what_is_under_a_folder_and_nothing_beside_it(place: Open) -> None:
    store = place()
    assert list(store.list("ledger/")) == []
    for name in ("ledger/a/1.0-intent.json", "ledger/a/1.1-accepted.json", "ledger/ab/1.0-intent.json", "clips/a.json"):
        store.create(name, b"{}")
    assert sorted(place().list("ledger/a/")) == ["ledger/a/1.0-intent.json", "ledger/a/1.1-accepted.json"]
    assert sorted(place().list("ledger/"))[-1] == "ledger/ab/1.0-intent.json"
    assert set(place().list("")) == {*store.list("ledger/"), "clips/a.json", "format.json"}


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1])
@pytest.mark.parametrize("move", [False, True])
def test_a_blob_is_kept_by_its_digest_and_read_back(place: Open, tmp_path: Path, size: int, move: bool) -> None:
    data = random.Random(size).randbytes(size)
    source = file(tmp_path, data)
    store = place()
    digest = store.put(source, move=move)
    assert digest == hashlib.sha256(data).hexdigest()
    assert source.exists() is not move
    assert store.put(file(tmp_path, data), move=move) == digest
    path = place().blob(digest)
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o222 == 0
    assert list(place().list("blobs/")) == [blob_name(digest)]


def test_a_copied_file_may_change_afterwards(place: Open, tmp_path: Path) -> None:
    source = file(tmp_path, b"before")
    store = place()
    digest = store.put(source)
    source.write_bytes(b"after!")
    assert store.blob(digest).read_bytes() == b"before"


def test_a_blob_that_is_not_there_is_named(place: Open) -> None:
    with pytest.raises(BlobMissing, match="the clip or frame abababababab is not in the store"):
        place().blob(Digest("ab" * 32))


@pytest.mark.parametrize("rotten", [b"rotten", b"a klip"])
def test_damage_is_found_set_aside_told_and_healed_by_the_good_bytes(
    request: pytest.FixtureRequest, tmp_path: Path, place: Open, rotten: bytes
) -> None:
    if "s3" in request.node.name:
        pytest.skip("the small S3 cannot copy")
    digest = place().put(file(tmp_path))
    spoil(place(), digest, rotten)
    with pytest.raises(StoreError, match=r"is damaged: its bytes are not those .* it has been set aside"):
        place().blob(digest)
    with pytest.raises(BlobMissing, match="was damaged and has been set aside"):
        place().blob(digest)
    assert len([name for name in place().list("quarantine/") if digest in name]) == 1
    assert place().put(file(tmp_path)) == digest
    assert place().blob(digest).read_bytes() == b"a clip"


def test_delete_removes_and_forgives(place: Open) -> None:
    store = place()
    store.create("clips/k.json", b"{}")
    store.delete("clips/k.json")
    store.delete("clips/k.json")
    assert store.read("clips/k.json") is None


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".hid", "a/.b", "a b", "a\n", "ä"])
def test_a_name_that_could_lead_elsewhere_is_refused(place: Open, name: str) -> None:
    store = place()
    for act in (lambda: store.read(name), lambda: store.create(name, b""), lambda: store.delete(name)):
        with pytest.raises(ValueError, match="not a name in a store"):
            act()


def test_a_blob_comes_only_by_its_digest(place: Open) -> None:
    with pytest.raises(ValueError, match="is a blob's name"):
        place().create(blob_name(Digest("ab" * 32)), b"not its bytes")
    with pytest.raises(ValueError, match="not a SHA-256 digest"):
        place().blob(Digest("../../etc/passwd"))


def test_every_kind_of_place_proves_that_it_creates_only(place: Open) -> None:
    assert proves_create_only(place())
    assert list(place().list("probe/")) == []


def test_of_many_writers_of_one_name_exactly_one_wins(place: Open) -> None:
    stores = [place() for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        for turn in range(5):
            name = f"ledger/k/{turn}.0-intent.json"
            won = list(pool.map(lambda i, name=name: stores[i % 4].create(name, b"%d" % i), range(8)))  # type: ignore[misc]
            assert won.count(True) == 1
            assert place().read(name) == b"%d" % won.index(True)


def test_the_same_blob_put_by_many_at_once_succeeds_for_all(place: Open, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    files = [file(tmp_path, data) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda path: place().put(path, move=True), files))
    assert len(digests) == 1
    assert place().blob(digests.pop()).read_bytes() == data


def test_a_store_of_a_newer_klingflow_is_refused_and_left_alone(place: Open, tmp_path: Path) -> None:
    old = place()
    old.create("clips/k.json", b"{}")
    old.delete("format.json")
    if isinstance(old, FolderStore):
        (old.root / "format.json").write_bytes(b'{"format": 2}')
    else:
        assert isinstance(old, ObjectStore)
        obstore.put(old._objects, "format.json", b'{"format": 2}')
    for act in (
        lambda: place().read("clips/k.json"),
        lambda: place().create("clips/l.json", b"{}"),
        lambda: place().put(file(tmp_path)),
        lambda: place().blob(Digest("ab" * 32)),
    ):
        with pytest.raises(StoreError, match=r"has format 2, written by a newer klingflow \(this one knows 1\)"):
            act()


# A folder


def test_reading_a_store_that_does_not_exist_makes_none(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "no" / "store")
    assert store.read("clips/k.json") is None
    assert list(store.list("ledger/")) == []
    assert list(tmp_path.iterdir()) == []


def test_something_else_in_a_records_place_is_found_out(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.create("clips/k.json", b"{}")
    secret = file(tmp_path, b"secret")
    clips = tmp_path / "store" / "clips"
    (clips / "link.json").symlink_to(secret)
    (clips / "gone.json").symlink_to(tmp_path / "nowhere")
    (clips / "folder.json").mkdir()
    os.mkfifo(clips / "pipe.json")
    for name in ("link", "gone", "folder", "pipe"):
        with pytest.raises(StoreError, match=f"clips/{name}.json in the store is not a plain file"):
            store.read(f"clips/{name}.json")
        with pytest.raises(StoreError, match="is not a plain file"):
            store.create(f"clips/{name}.json", b"{}")
    assert secret.read_bytes() == b"secret"
    digest = store.put(file(tmp_path, b"frame"))
    blob = store.blob(digest)
    blob.unlink()
    blob.symlink_to(file(tmp_path, b"frame"))
    with pytest.raises(StoreError, match="is not a plain file"):
        store.blob(digest)


def test_a_blob_that_changes_after_its_first_reading_is_read_again(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    digest = store.put(file(tmp_path))
    store.blob(digest)
    spoil(store, digest)
    with pytest.raises(StoreError, match="is damaged"):
        store.blob(digest)


def test_temp_files_are_invisible_and_swept_when_they_are_old(tmp_path: Path) -> None:
    FolderStore(tmp_path / "store").create("clips/k.json", b"{}")
    clips = tmp_path / "store" / "clips"
    old, young = clips / f"{TEMP}1-aa", clips / f"{TEMP}2-bb"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    store = FolderStore(tmp_path / "store")
    assert sorted(store.list("")) == ["clips/k.json", "format.json"]
    store.create("clips/l.json", b"{}")
    assert [path.exists() for path in (old, young)] == [False, True]


def test_a_file_system_without_links_still_creates_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    store = FolderStore(tmp_path / "store")
    assert proves_create_only(store)
    digest = store.put(file(tmp_path))
    assert store.put(file(tmp_path), move=True) == digest
    assert store.blob(digest).read_bytes() == b"a clip"
    assert not list((tmp_path / "store").rglob(f"{TEMP}*"))


def test_a_moved_file_from_another_file_system_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, source = os.link, file(tmp_path)

    def elsewhere(what: Path, target: Path) -> None:
        if what == source:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        link(what, target)

    monkeypatch.setattr(os, "link", elsewhere)
    store = FolderStore(tmp_path / "store")
    assert store.blob(store.put(source, move=True)).read_bytes() == b"a clip"
    assert not source.exists()


def test_a_moved_link_leaves_its_file_and_keeps_the_bytes(tmp_path: Path) -> None:
    target, link = file(tmp_path), tmp_path / "link"
    link.symlink_to(target)
    store = FolderStore(tmp_path / "store")
    assert store.blob(store.put(link, move=True)).read_bytes() == b"a clip"
    assert (target.exists(), link.is_symlink()) == (True, False)


def test_damage_in_a_store_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path / "store")
    digest = store.put(file(tmp_path))
    spoil(store, digest)

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "rename", read_only)
    with pytest.raises(StoreError, match=r"is damaged, and cannot be set aside: .* read-only file system"):
        store.blob(digest)


@pytest.mark.parametrize("what", ["record", "copy", "move"])
def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    source, log = file(tmp_path), []
    store = FolderStore(tmp_path / "new" / "store")
    fsync, link = os.fsync, os.link

    def synced(fd: int) -> None:
        log.append(("fsync", Path(os.readlink(f"/proc/self/fd/{fd}"))))
        fsync(fd)

    def linked(from_: Path, to: Path) -> None:
        log.append(("link", Path(from_)))
        link(from_, to)
        log.append(("named", to.parent))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    if what == "record":
        store.create("ledger/k/1.0-intent.json", b"{}")
    else:
        store.put(source, move=what == "move")
    links = [i for i, (act, _) in enumerate(log) if act == "link"]
    assert len(links) == 2  # the marker, and the object
    for i in links:
        assert ("fsync", log[i][1]) in log[:i]
        assert log[i + 2] == ("fsync", log[i + 1][1])
    folders = {path for act, path in log if act == "fsync" and path.is_dir()}
    made = log[links[1] + 1][1]
    assert {made, made.parent, store.root, store.root.parent, tmp_path} <= folders


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_after_a_failed_fsync_this_process_writes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store = FolderStore(tmp_path / "store")
    store.create("clips/k.json", b"{}")
    calls = []

    def broken(fd: int) -> None:
        calls.append(fd)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(StoreError, match="cannot write"):
            store.create("clips/l.json", b"{}")
    assert len(calls) == 1
    with pytest.raises(StoreError, match="cannot write"):
        store.create("clips/m.json", b"{}")
    assert sorted(FolderStore(tmp_path / "store").list("clips/")) == ["clips/k.json"]
    assert not list((tmp_path / "store").rglob(f"{TEMP}*"))


def test_a_file_cannot_be_put_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot read .*nothing: no such file"):
        FolderStore(tmp_path / "store").put(tmp_path / "nothing")


FULL = """
import resource, signal, sys
from pathlib import Path
from klingflow.core.errors import StoreError
from klingflow.io.store import FolderStore
root, limit = Path(sys.argv[1]), int(sys.argv[2])
store = FolderStore(root / "store")
store.create("clips/before.json", b"{}")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
refused = 0
for act in (
    lambda: store.put(root / "clip"),
    lambda: store.create("clips/k.json", b"x" * 2_500_000),
):
    try:
        act()
    except StoreError as exc:
        assert "file too large" in exc.what and "make room" in exc.mend, (exc.what, exc.mend)
        refused += 1
print(refused)
"""


@pytest.mark.parametrize(("limit", "refused"), [(1, 2), (4096, 2), (1 << 20, 2), (2_499_999, 2), (2_500_000, 0)])
def test_a_disk_that_is_full_at_any_byte_leaves_nothing_half(tmp_path: Path, limit: int, refused: int) -> None:
    data = os.urandom(2_500_000)
    (tmp_path / "clip").write_bytes(data)
    run = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path, str(limit)], cwd=REPO, capture_output=True, encoding="utf-8"
    )
    assert (run.stdout, run.stderr) == (f"{refused}\n", "")
    store = FolderStore(tmp_path / "store")
    assert not list((tmp_path / "store").rglob(f"{TEMP}*"))
    kept = set(store.list("")) - {"clips/before.json", "format.json"}
    assert kept == (set() if refused else {"clips/k.json", blob_name(Digest(hashlib.sha256(data).hexdigest()))})


BUSY = """
import os, sys
from pathlib import Path
from klingflow.io.store import FolderStore
root = Path(sys.argv[1])
store, mine, n = FolderStore(root / "store"), os.getpid(), 0
print("go", flush=True)
while True:
    n += 1
    body = (b"%d " % n) * 20_000
    source = root / f"source-{mine}"
    source.unlink(missing_ok=True)
    source.write_bytes(body)
    digest = store.put(source, move=n % 2 == 0)
    store.create(f"ledger/k{n % 7}-{mine}/{n}.json", b"[" + body + digest.encode() + b"]")
    print(n, digest, flush=True)
"""


def test_a_process_killed_at_any_moment_leaves_whole_objects_and_keeps_what_it_reported(tmp_path: Path) -> None:
    told: dict[str, list[tuple[int, str]]] = {}
    seeded = random.Random(7)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", BUSY, tmp_path], cwd=REPO, stdout=subprocess.PIPE, encoding="utf-8"
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        lines = [process.stdout.readline() for _ in range(seeded.randint(1, 12))]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.stdout.close()
        process.wait()
        told[str(process.pid)] = [(int(n), d) for n, d in (line.split() for line in lines if line.endswith("\n"))]
    store = FolderStore(tmp_path / "store")
    for name in store.list("blobs/"):
        store.blob(Digest(name.removeprefix("blobs/").replace("/", "")))
    for name in store.list("ledger/"):
        data = store.read(name)
        assert data is not None
        assert (data[:1], data[-1:]) == (b"[", b"]")
    for pid, reports in told.items():
        for n, digest in reports:
            assert store.blob(Digest(digest)).read_bytes() == (b"%d " % n) * 20_000
            assert store.read(f"ledger/k{n % 7}-{pid}/{n}.json") is not None


# Object storage


def test_a_lost_answer_to_a_create_is_settled_by_reading_back(s3: FakeS3, tmp_path: Path) -> None:
    store = open_store("s3://bucket/pre", tmp_path, tmp_path / "cache")
    store.create("clips/first.json", b"{}")
    s3.lose = 1
    assert store.create("ledger/k/1.0-intent.json", b"mine")
    assert s3.puts.count("pre/ledger/k/1.0-intent.json") == 1
    s3.lose = 1
    assert not store.create("ledger/k/1.0-intent.json", b"other")
    assert store.read("ledger/k/1.0-intent.json") == b"mine"


def test_a_create_is_sent_again_when_it_certainly_was_not_written(s3: FakeS3, tmp_path: Path) -> None:
    store = open_store("s3://bucket/pre", tmp_path, tmp_path / "cache")
    store.create("clips/first.json", b"{}")
    s3.refuse = 2
    assert store.create("ledger/k/1.0-intent.json", b"mine")
    assert s3.puts.count("pre/ledger/k/1.0-intent.json") == 3


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a service asks again at once."""
    monkeypatch.setattr(io_objects, "PAUSE_S", 0.01)
    monkeypatch.setattr(io_objects, "RETRIES", 1)


def test_a_service_that_is_busy_for_long_is_waited_for(s3: FakeS3, tmp_path: Path, hasty: None) -> None:
    s3.busy = 6
    store = open_store("s3://bucket/pre", tmp_path, tmp_path / "cache")
    assert store.create("ledger/k/1.0-intent.json", b"mine")
    s3.refuse = 6
    assert store.create("ledger/k/1.1-accepted.json", b"mine")
    digest = store.put(file(tmp_path))
    asks: list[Callable[[], object]] = [
        lambda: store.read("ledger/k/1.0-intent.json"),
        lambda: list(store.list("ledger/")),
        lambda: store.holds(digest),
        lambda: store.verify(digest),
        lambda: store.written_s(digest),
        lambda: store.put(file(tmp_path, b"another")),
        lambda: store.delete("ledger/k/1.0-intent.json"),
    ]
    for ask in asks:
        s3.busy = 6
        ask()
        assert s3.busy == 0


def test_a_list_goes_on_where_the_service_was_busy_in_between(s3: FakeS3, tmp_path: Path, hasty: None) -> None:
    store = open_store("s3://bucket/pre", tmp_path, tmp_path / "cache")
    names = [f"ledger/k/{n}.0-intent.json" for n in range(1, 8)]
    for name in names:
        store.create(name, b"{}")
    s3.page = 2
    found = []
    for name in store.list("ledger/"):
        found.append(name)
        s3.busy = 20
    assert found == names


@pytest.mark.parametrize("busy", [True, False])
def test_a_service_that_never_answers_is_told_from_a_damaged_store(
    s3: FakeS3, tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    """And one at a wrong address is not waited for."""
    monkeypatch.setattr(io_objects, "PATIENCE_S", 0.05 if busy else 100.0)
    if busy:
        s3.busy = -1
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreSilent, match=r"cannot read format\.json"):
        open_store("s3://bucket/pre", tmp_path, tmp_path / "cache").read("clips/k.json")


def test_storage_that_overwrites_silently_is_refused_before_it_is_trusted(s3: FakeS3, tmp_path: Path) -> None:
    s3.overwrites = True
    store = open_store("s3://bucket/pre", tmp_path, tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(StoreError, match="s3://bucket/pre overwrites silently"):
            store.create("ledger/k/1.0-intent.json", b"mine")
    assert "pre/ledger/k/1.0-intent.json" not in s3.puts


def test_the_proof_is_asked_for_once_for_each_place_and_cache(s3: FakeS3, tmp_path: Path) -> None:
    for turn in range(3):
        open_store("s3://bucket/pre", tmp_path, tmp_path / "cache").create(f"clips/{turn}.json", b"{}")
    assert len([name for name in s3.puts if "/probe/" in name]) == 2
    open_store("s3://bucket/other", tmp_path, tmp_path / "cache").create("clips/k.json", b"{}")
    assert len([name for name in s3.puts if "/probe/" in name]) == 4


def test_a_bucket_that_does_not_exist_is_no_empty_store(s3: FakeS3, tmp_path: Path) -> None:
    s3.no_bucket = True
    with pytest.raises(StoreError, match="s3://bucket/pre does not exist"):
        open_store("s3://bucket/pre", tmp_path, tmp_path / "cache").read("clips/k.json")


def test_a_blob_is_downloaded_once_and_then_comes_from_the_cache(s3: FakeS3, tmp_path: Path) -> None:
    digest = open_store("s3://bucket/pre", tmp_path, tmp_path / "one").put(file(tmp_path))
    store = open_store("s3://bucket/pre", tmp_path, tmp_path / "two")
    path = store.blob(digest)
    assert path.is_relative_to(tmp_path / "two")
    s3.objects.clear()
    assert store.blob(digest) == path
    assert not list((tmp_path / "two").glob(f"{TEMP}*"))


def test_no_secret_stands_in_an_object_stores_complaint(s3: FakeS3, tmp_path: Path) -> None:
    store = open_store("s3://bucket/pre?token=hush", tmp_path, tmp_path / "cache")
    s3.no_bucket = True
    with pytest.raises(StoreError) as caught:
        store.read("clips/k.json")
    told = f"{caught.value.what} {caught.value.mend} {store.where}"
    assert "hush" not in told
    assert "secret-of-the-test" not in told


@pytest.mark.parametrize("place_text", ["http://h/b", "file:///tmp/x", "ftp://h"])
def test_only_known_kinds_of_object_storage_are_taken(tmp_path: Path, place_text: str) -> None:
    with pytest.raises(UsageError, match="is no place that klingflow can write to"):
        open_store(place_text, tmp_path, tmp_path / "cache")


def test_without_the_extra_object_storage_says_how_to_install_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['obstore'] = None\n"
        "from pathlib import Path\n"
        "from klingflow.core.errors import UsageError\n"
        "from klingflow.io.storage_factory import cache_limit, open_store\n"
        "open_store('store', Path(), Path())\n"
        "try: open_store('s3://b/p', Path(), Path())\n"
        "except UsageError as exc: print(exc.what, '|', exc.mend)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, encoding="utf-8")
    assert run.stdout == (
        "s3://b/p is object storage, and the library for it is not installed | pip install 'klingflow[objects]'\n"
    ), run.stderr


def test_the_local_copies_of_a_remote_store_stay_within_their_limit(s3: FakeS3, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    wide = open_store("s3://bucket/x", tmp_path, cache)
    digests = [wide.put(file(tmp_path, bytes([n]) * 1000)) for n in range(5)]
    for age, digest in enumerate(digests):
        os.utime(cache / blob_name(digest), (1_000_000 - age, 1_000_000 - age))
    lost = digests[4]
    del s3.objects[f"x/{blob_name(lost)}"]  # the one copy that there is
    (cache / blob_name(digests[0])).unlink()
    narrow = open_store("s3://bucket/x", tmp_path, cache, 2500)
    assert narrow.blob(digests[1]).read_bytes() == b"\x01" * 1000
    assert narrow.blob(digests[0]).read_bytes() == b"\x00" * 1000
    there = {digest for digest in digests if (cache / blob_name(digest)).exists()}
    assert there == {digests[0], digests[1], lost}
    assert narrow.blob(digests[3]).read_bytes() == b"\x03" * 1000


@pytest.mark.parametrize(
    ("text", "limit"), [("", None), ("50GB", 50 * 10**9), ("1.5 tb", 1_500_000_000_000), ("200MB", 200_000_000)]
)
def test_a_limit_of_the_cache_is_a_size(text: str, limit: int | None) -> None:
    assert cache_limit({"KLINGFLOW_CACHE_LIMIT": text}) == limit


@pytest.mark.parametrize("text", ["50", "GB", "-1GB", "all", "5 GBs"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        cache_limit({"KLINGFLOW_CACHE_LIMIT": text})
