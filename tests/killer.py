"""`python -m tests.killer DOOR N SIDE klingflow's words…`: klingflow, dead at the N-th crossing of one of its doors.

DOOR is create (a record), index (an entry of `orders/`) or put (a blob) of the store, or post, poll or fetch of the
network; SIDE is before or after the call. The process kills itself with SIGKILL, as a runner that vanishes: nothing is
tidied up. klingflow itself knows nothing of this.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from klingflow.cli import app
from klingflow.io.api import HttpService
from klingflow.io.store import FolderStore

_lock = threading.Lock()
_crossed: dict[tuple[str, str], int] = {}


def cross(door: str, side: str) -> None:
    wanted, number, on = sys.argv[1:4]
    with _lock:
        count = _crossed[door, side] = _crossed.get((door, side), 0) + 1
        if (door, side, count) == (wanted, on, int(number)):
            os.kill(os.getpid(), signal.SIGKILL)


def watched(door: str, call: Any) -> Any:
    def crossing(self: Any, *args: Any, **kwargs: Any) -> Any:
        created = str(args[0]) if door == "create" else ""
        if created.startswith("leases/"):
            return call(self, *args, **kwargs)
        name = "index" if created.startswith("orders/") else door
        cross(name, "before")
        given = call(self, *args, **kwargs)
        cross(name, "after")
        return given

    return crossing


def awaited(door: str, call: Any) -> Any:
    async def crossing(self: Any, *args: Any, **kwargs: Any) -> Any:
        name = "post" if kwargs.get("paid") else door
        cross(name, "before")
        given = await call(self, *args, **kwargs)
        cross(name, "after")
        return given

    return crossing


def main() -> int:
    FolderStore.create = watched("create", FolderStore.create)  # type: ignore[method-assign]
    FolderStore.put = watched("put", FolderStore.put)  # type: ignore[method-assign]
    HttpService.send = awaited("poll", HttpService.send)  # type: ignore[method-assign]
    HttpService.fetch = awaited("fetch", HttpService.fetch)  # type: ignore[method-assign]
    return app.main(sys.argv[4:])


if __name__ == "__main__":
    raise SystemExit(main())
