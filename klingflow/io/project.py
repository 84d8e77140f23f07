"""The files of a project, read as if a stranger had written the storyboard (in a pull request one has).

A path in a storyboard or a project file names a regular file inside the project's root, and nothing else: no absolute
path, no way out by `..` or by a symbolic link, no hidden file (.git/config and .env hold secrets), no pipe or device.

A file that has not changed is not read again (io.cache).
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from io import BufferedReader
from itertools import islice
from pathlib import Path

from klingflow.core.alike import alike, difference, form, plain
from klingflow.core.errors import KlingflowError, MediaError
from klingflow.core.model import ClipLook, Digest, ImageFacts
from klingflow.core.source import declares_storyboard, nearest
from klingflow.io import pictures
from klingflow.io.cache import FileFacts, KnownFiles
from klingflow.io.remembered import recall, remember

TEXT_BYTES = 2 * 2**20
IMAGE_BYTES = 64 * 2**20
CLIP_BYTES = 4 * 2**30
IMAGE_PIXELS = 50_000_000
"""An 8K frame has 33 million; a small PNG can claim thousands of millions."""
PROJECT_FILE = "klingflow.yaml"
PRICE_FILE = "klingflow.prices.yaml"
_MISNAMED = ("klingflow.yml", ".klingflow.yaml", ".klingflow.yml", "Klingflow.yaml", "Klingflow.yml")
_POINTERS = tuple(
    b"version " + spec
    for spec in (b"https://git-lfs.github.com/spec/", b"https://hawser.github.com/spec/", b"http://git-media.io/v/")
)
"""How a Git LFS pointer begins; the last two are names of the format that Git LFS still reads."""


class BadFile(KlingflowError):
    """A path that a storyboard may not name, or a file that is not what it should be. The caller knows the place."""

    code = 2


def find_root(storyboard: Path) -> Path:
    """The project's root: the nearest folder above the storyboard with klingflow.yaml, else the one with .git, else
    the storyboard's own. A real path: no link stands in it."""
    folder = Path(os.path.realpath(storyboard.parent))
    above = [folder, *folder.parents]
    return next(filter(_has_settings, above), None) or git_root(folder) or folder


def folders_above(root: Path) -> tuple[Path, ...]:
    """The folders above a project's root in which a project file limits it too, the nearest first: those up to the
    outermost git root, or all of them where there is no git. A submodule is held to the limits of what it is part of.
    """
    real = Path(os.path.realpath(root))
    within = _outermost((real, *real.parents), ".git")
    return tuple(
        place for place in real.parents if (within is None or _below(str(place), str(within))) and _has_settings(place)
    )


def settings_name(folder: Path) -> str:
    """A folder's project file as messages call it on every machine: by its path in the repository; where there is no
    git, by its path from the outermost folder that has one."""
    real = Path(os.path.realpath(folder))
    places = (real, *real.parents)
    top = _outermost(places, ".git") or _outermost(places, PROJECT_FILE) or real
    return (real / PROJECT_FILE).relative_to(top).as_posix()


def git_root(folder: Path) -> Path | None:
    """The root of the repository that a folder is in, as far as can be told without git."""
    real = Path(os.path.realpath(folder))
    return next((place for place in (real, *real.parents) if (place / ".git").exists()), None)


def _outermost(places: Sequence[Path], name: str) -> Path | None:
    return next((place for place in reversed(places) if os.path.lexists(place / name)), None)


def _has_settings(folder: Path) -> bool:
    return os.path.lexists(folder / PROJECT_FILE) or misnamed_settings(folder) is not None


def misnamed_settings(folder: Path) -> str | None:
    """The name of a file that was meant as the folder's project file and is not called so; None where there is none.
    What it limits would not count, without a word."""
    if os.path.lexists(folder / PROJECT_FILE):
        return None
    for name in _MISNAMED:
        try:
            with (folder / name).open("rb") as file:
                if not declares_storyboard(file.read(65536)):
                    return name
        except OSError:
            continue
    return None


_MERGING = ("MERGE_HEAD", "REBASE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD")


def merging(root: Path) -> bool:
    """Whether git is in the middle of a merge, a rebase, a cherry-pick or a revert. Runs no git:
    it is asked for every plan."""
    place = _git_folder(root)
    return place is not None and any((place / name).exists() for name in _MERGING)


