"""The files of a project as they stand at a git ref, read from git's objects: nothing is checked out, fetched or run.

`Tree` has the reading half of `files.Project`, so a storyboard at a ref is loaded as one on disk is, and a path is held
to the same rules. Everything here is git's own command with what could run a program or open a connection turned off.
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from klingflow.core.digest import of_bytes
from klingflow.core.errors import UsageError
from klingflow.core.model import Digest, ImageFacts
from klingflow.core.source import visible
from klingflow.io.project import CLIP_BYTES, IMAGE_BYTES, TEXT_BYTES, BadFile, clean, decoded, in_other_form, picture

PATIENCE_S = 60.0
"""For one answer of git. A local object takes milliseconds, also on a slow disk."""

_SAFE = (
    "--no-pager",
    "--no-optional-locks",
    "--literal-pathspecs",
    *("-c", "core.fsmonitor=false"),  # a repository's config may name a program here
    *("-c", "core.hooksPath=/dev/null"),
)
_KEPT = re.compile(r"PATH|HOME|USERPROFILE|SYSTEMROOT|TMPDIR|TEMP|XDG_CONFIG_HOME|GIT_C(ONFIG|EILING)_\w+")
"""What git sees of the environment: no key of a provider, and no GIT_DIR that a hook has set for another repository."""
_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\n")
_SUBMODULE = "160000"


def tracked(root: Path, folder: str) -> bool:
    """Whether git tracks any file below `folder` of `root`. False where there is no repository, or no git."""
    command = ["git", *_SAFE, "-C", str(root), "ls-files", "-z", "--", folder]
    try:
        found = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, env=_environment(), timeout=PATIENCE_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return found.returncode == 0 and bool(found.stdout)


class GitFailed(Exception):
    """git ended with an error."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


