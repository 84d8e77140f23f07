"""A farm: any number of workers, killed, paused and woken, buy every shot once and leave every film whole."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import av
import psycopg
import pytest
import sqlalchemy as sa

import klingflow
from klingflow.app import farm_jobs
from klingflow.cli import farm as farm_command
from klingflow.core.model import Digest
from klingflow.execution.sending import REPLAY_TIMEOUT_S
from klingflow.farm import engine, start, work
from klingflow.io import films
from klingflow.io.store import FolderStore
from klingflow.storyboard import lock as locks
from klingflow.storyboard.lock import Lock, Pick
from tests.cli import Project
from tests.farm_worker import DEAD_S
from tests.paid_helpers import studio
from tests.standins import Hold
from tests.store_helpers import fake_s3
from tests.test_branches import Clone
from tests.tools import wanted

BOARD = """
    klingflow: 1
    defaults: {provider: NAME, resolution: 720p, duration: 3}
    shots:
      - {id: dawn, prompt: "dawn of TITLE", first_frame: frames/dawn.png}
      - {id: noon, continues: dawn, prompt: "noon of TITLE"}
      - {id: dusk, continues: noon, prompt: "dusk of TITLE"}
      - {id: moon, prompt: "moon of TITLE", first_frame: frames/dusk.png}
"""
SHOTS = 4


# The jobs -----------------------------------------------------------------------------------------------------------


def planned(project: Project, **given: Any) -> klingflow.Planned:
    return klingflow.open(project.root / "film.yaml", environ={}, **given).plan()


def test_a_job_is_a_chain_of_shots_that_need_each_other(project: Project) -> None:
    project.write(
        "film.yaml",
        """\
klingflow: 1
defaults: {provider: animatic, duration: 3}
shots:
  - {id: a, prompt: x}
  - {id: b, prompt: x, take: 2}
  - {id: c, continues: a, prompt: x}
  - {id: d, prompt: x, first_frame: {shot: b, frame: -3}}
  - {id: e, prompt: x, title: alone, negative_prompt: y}
