"""The files of a project as they stand at a git ref, read from git's objects: nothing is checked out, fetched or run.

`Tree` reads texts as `files.Project` does, so a storyboard at a ref is loaded as one on disk is, and a path is held to
the same rules. Everything here is git's own command with what could run a program or open a connection turned off: an
object that is not here is not fetched, and the message says what fetches it.
"""

from __future__ import annotations

import hashlib
import os
import re
import selectors
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO

from klingflow.core.digest import of_bytes
from klingflow.core.errors import KlingflowError, UsageError
from klingflow.core.model import Digest
from klingflow.core.source import visible
from klingflow.io.project import CLIP_BYTES, TEXT_BYTES, BadFile, by_form, clean, decoded, in_other_form, submodules

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
_POINTER = re.compile(
    rb"version (?:https://(?:git-lfs|hawser)\.github\.com/spec/v1|http://git-media\.io/v/2)\n"
    rb"(?:.*\n)*?oid sha256:([0-9a-f]{64})\n"
)
_POINTER_BYTES = 1024
"""A pointer is shorter, by the specification of Git LFS."""
_FOLDER, _SUBMODULE = "040000", "160000"


UNSHALLOW = (
    "git fetch --unshallow origin '+refs/heads/*:refs/remotes/origin/*' (in CI: fetch-depth: 0 for actions/checkout)"
)


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


def user_name(root: Path) -> str:
    """The name with which git would sign a commit in `root`; empty where it knows none, or there is no git."""
    try:
        return answer(root, "config", "--get", "user.name").decode(errors="replace").strip()
    except (GitFailed, OSError, subprocess.SubprocessError):
        return ""


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


