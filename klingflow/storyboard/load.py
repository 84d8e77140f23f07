"""A storyboard's data -> Films: the matrix worked out, defaults merged, templates rendered, references resolved.

What a schema cannot say is checked here: names that must exist, fields that exclude each other, paths that must stay
inside the project, values that came out of a template. Every fault is collected. What the schema refuses is left out
(its value is None), and no second fault is made of it.

Opens no file (texts come through `read`) and knows no provider's limits; circles of shots are planning's to find.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from klingflow.core.model import Cut, Film, ShotId
from klingflow.core.source import Document, Path, Problem, Span
from klingflow.storyboard import film_section, recovery, variables
from klingflow.storyboard.include import Joined
from klingflow.storyboard.scalar import written
from klingflow.storyboard.shots import ShotReader
from klingflow.storyboard.storyboard_file import Data, Read, Skip, StoryboardFile

_INSTEAD = {"first_frame": ("continues", "meets"), "prompt": ("prompt_file",)}
"""Other fields that set the same thing."""


def load(
    document: Document,
    *,
    name: str,
    folder: str,
    read: Read,
    overrides: Mapping[str, str],
    provider: str | None,
    providers: Collection[str],
    trusted: Collection[str] = (),
) -> tuple[tuple[Film, ...], list[Problem]]:
    """The films of a storyboard, and everything wrong with it, warnings too. Where there is an error, use no film.

    `folder` is the storyboard's folder from the project root, "" at the root; `read` gives the text of a file by its
    path from the root; `overrides` are the `--var` values, `provider` that of `--provider`,
    `providers` the names that there are (all of them are looked up only where one is missing);
    `trusted` are the hosts of the environment's URLs, where images may be although the host is private.
    """
    data = recovery.usable(document.data)
    file = StoryboardFile(document, folder, read, trusted)
    if isinstance(document, Joined):
        _faults_of_joining(file, document, len(data["shots"]))
    if provider is not None and provider not in providers:
        mend = file.meant(provider, tuple(providers))
        file.fault("unknown-provider", f"there is no provider '{provider}'", mend, None)
        provider = None
    declared = variables.overridden(file, data, overrides)
    file.names_unsure = variables.lost(document.own.data if isinstance(document, Joined) else document.data, data)
    films = []
    for combination, variant in variables.combinations(file, data):
        films.append(_film(file, data, declared, combination, variant, name, provider, providers))
        file.next_film()
    variables.report_unused(file, data.get("vars") or {})
    return tuple(films), sorted(file.problems, key=_place)


MOST_SHOTS = 100_000
"""As the schema has it for one file."""


def _faults_of_joining(file: StoryboardFile, joined: Joined, shots: int) -> None:
    for name, first, second in joined.twins:
        what = f"'{name}' is in the cast twice: {first.path} has it too"
        span = second.span(("cast", name), key=True)
        file.add(Problem(rule="duplicate-id", what=what, mend="rename one of them", span=span))
    if not shots:
        file.fault("empty", "neither the storyboard nor what it includes has a shot", "write `shots`", ("include",))
    if shots > MOST_SHOTS:
        what = f"the storyboard and what it includes have {shots:,} shots"
        file.fault("too-many", what, f"at most {MOST_SHOTS:,}: make it two films", ("include",))


def variants(document: Document) -> list[str]:
    """The names of the films that a storyboard's matrix makes, as far as it can be read; one empty without a matrix."""
    file = StoryboardFile(document, "", lambda name: "", ())
    return [variant for _, variant in variables.combinations(file, recovery.usable(document.data))]


def _place(problem: Problem) -> tuple[bool, int, int]:
    span = problem.span
    return (span is not None, span.line if span else 0, span.col if span else 0)


def _film(
    file: StoryboardFile,
    data: Data,
    declared: Mapping[str, tuple[object, bool]],
    combination: dict[str, object],
    variant: str,
    name: str,
    provider: str | None,
    providers: Collection[str],
) -> Film:
    values: dict[str, object] = {}
    context: dict[str, object] = {**combination, "vars": values, "matrix": combination}
    for key, (value, template) in declared.items():
        done = variables.rendered(file, value, context, ("vars", key)) if template else value
        values[key] = context[key] = done
    defaults = data.get("defaults", {})
    raws: Sequence[Data] = data["shots"]
    reader = ShotReader(file, raws, defaults, data.get("cast") or {}, provider, providers)
    shots = reader.resolved([reader.draft(index, raw, context) for index, raw in enumerate(raws)])
    context.pop("shot", None)
    context.pop("element", None)
    left_out: dict[str, str] = {}
    title = ""
    try:
        title = file.text(data.get("title") or name, context, ("title",)).strip()
    except Skip as why:
        left_out["title"] = str(why)
    film = data.get("film", {})
    cut: list[Cut] = []
    for i, entry in enumerate(film.get("shots") or ()):
        try:
            if entry is None:
                raise Skip
            cut.append(film_section.cut(reader.frames, entry, context, ("film", "shots", i)))
        except Skip as why:
            left_out.setdefault("film.shots", str(why))
    audio = None
    if film.get("audio") is not None:
        try:
            audio = file.path(file.text(film["audio"], context, ("film", "audio")), ("film", "audio"))
        except Skip as why:
            left_out["audio"] = str(why)
    form = film_section.form(file, film, context, left_out)
    return Film(
        name=name,
        variant=variant,
        matrix={axis: written(value) for axis, value in combination.items()},
        title=title or name,
        shots=shots,
        cut=tuple(cut) if film.get("shots") else tuple(Cut(shot.id) for shot in shots),
        audio=audio,
        size=form.size,
        resolution=form.resolution,
        aspect=form.aspect,
        rate=form.rate,
        gate={kind: float(limit) for kind, limit in (film.get("gate") or {}).items() if limit is not None},
        max_chain=defaults.get("max_chain") or 4,
        left_out=tuple(left_out.items()),
        where=_where(file.document, raws, defaults, reader.ids),
    )


def _written(field: Path, value: object, steps: Path) -> Path:
    """The way to a part of a field's value. An element that has a name is found under it, or in the cast."""
    first = steps[0] if steps else None
    if isinstance(value, dict | list) and isinstance(first, int) and first < len(value):
        name = list(value)[first]
        if isinstance(name, str) and len(steps) > 1:
            return ("cast", name, *steps[1:]) if isinstance(value, list) else (*field, name, *steps[1:])
    return (*field, *steps)


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
        for first in map(str, (steps[0], *_INSTEAD.get(str(steps[0]), ()))):
            places: tuple[tuple[Data, Path], ...] = ((raws[index], ("shots", index)), (defaults, ("defaults",)))
            for owner, at in places:
                if first in owner:
                    return document.span(_written((*at, first), owner[first], tuple(steps[1:])))
        return document.span(("shots", index, "id"))

    return where
