"""A storyboard's data -> Films: the matrix worked out, defaults merged, templates rendered, references resolved.

What a schema cannot say is checked here: names that must exist, fields that exclude each other, paths that must stay
inside the project, values that came out of a template. Every fault is collected. What the schema refuses is left out
(None stands in its place), and no second fault is made of it.

Opens no file (texts come through `read`) and knows no provider's limits; circles of shots are planning's to find.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar, cast

from klingflow.core.address import is_inside, is_vouched
from klingflow.core.errors import KlingflowError, StoryboardError
from klingflow.core.model import Digest, Element, FileStill, Film, Frame, MultiShot, Shot, ShotFrame, ShotId, UrlStill
from klingflow.core.source import Document, Path, Problem, Severity, Span
from klingflow.storyboard import paths, prompt, salvage

PROVIDERS = ("hiapi", "mulerouter", "animatic")
RESOLUTIONS = ("720p", "1080p", "4K")
ASPECT_RATIOS = ("16:9", "9:16", "1:1")
MAX_FILMS = 100
"""Combinations of one matrix."""

Read = Callable[[str], str]
Data = Mapping[str, Any]
T = TypeVar("T")


def load(
    document: Document,
    *,
    name: str,
    folder: str,
    read: Read,
    overrides: Mapping[str, str],
    provider: str | None,
    trusted: Collection[str] = (),
) -> tuple[tuple[Film, ...], list[Problem]]:
    """The films of a storyboard, and everything wrong with it, warnings too. Where there is an error, use no film.

    `folder` is the storyboard's folder from the project root, "" at the root; `read` gives the text of a file by its
    path from the root; `overrides` are the `--var` values, `provider` that of `--provider`;
    `trusted` are the hosts of the environment's URLs, where images may be although the host is private.
    """
    data = salvage.sound(document.data)
    file = _File(document, folder, read, trusted)
    if provider is not None and provider not in PROVIDERS:
        file.fault("unknown-provider", f"there is no provider '{provider}'", file.meant(provider, PROVIDERS), None)
        provider = None
    declared = _overridden(file, data, overrides)
    films = []
    for combination, variant in _combinations(file, data):
        films.append(_film(file, data, declared, combination, variant, name, provider))
        file.next_film()
    _unused(file, data.get("vars") or {})
    return tuple(films), sorted(file.problems, key=_place)


def _place(problem: Problem) -> tuple[bool, int, int]:
    span = problem.span
    return (span is not None, span.line if span else 0, span.col if span else 0)


class _Skip(Exception):
    """A field whose fault is already noted."""


class _File:
    """The file being loaded: what is wrong so far, and the texts that it has read."""

    def __init__(self, document: Document, folder: str, read: Read, trusted: Collection[str]) -> None:
        self.document = document
        self.folder = folder
        self.read = read
        self.trusted = trusted
        self.unpinned: set[str] = set()
        """URLs of images without a digest that were reported."""
        self.problems: list[Problem] = []
        self.budget = prompt.Budget()
        self.texts: dict[str, prompt.Included | KlingflowError] = {}
        self._told: set[Problem] = set()
        self._earlier: set[tuple[str, Span | None]] = set()

    def next_film(self) -> None:
        """A fault that stands where an earlier film of the matrix had the same is not told again."""
        self._earlier = {(problem.rule, problem.span) for problem in self.problems}

    def add(self, problem: Problem) -> None:
        if problem not in self._told and (problem.rule, problem.span) not in self._earlier:
            self._told.add(problem)
            self.problems.append(problem)

    def fault(
        self,
        rule: str,
        what: str,
        mend: str,
        at: Path | None,
        *,
        key: bool = False,
        severity: Severity = Severity.ERROR,
    ) -> None:
        span = None if at is None else self.document.span(at, key=key)
        self.add(Problem(rule=rule, what=what, mend=mend, span=span, severity=severity))

    def meant(self, name: str, names: Sequence[str]) -> str:
        near = self.budget.nearest(name, names)
        listed = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        return f"did you mean '{near}'?" if near else f"known here: {listed}" if names else "there are none"

    def text(self, value: str, context: Mapping[str, object], at: Path) -> str:
        """A text with its template rendered. Raises _Skip when it cannot be."""
        if "{" not in value:
            return value
        return self.rendered(value, context, lambda offset, length: self.inside(at, value, offset, length))

    def rendered(self, text: str, context: Mapping[str, object], where: prompt.Where) -> str:
        if self.budget.spent:
            raise _Skip  # told once: every template from here on would say the same
        try:
            return prompt.render(text, context, where=where, include=self.include, budget=self.budget)
        except StoryboardError as exc:
            for problem in exc.problems:
                self.add(problem)
            raise _Skip from None

    def inside(self, at: Path, value: str, offset: int, length: int) -> Span:
        """The place of a piece of a scalar: found again in the file's lines, however the scalar is written."""
        start = self.document.span(at)
        piece = value[offset : offset + length].partition("\n")[0]
        if start.line == 0 or not piece.strip():
            return start
        nth = value.count(piece, 0, offset)
        line, col = start.line, start.col - 1
        for _ in range(value.count("\n") + len(value) // 8 + 3):
            text = self.document.line(line)
            found = text.find(piece, col)
            while found >= 0 and nth:
                nth -= 1
                found = text.find(piece, found + len(piece))
            if found >= 0:
                return Span(start.path, line, found + 1, found + 1 + len(piece), text)
            line, col = line + 1, 0
        return start

    def path(self, text: str, at: Path) -> str:
        """A file's path from the project root. Raises _Skip."""
        try:
            return paths.under_root(text, self.folder)
        except KlingflowError as exc:
            self.fault("path", exc.what, exc.mend, at)
            raise _Skip from None

    def file_text(self, path: str) -> prompt.Included:
        """A text file of the project; each is read once. Raises KlingflowError."""
        known = self.texts.get(path)
        if known is None:
            if self.budget.read < 0:
                raise _Skip  # reported at the file that went over
            try:
                shown = self.document.path.replace("\\", "/").rpartition("/")[0]
                known = prompt.Included(_shown(path, self.folder, shown), self.read(path).replace("\r\n", "\n"))
                self.budget.read -= len(known.text)
                if self.budget.read < 0:
                    what = f"'{path}' and the text files before it are too large to include together"
                    raise KlingflowError(what, "include fewer or shorter files")
            except KlingflowError as exc:
                known = exc
            self.texts[path] = known
        if isinstance(known, KlingflowError):
            raise known
        return known

    def include(self, name: str) -> prompt.Included:
        return self.file_text(paths.under_root(name, self.folder))


def _shown(path: str, folder: str, shown: str) -> str:
    """A file's path as people see it: beside the storyboard's own where it lies in its folder, else from the root."""
    if not folder:
        return f"{shown}/{path}" if shown else path
    inside = path.removeprefix(folder + "/")
    if inside != path:
        return f"{shown}/{inside}" if shown else inside
    return f"{shown.removesuffix(folder)}{path}" if shown.endswith(folder) else path


# Variables and the matrix


_RESERVED = {"shot", "vars", "matrix", "loop", "true", "false", "none", "True", "False", "None", "not", "and", "or"} | {
    "in",
    "is",
    "if",
    "else",
}


def _overridden(file: _File, data: Data, overrides: Mapping[str, str]) -> dict[str, tuple[object, bool]]:
    """The variables as declared, each with whether its value is a template: one given by --var is taken as it is."""
    declared = data.get("vars") or {}
    matrix = data.get("matrix", {})
    out: dict[str, tuple[object, bool]] = {name: (value, True) for name, value in declared.items()}
    for name in declared:
        _check_name(file, name, ("vars", name))
        if name in matrix:
            file.fault("reserved-name", f"'{name}' is a name of the matrix too", "rename one", ("vars", name), key=True)
    for name, value in overrides.items():
        if name not in declared:
            what = f"--var {name}: the storyboard declares no variable '{name}'"
            file.fault("unknown-var", what, file.meant(name, list(declared)), None)
        else:
            out[name] = (_like(declared[name], value), False)
    return out


def _check_name(file: _File, name: str, at: Path) -> None:
    if name in _RESERVED:
        file.fault("reserved-name", f"'{name}' means something else in templates", "choose another name", at, key=True)


def _like(declared: object, given: str) -> object:
    """A --var value as the kind of value that the storyboard declares, where it can be read as one."""
    if isinstance(declared, bool):
        return {"true": True, "false": False}.get(given, given)
    if isinstance(declared, int) and re.fullmatch(r"[-+]?[0-9]{1,18}", given):
        return int(given)
    if isinstance(declared, float) and re.fullmatch(r"[-+]?[0-9]{1,18}(\.[0-9]{1,18})?", given):
        return float(given)
    return given


def _combinations(file: _File, data: Data) -> list[tuple[dict[str, object], str]]:
    """The combinations of the matrix in declared order, each with its name as a file name; one nameless without it."""
    matrix = dict(data.get("matrix", {}))
    if not matrix:
        return [({}, "")]
    excluded = matrix.pop("exclude", [])
    for i, rule in enumerate(excluded):
        for axis, value in rule.items():
            at = ("matrix", "exclude", i, axis)
            if axis not in matrix:
                file.fault("matrix", f"the matrix has no '{axis}'", file.meant(axis, list(matrix)), at, key=True)
            elif value not in matrix[axis]:
                values = [str(one) for one in matrix[axis]]
                file.fault("matrix", f"'{axis}' has no value '{value}'", file.meant(str(value), values), at)
    for axis, values in matrix.items():
        _check_name(file, axis, ("matrix", axis))
        texts = [str(value) for value in values]
        for i, text in enumerate(texts):
            if text in texts[:i]:
                file.fault("matrix", f"'{axis}' has '{text}' twice", "remove one", ("matrix", axis, i))
    count = 1
    for values in matrix.values():
        count *= len(values)
    if count > MAX_FILMS:
        what = f"the matrix makes {count} films; there can be {MAX_FILMS}"
        file.fault("matrix", what, "use fewer values", ("matrix",), key=True)
        return []
    out: list[tuple[dict[str, object], str]] = []
    used: set[str] = set()
    for chosen in itertools.product(*matrix.values()):
        combination = dict(zip(matrix, chosen, strict=True))
        if not any(rule and all(combination.get(axis) == value for axis, value in rule.items()) for rule in excluded):
            out.append((combination, _file_name([str(value) for value in chosen], used)))
    if not out:
        file.fault("matrix", "every combination is excluded", "leave at least one", ("matrix", "exclude"), key=True)
    return out


_DEVICES = {"con", "prn", "aux", "nul"} | {f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10)}
"""Names that Windows gives to devices, with any ending."""
_FOLDERS = {"shots", "frames", "animatic"}
"""Names that stand under out/NAME already."""


