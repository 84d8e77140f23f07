"""The pictures of a change, and the page on which it is reviewed, in a folder.

Clips come out of the store where it has them, stills out of the project and out of git; nothing is fetched from
elsewhere, and what is not at hand is said in its place. Everything that is read may have come with a pull request.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

from PIL import Image

from klingflow.app.base_plan import Against
from klingflow.app.session import Session
from klingflow.core.digest import of_bytes
from klingflow.core.errors import KlingflowError, UsageError
from klingflow.core.model import Digest, FileStill, Frame, Shot, ShotFrame, ShotId, UrlStill
from klingflow.core.source import Problem
from klingflow.io import durable, media, pictures
from klingflow.io import project as projects
from klingflow.io.git import Tree
from klingflow.io.project import IMAGE_BYTES
from klingflow.output import review, review_pictures
from klingflow.output.review import Change, Pair, Picture, Reviewed
from klingflow.output.review_pictures import Jpeg
from klingflow.planning.plan import Plan, Step

PAGE, STRIP, LIST = "review.html", "strip.jpg", ".pictures.json"
_OURS = re.compile(r"review\.html|strip\.jpg|[A-Za-z0-9_.-]{1,200}\.jpg")
_LIST_BYTES = 4 << 20
_OWN_CLIP_BYTES = 512 << 20
"""Of a clip of one's own that is read out of git."""
_SIZE = (640, 360)
"""Of a card that stands for a picture whose size is not known."""
_NOT_MADE, _NOT_HERE = "not made yet", "the clip is not in this store"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What was written for a reviewer."""

    folder: Path
    page: Path | None
    """The review page; None where nothing differs, and nothing was written."""
    strip: Path | None
    """One picture of all changed shots; None where no shot changed."""
    files: tuple[Path, ...]
    """Everything that was written."""
    shots: int
    """How many shots a reviewer has to look at."""
    bytes: int
    """Of the page."""
    base: str
    """What it is compared with."""
    known: bool = True
    """Whether it is known what differs; where the base cannot be read it is not, and nothing was written."""

    def sentence(self) -> str:
        """What was done, for a person."""
        if not self.known:
            return f"what differs from {self.base} is not known: no pictures were written"
        if self.page is None:
            return f"nothing differs from {self.base}: no pictures were written"
        size = f"{self.bytes / 2**20:.1f} MB" if self.bytes >= 2**20 else f"{max(1, self.bytes >> 10)} kB"
        shots = "1 shot" if self.shots == 1 else f"{self.shots} shots"
        return f"{self.page}: {shots} to look at, {size}, and {len(self.files) - 1} pictures beside it"


def write(
    session: Session, plan: Plan, against: Against, warnings: Sequence[Problem], folder: str | os.PathLike[str]
) -> Pictures:
    """Writes review.html, strip.jpg and the frames of each changed shot into the folder, which is made where it is
    missing. What an earlier call wrote there, and this one does not, is removed. Raises UsageError for a folder that
    holds other things or cannot be written."""
    base = str(against.base)
    to = _folder(session, Path(folder))
    if against.before is None:
        _clear(to, keep=())
        return Pictures(folder=to, page=None, strip=None, files=(), shots=0, bytes=0, base=base, known=False)
    shown = review.reviewed(
        plan,
        against.comparisons,
        against.before,
        against.now,
        base=base,
        price=session.lookups.price,
        picked=against.picked,
        warnings=warnings,
    )
    if shown.empty:
        _clear(to, keep=())
        return Pictures(folder=to, page=None, strip=None, files=(), shots=0, bytes=0, base=base)
    with Tree(session.loaded.project.root, against.base.commit) as tree, tempfile.TemporaryDirectory() as scratch:
        camera = _Camera(session, against, tree, Path(scratch))
        pairs = [camera.pairs(change) for change in shown.changes]
        joins = [camera.join(join.variants[0], join.left, join.right) for join in shown.joins]
    files = _named(shown, pairs)
    poster = review.poster(shown, pairs)
    if poster is not None:
        files[STRIP] = poster.data
    files[PAGE] = review.page(shown, pairs, joins).encode()
    try:
        durable.make_folder(to)
        _clear(to, keep=files)
        durable.replace(to / LIST, json.dumps(sorted(files), indent=0).encode())
        for name, data in files.items():
            durable.replace(to / name, data)
    except OSError as bad:
        raise UsageError(f"{folder} cannot be written: {bad.strerror}", "name another folder") from bad
    return Pictures(
        folder=to,
        page=to / PAGE,
        strip=to / STRIP if poster is not None else None,
        files=tuple(to / name for name in files),
        shots=len(shown.changes),
        bytes=len(files[PAGE]),
        base=base,
    )


# ---------------------------------------------------------------- the folder


def _folder(session: Session, folder: Path) -> Path:
    """The folder as it may be written to. Inside the project no link leads there, which a pull request could have laid;
    elsewhere it is the place that a person named."""
    project = session.loaded.project
    whole = Path(os.path.abspath(folder))
    above = next((place for place in (whole, *whole.parents) if _same(place, project.root)), None)
    if above == whole:
        raise UsageError(f"{folder} is the project itself", "name a folder for the pictures alone")
    if above is not None:
        whole = project.to_write(whole.relative_to(above).as_posix())
    if whole.is_symlink() or (whole / LIST).is_symlink():
        raise UsageError(f"{folder} is a link, or holds one as {LIST}: nothing is written there", "name another folder")
    try:
        strange = whole.exists() and not (whole / LIST).is_file() and any(whole.iterdir())
    except OSError as bad:
        raise UsageError(f"{folder} cannot be written: {bad.strerror}", "name a folder for the pictures") from None
    if strange:
        what = f"{folder} holds files that `plan --pictures` did not write"
        raise UsageError(what, "name an empty folder, or one that is not there")
    return whole


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _clear(folder: Path, keep: Sequence[str] | Mapping[str, bytes]) -> None:
    """Removes what an earlier call wrote and is not kept: by its list, and only files of our names."""
    try:
        listed = json.loads(durable.read(folder / LIST, _LIST_BYTES))
    except (OSError, ValueError, RecursionError):
        return
    for name in listed if isinstance(listed, list) else ():
        if isinstance(name, str) and _OURS.fullmatch(name) and name not in keep:
            _remove(folder / name)
    if not keep:
        _remove(folder / LIST)


def _remove(file: Path) -> None:
    try:
        if not stat.S_ISDIR(file.lstat().st_mode):
            file.unlink()
    except FileNotFoundError:
        return


def _named(shown: Reviewed, pairs: Sequence[Sequence[Pair]]) -> dict[str, bytes]:
    """Each picture with its file's name: dawn.first-frame.before.jpg, and after the film's variant where there are
    several. An id may be anything in a base that was never checked, so what is no plain name is given a digest."""
    several = len(shown.plan.films) > 1
    out: dict[str, bytes] = {}
    for change, mine in zip(shown.changes, pairs, strict=True):
        head = ".".join([_safe(change.variants[0]), _safe(change.shot)] if several else [_safe(change.shot)])
        for pair in mine:
            title = _safe(re.sub(r"[ .,]+", "-", pair.title))
            for side, picture in (("before", pair.before), ("now", pair.now)):
                if picture is not None:
                    out[f"{head}.{title}.{side}.jpg"] = picture.jpeg.data
            if pair.difference is not None:
                out[f"{head}.{title}.difference.jpg"] = pair.difference.marked.data
    return out


def _safe(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]
    return plain if plain == name and name else f"{plain}-{of_bytes(name.encode())[:8]}"


# ---------------------------------------------------------------- the pictures


@dataclass(slots=True)
class _Camera:
    """Finds and makes the pictures of both sides; each frame and still once."""

    session: Session
    against: Against
    tree: Tree
    scratch: Path
    frames: dict[tuple[Digest, str], Picture | str] = field(default_factory=dict)
    """By clip and frame; where there is none, why."""
    stills: dict[tuple[bool, str], Jpeg | str] = field(default_factory=dict)
    """By whether it is as it is now, and path; where there is none, why."""

    def pairs(self, change: Change) -> list[Pair]:
        """What to show of a shot: its stills that changed, and the first and last frame of its clip."""
        out = [self._stills(change, *one) for one in change.changed_stills()]
        done = {pair.role for pair in out}
        for choice in change.proposals():
            for n, path in enumerate(choice.stills, 1):
                chosen = ", chosen" if n == choice.take else ""
                shown = self._still_shown(change, FileStill(path), now=True)
                out.append(Pair(title=f"{choice.frame}, proposed {n}{chosen}", before=None, now=shown))
        variant, sides = change.variants[0], ((change.before, False), (change.now, True))
        for name, role in (("first", "first_frame"), ("last", "last_frame")):
            before, now = (
                None if side is None else self._seen(side.shot, side.step, variant, name, role, now=is_now)
                for side, is_now in sides
            )
            made = [picture.made for picture in (before, now) if picture is not None]
            clips = [side.clip for side, _ in sides if side is not None]
            if role in done and not any(clips):
                continue  # the stills themselves are shown
            if name == "last" and not any(made):
                continue  # one card says it
            out.append(_alike(Pair(title=f"{name} frame", before=before, now=now)))
        return out

    def join(self, variant: str, left: ShotId, right: ShotId) -> tuple[Picture, Picture]:
        """The last frame of one shot and the first of the next, as they are now."""
        side = self.against.now[variant]
        steps = {step.shot: step for step in side.plan.steps if step.is_active_take}
        shots = side.film.by_id()
        one, other = (
            self._seen(shots[shot], steps[shot], variant, name, role, now=True)
            for shot, name, role in ((left, "last", "last_frame"), (right, "first", "first_frame"))
        )
        return one, other

    def _seen(self, shot: Shot, step: Step, variant: str, name: str, role: str, *, now: bool) -> Picture:
        """The frame of a shot's clip; where there is none, the picture that it is declared to have there, or a card."""
        found = self._frame(shot, step.clip, name, now=now)
        if isinstance(found, Picture):
            return found
        declared = self._beginning(variant, dict(shot.frames()).get(role), now=now)
        if declared is not None:
            return replace(declared, note=f"{found}; {declared.note}")
        card = review_pictures.card([shot.id, found], _size(shot, step))
        return Picture(jpeg=review_pictures.encoded(card), note=found, made=False)

    def _beginning(self, variant: str, frame: Frame | None, *, now: bool) -> Picture | None:
        """What a frame is declared to be: a still, or a frame of another shot's clip."""
        if isinstance(frame, FileStill):
            still = self._still(frame.path, now=now)
            if isinstance(still, Jpeg):
                return Picture(jpeg=still, note=f"here is its still {frame.path}")
        if isinstance(frame, ShotFrame):
            sides = self.against.now if now else self.against.before or {}
            side = sides[variant]
            other = side.film.by_id().get(frame.shot)
            clip = next((s.clip for s in side.plan.steps if s.shot == frame.shot and s.is_active_take), None)
            found = self._frame(other, clip, frame.frame, now=now) if other else ""
            if isinstance(found, Picture):
                return replace(found, note=f"here is the {frame.frame} frame of {frame.shot}")
        return None

    def _frame(self, shot: Shot, clip: Digest | None, name: str, *, now: bool) -> Picture | str:
        if clip is None:
            return _NOT_MADE
        if (clip, name) not in self.frames:
            self.frames[clip, name] = self._cut(shot, clip, name, now=now)
        return self.frames[clip, name]

    def _cut(self, shot: Shot, clip: Digest, name: str, *, now: bool) -> Picture | str:
        try:
            file = self._clip(shot, clip, now=now)
            if file is None:
                return _NOT_HERE
            return Picture(jpeg=review_pictures.encoded(media.picture(file, name)))
        except KlingflowError as bad:
            return f"no picture: {bad.what}"

    def _clip(self, shot: Shot, clip: Digest, *, now: bool) -> Path | None:
        """The file of a clip: in the store, or, of one's own, in the project or in git."""
        store, project = self.session.store, self.session.loaded.project
        if store.holds(clip):
            return store.blob(clip)
        if shot.clip is None:
            return None
        if self.session.loaded.inputs.clips.get(shot.clip) == clip:
            return project.resolve(shot.clip)
        if now:
            return None
        file = self.scratch / clip
        if not file.exists():
            file.write_bytes(self.tree.read_bytes(shot.clip, _OWN_CLIP_BYTES))
        return file

    def _still(self, path: str, *, now: bool) -> Jpeg | str:
        """A still, small; where there is none, why."""
        if (now, path) not in self.stills:
            found = self._opened(path, now=now)
            self.stills[now, path] = found if isinstance(found, str) else review_pictures.encoded(found)
        return self.stills[now, path]

    def _opened(self, path: str, *, now: bool) -> Image.Image | str:
        """A still in RGB as it is seen, of its own size."""
        try:
            if now:
                data = self.session.loaded.project.read_bytes(path, IMAGE_BYTES)
            else:
                data = self.tree.read_bytes(path, IMAGE_BYTES)
            projects.picture(path, data)
            with Image.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as picture:
                return pictures.on_black(pictures.as_seen(picture))
        except KlingflowError as bad:
            return bad.what
        except OSError as bad:
            return f"'{path}' cannot be decoded: {bad}"

    def _stills(self, change: Change, role: str, old: Frame | None, new: Frame | None) -> Pair:
        """A still before and now, with where they differ."""
        before, now = (
            None if frame is None else self._still_shown(change, frame, now=is_now)
            for frame, is_now in ((old, False), (new, True))
        )
        pair = Pair(title=f"still {role}", role=role, before=before, now=now)
        if not (isinstance(old, FileStill) and isinstance(new, FileStill)):
            return pair
        one, other = self._opened(old.path, now=False), self._opened(new.path, now=True)
        if isinstance(one, str) or isinstance(other, str):
            return pair
        if one.size != other.size:
            return replace(pair, words="the size is another one: {} × {} → {} × {}".format(*one.size, *other.size))
        found = review_pictures.difference(one, other)
        if found is None:
            return replace(pair, words="the file is another one; every pixel is as before")
        return replace(pair, difference=found)

    def _still_shown(self, change: Change, frame: Frame, *, now: bool) -> Picture:
        still = self._still(frame.path, now=now) if isinstance(frame, FileStill) else ""
        if isinstance(still, Jpeg) and isinstance(frame, FileStill):
            return Picture(jpeg=still, note=frame.path)
        match frame:
            case FileStill(path):
                said = f"{path}: {still}"
            case UrlStill():
                said = "a picture at a URL, which is not fetched"
            case ShotFrame(shot, name):
                said = f"the {name} frame of {shot}"
        card = review_pictures.card([change.shot, said], _SIZE)
        return Picture(jpeg=review_pictures.encoded(card), note=said, made=False)


def _alike(pair: Pair) -> Pair:
    """Of a pair that is one picture, what is said of both sides."""
    if not pair.same or pair.before is None or pair.now is None or pair.before.note == pair.now.note:
        return pair
    before, now = (one.note or "a frame of its clip" for one in (pair.before, pair.now))
    return replace(pair, before=replace(pair.before, note=f"before: {before}; now: {now}"))


def _size(shot: Shot, step: Step) -> tuple[int, int]:
    """The shape of a shot's clip, small."""
    record = step.record
    if record is not None:
        width, height = record.facts.width, record.facts.height
    elif shot.aspect_ratio and re.fullmatch(r"[1-9]\d?:[1-9]\d?", shot.aspect_ratio):
        across, down = map(int, shot.aspect_ratio.split(":"))
        width, height = across, down
    else:
        return _SIZE
    side = 640 / max(width, height)
    return max(1, round(width * side)), max(1, round(height * side))