def files_at(root: Path, ref: str, ending: str) -> Iterator[bytes]:
    """The content of every file of the repository whose name ends so, at a ref itself: there `root` may have been
    another folder. Raises UsageError where `root` is in no git repository, there is no such ref, or git cannot read a
    file of it."""
    try:
        found = answer(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        commit = found.strip().decode()
        listed = answer(root, "ls-tree", "-r", "-z", "--full-tree", "--name-only", commit).split(b"\0")
    except (GitFailed, FileNotFoundError, subprocess.TimeoutExpired) as bad:
        what = f"{visible(ref)} is no commit that git knows in {root}"
        raise UsageError(what, "name a branch, a tag or a commit that is there: git fetch, git branch -a") from bad
    for raw in listed:
        if raw.endswith(ending.encode()):
            name = raw.decode("utf-8", "surrogateescape")
            try:
                yield answer(root, "cat-file", "blob", f"{commit}:{name}")
            except (GitFailed, subprocess.TimeoutExpired) as bad:
                what = f"git cannot read {visible(name)} at {visible(ref)}"
                raise UsageError(what, "bring it: git fetch --refetch --no-filter") from bad


def head(root: Path, path: str) -> tuple[str, bool]:
    """The commit that is checked out, and whether a file that git tracks differs from it, or the one at `path`, from
    `root`, is in none. An empty text where there is no commit, or no git."""
    try:
        commit = answer(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").decode().strip()
        changed = answer(root, "status", "--porcelain", "--untracked-files=no")
    except (GitFailed, OSError, subprocess.SubprocessError):
        return "", False
    return commit, bool(changed) or not tracked(root, path)



def refs(folder: Path, names: Sequence[str]) -> list[str]:
    """Those of some branches that there are, in the order of `names`: "main", "origin/HEAD"."""
    places = [f"refs/remotes/{name}" if "/" in name else f"refs/heads/{name}" for name in names]
    try:
        listed = answer(folder, "for-each-ref", "--format=%(refname)", *places).decode(errors="replace").split()
    except (GitFailed, OSError, subprocess.SubprocessError):
        return []
    return [name for name, place in zip(names, places, strict=True) if place in listed]


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


def remotes(root: Path) -> list[str]:
    """The names of the repository's remotes. Raises UsageError where git cannot say."""
    return _said(root, "remote").split()


def default_branch(root: Path, remote: str) -> str:
    """The default branch of a remote as this clone knows it (refs/remotes/origin/main: a tag may be called
    origin/main, too); empty where it does not know it, or the branch is not here."""
    try:
        name = answer(root, "symbolic-ref", "--quiet", f"refs/remotes/{remote}/HEAD").decode().strip()
    except (GitFailed, OSError, subprocess.SubprocessError):
        return ""
    return name if is_branch(root, name) else ""


def is_branch(root: Path, ref: str) -> bool:
    """Whether a full name (refs/remotes/origin/main) leads to a commit here."""
    try:
        return bool(answer(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").strip())
    except (GitFailed, OSError, subprocess.SubprocessError):
        return False


def _said(root: Path, *words: str) -> str:
    try:
        return answer(root, *words).decode(errors="replace")
    except GitFailed as fault:
        raise UsageError(f"git {words[0]} failed: {visible(fault.said.strip())}") from None
    except FileNotFoundError:
        raise UsageError("git is not installed", "install git") from None
    except (OSError, subprocess.SubprocessError) as bad:
        raise UsageError(f"git cannot be asked: {bad}") from None


class Tree:
    """The files below `root` as they stand where this branch left `ref`: at their last common commit, so that what
    others have done on `ref` since is no change of this branch. With `at_tip` as they stand at `ref` itself. Paths are
    relative to `root`. Close it, or use it in a `with`."""

    def __init__(self, root: Path, ref: str, *, at_tip: bool = False) -> None:
        """Raises UsageError where `root` is in no git repository or `ref` names no commit there."""
        self.root = Path(os.path.realpath(root))
        self.ref = ref
        self._repo = _Repository(self.root)
        if ".." in ref:
            first = ref.split("..")[0]
            mend = f"name one: {visible(first) or 'origin/main'}; it is compared with where this branch left it"
            raise UsageError(f"{visible(ref)} names more than one commit", mend)
        if not ref or ref.startswith("-") or len(ref) > 500 or re.search(r"[\x00-\x20\x7f:?*\[\\]", ref):
            raise UsageError(f"{ref!r} is not a git ref", "name a branch, a tag or a commit: origin/main")
        try:
            prefix = self._repo.git("rev-parse", "--show-prefix").removesuffix("\n")
        except GitFailed as fault:
            if "dubious ownership" in fault.said:
                mend = f"git config --global --add safe.directory {self.root}"
                raise UsageError(f"git does not trust {self.root}: it belongs to somebody else", mend) from None
            what = f"{self.root} is not in a git repository, so there is no {visible(ref)} to compare with"
            raise UsageError(what, "run it where the storyboard is under version control") from None
        try:
            self.tip = self._repo.git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").strip()
        except GitFailed:
            raise self._unknown() from None
        self.parted = True
        """Whether there is a common commit; where none is known, `ref` itself is taken."""
        self.commit = self.tip
        try:
            if not at_tip:
                self.commit = self._repo.git("merge-base", "HEAD", self.tip).strip()
        except GitFailed:
            self.parted = False
        self.shown = visible(ref) if self.commit == self.tip else self.commit[:7]
        """What the commit is called in messages."""
        self._prefix = prefix
        self._files = _Commit(self._repo, self.commit, self.shown)

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._files.close()

    @property
    def shallow(self) -> bool:
        """Whether the clone lacks a part of its history."""
        return self._repo.git("rev-parse", "--is-shallow-repository").strip() == "true"

    def read(self, rel: str, most: int = TEXT_BYTES) -> bytes | None:
        """The file's bytes, None where there is no such file in the commit. Raises BadFile for what is no file of the
        project, for one larger than `most`, and for one that is not here."""
        found = self._find(rel, most)
        if found is None:
            return None
        data = found.read()
        pointer = _POINTER.match(data)
        if pointer is None:
            return data
        kept = found.repo.large(pointer[1].decode(), most)
        if kept is None:
            mend = f"git lfs fetch origin {self.shown} (in CI: lfs: true for actions/checkout)"
            raise self._unread(rel, "it is kept by Git LFS, and was not fetched", mend)
        return kept

    def read_bytes(self, rel: str, most: int = TEXT_BYTES) -> bytes:
        """As `files.Project.read_bytes`. Raises BadFile, also for a file that is not there."""
        data = self.read(rel, most)
        if data is None:
            raise NoFile(f"there is no file '{rel}' at {self.shown}")
        return data

    def read_text(self, rel: str) -> str:
        return decoded(rel, self.read_bytes(rel))

    def digest(self, rel: str) -> Digest:
        """SHA-256 of the file's bytes. A Git LFS pointer names it, so the file itself is not needed."""
        found = self._find(rel, CLIP_BYTES)
        if found is None:
            raise NoFile(f"there is no file '{rel}' at {self.shown}")
        if found.size <= _POINTER_BYTES:
            data = found.read()
            pointer = _POINTER.match(data)
            return Digest(pointer[1].decode()) if pointer else of_bytes(data)
        sha256 = hashlib.sha256()
        for chunk in found.chunks():
            sha256.update(chunk)
        return Digest(sha256.hexdigest())

    def _find(self, rel: str, most: int) -> _Blob | None:
        path = clean(rel)
        if any(part.startswith(".") for part in path.split("/")):
            raise BadFile(f"'{rel}' is hidden: a name that begins with a dot is not read", "use another name")
        try:
            found = self._files.find(self._prefix + path, rel)
        except _NotHere as gone:
            raise self._unread(rel, gone.what, gone.mend) from None
        if found is not None and found.size > most:
            self.close()  # its bytes are not wanted
            raise BadFile(f"'{rel}' has {found.size} bytes at {self.shown}; at most {most} are read")
        return found

    def _unread(self, rel: str, why: str, mend: str) -> BadFile:
        return BadFile(f"'{rel}' at {self.shown} cannot be read: {why}", mend)

    def _unknown(self) -> UsageError:
        """That there is no such commit, with the command that brings it."""
        shown = visible(self.ref)
        if self.shallow:
            return UsageError(f"git knows no commit {shown} here; this is a shallow clone", UNSHALLOW)
        what = f"git knows no commit {shown} here"
        remotes = self._repo.git("remote").split()
        remote, slash, branch = self.ref.partition("/")
        if slash and (remote in remotes or not remotes):
            mend = f"git fetch {visible(remote)} {visible(branch)}:refs/remotes/{shown}"
        elif "origin" in remotes and self._is_there(f"refs/remotes/origin/{self.ref}"):
            return UsageError(what, f"did you mean origin/{shown}?")
        elif re.fullmatch("[0-9a-f]{40,64}", self.ref):
            mend = f"git fetch origin {shown}"
        else:
            mend = f"git fetch origin {shown}:refs/remotes/origin/{shown}, then --against origin/{shown}"
        return UsageError(what, f"fetch it: {mend} (in CI: fetch-depth: 0 for actions/checkout)")

    def _is_there(self, ref: str) -> bool:
        try:
            return bool(self._repo.git("rev-parse", "--verify", "--quiet", ref).strip())
        except GitFailed:
            return False


class NoFile(BadFile):
    """The commit has no such file."""


class _NotHere(KlingflowError):
    """Why the bytes of a file that a commit has cannot be had here, in half a sentence, and what brings them."""


@dataclass(frozen=True, slots=True)
class _Blob:
    """A file of a commit, of which the bytes come next from its repository: read it at once, or close that."""

    repo: _Repository
    size: int

    def read(self) -> bytes:
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        yield from self.repo.take(self.size)
        for _ in self.repo.take(1):  # the end of line
            pass


class _Commit:
    """The files of one commit by their path from its top, those in its submodules too."""

    def __init__(self, repo: _Repository, commit: str, shown: str, git: str = "git") -> None:
        """`git` is how its commands begin, for messages."""
        self._repo, self._commit, self._shown, self._git = repo, commit, shown, git
        self._modules: dict[str, _Commit] = {}
        self._by_form: dict[str, Mapping[str, Sequence[str]]] = {}

    def close(self) -> None:
        self._repo.close()
        for module in self._modules.values():
            module.close()

    def find(self, path: str, rel: str) -> _Blob | None:
        """The file; None where there is none. Raises BadFile for what is no file, _NotHere for one that is not here.
        `rel` is its name in messages."""
        kind, size = self._repo.ask(f"{self._commit}:{path}")
        match kind:
            case "blob":
                return _Blob(self._repo, size)
            case "tree":
                raise BadFile(f"'{rel}' is a folder at {self._shown}", "name a file")
            case "link":
                raise BadFile(f"'{rel}' is a link that leads to no file of the repository at {self._shown}")
        return self._elsewhere(path, rel)

    def _elsewhere(self, path: str, rel: str) -> _Blob | None:
        """A file that this repository's objects do not have: it is in a submodule, or its object is not here, or there
        is no such file."""
        parts = path.split("/")
        above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        try:
            listed = self._repo.git("ls-tree", "-z", "--full-tree", self._commit, "--", *above)
        except GitFailed:  # a folder's own object is not here
            raise self._lost() from None
        for entry in listed.split("\0"):
            head, _, name = entry.partition("\t")
            mode, _, oid = head.partition(" ")
            if name in above and mode == _SUBMODULE:
                return self._submodule(name, oid.rpartition(" ")[2]).find(path[len(name) + 1 :], rel)
            if name == path and mode != _FOLDER:
                raise self._lost()
        there = None if path.isascii() else in_other_form(path, self._names_by_form)
        return None if there is None else self.find(there, rel)

    def _names_by_form(self, folder: str) -> Mapping[str, Sequence[str]]:
        if folder not in self._by_form:
            try:
                listed = self._repo.git("ls-tree", "-z", "--name-only", f"{self._commit}:{folder}")
            except GitFailed:
                listed = ""
            self._by_form[folder] = by_form(listed.split("\0"))
        return self._by_form[folder]

    def _lost(self) -> _NotHere:
        if self._repo.partial:
            mend = f"{self._git} diff --stat HEAD {self._shown} fetches it (in CI: no `filter` for actions/checkout)"
            return _NotHere("this is a partial clone, and its blob is not here", mend)
        return _NotHere("git has lost its object", "see what is wrong with the repository: git fsck")

    def _submodule(self, path: str, commit: str) -> _Commit:
        """The commit of a submodule that this one names. Raises _NotHere."""
        known = self._modules.get(path)
        if known is not None:
            return known
        git = f"{self._git} -C {shlex.quote(path)}"
        repos = list(self._repositories(path))
        for repo in repos:
            if repo.has(commit):
                known = self._modules[path] = _Commit(repo, commit, commit[:7], git)
                return known
        why = f"it is in the submodule '{path}', "
        if repos:
            why += f"whose commit {commit[:7]} is not here"
            mend = f"{git} fetch origin {commit}"
        else:
            why += "which is not checked out"
            mend = f"{self._git} submodule update --init {shlex.quote(path)}"
        raise _NotHere(why, f"{mend} (in CI: `submodules: true`, and fetch-depth: 0)")

    def _repositories(self, path: str) -> Iterator[_Repository]:
        """Where a submodule's objects may be: at its place in the working tree, or in the git folder, which keeps them
        while it is not checked out. The name there is text of a commit: one that leads elsewhere is not followed."""
        place = self._repo.top / path if self._repo.top is not None else None
        if place is not None and os.path.lexists(place / ".git") and os.path.realpath(place) == str(place):
            yield _Repository(place)
        try:
            listed = self._repo.git("cat-file", "blob", f"{self._commit}:.gitmodules")
        except GitFailed:
            return
        for name, where in submodules(listed):
            if where == path and not {"", ".", ".."} & {*name.split("/")} and "\\" not in name:
                for folder in self._repo.folders:
                    inside = folder / "modules" / name
                    if (inside / "HEAD").is_file() and os.path.realpath(inside) == str(inside):
                        yield _Repository(inside, bare=True)


class _Repository:
    """The objects of one repository, through one `git cat-file --batch` for all files. `place` is a folder of its
    working tree, or, where it is `bare`, its git folder."""

    def __init__(self, place: Path, bare: bool = False) -> None:
        self.place = place
        # A submodule's git folder names a working tree, which may be gone.
        self._where = ("--git-dir=.", "--work-tree=.") if bare else ()
        self._bare = bare
        self._batch: subprocess.Popen[bytes] | None = None
        self._left = b""

    @cached_property
    def top(self) -> Path | None:
        """The working tree."""
        return None if self._bare else Path(self.git("rev-parse", "--show-toplevel").removesuffix("\n"))

    @cached_property
    def folders(self) -> tuple[Path, ...]:
        """The git folder, and that which all working trees of the repository have in common."""
        said = self.git("rev-parse", "--git-dir", "--git-common-dir").splitlines()
        return tuple(dict.fromkeys(Path(os.path.realpath(self.place / folder)) for folder in said))

    @cached_property
    def partial(self) -> bool:
        """Whether it is a clone that fetches objects when they are needed."""
        try:
            return bool(self.git("config", "--get-regexp", r"^(remote\..*\.promisor|extensions\.partialclone)$"))
        except GitFailed:
            return False

    def has(self, commit: str) -> bool:
        try:
            self.git("cat-file", "-e", f"{commit}^{{commit}}")
        except GitFailed:
            return False
        return True

    def large(self, oid: str, most: int) -> bytes | None:
        """A file that Git LFS keeps, where it was fetched before."""
        for folder in self.folders:
            try:
                with Path(folder, "lfs", "objects", oid[:2], oid[2:4], oid).open("rb") as file:
                    data = file.read(most + 1)
            except OSError:
                continue
            if of_bytes(data) == oid:
                return data
        return None

    def git(self, *words: str) -> str:
        """What a git command prints, as text. Raises GitFailed with what it said."""
        try:
            return answer(self.place, *self._where, *words).decode(errors="surrogateescape")
        except FileNotFoundError:
            raise UsageError("git is not installed", "install git, or plan without --against") from None
        except subprocess.TimeoutExpired:
            raise _silent() from None

    def close(self) -> None:
        if self._batch is not None:
            self._batch.kill()
            self._batch.communicate()
            self._batch, self._left = None, b""

    def ask(self, name: str) -> tuple[str, int]:
        """The kind and size of an object; the bytes of a blob and a newline come next. Follows links inside the tree.

        The kinds are those of git, "link" for one that leads to no file, and "missing": also for an object that git
        wants to fetch, which it may not, or that is damaged. Then it ends.
        """
        if self._batch is None:
            self._batch = subprocess.Popen(
                ["git", *_SAFE, *self._where, "cat-file", "--batch=%(objecttype) %(objectsize)", "--follow-symlinks"],
                cwd=self.place,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        try:
            _pipe(self._batch.stdin).write(os.fsencode(name) + b"\n")
            _pipe(self._batch.stdin).flush()
            head = self._line()
        except (OSError, EOFError):
            self.close()
            return "missing", 0
        kind, _, size = head.decode(errors="replace").rpartition(" ")
        if kind in ("symlink", "dangling", "loop", "notdir"):
            self._skip(int(size) + 1)
            return ("missing" if kind == "notdir" else "link"), 0
        if kind == "blob":
            return kind, int(size)
        if kind in ("tree", "commit"):
            self.close()  # its bytes are not wanted
            return ("missing" if kind == "commit" else kind), 0  # a submodule's, in the same store
        return "missing", 0

    def take(self, count: int) -> Iterator[bytes]:
        """The next bytes. Raises UsageError where git stops in the middle of them."""
        while count:
            try:
                data = self._left or self._more()
            except EOFError:
                self.close()
                what = f"git stopped while it was reading {self.place}"
                raise UsageError(what, "see what is wrong with the repository: git fsck") from None
            self._left = data[count:]
            yield data[:count]
            count -= len(data[:count])

    def _skip(self, count: int) -> None:
        for _ in self.take(count):
            pass

    def _line(self) -> bytes:
        while b"\n" not in self._left:
            self._left += self._more()
        line, _, self._left = self._left.partition(b"\n")
        return line

    def _more(self) -> bytes:
        """Raises EOFError where git has ended."""
        assert self._batch is not None
        out = _pipe(self._batch.stdout)
        with selectors.DefaultSelector() as ready:
            ready.register(out, selectors.EVENT_READ)
            if not ready.select(PATIENCE_S):
                self.close()
                raise _silent()
        data = os.read(out.fileno(), 1 << 20)
        if not data:
            raise EOFError
        return data


def _silent() -> UsageError:
    return UsageError(f"git did not answer within {PATIENCE_S:.0f} s", "see what holds it up: git status")


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
