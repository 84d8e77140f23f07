"""`import klingflow`: the examples of docs/python.md run, what is public is listed, and a run that its caller leaves,
stops or disturbs ends as it should."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import enum
import errno
import inspect
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import klingflow
from klingflow import Event, RunResult, Storyboard, UsageError
from klingflow.io import durable, media
from klingflow.io.store import FolderStore
from tests.cli import ROOT, Project
from tests.paid_helpers import studio

PAGE = (ROOT / "docs" / "python.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

BOARD = """\
klingflow: 1
vars: {boat: a blue boat}
defaults: {provider: animatic, resolution: 720p, duration: 3}
shots:
  - {id: dawn, prompt: "Still water and {{ boat }}."}
  - {id: noon, continues: dawn, prompt: The boat leaves.}
"""


@pytest.fixture
def project(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.write("klingflow.yaml", "limits: {spend: 30.00}\n")
    project.write("film.yaml", BOARD)
    return project


def opened(project: Project, **environ: str) -> Storyboard:
    return klingflow.open(project.root / "film.yaml", environ=project.environment(environ))


# -- the page


def test_the_page_begins_with_the_whole_program_in_ten_lines() -> None:
    assert len(EXAMPLES) >= 6
    assert len(EXAMPLES[0].splitlines()) <= 10
    assert all(word in EXAMPLES[0] for word in (".check()", ".plan()", ".run(", "on_event"))


@pytest.mark.slow
def test_the_examples_of_the_page_run(project: Project) -> None:
    """In one project, one after the other, as a reader tries them."""
    said = []
    for number, example in enumerate(EXAMPLES, 1):
        project.write(f"example{number}.py", example)
        ended = subprocess.run(
            [sys.executable, f"example{number}.py"],
            cwd=project.root,
            env=project.environment({}),
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
        assert ended.returncode == 0, f"{example}\n{ended.stdout}{ended.stderr}"
        assert ended.stderr == "", example
        said.append(ended.stdout)
    assert said[0].startswith("2 clips to make for $0\n")
    assert re.search(r"^exit code 0 .*film\.mp4$", said[0], re.MULTILINE)
    assert "dawn" in said[0]
    assert "exit code 0\n" in said[3]
    assert (project.root / "another" / "harbour.yaml").is_file()


# -- what is public


def test_what_is_public_is_one_list() -> None:
    tree = ast.parse(Path(klingflow.__file__).read_text("utf-8"))
    typed = {
        alias.name
        for node in tree.body
        if isinstance(node, ast.If)
        for line in node.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    loaded = {name for names in klingflow._HOMES.values() for name in names}
    assert sorted(typed) == sorted(loaded) == sorted(klingflow.__all__)
    section = PAGE[PAGE.index("## What is public") :]
    assert sorted(re.findall(r"`([A-Za-z_]+)`", section[section.index("| to begin") :])) == sorted(klingflow.__all__)
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        klingflow.nothing_of_ours  # noqa: B018


@pytest.mark.parametrize("name", klingflow.__all__)
def test_a_public_name_has_its_contract_written_down(name: str) -> None:
    thing = getattr(klingflow, name)
    assert thing.__doc__, name
    assert not thing.__doc__.startswith(f"{name}("), f"{name} has the docstring that a dataclass gives itself"
    if not inspect.isclass(thing) or issubclass(thing, enum.Enum):
        return
    fields = {field.name for field in dataclasses.fields(thing)} if dataclasses.is_dataclass(thing) else {"code"}
    for member in vars(thing):
        if not member.startswith("_") and member not in fields:
            assert inspect.getdoc(getattr(thing, member)), f"{name}.{member}"


@pytest.mark.parametrize("name", ["Planned", "Plan", "FilmPlan", "Step", "RunResult", "FilmRun", "Outcome", "Event"])
def test_plans_and_results_are_frozen(name: str) -> None:
    assert getattr(klingflow, name).__dataclass_params__.frozen


# -- a run and its caller


def test_a_run_that_nobody_confirmed_sends_nothing(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, api):
        storyboard = opened(project)
        with pytest.raises(klingflow.SpendRefused, match="nobody confirmed"):
            storyboard.run()
        assert api.purchases == []
        assert storyboard.run(confirmed=True).exit_code == 0
        assert len(api.purchases) == 2


def test_keys_and_addresses_come_from_the_environment_that_was_given(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, _), pytest.raises(UsageError, match="HIAPI_API_KEY is not set"):
        opened(project, HIAPI_API_KEY="").run(confirmed=True)


def test_blocking_calls_inside_a_loop_name_what_is_meant(project: Project) -> None:
    async def main() -> None:
        with pytest.raises(UsageError) as error:
            opened(project).run()
        assert error.value.mend == "await run_async() instead"
        with pytest.raises(UsageError) as error:
            opened(project).resolve("dawn", klingflow.Verdict(not_bought=True))
        assert "to_thread" in error.value.mend
        assert (await opened(project).run_async()).exit_code == 0

    asyncio.run(main())


def raised(storyboard: Storyboard) -> None:
    """The callback raises at the first order, in a run that blocks."""
    seen = []

    def on_event(event: Event) -> None:
        seen.append(event.event)
        if event.event == "submitted":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        storyboard.run(confirmed=True, on_event=on_event)
    assert seen[-1] == "submitted", "it was called again after it had raised"


async def stopped(storyboard: Storyboard) -> None:
    stop = asyncio.Event()
    result = await storyboard.run_async(
        confirmed=True, stop=stop, on_event=lambda event: stop.set() if event.event == "submitted" else None
    )
    assert result.interrupted
    assert result.exit_code == 130


async def cancelled(storyboard: Storyboard) -> None:
    submitted = asyncio.Event()
    run = asyncio.create_task(
        storyboard.run_async(
            confirmed=True, on_event=lambda event: submitted.set() if event.event == "submitted" else None
        )
    )
    await submitted.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


async def left(storyboard: Storyboard) -> None:
    async with aclosing(storyboard.events(confirmed=True)) as events:
        async for event in events:
            assert isinstance(event, Event)
            if event.event == "submitted":
                break
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()], "the run was left behind"


async def abandoned(storyboard: Storyboard) -> None:
    """Left without closing: Python closes the iterator, at the latest at the end of the loop."""
    async for event in storyboard.events(confirmed=True):
        assert isinstance(event, Event)
        if event.event == "submitted":
            break


@pytest.mark.parametrize("how", [raised, stopped, cancelled, left, abandoned])
def test_a_run_that_ends_early_loses_nothing_and_buys_nothing_twice(
    tmp_path: Path, how: Callable[[Storyboard], Coroutine[Any, Any, None] | None]
) -> None:
    with studio(tmp_path, "hiapi") as (project, api):
        storyboard = opened(project)
        ending = how(storyboard)
        if ending is not None:
            asyncio.run(ending)
        assert len(api.purchases) == 1
        assert [row.collectable or row.state == "stored" for row in storyboard.tasks().rows] == [True]
        result = storyboard.run(confirmed=True)
        assert result.exit_code == 0
        assert len(api.purchases) == 2


def test_events_are_those_of_the_callback_and_the_result_comes_last(project: Project) -> None:
    async def main() -> list[Event | RunResult]:
        return [event async for event in opened(project).events()]

    *events, result = asyncio.run(main())
    assert isinstance(result, RunResult)
    assert result.exit_code == 0
    names = [event.event for event in events if isinstance(event, Event)]
    assert (names[0], names[-1]) == ("plan", "done")
    assert names.count("step-done") == 2


def test_an_error_of_a_run_comes_out_of_its_iterator(project: Project) -> None:
    async def main() -> None:
        async for _ in opened(project).events(frozen=True):
            pass

    with pytest.raises(klingflow.WouldMake):
        asyncio.run(main())


def test_a_callback_that_raises_while_the_film_is_joined_ends_the_run(project: Project) -> None:
    """Joining is done in another thread than the loop's."""

    def on_event(event: Event) -> None:
        if event.event == "film":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        opened(project).run(on_event=on_event)
    result = opened(project).run()
    assert [outcome.result for outcome in result.outcomes] == [klingflow.Result.REUSED] * 2
    assert [path.name for path in result.delivered] == ["film.mp4"]


