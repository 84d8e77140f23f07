"""Where a project's files really are: in Git LFS, in a submodule, in a clone that has not everything. Real git."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import clips
from tests.cli import Ended, Project

WHO = {f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "file",
    **WHO,
}


@dataclass(frozen=True)
class Repo(Project):
    """A project in a repository."""

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.root, env=ENV, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            self.write(name.replace("_yaml", ".yaml"), text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "work")
        return self.git("rev-parse", "HEAD")

    def plan(self, ref: str = "main", *words: str, code: int = 0) -> Ended:
        ended = self.run("plan", "film.yaml", "--against", ref, *words)
        assert ended.code == code, ended.said
        return ended

    def told(self, ref: str = "main", *words: str) -> dict[str, Any]:
        """The plan against that ref as JSON."""
        return dict(json.loads(self.plan(ref, "--format", "json", *words).out))


def repository(folder: Path) -> Repo:
    folder.mkdir(parents=True)
    made = Repo(folder, {"XDG_CACHE_HOME": str(folder.parent / "cache")})
    made.git("init", "-q", "-b", "main")
    made.write(".gitignore", ".klingflow/\nout/\n")
    return made


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return repository(tmp_path / "repo")


def pointer(data: bytes) -> str:
    """What Git LFS keeps in git for a file."""
    digest = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(data)}\n"


FILM = "klingflow: 1\ndefaults: {duration: 3}\nshots:\n  - {id: a, prompt: x}\n"


@pytest.mark.parametrize("name", ["film.yaml", "film.lock.yaml", "klingflow.yaml"])
def test_a_yaml_file_that_git_lfs_keeps_is_named_as_that(repo: Repo, name: str) -> None:
    repo.write("film.yaml", FILM)
    repo.write(name, pointer(b"x"))
    ended = repo.run("plan", "film.yaml", "--format", "markdown")
    assert ended.code == 2
    said = f"'{name}' is a Git LFS pointer, not the file\nmend: run `git lfs pull` (in CI: `lfs: true`)\n"
    assert said in ended.err
    assert "There is no plan: 1 thing to mend first." in ended.out, "the comment with the last plan does not stay up"
    assert f"'{name}' is a Git LFS pointer" in ended.out


def still(seed: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (640, 360), (seed * 40 % 256, 80, 160)).save(out, "PNG")
    return out.getvalue()


BOARD = """klingflow: 1
vars: {look: "{% include 'look.txt' %}"}
defaults: {duration: 3}
shots:
  - {id: one, first_frame: frames/1.png, prompt: one}
  - {id: two, first_frame: frames/2.png, prompt: two}
  - {id: three, prompt_file: prompts/3.txt}
  - {id: four, prompt: "four, {{ look }}"}
  - {id: five, prompt: "{% import 'words.txt' as words %}five {{ words.rain }}"}
  - {id: six, continues: five, prompt: six}
  - {id: seven, clip: footage/7.mp4}
"""

def board(repo: Repo, seed: int = 0) -> None:
    """A storyboard whose files are all of them others with another seed, but `two`'s still."""
    repo.write("film.yaml", BOARD)
    repo.write("frames/1.png", still(1 + seed))
    repo.write("frames/2.png", still(2))
    repo.write("prompts/3.txt", f"three {seed}")
    repo.write("look.txt", f"35 mm {seed}")
    repo.write("words.txt", f"{{% set rain = 'in the rain {seed}' %}}")
    repo.write("footage/7.mp4", clip(24 + seed))


