"""`klingflow status` of one storyboard of 20 shots, in a store that all storyboards of a studio share: what it costs as
the ledger grows. Every order has three records; 40 of them hold a request of 8 MiB (an image inside).

    python benchmarks/ledger.py                    # ledgers of 1,000 and 100,000 records
    python benchmarks/ledger.py --records 10000    # the larger one smaller

`first look` is the one that reads the whole ledger of a store that has no index yet, and writes it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.race import KLINGFLOW, environment

BODY = "A" * (8 << 20)
SHOTS = 20


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def ledger(store: Path, records: int) -> None:
    """Writes so many records: the first jobs are film.yaml's, the others of other storyboards."""
    for number in range(records // 3):
        key, mine = key_of(number), number < SHOTS
        folder = store / "ledger" / key
        folder.mkdir(parents=True)
        intent = {
            "provider": "hiapi",
            "storyboard": "film.yaml" if mine else f"films/{number // SHOTS}.yaml",
            "shot": f"s{number % SHOTS}",
            "take": 1,
            "film": "film",
            "price": "0.34",
            "body": BODY if SHOTS <= number < SHOTS + 40 else "e30=",
        }
        for n, (kind, detail) in enumerate(
            [("intent", intent), ("accepted", {"task": f"t{number}"}), ("stored", {"clip": key})]
        ):
            record = {"version": 1, "key": key, "attempt": 1, "n": n, "kind": kind, "at_ms": number, "detail": detail}
            (folder / f"1.{n}-{kind}.json").write_text(json.dumps(record), "utf-8")


def measured(folder: Path) -> tuple[float, int]:
    """Seconds, and the peak of memory in MB, of one `klingflow status`, measured by a process of its own."""
    code = (
        "import resource, subprocess, sys, time\n"
        "began = time.perf_counter()\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    words = [sys.executable, "-c", code, KLINGFLOW, "status", "film.yaml", "--json"]
    ended = subprocess.run(
        words, cwd=folder, env=environment(folder / "home"), check=True, capture_output=True, encoding="utf-8"
    )
    seconds, memory = ended.stdout.split()
    return float(seconds), int(memory)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    records = parser.parse_args(argv).records
    base: float | None = None
    for size in (1_000, records):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "home").mkdir()
            (folder / "film.yaml").write_text("klingflow: 1\nshots: [{id: s0, prompt: A pier.}]\n", "utf-8")
            ledger(folder / ".klingflow/store", size)
            first, first_mb = measured(folder)
            later = [measured(folder) for _ in range(5)]
            seconds, memory = sorted(later)[2]
            base = base or seconds
            print(
                f"{size} records: {seconds / base:.2f} of the small ledger's time, {memory} MB; "
                f"first look {first / seconds:.0f} times as long, {first_mb} MB"
            )
            shutil.rmtree(folder / ".klingflow")


if __name__ == "__main__":
    main()
