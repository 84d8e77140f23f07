"""The plan's expected time is learnt from what the ledger says of earlier tasks."""

from __future__ import annotations

import json
from pathlib import Path

from klingflow.core.model import Key
from klingflow.io import ledger
from klingflow.io.store import FolderStore
from klingflow.planning.job import Kind, Record
from tests.cli import Project

BOARD = """\
klingflow: 1
title: T
shots: [{id: a, prompt: a pier, provider: hiapi, resolution: 720p, duration: 5}]
"""


def _wall(project: Project) -> float:
    ended = project.run("plan", "film.yaml", "--format", "json")
    assert ended.code == 0, ended.said
    return float(json.loads(ended.out)["wall_s"])


def test_a_plan_expects_what_tasks_of_its_kind_took(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", {})
    project.write("film.yaml", BOARD)
    assert _wall(project) == 95.0
    store = FolderStore(project.root / ".klingflow/store")
    key = Key("ab" * 32)
    parts = {"resolution": "720p"}
    about = {"provider": "hiapi", "model": "kling-3.0-omni", "seconds": 5, "parts": parts}
    facts: list[tuple[Kind, dict[str, object]]] = [
        (Kind.INTENT, about),
        (Kind.ACCEPTED, {"task": "t"}),
        (Kind.STORED, {}),
    ]
    for n, (kind, detail) in enumerate(facts):
        ledger.write(store, Record(key=key, attempt=1, n=n, kind=kind, at_ms=n * 42_000, detail=detail))
    assert _wall(project) == 42.0
    (project.root / ".klingflow/store/ledger" / key / "1.0-intent.json").chmod(0o644)
    project.write(f".klingflow/store/ledger/{key}/1.0-intent.json", "torn")
    assert _wall(project) == 95.0
