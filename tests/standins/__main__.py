"""`python -m tests.standins hiapi --port 8801`: a stand-in to try the command line against by hand.

Prints the variables to export, then one line a request; Ctrl-C ends it. Frames published into the folder it names are
served by the stand-in itself.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
from pathlib import Path

from tests.standins import StandIn
from tests.standins.fal import Fal
from tests.standins.hiapi import HiAPI
from tests.standins.kling import Kling
from tests.standins.mulerouter import MuleRouter

APIS: dict[str, type[StandIn]] = {"hiapi": HiAPI, "mulerouter": MuleRouter, "fal": Fal, "kling": Kling}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.standins", description=__doc__)
    parser.add_argument("api", choices=list(APIS))
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a task takes")
    parser.add_argument("--per-minute", type=int, default=None, help="turns the rate limit on")
    parser.add_argument("--frames", type=Path, default=None, help="the folder that clients publish frames into")
    chosen = parser.parse_args()
    frames = chosen.frames or Path(tempfile.mkdtemp(prefix="standin-frames-"))
    frames.mkdir(parents=True, exist_ok=True)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    server: StandIn
    with APIS[chosen.api](
        port=chosen.port,
        finish_s=chosen.seconds,
        per_minute=chosen.per_minute,
        frames=frames,
        told=lambda line: print(line, file=sys.stderr, flush=True),
    ) as server:
        published = {"KLINGFLOW_PUBLISH_TO": str(frames), "KLINGFLOW_PUBLISH_URL": server.frames_url}
        for name, value in {**server.environment(), **published}.items():
            print(f"export {name}={value}", flush=True)
        over.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
