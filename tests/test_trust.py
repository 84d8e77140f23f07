"""How far a runner and a record are trusted: a store that is only read, and records that are signed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from klingflow.core.errors import StoreError, UsageError
from klingflow.core.redact import redact
from klingflow.io import trust
from klingflow.io.store import FolderStore, Store
from klingflow.io.trust import ReadOnlyStore, SignedStore
from tests.cli import Project

OLD, NEW = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
NAME = f"clips/{'a' * 64}.json"
RECORD = b'{\n "key": "a",\n "version": 1\n}\n'


def signing(inner: Store, *keys: tuple[str, str], demanded: bool = False) -> SignedStore:
    return SignedStore(inner, {name: secret.encode() for name, secret in keys}, demanded=demanded)


@pytest.fixture
def inner(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_a_signed_record_is_read_as_it_was_written_and_is_json_with_its_signature(inner: FolderStore) -> None:
    store = signing(inner, ("k1", OLD))
    assert store.create(NAME, RECORD)
    assert store.read(NAME) == RECORD
    raw = inner.read(NAME)
    assert raw is not None
    key, _, signature = json.loads(raw)["signature"].partition(":")
    assert (key, len(signature)) == ("k1", 64)
    assert json.loads(raw) | {"signature": ""} == json.loads(RECORD) | {"signature": ""}
    assert not store.create(NAME, RECORD)
    assert dict(store.seen) == {"k1": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b'"key": "a"', b'"key": "b"'),
        lambda raw: raw.replace(b'"version": 1', b'"version": 1 '),
        lambda raw: raw.replace(b'"k1:', b'"k1:0')[: len(raw)],
        lambda raw: raw[:-6] + bytes([raw[-6] ^ 1]) + raw[-5:],
        lambda raw: b" " + raw,
    ],
    ids=["value", "space", "digits", "last digit", "before"],
)
def test_a_changed_record_is_not_believed(inner: FolderStore, change: Callable[[bytes], bytes]) -> None:
    signing(inner, ("k1", OLD)).create(NAME, RECORD)
    raw = inner.read(NAME)
    assert raw is not None
    (inner.root / NAME).chmod(0o600)
    (inner.root / NAME).write_bytes(change(raw))
    with pytest.raises(StoreError, match="not believed"):
        signing(inner, ("k1", OLD), demanded=True).read(NAME)


def test_a_record_under_another_name_is_not_believed(inner: FolderStore) -> None:
    signing(inner, ("k1", OLD)).create(NAME, RECORD)
    other = NAME.replace("aaaa", "bbbb", 1)
    (inner.root / NAME).rename(inner.root / other)
    with pytest.raises(StoreError, match="was changed after it was signed"):
        signing(inner, ("k1", OLD)).read(other)


def test_a_record_without_a_signature_is_read_until_one_is_demanded(inner: FolderStore) -> None:
    inner.create(NAME, RECORD)
    lenient = signing(inner, ("k1", OLD))
    assert lenient.read(NAME) == RECORD
    assert dict(lenient.seen) == {"": 1}
    with pytest.raises(StoreError, match="has no signature"):
        signing(inner, ("k1", OLD), demanded=True).read(NAME)


def test_keys_rotate(inner: FolderStore) -> None:
    signing(inner, ("k1", OLD)).create(NAME, RECORD)
    both = signing(inner, ("k2", NEW), ("k1", OLD), demanded=True)
    assert both.read(NAME) == RECORD
    second = NAME.replace("aaaa", "cccc", 1)
    both.create(second, RECORD)
    assert signing(inner, ("k2", NEW)).read(second) == RECORD
    with pytest.raises(StoreError, match="signed with the key 'k1', which KLINGFLOW_STORE_KEYS does not name"):
        signing(inner, ("k2", NEW)).read(NAME)
    with pytest.raises(StoreError, match="was changed"):
        signing(inner, ("k1", NEW)).read(NAME)


def test_a_runner_without_keys_reads_signed_records(inner: FolderStore) -> None:
    signing(inner, ("k1", OLD)).create(NAME, RECORD)
    assert json.loads(trust.guarded(inner, trust.of({})).read(NAME) or b"")["key"] == "a"


def test_the_environment_says_what_is_trusted() -> None:
    found = trust.of({trust.KEYS: f"b:{NEW}, a:{OLD}", trust.SIGNED: "1", trust.READONLY: "0"})
    assert list(found.keys.items()) == [("b", NEW.encode()), ("a", OLD.encode())]
    assert (found.demanded, found.read_only) == (True, False)
    assert trust.of({}) == trust.Trust(keys={})
    assert NEW not in redact(f"x {NEW} y")


@pytest.mark.parametrize(
    ("environ", "what"),
    [
        ({trust.KEYS: OLD}, "not ID:SECRET"),
        ({trust.KEYS: "a:short"}, "could be guessed"),
        ({trust.KEYS: f"a:{OLD} a:{NEW}"}, "twice"),
        ({trust.SIGNED: "1"}, "no key is there"),
        ({trust.READONLY: "yes"}, "READONLY is 'yes'"),
    ],
)
def test_what_cannot_be_meant_is_refused(environ: dict[str, str], what: str) -> None:
    with pytest.raises(UsageError, match=what) as raised:
        trust.of(environ)
    assert OLD not in f"{raised.value.what} {raised.value.mend}"


def test_a_store_that_is_only_read_refuses_every_write(inner: FolderStore, tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    clip.write_bytes(b"a clip")
    digest = inner.put(clip)
    store = ReadOnlyStore(inner)
    assert store.put(clip) == digest
    assert store.blob(digest).read_bytes() == b"a clip"
    clip.write_bytes(b"another")
    for write in (lambda: store.create(NAME, RECORD), lambda: store.put(clip), lambda: store.delete(NAME)):
        with pytest.raises(StoreError, match="KLINGFLOW_STORE_READONLY is set"):
            write()
    assert [*inner.list("clips/")] == []


def test_a_damaged_clip_stays_where_it_is_in_a_store_that_is_only_read(inner: FolderStore, tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    clip.write_bytes(b"a clip")
    digest = inner.put(clip)
    blob = inner.blob(digest)
    blob.chmod(0o600)
    blob.write_bytes(b"damaged")
    store = ReadOnlyStore(signing(FolderStore(inner.root), ("k1", OLD)))
    for read in (store.blob, store.verify):
        with pytest.raises(StoreError, match="is damaged") as raised:
            read(digest)
        assert "set aside" not in raised.value.what
    assert blob.exists()
    with pytest.raises(StoreError, match="has been set aside"):
        FolderStore(inner.root).blob(digest)
    assert not blob.exists()


BOARD = """\
klingflow: 1
defaults: {provider: animatic, resolution: 720p, duration: 3}
shots: [{id: dawn, prompt: A pier.}]
"""


def test_a_runner_that_may_only_read_plans_and_delivers_and_makes_nothing(project: Project) -> None:
    project.write("film.yaml", BOARD)
    refused = project.run("run", KLINGFLOW_STORE_READONLY="1")
    assert refused.code == 2
    assert "1 clip would be written to the store" in refused.err
    assert "nothing was made" in refused.err
    assert not (project.root / ".klingflow/store").exists()
    assert project.run("plan", KLINGFLOW_STORE_READONLY="1").code == 0
    assert project.run("run").code == 0
    before = sorted(path for path in (project.root / ".klingflow/store").rglob("*") if path.is_file())
    again = project.run("run", KLINGFLOW_STORE_READONLY="1")
    assert again.code == 0, again.said
    assert project.run("film", KLINGFLOW_STORE_READONLY="1").code == 0
    assert before == sorted(path for path in (project.root / ".klingflow/store").rglob("*") if path.is_file())
    assert "nothing is written" in project.run("doctor", KLINGFLOW_STORE_READONLY="1").out


def test_a_forged_record_of_a_clip_makes_its_shot_stop_where_signatures_are_demanded(project: Project) -> None:
    keys = {"KLINGFLOW_STORE_KEYS": f"k1:{OLD}", "KLINGFLOW_STORE_SIGNED": "1"}
    project.write("film.yaml", BOARD)
    assert project.run("run", **keys).code == 0
    [record] = (project.root / ".klingflow/store/clips").iterdir()
    assert '"signature": "k1:' in record.read_text("utf-8")
    (project.root / "film.lock.yaml").unlink()
    assert project.run("run", **keys).code == 0
    (project.root / "film.lock.yaml").unlink()
    record.chmod(0o600)
    record.write_text(record.read_text("utf-8").replace('"frames": 7', '"frames": 8'), "utf-8")
    stopped = project.run("run", **keys)
    assert stopped.code == 1, stopped.said
    assert "was changed after it was signed with the key 'k1'" in stopped.said
    assert OLD not in stopped.said