def _file_name(values: Sequence[str], used: set[str]) -> str:
    """The values as a file name: "16:9" and "en" are "16x9-en". Not one of `used`, even where case is ignored."""
    name = "-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", value.replace(":", "x")) for value in values)
    name = name.lstrip("-.")[:80].rstrip(".") or "film"
    if name.lower() in _FOLDERS or name.lower().partition(".")[0] in _DEVICES:
        name += "_"
    unique = name
    for n in itertools.count(2):
        if unique.lower() not in used:
            break
        unique = f"{name}_{n}"
    used.add(unique.lower())
    return unique


def _deep(file: _File, value: object, context: Mapping[str, object], at: Path) -> object:
    """A variable's value with every text in it rendered. Raises _Skip."""
    if isinstance(value, str):
        return file.text(value, context, at)
    if isinstance(value, list):
        return [_deep(file, item, context, (*at, i)) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: _deep(file, item, context, (*at, key)) for key, item in value.items()}
    return value


def _unused(file: _File, declared: Mapping[str, object]) -> None:
    left = set(declared)
    texts = [file.document.text, *(known.text for known in file.texts.values() if isinstance(known, prompt.Included))]
    for text in texts:
        if not left:
            return
        for word in prompt.words(text):
            if word in left:
                left.discard(word)
                if not left:
                    return
    for name in declared:
        if name in left and name not in _RESERVED:
            span = file.document.span(("vars", name), key=True)
            file.add(
                Problem(
                    rule="unused-var",
                    what=f"no template uses '{name}'",
                    mend=f"remove it, or write {{{{ {name} }}}} in a prompt",
                    span=span,
                    severity=Severity.WARNING,
                )
            )


