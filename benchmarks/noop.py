"""What it costs to learn that nothing is to be done: `klingflow plan` against what people have today.

    python benchmarks/noop.py [--shots 200 2000] [--rounds 5] [--snakemake PATH]

Each tool gets the same graph (chains of ten) and is brought up to date once, outside the clock. A tool that is not on
this machine is named and left out. The aims: 1.3 times ahead of doit, ten times ahead of `terraform plan` and
`snakemake -n`. `anew` is a plan that finds something changed and decides every shot; `first` one without any cache.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import films
from race import KLINGFLOW, PASS, Command, anew, environment, race, table

PLAN = "klingflow plan"
ALONE = 10_000
"""Shots of the film that klingflow alone plans: the others take minutes to be brought up to date."""


def ninja(folder: Path, tool: str, shots: int) -> Command:
    lines = ["rule make\n  command = touch $out\n"]
    for name, before in _edges(shots):
        lines.append(f"build {name}.out: make {before}.out\n" if before else f"build {name}.out: make\n")
    (folder / "build.ninja").write_text("".join(lines), "utf-8")
    return Command("ninja -n", (tool, "-n"), folder, "no work to do")


def doit(folder: Path, tool: str, shots: int) -> Command:
    """doit keeps the digest of every file that a task reads: a real file a shot."""
    lines = ["def task_shot():\n    for name, before in EDGES:\n        yield {\n"]
    lines += ["            'name': name, 'actions': [f'touch {name}.out'], 'targets': [f'{name}.out'],\n"]
    lines += ["            'file_dep': [f'{before}.out'] if before else ['begin'],\n        }\n"]
    (folder / "dodo.py").write_text("".join(lines) + f"\nEDGES = {list(_edges(shots))!r}\n", "utf-8")
    (folder / "begin").write_text("begin\n", "utf-8")
    return Command("doit", (tool,), folder, "-- shot:")


def snakemake(folder: Path, tool: str, shots: int) -> Command:
    lines = [f"rule all:\n    input: {[f'{name}.out' for name in films.ids(shots)]!r}\n"]
    for name, before in _edges(shots):
        needs = f"    input: '{before}.out'\n" if before else ""
        lines.append(f"rule {name}:\n{needs}    output: '{name}.out'\n    shell: 'touch {{output}}'\n")
    (folder / "Snakefile").write_text("\n".join(lines), "utf-8")
    return Command("snakemake -n", (tool, "-n", "--quiet", "--cores", "2"), folder)


def terraform(folder: Path, tool: str, shots: int) -> Command:
    parts = []
    for name, before in _edges(shots):
        given = f"terraform_data.{before}.output" if before else '"begin"'
        parts.append(f'resource "terraform_data" "{name}" {{\n  input = {given}\n}}\n')
    (folder / "main.tf").write_text("".join(parts), "utf-8")
    return Command("terraform plan", (tool, "plan", "-input=false", "-no-color"), folder, "No changes")


BRING_UP: Mapping[str, Callable[[str], list[list[str]]]] = {
    "ninja": lambda tool: [[tool]],
    "doit": lambda tool: [[tool]],
    # Snakemake runs two thousand shells for minutes; `--touch` writes down that all is made.
    "snakemake": lambda tool: [[tool, "--touch", "--quiet", "--cores", "2"]],
    "terraform": lambda tool: [
        [tool, "init", "-input=false"],
        [tool, "apply", "-auto-approve", "-input=false", "-parallelism=50"],
    ],
}
TOOLS = {"doit": doit, "terraform": terraform, "snakemake": snakemake, "ninja": ninja}


def _edges(shots: int) -> list[tuple[str, str]]:
    """Each shot, with the one that it continues or nothing."""
    names = films.ids(shots)
    return [(name, names[i - 1] if i % films.CHAIN else "") for i, name in enumerate(names)]


def prepared(name: str, tool: str, root: Path, shots: int, environ: Mapping[str, str]) -> Command:
    """The tool's project, up to date."""
    folder = root / f"{name}-{shots}"
    folder.mkdir()
    command = TOOLS[name](folder, tool, shots)
    if name == "snakemake":
        for shot in films.ids(shots):
            (folder / f"{shot}.out").touch()
    for words in BRING_UP[name](tool):
        ended = subprocess.run(words, cwd=folder, env=environ, capture_output=True, encoding="utf-8", check=False)
        if ended.returncode:
            sys.exit(f"{' '.join(words)} ended with {ended.returncode}:\n{(ended.stdout + ended.stderr)[-3000:]}")
    return command


def found(name: str, given: str | None) -> str | None:
    """The tool: where the command line says, beside this Python, or on PATH."""
    beside = Path(sys.executable).with_name(name)
    return given or (str(beside) if beside.exists() else shutil.which(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", type=int, nargs="*", default=[200, 2000], help="sizes (default: 200 2000)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each command (default: 5)")
    for name in TOOLS:
        parser.add_argument(f"--{name}", metavar="PATH", help="the command, where it is not on PATH")
    given = vars(parser.parse_args())
    tools = {name: found(name, given[name]) for name in TOOLS}
    for name, tool in tools.items():
        if tool is None:
            print(f"{name}: not on this machine, left out")
    with tempfile.TemporaryDirectory(prefix="klingflow-bench-") as temp:
        root = Path(temp)
        environ = environment(root / "home")
        for shots in given["shots"]:
            commands = [Command("python -c pass", PASS, root), *_plans(root, shots)]
            commands += [prepared(name, tool, root, shots, environ) for name, tool in tools.items() if tool]
            title = f"{shots:,} shots, nothing to do, median of {given['rounds']}"
            table(title, race(commands, given["rounds"], environ), PLAN)
        alone = [Command("python -c pass", PASS, root), *_plans(root, ALONE)]
        table(f"{ALONE:,} shots, nothing to do", race(alone, given["rounds"], environ), PLAN)


def _plans(root: Path, shots: int) -> list[Command]:
    folder = films.film(root / f"klingflow-{shots}", shots).parent
    plan = (KLINGFLOW, "plan", "film.yaml")
    first = ("sh", "-c", 'XDG_CACHE_HOME="$HOME/$$" exec "$@"', "sh", *plan[:-1], "././film.yaml")
    ways = {PLAN: plan, f"{PLAN}, anew": anew(*plan[:-1]), f"{PLAN}, first": first}
    return [Command(name, words, folder, f"{shots} steps") for name, words in ways.items()]


if __name__ == "__main__":
    main()
