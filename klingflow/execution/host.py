"""Who writes a record, and whether whoever wrote one is dead for certain.

An intent without an answer may belong to a run that is still sending. Only where its record names a process of this
very machine, boot and process space can its death be known; everywhere else one waits.

What is certain, and from what (kill(2), namespaces(7), proc(5) of Linux; sysctl(3) of macOS; read 2026-11):

- One boot of one machine: the kernel's random `boot_id`, on macOS `kern.bootsessionuuid`. A host's name is no proof,
  two Macs may share it; nor is `kern.uuid`, which is that of the kernel's build.
- One process space: the numbers of the PID and time namespaces. Containers of one machine share its boot_id, and each
  counts its processes from 1; the start of a process is shown on the clock of the time namespace.
- That no process has a number: kill(number, 0) answers ESRCH. A number that is missing in /proc proves nothing: with
  `hidepid` others' processes are not shown, and /proc may be mounted from another process space.
- That the number belongs to somebody else by now: another start in /proc, where /proc is of this process space.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ENDED = "ended"
"""The start of a process that only its parent still knows (a zombie): no record holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    who: str
    machine: str
    """Host name, boot and process space; two runs with equal `machine` see each other's processes."""
    pid: int
    started: str
    """When the process began, in the kernel's own unit: tells a process from a later one with the same number. Empty
    where it cannot be known."""

    def signature(self) -> dict[str, object]:
        return {"who": self.who, "machine": self.machine, "pid": self.pid, "started": self.started}

    def mine(self, detail: Mapping[str, object]) -> bool:
        written = detail.get("machine"), detail.get("pid"), detail.get("started")
        return written == (self.machine, self.pid, self.started)

    def died(self, detail: Mapping[str, object]) -> bool:
        """True only when the writer certainly runs no more."""
        pid, started = detail.get("pid"), detail.get("started")
        if detail.get("machine") != self.machine or self.mine(detail):
            return False
        if not isinstance(pid, int) or not 0 < pid < 2**31:  # 0 and less are groups of processes
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # somebody else's process
            pass
        now = _started(pid)
        return bool(now and started and now != started)


def this() -> Host:
    pid = os.getpid()
    return Host(who=_who(), machine=_machine(pid), pid=pid, started=_started(pid))


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return str(os.getuid())


def _machine(pid: int) -> str:
    node = os.uname().nodename
    if sys.platform == "darwin":
        boot, space = _boot_session(), "mac"
    else:
        boot, space = _text("/proc/sys/kernel/random/boot_id"), _namespace("pid")
    if not boot or not space:
        return f"{node} {_nobody_elses(pid)}"
    return " ".join(part for part in (node, boot, space, _namespace("time")) if part)


@cache
def _nobody_elses(pid: int) -> str:
    """A name that no other process has: where this machine cannot be known again, nobody's death can be known."""
    return os.urandom(16).hex()


def _namespace(kind: str) -> str:
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except OSError:
        return ""


def _boot_session() -> str:
    """macOS: the random UUID that the kernel makes at each boot; empty where it says none."""
    import ctypes  # 4 ms

    text, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
    done = ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", text, ctypes.byref(size), None, ctypes.c_size_t(0))
    return text.value.decode("ascii", "replace") if done == 0 else ""


def _started(pid: int) -> str:
    """The kernel's start time of a process; empty where it cannot be read, _ENDED for a zombie."""
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20 or not _proc_is_ours():
        return ""
    return _ENDED if fields[0] in "ZX" else fields[19]


def _proc_is_ours() -> bool:
    """Whether /proc counts processes as we do: it shows us with one number, the one that we have."""
    lines = _text("/proc/self/status").splitlines()
    numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
    return numbers == [str(os.getpid())]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
