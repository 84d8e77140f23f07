"""The variables of a storyboard and the combinations of its matrix: what templates can name.

Knows no shot and no field of one.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Mapping, Sequence

from klingflow.core.alike import UNSEEN, difference, same
from klingflow.core.digest import of_bytes
from klingflow.core.source import Path, Problem, Severity
from klingflow.storyboard import prompt
from klingflow.storyboard.scalar import like, truth, written
from klingflow.storyboard.storyboard_file import Data, Skip, StoryboardFile

MAX_FILMS = 100
"""Combinations of one matrix."""

_RESERVED = {"shot", "element", "vars", "matrix", "loop", "true", "false", "none", "True", "False", "None"} | {
    "not",
    "and",
    "or",
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
            out[name] = (like(declared[name], value), False)
    return out


def lost(written: object, usable: Data) -> bool:
    """Whether variables or the matrix have a fault of shape, so that nobody knows every name that they declare."""
    if not isinstance(written, dict):
        return False
    blocks = [(written[name], usable.get(name) or {}) for name in ("vars", "matrix") if written.get(name) is not None]
    return any(not isinstance(one, dict) or len(read) < len(one) for one, read in blocks)


def check_name(file: StoryboardFile, name: str, at: Path) -> None:
    if name in _RESERVED:
        file.fault("reserved-name", f"'{name}' means something else in templates", "choose another name", at, key=True)


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
            elif written(value) not in (values := [written(one) for one in matrix[axis]]):
                what = f"'{axis}' has no value '{written(value)}'"
                file.fault("matrix", what, file.meant(written(value), values), at)
    for axis, values in matrix.items():
        check_name(file, axis, ("matrix", axis))
        texts = [written(value) for value in values]
        for i, text in enumerate(texts):
            if text in texts[:i]:
                file.fault("matrix", f"'{axis}' has '{text}' twice", "remove one", ("matrix", axis, i))
            elif twin := next((one for one in texts[:i] if same(one, text)), None):
                what = f"'{axis}' has '{text}' twice, as it seems: {difference(text, twin)}"
                file.fault("looks-equal", what, "remove one, or write them so that they can be told apart",
                           ("matrix", axis, i))
    count = 1
    for values in matrix.values():
        count *= len(values)
    if count > MAX_FILMS:
        what = f"the matrix makes {count} films; there can be {MAX_FILMS}"
        file.fault("matrix", what, "use fewer values", ("matrix",), key=True)
        return []
    out = []
    for chosen in itertools.product(*matrix.values()):
        combination = dict(zip(matrix, chosen, strict=True))
        if not any(rule and _agrees(combination, rule) for rule in excluded):
            out.append(combination)
    if not out:
        file.fault("matrix", "every combination is excluded", "leave at least one", ("matrix", "exclude"), key=True)
    names = file_names([tuple(written(value) for value in combination.values()) for combination in out])
    return list(zip(out, names, strict=True))


def _agrees(combination: Mapping[str, object], rule: Mapping[str, object]) -> bool:
    return all(axis in combination and written(combination[axis]) == written(value) for axis, value in rule.items())


_DEVICES = {"con", "prn", "aux", "nul"} | {f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10)}
"""Names that Windows gives to devices, with any ending."""
_FOLDERS = {"shots", "frames", "animatic"}
"""Folders that klingflow itself makes in a film's folder."""
_LONGEST_NAME = 80
_MOST_BYTES = 200
"""Bytes of a name in UTF-8; file systems take 255."""


def file_names(combinations: Sequence[tuple[str, ...]]) -> list[str]:
    """The combinations as file names: ("16:9", "en") is "16x9-en", ("日本語",) is "日本語".

    A name follows from its own values, whatever else is in the matrix and in whatever order: films, held clips and the
    lock go by it. Where the values are more than their name shows (C++ and C#), a digest of them is added. Only names
    that would be one file (where case is ignored, or a-b with c and a with b-c) look at each other: they get a digest
    too, all but the one that is written as its values are.
    """
    names = [_file_name(values) for values in combinations]
    sharing: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        sharing.setdefault(unicodedata.normalize("NFC", name.casefold()), []).append(i)
    for folded, places in sharing.items():
        plain = [i for i in places if "-".join(combinations[i]) == folded]
        for i in places if len(places) > 1 else ():
            if plain != [i]:
                names[i] = _marked(names[i], combinations[i])
    return names


def _file_name(values: tuple[str, ...]) -> str:
    whole = "-".join(_readable(value) for value in values)
    if not whole:
        return "film"
    name = whole.lstrip("-.")[:_LONGEST_NAME]
    while len(name.encode()) > _MOST_BYTES:
        name = name[:-1]
    name = name.rstrip(".")
    if name != whole:
        return _marked(name, values)
    return f"{name}_" if name.lower() in _FOLDERS or name.lower().partition(".")[0] in _DEVICES else name


def _readable(value: str) -> str:
    """The letters and digits of a value, of every script, with _ for what is between them."""
    shown = ""
    for c in unicodedata.normalize("NFC", value):
        kind = unicodedata.category(c)[0]
        seen = (kind in "LN" or (kind == "M" and shown[-1:].strip(" "))) and not UNSEEN.match(c)
        shown += "x" if c == ":" else c if seen or c in "._-" else " "
    name = re.sub(" +", "_", shown)
    inner = value.isascii() and name == name.strip("_")
    return name if " " not in shown or inner else _marked(name.strip("_"), (value,))


def _marked(name: str, values: tuple[str, ...]) -> str:
    mark = of_bytes("\0".join(values).encode("utf-8", "surrogatepass"))[:8]
    return f"{name}_{mark}" if name else mark


def rendered(file: StoryboardFile, value: object, context: Mapping[str, object], at: Path) -> object:
    """A variable's value with every text in it rendered, and the writing of a truth found again. A text that cannot be
    is broken from there on (`StoryboardFile.broken`)."""
    if isinstance(value, str):
        try:
            return file.text(value, context, at)
        except Skip as why:
            return file.broken(str(why))
    if isinstance(value, list):
        return [rendered(file, item, context, (*at, i)) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: rendered(file, item, context, (*at, key)) for key, item in value.items()}
    if isinstance(value, bool) and _CAPITAL.search(file.document.text):  # most files have none: places cost a parse
        place = file.document.span(at)
        meant = truth(place.text[place.col - 1 : place.end_col - 1])
        return value if meant is None else meant
    return value


_CAPITAL = re.compile(r"\b(?:True|TRUE|False|FALSE)\b")


def report_unused(file: StoryboardFile, declared: Mapping[str, object]) -> None:
    left = set(declared)
    texts = [one.document.text for one in file.included]
    texts += [file.document.text, *(known.text for known in file.texts.values() if isinstance(known, prompt.Included))]
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