def answer(folder: Path, *words: str) -> bytes:
    """What a git command prints in `folder`. It runs no program that the repository names, and connects to nothing.

    Raises GitFailed, FileNotFoundError where git is not installed, and subprocess.TimeoutExpired.
    """
    done = subprocess.run(
        ["git", *_SAFE, *words],
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    if done.returncode:
        raise GitFailed(done.stderr.decode(errors="replace"))
    return done.stdout


def unmerged(root: Path, rel: str) -> tuple[bytes, bytes, bytes] | None:
    """The versions of a file that git could not merge: that of the common ancestor (empty where there is none), ours
    and theirs. None where git has no such file, or there is no git."""
    try:
        listed = answer(root, "ls-files", "--unmerged", "-z", "--", rel).decode(errors="replace")
        stages = {row.split()[2]: row.split()[1] for row in listed.split("\0") if row}
        if not {"2", "3"} <= stages.keys():
            return None
        base, ours, theirs = (
            answer(root, "cat-file", "blob", stages[stage]) if stage in stages else b"" for stage in "123"
        )
    except (GitFailed, OSError, subprocess.SubprocessError):
        return None
    return base, ours, theirs


class Tree:
    """The files below `root` as they stand at `ref`. Paths are relative to `root`. Close it, or use it in a `with`."""

    def __init__(self, root: Path, ref: str) -> None:
        """Raises UsageError where `root` is in no git repository or `ref` names no commit there."""
        self.root = Path(os.path.realpath(root))
        self.ref = ref
        self._batch: subprocess.Popen[bytes] | None = None
        self._left = b""
        if not ref or ref.startswith("-") or len(ref) > 500 or re.search(r"[\x00-\x20\x7f:?*\[\\]", ref):
            raise UsageError(f"{ref!r} is not a git ref", "name a branch, a tag or a commit: origin/main")
        try:
            self._prefix = self._git("rev-parse", "--show-prefix").strip()
        except GitFailed as fault:
            if "dubious ownership" in fault.said:
                mend = f"git config --global --add safe.directory {self.root}"
                raise UsageError(f"git does not trust {self.root}: it belongs to somebody else", mend) from None
            what = f"{self.root} is not in a git repository, so there is no {visible(ref)} to compare with"
            raise UsageError(what, "run it where the storyboard is under version control") from None
        try:
            self.commit = self._git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").strip()
        except GitFailed:
            raise self._unknown() from None

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._batch is not None:
            self._batch.kill()
            self._batch.communicate()
            self._batch, self._left = None, b""

    def read(self, rel: str, most: int = TEXT_BYTES) -> bytes | None:
        """The file's bytes, None where there is no such file at the ref. Raises BadFile for what is no plain file
        of this repository, and for one larger than `most`."""
        path = clean(rel)
        if any(part.startswith(".") for part in path.split("/")):
            raise BadFile(f"'{rel}' is hidden: a name that begins with a dot is not read", "use another name")
        kind, size = self._ask(f"{self.commit}:{self._prefix}{path}")
        if kind == "missing" and not path.isascii():
            there = in_other_form(path, self._list)
            if there is not None:
                kind, size = self._ask(f"{self.commit}:{self._prefix}{there}")
        if kind == "missing":
            self._refuse_submodule(rel, path)
            return None
        if kind == "tree":
            raise BadFile(f"'{rel}' is a folder at {self.ref}", "name a file")
        if kind != "blob":
            raise BadFile(f"'{rel}' is a link that leads to no file of the repository at {self.ref}")
        if size > most:
            self.close()  # its bytes are not wanted
            raise BadFile(f"'{rel}' has {size} bytes at {self.ref}; at most {most} are read")
        data = self._take(size)
        self._take(1)
        return data

    def read_bytes(self, rel: str, most: int = TEXT_BYTES) -> bytes:
        """As `files.Project.read_bytes`. Raises BadFile, also for a file that is not there."""
        data = self.read(rel, most)
        if data is None:
            raise BadFile(f"there is no file '{rel}' at {self.ref}")
        return data

    def read_text(self, rel: str) -> str:
        data = self.read_bytes(rel)
        if _POINTER.match(data):
            raise BadFile(f"'{rel}' is kept by Git LFS at {self.ref}", "keep text files in git itself")
        return decoded(rel, data)

    def other_form(self, rel: str) -> str | None:
        """As `files.Project.other_form`; nobody can rename a file at a ref any more, so there it is no matter."""
        return None

    def _list(self, folder: str) -> Sequence[str]:
        try:
            listed = self._git("ls-tree", "-z", "--name-only", f"{self.commit}:{self._prefix}{folder}".rstrip("/"))
        except GitFailed:
            return ()
        return listed.split("\0")

    def digest(self, rel: str) -> Digest:
        """SHA-256 of the file's bytes. A Git LFS pointer names it, so the file itself is not needed."""
        data = self.read_bytes(rel, CLIP_BYTES)
        pointer = _POINTER.match(data)
        return Digest(pointer[1].decode()) if pointer else of_bytes(data)

    def clip(self, rel: str) -> tuple[Digest, None]:
        """The digest alone: what lies at a ref was looked into when it was run."""
        return self.digest(rel), None

    def image(self, rel: str) -> ImageFacts:
        data = self.read_bytes(rel, IMAGE_BYTES)
        pointer = _POINTER.match(data)
        if pointer:
            data = self._large(rel, pointer[1].decode())
        return picture(rel, data)

    def _large(self, rel: str, oid: str) -> bytes:
        """A file that Git LFS keeps, where it was fetched before."""
        store = self._git("rev-parse", "--git-common-dir").strip()
        path = Path(self.root, store, "lfs", "objects", oid[:2], oid[2:4], oid)
        try:
            with path.open("rb") as file:
                data = file.read(IMAGE_BYTES + 1)
        except OSError:
            data = b""
        if of_bytes(data) != oid:
            mend = f"git lfs fetch origin {visible(self.ref)} (in CI: lfs: true for actions/checkout)"
            raise BadFile(f"'{rel}' is kept by Git LFS and was not fetched for {self.ref}", mend)
        return data

    def _refuse_submodule(self, rel: str, path: str) -> None:
        """A file inside a submodule is in another repository: say so, instead of that it is not there."""
        parts = f"{self._prefix}{path}".split("/")
        above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        for entry in self._git("ls-tree", "-z", "--full-tree", self.commit, "--", *above).split("\0"):
            name = entry.partition("\t")[2]
            if entry.startswith(_SUBMODULE) and name in above:
                what = f"'{rel}' is in the submodule '{name}', which is another repository"
                raise BadFile(what, "move it into this one")

    def _unknown(self) -> UsageError:
        shown = visible(self.ref)
        remote, slash, branch = self.ref.partition("/")
        fetch = f"git fetch {visible(remote)} {visible(branch)}" if slash else f"git fetch origin {shown}"
        shallow = self._git("rev-parse", "--is-shallow-repository").strip() == "true"
        why = "; this is a shallow clone" if shallow else ""
        return UsageError(
            f"git knows no commit {shown} here{why}",
            f"fetch it: {fetch} (in CI: fetch-depth: 0 for actions/checkout)",
        )

    def _git(self, *words: str) -> str:
        """What a git command prints, as text. Raises GitFailed with what it said."""
        try:
            return answer(self.root, *words).decode(errors="surrogateescape")
        except FileNotFoundError:
            raise UsageError("git is not installed", "install git, or plan without --against") from None
        except subprocess.TimeoutExpired:
            raise self._silent() from None

    def _silent(self) -> UsageError:
        return UsageError(f"git did not answer within {PATIENCE_S:.0f} s", "see what holds it up: git status")

    # -- one `git cat-file --batch` for all files

    def _ask(self, name: str) -> tuple[str, int]:
        """The kind and size of an object; its bytes and a newline come next. Follows links inside the tree."""
        if self._batch is None:
            self._batch = subprocess.Popen(
                ["git", *_SAFE, "cat-file", "--batch=%(objecttype) %(objectsize)", "--follow-symlinks"],
                cwd=self.root,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        try:
            _pipe(self._batch.stdin).write(os.fsencode(name) + b"\n")
            _pipe(self._batch.stdin).flush()
        except OSError:
            raise self._gone() from None
        head = self._line()
        if head == name.encode(errors="surrogateescape") + b" missing":
            return "missing", 0
        kind, _, size = head.decode(errors="replace").rpartition(" ")
        if kind == "tree":
            self.close()  # its bytes are not wanted
        if kind in ("blob", "tree"):
            return kind, int(size)
        if kind in ("symlink", "dangling", "loop", "notdir"):
            self._take(int(size) + 1)
            return ("missing" if kind == "notdir" else "link"), 0
        raise self._gone()

    def _line(self) -> bytes:
        while b"\n" not in self._left:
            self._left += self._more()
        line, _, self._left = self._left.partition(b"\n")
        return line

    def _take(self, count: int) -> bytes:
        chunks, have = [self._left[:count]], min(count, len(self._left))
        self._left = self._left[count:]
        while have < count:
            more = self._more()
            chunks.append(more[: count - have])
            self._left = more[count - have :]
            have += len(chunks[-1])
        return b"".join(chunks)

    def _more(self) -> bytes:
        assert self._batch is not None
        out = _pipe(self._batch.stdout)
        with selectors.DefaultSelector() as ready:
            ready.register(out, selectors.EVENT_READ)
            if not ready.select(PATIENCE_S):
                self.close()
                raise self._silent()
        data = os.read(out.fileno(), 1 << 20)
        if not data:
            raise self._gone()
        return data

    def _gone(self) -> UsageError:
        self.close()
        return UsageError(f"git cannot read {visible(self.ref)}", "see what is wrong with the repository: git fsck")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
    # The search for git begins in the repository: a relative folder on the PATH would be the repository's own.
    path = os.pathsep.join(filter(os.path.isabs, os.get_exec_path()))
    return {
        **kept,
        "PATH": path,
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",  # known to git from 2.45 on
        "GIT_ALLOW_PROTOCOL": "none",  # goes before what the repository's config allows, ext:: for instance
        "GIT_NO_REPLACE_OBJECTS": "1",
    }