""",
    )
    jobs = farm_jobs.makes(planned(project))
    assert [job.shots for job in jobs] == [("a", "c"), ("b", "d"), ("e",)]
    assert {job.seller for job in jobs} == {"animatic"}
    assert [farm_jobs.read(job.text()) for job in jobs] == list(jobs)
    assert len({job.id for job in jobs}) == 3
    assert farm_jobs.makes(planned(project)) == jobs


def test_a_job_of_another_storyboard_text_is_another_one(project: Project) -> None:
    board = "klingflow: 1\nshots: [{id: a, provider: animatic, prompt: PROMPT}]\n"
    project.write("film.yaml", board.replace("PROMPT", "one"))
    one = farm_jobs.makes(planned(project))
    project.write("film.yaml", board.replace("PROMPT", "two"))
    assert [job.id for job in farm_jobs.makes(planned(project))] != [job.id for job in one]


def test_a_worker_whose_copy_differs_makes_nothing(project: Project) -> None:
    project.write("film.yaml", "klingflow: 1\nshots: [{id: a, provider: animatic, duration: 3, prompt: one}]\n")
    [job] = farm_jobs.makes(planned(project))
    project.write("film.yaml", "klingflow: 1\nshots: [{id: a, provider: animatic, duration: 3, prompt: two}]\n")
    done = asyncio.run(farm_jobs.do(job, project.root, {}, lambda event: None, asyncio.Event()))
    assert done.code == 2
    assert "is another one" in done.what
    assert not (project.root / ".klingflow/store").exists()


def test_a_worker_that_knows_another_approval_makes_nothing_and_a_new_one_is_another_job(tmp_path: Path) -> None:
    desk = Clone(tmp_path / "desk", {})
    desk.root.mkdir()
    desk.git("init", "-q", "-b", "main")
    board = "klingflow: 1\ndefaults: {provider: animatic, duration: 3}\nshots:\n- {id: a, prompt: a, gate: approved}\n"
    desk.write("film.yaml", board + "- {id: b, continues: a, prompt: b}\n")
    pick = Pick(take=1, clip=Digest("1" * 64), by="anna", date="2026-11-27")
    desk.write("film.lock.yaml", locks.dump(locks.with_pick(Lock(), "", "a", pick)))
    desk.git("add", "-A")
    [proposed] = farm_jobs.makes(planned(desk))
    desk.git("commit", "-q", "-m", "the pick")
    [approved] = farm_jobs.makes(planned(desk))
    assert approved.id != proposed.id
    done = asyncio.run(farm_jobs.do(proposed, desk.root, {}, lambda event: None, asyncio.Event()))
    assert (done.code, "an approved pick is another one" in done.what) == (2, True)
    done = asyncio.run(farm_jobs.do(approved, desk.root, {}, lambda event: None, asyncio.Event()))
    assert (done.code, done.what.partition(": ")[0]) == (0, "b")
    assert "waits for the approval of a: make it, pick a take" in done.what


def test_a_worker_orders_nothing_that_was_not_planned(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi", BOARD.replace("TITLE", "film")) as (project, api):
        [chain, alone] = farm_jobs.makes(planned(project))
        assert chain.orders == ("/dawn/1", "/noon/1", "/dusk/1")
        assert farm_jobs.read(chain.text()) == chain
        part = replace(chain, orders=("/dusk/1",))
        assert part.id == chain.id
        environ = project.environment({})
        done = asyncio.run(farm_jobs.do(part, project.root, environ, lambda event: None, asyncio.Event()))
        assert (done.code, "dawn, noon would be ordered, too" in done.what) == (5, True), done
        assert api.purchases == []
        done = asyncio.run(farm_jobs.do(alone, project.root, environ, lambda event: None, asyncio.Event()))
        assert (done.code, len(api.purchases)) == (0, 1), done


def test_a_job_names_no_storyboard_outside_the_worker_s_project(tmp_path: Path, project: Project) -> None:
    project.write("film.yaml", "klingflow: 1\nshots: [{id: a, provider: animatic, duration: 3, prompt: one}]\n")
    [job] = farm_jobs.makes(planned(project))
    own = tmp_path / "own"
    own.mkdir()
    (own / "klingflow.yaml").write_text("limits: {tasks: 9}\n", "utf-8")
    for name in (str(project.root / "film.yaml"), f"../{project.root.name}/film.yaml"):
        foreign = replace(job, storyboard=name)
        done = asyncio.run(farm_jobs.do(foreign, own, {}, lambda event: None, asyncio.Event()))
        assert done.code == 2, done
    assert not (project.root / ".klingflow/store").exists()


@pytest.mark.parametrize("text", ["[]", "{", '{"film": "x", "facts": {}, "version": 1}', '{"version": 1}'])
def test_a_record_of_a_film_that_is_none_is_passed_over(tmp_path: Path, text: str) -> None:
    store = FolderStore(tmp_path / "store")
    store.create("films/source.json", text.encode())
    assert films.find(store, "source") is None


# The farm -----------------------------------------------------------------------------------------------------------

SERVER = Path(__file__).with_name("postgres.sh")
POSTGRES = os.environ.get("KLINGFLOW_TEST_POSTGRES", "")
"""postgresql://user@127.0.0.1:PORT/postgres, a server whose databases the tests make and drop."""


needs_postgres = pytest.mark.skipif(not POSTGRES and not wanted(), reason="needs KLINGFLOW_TEST_POSTGRES")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=needs_postgres)])
def database(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    if request.param == "sqlite":
        yield {}
        return
    with own_database() as environment:
        yield environment


@contextmanager
def own_server() -> Iterator[tuple[str, str]]:
    """A server that nobody else uses: its folder, and a database."""
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)  # the server runs as a user of its own
        folder = f"{parent}/postgres"
        up = subprocess.run([SERVER, folder, "up"], check=True, capture_output=True, encoding="utf-8")
        try:
            yield folder, up.stdout.strip()
        finally:
            subprocess.run([SERVER, folder, "down"], check=True, capture_output=True)