# One film


@dataclass(frozen=True, slots=True)
class _StillOf:
    """`{still: ID}` before it is known what ID declares; `at` is where it was written."""

    shot: str
    at: Path


@dataclass(slots=True)
class _Draft:
    """A shot on its way: the fields of the Shot to be, frames perhaps still _StillOf."""

    id: str
    fields: dict[str, Any]
    stills: bool = False
    """Whether a field holds a _StillOf."""
    skipped: bool = False
    """Whether a field was left out because of a fault."""


def _film(
    file: _File,
    data: Data,
    declared: Mapping[str, tuple[object, bool]],
    combination: dict[str, object],
    variant: str,
    name: str,
    provider: str | None,
) -> Film:
    variables: dict[str, object] = {}
    context: dict[str, object] = {**combination, "vars": variables, "matrix": combination}
    for key, (value, template) in declared.items():
        try:
            done = _deep(file, value, context, ("vars", key)) if template else value
        except _Skip:
            done = value  # its fault is told once, not again wherever it is used
        variables[key] = context[key] = done
    defaults = data.get("defaults", {})
    raws: Sequence[Data] = data["shots"]
    cast_ = _Cast(file, raws, defaults, provider)
    shots = cast_.resolved([cast_.draft(index, raw, context) for index, raw in enumerate(raws)])
    context.pop("shot", None)
    title = _or(file, data.get("title") or name, context, ("title",)).strip() or name
    film = data.get("film", {})
    cut = []
    for i, entry in enumerate(film.get("shots") or ()):
        at = ("film", "shots", i)
        wanted = _or(file, entry, context, at)
        if wanted in cast_.ids:
            cut.append(ShotId(wanted))
        else:
            file.fault("unknown-shot", f"there is no shot '{wanted}'", file.meant(wanted, list(cast_.ids)), at)
    audio = None
    if film.get("audio") is not None:
        with contextlib.suppress(_Skip):
            audio = file.path(file.text(film["audio"], context, ("film", "audio")), ("film", "audio"))
    return Film(
        name=name,
        variant=variant,
        matrix={axis: str(value) for axis, value in combination.items()},
        title=title,
        shots=shots,
        cut=tuple(cut) if film.get("shots") else tuple(shot.id for shot in shots),
        audio=audio,
        max_chain=defaults.get("max_chain") or 4,
        where=_where(file.document, raws, defaults, cast_.ids),
    )