def test_records_do_not_queue_behind_the_decoding_of_clips(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's calls and the media library's have threads of their own: both are named after theirs."""
    threads: dict[str, set[str]] = {"store": set(), "media": set()}

    def noted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **kwargs: Any) -> Any:
            threads[name].add(threading.current_thread().name.partition("_")[0])
            return call(*args, **kwargs)

        return noting

    monkeypatch.setattr(FolderStore, "create", noted("store", FolderStore.create))
    monkeypatch.setattr(media, "check", noted("media", media.check))
    monkeypatch.setattr(media, "cut", noted("media", media.cut))
    assert opened(project).run().exit_code == 0
    assert "media" in threads["media"]
    assert "store" not in threads["media"]
    assert "store" in threads["store"]
    assert not threads["store"] & {"media", "asyncio"}


def test_a_disk_that_is_full_as_a_frame_is_cut_fails_that_shot_and_orders_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = durable.replace

    def full(path: Path, data: bytes, *args: Any, **kwargs: Any) -> None:
        if path.name.endswith("frame.png"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, data, *args, **kwargs)

    monkeypatch.setattr(durable, "replace", full)
    result = opened(project).run()
    assert result.exit_code == 1
    assert [outcome.result.name for outcome in result.outcomes] == ["MADE", "FAILED"]
    assert "No space left on device" in str(result.outcomes[1].failure)
    monkeypatch.undo()
    assert opened(project).run().exit_code == 0


def test_a_plan_that_was_saved_runs_and_one_that_moved_does_not(project: Project) -> None:
    opened(project).plan().save(project.root / "plan.json")
    saved = klingflow.load_plan(project.root / "plan.json")
    assert opened(project).plan(saved=saved).totals == opened(project).plan().totals
    project.write("film.yaml", BOARD.replace("blue", "red"))
    with pytest.raises(UsageError, match="not what would run now"):
        opened(project).plan(saved=saved)
    with pytest.raises(UsageError, match="cannot be written"):
        opened(project).plan().save(project.root / "no" / "plan.json")
    with pytest.raises(UsageError, match="cannot be read"):
        klingflow.load_plan(project.root / "no.json")


def test_warnings_of_a_plan_are_with_the_plan(project: Project) -> None:
    project.write("film.yaml", BOARD.replace("provider: animatic", "provider: hiapi"))
    project.write("klingflow.yaml", "providers: {hiapi: {data_uri: false}}\n")
    planned = opened(project).plan()
    assert [warning.rule for warning in planned.warnings] == ["unpublished"]
    assert '"unpublished"' in planned.json()


def test_a_schema_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="there is no schema 'films'"):
        klingflow.schema("films")
