"""Storyboards whose clips are all there, without a run: what a choice is made from is the lock."""

from __future__ import annotations

import hashlib
from pathlib import Path

import klingflow
from klingflow import Storyboard
from klingflow.core.model import Digest, Key, ShotId
from klingflow.storyboard import lock as locks
from klingflow.storyboard import yamlread
from klingflow.storyboard.lock import Entry, Lock
from tests.test_lock import entry

BOARD = """\
# The lamp keeper, cut 3
klingflow: 1
title: Lamp  # working title
defaults: {provider: mulerouter, duration: 4, resolution: 720p}
shots:
  - id: dawn          # the opening
    prompt: >
      Gentle waves roll in,
      a boat drifts.
    aspect_ratio: "16:9"
    takes: 3          # to choose from

  # he wakes
  - {id: keeper, continues: dawn, prompt: The keeper opens the door}
  - {id: stairs, continues: keeper, prompt: He climbs the stairs}
  - {id: storm, prompt: Dark clouds, aspect_ratio: "16:9"}
"""


def finished(root: Path, text: str = BOARD, name: str = "film.yaml") -> Storyboard:
    """A storyboard of the project at `root`, and a lock that answers every step of its plan."""
    root.mkdir(parents=True, exist_ok=True)
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())
    storyboard = klingflow.open(file, environ={})
    relock(storyboard)
    return storyboard


def relock(storyboard: Storyboard) -> None:
    """Adds to the lock what the next run would make."""
    path = lock_path(storyboard)
    for _ in range(20):
        lock = read(storyboard)
        films = {v: {s: dict(takes) for s, takes in shots.items()} for v, shots in lock.films.items()}
        made = [
            (film.variant, step.shot, step.take, made_of(step.key, step.take))
            for film in storyboard.plan().plan.films
            for step in film.steps
            if step.orders and step.key is not None
        ]
        if not made:
            return
        for variant, shot, take, one in made:
            films.setdefault(variant, {}).setdefault(shot, {})[take] = one
        path.write_text(locks.dump(Lock(films, picks=lock.picks)), "utf-8")
    raise AssertionError("the plan never comes to an end")


def made_of(key: Key, take: int) -> Entry:
    return entry("a", key=key, clip=clip_of(key), duration="4.042", provider="mulerouter", size="1280x720", frames=97)


def clip_of(key: Key) -> Digest:
    return Digest(hashlib.sha256(key.encode()).hexdigest())


def lock_path(storyboard: Storyboard) -> Path:
    return Path(storyboard.path).with_suffix(".lock.yaml")


def read(storyboard: Storyboard) -> Lock:
    path = lock_path(storyboard)
    return locks.parse(yamlread.read(path.name, path.read_text("utf-8"))) if path.exists() else Lock()


def clip(storyboard: Storyboard, shot: str, take: int, variant: str = "") -> Digest:
    found = read(storyboard).entry(variant, ShotId(shot), take)
    assert found is not None
    return found.clip