@contextmanager
def own_database() -> Iterator[dict[str, str]]:
    name = f"farm_{os.urandom(4).hex()}"
    with psycopg.connect(POSTGRES, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
    yield {"KLINGFLOW_FARM_DATABASE": f"{POSTGRES.rpartition('/')[0]}/{name}"}
    with psycopg.connect(POSTGRES, autocommit=True) as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


class Workers:
    """Worker processes of one project."""

    def __init__(self, project: Project, env: dict[str, str]) -> None:
        self._project = project
        self._env = env
        self.all: list[subprocess.Popen[str]] = []
        self.runs: list[subprocess.Popen[str]] = []

    def start(self, number: int = 1, **extra: str) -> None:
        for _ in range(number):
            self.all.append(self._process("worker", "--slots", "4", "--json", **extra))

    def run(self, *words: str) -> subprocess.Popen[str]:
        self.runs.append(self._process("farm", "run", *words, "--yes"))
        return self.runs[-1]

    def _process(self, *words: str, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.farm_worker", *words],
            cwd=self._project.root,
            env=self._project.environment({**self._env, **extra}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def end(self) -> None:
        for process in (*self.all, *self.runs):
            if process.stdout is None or process.stdout.closed:
                continue
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate()


def listed(project: Project, database: dict[str, str]) -> int:
    """How many workers others watch over."""
    url = start.database(str(project.root), database)
    opened = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
    with opened.connect() as connection:
        return int(connection.execute(sa.text("select count(*) from klingflow_workers")).scalar_one())


def pause(process: subprocess.Popen[str], url: str) -> None:
    """Pauses a worker, but not while it has SQLite's one lock: nobody else could do anything then."""
    while True:
        process.send_signal(signal.SIGSTOP)
        if url.startswith("postgresql:"):
            return
        opened = sa.create_engine(url, connect_args={"timeout": 1}, poolclass=sa.NullPool)
        try:
            with opened.connect() as connection:
                connection.exec_driver_sql("begin immediate")
            return
        except sa.exc.OperationalError:
            process.send_signal(signal.SIGCONT)


@contextmanager
def farm(
    tmp_path: Path, env: dict[str, str], boards: int = 2, **options: Any
) -> Iterator[tuple[Any, Workers, list[str]]]:
    with ExitStack() as stack:
        project, api = stack.enter_context(studio(tmp_path, "hiapi", BOARD, **options))
        names = []
        text = (project.root / "film.yaml").read_text("utf-8")
        (project.root / "film.yaml").unlink()
        for number in range(boards):
            names.append(f"film{number}.yaml")
            project.write(names[-1], text.replace("TITLE", f"film {number}"))
        workers = Workers(project, env)
        stack.callback(workers.end)
        yield api, workers, names


def until(seen: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)


def check_whole(workers: Workers, api: Any, names: list[str], ended: subprocess.Popen[str]) -> None:
    out, err = ended.communicate(timeout=240)
    assert ended.returncode == 0, out + err
    assert len(api.purchases) == SHOTS * len(names), err
    root = workers._project.root
    for name in names:
        film = root / "out" / name.removesuffix(".yaml") / "film.mp4"
        with av.open(str(film)) as opened:
            frames = sum(1 for _ in opened.decode(video=0))
        # Three joined shots and one alone: two repeated frames are shown once.
        clips = list((film.parent / "shots").glob("*.mp4"))
        total = 0
        for clip in clips:
            with av.open(str(clip)) as opened:
                total += sum(1 for _ in opened.decode(video=0))
        assert (len(clips), frames) == (SHOTS, total - 2)
        assert (root / name.replace(".yaml", ".lock.yaml")).exists()


class OneAfterTheOther:
    """An engine that ends the job of film1 only when the film of film0 was delivered; a job of film2 fails."""

    def __init__(self) -> None:
        self.delivered: list[str] = []

    def start(self, job: str, text: str, queue: str) -> str:
        return f"{farm_jobs.read(text).storyboard} {queue}"

    def watch(self, names: Sequence[str]) -> list[engine.JobState]:
        return [self._state(name) for name in names]

    def _state(self, name: str) -> engine.JobState:
        waits = name.startswith("film1") and "film0.yaml" not in self.delivered
        done = farm_jobs.JobResult(code=1, what="refused") if name.startswith("film2") else farm_jobs.JobResult(code=0)
        state = "PENDING" if waits else "SUCCESS"
        return engine.JobState(id=name, text="", state=state, worker="", queue="", since_ms=0, result=done.text())


def test_a_film_is_delivered_while_other_storyboards_are_still_made(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = []
    for number in range(3):
        path = project.write(f"film{number}.yaml", "klingflow: 1\nshots: [{id: a, prompt: x, provider: animatic}]\n")
        board = klingflow.open(path, environ={})
        plans.append((board, board.plan()))
    farm = OneAfterTheOther()

    def deliver(storyboard: klingflow.Storyboard) -> int:
        farm.delivered.append(Path(storyboard.path).name)
        return 0

    monkeypatch.setattr(farm_command, "_deliver", deliver)
    assert farm_command._run(cast(engine.Farm, farm), plans, detach=False) == 1
    assert farm.delivered == ["film0.yaml", "film1.yaml"]
    said = capsys.readouterr().err
    assert "film2.yaml: refused" in said


class Queue:
    """An engine whose jobs end one after the other, but some out of turn; each look finds one more ended."""

    def __init__(self, jobs: int) -> None:
        self.order = [f"job{number}" for number in range(0, jobs, 2)] + [f"job{number}" for number in range(1, jobs, 2)]
        self.ended: set[str] = set()
        self.read = self.looks = 0

    def watch(self, names: Sequence[str]) -> list[engine.JobState]:
        self.looks += 1
        self.read += len(names)
        self.ended.update(self.order[len(self.ended) : len(self.ended) + 20])
        done = farm_jobs.JobResult(code=0).text()
        return [
            engine.JobState(
                id=name,
                text="",
                state="SUCCESS" if name in self.ended else "PENDING",
                worker="",
                queue="",
                since_ms=0,
                result=done,
            )
            for name in names
        ]


def test_waiting_for_thousands_of_jobs_reads_a_part_of_them_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "LOOK_S", 0)
    monkeypatch.setattr(start, "LOOKED_AT", 50)
    jobs = 1000
    queue, shown = Queue(jobs), []
    names = {f"job{number}": None for number in range(jobs)}
    got = [name for name, _ in start.ends(cast(engine.Farm, queue), names, lambda *told: shown.append(told))]
    assert sorted(got) == sorted(queue.order)
    assert queue.read <= 2 * start.LOOKED_AT * queue.looks
    assert queue.looks < 2 * jobs / 20
    assert shown[-1] == (0, 0)


@pytest.mark.slow
def test_two_workers_make_the_films_of_two_storyboards(tmp_path: Path, database: dict[str, str]) -> None:
    with farm(tmp_path, database) as (api, workers, names):
        workers.start(2)
        check_whole(workers, api, names, workers.run(*names))
        status = workers._project.run("farm", "status", "--json", **database)
        jobs = json.loads(status.out)["jobs"]
        assert {job["state"] for job in jobs} == {"done"}
        for process in workers.all:
            process.terminate()
        said = "".join(process.communicate(timeout=60)[0] for process in workers.all)
        lines = [json.loads(line) for line in said.splitlines()]
        ended = {line["job"]: int(1000 * line["at"]) for line in lines if line["what"] == "done"}
        assert {job["id"] for job in jobs} == set(ended)
        begun = min(int(1000 * line["at"]) for line in lines if line["what"] == "begins")
        assert all(job["since_ms"] > begun for job in jobs), "a job that is done is so since it ended"
        assert len(jobs) == 2 * 2 + 2


@pytest.mark.slow
def test_workers_that_are_killed_buy_nothing_twice(tmp_path: Path, database: dict[str, str]) -> None:
    with farm(tmp_path, database) as (api, workers, names):
        workers.start(3)
        run = workers.run(*names)
        for bought in (1, 3, 5):
            until(lambda bought=bought: len(api.purchases) >= bought, f"purchase {bought}")
            victim = workers.all.pop(0)
            victim.kill()
            victim.communicate()
            workers.start()
        check_whole(workers, api, names, run)


@pytest.mark.slow
def test_a_worker_that_is_paused_past_its_death_and_woken_buys_nothing_twice(
    tmp_path: Path, database: dict[str, str]
) -> None:
    with farm(tmp_path, database, boards=1) as (api, workers, names):
        workers.start(1)
        run = workers.run(*names)
        until(lambda: len(api.purchases) >= 1, "a purchase")
        sleeper = workers.all[0]
        pause(sleeper, start.database(str(workers._project.root), database))
        workers.start(1)
        # Where the first one was paused with an answer on its way, its orders are waited for.
        until(lambda: len(api.purchases) >= 2, "another worker's purchase", DEAD_S + REPLAY_TIMEOUT_S + 60)
        sleeper.send_signal(signal.SIGCONT)
        check_whole(workers, api, names, run)


@needs_postgres
def test_a_worker_that_is_paused_in_a_transaction_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "IDLE_S", 0.2)
    with own_server() as (_, url):
        paused, other = engine._engine(url), engine._engine(url)
        engine._workers.create(paused)
        row = engine._workers.insert().values(id="a", beat=0)
        with other.begin() as database:
            database.execute(row)
        beat = engine._workers.update().values(beat=engine._workers.c.beat + 1)
        held = paused.connect()
        held.execute(beat)
        with other.begin() as database:
            database.execute(beat)
        with pytest.raises(sa.exc.DBAPIError):
            held.commit()
        held.invalidate()
        for each in (paused, other):
            each.dispose()


@pytest.mark.slow
def test_an_engine_that_lost_its_state_finds_everything_in_ledger_and_store(tmp_path: Path) -> None:
    with farm(tmp_path, {}) as (api, workers, names):
        workers.start(2)
        run = workers.run(*names)
        until(lambda: len(api.purchases) >= 3, "three purchases")
        for process in (run, *workers.all):
            process.kill()
            process.communicate()
        for file in (workers._project.root / ".klingflow").glob("farm.sqlite*"):
            file.unlink()
        workers.start(2)
        check_whole(workers, api, names, workers.run(*names))


@pytest.mark.slow
@needs_postgres
def test_a_database_that_crashes_in_the_middle_costs_nothing_but_time(tmp_path: Path) -> None:
    with own_server() as (folder, url), farm(tmp_path, {"KLINGFLOW_FARM_DATABASE": url}) as (api, workers, names):
        workers.start(2)
        run = workers.run(*names)
        until(lambda: len(api.purchases) >= 2, "two purchases")
        subprocess.run([SERVER, folder, "crash"], check=True, capture_output=True)
        check_whole(workers, api, names, run)


@pytest.mark.slow
@needs_postgres
def test_a_database_that_is_dropped_in_the_middle_is_made_again_by_those_who_use_it(tmp_path: Path) -> None:
    with own_database() as environment, farm(tmp_path, environment) as (api, workers, names):
        workers.start(2)
        run = workers.run(*names)
        until(lambda: len(api.purchases) >= 2, "two purchases")
        name = environment["KLINGFLOW_FARM_DATABASE"].rpartition("/")[2]
        with psycopg.connect(POSTGRES, autocommit=True) as server:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            server.execute(f'CREATE DATABASE "{name}"')
        check_whole(workers, api, names, run)
        for worker in workers.all:
            worker.terminate()
            out, err = worker.communicate(timeout=60)
            assert "Traceback" not in out + err, err


@pytest.mark.slow
def test_two_operators_who_start_the_same_storyboards_share_its_jobs(tmp_path: Path, database: dict[str, str]) -> None:
    with farm(tmp_path, database) as (api, workers, names):
        workers.start(2)
        one, two = workers.run(*names), workers.run(*reversed(names))
        check_whole(workers, api, names, one)
        check_whole(workers, api, names, two)


@pytest.mark.slow
def test_a_worker_that_is_asked_to_leave_hands_its_jobs_on(tmp_path: Path, database: dict[str, str]) -> None:
    with farm(tmp_path, database, boards=1) as (api, workers, names):
        workers.start(1)
        run = workers.run(*names)
        until(lambda: len(api.purchases) >= 1, "a purchase")
        leaving = workers.all.pop()
        leaving.send_signal(signal.SIGTERM)
        _, err = leaving.communicate(timeout=60)
        assert leaving.returncode == 0, err
        assert listed(workers._project, database) == 1, "what it took while it left would be nobody's"
        workers.start(1)
        check_whole(workers, api, names, run)


def test_who_dies_while_taking_over_from_the_dead_leaves_them_to_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def put_back(worker: str) -> None:
        taken.append(worker)
        if len(taken) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "_put_back", put_back)
    monkeypatch.setattr(engine, "DEAD_S", 0)
    for _ in range(2):
        worker = engine.Worker("", str, {})
        worker._engine = sa.create_engine(f"sqlite:///{tmp_path / 'farm.sqlite'}", poolclass=sa.NullPool)
        engine._workers.create(worker._engine, checkfirst=True)
        if not taken:
            with worker._engine.begin() as database:
                database.execute(engine._workers.insert().values(id="dead", beat=7))
        with suppress(KeyboardInterrupt):
            worker._bury()
    assert taken == ["dead", "dead"]
    worker._bury()
    assert len(taken) == 2


def test_a_database_that_is_not_there_is_one_clear_error(project: Project) -> None:
    project.write("film.yaml", "klingflow: 1\nshots: [{id: a, provider: animatic, prompt: one}]\n")
    ended = project.run("farm", "run", "film.yaml", KLINGFLOW_FARM_DATABASE="postgresql://user:secret-word@127.0.0.1:1/x")
    told = "the farm's database postgresql://127.0.0.1:1/x does not answer: "
    assert (ended.code, ended.err.splitlines()[1].startswith(told)) == (2, True), ended.said
    assert "secret-word" not in ended.said
    worker = project.run("worker", KLINGFLOW_FARM_DATABASE="postgresql://user:secret-word@127.0.0.1:1/x")
    assert (worker.code, worker.err.startswith(told), "secret-word" in worker.said) == (2, True, False), worker.said
    wrong = project.run("worker", KLINGFLOW_FARM_DATABASE="mysql://x")
    assert (wrong.code, "is no address of a Postgres database" in wrong.err) == (2, True), wrong.said


def test_a_farm_without_a_worker_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    show = farm_command._progress()
    for _ in range(3 * farm_command.IDLE):
        show(4, 0)
    show(4, 1)
    told = ["4 jobs left, 0 at work", farm_command.NOBODY, "4 jobs left, 1 at work"]
    assert capsys.readouterr().err.splitlines() == told


def test_a_worker_takes_jobs_only_of_sellers_whose_key_it_has(tmp_path: Path) -> None:
    assert work.lacking({"FAL_KEY": "key-of-fal-0001"})["hiapi"] == "HIAPI_API_KEY is not set"
    assert set(work.queues(tmp_path, {"FAL_KEY": "key-of-fal-0001"}, 4)) == {"join", "make-animatic", "make-fal"}


def test_a_store_that_cannot_be_used_is_refused_before_any_job(tmp_path: Path) -> None:
    with fake_s3() as bucket, studio(tmp_path, "mulerouter", BOARD) as (project, api):
        place = bucket.environment("farm")
        bucket.no_bucket = True
        for words in (("worker",), ("farm", "run", "film.yaml", "--yes")):
            refused = project.run(*words, **place)
            assert (refused.code, "s3://bucket/farm does not exist\nmend: " in refused.err) == (2, True), refused.said
            refused = project.run(*words, KLINGFLOW_STORE_READONLY="1")
            assert (refused.code, "may only be read here" in refused.err) == (2, True), refused.said
        assert api.purchases == []


IMPORTS = """
import importlib.abc, os, signal, sys, threading

class Door(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "dbos":
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                threading.Event().wait(0.01)  # where the handler runs
            except KeyboardInterrupt:
                pass  # as in a callback of the import system
        return None

sys.meta_path.insert(0, Door())
from klingflow.cli.app import main
main(["worker"])
"""


def test_a_worker_that_is_stopped_while_it_loads_its_engine_ends(project: Project) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTS],
        cwd=project.root,
        env=project.environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert "another worker continues it" in ended.stderr


