"""From a path on the command line to everything that planning needs: the films, their files, the project.

Every fault of the storyboard, its templates, its images and its project file is collected and told at once.
"""

from __future__ import annotations

import bisect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from klingflow.animatic import captions
from klingflow.app import out_folder
from klingflow.core.alike import difference
from klingflow.core.digest import of_bytes
from klingflow.core.errors import KlingflowError, StoryboardError, UsageError
from klingflow.core.model import (
    ANIMATIC,
    ClipLook,
    Digest,
    FileStill,
    FileVideo,
    Film,
    Frame,
    ImageFacts,
    Inputs,
    Shot,
    ShotId,
)
from klingflow.core.source import Document, Problem, Severity, Span, beside_storyboards, nearest
from klingflow.io import config as project_file
from klingflow.io.config import Config
from klingflow.io.project import Project, find_root, git_root
from klingflow.io.remembered import recall, remember
from klingflow.planning import graph, pictures
from klingflow.providers import BUILT_IN, PROVIDERS
from klingflow.providers.base import Settings
from klingflow.providers.images import image_bytes, image_doubts, image_problems
from klingflow.storyboard import include, load, paths, scalar, schema, yamlread
from klingflow.storyboard.include import Included, Joined
from klingflow.storyboard.storyboard_file import shown as shown_path

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedStoryboard:
    """A storyboard, read and found good."""

    path: Path
    """The storyboard's file."""
    name: str
    """NAME of NAME.lock.yaml."""
    relative: str
    """The storyboard's path from the project root, with forward slashes."""
    project: Project
    config: Config
    films: tuple[Film, ...]
    inputs: Inputs
    read: Mapping[str, Digest]
    """Every text file that went in, by path from the root: the storyboard, includes, prompt files."""
    warnings: tuple[Problem, ...]
    variables: Mapping[str, str]
    """The variables that were overridden."""
    provider: str | None
    """The provider that overrides every shot's, where one does."""
    environ: Mapping[str, str] = field(repr=False)
    """Where keys and addresses come from."""

    @property
    def rehearsal(self) -> bool:
        """The provider was overridden to animatic: the lock is left as it is."""
        return self.provider == ANIMATIC

    @property
    def lock_path(self) -> Path:
        return self.path.with_name(f"{self.name}.lock.yaml")

    @property
    def out(self) -> str:
        """The path from the project root of the folder that its films are delivered to."""
        return f"out/{out_folder.of(self.relative)}"

    def beside(self, name: str) -> str:
        """The path from the project root of a file beside the storyboard."""
        folder = self.relative.rpartition("/")[0]
        return f"{folder}/{name}" if folder else name


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryboardFile:
    """A storyboard by its path, with what overrides it; not read yet."""

    path: str
    variables: Mapping[str, str] = field(default_factory=dict)
    """Override the storyboard's own."""
    provider: str | None = None
    """Overrides every shot's."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    """Where keys, addresses and the store's place come from."""

    def load(self) -> LoadedStoryboard:
        """Reads the storyboard and all it names. Raises StoryboardError with every fault, or UsageError."""
        loaded, problems = self.inspect()
        errors = [p for p in problems if p.severity is Severity.ERROR]
        if errors or loaded is None:
            raise StoryboardError(errors)
        return loaded

    def inspect(self) -> tuple[LoadedStoryboard | None, list[Problem]]:
        """As far as the storyboard can be read, with all that is wrong; None where nothing could be made of it. Raises
        UsageError where the path is no storyboard's."""
        file = Path(self.path)
        if file.suffix not in (".yaml", ".yml") and not file.exists():
            mend = "name a storyboard, or a folder that holds some"
            raise UsageError(f"there is no file or folder '{self.path}'", mend)
        if file.suffix not in (".yaml", ".yml") or not file.name:
            raise UsageError(f"{self.path} is not a storyboard", "name a file that ends in .yaml")
        if beside_storyboards(file.name):
            mend = "name the storyboard, not its lock or the project file"
            raise UsageError(f"{self.path} is not a storyboard", mend)
        root = find_root(file)
        project = Project(root)
        problems: list[Problem] = []
        config: Config | None = None
        try:
            config = project_file.load(root, self.environ)
        except StoryboardError as bad:
            problems += bad.problems
        relative = below_root(self.path)
        if not os.path.lexists(file):
            project.resolve(relative)  # says that it is not there, and which name is near
            what = f"{self.path} is there in another Unicode form of its name"
            raise UsageError(what, "name it as it is on the disk: let the shell complete the path")
        content, found = read_films(
            project, self.path, relative, self.variables, self.provider, config, self.environ
        )
        if content is not None:
            found += _shared_folders(project, relative, content.films)
        problems = _sorted([*problems, *found])
        project.save_cache()
        if config is None or content is None:
            return None, problems
        loaded = LoadedStoryboard(
            path=file,
            name=file.name.removesuffix(file.suffix),
            relative=relative,
            project=project,
            config=config,
            films=content.films,
            inputs=content.inputs,
            read=content.texts,
            warnings=tuple(p for p in problems if p.severity is Severity.WARNING),
            variables=dict(self.variables),
            provider=self.provider,
            environ=self.environ,
        )
        return loaded, problems


