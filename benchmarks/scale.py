"""Many storyboards on one store, in several sizes side by side: what a shot costs as their number grows.

    python benchmarks/scale.py                                # 8 runners: `klingflow run`, storyboard by storyboard
    python benchmarks/scale.py --sizes 60,125,250,500,1000    # numbers of storyboards; the first one is the measure
    python benchmarks/scale.py --same                         # every runner is given all storyboards
    python benchmarks/scale.py --farm [--database URL]        # 8 workers, and one `klingflow farm run`
    python benchmarks/scale.py --engine 10000,30000,100000    # one film of so many shots, planned and run in simulation
    python benchmarks/scale.py --purchases 1000,3000,10000    # the same, each shot bought with ledger, polls and all

A stand-in on this machine sells clips of 12 frames, ready after 50 ms, and may be asked as often as one likes;
everything else is klingflow as it is installed without extras, each command a process of its own. What counts is time
of the processors (the clock of a machine that does other work, too, says little), memory, requests to the stand-in,
entries that are read of folders, objects in the store. As many clips must be sold as there are shots, and every film
must be whole.

In simulation the clock costs nothing: it jumps to the next timer.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.cli import ROOT

SHOTS = 20
CHAIN = 5
"""Shots of which each continues the one before."""
SECONDS = 3
RATE = 4
RUNNERS = 8
IN_FLIGHT = 40
"""Tasks at once, in simulation."""
TAKES_S = 5.0
"""How long a clip takes there."""
COUNTS = "KLINGFLOW_SCALE_COUNTS"
"""The folder in which each command leaves what it counted."""
WORKS = "--works"
"""The first word of the command line where this script is not the benchmark, but klingflow as a runner starts it."""


def board(number: int) -> str:
    lines = ["klingflow: 1", "defaults: {provider: mulerouter, resolution: 720p, duration: 3}", "shots:"]
    for shot in range(SHOTS):
        first = f"continues: s{shot - 1}" if shot % CHAIN else "first_frame: frames/dawn.png"
        lines.append(f"  - {{id: s{shot}, {first}, prompt: shot {shot} of film {number}}}")
    lines.append("film: {size: 64x64}")
    return "\n".join(lines) + "\n"


# -- klingflow, counted ------------------------------------------------------------------------------------------------


class _Entries:
    """os.scandir, counting what it names."""

    def __init__(self, found: Any, counts: Counter[str]) -> None:
        self._found, self._counts = found, counts
        caller = sys._getframe(2).f_code
        self._where = f"entries {Path(caller.co_filename).name} {caller.co_name}"

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *error: object) -> None:
        self._found.close()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        entry = next(self._found)
        self._counts["entries"] += 1
        self._counts[self._where] += 1
        return entry


def works(words: Sequence[str]) -> int:
    """klingflow as it is, but for a provider that may be asked as often as one likes, and with its calls counted."""
    from klingflow.cli import app
    from klingflow.execution import waiting

    waiting.UNLIMITED_PER_MINUTE = 100_000
    sys.modules["cv2"] = None  # type: ignore[assignment]  # as installed without the extra that measures joins
    counts: Counter[str] = Counter()
    scandir, listdir, fsync = os.scandir, os.listdir, os.fsync

    def counted_fsync(fd: int) -> None:
        counts["syncs"] += 1
        fsync(fd)

    def counted_scandir(path: Any = ".") -> Any:
        return _Entries(scandir(path), counts)

    def counted_listdir(path: Any = ".") -> list[Any]:
        return list(_Entries(iter(listdir(path)), counts))

    os.scandir, os.listdir, os.fsync = counted_scandir, counted_listdir, counted_fsync  # type: ignore[assignment]
    folder = os.environ.get(COUNTS)
    if folder:
        atexit.register(lambda: Path(folder, f"{os.getpid()}-{time.time_ns()}").write_text(json.dumps(counts), "utf-8"))
    return app.main(list(words))


# -- the stand-in ------------------------------------------------------------------------------------------------------


def small_clip() -> bytes:
    """An MP4 of SECONDS that nearly nothing is needed to decode."""
    import av
    import numpy

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
            video = out.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "crf": "30"})
            video.width, video.height, video.pix_fmt, video.thread_count = 304, 304, "yuv420p", 1
            for number in range(SECONDS * RATE):
                picture = numpy.full((304 * 3 // 2, 304), 16 + 16 * number, numpy.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
                frame.pts = number
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
        return path.read_bytes()


def market(frames: Path) -> Any:
    """A MuleRouter that is quick with thousands of tasks, and forgets what it need not know. Every clip has bytes of
    its own: a number in a box that no player looks at."""
    from tests.standins import Purchase, Seen
    from tests.standins.mulerouter import MuleRouter

    class Market(MuleRouter):
        clip_bytes = small_clip()

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.by_task: dict[str, Purchase] = {}
            self.asked: Counter[str] = Counter()

        def judge(self, seen: Seen) -> Any:
            kind = "clips" if seen.path.startswith("/files/") else "orders" if seen.method == "POST" else "questions"
            reply = super().judge(seen)
            seen.body = b""
            with self.lock:
                self.asked[kind] += 1
                self.requests.clear()
            return reply

        def buy(self, seen: Seen, body: dict[str, Any], task: str, **facts: Any) -> Purchase:
            bought = super().buy(seen, body, task, **facts)
            bought.images, bought.raw = {}, b""
            bought.body = {"prompt": body["prompt"]}
            self.by_task[bought.task] = bought
            return bought

        def find(self, task: str, account: str) -> Purchase | None:
            return self.by_task.get(task)

        def clip(self, bought: Purchase) -> bytes:
            return self.clip_bytes + struct.pack(">I4sQ", 16, b"free", bought.number)

    return Market(frames=frames, finish_s=0.05)


# -- storyboards -------------------------------------------------------------------------------------------------------


@dataclass
class Measured:
    storyboards: int
    processors_s: float
    """Time of the processors of all commands."""
    clock_s: float
    memory: int
    """The most that one command held, KiB."""
    counts: Counter[str] = field(default_factory=Counter)
    sold: int = 0
    twice: int = 0
    films: int = 0

    @property
    def shots(self) -> int:
        return self.storyboards * SHOTS


def project(folder: Path, api: Any, storyboards: int, runners: int) -> tuple[Any, list[str]]:
    from tests.paid_helpers import project_for
    from tests.standins import movie

    made = project_for(folder / "project", api, None)
    made.write("frames/dawn.png", movie.still(1, size=(304, 304)))
    made.write("klingflow.yaml", f"providers: {{mulerouter: {{concurrency: {runners * 4}}}}}\n")
    names = [f"film{number}.yaml" for number in range(storyboards)]
    for number, name in enumerate(names):
        made.write(name, board(number))
    return made, names


def words(*rest: str) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), WORKS, *rest]


class Runners:
    """Runs storyboards as CI would: `klingflow run`, one after the other on each runner, all in one store."""

    def __init__(self, made: Any, env: Mapping[str, str], log: Path) -> None:
        self._made, self._env, self._log = made, env, log
        self._lock = threading.Lock()
        self.processors_s, self.memory, self.bad = 0.0, 0, 0

    def run(self, name: str, home: Path) -> None:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                words("run", name, "--yes", "--quiet"),
                cwd=self._made.root,
                env={**self._env, "HOME": str(home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        with self._lock:
            self.processors_s += used.ru_utime + used.ru_stime
            self.memory = max(self.memory, used.ru_maxrss)
            self.bad += process.returncode != 0

    def all_of(self, shares: Sequence[Sequence[str]]) -> None:
        def share(number: int, names: Sequence[str]) -> None:
            home = self._made.root.parent / f"home{number}"
            home.mkdir()
            for name in names:
                self.run(name, home)

        threads = [threading.Thread(target=share, args=each) for each in enumerate(shares)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def by_runners(
    made: Any, env: Mapping[str, str], names: Sequence[str], runners: int, same: bool, log: Path
) -> Measured:
    crew = Runners(made, env, log)
    if same:  # each begins elsewhere, as runners do that choose by chance
        shares = [[*names[at:], *names[:at]] for at in (len(names) * n // runners for n in range(runners))]
    else:
        shares = [names[n::runners] for n in range(runners)]
    began = time.monotonic()
    crew.all_of(shares)
    if crew.bad:
        print(f"{crew.bad} commands ended badly: {log}", file=sys.stderr)
    return Measured(len(names), crew.processors_s, time.monotonic() - began, crew.memory)


def by_farm(made: Any, env: Mapping[str, str], names: Sequence[str], workers: int, log: Path) -> Measured:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    memory = 0
    with log.open("ab") as out:
        options = {"cwd": made.root, "env": env, "stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
        crew = [subprocess.Popen(words("worker", "--json"), **options) for _ in range(workers)]
        try:
            run = subprocess.Popen(words("farm", "run", *names, "--yes"), **options)
            _, status, used = os.wait4(run.pid, 0)
            run.returncode = os.waitstatus_to_exitcode(status)
            memory = used.ru_maxrss
            print(f"  farm run itself: {used.ru_utime + used.ru_stime:.1f} s of the processors, {memory // 1024} MB")
            took = time.monotonic() - began
        finally:
            for worker in crew:
                worker.send_signal(signal.SIGTERM)
            for worker in crew:
                with suppress(ChildProcessError):
                    _, status, used = os.wait4(worker.pid, 0)
                    worker.returncode = os.waitstatus_to_exitcode(status)
                    memory = max(memory, used.ru_maxrss)
    if run.returncode:
        print(f"farm run ended with {run.returncode}: {log}", file=sys.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(len(names), spent, took, memory)


def whole(film: Path) -> bool:
    """Whether a film has the frames of all shots: those that two shots of a chain share are there once."""
    import av

    if not film.is_file():
        return False
    with av.open(str(film)) as container:
        length = float(container.duration or 0) / 1e6
    return abs(length - SHOTS * SECONDS) < SHOTS / RATE + 0.5


def measured(folder: Path, storyboards: int, asked: argparse.Namespace) -> Measured:
    frames = folder / "public"
    frames.mkdir()
    counts = folder / "counts"
    counts.mkdir()
    log = folder / "log"
    with market(frames) as api:
        made, names = project(folder, api, storyboards, asked.runners)
        given = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
        given |= {COUNTS: str(counts), "KLINGFLOW_FARM_DATABASE": asked.database}
        given["KLINGFLOW_STORE"] = f"{asked.store}/{os.urandom(4).hex()}" if asked.store else str(folder / "store")
        env = {**made.environment(given), "PYTHONPATH": str(ROOT)}
        env.pop("PYTHONWARNINGS")
        if asked.farm:
            out = by_farm(made, env, names, asked.runners, log)
        else:
            out = by_runners(made, env, names, asked.runners, asked.same, log)
        for file in counts.iterdir():
            out.counts += Counter(json.loads(file.read_text("utf-8")))
        out.counts["requests"] = sum(api.asked.values())
        out.counts["questions"] = api.asked["questions"]
        prompts = Counter(one.body["prompt"] for one in api.purchases)
        out.sold, out.twice = len(api.purchases), sum(number - 1 for number in prompts.values())
        out.counts["objects"] = sum(len(files) for _, _, files in os.walk(folder / "store"))
        out.films = sum(whole(made.root / "out" / name.removesuffix(".yaml") / "film.mp4") for name in names)
        if api.trouble:
            print(f"the stand-in: {api.trouble[:3]}", file=sys.stderr)
    return out


def show(sizes: Sequence[int], asked: argparse.Namespace) -> None:
    first: Measured | None = None
    names = ("entries", "syncs", "requests", "questions", "objects")
    print(f"{'storyboards':>11} {'shots':>6}  processors a shot  memory  " + "  ".join(f"{n} a shot" for n in names))
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            found = measured(Path(folder), size, asked)
            if asked.keep_log:
                Path(asked.keep_log).write_bytes(Path(folder, "log").read_bytes())
        first = first or found
        of = f"{found.processors_s / found.shots / (first.processors_s / first.shots):.2f}"
        if found is first:
            of += f" ({found.processors_s / found.shots * 1000:.0f} ms)"
        memory = f"{found.memory / first.memory:.2f} ({found.memory // 1024} MB)"
        each = "  ".join(f"{found.counts[name] / found.shots:.2f}" for name in names)
        if asked.verbose:
            read = [(name, n) for name, n in found.counts.most_common() if name.startswith("entries ")]
            print("  " + ", ".join(f"{name.removeprefix('entries ')} {n / found.shots:.2f}" for name, n in read))
        verdict = "each once" if (found.sold, found.twice, found.films) == (found.shots, 0, size) else "WRONG"
        print(
            f"{size:>11} {found.shots:>6}  {of}  {memory}  {each}; {found.clock_s:.0f} s by the clock; "
            f"{found.sold} sold, {found.twice} twice, {found.films} films whole: {verdict}",
            flush=True,
        )


# -- in simulation -----------------------------------------------------------------------------------------------------


@dataclass
class Cost:
    """Of planning and of running one film, of so many shots."""

    shots: int
    idle_kib: int = 0
    """Memory before there was a film."""
    plan_s: float = 0.0
    plan_kib: int = 0
    run_s: float = 0.0
    run_kib: int = 0
    made: int = 0
    sold: int = 0


def memory_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def long_film(shots: int) -> Any:
    from klingflow.core.model import Cut, FileStill, Film, Shot, ShotFrame, ShotId
    from klingflow.core.source import Span

    names = [ShotId(f"s{number}") for number in range(shots)]
    span = Span("film.yaml", 1, 1, 1, 2)
    return Film(
        name="film",
        matrix={},
        title="film",
        shots=tuple(
            Shot(
                id=name,
                index=number,
                prompt=f"shot {number}",
                first_frame=ShotFrame(names[number - 1]) if number % CHAIN else FileStill("still.png"),
                provider="mulerouter",
            )
            for number, name in enumerate(names)
        ),
        cut=tuple(Cut(name) for name in names),
        where=lambda shot, name: span,
    )


def planned(film: Any, cost: Cost) -> Any:
    """The plan of a film of which nothing is made, as a run arranges it."""
    from klingflow.core.model import Shot
    from klingflow.planning import plan as planning
    from klingflow.planning import schedule
    from klingflow.planning.plan import Plan, PlanLookups
    from klingflow.planning.price import Limits, Price
    from klingflow.storyboard.lock import Lock
    from tests import simulation

    def price(shot: Shot) -> Price:
        return Price(amount=simulation.PRICE)

    lookups = PlanLookups(
        model=lambda shot: "kling-3.0-omni",
        price=price,
        expect=lambda shot: TAKES_S,
        find=lambda key: None,
        open_order=lambda key, shot: None,
        picture=lambda path: None,
        unapproved=None,
    )
    began = time.process_time()
    one = planning.make(film, inputs=simulation.INPUTS, lock=Lock(), lookups=lookups)
    whole = Plan(storyboard="film.yaml", films=(one,), rehearsal=False, provider=None, limits=Limits())
    (plan,) = schedule.arranged(whole, [film], lambda name: IN_FLIGHT).films
    cost.plan_s, cost.plan_kib = time.process_time() - began, memory_kib()
    return plan


def run_engine(shots: int) -> Cost:
    """The real plan, engine and slots; to buy a clip is to hold a slot for a while."""
    import makespan
    import virtual

    from klingflow.execution import engine
    from klingflow.execution.outcome import Result
    from klingflow.execution.waiting import Slots
    from klingflow.planning.price import Price
    from tests import simulation

    cost = Cost(shots, idle_kib=memory_kib())
    film = long_film(shots)
    plan = planned(film, cost)

    class Shop(makespan.Shop):
        async def obtain(self, order: Any) -> Any:
            cost.sold += 1
            return await super().obtain(order)

    async def main() -> None:
        ended = await engine.run(
            plan,
            film,
            buyer=Shop(Slots(IN_FLIGHT), {shot.id: TAKES_S for shot in film.shots}),  # type: ignore[arg-type]
            known={},
            inputs=simulation.INPUTS,
            clips=makespan.NoClips(),
            expect=lambda shot: TAKES_S,
            price=lambda shot: Price(amount=simulation.PRICE),
            frozen=False,
            stop=asyncio.Event(),
            emit=lambda event: None,
        )
        cost.made = sum(outcome.result is Result.MADE for outcome in ended)

    began = time.process_time()
    virtual.run(main)
    cost.run_s, cost.run_kib = time.process_time() - began, memory_kib()
    return cost


def run_purchases(shots: int, folder: Path) -> Cost:
    """The same with all that a purchase is: ledger, requests, polls, downloads, frames, in the world of
    tests/simulation.py, where nothing goes wrong now."""
    from klingflow.core.model import Key
    from klingflow.execution import waiting
    from klingflow.execution.outcome import Result
    from klingflow.providers.base import Settings
    from tests import simulation

    waiting.UNLIMITED_PER_MINUTE = 100_000
    cost = Cost(shots, idle_kib=memory_kib())
    film = long_film(shots)

    class Api(simulation.Api):
        """Every order is taken, and ready after a while."""

        def _bill(self, key: Key, body: bytes) -> simulation.Task:
            now = asyncio.get_running_loop().time()
            task = simulation.Task(f"t{len(self.tasks)}", key, self.prompt(body), "ok", now, now, now + TAKES_S)
            self.tasks[task.id] = task
            return task

    class World(simulation.World):
        """What becomes of it is counted, not judged step by step."""

        @property
        def gated(self) -> bool:
            return True  # such films are planned by the real planner

        def planned(self, runner: Any = None) -> Any:
            return planned(film, cost)

        def fate(self) -> tuple[str, float]:
            return "ok", 0.1

        def _check_outcomes(self, runner: Any, outcomes: Any, *rest: Any) -> None:
            cost.made = sum(outcome.result is Result.MADE for outcome in outcomes)

    world = World(0, folder)
    world.film, world.calm, world.slow_calls, world.skewed, world.fortune = film, True, 0.0, False, {}
    world.apis = {name: Api(world, name) for name in world.apis}
    world.settings = {"mulerouter": Settings(concurrency=IN_FLIGHT)}
    began = time.process_time()
    simulation.run_virtually(world.run_once, most=float("inf"))
    cost.run_s, cost.run_kib = time.process_time() - began - cost.plan_s, memory_kib()
    cost.sold = len(world.apis["mulerouter"].tasks)
    return cost


def show_simulated(kind: str, sizes: Sequence[int], folder: str) -> None:
    """Each size in a process of its own, whose memory is its own."""
    first: dict[str, float] = {}
    print(" shots  plan: time a shot   memory a shot   run: time a shot   memory a shot   (all with the plan)")
    for size in sizes:
        script = [sys.executable, str(Path(__file__).resolve())]
        words = [*script, "--simulate", kind, "--sizes", str(size), "--folder", folder]
        ended = subprocess.run(words, stdout=subprocess.PIPE, check=True, encoding="utf-8")
        cost = Cost(**json.loads(ended.stdout))
        each = {
            "plan": (cost.plan_s / size * 1000, "ms"),
            "plan memory": ((cost.plan_kib - cost.idle_kib) / size, "KiB"),
            "run": (cost.run_s / size * 1000, "ms"),
            "run memory": ((cost.run_kib - cost.idle_kib) / size, "KiB"),
        }
        for name, (number, _) in each.items():
            first.setdefault(name, number)
        told = "  ".join(f"{n / first[name]:.2f} ({n:.2f} {unit})" for name, (n, unit) in each.items())
        verdict = "each once" if cost.sold == cost.made == size else f"WRONG: {cost}"
        print(f"{size:>6}  {told}  {verdict}; {cost.run_kib // 1024} MB in all", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10,20,40")
    parser.add_argument("--runners", type=int, default=RUNNERS, help="or workers")
    parser.add_argument("--same", action="store_true")
    parser.add_argument("--farm", action="store_true")
    parser.add_argument("--database", default="", help="postgresql://…")
    parser.add_argument("--store", default="", help="s3://bucket/prefix; AWS_… in the environment")
    parser.add_argument("--folder", help="where all is written, and removed afterwards")
    parser.add_argument("--keep-log", help="a file for what the commands said")
    parser.add_argument("--engine", default="", help="numbers of shots")
    parser.add_argument("--purchases", default="", help="numbers of shots")
    parser.add_argument("--verbose", action="store_true", help="also who reads entries of folders, a shot")
    parser.add_argument("--simulate", choices=("engine", "purchases"), help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    folder = asked.folder or tempfile.gettempdir()
    if asked.simulate:
        size = int(asked.sizes)
        with tempfile.TemporaryDirectory(dir=folder) as own:
            cost = run_engine(size) if asked.simulate == "engine" else run_purchases(size, Path(own))
        print(json.dumps(asdict(cost)))
    elif asked.engine or asked.purchases:
        for kind, sizes in (("engine", asked.engine), ("purchases", asked.purchases)):
            if sizes:
                show_simulated(kind, [int(size) for size in sizes.split(",")], folder)
    else:
        show([int(size) for size in asked.sizes.split(",")], asked)


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKS]:
        sys.exit(works(sys.argv[2:]))
    main()
