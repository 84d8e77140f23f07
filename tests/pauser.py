"""`python -m tests.pauser klingflow's words…`: klingflow, stopped (SIGSTOP) by itself as soon as its first intent is on
disk, as a laptop that is closed at that moment. SIGCONT lets it go on; klingflow itself knows nothing of this."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from klingflow.cli.app import main
from klingflow.io.store import FolderStore

_once = threading.Lock()


def stopping(create: Any) -> Any:
    def creating(self: Any, name: str, data: bytes) -> bool:
        made: bool = create(self, name, data)
        if name.endswith("-intent.json") and _once.acquire(blocking=False):
            os.kill(os.getpid(), signal.SIGSTOP)
        return made

    return creating


if __name__ == "__main__":
    FolderStore.create = stopping(FolderStore.create)  # type: ignore[method-assign]
    raise SystemExit(main(sys.argv[1:]))
