"""A provider that comes with an installed package: found, used for a whole film, and kept out where it has no business.

The package is the example of docs/writing-a-provider.md; its stand-in is tests/standins/toy.py. No other file knows it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli import ROOT, Project
from tests.money_helpers import kinds, records
from tests.paid_helpers import dedented, project_for
from tests.standins import Outcome, answer, drop_after, drop_before, movie
from tests.standins.toy import Toy

EXAMPLE = ROOT / "docs" / "example-provider"

BOARD = """
    klingflow: 1
    title: Two
    defaults: {provider: toy, duration: 3, resolution: 720p}
    shots:
      - id: dawn
        first_frame: frames/dawn.png
        prompt: dawn breaks
      - id: noon
        continues: dawn
        prompt: noon comes
"""
ONE = """
    klingflow: 1
    title: One
    defaults: {provider: toy, duration: 3, resolution: 720p}
    shots:
      - {id: dawn, prompt: dawn breaks}
"""


def installed(target: Path, source: Path = EXAMPLE, module: str | None = None) -> Path:
    """Installs a package as an installer would leave it, without one: its module, and its metadata."""
    stated = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]
    name = stated["name"].replace("-", "_")
    [(group, entries)] = stated["entry-points"].items()
    info = target / f"{name}-{stated['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {stated['name']}\nVersion: {stated['version']}\n", "utf-8"
    )
    lines = "".join(f"{key} = {value}\n" for key, value in entries.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{lines}", "utf-8")
    for value in entries.values():
        text = (source / f"{value}.py").read_text("utf-8") if module is None else module
        (target / f"{value}.py").write_text(text, "utf-8")
    return target


@contextmanager
def studio(
    folder: Path, board: str = BOARD, *, module: str | None = None, **options: Any
) -> Iterator[tuple[Project, Toy]]:
    target = installed(folder / "site", module=module)
    with Toy(**options) as api:
        path = os.pathsep.join((str(target), str(ROOT)))
        project = project_for(folder / "project", api, None, PYTHONPATH=path)
        project.write("film.yaml", dedented(board))
        yield project, api
        assert api.trouble == []


def free_module() -> str:
    """The example as a server of one's own: nothing costs, no key, no id of ours, the image inside the request."""
    text = (EXAMPLE / "klingflow_toy.py").read_text("utf-8")
    text = text.replace("    replay_s=20 * 3600.0,\n", "    replay_s=None,\n    paid=False,\n")
    text = text.replace('    key_variable="TOY_API_KEY",\n', "")
    text = text.replace("authorization = plain.key_scheme", "authorization = plain.nothing")
    return text.replace("def find(", "find, found = plain.find, plain.found\n\n\ndef _find(").replace(
        "def found(", "def _found("
    )


def test_a_chained_film_is_bought_from_a_provider_that_no_other_file_knows(tmp_path: Path) -> None:
    with studio(tmp_path) as (project, api):
        project.write("klingflow.yaml", "providers: {toy: {style: soft}}\nprices: {toy: {720p: {silent: 0.04}}}\n")
        plan = json.loads(project.run("plan", "film.yaml", "--json").out)
        assert [(step["provider"], step["price"]) for step in plan["steps"]] == [("toy", 0.12)] * 2
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert (project.root / "out/film/film.mp4").exists()
        first, second = api.purchases
        assert (first.body["style"], second.numbers) == ("soft", {"first_frame": (1, 72)})
        assert {seen.headers["authorization"] for seen in api.calls("POST")} == {f"Key {api.key}"}
        assert api.calls(f"GET /v1/videos/{first.task}")[-1].path.endswith("/result"), "asked in two requests"
        assert project.run("run", "film.yaml", "--yes").code == 0
        assert len(api.purchases) == 2


def test_pip_installs_the_example_and_its_provider_is_there(tmp_path: Path) -> None:
    source = shutil.copytree(EXAMPLE, tmp_path / "source")  # whatever a build leaves behind stays there
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", target, source], check=True, capture_output=True)
    with Toy() as api:
        path = os.pathsep.join((str(target), str(ROOT)))
        project = project_for(tmp_path / "project", api, None, PYTHONPATH=path)
        project.write("film.yaml", dedented(ONE))
        ended = project.run("check", "film.yaml")
        assert (ended.code, ended.said.strip()) == (0, "1 storyboard: good")


def test_its_settings_and_its_name_are_held_against_what_it_declares(tmp_path: Path) -> None:
    with studio(tmp_path, ONE) as (project, _):
        project.write("klingflow.yaml", "providers: {toy: {style: loud}}\n")
        said = project.run("check", "film.yaml").said
        assert "style of toy cannot be 'loud'" in said
        assert "it is one of plain, soft" in said
        project.write("klingflow.yaml", "providers: {toy: {stile: soft}}\n")
        assert "toy of providers has no field 'stile'" in project.run("check", "film.yaml").said
        project.write("klingflow.yaml", "")
        project.write("film.yaml", dedented(ONE).replace("provider: toy", "provider: tow"))
        assert "did you mean 'toy'?" in project.run("check", "film.yaml").said
        schema = json.loads(project.run("schema", "storyboard").out)
        assert schema["$defs"]["provider"]["anyOf"][0]["enum"][-1] == "toy"
        told = project.run("doctor").said
        assert "toy: reached, the key is taken" in told


