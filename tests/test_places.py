"""Where a project's files really are: in Git LFS, in a submodule, in a clone that has not everything. Real git."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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
