"""Small projects that buy from a stand-in, for the tests of what money does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Project
from tests.standins import Purchase, StandIn, movie
from tests.standins.fal import Fal
from tests.standins.hiapi import HiAPI
from tests.standins.kling import Kling
from tests.standins.mulerouter import MuleRouter

APIS: dict[str, Any] = {"hiapi": HiAPI, "mulerouter": MuleRouter, "fal": Fal, "kling": Kling}
STILL = movie.STILL
LAST = 72
"""The last frame of a stand-in's clip of 3 s: 24 a second, and one more, counted from 0."""

CHAIN = """
    klingflow: 1
    title: Two
    defaults: {provider: NAME, duration: 3, resolution: 720p}
    shots:
      - id: dawn
        first_frame: frames/dawn.png
        prompt: dawn breaks
      - id: noon
        continues: dawn
        prompt: noon comes
"""


def dedented(text: str) -> str:
    lines = text.strip("\n").split("\n")
    margin = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[margin:] for line in lines) + "\n"


@contextmanager
def studio(
    folder: Path, name: str, board: str = CHAIN, *, publish: bool = True, pace: int = 1, **options: Any
) -> Iterator[tuple[Project, Any]]:
    """A project with one storyboard (film.yaml, its provider in place of NAME), and the API it buys from."""
    frames = folder / "public"
    frames.mkdir(parents=True, exist_ok=True)
    with APIS[name](frames=frames, **options) as api:
        project = replace(project_for(folder / "project", api, frames if publish else None), pace=pace)
        project.write("film.yaml", dedented(board).replace("NAME", name))
        yield project, api
        assert api.trouble == []


hurried = partial(studio, pace=5)
"""For tests of many or long pauses that compare none of them with real time."""


def project_for(root: Path, api: StandIn, frames: Path | None, **more: str) -> Project:
    root.mkdir(parents=True, exist_ok=True)
    env = api.environment()
    if frames is not None:
        env |= {"KLINGFLOW_PUBLISH_TO": str(frames), "KLINGFLOW_PUBLISH_URL": api.frames_url}
    project = Project(root, {**env, **more})
    project.write("frames/dawn.png", movie.still(1))
    project.write("frames/dusk.png", movie.still(2))
    return project


def bought(api: Any, prompt: str) -> Purchase:
    """The one purchase whose prompt is so."""
    (one,) = [each for each in api.purchases if asked(each).get("prompt") == prompt]
    return one  # type: ignore[no-any-return]


def asked(purchase: Purchase) -> dict[str, Any]:
    return purchase.body.get("input", purchase.body)  # type: ignore[no-any-return]


both = pytest.mark.parametrize("name", ["hiapi", "mulerouter"])
sellers = pytest.mark.parametrize("name", list(APIS))
"""Every seller: for what each module has to get right by itself."""
