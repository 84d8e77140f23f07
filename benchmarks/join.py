"""What it costs to join a film: whole, after one shot was made anew, and beside ffmpeg's own command.

    python benchmarks/join.py [--shots 60] [--seconds 2] [--size 640x360] [--rounds 1]

Every film is of the same clips, which ffmpeg makes: noise and moving shapes, H.264, with sound, each continuing the one
before. ffmpeg's own film does the same work (the repeated frames dropped, x264 and AAC with our settings) in one
encode. Clips that need nothing are joined as they are, beside a plain copy of the same bytes. A second table has the
time of all processors, which hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from race import table

from klingflow.core.digest import of_bytes
from klingflow.io import media
from klingflow.output.parts import CRF

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.joining import Piece, assemble

WHOLE = "whole, nothing kept"


def clip(to: Path, number: int, seconds: float, size: str) -> Path:
    picture = f"testsrc2=s={size}:r=24:d={seconds},noise=alls=12:allf=t+u:all_seed={number},hue=h={number * 29}"
    sound = f"anoisesrc=d={seconds}:a=0.2:seed={number}:r=48000"
    options = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "20", "-c:a", "aac")
    tags = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv")
    inputs = ("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound)
    subprocess.run(("ffmpeg", "-v", "error", "-y", *inputs, *options, *tags, str(to)), check=True)
    return to


def silent(source: Path) -> Path:
    to = source.with_suffix(".silent.mp4")
    subprocess.run(("ffmpeg", "-v", "error", "-y", "-i", str(source), "-an", "-c", "copy", str(to)), check=True)
    return to


def piece(file: Path, drop: bool) -> Piece:
    return Piece(clip=file, facts=media.facts(file, of_bytes(file.read_bytes())), drop=int(drop))


def ffmpeg(files: list[Path], to: Path) -> None:
    """The same film by ffmpeg's command: one encode of all clips, the first frame of each but the first dropped."""
    inputs = [word for file in files for word in ("-i", str(file))]
    cuts = [
        f"[{n}:v]trim=start_frame={int(n > 0)},setpts=PTS-STARTPTS[v{n}];"
        f"[{n}:a]atrim=start={int(n > 0) / 24},asetpts=PTS-STARTPTS[a{n}]"
        for n in range(len(files))
    ]
    both = "".join(f"[v{n}][a{n}]" for n in range(len(files)))
    graph = ";".join([*cuts, f"{both}concat=n={len(files)}:v=1:a=1[v][a]"])
    picture = ("-map", "[v]", "-c:v", "libx264", "-preset", "veryfast", "-crf", CRF)
    sound = ("-map", "[a]", "-c:a", "aac", "-b:a", "192k")
    words = ("ffmpeg", "-v", "error", "-y", *inputs, "-filter_complex", graph, *picture, *sound)
    subprocess.run((*words, "-movflags", "+faststart", str(to)), check=True)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of all processors, other programs that it ran among them."""
    start, before = time.perf_counter(), sum(os.times()[:4])
    work()
    return time.perf_counter() - start, sum(os.times()[:4]) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", type=int, default=60, help="clips of the film (default: 60)")
    parser.add_argument("--seconds", type=float, default=2, help="length of each (default: 2)")
    parser.add_argument("--size", default="640x360", help="of each (default: 640x360)")
    parser.add_argument("--rounds", type=int, default=1, help="times that all is done (default: 1)")
    given = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        parser.exit(2, "ffmpeg makes the clips, and is not on PATH\n")
    took: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="klingflow-bench-") as temp:
        root = Path(temp)
        files = [clip(root / f"{n}.mp4", n, given.seconds, given.size) for n in range(given.shots + 1)]
        *same, other = (piece(file, n > 0) for n, file in enumerate(files))
        middle = given.shots // 2
        changed = [*same[:middle], other, *same[middle + 1 :]]
        uncut = [piece(file, False) for file in files]
        mute = [piece(silent(file), False) for file in files[: given.shots]]
        film = root / "film.mp4"

        def copied() -> None:
            for n, one in enumerate(uncut[: given.shots]):
                shutil.copyfile(one.clip, root / f"copy-{n}.mp4")

        for turn in range(given.rounds):
            kept = root / f"kept-{turn}"
            for name, work in (
                (WHOLE, lambda: assemble(same, film, kept=kept)),  # noqa: B023  # called in this turn
                ("one shot made anew", lambda: assemble(changed, film, kept=kept)),  # noqa: B023
                ("ffmpeg, one encode", lambda: ffmpeg([one.clip for one in same], film)),
                ("uniform clips, nothing cut", lambda: assemble(uncut[:-1], film, kept=kept)),  # noqa: B023
                (
                    "one of them made anew",
                    lambda: assemble([*uncut[:middle], uncut[-1], *uncut[middle + 1 : -1]], film, kept=kept),  # noqa: B023
                ),
                ("uniform clips without sound", lambda: assemble(mute, film, kept=kept)),  # noqa: B023
                ("a copy of the clips' bytes", copied),
            ):
                took.setdefault(name, []).append(timed(work))
    title = f"{given.shots} shots of {given.seconds:g} s, {given.size}, median of {given.rounds}"
    table(title, {name: median(clock for clock, _ in times) for name, times in took.items()}, WHOLE)
    title = f"{title}: processor time"
    table(title, {name: median(processor for _, processor in times) for name, times in took.items()}, WHOLE)


if __name__ == "__main__":
    main()
