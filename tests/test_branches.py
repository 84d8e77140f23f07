"""A studio's repository through ten pull requests: what branches, merges and history that is written anew cost.

A real bare repository, real git, the real command, and a stand-in where every order is counted. Nothing may be bought
that nobody asked for, and nothing twice.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from klingflow.output import scaffold
from tests.cli import ROOT, Ended, Project
from tests.paid_helpers import asked
from tests.standins.hiapi import HiAPI

DRIVER = f"PYTHONPATH={shlex.quote(str(ROOT))} {shlex.quote(sys.executable)} -P -m klingflow lock merge %O %A %B %P"
FIRST = {"dawn": "dawn", "noon": "noon", "eve": "eve"}


def board(shots: dict[str, str], *, held: str = "") -> str:
    """One shot alone is in the film: it needs no second encode."""
    lines = [f'  - {{id: {shot}, prompt: "{text}"{", hold: true" * (shot == held)}}}\n' for shot, text in shots.items()]
    head = "klingflow: 1\ndefaults: {provider: hiapi, duration: 3, resolution: 720p}\nfilm: {shots: [dawn]}\nshots:\n"
    return head + "  #\n  #\n  #\n".join(lines)  # neither of two changed shots beside each other is a conflict


@dataclass(frozen=True)
class Clone(Project):
    """A working copy, with the commands that are given in it."""

    def git(self, *words: str, code: int = 0) -> str:
        who = {f"GIT_{role}_{what}": "t@t" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **who}
        env |= {"GIT_EDITOR": "true"}
        done = subprocess.run(["git", *words], cwd=self.root, env=env, capture_output=True, encoding="utf-8")
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def branch(self, name: str, at: str = "origin/main") -> None:
        self.git("fetch", "-q", "origin")
        self.git("checkout", "-q", "-B", name, at)

    def commit(self, shots: dict[str, str], **more: str) -> None:
        self.write("film.yaml", board(shots, **more))
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "work")

    def push(self, name: str, *words: str) -> None:
        self.git("push", "-q", *words, "origin", f"HEAD:{name}")

    def films(self) -> Ended:
        """Runs the film and commits the lock, as CI does."""
        ran = self.run("run", "film.yaml", "--yes", "--quiet")
        assert ran.code == 0, ran.said
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "what the run made")
        return ran

    def up_to_date(self) -> bool:
        """Whether a run would make nothing, by its plan."""
        planned = self.run("plan", "film.yaml", "--exit-code")
        assert planned.code in (0, 6), planned.said
        return planned.code == 0


class Studio:
    def __init__(self, folder: Path, api: HiAPI, shots: dict[str, str]) -> None:
        self.folder, self.api = folder, api
        self.bare = folder / "remote.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(self.bare)], check=True)
        self.desk = Clone(folder / "desk", {**api.environment(), "KLINGFLOW_STORE": str(folder / "store")})
        self.desk.root.mkdir()
        self.desk.git("init", "-q", "-b", "main")
        self.desk.git("remote", "add", "origin", str(self.bare))
        self.desk.git("config", "merge.klingflow.driver", DRIVER)
        self.desk.write(".gitignore", scaffold.GITIGNORE)
        self.desk.write(".gitattributes", scaffold.GITATTRIBUTES)
        self.desk.commit(shots)
        self.desk.films()
        self.desk.push("main")

    def clone(self, name: str, branch: str = "main", **env: str) -> Clone:
        made = Clone(self.folder / name, {**self.desk.env, **env})
        subprocess.run(["git", "clone", "-q", "--branch", branch, str(self.bare), str(made.root)], check=True)
        return made

    def bought(self) -> Counter[Any]:
        return Counter(asked(each)["prompt"] for each in self.api.purchases)


@contextmanager
def studio(folder: Path, shots: dict[str, str]) -> Iterator[Studio]:
    with HiAPI() as api:
        yield Studio(folder, api, shots)
        assert api.trouble == []


def test_ten_pull_requests_buy_each_clip_once_and_nothing_else(tmp_path: Path) -> None:
    with studio(tmp_path, FIRST) as made:
        ten_pull_requests(made)


def ten_pull_requests(studio: Studio) -> None:
    desk = studio.desk
    desk.branch("release")
    wanted = set(FIRST.values())

    desk.branch("one")  # 1: another order
    desk.commit({shot: FIRST[shot] for shot in ("eve", "dawn", "noon")})
    desk.push("main")
    assert desk.up_to_date()

    desk.branch("two")  # 2: a held shot whose text changes
    desk.commit({**FIRST, "eve": "eve in the rain"}, held="eve")
    desk.push("main")
    assert desk.up_to_date()

    desk.branch("three")  # 3: a shot made anew on its branch
    rainy = {**FIRST, "eve": "eve in the rain"}
    desk.commit({**rainy, "noon": "noon, hazy"}, held="eve")
    desk.films()
    desk.push("main")
    made = desk.git("rev-list", "-2", "HEAD").split()
    wanted.add("noon, hazy")

    desk.branch("four")  # 4: a revert of all of that
    desk.git("revert", "--no-edit", *made)
    desk.push("main")
    desk.films()

    desk.branch("five", "release")  # 5: a cherry-pick to a release branch
    desk.git("cherry-pick", *reversed(made))
    desk.push("release")
    assert desk.up_to_date()

    for name in ("calm", "storm"):  # 6 and 7: two branches make the same shot anew, and are merged at once
        desk.branch(name)
        desk.commit({**FIRST, "dawn": name, "noon": "noon"})
        desk.films()
        wanted.add(name)
    desk.branch("merged", "calm")
    desk.git("merge", "-q", "--no-edit", "storm", code=1)
    refused = desk.run("plan", "film.yaml")
    assert refused.code == 2
    assert "git's conflict marker" in refused.err
    assert "<<<<<<<" not in (desk.root / "film.lock.yaml").read_text("utf-8")
    desk.commit({**FIRST, "dawn": "storm"})
    desk.push("main")
    assert desk.up_to_date()
    desk.films()
    desk.push("main")

    desk.branch("eight", "calm")  # 8: a branch that is put onto the new main, and pushed with force
    desk.commit({**FIRST, "dawn": "calm", "eve": "eve, clear"})
    desk.films()
    wanted.add("eve, clear")
    desk.push("eight")
    desk.git("rebase", "-q", "origin/main")
    desk.push("eight", "--force")
    assert desk.up_to_date()
    desk.push("main")

    desk.branch("nine")  # 9: a commit that is taken back by force
    desk.commit({**FIRST, "dawn": "storm", "eve": "eve, foggy"})
    desk.films()
    wanted.add("eve, foggy")
    desk.push("nine")
    desk.git("reset", "-q", "--hard", "origin/main")
    desk.push("nine", "--force")
    assert desk.up_to_date()

    fork = studio.clone("fork", HIAPI_API_KEY="")  # 10: a fork, without a key and without the driver
    fork.branch("ten")
    fork.commit({shot: {**FIRST, "dawn": "storm", "eve": "eve, clear"}[shot] for shot in ("noon", "eve", "dawn")})
    assert fork.up_to_date()
    fork.push("ten")
    desk.branch("main")
    desk.git("merge", "-q", "--no-edit", "origin/ten")
    desk.push("main")

    for name, branch in (("runner", "main"), ("packing", "release")):
        runner = studio.clone(name, branch)
        ended = runner.run("run", "film.yaml", "--frozen", "--quiet")
        assert ended.code == 0, ended.said
    assert studio.bought() == dict.fromkeys(wanted, 1)
    assert "\nspare:\n  dawn:\n" in (desk.root / "film.lock.yaml").read_text("utf-8"), "what was paid for stays"


def test_without_the_driver_a_run_reads_both_sides_and_writes_the_lock_whole(tmp_path: Path) -> None:
    with studio(tmp_path, {"dawn": "dawn"}) as made:
        desk = made.clone("without-driver")
        for name in ("calm", "storm"):
            desk.branch(name)
            desk.commit({"dawn": name})
            desk.films()
        desk.git("merge", "-q", "--no-edit", "calm", code=1)
        lock = desk.root / "film.lock.yaml"
        assert "<<<<<<<" in lock.read_text("utf-8")
        desk.write("film.yaml", board({"dawn": "calm"}))
        planned = desk.run("plan", "film.yaml")
        assert "git has not merged film.lock.yaml: both sides were read (1 take differs)" in planned.err
        assert "= dawn" in planned.out
        assert "the lock kept this very clip from a merge" in planned.out
        desk.films()
        assert "<<<<<<<" not in lock.read_text("utf-8")
        desk.commit({"dawn": "storm"})
        assert desk.up_to_date()
        assert made.bought() == {"dawn": 1, "calm": 1, "storm": 1}