def below_root(path: str) -> str:
    """The storyboard's path from its project's root, with forward slashes."""
    file = Path(path)
    return Path(os.path.realpath(file.parent), file.name).relative_to(find_root(file)).as_posix()


def _shared_folders(project: Project, relative: str, films: Sequence[Film]) -> list[Problem]:
    """Other storyboards of the project whose films would replace those of this one."""

    def variants_of(other: str) -> list[str]:
        try:
            document, _ = parse(other, project.read_bytes(other, yamlread.MAX_BYTES), "storyboard")
        except KlingflowError:  # its films are not known, and it cannot be run
            return []
        return load.variants(document)

    shared = out_folder.sharing(project.root, relative, [film.variant for film in films], variants_of)
    return [
        Problem(
            rule="shared-output",
            what=f"{relative} and {other} would both be delivered to {folder}, the one in place of the other"
            + (f" (the two look equal: {told})" if (told := difference(relative, other)) else ""),
            span=films[0].where(None, ""),
            mend="rename one of the two storyboards, and its lock with it",
        )
        for other, folder in (shared if films else ())
    ]


class Reader(Protocol):
    """Where texts are read from: the project's folder (io.project), or a git ref (io.git)."""

    def read_bytes(self, rel: str, most: int = ...) -> bytes: ...
    def read_text(self, rel: str) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a storyboard says, with the facts of its files."""

    films: tuple[Film, ...]
    inputs: Inputs
    texts: Mapping[str, Digest]
    """Every text file that went in, by path from the root."""


def read_films(
    project: Project,
    shown: str,
    relative: str,
    overrides: Mapping[str, str],
    provider: str | None,
    config: Config | None,
    environ: Mapping[str, str],
) -> tuple[Content | None, list[Problem]]:
    """The films of the storyboard at `relative`, and all that is wrong with it; `shown` is its path in messages.

    `config` is None where the project file is broken: then stills are held against what a project has without one.
    """
    declared, problems = read_declared(project, shown, relative, overrides, provider, environ)
    if declared is None:
        return None, problems
    for text in declared.texts:
        if text != relative and project.other_form(text) is not None:
            problems.append(_other_form(text, _written_at(declared.document, text.rpartition("/")[2])))
    inputs, found = _files(declared.films, project, config)
    problems += found
    for film in declared.films:
        cycles = graph.cycles(film)
        problems += cycles or [*graph.chain_warnings(film), *pictures.warnings(film, inputs), *captions.warnings(film)]
        for shot in film.shots:
            if shot.clip is None and shot.provider in PROVIDERS:
                problems += [*_videos(film, shot), *PROVIDERS[shot.provider].check(film, shot)]
    problems += _no_approval(project.root, declared.films)
    content = Content(films=declared.films, inputs=inputs, texts=declared.texts)
    return content, _causes(declared.document, problems)


def _no_approval(root: Path, films: Sequence[Film]) -> list[Problem]:
    """That there are gates, and no git that knows what is merged. Told once."""
    gated = ((film, shot) for film in films for shot in film.shots if shot.gate is not None)
    found = next(gated, None)
    if found is None or git_root(root) is not None:
        return []
    film, shot = found
    what = "this project is in no git repository: a pick alone opens a gate, nothing is to be merged"
    span = film.where(shot.id, "gate")
    return [Problem(rule="gate-no-git", what=what, span=span, mend="git init", severity=Severity.WARNING)]


def _videos(film: Film, shot: Shot) -> list[Problem]:
    """That a shot's provider takes no reference videos, or fewer; said where the first one too many is."""
    most = PROVIDERS[shot.provider].caps.videos
    if len(shot.videos) <= most:
        return []
    written = len(shot.videos) - (shot.motion_s is not None)
    field = f"videos.{most}" if most < written else "continues.motion"
    takers = " or ".join(sorted(name for name, one in PROVIDERS.items() if one.caps.paid and one.caps.videos))
    what = f"shot '{shot.id}': {shot.provider} takes {most or 'no'} reference video{'' if most == 1 else 's'}"
    mend = f"keep {most}" if most else f"describe the motion in the prompt, or use provider: {takers}"
    return [Problem(rule="videos", what=what, span=film.where(shot.id, field), mend=mend)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a storyboard declares, before any file that it names is looked at."""

    document: Document
    films: tuple[Film, ...]
    texts: Mapping[str, Digest]
    """Every text file that went in, by path from the root."""


def read_declared(
    files: Reader,
    shown: str,
    relative: str,
    overrides: Mapping[str, str],
    provider: str | None,
    environ: Mapping[str, str],
) -> tuple[Declared | None, list[Problem]]:
    """What the storyboard at `relative` declares (None where it cannot be read), and what is wrong with that."""
    raw = files.read_bytes(relative, yamlread.MAX_BYTES)
    texts: dict[str, Digest] = {relative: of_bytes(raw)}
    try:
        document, problems = parse(shown, raw, "storyboard")
    except StoryboardError as bad:
        return None, list(bad.problems)
    if document.data is None:
        return None, problems

    def read(name: str) -> str:
        text = files.read_text(name)
        texts[name] = of_bytes(text.encode())
        return text

    folder, _, name = relative.rpartition("/")
    stem = name.rpartition(".")[0]
    included, found = _included(files, document, relative, len(raw), texts)
    problems += found
    if included is None:
        return None, problems
    document = Joined(document, included) if included else document
    films, found = load.load(
        document,
        name=stem,
        folder=folder,
        read=read,
        overrides=overrides,
        provider=provider,
        providers=PROVIDERS,
        trusted=frozenset(map(_host, trusted_urls(environ))) - {""},
    )
    return Declared(document=document, films=films, texts=texts), _with_packages(problems + found)


def _with_packages(problems: list[Problem]) -> list[Problem]:
    """The problems, those about a provider's name with the names that packages bring for a mend, or with what is wrong
    with the package that brings it."""
    unknown = [_UNKNOWN.search(problem.what) for problem in problems]
    if not any(unknown) or (len(PROVIDERS) == len(BUILT_IN) and not PROVIDERS.broken()):
        return problems
    names = tuple(PROVIDERS)

    def mend(name: str) -> str:
        close = nearest(name, names)
        return PROVIDERS.broken().get(name) or (
            (f"did you mean '{close}'? " if close else "") + f"it is one of {', '.join(names)}"
        )

    return [replace(p, mend=mend(m[1])) if m else p for p, m in zip(problems, unknown, strict=True)]


_UNKNOWN = re.compile(r"^(?:provider of .* cannot be|there is no provider) '(.*)'$")


def _included(
    files: Reader, document: Document, relative: str, size: int, texts: dict[str, Digest]
) -> tuple[list[Included] | None, list[Problem]]:
    """The files that a storyboard includes, and what is wrong with them; None where one cannot be read. `size` is that
    of the storyboard: one limit holds for all of them together. Notes their digests in `texts`."""
    folder = relative.rpartition("/")[0]
    beside = document.path.replace("\\", "/").rpartition("/")[0]
    included: list[Included] = []
    problems: list[Problem] = []
    names = include.names(document.data)
    broken = names is None
    for i, name in enumerate(names or ()):
        span = document.span(("include", i))
        try:
            path = paths.under_root(name, folder)
            if path in texts:
                again = "the storyboard itself" if path == relative else f"'{name}', which is included already"
                raise UsageError(f"this is {again}", "remove the line")
            raw = files.read_bytes(path, yamlread.MAX_BYTES)
            size += len(raw)
            if size > yamlread.MAX_BYTES:
                raise UsageError("the storyboard and what it includes are too large", "include fewer or smaller files")
            texts[path] = of_bytes(raw)
            part, found = parse(shown_path(path, folder, beside), raw, "include")
        except StoryboardError as bad:
            problems += bad.problems
        except KlingflowError as bad:
            problems.append(Problem(rule="file", what=bad.what, mend=bad.mend, span=span))
        else:
            problems += found
            if part.data is not None:
                included.append(Included(part, path.rpartition("/")[0]))
                continue
        broken = True
    return None if broken else included, problems


_FOLLOWS = frozenset({"last-without-first", "no-prompt"})
"""What is said of a shot that lacks a field: perhaps only because the field has a fault, which is told already."""


def _causes(document: Document, problems: list[Problem]) -> list[Problem]:
    """The problems without those that are gone when another one is mended: one slip of the pen is one message."""
    wrong = [_line(p.span) for p in problems if p.severity is Severity.ERROR and p.rule not in _FOLLOWS and p.span]
    if not wrong and not any(p.rule == "single-braces" for p in problems):
        return problems
    shots = document.data.get("shots") if isinstance(document.data, dict) else None
    starts = sorted(_line(document.span(("shots", i))) for i in range(len(shots))) if isinstance(shots, list) else []
    faulty = {bisect.bisect(starts, line) for line in wrong}
    return [
        p
        for p in problems
        if p.rule != "unused-var"  # a variable may seem unused where its name is mistyped
        and not (p.rule in _FOLLOWS and p.span and bisect.bisect(starts, _line(p.span)) in faulty)
    ]


def _line(span: Span) -> tuple[str, int]:
    return span.path, span.line


def trusted_urls(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The base and publish URLs of the environment: what klingflow fetches may be on their hosts, private or not."""
    names = [p.caps.base_variable for p in PROVIDERS.met().values() if p.caps.base_variable]
    return tuple(url for name in (*names, "KLINGFLOW_PUBLISH_URL") if (url := environ.get(name, "")))


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""  # whoever opens a connection there reports it


def parse(path: str, raw: bytes, kind: str) -> tuple[Document, list[Problem]]:
    """A file as data that fits its schema (None where that cannot be made of it), and its faults. What was found good
    once is not checked again."""
    digest = of_bytes(raw)
    data = scalar.unpack(recall(kind, digest))
    if data is not None:
        return yamlread.reopen(path, yamlread.decode(path, raw), data), []
    document = yamlread.read(path, yamlread.decode(path, raw))
    problems, good = schema.sift(document, kind, PROVIDERS)
    problems += yamlread.lints(document)
    if not problems:
        remember(kind, digest, scalar.pack(document.data))
    document.data = good
    return document, problems


def _files(films: Sequence[Film], project: Project, config: Config | None) -> tuple[Inputs, list[Problem]]:
    """Facts of every file that the films name, and what is wrong with them, told at each shot's own place once."""
    stills: dict[str, ImageFacts] = {}
    clips: dict[str, tuple[Digest, ClipLook | None]] = {}
    beds: dict[str, Digest] = {}
    bad: dict[str, KlingflowError] = {}
    problems: dict[tuple[str, Span], Problem] = {}

    def note(span: Span, rule: str, what: str, mend: str, severity: Severity = Severity.ERROR) -> None:
        problem = Problem(rule=rule, what=what, span=span, mend=mend, severity=severity)
        problems.setdefault((what, span), problem)

    def look_equal(path: str, film: Film, shot: ShotId | None, field: str) -> None:
        if project.other_form(path) is not None:
            span = film.where(shot, field)
            problem = _other_form(path, span)
            problems.setdefault((problem.what, span), problem)

    for film in films:
        for shot in film.shots:
            for role, frame in own_frames(shot):
                if not isinstance(frame, FileStill):
                    continue
                facts = _look(frame.path, project.image, stills, bad)
                if role != "meets":
                    look_equal(frame.path, film, shot.id, role)
                if facts is None:
                    if role == "meets" or frame.proposal is not None:
                        continue  # told where that shot declares it, or below
                    error = bad[frame.path]
                    note(film.where(shot.id, role), "image", error.what, error.mend)
                elif shot.clip is None and shot.provider in PROVIDERS:
                    caps = PROVIDERS[shot.provider].caps
                    own = config.settings.get(shot.provider, Settings()) if config else Settings()
                    way = PROVIDERS[shot.provider].images(own, bool(config and config.publish))
                    most = image_bytes(caps, way)
                    shrinks = bool(config and config.shrink)
                    for what, mend in image_problems(caps, facts, most, shrinks):
                        note(film.where(shot.id, role), "image", f"{frame.path}: {what}", mend)
                    for what, mend in image_doubts(caps, facts, shrinks):
                        note(film.where(shot.id, role), "image", f"{frame.path}: {what}", mend, Severity.WARNING)
            for proposal in shot.proposals():
                for i, path in enumerate(proposal.stills):
                    if proposal.shot == shot.id and _look(path, project.image, stills, bad) is None:
                        error = bad[path]
                        note(film.where(shot.id, f"{proposal.frame}.stills.{i}"), "image", error.what, error.mend)
            for i, video in enumerate(shot.videos):
                if isinstance(video, FileVideo):
                    if _look(video.path, project.clip, clips, bad) is None:
                        error = bad[video.path]
                        note(film.where(shot.id, f"videos.{i}"), "video", error.what, error.mend)
                    look_equal(video.path, film, shot.id, f"videos.{i}")
            if shot.clip is not None and _look(shot.clip, project.clip, clips, bad) is None:
                error = bad[shot.clip]
                note(film.where(shot.id, "clip"), "clip", error.what, error.mend)
            if shot.clip is not None:
                look_equal(shot.clip, film, shot.id, "clip")
        if film.audio is not None and _look(film.audio, project.digest, beds, bad) is None:
            error = bad[film.audio]
            note(film.where(None, "film.audio"), "audio", error.what, error.mend)
        if film.audio is not None:
            look_equal(film.audio, film, None, "film.audio")
    digests = {path: digest for path, (digest, _) in clips.items()} | beds
    looks = {path: look for path, (_, look) in clips.items() if look is not None}
    return Inputs(stills=stills, clips=digests, looks=looks), list(problems.values())


def _other_form(path: str, span: Span) -> Problem:
    return Problem(
        rule="unicode-form",
        what=f"the file '{path}' is there in another Unicode form of its name (an accented letter as one character, or "
        "as a letter and an accent): it is taken for the one that is meant",
        mend="write the name as the file has it, or rename the file: elsewhere the two may be different names",
        span=span,
        severity=Severity.WARNING,
    )


def _written_at(document: Document, name: str) -> Span:
    """Where a name is written for the first time in a file; the file's beginning where it is put together."""
    for number, line in enumerate(document.text.split("\n"), 1):
        col = line.find(name)
        if col >= 0:
            return Span(document.path, number, col + 1, col + 1 + len(name), line)
    return document.span(())


def deaf_beds(loaded: LoadedStoryboard) -> list[Problem]:
    """Music beds that cannot be heard. They stop no clip that is under way: `check` tells them, and a run that would
    order something refuses."""
    out = []
    for film in loaded.films:
        if film.audio is None:
            continue
        try:
            loaded.project.bed(film.audio)
        except KlingflowError as bad:
            span = film.where(None, "film.audio")
            out.append(Problem(rule="audio", what=bad.what, mend=bad.mend, span=span))
    return out


def own_frames(shot: Shot) -> tuple[tuple[str, Frame], ...]:
    """A shot's frames, each with the field in which it was declared."""
    return tuple(("meets" if shot.meets and role == "first_frame" else role, frame) for role, frame in shot.frames())


def _look(path: str, look: Callable[[str], T], known: dict[str, T], bad: dict[str, KlingflowError]) -> T | None:
    if path in bad:
        return None
    if path not in known:
        try:
            known[path] = look(path)
        except KlingflowError as error:
            bad[path] = error
            return None
    return known[path]


def _sorted(problems: Sequence[Problem]) -> list[Problem]:
    def place(problem: Problem) -> tuple[str, int, int]:
        return (problem.span.path, problem.span.line, problem.span.col) if problem.span else ("", 0, 0)

    return sorted(dict.fromkeys(problems), key=place)  # the films of a matrix have one fault together
