"""Publishing a frame: once, under its digest, at a URL that lives long enough."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import obstore
import pytest
from obstore.store import MemoryStore

from klingflow.core.errors import StoreError, UsageError
from klingflow.core.model import Digest
from klingflow.io.objects import ObjectPublisher
from klingflow.io.publish import Publish, Publisher
from klingflow.io.storage_factory import open_publisher
from tests.store_helpers import FakeS3, fake_s3

DATA = b"\x89PNG a frame"
DIGEST = Digest(hashlib.sha256(DATA).hexdigest())


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    with fake_s3() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield server


def opened(root: Path, to: str = "public", **more: object) -> Publisher:
    publisher = open_publisher(Publish(to=to, **more), root)  # type: ignore[arg-type]
    assert publisher is not None
    return publisher


def test_a_project_that_publishes_nowhere_has_no_publisher(tmp_path: Path) -> None:
    assert open_publisher(None, tmp_path) is None


def test_a_frame_in_a_folder_is_written_once_readable_for_the_web_server(tmp_path: Path) -> None:
    publisher = opened(tmp_path, public_url="https://frames.example.com/kf/")
    before = os.umask(0o077)
    try:
        url = publisher.put(DIGEST, DATA, ".png")
    finally:
        os.umask(before)
    assert url == f"https://frames.example.com/kf/{DIGEST}.png"
    path = tmp_path / "public" / f"{DIGEST}.png"
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (DATA, 0o644)
    inode = path.stat().st_ino
    assert publisher.put(DIGEST, DATA, ".png") == url
    assert path.stat().st_ino == inode
    assert os.listdir(tmp_path / "public") == [path.name]


def test_a_frame_that_was_left_half_by_somebody_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    path = tmp_path / "public" / f"{DIGEST}.png"
    path.write_bytes(DATA[:3])
    opened(tmp_path, public_url="https://h").put(DIGEST, DATA, ".png")
    assert path.read_bytes() == DATA


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "public").write_text("a file", "utf-8")
    with pytest.raises(StoreError, match=r"cannot publish a frame to .*public: file exists"):
        opened(tmp_path, public_url="https://h").put(DIGEST, DATA, ".png")


def test_what_is_not_the_digests_image_is_never_published(tmp_path: Path) -> None:
    publisher = opened(tmp_path, public_url="https://h")
    for data, suffix in ((b"other", ".png"), (DATA, ".html"), (DATA, "/../x.png")):
        with pytest.raises(ValueError, match="not a file of the digest"):
            publisher.put(DIGEST, data, suffix)


@pytest.mark.parametrize(
    "url",
    [
        "http://frames.example.com",
        "http://127.0.0.1:8000",
        "frames.example.com",
        "ftp://h/x",
        "https://",
        "https://user@h/x",
        "https://h/x?token=1",
        "https://h/x#y",
        "https://h:port/",
        "https://[::1",
    ],
)
def test_a_public_url_from_a_file_must_be_plain_https(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match="`public_url` ") as caught:
        opened(tmp_path, public_url=url)
    assert "token" not in caught.value.what


def test_a_public_url_from_the_environment_may_be_http(tmp_path: Path) -> None:
    publisher = opened(tmp_path, public_url="http://127.0.0.1:8000/f", trusted=True)
    assert publisher.put(DIGEST, DATA, ".jpg") == f"http://127.0.0.1:8000/f/{DIGEST}.jpg"
    with pytest.raises(UsageError, match="is not https"):
        opened(tmp_path, public_url="ftp://127.0.0.1/f", trusted=True)


def test_a_folder_needs_a_public_url(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="frames are published to the folder public, and no `public_url` says where"):
        opened(tmp_path)


def test_a_frame_on_object_storage_has_its_type_and_the_public_url(tmp_path: Path) -> None:
    objects = MemoryStore()
    publisher = ObjectPublisher(objects, "s3://b/p", "https://cdn.example.com", timedelta(hours=25))
    for _ in range(2):
        assert publisher.put(DIGEST, DATA, ".png") == f"https://cdn.example.com/{DIGEST}.png"
    found = obstore.get(objects, f"{DIGEST}.png")
    assert (bytes(found.bytes()), found.attributes) == (DATA, {"Content-Type": "image/png"})


@pytest.mark.parametrize(("expires_h", "lives_h"), [(1, 25), (24, 25), (48, 48), (168, 168)])
def test_a_presigned_url_outlives_the_replay_of_its_request(
    tmp_path: Path, s3: FakeS3, expires_h: int, lives_h: int
) -> None:
    publisher = opened(tmp_path, "s3://bucket/frames", expires_s=expires_h * 3600)
    urls = [urlsplit(publisher.put(DIGEST, DATA, ".png")) for _ in range(2)]
    assert s3.puts == [f"frames/{DIGEST}.png"]
    assert s3.objects == {f"frames/{DIGEST}.png": DATA}
    for url in urls:
        assert f"{url.scheme}://{url.netloc}{url.path}" == f"{s3.url}/bucket/frames/{DIGEST}.png"
        assert parse_qs(url.query)["X-Amz-Expires"] == [str(lives_h * 3600)]


def test_no_presigned_url_lives_longer_than_a_week(tmp_path: Path, s3: FakeS3) -> None:
    with pytest.raises(UsageError, match="longer than 7 days"):
        opened(tmp_path, "s3://bucket/frames", expires_s=8 * 24 * 3600)
    opened(tmp_path, "s3://bucket/frames", expires_s=8 * 24 * 3600, public_url="https://h")


def test_a_bucket_that_refuses_is_named_without_its_secrets(tmp_path: Path, s3: FakeS3) -> None:
    s3.forbidden = True
    with pytest.raises(StoreError, match="cannot publish a frame to s3://bucket/frames: ") as caught:
        opened(tmp_path, "s3://bucket/frames").put(DIGEST, DATA, ".png")
    assert "Signature=" not in caught.value.what
