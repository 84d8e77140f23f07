"""Who writes a record, and whether whoever wrote one is dead for certain.

An intent without an answer may belong to a run that is still sending. Only where its record names a process of this
very machine, boot and process space can its death be known; everywhere else one waits.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    who: str
    machine: str
    """Host name, boot and process space; two runs with equal `machine` see each other's processes."""
    pid: int
    started: str
    """When the process began, in the kernel's own unit: tells a process from a later one with the same number."""

    def signature(self) -> dict[str, object]:
        return {"who": self.who, "machine": self.machine, "pid": self.pid, "started": self.started}

    def mine(self, detail: Mapping[str, object]) -> bool:
        written = detail.get("machine"), detail.get("pid"), detail.get("started")
        return written == (self.machine, self.pid, self.started)

    def died(self, detail: Mapping[str, object]) -> bool:
        """True only when the writer certainly runs no more."""
        pid = detail.get("pid")
        if detail.get("machine") != self.machine or not isinstance(pid, int) or self.mine(detail):
            return False
        return _started(pid) != detail.get("started")


def this() -> Host:
    boot = _text("/proc/sys/kernel/random/boot_id")
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    pid = os.getpid()
    return Host(
        who=_who(), machine=f"{os.uname().nodename} {boot} {space}".strip(), pid=pid, started=_started(pid) or ""
    )


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return str(os.getuid())


def _started(pid: int) -> str | None:
    """The kernel's start time of a living process; None when there is none (or it is a zombie)."""
    stat = _text(f"/proc/{pid}/stat")
    if stat:
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""  # no /proc (macOS): alive is all that can be said


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