def _or(file: _File, text: str, context: Mapping[str, object], at: Path) -> str:
    """A text rendered, or as it is where it cannot be (the fault is noted)."""
    try:
        return file.text(text, context, at)
    except _Skip:
        return text


def _where(
    document: Document, raws: Sequence[Data], defaults: Data, ids: Mapping[str, int]
) -> Callable[[ShotId | None, str], Span]:
    def where(shot: ShotId | None, field: str) -> Span:
        steps: list[str | int] = [int(step) if step.isdecimal() else step for step in field.split(".")] if field else []
        if shot is None:
            return document.span(tuple(steps))
        index = ids[shot]
        if not steps:
            return document.span(("shots", index, "id"))
        for first in (steps[0], *_INSTEAD.get(str(steps[0]), ())):
            if first in raws[index]:
                return document.span(("shots", index, first, *steps[1:]))
            if first in defaults:
                return document.span(("defaults", first, *steps[1:]))
        return document.span(("shots", index, "id"))

    return where


_INSTEAD = {"first_frame": ("continues", "meets"), "prompt": ("prompt_file",)}
"""Other fields by which a shot says the same."""

_ONE_FIRST = ("first_frame", "continues", "meets")
_NOT_WITH_CLIP = (
    "prompt",
    "prompt_file",
    "negative_prompt",
    "first_frame",
    "last_frame",
    "continues",
    "meets",
    "images",
    "elements",
    "multi_shot",
    "duration",
    "resolution",
    "sound",
    "aspect_ratio",
    "model",
    "provider",
    "take",
    "takes",
)
_TEXTS = frozenset(["title", "notes", "prompt", "negative_prompt", "model"])
_CHOICES: Mapping[str, Sequence[str]] = {
    "resolution": RESOLUTIONS,
    "aspect_ratio": ASPECT_RATIOS,
    "provider": PROVIDERS,
}
_AS_THEY_ARE = frozenset(["duration", "take", "takes", "sound", "hold"])
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MOST_RATE = 60
"""Frames a second that no clip of a provider exceeds: a frame before that is not there, whatever the rate will be."""
_TAG = re.compile(r"[^\s,:+@]{1,64}")
_BLANK = " \t\r\n"


