from decimal import Decimal
from pathlib import Path

import pytest

from klingflow.core.errors import StoryboardError, UsageError
from klingflow.core.redact import redact
from klingflow.io.config import Config, load, secret
from klingflow.io.publish import Publish
from klingflow.planning.price import Limits
from klingflow.providers.base import Settings


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def made(root: Path, text: str, **environ: str) -> Config:
    (root / "klingflow.yaml").write_text(text, "utf-8")
    return load(root, environ)


def refused(root: Path, text: str) -> list[str]:
    with pytest.raises(StoryboardError) as caught:
        made(root, text)
    return [p.what for p in caught.value.problems]


def test_without_a_project_file_everything_has_a_default(root: Path) -> None:
    config = load(root, {})
    assert config.store == str(root / ".klingflow/store")
    assert (config.publish, config.limits, config.prices, config.shrink) == (None, Limits(), {}, None)
    assert config.settings == {}


def test_a_project_file_of_remarks_alone_is_fine(root: Path) -> None:
    assert made(root, "# store: elsewhere\n").store == str(root / ".klingflow/store")


def test_the_project_file_is_read_whole_and_the_second_time_from_the_cache(root: Path) -> None:
    text = """
store: s3://studio/films/
publish: {to: public/frames, public_url: https://frames.example.com/k/, expires: 90m}
providers: {hiapi: {concurrency: 4, data_uri: true}, mulerouter: {base64: raw}}
images: {shrink: high-quality}
limits: {spend: 20.10, seconds: 300, tasks: 60}
prices: {hiapi: {1080p: {silent: 0.112, sound: 0.14}}}
"""
    for _ in range(2):
        config = made(root, text)
        assert config.store == "s3://studio/films"
        assert config.publish == Publish(
            to=str(root / "public/frames"), public_url="https://frames.example.com/k", expires_s=5400
        )
        assert config.settings["hiapi"] == Settings(concurrency=4, own={"data_uri": True})
        assert config.settings["mulerouter"] == Settings(own={"base64": "raw"})
        assert config.limits == Limits(spend=Decimal("20.1"), seconds=300, tasks=60)
        assert config.prices == {"hiapi": {"1080p": {"silent": 0.112, "sound": 0.14}}}
        assert config.shrink == "high-quality"
        assert config.document is not None
        assert config.document.span(("limits", "tasks")).line == 6


@pytest.mark.parametrize(
    "store", ["../elsewhere", "/tmp/x", "~/x", "http://h/x", "file:///x", "s3:///x", "link/x", ".git/x"]
)
def test_the_project_file_names_no_folder_outside_the_project(root: Path, store: str) -> None:
    (root / "link").symlink_to(root.parent)
    (problem,) = refused(root, f"store: {store}\n")
    assert store in problem


def test_the_default_store_is_not_followed_out_of_the_project(root: Path) -> None:
    (root / ".klingflow").symlink_to(root.parent)
    with pytest.raises(StoryboardError, match=r"'\.klingflow' is a link"):
        load(root, {})


def test_all_faults_of_the_project_file_have_their_place(root: Path) -> None:
    (root / "klingflow.yaml").write_text("store: ../x\npublish: {to: frames, expires: 30d}\n", "utf-8")
    with pytest.raises(StoryboardError) as caught:
        load(root, {})
    assert [(p.what, p.span and (p.span.line, p.span.col)) for p in caught.value.problems] == [
        ("'../x' is outside the project", (1, 8)),
        ("frames are published to a folder, and nothing says under which URL it is readable", (2, 15)),
        ("expires of publish must be from 1h to 7d, not 30d", (2, 32)),
    ]


def test_a_key_in_the_project_file_is_refused(root: Path) -> None:
    assert refused(root, "providers: {hiapi: {api_key: x}}") == ["hiapi of providers has no field 'api_key'"]


def test_the_project_file_cannot_be_a_link_to_somewhere_else(root: Path) -> None:
    (root / "klingflow.yaml").symlink_to("/etc/passwd")
    with pytest.raises(StoryboardError, match=r"klingflow.yaml: 'klingflow.yaml' is a link out of the project"):
        load(root, {})


