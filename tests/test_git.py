from __future__ import annotations

import hashlib
import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from klingflow.core.errors import UsageError
from klingflow.io.git import Tree, answer
from klingflow.io.project import BadFile, Project

Git = Callable[..., str]
ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(folder: Path, *words: str, check: bool = True) -> str:
    done = subprocess.run(["git", *words], cwd=folder, env=ENV, capture_output=True, encoding="utf-8", check=check)
    return done.stdout.strip()


def png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 36), colour).save(out, "PNG")
    return out.getvalue()


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n"


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits on main: `films/` is the project; everything was changed or removed after the first (tag v1)."""
    top = tmp_path_factory.mktemp("repo")
    films = top / "films"
    (films / "frames").mkdir(parents=True)
    git(top, "init", "-q", "-b", "main")
    (top / "outside.txt").write_text("outside the project\n", "utf-8")
    (films / "harbour.yaml").write_bytes(b"title: old\r\n")
    (films / "ümläut name.yaml").write_text("x: 1\n", "utf-8")
    (films / "frames" / "a.png").write_bytes(png("red"))
    (films / "frames" / "cut.png").write_bytes(png("red")[:60])
    (films / "frames" / "big.png").write_text(POINTER.format("a" * 64), "utf-8")
    (films / "frames" / "here.png").write_text(POINTER.format(hashlib.sha256(png("blue")).hexdigest()), "utf-8")
    (films / "frames" / "early.png").write_text(POINTER.format("b" * 64).replace("git-lfs", "hawser"), "utf-8")
    (films / "large.yaml").write_bytes(b"#" * (3 << 20))
    (films / ".env").write_text("SECRET=1\n", "utf-8")
    (films / "link.yaml").symlink_to("harbour.yaml")
    (films / "passwd").symlink_to("/etc/passwd")
    (films / "up").symlink_to("../../../../etc/passwd")
    (films / "dangling").symlink_to("nothing")
    (films / "loop").symlink_to("loop")
    git(top, "add", "-A")
    inner = git(top, "hash-object", "-t", "commit", "-w", "--stdin", check=False) or "1" * 40
    git(top, "update-index", "--add", "--cacheinfo", f"160000,{inner},films/library")
    git(top, "commit", "-q", "-m", "one")
    git(top, "tag", "v1")
    (films / "harbour.yaml").write_text("title: new\n", "utf-8")
    (films / "frames" / "a.png").unlink()
    git(top, "add", "-A", "--", "films/harbour.yaml", "films/frames")
    git(top, "commit", "-q", "-m", "two")
    blue = hashlib.sha256(png("blue")).hexdigest()
    kept = top / ".git" / "lfs" / "objects" / blue[:2] / blue[2:4]
    kept.mkdir(parents=True)
    (kept / blue).write_bytes(png("blue"))
    return top


@pytest.fixture
def old(repo: Path) -> Tree:
    return Tree(repo / "films", "v1")


def test_files_are_read_as_they_were_without_a_checkout(repo: Path, old: Tree) -> None:
    with old:
        assert old.read_text("harbour.yaml") == "title: old\n"
        assert old.read("frames/none.png") is None
        assert old.read("harbour.yaml/inside") is None
        assert old.read_text("./frames/../harbour.yaml") == "title: old\n"
        assert old.read_text("ümläut name.yaml") == "x: 1\n"
        assert old.digest("frames/a.png") == hashlib.sha256(png("red")).hexdigest()
    assert (repo / "films" / "harbour.yaml").read_text("utf-8") == "title: new\n"


def test_a_digest_is_that_of_the_file_on_disk_also_of_a_large_one(tmp_path: Path) -> None:
    """Read in pieces: it is no pointer, whatever its first bytes are."""
    git(tmp_path, "init", "-q", "-b", "main")
    large = POINTER.format("a" * 64).encode() + os.urandom(3 << 20)
    (tmp_path / "clip.mp4").write_bytes(large)
    (tmp_path / "a.png").write_bytes(png("red"))
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "one")
    with Tree(tmp_path, "main") as tree:
        assert tree.digest("clip.mp4") == hashlib.sha256(large).hexdigest()
        assert tree.digest("a.png") == Project(tmp_path).digest("a.png")
        assert tree.digest("clip.mp4") == hashlib.sha256(large).hexdigest(), "nothing is left in the pipe"


def test_a_link_is_followed_inside_the_repository_only(old: Tree) -> None:
    with old:
        assert old.read_text("link.yaml") == "title: old\n"
        for name in ("passwd", "up", "dangling", "loop"):
            with pytest.raises(BadFile, match="is a link that leads to no file of the repository"):
                old.read(name)
        assert old.read_text("harbour.yaml") == "title: old\n"


@pytest.mark.parametrize("path", ["../outside.txt", "/etc/passwd", "~/x", "a\nb", "", "http://h/x", "frames\\a.png"])
def test_a_path_is_held_to_the_rules_of_a_project(old: Tree, path: str) -> None:
    with old, pytest.raises(BadFile):
        old.read(path)


def test_hidden_files_folders_and_too_large_files_are_refused(old: Tree) -> None:
    with old:
        for path, said in ((".env", "hidden"), ("frames", "folder"), ("large.yaml", "at most"), ("frames", "folder")):
            with pytest.raises(BadFile, match=said):
                old.read(path)
        assert old.read_text("harbour.yaml") == "title: old\n"


def test_a_submodule_is_named_as_what_it_is(old: Tree) -> None:
    with old, pytest.raises(BadFile, match="in the submodule 'films/library'"):
        old.read("library/a.png")


def test_a_large_file_pointer_gives_its_digest_and_its_bytes_where_it_was_fetched(old: Tree) -> None:
    with old:
        assert old.digest("frames/big.png") == "a" * 64
        assert old.digest("frames/early.png") == "b" * 64
        assert old.digest("frames/here.png") == hashlib.sha256(png("blue")).hexdigest()
        assert old.read_bytes("frames/here.png") == png("blue")
        with pytest.raises(BadFile) as refused:
            old.read_text("frames/big.png")
    assert refused.value.what == (
        "'frames/big.png' at v1 cannot be read: it is kept by Git LFS, and was not fetched"
    )
    assert refused.value.mend == "git lfs fetch origin v1 (in CI: lfs: true for actions/checkout)"


@pytest.mark.parametrize("ref", ["main", "HEAD", "HEAD~1", "v1", "refs/heads/main"])
def test_a_ref_is_a_branch_a_tag_or_a_commit(repo: Path, ref: str) -> None:
    with Tree(repo / "films", ref) as tree:
        assert tree.commit == git(repo, "rev-parse", f"{ref}^{{commit}}")


def test_an_unknown_ref_says_how_to_fetch_it(repo: Path) -> None:
    with pytest.raises(UsageError) as refused:
        Tree(repo, "origin/main")
    assert refused.value.what == "git knows no commit origin/main here"
    mend = "fetch it: git fetch origin main:refs/remotes/origin/main (in CI: fetch-depth: 0 for actions/checkout)"
    assert refused.value.mend == mend


def test_a_shallow_clone_is_told(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repo}", "clone")
    with pytest.raises(UsageError, match="this is a shallow clone"):
        Tree(tmp_path / "clone", "v1")


@pytest.mark.parametrize("ref", ["--output=x", "-h", "", "a b", "a:b", "\x1b[31m", "x\ny", "a" * 600])
def test_what_is_no_ref_never_reaches_git(repo: Path, ref: str) -> None:
    with pytest.raises(UsageError, match="is not a git ref"):
        Tree(repo, ref)


@pytest.mark.parametrize(("ref", "first"), [("main..pr", "main"), ("v1...HEAD", "v1"), ("..v1", "origin/main")])
def test_a_range_is_told_as_that_and_not_as_a_branch_to_fetch(repo: Path, ref: str, first: str) -> None:
    with pytest.raises(UsageError) as refused:
        Tree(repo, ref)
    assert refused.value.what == f"{ref} names more than one commit"
    assert refused.value.mend == f"name one: {first}; it is compared with where this branch left it"


def test_a_folder_outside_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not in a git repository, so there is no main"):
        Tree(tmp_path, "main")


def test_nothing_that_a_repository_configures_is_run(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(repo), "clone")
    clone = tmp_path / "clone"
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n", "utf-8")
    trap.chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "core.sshCommand", "diff.external", "core.editor", "core.askPass"):
        git(clone, "config", name, str(trap))
    git(clone, "config", "alias.cat-file", f"!{trap}")
    git(clone, "config", "remote.origin.url", f"ext::{trap}")
    git(clone, "config", "remote.origin.promisor", "true")
    with Tree(clone / "films", "v1") as tree:
        assert tree.read_text("harbour.yaml") == "title: old\n"
        with pytest.raises(BadFile):
            tree.read("library/a.png")
    assert not (tmp_path / "sprung").exists()


def test_git_sees_no_key_of_a_provider_and_no_other_repository(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.setenv("HIAPI_API_KEY", "secret-key")
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "git").write_text(f'#!/bin/sh\nenv >> {tmp_path}/seen\nPATH={os.environ["PATH"]} exec git "$@"\n', "utf-8")
    (fake / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    with Tree(repo / "films", "v1") as tree:
        assert tree.read_text("harbour.yaml") == "title: old\n"
    assert "secret-key" not in (tmp_path / "seen").read_text("utf-8")


def test_no_process_is_left_behind(repo: Path) -> None:
    tree = Tree(repo / "films", "v1")
    tree.read("harbour.yaml")
    process = tree._repo._batch
    assert process is not None
    tree.close()
    assert process.returncode is not None


def test_nothing_that_the_repository_names_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top, ran = tmp_path / "repo", tmp_path / "ran"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    (top / "a.yaml").write_text("x: 1\n", "utf-8")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "one")
    script = top / "evil"
    script.write_text(f'#!/bin/sh\ntouch {ran}\nexec false "$@"\n', "utf-8")
    script.chmod(0o755)
    for name, value in {
        "core.fsmonitor": str(script),
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": f"ext::{script} %S",
        "protocol.ext.allow": "always",
        "protocol.allow": "always",
    }.items():
        git(top, "config", name, value)
    blob = git(top, "rev-parse", "HEAD:a.yaml")
    (top / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    script.rename(top / "git")
    script.symlink_to("git")
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
    with Tree(top, "HEAD") as tree, pytest.raises(BadFile, match="this is a partial clone, and its blob is not here"):
        tree.read("a.yaml")
    assert answer(top, "ls-files") == b"a.yaml\n"
    assert not ran.exists()