def test_an_upload_is_used_again_until_it_is_about_to_expire(tmp_path: Path) -> None:
    twice = BOARD.replace("continues: dawn", "first_frame: frames/dawn.png")
    with studio(tmp_path, twice) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        assert (len(api.uploads), len(api.purchases)) == (1, 2)
        project.write("film.yaml", dedented(twice).replace("noon comes", "noon again"))
        assert project.run("run", "film.yaml", "--yes").code == 0
        assert (len(api.uploads), len(api.purchases)) == (1, 3), "also in a later run"
        api.image_s = 60
        project.write("frames/dawn.png", movie.still(3))
        assert project.run("run", "film.yaml", "--yes", "--select", "dawn").code == 0
        assert project.run("run", "film.yaml", "--yes").code == 0
        assert len(api.uploads) == 3, "what dies so soon is uploaded anew"


@pytest.mark.parametrize("fault", [drop_after, drop_before])
def test_a_lost_answer_is_looked_up_and_nothing_is_bought_twice(tmp_path: Path, fault: Any) -> None:
    with studio(tmp_path) as (project, api):
        api.faults.add("POST /v1/videos", fault)
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 2
        looked_up = {seen.query["client_id"] for seen in api.calls("GET /v1/videos") if "client_id" in seen.query}
        assert looked_up == {api.purchases[0].token}
        taken = fault is drop_after
        by = [record["detail"]["by"] for record in records(project, "dawn") if record["kind"] == "accepted"]
        assert by == ["find" if taken else "replay"]
        assert len(api.calls("POST /v1/videos")) == (2 if taken else 3)


def test_a_run_that_was_killed_over_an_order_finds_its_task(tmp_path: Path) -> None:
    with studio(tmp_path, ONE) as (project, api):
        project.run_killed("post", 1, "after", "run", "film.yaml", "--yes")
        assert kinds(project) == ["intent"]
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert (len(api.purchases), len(api.calls("POST /v1/videos"))) == (1, 1)
        assert kinds(project) == ["intent", "accepted", "stored"]


def test_an_address_on_another_host_is_never_asked(tmp_path: Path) -> None:
    with Toy() as other, studio(tmp_path, ONE, elsewhere=other.base_url) as (project, api):
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert other.requests == []
        assert "urls" not in next(r for r in records(project) if r["kind"] == "accepted")["detail"]
        assert api.calls(f"GET /v1/videos/{api.purchases[0].task}/result")


def test_a_failure_behind_the_second_request_is_final(tmp_path: Path) -> None:
    with studio(tmp_path, ONE) as (project, api):
        api.becomes(Outcome(fail=("sensitive", "content policy violation")))
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1
        assert "moderated" in ran.said
        assert project.run("run", "film.yaml", "--yes").code == 1
        assert len(api.purchases) == 1


def test_a_free_server_costs_nothing_and_is_asked_without_a_key(tmp_path: Path) -> None:
    with studio(tmp_path, BOARD, module=free_module(), free=True) as (project, api):
        api.faults.add("POST /v1/videos", drop_after)
        ran = project.run("run", "film.yaml", TOY_API_KEY="")
        assert ran.code == 0, ran.said
        assert {seen.headers.get("authorization") for seen in api.requests} == {None}
        assert {record["detail"].get("price") for record in records(project) if record["kind"] == "accepted"} == {"0"}


def test_a_package_that_cannot_be_loaded_is_named_and_stops_no_other(tmp_path: Path) -> None:
    with studio(tmp_path, ONE, module="raise RuntimeError('no such\\n thing')\n") as (project, _):
        told = project.run("check", "film.yaml")
        assert told.code == 2
        why = "package klingflow-toy 0.1.0 offers a provider 'toy' that cannot be loaded: RuntimeError: no such thing"
        assert why in " ".join(told.said.split())
        assert why in " ".join(project.run("doctor").said.split())
        project.write("film.yaml", dedented(ONE).replace("provider: toy", "provider: animatic"))
        assert project.run("run", "film.yaml").code == 0


def test_the_suite_of_the_page_passes_where_the_package_is_installed(tmp_path: Path) -> None:
    target = installed(tmp_path / "site")
    shutil.copy(EXAMPLE / "test_klingflow_toy.py", tmp_path)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", ".", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(target), str(ROOT)))},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_free_server_that_forgets_its_task_gets_the_order_again(tmp_path: Path) -> None:
    with studio(tmp_path, ONE, module=free_module(), free=True, forgets=1) as (project, api):
        ran = replace(project, pace=20).run("run", "film.yaml", TOY_API_KEY="")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 2
        by = [record["detail"]["by"] for record in records(project) if record["kind"] == "accepted"]
        assert by == ["answer", "again"]


def test_an_upload_that_is_refused_orders_nothing(tmp_path: Path) -> None:
    with studio(tmp_path) as (project, api):
        api.faults.add("POST /v1/images", answer(413, {"error": {"code": "size", "message": "too large"}}), times=-1)
        ran = replace(project, pace=20).run("run", "film.yaml", "--yes")
        assert ran.code == 1
        assert "an image cannot be uploaded to toy: Toy answered HTTP 413" in " ".join(ran.said.split())
        assert api.purchases == []
        assert kinds(project) == []


def test_nothing_of_the_folder_in_which_it_is_started_is_loaded(tmp_path: Path) -> None:
    with studio(tmp_path, ONE) as (project, _):
        evil = "open('loaded', 'w').close()\nraise RuntimeError\n"
        shutil.copytree(tmp_path / "site", project.root, dirs_exist_ok=True)
        project.write("klingflow_toy.py", evil)
        alone = project.run_process("check", "film.yaml", PYTHONPATH=str(ROOT))
        assert "provider of defaults cannot be 'toy'" in alone.said, "its metadata counts for nothing"
        shadowed = project.run_process("check", "film.yaml")
        assert "stands before it" in " ".join(shadowed.said.split())
        assert not (project.root / "loaded").exists()