def test_the_environment_may_name_any_folder(root: Path) -> None:
    elsewhere = str(root.parent / "elsewhere")
    config = made(root, "store: inside\n", KLINGFLOW_STORE=elsewhere)
    assert config.store == elsewhere
    assert made(root, "", KLINGFLOW_STORE="../b").store == str(root.parent / "b")
    assert made(root, "", KLINGFLOW_STORE="gs://bucket/x").store == "gs://bucket/x"
    with pytest.raises(UsageError, match="KLINGFLOW_STORE is neither a folder"):
        made(root, "", KLINGFLOW_STORE="ftp://x")


def test_the_environment_replaces_where_frames_are_published(root: Path) -> None:
    text = "publish: {to: s3://a/b, public_url: https://a.example.com, expires: 2h}\n"
    folder = str(root.parent / "www")
    config = made(root, text, KLINGFLOW_PUBLISH_TO=folder, KLINGFLOW_PUBLISH_URL="http://127.0.0.1:8000/f/")
    assert config.publish == Publish(to=folder, public_url="http://127.0.0.1:8000/f", expires_s=7200, trusted=True)
    assert made(root, text, KLINGFLOW_PUBLISH_TO="s3://c").publish == Publish(to="s3://c", expires_s=7200)
    with pytest.raises(UsageError, match="nothing says under which URL"):
        made(root, text, KLINGFLOW_PUBLISH_TO=folder)
    with pytest.raises(UsageError, match="nothing says where to publish"):
        made(root, "", KLINGFLOW_PUBLISH_URL="https://x")
    with pytest.raises(UsageError, match="not a plain http or https URL"):
        made(root, text, KLINGFLOW_PUBLISH_URL="https://user:pass@x/")


def test_a_secret_is_redacted_from_then_on() -> None:
    assert secret({"HIAPI_API_KEY": " zq-canary-12345\n"}, "HIAPI_API_KEY") == "zq-canary-12345"
    assert "canary" not in redact("key zq-canary-12345 refused")
    assert secret({}, "HIAPI_API_KEY") == ""
    with pytest.raises(UsageError) as caught:
        secret({"HIAPI_API_KEY": "abc\r\nX-Evil: 1"}, "HIAPI_API_KEY")
    assert "Evil" not in caught.value.what


@pytest.mark.parametrize("store", ["s3//bucket/x", "s3:/bucket/x", "s3:bucket/x", "S3://bucket/x", "s3;//bucket/x"])
def test_a_mistyped_shared_store_is_no_folder(root: Path, store: str) -> None:
    with pytest.raises(StoryboardError) as caught:
        made(root, f"store: '{store}'\n")
    (problem,) = caught.value.problems
    assert store in problem.what
    assert "s3://bucket/x" in problem.mend
    assert problem.span is not None
    with pytest.raises(UsageError, match="KLINGFLOW_STORE is neither a folder") as said:
        made(root, "", KLINGFLOW_STORE=store)
    assert "s3://bucket/x" in said.value.mend


@pytest.mark.parametrize(
    "store", ["films.s3.eu-central-1.amazonaws.com/x", "storage.googleapis.com/films", "films.blob.core.windows.net"]
)
def test_a_store_that_is_named_by_its_host_is_no_folder(root: Path, store: str) -> None:
    with pytest.raises(StoryboardError, match="is neither a folder nor"):
        made(root, f"store: '{store}'\n")
    with pytest.raises(UsageError, match="KLINGFLOW_STORE is neither a folder") as said:
        made(root, "", KLINGFLOW_STORE=store)
    assert "write s3://bucket/prefix, gs://… or az://…" in said.value.mend


@pytest.mark.parametrize("store", ["s3", "s3/x", "s3.amazonaws.com.old/x", "clips//x", "./s3:x", "azure", "gs-store"])
def test_a_folder_may_begin_as_a_scheme_does(root: Path, store: str) -> None:
    assert made(root, f"store: '{store}'\n").store == str(root / store)
    assert made(root, "", KLINGFLOW_STORE=store).store == str(root / store)
