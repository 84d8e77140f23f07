"""What a command showed before, shown again while nothing of what it asked has changed.

`check` and `plan` ask the disk, and show what they find. While one of them runs, its questions are noted with their
answers: which files it opened, which paths it looked at, which folders it listed. The next one that is typed alike, in
the same folder and environment, puts the same questions to the disk; where it gets the same answers, it shows the same,
and loads and reads nothing. A file counts as unchanged by its size, its times and its inode, as in io.cache.

The questions are noted where Python puts them to the system, not where klingflow does: so none can be forgotten. What
cannot be asked again leaves no note: a connection, a child process (but git's list of what it tracks), the time of day,
a file that was written, a library that opens files by itself. Nothing that costs money is decided here: `run` never
comes here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress

from klingflow.io.remembered import cache_folder, recall, remember

TYPE_CHECKING = False  # `typing` itself costs a tenth of what is shown again
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TextIO

_RACY_NS = 2_000_000_000
"""A file that was written so shortly ago may change again without a new time of change."""
_SILENT = frozenset({"av", "obstore"})
"""Libraries that read files or the network where Python does not see it."""
_ELSEWHERE = (
    *("subprocess.", "socket.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.listdir", "os.scandir"),
    *("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.utime"),
)
"""How the events begin of what cannot be asked again, outside what is remembered. Of `scandir`, more than names may be
read."""
_PROCESSES = re.compile(r"/proc/(\d+/stat|self/status|self/ns/\w+|sys/kernel/random/boot_id)")
"""What execution.host asks about a process. What follows from it for an order follows also from the ledger, which
cannot be asked again."""
_CHANGING = frozenset({"_", "OLDPWD", "SHLVL"})
"""Variables that a shell sets anew for each command."""
_REAL = {"stat": os.stat, "lstat": os.lstat, "readlink": os.readlink, "listdir": os.listdir}


def again(words: Sequence[str]) -> int | None:
    """Shows what this command line showed before, and returns its exit code; None where it must be run."""
    try:
        place, when = _place(words), _when()
    except (OSError, ValueError, AttributeError):  # no folder, or a stream that was closed
        return None
    match recall("shown", place):
        case {"when": str(then), "asked": dict(asked), "shown": list(shown), "code": int(code)} if then == when:
            if not _unchanged(asked):
                return None
            with suppress(OSError):  # whoever cannot be written to is dealt with where the command is run
                for name, text in shown:
                    getattr(sys, name).write(text)
                sys.stdout.flush()
                return code
    return None


def noted(words: Sequence[str], command: Callable[[], int]) -> int:
    """Runs a command, and keeps what it showed with what it asked, where all of that can be asked again."""
    note = _Note()
    with _listening(note):
        code = command()
    if note.whole and not _SILENT & sys.modules.keys():
        _keep(words, note, code)
    return code


def _keep(words: Sequence[str], note: _Note, code: int) -> None:
    ours = os.path.dirname(os.__file__) + os.sep
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and (not path.startswith(ours) or "site-packages" in path):
            note.ask("stat", path)
    files = [*note.asked["stat"].values(), *note.asked["lstat"].values()]
    newest = max((max(found[2:4]) for found in files if isinstance(found, list)), default=0)
    if note.began_ns - newest < _RACY_NS:
        return
    with suppress(OSError, ValueError, AttributeError):
        if _unchanged(note.asked):  # nothing changed while the command ran
            found = {"when": _when(), "asked": note.asked, "shown": note.shown, "code": code}
            remember("shown", _place(words), found)


def _place(words: Sequence[str]) -> str:
    return _digest([os.getcwd(), *words])


def _when() -> str:
    """All but the disk that may change what is shown, as a digest: the environment holds keys."""
    environ = {name: value for name, value in os.environ.items() if name not in _CHANGING}
    screens = [
        [stream.encoding, stream.isatty() and os.get_terminal_size(stream.fileno())]
        for stream in (sys.stdout, sys.stderr)
    ]
    user = os.geteuid() if hasattr(os, "geteuid") else None
    return _digest([sys.version, sys.executable, sys.path, list(sys.flags), sorted(environ.items()), screens, user])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


# -- questions to the disk


def _answer(question: str, path: str) -> object:
    """The disk's answer, as JSON: a number is an error's."""
    try:
        found = _REAL[question](path)  # type: ignore[operator]
    except OSError as bad:
        return bad.errno
    if isinstance(found, os.stat_result):
        if stat.S_ISDIR(found.st_mode):  # what is in it is another question
            return [found.st_mode, found.st_ino, 0, 0, found.st_uid]
        times = found.st_mtime_ns, found.st_ctime_ns
        return [found.st_mode, found.st_ino, *times, found.st_uid, found.st_size]
    return sorted(found) if isinstance(found, list) else found


def _unchanged(asked: dict[str, dict[str, object]]) -> bool:
    return all(
        _answer(question, path) == answer for question, answers in asked.items() for path, answer in answers.items()
    )


class _Note:
    """What a command asked and showed."""

    def __init__(self) -> None:
        self.asked: dict[str, dict[str, object]] = {question: {} for question in _REAL}
        self.shown: list[tuple[str, str]] = []
        """Each piece of text, and the stream it went to."""
        self.began_ns = time.time_ns()
        self.whole = True
        """Whether all that was asked can be asked again."""
        self._remembered = tuple(f"{cache_folder()}/{name}" for name in ("digests", "parsed"))

    def ask(self, question: str, path: object) -> None:
        if isinstance(path, int):
            return  # a file that was opened, and noted then
        name = os.fsdecode(path)  # type: ignore[arg-type]
        answers = self.asked[question]
        # What is remembered follows from what else was asked.
        if name in answers or name.startswith(self._remembered) or _PROCESSES.fullmatch(name):
            return
        answers[name] = None
        answers[name] = _answer(question, name)
        if name.startswith("/proc/"):  # made as it is read: no time tells of a change
            self.whole = False

    def hear(self, event: str, arguments: Sequence[Any]) -> None:
        """An event of Python's (https://docs.python.org/3.11/library/audit_events.html, read 2026-11)."""
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or str(path).endswith(".pyc"):
                return
            if str(path).endswith("entry_points.txt"):  # of a package, whose provider may ask anything
                self.whole = False
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.ask("stat", path)
            elif not os.fsdecode(path).startswith((*self._remembered, os.devnull)):
                self.whole = False
        elif event == "os.listdir" and not isinstance(arguments[0], int):
            self.ask("listdir", arguments[0] or ".")
        elif event == "subprocess.Popen" and list(arguments[1][-3:]) == ["ls-files", "--stage", "-z"]:
            self._ask_git(str(arguments[2]))
        elif event.startswith(_ELSEWHERE):
            path = arguments[0] if arguments else None
            if not isinstance(path, str | os.PathLike) or not os.fsdecode(path).startswith(self._remembered):
                self.whole = False

    def _ask_git(self, folder: str) -> None:
        """What git tracks in a folder is in its index. Whether git says so depends on its settings, and that it is
        there; in another user's folder on settings that may be in any file."""
        repository = os.path.join(folder, ".git")
        # A linked working tree has its files elsewhere.
        if not os.path.isdir(repository) or {os.stat(folder).st_uid, os.stat(repository).st_uid} != {os.geteuid()}:
            self.whole = False
        own = os.environ.get("GIT_CONFIG_GLOBAL"), os.environ.get("GIT_CONFIG_SYSTEM")
        settings = (os.environ.get("XDG_CONFIG_HOME") or "~/.config") + "/git/config"
        files = [f"{repository}/{name}" for name in ("index", "config", "HEAD")]
        for path in (folder, *files, *filter(None, own), "~/.gitconfig", settings, "/etc/gitconfig"):
            self.ask("stat", os.path.expanduser(path))
        for place in os.get_exec_path():
            self.ask("stat", os.path.join(place, "git"))