class _Cast:
    """The shots of one film: reads each, then resolves what they say of each other."""

    def __init__(self, file: _File, raws: Sequence[Data], defaults: Data, provider: str | None) -> None:
        self.file = file
        self.raws = raws
        self.defaults = {name: value for name, value in defaults.items() if name not in ("vars", "max_chain")}
        self.common_vars = defaults.get("vars") or {}
        self.provider = provider
        self.ids: dict[str, int] = {}
        for index, raw in enumerate(raws):
            name = raw["id"]
            if name in self.ids:
                line = file.document.span(("shots", self.ids[name], "id")).line
                what = f"'{name}' names two shots; the first is on line {line}"
                file.fault("duplicate-id", what, "give this one another id", ("shots", index, "id"))
            self.ids.setdefault(name, index)

    def at(self, index: int, field: str) -> Path:
        return ("shots", index, field) if field in self.raws[index] else ("defaults", field)

    # Reading one shot

    def draft(self, index: int, raw: Data, context: dict[str, object]) -> _Draft:
        name = raw["id"]
        draft = _Draft(name, {"id": name, "index": index})
        merged = self.merged(index, raw)
        info: dict[str, object] = {
            "id": name,
            "index": index + 1,
            "duration": merged.get("duration") or 5,
            "resolution": merged.get("resolution") or "1080p",
            "tags": merged.get("tags") or (),
        }
        context["shot"] = info
        if "vars" in raw or self.common_vars:
            context = self.own_vars(index, raw, context)
        for field in ("resolution", "tags"):  # first: other templates may print them
            if merged.get(field) is not None:
                self.field(draft, field, merged[field], context)
                info[field] = draft.fields.get(field, info[field])
        for field, value in merged.items():
            if value is None:
                draft.skipped = True
            elif field not in ("id", "vars", "resolution", "tags"):
                self.field(draft, field, value, context)
        if self.provider is not None:
            draft.fields["provider"] = self.provider
        self.check(draft, raw, merged)
        return draft

    def merged(self, index: int, raw: Data) -> Data:
        """The shot over the defaults; where it says a thing in another way, the default is dropped."""
        if not self.defaults:
            out = dict(raw)
        else:
            out = {**self.defaults, **raw}
            if "prompt_file" in raw and "prompt" not in raw:
                out.pop("prompt", None)
            elif "prompt" in raw and "prompt_file" not in raw:
                out.pop("prompt_file", None)
        if raw.get("clip"):
            for field in _NOT_WITH_CLIP:
                if field in raw:
                    what = f"'{field}' says how to make a clip, but '{raw['id']}' brings one of its own"
                    self.file.fault("exclusive", what, f"remove {field} or clip", ("shots", index, field), key=True)
                if field not in ("provider", "resolution"):
                    out.pop(field, None)
        given = [field for field in raw if field in _ONE_FIRST]
        for field in given[1:]:
            what = f"'{raw['id']}' has both {given[0]} and {field}: a shot begins with one frame"
            self.file.fault("exclusive", what, "keep one of the two", ("shots", index, field), key=True)
            out[field] = None
        if "prompt" in raw and "prompt_file" in raw:
            what = f"'{raw['id']}' has both prompt and prompt_file"
            self.file.fault("exclusive", what, "keep one of the two", ("shots", index, "prompt_file"), key=True)
            del out["prompt_file"]
        return out

    def own_vars(self, index: int, raw: Data, context: dict[str, object]) -> dict[str, object]:
        """The context with the shot's own variables over the storyboard's."""
        own: dict[str, object] = dict(cast(dict[str, object], context["vars"]))
        out = {**context, "vars": own}
        mine = raw.get("vars") or {}
        for name, value in {**self.common_vars, **mine}.items():
            at: Path = ("shots", index, "vars", name) if name in mine else ("defaults", "vars", name)
            _check_name(self.file, name, at)
            try:
                own[name] = out[name] = _deep(self.file, value, out, at)
            except _Skip:
                own[name] = out[name] = value
        return out

    def field(self, draft: _Draft, field: str, value: Any, context: dict[str, object]) -> None:
        """Reads one field into the draft."""
        fields, file = draft.fields, self.file
        index = fields["index"]
        try:
            if field in _TEXTS:
                if "{" in value:
                    value = file.text(value, context, self.at(index, field))
                fields[field] = value.strip(_BLANK)
            elif field in _AS_THEY_ARE:
                fields[field] = value
            elif field in _CHOICES:
                fields[field] = self.choice(field, value, context, self.at(index, field))
            else:
                fields.update(self.structure(draft, field, value, context, self.at(index, field)))
        except _Skip:
            draft.skipped = True

    def choice(self, field: str, value: str, context: dict[str, object], at: Path) -> str:
        if "{" not in value:
            if value not in _CHOICES[field]:
                raise _Skip  # the schema has told it
            return value
        text = self.file.text(value, context, at)
        if text not in _CHOICES[field]:
            self.file.fault("value", f"there is no {field} '{text}'", self.file.meant(text, _CHOICES[field]), at)
            raise _Skip
        return text

    def structure(
        self, draft: _Draft, field: str, value: Any, context: dict[str, object], at: Path
    ) -> dict[str, object]:
        match field:
            case "prompt_file":
                return {"prompt": self.prompt_file(value, context, at)}
            case "clip":
                return {"clip": self.file.path(self.file.text(value, context, at), at)}
            case "tags":
                return {"tags": self.each(value, at, lambda tag, at: self.tag(tag, context, at))}
            case "continues":
                return {"first_frame": ShotFrame(self.shot(value, context, at, draft))}
            case "meets":
                met = self.shot(value, context, at, draft)
                draft.stills = True
                return {"first_frame": _StillOf(met, at), "meets": met}
            case "first_frame" | "last_frame":
                return {field: self.frame(value, context, at, draft)}
            case "images":
                return {"images": self.each(value, at, lambda one, at: self.frame(one, context, at, draft))}
            case "elements":
                return {"elements": self.each(value, at, lambda one, at: self.element(one, context, at, draft))}
            case "multi_shot":
                parts = value.get("shots", ())
                prompts = self.each(
                    parts, (*at, "shots"), lambda one, at: self.file.text(one["prompt"], context, (*at, "prompt"))
                )
                shots = tuple((text.strip(_BLANK), one["duration"]) for text, one in zip(prompts, parts, strict=True))
                return {"multi_shot": MultiShot(value["by"], shots)}
        raise AssertionError(f"the schema knows a field {field} that load does not")  # BUG

    def each(self, values: Sequence[Any], at: Path, read: Callable[[Any, Path], T]) -> tuple[T, ...]:
        """Every value read, so that the faults of all are told. Raises _Skip after the last where one has any."""
        out = []
        for i, value in enumerate(values):
            with contextlib.suppress(_Skip):
                out.append(read(value, (*at, i)))
        if len(out) < len(values):
            raise _Skip
        return tuple(out)

    def tag(self, value: str, context: dict[str, object], at: Path) -> str:
        text = self.file.text(value, context, at)
        if text is not value and not _TAG.fullmatch(text):
            self.file.fault("value", f"'{text}' is not a tag", "a tag is one word without , : + and @", at)
            raise _Skip
        return text

    def prompt_file(self, value: str, context: dict[str, object], at: Path) -> str:
        path = self.file.path(self.file.text(value, context, at), at)
        try:
            text = self.file.file_text(path)
        except KlingflowError as exc:
            self.file.fault("file", exc.what, exc.mend, at)
            raise _Skip from None
        return self.file.rendered(text.text, context, text.span).strip(_BLANK)

    def shot(self, value: str, context: dict[str, object], at: Path, draft: _Draft) -> ShotId:
        name = self.file.text(value, context, at)
        if name not in self.ids:
            self.file.fault("unknown-shot", f"there is no shot '{name}'", self.file.meant(name, list(self.ids)), at)
            raise _Skip
        if name == draft.id:
            self.file.fault("self-reference", f"'{name}' refers to itself", "name another shot", at)
            raise _Skip
        return ShotId(name)

    def frame(self, value: Any, context: dict[str, object], at: Path, draft: _Draft) -> Frame | _StillOf:
        if isinstance(value, str):
            text = self.file.text(value, context, at)
            if not paths.is_url(text):
                return FileStill(self.file.path(text, at))
            return self.unpinned(self.url(text, at), at)
        if "url" in value:
            url = self.url(self.file.text(value["url"], context, (*at, "url")), (*at, "url"))
            pinned = value.get("sha256")
            if not pinned:
                return self.unpinned(url, (*at, "url"))
            return UrlStill(url, Digest(self.file.text(pinned, context, (*at, "sha256")).lower()))
        if "still" in value:
            draft.stills = True
            return _StillOf(self.shot(value["still"], context, (*at, "still"), draft), (*at, "still"))
        shot = self.shot(value["shot"], context, (*at, "shot"), draft)
        return ShotFrame(shot, self.frame_name(value.get("frame", "last"), shot, context, (*at, "frame")))

    def url(self, text: str, at: Path) -> str:
        try:
            url = paths.https_url(text)
        except KlingflowError as exc:
            self.file.fault("url", exc.what, exc.mend, at)
            raise _Skip from None
        host = paths.host(url)
        if is_inside(host) and not is_vouched(host, self.file.trusted):
            what = f"'{host}' is not a host on the public internet"
            self.file.fault("private-host", what, "name a public host, or keep the image in the project", at)
            raise _Skip
        return url

    def unpinned(self, url: str, at: Path) -> UrlStill:
        """The image at a URL without a digest: a warning, once a URL."""
        if url not in self.file.unpinned:
            self.file.unpinned.add(url)
            what = "this image is not pinned: other bytes at its URL would change the shot without a change here"
            self.file.fault("unpinned-url", what, "write {url: …, sha256: …}", at, severity=Severity.WARNING)
        return UrlStill(url)

    def frame_name(self, value: str | int, shot: ShotId, context: dict[str, object], at: Path) -> str:
        """ "last", "first", "-3" or "2.5s", each in its one way of writing, because it goes into a key."""
        text = self.file.text(value, context, at) if isinstance(value, str) else str(value)
        if text in ("last", "-1"):
            return "last"
        if text == "first":
            return text
        other = self.raws[self.ids[shot]]
        length = other.get("duration") or self.defaults.get("duration") or 5
        if re.fullmatch(r"-[1-9][0-9]{0,5}", text):
            if -int(text) > length * _MOST_RATE and "clip" not in other:
                what = f"'{shot}' lasts {length} s: it has no frame {text}"
                self.file.fault("frame", what, "name a later frame, or `first`", at)
                raise _Skip
            return text
        if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?s", text):
            seconds = Decimal(text[:-1])
            if seconds > length and "clip" not in other:
                what = f"'{shot}' lasts {length} s: it has no frame at {text}"
                self.file.fault("frame", what, "name an earlier time, or `last`", at)
                raise _Skip
            return f"{seconds.normalize():f}s"
        mend = "write last, first, a negative number (-3 is the third from the end) or a time such as 2.5s"
        self.file.fault("frame", f"'{text}' names no frame", mend, at)
        raise _Skip

    def element(self, value: Data, context: dict[str, object], at: Path, draft: _Draft) -> Element:
        front = self.frame(value["frontal_image"], context, (*at, "frontal_image"), draft)
        others = value.get("reference_images", ())
        rest = self.each(others, (*at, "reference_images"), lambda one, at: self.frame(one, context, at, draft))
        return Element(cast(Frame, front), cast(tuple[Frame, ...], rest))

    def check(self, draft: _Draft, raw: Data, merged: Data) -> None:
        """What a shot must say, and what does not go together."""
        fields, index = draft.fields, draft.fields["index"]
        for field in ("prompt", "negative_prompt"):
            found = _CONTROL.search(fields.get(field) or "")
            if found:
                what = f"{field} of '{draft.id}' holds the control character U+{ord(found[0]):04X}"
                said = "prompt_file" if field == "prompt" and "prompt" not in merged else field
                self.file.fault("control-character", what, "remove it", self.at(index, said))
        take, takes = fields.get("take", 1), fields.get("takes", 1)
        if takes > 1 and take > takes:
            what = f"take {take} of '{draft.id}' counts, but only takes 1 to {takes} are made"
            self.file.fault("take", what, f"raise takes to {take}, or choose a smaller take", self.at(index, "take"))
        multi = fields.get("multi_shot")
        if multi is not None and multi.by == "customize":
            total, wanted = sum(seconds for _, seconds in multi.shots), fields.get("duration", 5)
            if total != wanted:
                what = f"the shots of multi_shot last {total} s together, but '{draft.id}' lasts {wanted} s"
                self.file.fault("duration", what, f"write duration: {total}", self.at(index, "multi_shot"), key=True)
        if draft.skipped or "clip" in fields:
            return
        if not any(fields.get(name) for name in _SUBJECT) and not (multi is not None and multi.shots):
            what = f"'{draft.id}' says nothing to show"
            self.file.fault("empty-shot", what, "give it a prompt, a frame or a clip", ("shots", index, "id"))

    # What shots say of each other

    def resolved(self, drafts: Sequence[_Draft]) -> tuple[Shot, ...]:
        """The shots, each `{still: ID}` and `meets` in them replaced by the frame that ID declares."""
        stills = _Stills(self.file, {draft.id: draft for draft in reversed(drafts)})
        for draft in drafts:
            if draft.stills:
                stills.put_into(draft.fields)
        return tuple(Shot(**draft.fields) for draft in drafts)


