"""How long klingflow takes to start, against Python itself.

    python benchmarks/startup.py [--rounds 15]

Prints `--version`, and `check` of 50 and 10,000 shots that were checked before, as multiples of `python -c pass`: where
nothing changed since, and (`anew`) where something did, so that all of it is read again. The aims are 2.2 times for
`--version` and 6 times for 50 shots. Nothing is asserted: a time is no test.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import films
from race import KLINGFLOW, PASS, Command, anew, environment, race, table

PYTHON = "python -c pass"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=15, help="runs of each command (default: 15)")
    rounds = arguments.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="klingflow-bench-") as temp:
        root = Path(temp)
        environ = environment(root / "home")
        commands = [
            Command(PYTHON, PASS, root),
            Command("klingflow --version", (KLINGFLOW, "--version"), root, "klingflow"),
        ]
        for shots in (50, 10_000):
            folder = films.film(root / str(shots), shots).parent
            check = (KLINGFLOW, "check", "film.yaml")
            commands.append(Command(f"klingflow check, {shots:,} shots", check, folder, "good"))
            commands.append(Command(f"klingflow check, {shots:,} shots, anew", anew(*check[:-1]), folder, "good"))
        table(f"start-up, median of {rounds}", race(commands, rounds, environ), PYTHON)


if __name__ == "__main__":
    main()