class _Tee:
    """A standard stream that notes what goes through it."""

    def __init__(self, name: str, stream: TextIO, note: _Note) -> None:
        self._name = name
        self._stream = stream
        self._note = note

    def write(self, text: str) -> int:
        self._note.shown.append((self._name, text))
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        if name in ("buffer", "writelines", "detach"):
            self._note.whole = False  # ways round `write`
        return getattr(self._stream, name)


_heard: _Note | None = None
"""The note that is being written."""
_hooked = False


def _hear(event: str, arguments: Sequence[Any]) -> None:
    if _heard is not None:
        _heard.hear(event, arguments)


@contextmanager
def _listening(note: _Note) -> Iterator[None]:
    """Notes every question that this process puts to the disk, and every text that it shows, until the end.

    Of a look at a path (`os.stat` and the like) Python tells its hooks nothing, so these stand in for it meanwhile."""
    global _heard, _hooked

    def looking(question: str) -> Callable[..., object]:
        def look(path: object, *more: object, **options: object) -> object:
            if options.get("dir_fd") is not None:
                note.whole = False
            note.ask("lstat" if options.get("follow_symlinks") is False else question, path)
            return _REAL[question](path, *more, **options)  # type: ignore[operator]

        return look

    def unknown(real: Callable[..., object]) -> Callable[..., object]:
        def call(*values: object, **options: object) -> object:
            note.whole = False
            return real(*values, **options)

        return call

    stand_ins: list[tuple[object, str, object]]
    stand_ins = [(os, name, looking(name)) for name in ("stat", "lstat", "readlink")]
    stand_ins += [(os, "access", unknown(os.access)), (time, "time", unknown(time.time))]
    stand_ins += [(sys, name, _Tee(name, getattr(sys, name), note)) for name in ("stdout", "stderr")]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in stand_ins]
    if not _hooked:
        sys.addaudithook(_hear)
        _hooked = True
    _heard = note
    try:
        for owner, name, stand_in in stand_ins:
            setattr(owner, name, stand_in)
        yield
    finally:
        _heard = None
        for owner, name, real in before:
            setattr(owner, name, real)
