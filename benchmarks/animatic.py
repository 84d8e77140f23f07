"""How fast the animatic is: a whole first run, its film alone, one shot drawn again, and the drawing without a run.

    python benchmarks/animatic.py [--shots 12] [--rounds 3]

Shots of 5 s at the animatic's own size, through `klingflow run`: in turn one on a still, one that continues it, one
from still to still, and one without any still (a title card). Printed is how many seconds of film come of one second
of the clock, and of one second of one core (user and system): the latter says more on a machine that is busy.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from PIL import Image
from race import KLINGFLOW, Command, environment, run

from klingflow.animatic import renderer
from klingflow.core.model import Key, Shot, ShotId
from klingflow.providers import animatic
from klingflow.providers.base import Settings

SECONDS = 5
_USED = defaultdict[str, list[tuple[float, float]]]


@contextmanager
def measured(used: _USED, name: str, who: int) -> Iterator[None]:
    """Adds (seconds of the clock, seconds of the cores) of what is done inside."""
    start, before = time.perf_counter(), resource.getrusage(who)
    yield
    after = resource.getrusage(who)
    cores = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    used[name].append((time.perf_counter() - start, cores))


def still(to: Path, n: int) -> None:
    """A picture with both smooth and fine parts; each n another one."""
    left = -1.6 + 0.11 * n
    image = Image.effect_mandelbrot((1280, 720), (left, -0.5, left + 1.6, 0.4), 60)
    Image.merge("RGB", (image, image.point(lambda i: i * 2 // 3), image.point(lambda i: 40 + i // 2))).save(to)


def write(folder: Path, shots: int, changed: str = "") -> None:
    """The project. `changed` is added to the prompt of the last shot, a title card."""
    (folder / "stills").mkdir(parents=True, exist_ok=True)
    lines = [f"klingflow: 1\ndefaults: {{provider: animatic, resolution: 720p, duration: {SECONDS}}}\nshots:\n"]
    for n in range(shots):
        if not (folder / f"stills/{n}.png").exists():
            still(folder / f"stills/{n}.png", n)
        begins = (
            f"first_frame: stills/{n}.png",
            f"continues: s{n - 1}",
            f"first_frame: stills/{n}.png\n    last_frame: stills/{n - 1}.png",
            "tags: [card]",
        )[n % 4]
        prompt = f"Shot {n}, the boat drifts on, slow push-in. 35 mm film, muted teal and amber."
        lines.append(f"  - id: s{n}\n    {begins}\n    prompt: {prompt} {changed * (n == shots - 1)}\n")
    (folder / "film.yaml").write_text("".join(lines), "utf-8")


def commands(root: Path, shots: int, used: _USED) -> None:
    folder, home = root / "project", root / "home"
    environ = environment(home)
    write(folder, shots)

    def timed(name: str, *words: str, expect: str = "") -> None:
        with measured(used, name, resource.RUSAGE_CHILDREN):
            run(Command(name, (KLINGFLOW, *words), folder, expect), environ)

    timed("a first run, film and all", "run", "film.yaml", expect=f"{shots} clips made")
    shutil.rmtree(folder / "out")
    shutil.rmtree(home / ".cache" / "klingflow" / "parts")
    timed("of it, joining the film", "film", "film.yaml")
    write(folder, shots, "Rain.")
    timed("a run with one card drawn again", "run", "film.yaml", expect="1 clip made")
    timed("a run that makes nothing", "run", "film.yaml", expect="0 clips made")


def drawing(root: Path, used: _USED) -> None:
    """The drawing alone, on one core."""
    kinds: Mapping[str, Mapping[str, str]] = {
        "a title card": {},
        "on a still": {"first_frame": "0.png"},
        "from still to still": {"first_frame": "0.png", "last_frame": "2.png"},
    }
    for name, frames in kinds.items():
        for sound in (False, True):
            shot = Shot(id=ShotId("s"), index=0, prompt="The boat drifts on.", duration=SECONDS, sound=sound)
            body = animatic.submit(shot, frames, Settings(), Key("0" * 64), 1).body or b""
            order = renderer.RenderRequest.read(body)
            blob: Callable[[str], Path] = (root / "project" / "stills").joinpath
            with measured(used, f"drawn: {name}{', with sound' * sound}", resource.RUSAGE_SELF):
                renderer.render(order, blob, root / "one.mp4", lambda: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", type=int, default=12, help="of the film (default: 12)")
    parser.add_argument("--rounds", type=int, default=3, help="times that all is done (default: 3)")
    given = parser.parse_args()
    used: _USED = defaultdict(list)
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory(prefix="klingflow-bench-") as temp:
            commands(Path(temp), given.shots, used)
            drawing(Path(temp), used)
    print(f"\n{given.shots} shots of {SECONDS} s, {os.cpu_count()} cores, median of {given.rounds}")
    print(f"  {'':36}  {'clock':>8}  {'cores':>8}   seconds of film a second of the clock, of one core")
    for name, taken in used.items():
        clock, cores = (median(column) for column in zip(*taken, strict=True))
        film = SECONDS * (1 if name.startswith("drawn") else given.shots)
        rates = f"{film / clock:5.1f}  {film / cores:5.1f}" if "run with" not in name and "nothing" not in name else ""
        print(f"  {name:36}  {clock:6.2f} s  {cores:6.2f} s   {rates}", flush=True)


if __name__ == "__main__":
    main()
