"""A store that came with a commit is refused, however it is hidden; every repository here is a real one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from klingflow.core.errors import StoreError
from klingflow.io.store import FolderStore
from klingflow.io.store_origin import ORIGIN, claim, foreign

RECORD = "ledger/" + "a" * 64 + "/1.0-intent.json"
ROOT_USER = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
OTHER_UID = 12345


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "gitconfig").write_text('[user]\nname = t\nemail = t@t\n[protocol "file"]\nallow = always\n', "utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "film"
    folder.mkdir()
    return folder


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", "-Af")
    git(folder, "commit", "-qm", "one", "--allow-empty")


def bought(store: Path) -> Path:
    """A store with a record in it."""
    (store / RECORD).parent.mkdir(parents=True)
    (store / RECORD).write_text("{}", "utf-8")
    return store


def what(store: Path, root: Path) -> str:
    refused = foreign(store, root)
    assert refused is not None
    return refused[0]


# Git knows


def test_a_store_that_git_does_not_track_is_used(root: Path) -> None:
    commit(root)
    assert foreign(bought(root / ".klingflow/store"), root) is None


def test_a_committed_store_is_refused(root: Path) -> None:
    store = bought(root / ".klingflow/store")
    commit(root)
    assert foreign(store, root) == (
        "the store .klingflow/store is committed to git, so nobody knows who wrote its ledger",
        "if you wrote it yourself: git rm -r --cached .klingflow/store, and name it in .gitignore; if not, delete it",
    )
    git(root, "rm", "-rq", "--cached", ".klingflow/store")
    assert foreign(store, root) is None


def test_one_tracked_file_is_enough_also_where_nothing_was_bought_yet(root: Path) -> None:
    (root / "store").mkdir()
    (root / "store" / ".gitkeep").touch()
    commit(root)
    assert "is committed to git" in what(root / "store", root)


def test_a_project_deep_in_its_repository_is_asked_about_there(tmp_path: Path, root: Path) -> None:
    store = bought(root / "store")
    commit(tmp_path)
    assert "the store store is committed to git" in what(store, root)
    beside = bought(tmp_path / "beside")
    assert foreign(beside, root) is None
    git(tmp_path, "add", "-Af")
    assert f"the store {beside} is committed to git" in what(beside, root)


def test_a_tracked_link_is_refused_wherever_it_leads(tmp_path: Path, root: Path) -> None:
    elsewhere = bought(tmp_path / "elsewhere/store")
    (root / ".klingflow").mkdir()
    (root / ".klingflow/store").symlink_to(elsewhere)
    (root / "up").symlink_to("../elsewhere")
    assert "is in no git repository" in what(root / ".klingflow/store", root)
    commit(root)
    for store, link in ((".klingflow/store", ".klingflow/store"), ("up/store", "up"), ("up/none", "up")):
        assert f"the store {store} is behind the link {link}, which is committed to git" in what(root / store, root)


def test_an_untracked_link_into_what_is_tracked_is_refused(root: Path) -> None:
    bought(root / "data/set")
    commit(root)
    (root / "first").symlink_to("second")
    (root / "second").symlink_to("data/set")
    (root / "store").mkdir()
    (root / "store" / "ledger").symlink_to(root / "data/set/ledger")
    for store in ("first", "store", "first/../set"):
        assert "is committed to git" in what(root / store, root)


def test_a_path_from_outside_into_the_project_is_followed(tmp_path: Path, root: Path) -> None:
    bought(root / "store")
    commit(root)
    (tmp_path / "link").symlink_to(root / "store")
    (tmp_path / "project").symlink_to(root)
    assert "is committed to git" in what(tmp_path / "link", root)
    assert "the store store is committed to git" in what(tmp_path / "project/store", tmp_path / "project")


def test_an_untracked_link_out_of_the_project_is_the_operators_choice(tmp_path: Path, root: Path) -> None:
    commit(root)
    elsewhere = bought(tmp_path / "elsewhere")
    (root / "store").symlink_to(elsewhere)
    assert foreign(root / "store", root) is None
    commit(elsewhere)
    assert "is committed to git" in what(root / "store", root)


def test_a_submodule_is_refused_and_so_is_another_clone(tmp_path: Path, root: Path) -> None:
    library = tmp_path / "library"
    bought(library / "store")
    commit(library)
    commit(root)
    git(root, "submodule", "add", "-q", str(library), "sub")
    git(root, "clone", "-q", str(library), "clone")
    refused = what(root / "sub/store", root)
    assert "the store sub/store is behind the submodule sub, which is committed to git" in refused
    assert "is behind the submodule sub" in what(bought(root / "sub/own"), root)
    assert "the store clone/store is committed to git" in what(root / "clone/store", root)
    assert foreign(bought(root / "clone/own"), root) is None


def test_a_project_in_a_submodule_may_keep_its_store_there(tmp_path: Path, root: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    commit(library)
    commit(root)
    git(root, "submodule", "add", "-q", str(library), "sub")
    assert foreign(bought(root / "sub/store"), root / "sub") is None


def test_a_tracked_folder_is_known_under_any_spelling(root: Path) -> None:
    """Where case is ignored, a commit of `Store` lands in `store`: two names of one folder. Here by a link."""
    bought(root / "Store")
    commit(root)
    (root / "Store").rename(root / "store")
    assert foreign(root / "store", root) is None
    (root / "Store").symlink_to("store")
    assert "the store store is committed to git" in what(root / "store", root)


def test_a_store_outside_the_project_is_the_operators_choice(tmp_path: Path, root: Path) -> None:
    commit(root)
    outside = bought(tmp_path / "outside")
    commit(outside)
    assert foreign(outside, root) is None
    assert foreign(root / "../outside", root) is None


# Git does not know


def test_a_store_that_holds_nothing_is_used(root: Path) -> None:
    store = root / ".klingflow/store"
    assert foreign(store, root) is None
    (store / "ledger").mkdir(parents=True)
    (store / "format.json").touch()
    assert foreign(store, root) is None


@pytest.mark.parametrize("record", [RECORD, "clips/" + "a" * 64 + ".json", "blobs/ab/" + "c" * 62])
def test_without_a_repository_only_a_claimed_store_is_used(root: Path, record: str) -> None:
    store = root / ".klingflow/store"
    claim(store)
    (store / record).parent.mkdir(parents=True)
    (store / record).write_text("{}", "utf-8")
    assert foreign(store, root) is None
    (store / ORIGIN).unlink()
    refused = foreign(store, root)
    assert refused == (
        f"the store .klingflow/store is inside the project, and nobody knows who wrote its ledger: {root} is in no git "
        "repository, and klingflow has no record that it created this store here",
        f"if the store is yours, move it out of {root} and set KLINGFLOW_STORE to its new place",
    )


def test_a_claim_is_of_one_place_and_one_number(tmp_path: Path, root: Path) -> None:
    store = root / "store"
    claim(store)
    bought(store)
    (tmp_path / "other").mkdir()
    store.rename(tmp_path / "other/store")
    assert "in no git repository" in what(tmp_path / "other/store", tmp_path / "other")
    (tmp_path / "other/store").rename(store)
    assert foreign(store, root) is None
    number = (store / ORIGIN).read_text("utf-8")
    (store / ORIGIN).write_text("0" * 64, "utf-8")
    assert foreign(store, root) is not None
    (store / ORIGIN).unlink()
    (tmp_path / "number").write_text(number, "utf-8")
    (store / ORIGIN).symlink_to(tmp_path / "number")
    assert foreign(store, root) is not None


def test_a_store_with_content_is_never_claimed(root: Path) -> None:
    store = bought(root / "store")
    claim(store)
    assert not (store / ORIGIN).exists()
    assert foreign(store, root) is not None


def test_an_empty_store_with_a_number_of_somebody_else_gets_its_own(root: Path) -> None:
    store = root / "store"
    store.mkdir()
    (store / ORIGIN).write_text("0" * 64, "utf-8")
    claim(store)
    number = (store / ORIGIN).read_text("utf-8")
    assert number != "0" * 64
    claim(store)
    assert (store / ORIGIN).read_text("utf-8") == number


def test_a_state_folder_in_the_project_proves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(root / "state"))
    claim(root / "store")
    assert (root / "store" / ORIGIN).exists()
    assert foreign(bought(root / "store"), root) is not None


def test_without_a_state_folder_there_is_no_claim_and_no_error(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    claim(root / "store")
    assert not (root / "store" / ORIGIN).exists()
    assert foreign(bought(root / "store"), root) is not None


def test_a_store_that_cannot_be_made_is_one_error(root: Path) -> None:
    (root / "store").symlink_to("nothing")
    with pytest.raises(StoreError, match=r"cannot make the store .*film/store: file exists"):
        claim(root / "store")


def test_without_git_nobody_knows(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(root)
    store = bought(root / "store")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    refused = foreign(store, root)
    assert refused is not None
    assert "git is not installed" in refused[0]
    assert refused[1].startswith("install git; or, if the store is yours, move it out of")


def test_a_broken_repository_knows_nothing(root: Path) -> None:
    commit(root)
    store = bought(root / "store")
    (root / ".git/index").write_bytes(b"broken")
    assert f"git cannot read the repository {root}" in what(store, root)
    subprocess.run(["rm", "-r", str(root / ".git")], check=True)
    (root / ".git").mkdir()
    assert "is in no git repository" in what(store, root)


def test_a_repository_in_the_store_does_not_answer_for_the_project(root: Path) -> None:
    store = bought(root / "store")
    git(store, "init", "-q")
    assert "is in no git repository" in what(store, root)


def test_git_that_takes_the_checkout_for_another_users_is_not_believed(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As below, also where the tests do not run as root: git has a variable for tests of its own."""
    commit(root)
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin/git"
    wrapper.write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {shutil.which("git")} "$@"\n', "utf-8")
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    claim(root / "store")
    assert foreign(bought(root / "store"), root) is None
    assert f"git does not trust {root}" in what(bought(root / "other"), root)


