"""`python -m tests.farm_worker klingflow's words…`: a worker that takes others for dead after DEAD_S instead of half a
minute, so that a test of a farm need not wait so long. With WRONG_CLOCK_S its clock goes so many seconds ahead."""

from __future__ import annotations

import os
import sys
import time

from klingflow.cli import app
from klingflow.farm import engine

DEAD_S = 4.0


def main() -> int:
    engine.BEAT_S, engine.DEAD_S = 0.5, DEAD_S
    ahead = int(os.environ.get("WRONG_CLOCK_S", "0"))
    seconds, nanoseconds = time.time, time.time_ns
    time.time = lambda: seconds() + ahead
    time.time_ns = lambda: nanoseconds() + ahead * 1_000_000_000
    return app.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
