"""The variables of a storyboard and the combinations of its matrix: what templates can name.

Knows no shot and no field of one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

from klingflow.core.source import Path, Problem, Severity
from klingflow.storyboard import prompt
from klingflow.storyboard.storyboard_file import Data, StoryboardFile

MAX_FILMS = 100
"""Combinations of one matrix."""

_RESERVED = {"shot", "vars", "matrix", "loop", "true", "false", "none", "True", "False", "None", "not", "and", "or"} | {
    "in",
    "is",
    "if",
    "else",
}


def overridden(file: StoryboardFile, data: Data, overrides: Mapping[str, str]) -> dict[str, tuple[object, bool]]:
    """The variables as declared, each with whether its value is a template: one given by --var is taken as it is."""
    declared = data.get("vars") or {}
    matrix = data.get("matrix", {})
    out: dict[str, tuple[object, bool]] = {name: (value, True) for name, value in declared.items()}
    for name in declared:
        check_name(file, name, ("vars", name))
        if name in matrix:
            file.fault("reserved-name", f"'{name}' is a name of the matrix too", "rename one", ("vars", name), key=True)
    for name, value in overrides.items():
        if name not in declared:
            what = f"--var {name}: the storyboard declares no variable '{name}'"
            file.fault("unknown-var", what, file.meant(name, list(declared)), None)
        else:
            out[name] = (_like(declared[name], value), False)
    return out


def check_name(file: StoryboardFile, name: str, at: Path) -> None:
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


def combinations(file: StoryboardFile, data: Data) -> list[tuple[dict[str, object], str]]:
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
        check_name(file, axis, ("matrix", axis))
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
"""Folders that klingflow itself makes under out/NAME."""


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


def rendered(file: StoryboardFile, value: object, context: Mapping[str, object], at: Path) -> object:
    """A variable's value with every text in it rendered. Raises Skip."""
    if isinstance(value, str):
        return file.text(value, context, at)
    if isinstance(value, list):
        return [rendered(file, item, context, (*at, i)) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: rendered(file, item, context, (*at, key)) for key, item in value.items()}
    return value


def report_unused(file: StoryboardFile, declared: Mapping[str, object]) -> None:
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
