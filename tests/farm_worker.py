"""`python -m tests.farm_worker klingflow's words…`: a worker that takes others for dead after DEAD_S instead of half a
minute, so that a test of a farm need not wait so long."""

from __future__ import annotations

import sys

from klingflow.cli import app
from klingflow.farm import engine

DEAD_S = 4.0


def main() -> int:
    engine.BEAT_S, engine.DEAD_S = 0.5, DEAD_S
    return app.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
