"""A farm under random faults: workers are killed (SIGKILL), paused past their death and woken (SIGSTOP, SIGCONT), and
ended politely, all the time, while storyboards of chained shots are bought from a stand-in of HiAPI on this machine.
What counts is what the stand-in sold: as many clips as there are shots, never one more. With --store and --database the
farm uses a real S3 server and Postgres (tests/radosgw.sh, tests/postgres.sh); else a folder and SQLite.

    python benchmarks/farm.py --storyboards 20 --shots 5 --workers 4
    python benchmarks/farm.py --growth            the same work without faults, in three sizes: what a shot costs
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.cli import Project
from tests.paid_helpers import project_for
from tests.standins import movie
from tests.standins.hiapi import HiAPI

FAULT_S = 3.0
"""The mean time between two faults."""


def board(number: int, shots: int) -> str:
    """A storyboard of chains of five shots."""
    lines = ["klingflow: 1", "defaults: {provider: hiapi, resolution: 720p, duration: 3}", "shots:"]
    for shot in range(shots):
        first = "first_frame: frames/dawn.png" if shot % 5 == 0 else f"continues: s{shot - 1}"
        lines.append(f"  - {{id: s{shot}, {first}, prompt: shot {shot} of film {number}}}")
    return "\n".join(lines) + "\n"


class Workers:
    def __init__(self, project: Project, number: int) -> None:
        self._project = project
        self.all = [self._start() for _ in range(number)]
        self.paused: list[subprocess.Popen[bytes]] = []
        self.wakers: list[subprocess.Popen[bytes]] = []
        self.faults: dict[str, int] = {"killed": 0, "paused": 0, "ended": 0}

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.farm_worker", "worker", "--json"],
            cwd=self._project.root,
            env=self._project.environment({}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def trouble(self, chance: random.Random) -> None:
        """One fault: a worker dies, ends politely, or is paused for longer than the others wait for it."""
        number = chance.randrange(len(self.all))
        victim = self.all[number]
        what = chance.choice(("killed", "killed", "paused", "ended"))
        self.faults[what] += 1
        if what == "paused":
            victim.send_signal(signal.SIGSTOP)
            self.paused.append(victim)  # it wakes when the others have taken its jobs, goes on for a while, and dies
            script = f"sleep 8; kill -CONT {victim.pid}; sleep 8; kill -KILL {victim.pid}"
            self.wakers.append(subprocess.Popen(["sh", "-c", script], stderr=subprocess.DEVNULL))
            self.all[number] = self._start()
            return
        victim.send_signal(signal.SIGKILL if what == "killed" else signal.SIGTERM)
        victim.wait()
        self.all[number] = self._start()

    def end(self) -> None:
        for waker in self.wakers:
            waker.kill()
            waker.wait()
        for worker in (*self.all, *self.paused):
            worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.wait()


def farm(
    folder: Path, storyboards: int, shots: int, workers: int, given: dict[str, str], *, faults: bool, seed: int = 1
) -> tuple[int, float, dict[str, int], int]:
    """Runs it to its end; what was sold, how long it took, the faults, and how many films are there."""
    frames = folder / "public"
    frames.mkdir(parents=True)
    with HiAPI(frames=frames) as api:
        project = project_for(folder / "project", api, frames, **given)
        project.write("frames/dawn.png", movie.still(1))
        names = [f"film{number}.yaml" for number in range(storyboards)]
        for number, name in enumerate(names):
            project.write(name, board(number, shots))
        crew = Workers(project, workers)
        chance = random.Random(seed)
        began = time.monotonic()
        words = [sys.executable, "-m", "klingflow", "farm", "run", *names, "--yes"]
        run = subprocess.Popen(
            words, cwd=project.root, env=project.environment({}), stderr=subprocess.PIPE, encoding="utf-8"
        )
        try:
            while run.poll() is None:
                time.sleep(chance.expovariate(1 / FAULT_S) if faults else 0.2)
                if faults and run.poll() is None:
                    crew.trouble(chance)
            took = time.monotonic() - began
        finally:
            run.kill()
            crew.end()
        said = run.stderr.read() if run.stderr else ""
        if run.returncode:
            print(said[-2000:], file=sys.stderr)
        films = sum((project.root / "out" / name.removesuffix(".yaml") / "film.mp4").is_file() for name in names)
        return len(api.purchases), took, crew.faults, films


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storyboards", type=int, default=20)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--store", default="", help="s3://bucket/prefix; AWS_… in the environment")
    parser.add_argument("--database", default="", help="postgresql://…")
    parser.add_argument("--growth", action="store_true")
    asked = parser.parse_args(argv)
    given = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
    given |= {"KLINGFLOW_FARM_DATABASE": asked.database} if asked.database else {}
    sizes = [asked.storyboards // 4, asked.storyboards // 2, asked.storyboards] if asked.growth else [asked.storyboards]
    first: float | None = None
    for size in sizes:
        if asked.store:
            given["KLINGFLOW_STORE"] = f"{asked.store}/{os.urandom(4).hex()}"
        with tempfile.TemporaryDirectory() as folder:
            sold, took, faults, films = farm(
                Path(folder), size, asked.shots, asked.workers, given, faults=not asked.growth
            )
        shots = size * asked.shots
        each = took / shots
        first = first or each
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        verdict = "each once" if (sold, films) == (shots, size) else "WRONG"
        print(
            f"{size} storyboards, {shots} shots, {asked.workers} workers: {sold} sold, {films} films ({verdict}); "
            f"{faults}; {each / first:.2f} of the first size's time a shot, largest process {memory} MB"
        )


if __name__ == "__main__":
    main()