def test_a_farm_spends_nothing_unconfirmed(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", BOARD) as (project, api):
        project.write("film.lock.yaml", "klingflow_lock: 1\nshots: {}\n")  # what a shell makes of *.yaml
        asked = project.run("farm", "run", "film.yaml", "film.lock.yaml")
        assert (asked.code, "nobody said yes" in asked.err) == (5, True), asked.said
        limited = project.run("farm", "run", "film.yaml", "--yes", "--max-spend", "0.10")
        assert limited.code == 5, limited.said
        assert api.purchases == []
        assert not (project.root / ".klingflow/farm.sqlite").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("ahead", "after"), [("28800", "-28800"), ("-28800", "0")])
def test_workers_whose_clocks_are_eight_hours_off_leave_every_film_whole(
    tmp_path: Path, ahead: str, after: str
) -> None:
    """One dies with an order whose answer it has not heard, and others whose clock says something else go on."""
    with farm(tmp_path, {}) as (api, workers, names):
        held = Hold("answer", drop=True)
        api.faults.add("POST /v1/tasks", held)
        workers.start(1, WRONG_CLOCK_S=ahead)
        run = workers.run(*names)
        until(held.reached.is_set, "an order")
        until(lambda: len(api.purchases) >= 2, "two purchases")
        wrong = workers.all.pop()
        wrong.kill()
        wrong.communicate()
        held.release()
        workers.start(2, WRONG_CLOCK_S=after)
        check_whole(workers, api, names, run)


@pytest.mark.slow
def test_a_bucket_that_does_not_answer_for_a_while_costs_nothing_but_time(tmp_path: Path) -> None:
    with fake_s3() as bucket:
        place = bucket.environment("farm")
        with farm(tmp_path, place) as (api, workers, names):
            workers.start(2)
            run = workers.run(*names)
            until(lambda: len(api.purchases) >= 2, "two purchases")
            bucket.refuse = 40
            until(lambda: bucket.refuse == 0, "the end of the 503s")
            check_whole(workers, api, names, run)