class _Stills:
    """What shots declare as their last frames, through any number of stills of stills."""

    def __init__(self, file: _File, drafts: Mapping[str, _Draft]) -> None:
        self.file = file
        self.drafts = drafts
        self.last = {name: draft.fields.get("last_frame") for name, draft in drafts.items()}
        self.known: dict[str, Frame | None] = {}

    def put_into(self, fields: dict[str, Any]) -> None:
        for role in ("first_frame", "last_frame"):
            if isinstance(fields.get(role), _StillOf):
                fields[role] = self.of(fields[role])
        if "images" in fields:
            fields["images"] = self.each(fields["images"])
        if "elements" in fields:
            fields["elements"] = tuple(
                Element(front, self.each(element.reference_images))
                for element in fields["elements"]
                for front in self.each([element.frontal_image])
            )

    def each(self, frames: Iterable[Any]) -> tuple[Frame, ...]:
        found = [self.of(frame) if isinstance(frame, _StillOf) else frame for frame in frames]
        return tuple(frame for frame in found if frame is not None)

    def of(self, wanted: _StillOf) -> Frame | None:
        """The frame; None where there is none, and then its fault is noted."""
        path: dict[str, Path] = {}  # the shots on the way, each with the place that named it
        while wanted.shot not in self.known:
            if wanted.shot in path:
                names = list(path)
                circle = " -> ".join([*names[names.index(wanted.shot) :], wanted.shot])
                what = f"these stills stand for each other: {circle}"
                self.file.fault("still-cycle", what, "give one of them a file or a URL", wanted.at)
                self.known[wanted.shot] = None
                break
            path[wanted.shot] = wanted.at
            frame = self.last[wanted.shot]
            if not isinstance(frame, _StillOf):
                self.known[wanted.shot] = frame
                break
            wanted = frame
        found = self.known[wanted.shot]
        for name in path:
            self.known[name] = found
        if self.last[wanted.shot] is None and not self.drafts[wanted.shot].skipped:
            what = f"'{wanted.shot}' declares no last_frame to begin with"
            mend = f"give '{wanted.shot}' a last_frame, or continue it: continues: {wanted.shot}"
            self.file.fault("no-still", what, mend, wanted.at)
        return found


_SUBJECT = ("prompt", "first_frame", "last_frame", "images", "elements")