def git_head(root: Path) -> str:
    """What says which commit is checked out: it changes when that does. Empty outside a repository. Runs no git."""
    place = _git_folder(root)
    if place is None:
        return ""
    head = _line(place / "HEAD")
    shared = place / _line(place / "commondir")  # of a linked working tree
    branch = head.removeprefix("ref: ")
    if branch == head:
        return head
    found = _line(shared / branch)
    packed = shared / "packed-refs"
    return f"{head} {found}" if found or not packed.exists() else f"{head} {packed.stat().st_mtime_ns}"


def _line(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _git_folder(root: Path) -> Path | None:
    """Where git keeps what it knows of the working tree; None outside a repository."""
    for folder in (root, *root.parents):
        place = folder / ".git"
        if place.is_file():  # a linked working tree
            place = folder / _line(place).removeprefix("gitdir:").strip()
        if place.is_dir():
            return place
    return None


def empty_submodule(root: Path, rel: str) -> str | None:
    """The submodule, by its path below `root`, that the file would be in and that is not checked out; None where there
    is none. Runs no git: .gitmodules names them."""
    top = next((folder for folder in (root, *root.parents) if os.path.lexists(folder / ".git")), None)
    if top is None:
        return None
    try:
        listed = (top / ".gitmodules").read_text("utf-8", "replace")
    except OSError:
        return None
    modules = {path for _, path in submodules(listed)}
    folders = rel.split("/")[:-1]
    for n in range(1, len(folders) + 1):
        place = root.joinpath(*folders[:n])
        if place.relative_to(top).as_posix() in modules and not os.path.lexists(place / ".git"):
            return "/".join(folders[:n])
    return None


def submodules(listed: str) -> list[tuple[str, str]]:
    """The name of each submodule, with its path from the top of the repository, as .gitmodules lists them."""
    out, name = [], ""
    for line in listed.splitlines():
        section = re.match(r'[ \t]*\[submodule "(.*)"\]', line)
        if section:
            name = section[1]
        key, _, value = line.partition("=")
        if key.strip() == "path" and name:
            out.append((name, value.strip().strip('"')))
    return out


def clean(rel: str) -> str:
    """A path below the root in its one spelling ("frames/a.png"). Raises BadFile where the text alone forbids it."""
    if _PLAIN.fullmatch(rel):  # nearly every path; two thousand stills should cost nothing
        return rel
    mend = "name a file of the project by its path below the project, with forward slashes"
    if not rel or rel.isspace():
        raise BadFile("the path is empty", mend)
    if any(ord(c) < 32 or ord(c) == 127 for c in rel):
        raise BadFile(f"the path {rel!r} holds a control character", mend)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", rel):
        raise BadFile(f"'{rel}' is a URL or names a drive, not a file of the project", mend)
    if "\\" in rel:
        raise BadFile(f"'{rel}' has a backslash", mend)
    if rel.startswith(("/", "~")):
        raise BadFile(f"'{rel}' is outside the project", mend)
    parts: list[str] = []
    for part in rel.split("/"):
        if part == "..":
            if not parts:
                raise BadFile(f"'{rel}' is outside the project", mend)
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        raise BadFile(f"'{rel}' is the project's own folder", mend)
    return "/".join(parts)


_PLAIN = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")


class Project:
    """Reads the files below one root, and knows their digests. Every path is relative to the root."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self._folders: dict[str, str | None] = {}
        self._names: dict[str, frozenset[str]] = {}
        """What each folder holds, as spelled on the disk; listed again before a name is said not to be there."""
        self._other_forms: dict[str, str] = {}
        """Paths that are in another Unicode form on the disk, and how they are there."""
        self._by_form: dict[str, tuple[int, Mapping[str, Sequence[str]]]] = {}
        self._facts = KnownFiles(self.root)

    def resolve(self, rel: str) -> Path:
        """The real path of an existing regular file inside the root. Raises BadFile."""
        return Path(self._look(rel)[0])

    def read_bytes(self, rel: str, most: int = TEXT_BYTES) -> bytes:
        """The whole file, at most `most` bytes of it. Raises BadFile."""
        with self._open(rel, most) as file:
            return _no_pointer(rel, _whole(file, rel, most))

    def read_text(self, rel: str) -> str:
        """A text file in UTF-8, with its line ends as \\n. Raises BadFile."""
        return decoded(rel, self.read_bytes(rel))

    def digest(self, rel: str) -> Digest:
        """SHA-256 of the file's bytes. An unchanged file is not read again. Raises BadFile."""
        real, known = self._look(rel)
        facts = self._facts.get(real, known)
        if facts is None:
            with self._open(rel, CLIP_BYTES) as file:
                known = os.fstat(file.fileno())
                _no_pointer(rel, file.peek(64))
                facts = FileFacts(Digest(hashlib.file_digest(file, "sha256").hexdigest()))
            self._facts.put(real, known, facts)
        return facts.digest

    def clip(self, rel: str) -> tuple[Digest, ClipLook]:
        """SHA-256 of a clip's bytes, and how it is shown. Raises BadFile, or MediaError for what is no whole clip."""
        digest = self.digest(rel)
        known = recall("look", digest)
        if isinstance(known, dict) and known.keys() == {"width", "height", "hdr", "alpha"}:
            return digest, ClipLook(**known)
        from klingflow.io import media  # loads the media library

        look = media.glance(self.resolve(rel))
        remember("look", digest, asdict(look))
        return digest, look

    def image(self, rel: str) -> ImageFacts:
        """What is known of a still: PNG, JPEG or WEBP by its content, size as it is shown (after EXIF rotation).

        The picture is decoded once, because only that finds a file that was cut short. Raises BadFile.
        """
        real, known = self._look(rel)
        facts = self._facts.get(real, known)
        if facts is None or facts.image is None:
            with self._open(rel, IMAGE_BYTES) as file:
                known = os.fstat(file.fileno())
                data = _no_pointer(rel, _whole(file, rel, IMAGE_BYTES))
            image = picture(rel, data)
            self._facts.put(real, known, FileFacts(image.digest, image))
            return image
        return facts.image

    def picture(self, rel: str) -> Digest:
        """The digest of what a still or clip shows (io.picture_digest), all of it decoded. Raises BadFile or
        MediaError."""
        digest = self.digest(rel)
        known = recall("picture", digest)
        if isinstance(known, str):
            return Digest(known)
        from klingflow.io import picture_digest  # decodes: needed where a file is not the one that went into a clip

        try:
            seen = picture_digest.of_still(self.read_bytes(rel, IMAGE_BYTES))
        except OSError:  # no still
            seen = picture_digest.of_clip(self.resolve(rel))
        if self.digest(rel) != digest:
            raise BadFile(f"'{rel}' changed while it was read", "run again")
        remember("picture", digest, seen)
        return seen

    def bed(self, rel: str) -> Digest:
        """SHA-256 of a music file's bytes, once its beginning was listened to. Raises BadFile."""
        digest = self.digest(rel)
        if recall("bed", digest) is None:
            from klingflow.io import media  # loads the media library

            try:
                next(media.sound(self.resolve(rel), Fraction(0), bed=True), None)
            except MediaError as bad:
                raise BadFile(bad.what, "name a WAV, MP3, FLAC, M4A or OGG file") from bad
            remember("bed", digest, value=True)
        return digest

    def to_write(self, rel: str) -> Path:
        """Where a file or folder below the root may be written: no link leads there, and it is not git's.

        A link inside the project is refused too: a pull request could lay `out` over `.git/hooks`, or over its own
        storyboard. Raises BadFile.
        """
        parts = clean(rel).split("/")
        git = BadFile(f"nothing is written to '{rel}': it belongs to git", "use another name")
        if any(part.casefold() == ".git" for part in parts):
            raise git
        try:
            hooks = os.lstat(self.root / ".git")
        except OSError:
            hooks = None
        for n in range(1, len(parts) + 1):
            shown = "/".join(parts[:n])
            try:
                there = os.lstat(self.root / shown)
            except FileNotFoundError:
                break
            except OSError as error:
                raise BadFile(f"nothing can be written to '{rel}': {error.strerror}") from None
            if stat.S_ISLNK(there.st_mode):
                raise BadFile(f"nothing is written to '{rel}': '{shown}' is a link", "remove the link")
            # A file system may take other spellings for the same name (HFS+ ignores characters that cannot be seen).
            if hooks is not None and os.path.samestat(there, hooks):
                raise git
            if n < len(parts) and not stat.S_ISDIR(there.st_mode):
                raise BadFile(f"nothing can be written to '{rel}': '{shown}' is not a folder", "move it away")
        return self.root.joinpath(*parts)

    def other_form(self, rel: str) -> str | None:
        """How a path that was looked at is spelled on the disk, where that is another Unicode form of it; else None."""
        if rel.isascii():
            return None
        parts = clean(rel).split("/")
        for n in range(len(parts), 0, -1):
            there = self._other_forms.get("/".join(parts[:n]))
            if there is not None:
                return "/".join([there, *parts[n:]])
        return None

    def save_cache(self) -> None:
        """Keeps the digests for the next run, where the user's cache folder can be written."""
        self._facts.save()

    def _look(self, rel: str) -> tuple[str, os.stat_result]:
        """The real path and its stat. A link is followed only to a file inside the root."""
        if not rel.isascii() and sys.getfilesystemencoding() != "utf-8":
            # ASCII cannot name it, and ISO-8859-1 would name another file.
            what = f"'{rel}' cannot be found where file names are in {sys.getfilesystemencoding()}"
            raise BadFile(what, "set PYTHONUTF8=1, or a UTF-8 locale")
        path = clean(rel)
        found = self._look_exactly(self._other_forms.get(path, path))
        if found is None and not path.isascii():
            there = in_other_form(path, self._names_by_form)
            if there is not None:
                self._other_forms[path] = there
                found = self._look_exactly(there)
        if found is None:
            raise self._missing(rel)
        return found

    def _names_by_form(self, folder: str) -> Mapping[str, Sequence[str]]:
        """What a folder holds (`by_form`); listed again only where something came or went."""
        place = self.root / folder
        try:
            changed = os.stat(place).st_mtime_ns
            known = self._by_form.get(folder)
            if known is None or known[0] != changed:
                known = self._by_form[folder] = (changed, by_form(os.listdir(place)))
        except OSError:
            return {}
        return known[1]

    def _look_exactly(self, rel: str) -> tuple[str, os.stat_result] | None:
        """As `_look`; None where there is no such file."""
        folder, _, name = rel.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._folder(folder)
        place = self._folders[folder]
        if place is None:
            return None
        real = f"{place}/{name}"
        try:
            if name.startswith("."):
                raise _hidden(rel)
            known = os.lstat(real)
            self._check_spelling(rel, place, name)
            if stat.S_ISLNK(known.st_mode):
                real = os.path.realpath(real, strict=True)
                self._inside(rel, real)
                known = os.lstat(real)
                self._check_spellings(rel, real)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BadFile(f"'{rel}' cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(known.st_mode):
            kind = "a folder" if stat.S_ISDIR(known.st_mode) else "no regular file"
            raise BadFile(f"'{rel}' is {kind}", "name a file")
        return real, known

    def _folder(self, folder: str) -> str | None:
        """The real path of a folder inside the root; None where there is none."""
        path = os.path.join(self.root, folder) if folder else str(self.root)
        try:
            real = os.path.realpath(path, strict=True)
        except OSError:
            return None
        if folder:
            self._inside(folder, real)
            if any(part.startswith(".") for part in folder.split("/")):
                raise _hidden(folder)
            self._check_spellings(folder, path)
            self._check_spellings(folder, real)
        return real

    def _check_spellings(self, rel: str, path: str) -> None:
        """That every part of a path below the root is spelled as on the disk."""
        place = str(self.root)
        for part in path[len(place) :].strip(os.sep).split(os.sep):
            self._check_spelling(rel, place, part)
            place = f"{place}/{part}"

    def _check_spelling(self, rel: str, place: str, name: str) -> None:
        """A file system that folds cases finds `Dawn.png` where `dawn.png` is, and a server that does not will not."""
        if name in self._names.get(place, ()):
            return
        try:
            names = self._names[place] = frozenset(os.listdir(place))
        except PermissionError:
            return  # a folder whose names nobody may list
        if name in names:
            return
        # The same name in another Unicode normal form is the same name: HFS+ on macOS changes the form by itself.
        wanted = form(name)
        forms = {form(each): each for each in names}
        if wanted not in forms:
            there = next((each for one, each in forms.items() if one.casefold() == wanted.casefold()), None)
            spelled = f"'{there}' on the disk" if there else "otherwise on the disk"
            mend = "spell it exactly so: other systems tell large and small letters apart"
            raise BadFile(f"'{rel}': '{name}' is spelled {spelled}", mend)
        inside = place.removeprefix(str(self.root)).strip(os.sep)
        written, there = (f"{inside}/{one}" if inside else one for one in (name, forms[wanted]))
        self._other_forms[written] = there

    def _inside(self, rel: str, real: str) -> None:
        if not _below(real, str(self.root)):
            raise BadFile(f"'{rel}' is a link out of the project", "put the file itself into the project")
        if any(part.startswith(".") for part in real[len(str(self.root)) :].split(os.sep)):
            raise _hidden(rel)

    def _open(self, rel: str, most: int) -> BufferedReader:
        """The file, open and checked again after opening: what was looked at may have been exchanged since."""
        real, known = self._look(rel)
        try:
            # Without O_NONBLOCK, opening a pipe would wait for a writer for ever.
            descriptor = os.open(real, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise BadFile(f"'{rel}' cannot be read: {error.strerror}") from None
        file = os.fdopen(descriptor, "rb")
        opened = os.fstat(descriptor)
        if not os.path.samestat(opened, known) or os.path.realpath(real) != real:
            file.close()
            raise BadFile(f"'{rel}' was exchanged while it was read", "run again")
        if opened.st_size > most:
            file.close()
            raise BadFile(f"'{rel}' has {_size(opened.st_size)}; at most {_size(most)} are read")
        return file

    def _missing(self, rel: str) -> BadFile:
        """That a file is not there, with the nearest name that is, or what would bring it."""
        folder, _, name = clean(rel).rpartition("/")
        empty = empty_submodule(self.root, clean(rel))
        if empty is not None:
            what = f"'{rel}' is in the submodule '{empty}', which is not checked out"
            mend = f"git submodule update --init {shlex.quote(empty)} (in CI: `submodules: true`)"
            return BadFile(what, mend)
        place, below = self._folders.get(folder), ""
        if place is not None and os.path.islink(os.path.join(place, name)):
            what = f"'{rel}' is a link to {os.readlink(os.path.join(place, name))!r}, which is not there"
            return BadFile(what, "bring the file that it leads to, or put the file itself there")
        if place is None:
            above, _, last = folder.rpartition("/")
            place, name, folder, below = os.path.join(self.root, above), last, above, f"/{name}"
        try:
            with os.scandir(place) as entries:
                names = [entry.name for entry in islice(entries, 2000) if not entry.name.startswith(".")]
        except OSError:
            names = []
        close = next((n for n in names if alike(n, name)), None) or nearest_file(name, names)
        where = f"{folder}/" if folder else ""
        if below and close and not os.path.lexists(os.path.join(place, close + below)):
            below = ""  # the folder that was meant does not have it either
        told = difference(name, close) if close else ""
        mend = f"did you mean '{where}{plain(close)}{below}'?" if close else "put it there, or correct the path"
        mend += f" The two look equal: {told}" if told else ""
        return BadFile(f"there is no file '{plain(rel)}'", mend)


def by_form(names: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """The names by the Unicode form that all spellings of each share."""
    out: dict[str, list[str]] = {}
    for name in names:
        out.setdefault(form(name), []).append(name)
    return out


def in_other_form(path: str, names_in: Callable[[str], Mapping[str, Sequence[str]]]) -> str | None:
    """The path of the file whose name is the same in another Unicode form (macOS and zip files change it by
    themselves); None where there is none. `names_in` gives what is in a folder, `by_form`. Raises BadFile where it may
    be any of several."""
    found = ""
    for part in path.split("/"):
        same = names_in(found).get(form(part), ())
        same = [part] if part in same else same
        if len(same) > 1:
            what = f"'{path}' may be any of {len(same)} names that differ in Unicode form alone"
            raise BadFile(what, "rename all of them but one")
        if not same:
            return None
        found = f"{found}/{same[0]}" if found else same[0]
    return None if found == path else found


_KINDS = (
    frozenset({".png", ".jpg", ".jpeg", ".webp", ".heic", ".avif", ".gif", ".tif", ".tiff", ".bmp"}),
    frozenset({".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi"}),
    frozenset({".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus", ".aif", ".aiff"}),
    frozenset({".yaml", ".yml"}),
    frozenset({".txt", ".md", ".j2"}),
)


def nearest_file(name: str, names: Sequence[str]) -> str | None:
    """The file that was most likely meant, one of its kind (a picture for a picture) before any other: an ending that
    two files share does not make their names alike."""
    stem, ending = os.path.splitext(name)
    kind = next((kind for kind in _KINDS if ending.lower() in kind), frozenset({ending.lower()}))
    same = [each for each in names if os.path.splitext(each)[1].lower() in kind]
    for some in (same, names):
        stems = {os.path.splitext(each)[0]: each for each in reversed(some)}
        alike = nearest(stem, tuple(stems))
        if alike is not None:
            return stems[alike]
    return None


def decoded(rel: str, raw: bytes) -> str:
    """A text file's bytes as text, with its line ends as \\n. Raises BadFile."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as bad:
        raise BadFile(f"'{rel}' is not UTF-8 text (byte {bad.start + 1})", "save it as UTF-8") from None
    if "\0" in text:
        raise BadFile(f"'{rel}' is not text", "name a text file in UTF-8")
    return text.replace("\r\n", "\n")


def _no_pointer(rel: str, data: bytes) -> bytes:
    """`data`, where it does not begin as the text that Git LFS leaves in a file's place. Raises BadFile."""
    if data.startswith(_POINTERS):
        raise BadFile(f"'{rel}' is a Git LFS pointer, not the file", "run `git lfs pull` (in CI: `lfs: true`)")
    return data


def _below(real: str, root: str) -> bool:
    return real == root or real.startswith(root.rstrip(os.sep) + os.sep)


def _hidden(rel: str) -> BadFile:
    return BadFile(f"'{rel}' is hidden: a name that begins with a dot is not read", "use another name")


def _whole(file: BufferedReader, rel: str, most: int) -> bytes:
    data = file.read(most + 1)
    if len(data) > most:
        raise BadFile(f"'{rel}' has more than {_size(most)}")
    return data


def _size(count: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}".replace(".0 ", " ")
    return f"{count} bytes"


# -- images


_MARKUP = (b"<svg", b"<?xml", b"<!doctype", b"<html")


_PICTURES = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF, or a camera's raw picture"),
    (b"MM\0*", "a TIFF, or a camera's raw picture"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (b"8BPS", "a Photoshop file"),
    (b"%PDF", "a PDF"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"\x1a\x45\xdf\xa3", "a video"),
)
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")


def _other_kind(head: bytes) -> str | None:
    """What a file is that people take for a still, by its first bytes; None for all else."""
    if head[4:8] == b"ftyp":
        brands = [head[at : at + 4] for at in (8, *range(16, min(len(head), int.from_bytes(head[:4])), 4))]
        # The general brand of images (mif1) may stand first in both.
        if any(brand in _AVIF for brand in brands):
            return "an AVIF"
        return "a HEIC" if any(brand in _HEIC for brand in brands) else "a video"
    return next((kind for start, kind in _PICTURES if head.startswith(start)), None)


def picture(rel: str, data: bytes) -> ImageFacts:
    """What is known of an image by its bytes. Raises BadFile for what is no still, or is damaged."""
    import struct
    import warnings
    from io import BytesIO

    from PIL import Image, UnidentifiedImageError  # costs 20 ms, and no still that is known already needs it

    mend = "stills are PNG, JPEG or WEBP"
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(_MARKUP):
        kind = "an SVG drawing" if b"<svg" in data[:4096].lower() else "a web page"
        raise BadFile(f"'{rel}' is {kind}, not a picture of pixels", mend)
    other = _other_kind(data[:64])
    if other is not None:
        raise BadFile(f"'{rel}' is {other}", f"{mend}: save it as one of them")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # for a bomb of middle size
            with Image.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as picture:
                width, height = picture.size
                if width * height > IMAGE_PIXELS:
                    raise BadFile(
                        f"'{rel}' has {width} x {height} pixels; at most {IMAGE_PIXELS // 10**6} million are read",
                        "make it smaller",
                    )
                if picture.format in ("PNG", "WEBP") and getattr(picture, "n_frames", 1) > 1:
                    raise BadFile(f"'{rel}' is an animation", "save one frame of it")
                return pictures.facts(picture, data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise BadFile(
            f"'{rel}' has too many pixels; at most {IMAGE_PIXELS // 10**6} million are read", "make it smaller"
        ) from None
    except UnidentifiedImageError:
        raise BadFile(f"'{rel}' is no picture that can be read", mend) from None
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error) as error:
        raise BadFile(f"'{rel}' is damaged or cut short ({error})", "export it again") from None