@cache
def clip(frames: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        clips.make(path, frames=frames)
        return path.read_bytes()


def states(told: dict[str, Any]) -> dict[str, str]:
    return {change["shot"]: change["state"] for change in told["comparison"]["shots"]}


EVERY = dict.fromkeys(("one", "three", "four", "five", "seven"), "changed")


def test_against_a_base_in_git_lfs_no_object_is_needed(repo: Repo) -> None:
    board(repo)
    for name in ("frames/1.png", "frames/2.png", "footage/7.mp4"):
        repo.write(name, pointer((repo.root / name).read_bytes()))
    repo.commit()
    board(repo, 1)
    assert states(repo.told("HEAD")) == EVERY
    board(repo)
    assert states(repo.told("HEAD")) == {}


def test_a_branch_is_compared_with_the_commit_where_it_left_the_ref(repo: Repo) -> None:
    board(repo)
    left = repo.commit()
    repo.git("checkout", "-q", "-b", "pr")
    repo.commit(film_yaml=BOARD.replace("prompt: two", "prompt: two and a half"))
    repo.git("checkout", "-q", "main")
    board(repo, 1)
    tip = repo.commit(film_yaml=BOARD.replace("prompt: six", "prompt: six of main"))
    repo.git("checkout", "-q", "pr")
    for ref in ("main", tip):
        told = repo.told(ref)
        assert states(told) == {"two": "changed"}
        assert (told["against"], told["against_commit"]) == (ref, left)
    named = f"main at {left[:7]}, where this branch left it"
    assert f"  against {named}: 1 changed\n" in repo.plan("main").out
    assert f"Against <code>{named}</code>: 1 changed." in repo.plan("main", "--format", "markdown").out

    repo.git("merge", "-q", "--no-edit", "main")  # what GitHub checks out for a pull request
    told = repo.told()
    assert (states(told), told["against_commit"]) == ({"two": "changed"}, tip)
    assert "  against main: 1 changed\n" in repo.plan("main").out, "no commit is named where the ref itself is it"
    repo.git("checkout", "-q", left)
    assert states(repo.told("main")) == {}, "what others did since is no change of mine"


def test_a_revert_is_compared_with_what_it_takes_back(repo: Repo) -> None:
    board(repo)
    repo.commit()
    bad = repo.commit(film_yaml=BOARD.replace("prompt: two", "prompt: two and worse"))
    repo.git("tag", "worse")
    repo.git("checkout", "-q", "-b", "revert")
    repo.git("revert", "--no-edit", "HEAD")
    for ref in ("main", "worse", bad):
        told = repo.told(ref)
        assert told["against_commit"] == bad
        fields = told["comparison"]["shots"][0]["fields"]
        assert [(part["field"], part["old"], part["new"]) for part in fields] == [("prompt", "two and worse", "two")]
    assert states(repo.told("HEAD~2")) == {}, "the commit before it is the same again"


def clone(repo: Repo, name: str, *words: str) -> Repo:
    made = Repo(repo.root.parent / name, repo.env)
    repo.git("config", "uploadpack.allowFilter", "true")
    repo.git("config", "uploadpack.allowAnySHA1InWant", "true")
    repo.git("clone", "-q", *words, f"file://{repo.root}", str(made.root))
    return made


def test_a_partial_clone_is_named_and_compared_as_far_as_it_is_known(repo: Repo) -> None:
    board(repo)
    repo.write("film.lock.yaml", "klingflow_lock: 1\nshots: {}\n")
    base = repo.commit()
    repo.git("checkout", "-q", "-b", "pr")
    board(repo, 1)
    repo.commit(film_yaml=BOARD)
    part = clone(repo, "part", "--filter=blob:none", "--branch", "pr")
    told = part.told("origin/main")
    assert states(told) == dict.fromkeys(EVERY, "unknown"), "two and six are known to be as they were"
    why = "'frames/1.png' at origin/main cannot be read: this is a partial clone, and its blob is not here"
    assert told["comparison"]["shots"][0]["unknown"] == [{"field": "first_frame", "why": why}]
    assert told["comparison"]["cost"]["change"] is None
    assert [one["what"].split("'")[1] for one in told["comparison"]["unread"]] == [
        *("look.txt", "prompts/3.txt", "words.txt", "frames/1.png", "footage/7.mp4")
    ]

    text = part.plan("origin/main")
    assert f"first_frame changed or not is unknown: {why}" in " ".join(text.out.replace(" 3 s\n", "\n").split())
    assert "against origin/main: 5 unknown, cost not known" in text.out
    assert text.err.count("warning:") == 1, "one for all files that one command brings"
    comment = part.plan("origin/main", "--format", "markdown").out
    assert f"Against <code>origin/main</code>: 5 unknown. {told['comparison']['unread'][0]['what']}; 4 more" in comment
    assert f"changed or not is unknown: {why} |" in comment

    mend = told["comparison"]["unread"][0]["mend"]
    assert mend == "git diff --stat HEAD origin/main fetches it (in CI: no `filter` for actions/checkout)"
    part.git(*shlex.split(mend.partition(" fetches")[0])[1:])
    told = part.told("origin/main")
    assert (states(told), told["comparison"]["unread"], told["against_commit"]) == (EVERY, [], base)


@pytest.mark.parametrize("name", ["film.yaml", "film.lock.yaml", "klingflow.yaml"])
def test_a_text_of_the_base_that_cannot_be_read_is_named(repo: Repo, name: str) -> None:
    board(repo)
    repo.write("klingflow.yaml", "limits: {spend: 5}\n")
    repo.write("film.lock.yaml", "klingflow_lock: 1\nshots: {}\n")
    was = (repo.root / name).read_text("utf-8")
    repo.commit(**{name.replace(".yaml", "_yaml"): pointer(b"x")})
    repo.write(name, was)
    why = f"'{name}' at HEAD cannot be read: it is kept by Git LFS, and was not fetched"
    ended, told = repo.plan("HEAD"), repo.told("HEAD")
    assert why in " ".join(ended.err.split())
    assert why in repo.plan("HEAD", "--format", "markdown").out
    assert any(why in warning["what"] for warning in told["warnings"])
    if name == "klingflow.yaml":
        assert "against HEAD: nothing differs" in ended.out
        return
    assert why in " ".join(ended.out.split())
    assert told["comparison"]["unread"][0]["what"] == why
    assert told["comparison"]["cost"]["base_to_buy"] is None, "without the lock a run of the base may buy or not"
    unknown = "7 unknown, " if name == "film.yaml" else ""
    assert f"against HEAD: {unknown}cost not known" in ended.out


def test_a_shot_of_the_base_that_is_wrong_leaves_the_others_compared(repo: Repo) -> None:
    board(repo)
    repo.commit(film_yaml=BOARD.replace("prompt: two", 'prompt: "{{ nothing }}"').replace("prompt: six", "prompt: 6th"))
    repo.write("film.yaml", BOARD)
    told = repo.told("HEAD")
    assert states(told) == {"two": "unknown", "six": "changed"}
    assert told["comparison"]["shots"][0]["unknown"] == [{"field": "prompt", "why": "'nothing' is not declared"}]
    assert told["comparison"]["unread"][0]["what"] == (
        "'film.yaml' at HEAD cannot be read in full: 'nothing' is not declared (HEAD:film.yaml:6:51)"
    )


def test_a_still_that_the_base_did_not_have_is_a_change(repo: Repo) -> None:
    board(repo)
    (repo.root / "frames/1.png").unlink()
    repo.commit()
    board(repo)
    told = repo.told("HEAD")
    assert states(told) == {"one": "changed"}
    [field] = told["comparison"]["shots"][0]["fields"]
    assert (field["old"], field["buys"]) == ("frames/1.png (not there)", True)
    assert told["comparison"]["unread"] == []


def test_an_object_that_git_has_lost_voids_nothing_else(repo: Repo) -> None:
    board(repo)
    repo.commit()
    blob = repo.git("rev-parse", "HEAD:frames/1.png")
    board(repo, 1)
    repo.commit()
    (repo.root / ".git/objects" / blob[:2] / blob[2:]).unlink()
    told = repo.told("HEAD~1")
    assert states(told) == {**EVERY, "one": "unknown"}
    [unread] = told["comparison"]["unread"]
    assert unread["what"].endswith("cannot be read: git has lost its object")
    assert "git fsck" in unread["mend"]


def test_a_shallow_clone_is_named_with_the_command_that_mends_it(repo: Repo) -> None:
    board(repo)
    repo.commit()
    repo.git("checkout", "-q", "-b", "pr")
    board(repo, 1)
    repo.commit()
    repo.git("checkout", "-q", "main")
    repo.commit(film_yaml=BOARD.replace("prompt: six", "prompt: six of main"))
    shallow = clone(repo, "shallow", "--depth=1", "--branch", "pr")
    ended = shallow.plan("origin/main", code=2)
    assert "git knows no commit origin/main here; this is a shallow clone" in ended.err
    mend = "git fetch --unshallow origin '+refs/heads/*:refs/remotes/origin/*'"
    assert f"mend: {mend} (in CI: fetch-depth: 0 for actions/checkout)" in ended.err

    shallow.git("fetch", "-q", "--depth=1", "origin", "main:refs/remotes/origin/main")
    told = shallow.told("origin/main")
    assert states(told) == {**EVERY, "six": "changed"}, "what main did since cannot be told from what the branch did"
    [warning] = told["warnings"]
    assert "no commit in common" in warning["what"]
    assert "this is a shallow clone" in warning["what"]
    assert warning["mend"] == f"{mend} (in CI: fetch-depth: 0 for actions/checkout)"
    shallow.git(*shlex.split(mend)[1:])
    told = shallow.told("origin/main")
    assert (states(told), told["warnings"]) == (EVERY, [])


def test_a_ref_that_was_not_fetched_is_named_with_the_command_that_brings_it(repo: Repo) -> None:
    board(repo)
    tip = repo.commit()
    repo.git("checkout", "-q", "-b", "pr")
    repo.commit()
    single = clone(repo, "single", "--single-branch", "--branch", "pr")
    said = single.plan("main", code=2).err
    mend = "git fetch origin main:refs/remotes/origin/main"
    assert f"fetch it: {mend}, then --against origin/main (in CI: fetch-depth: 0 for actions/checkout)" in said
    assert f"fetch it: {mend} (in CI: fetch-depth: 0 for actions/checkout)" in single.plan("origin/main", code=2).err
    single.git(*mend.split()[1:])
    assert single.told("origin/main")["against_commit"] == tip
    assert "mend: did you mean origin/main?" in single.plan("main", code=2).err
    absent = "0123456789" * 4
    assert f"git fetch origin {absent} (in CI" in single.plan(absent, code=2).err


def with_submodule(repo: Repo) -> Repo:
    """The project's stills, a prompt and a macro file are in a submodule of it; returns that one's own repository."""
    kit = Repo(repo.root.parent / "kit", repo.env)
    kit.root.mkdir()
    kit.git("init", "-q", "-b", "main")
    kit.git("config", "uploadpack.allowAnySHA1InWant", "true")
    board(kit)
    kit.git("rm", "-q", "--cached", "-r", "--ignore-unmatch", ".")
    (kit.root / "film.yaml").unlink()
    kit.commit()
    repo.git("submodule", "add", "-q", "--name", "the kit", f"file://{kit.root}", "kit")
    text = BOARD
    for name in ("frames/", "prompts/", "look.txt", "words.txt", "footage/"):
        text = text.replace(name, f"kit/{name}")
    repo.commit(film_yaml=text)
    return kit


def bump(repo: Repo, kit: Repo) -> None:
    """The submodule at another commit, not committed yet."""
    board(kit, 1)
    (kit.root / "film.yaml").unlink()
    head = kit.commit()
    Repo(repo.root / "kit", repo.env).git("fetch", "-q", "origin")
    Repo(repo.root / "kit", repo.env).git("checkout", "-q", head)


def test_a_file_in_a_submodule_is_read_at_the_commit_that_the_base_names(repo: Repo) -> None:
    kit = with_submodule(repo)
    assert states(repo.told("HEAD")) == {}
    bump(repo, kit)
    assert states(repo.told("HEAD")) == EVERY
    repo.commit()
    assert states(repo.told("HEAD")) == {}
    assert states(repo.told("HEAD~1")) == EVERY
    repo.git("rm", "-q", "kit")  # its objects are in the git folder still
    board(repo)
    repo.commit()
    assert not (repo.root / "kit").exists()
    told = repo.told("HEAD~2")
    assert told["comparison"]["unread"] == []
    assert all(not field["buys"] for change in told["comparison"]["shots"] for field in change["fields"])


def test_a_submodule_whose_commit_is_not_here_is_named_and_voids_nothing_else(repo: Repo) -> None:
    kit = with_submodule(repo)
    old = repo.git("rev-parse", "HEAD:kit")
    bump(repo, kit)
    repo.commit()
    made = clone(repo, "clone")
    ended = made.run("check", "film.yaml")
    assert "'kit/frames/1.png' is in the submodule 'kit', which is not checked out" in ended.out
    assert "mend: git submodule update --init kit (in CI: `submodules: true`)" in ended.out
    made.git("submodule", "update", "-q", "--init", "--depth=1", "kit")
    told = made.told("HEAD~1")
    assert states(told) == dict.fromkeys([*EVERY, "two"], "unknown")
    unread = {one["what"]: one["mend"] for one in told["comparison"]["unread"]}
    mend = f"git -C kit fetch origin {old}"
    why = f"it is in the submodule 'kit', whose commit {old[:7]} is not here"
    told_mend = unread[f"'kit/frames/1.png' at HEAD~1 cannot be read: {why}"]
    assert told_mend == f"{mend} (in CI: `submodules: true`, and fetch-depth: 0)"
    made.git(*mend.split()[1:])
    assert states(made.told("HEAD~1")) == EVERY


@pytest.mark.parametrize("name", ["../../trap", "x/../../../trap", "/trap", "link"])
def test_a_submodule_whose_name_leads_elsewhere_is_not_followed(repo: Repo, name: str) -> None:
    """A pull request may bring a bare repository as plain files, and name it."""
    trap = repo.root / "trap"
    trap.mkdir()
    other = Repo(trap, repo.env)
    other.git("init", "-q", "--bare", ".")
    blob = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"], cwd=trap, env=ENV, input=still(1), capture_output=True, check=True
    )
    tree = subprocess.run(
        ["git", "mktree"],
        cwd=trap,
        env=ENV,
        input=b"100644 blob " + blob.stdout.strip() + b"\t1.png\n",
        capture_output=True,
        check=True,
    )
    commit = other.git("commit-tree", "-m", "x", tree.stdout.decode().strip())
    (repo.root / ".git/modules").mkdir()
    (repo.root / ".git/modules/link").symlink_to(trap)
    place = str(trap) if name == "/trap" else name
    repo.write(".gitmodules", f'[submodule "{place}"]\n\tpath = kit\n\turl = x\n')
    repo.git("add", ".gitmodules")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{commit},kit")
    repo.write("film.yaml", FILM.replace("prompt: x", "first_frame: kit/1.png"))
    repo.git("add", "film.yaml")
    repo.git("commit", "-q", "-m", "base")
    repo.write("kit/1.png", still(1))
    told = repo.told("HEAD")
    assert states(told) == {"a": "unknown"}
    assert "in the submodule 'kit', which is not checked out" in told["comparison"]["unread"][0]["what"]