@ROOT_USER
def test_a_checkout_of_another_user_is_not_asked(root: Path) -> None:
    store = root / "store"
    commit(root)
    claim(store)
    bought(store)
    os.chown(root / ".git", OTHER_UID, -1)
    os.chown(root, OTHER_UID, -1)
    assert foreign(store, root) is None
    number = (store / ORIGIN).read_bytes()
    (store / ORIGIN).unlink()
    refused = foreign(store, root)
    assert refused is not None
    assert f"git does not trust {root}, which belongs to somebody else" in refused[0]
    assert refused[1].startswith(f"git config --global --add safe.directory {root}; or, if the store is yours, move")
    (store / ORIGIN).write_bytes(number)
    assert foreign(store, root) is None


@ROOT_USER
def test_what_the_other_user_checks_out_into_a_claimed_store_is_seen(root: Path) -> None:
    store = root / "store"
    commit(root)
    claim(store)
    bought(store)
    for path in (root / ".git", root, store / RECORD):
        os.chown(path, OTHER_UID, -1)
    assert "which belongs to somebody else" in what(store, root)


@ROOT_USER
def test_a_trusted_checkout_of_another_user_is_asked(root: Path) -> None:
    store = bought(root / "store")
    commit(root)
    for path in (root / ".git", root):
        os.chown(path, OTHER_UID, -1)
    git(root, "config", "--global", "--add", "safe.directory", str(root))
    assert "is committed to git" in what(store, root)


def test_the_claim_is_no_part_of_the_store(root: Path) -> None:
    claim(root / "store")
    store = FolderStore(root / "store")
    assert list(store.list("")) == []
    store.create("clips/a.json", b"{}")
    assert sorted(store.list("")) == ["clips/a.json", "format.json"]
    assert (root / "store" / ORIGIN).exists()
