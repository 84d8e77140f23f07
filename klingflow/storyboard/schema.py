"""Does a document have the shape that a schema gives it? The files under schemas/ are the one authority on shape.

`check` reports every fault at once, each at its own place and in a sentence: never in the words of the JSON Schema
library. The schemas hold two annotations that are read here: `errorMessage` (the rule in words; editors show it too)
and `mends` (the mend for a key that does not belong there). Three deviations from the library, all stricter:
`5.0` is no whole number, a pattern that ends in `$` ends at the very end, and `format` is never trusted.

Knows no meaning: whether a shot that is named exists is for load.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Container, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

import klingflow
from klingflow.core.alike import odd, suggestion
from klingflow.core.source import Document, Path, Problem, nearest, visible
from klingflow.storyboard.scalar import written

SCHEMAS = ("storyboard", "include", "project", "prices", "lock", "plan", "events", "answers", "seams")

_EMPTY = {
    "storyboard": "`klingflow init` writes one that runs",
    "include": "write `cast` or `shots`, or remove it from `include`",
}
_INCLUDED = frozenset({"notes", "cast"})
"""The fields of a file in which only cast is declared: no storyboard that lacks its first line."""
MAX_FAULTS = 1000

FOR_EDITORS = ("together", "inside", "shows")
"""Definitions that only editors apply: load tells the same at the field, with everything that it knows."""

_NAMES = {
    "storyboard": "the storyboard",
    "include": "the included file",
    "project": "klingflow.yaml",
    "prices": "klingflow.prices.yaml",
    "lock": "the lock",
}


@cache
def text(name: str) -> str:
    """The schema's JSON text. In a wheel the schemas lie inside the package, in a checkout beside it."""
    # The loader is called directly: importlib.resources costs 10 ms and has no way to what lies beside the package.
    loader: Any = klingflow.__spec__.loader if klingflow.__spec__ else None
    for folder in ("schemas", "../schemas"):
        try:
            data: bytes = loader.get_data(f"{klingflow.__path__[0]}/{folder}/{name}.schema.json")
        except OSError:
            continue
        return data.decode()
    raise LookupError(f"klingflow was installed without its {name} schema")


@cache
def load(name: str) -> dict[str, Any]:
    """The schema as data. Do not change it: it is read once."""
    schema = json.loads(text(name))
    assert isinstance(schema, dict)
    return schema


def check(document: Document, name: str, whole: Mapping[str, Any] | None = None) -> list[Problem]:
    """Everything that is wrong with the document's shape (the first MAX_FAULTS), in order of place.
    An empty list: it is valid. `whole` is another form of the schema of that name, as long as it is not its own."""
    return _faults(document, name, _validator(name) if whole is None else _strict(whole))[0]


def sift(document: Document, name: str, providers: Container[str] = ()) -> tuple[list[Problem], object]:
    """As `check`; and the data with WRONG in the place of what is wrong in it, so that the rest can be looked at in the
    same go and everything else keeps its place. None where the whole is of the wrong kind. `providers` are names that
    the schema does not list and that are right all the same."""
    problems, places = _faults(document, name, _validator(name), providers)
    if not problems:
        return [], document.data
    data = _copied(document.data)
    for path in places:
        if not path:
            return problems, None
        _blank(data, path)
    return problems, data


class _Wrong:
    pass


WRONG = _Wrong()


def _copied(data: Any) -> Any:
    """The data with mappings and lists of its own: what an alias repeats is there twice, so that one can be changed."""
    if isinstance(data, dict):
        return {key: _copied(value) for key, value in data.items()}
    return [_copied(value) for value in data] if isinstance(data, list) else data


def _blank(data: Any, path: Path) -> None:
    for part in path[:-1]:
        if data is WRONG:
            return  # a value above it was blanked
        data = data[part]
    if data is not WRONG:
        data[path[-1]] = WRONG


def _faults(
    document: Document, name: str, validator: Any, providers: Container[str] = ()
) -> tuple[list[Problem], list[Path]]:
    if document.data is None:
        what, mend = f"{_thing(document, name, ())} is empty", _EMPTY.get(name, "")
        return [Problem(rule="empty", what=what, span=document.span(()), mend=mend)], [()]
    if name == "storyboard" and isinstance(document.data, dict) and {"cast"} <= document.data.keys() <= _INCLUDED:
        what, mend = "this is a file that storyboards include, not one itself", "name the storyboard that includes it"
        return [Problem(rule="included", what=what, span=document.span(()), mend=mend)], [()]
    errors = list(islice(validator.iter_errors(document.data), MAX_FAULTS))
    found: dict[tuple[Path, str], Problem] = {}
    typed = {tuple(error.absolute_path) for error in errors if error.validator == "type"}
    for error in errors:
        path = tuple(error.absolute_path)
        if error.validator == "anyOf" and path[-1] == "provider" and error.instance in providers:
            continue
        if error.validator != "type" and path in typed:
            continue  # of the wrong type: nothing else about it matters
        for at, key, problem in _problems(document, name, error, path):
            span = document.span(at, key=key)
            made = Problem(rule=problem[0], what=problem[1], mend=problem[2], span=span)
            found.setdefault((at, made.rule), made)
    problems = sorted(found.values(), key=lambda p: (p.span.line, p.span.col) if p.span else (0, 0))
    return problems, [at for at, _ in found]


@cache
def _validator(name: str) -> Any:
    return _strict(load(name))


def _strict(whole: Mapping[str, Any]) -> Any:
    import jsonschema  # costs 80 ms; a file that was checked before is not checked again

    base = jsonschema.Draft202012Validator

    def pattern(validator: Any, wanted: str, instance: object, schema: object) -> Iterator[Any]:
        if isinstance(instance, str):
            found = re.search(wanted, instance)
            if not found or (wanted.endswith("$") and found.end() != len(instance)):
                yield jsonschema.ValidationError(f"{instance!r} does not match {wanted!r}")

    def integer(checker: object, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    extend: Any = jsonschema.validators.extend
    strict = extend(base, {"pattern": pattern}, type_checker=base.TYPE_CHECKER.redefine("integer", integer))
    return strict(_inlined(whole, {**whole.get("$defs", {}), **{key: {} for key in FOR_EDITORS}}, ()))


def _inlined(node: Any, defs: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    """The schema with its local references written out: following them costs half the time of a check.
    A definition that holds itself keeps its reference."""
    if isinstance(node, list):
        return [_inlined(item, defs, inside) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        target = reference.removeprefix("#/$defs/")
        if target not in inside and not _recursive(target, defs):
            merged = {**defs[target], **{key: value for key, value in node.items() if key != "$ref"}}
            return _inlined(merged, defs, (*inside, target))
        return node
    data = ("examples", "mends")
    return {key: value if key in data else _inlined(value, defs, inside) for key, value in node.items()}


def _recursive(target: str, defs: Mapping[str, Any]) -> bool:
    return f'"#/$defs/{target}"' in json.dumps(defs[target])


# -- faults in words

_Fault = tuple[str, str, str]  # rule, what, mend
_Describe = Callable[[str, Any, Any, Mapping[str, Any]], _Fault]  # (thing, value, what was wanted, its schema)


def _problems(document: Document, name: str, error: Any, path: Path) -> Iterator[tuple[Path, bool, _Fault]]:
    """(place, whether the place is that of the key, rule and words) for one error of the library."""
    schema = error.schema if isinstance(error.schema, dict) else {}
    value, wanted = error.instance, error.validator_value
    if "propertyNames" in error.absolute_schema_path:
        what = f"{_shown(value)} cannot be a name in {_thing(document, name, path)}{_odd(value)}"
        yield (*path, value), True, ("bad-name", what, schema.get("errorMessage", ""))
        return
    match error.validator:
        case "additionalProperties":
            known = list(schema.get("properties", {}))
            owner = _thing(document, name, path)
            for key in value:
                if key not in known:
                    mend = schema.get("mends", {}).get(key) or _belongs(key, tuple(known))
                    yield (*path, key), True, ("unknown-key", f"{owner} has no field {_shown(key)}", mend)
        case "required":
            owner, known = _thing(document, name, path), schema.get("properties", {})
            for key in wanted:
                if key not in value and not any(nearest(other, [key]) for other in value if other not in known):
                    mend = _example(key, schema.get("properties", {}).get(key, {}))
                    yield path, False, ("missing-key", f"{owner} has no '{key}'", mend)
        case "dependentRequired":
            for key, needed in wanted.items():
                for other in needed:
                    if key in value and other not in value:
                        what = f"'{key}' needs '{other}'"
                        yield (*path, key), True, ("missing-key", what, f"add `{other}`, or remove `{key}`")
        case _:
            describe: _Describe = _DESCRIBE.get(str(error.validator), _other)
            yield path, False, describe(_thing(document, name, path), value, wanted, schema)


def _type(thing: str, value: object, wanted: Any, schema: Mapping[str, Any]) -> _Fault:
    kinds = [wanted] if isinstance(wanted, str) else [kind for kind in wanted if kind != "null"]
    what = f"{thing} must be {_or([_KINDS[kind] for kind in kinds])}, not {_shown(value)}"
    mend = ""
    if value is None:
        mend = "write a value, or remove the key"
    elif kinds == ["boolean"]:
        said = str(value).strip().casefold()
        meant = "true" if said in ("true", "yes", "on", "y", "1") else "false"
        clear = meant == "true" or said in ("false", "no", "off", "n", "0")
        quotes = " without quotes" if said == meant else ""
        mend = f"write {meant}{quotes}" if clear else "write true or false, without quotes"
    elif kinds[0] in ("integer", "number") and not isinstance(value, bool):
        mend = _number_mend(value, schema, whole=kinds[0] == "integer")
        if "string" in kinds and isinstance(value, float) and re.search(schema.get("pattern", ""), f"{value}s"):
            mend = f"{mend}; or {written(value)}s, a time"
    elif "string" in kinds and isinstance(value, bool | int | float):
        text = written(value)
        close = [name for name in _names(schema) if name.startswith(text)] if not isinstance(value, bool) else []
        mend = f"write {close[0]}" if close else f'write it in quotes: "{text}"'
    elif kinds[0] == "string" and isinstance(value, list):
        simple = [item for item in value if isinstance(item, str)]
        mend = "write one text, not a list" + (f": {simple[0][:60]}" if simple else "")
    elif kinds == ["array"] and isinstance(value, str | int):
        mend = f"write a list: [{str(value)[:40]}]"
    elif kinds == ["array"] and isinstance(value, dict) and value:
        fields = schema.get("items", {}).get("properties", {})
        name, below = next(iter(value.items()))
        entry = f"- id: {name}" if "id" in fields and not value.keys() & fields else f"- {name}: {_shown(below)}"
        mend = f"write a list, each entry with a `-` before it: `{visible(entry)[:60]}`"
    elif kinds == ["object"]:
        mend = "write its fields below it, indented, as `name: value`"
    return "wrong-type", what, mend


_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_AMOUNT = re.compile(r"[^\d.,+-]{0,8}([+-]?\d+(?:,\d{3})*(?:\.\d+)?)\s*[^\d.,]{0,12}")
"""A number with a unit, or a sign of money, on one of its sides."""


def _number_mend(value: object, schema: Mapping[str, Any], *, whole: bool) -> str:
    """What to write in the place of what is no number, or no whole one; always something that the schema takes."""
    low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
    found = _AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    meant: float | None = value if isinstance(value, int | float) else None
    if found:
        meant = float(found[1].replace(",", ""))
    elif isinstance(value, str) and value.strip().casefold() in _WORDS:
        meant = _WORDS.index(value.strip().casefold())
    if meant is None or meant != meant or abs(meant) >= 1e15:
        [example] = schema.get("examples", ())[:1] or (schema.get("default", schema.get("minimum", 1)),)
        return f"write a number, such as {written(example)}"
    around = {math.floor(meant), math.ceil(meant)} if whole else {int(meant) if meant == int(meant) else meant}
    inside = sorted({min(high, max(low, number)) for number in around})
    quotes = " without quotes" if found and value == written(inside[0]) else ""
    return f"write {' or '.join(map(written, inside))}{quotes}"


def _names(schema: Mapping[str, Any]) -> list[str]:
    """The words that a field may hold, where they are few."""
    branches = (schema, *schema.get("anyOf", ()))
    return [str(name) for branch in branches for name in branch.get("enum", ())]


_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping of fields",
    "null": "null",
}


def _enum(thing: str, value: object, wanted: Any, schema: Mapping[str, Any]) -> _Fault:
    if schema.get("errorMessage"):
        return _other(thing, value, wanted, schema)
    names = [str(item) for item in wanted]
    close = next((n for n in names if n.casefold() == str(value).casefold()), None)
    if close is None and any(letter.isalpha() for letter in str(value)):  # 16:10 is no slip of the pen for 1:1
        close = nearest(str(value), names)
    hint = f"did you mean '{close}'? " if close else ""
    return "bad-value", f"{thing} cannot be {_shown(value)}", f"{hint}it is one of {', '.join(names)}"


def _any_of(thing: str, value: object, wanted: Any, schema: Mapping[str, Any]) -> _Fault:
    """Only used for a list of values that may also be a template."""
    return _enum(thing, value, next(branch["enum"] for branch in wanted if "enum" in branch), schema)


def _const(thing: str, value: object, wanted: Any, schema: Mapping[str, Any]) -> _Fault:
    if schema.get("errorMessage"):
        return _other(thing, value, wanted, schema)
    return "bad-value", f"{thing} must be {wanted}, not {_shown(value)}", f"write {wanted}"


def _range(thing: str, value: object, wanted: Any, schema: Mapping[str, Any]) -> _Fault:
    if schema.get("errorMessage"):
        return _other(thing, value, wanted, schema)
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = f"at least {low}" if high is None else f"at most {high}" if low is None else f"from {low} to {high}"
    nearest_inside = low if low is not None and isinstance(value, int | float) and value < low else high
    mend = f"write {nearest_inside}"
    if low == 0 and isinstance(value, int | float) and value < 0:
        mend = f"write {written(-value)}, or remove it"
    return "out-of-range", f"{thing} must be {bounds}, not {_shown(value)}", mend


def _size(thing: str, value: Any, wanted: Any, schema: Mapping[str, Any]) -> _Fault:
    unit = {"str": "characters", "list": "entries"}.get(type(value).__name__, "fields")
    if not value:
        return "empty", f"{thing} is empty", "write something there, or remove it"
    low = next((schema[k] for k in ("minLength", "minItems", "minProperties") if k in schema), None)
    if low is not None and len(value) < low:
        return "out-of-range", f"{thing} has {len(value):,} {unit}; at least {low:,} are needed", "add to it"
    return "out-of-range", f"{thing} has {len(value):,} {unit}; at most {wanted:,} are allowed", "make it shorter"


def _unique(thing: str, value: Any, wanted: Any, schema: Mapping[str, Any]) -> _Fault:
    twice = next((item for i, item in enumerate(value) if item in value[:i]), None)
    return "repeated", f"{thing} holds {_shown(twice)} twice", "remove one of them"


def _other(thing: str, value: object, wanted: Any, schema: Mapping[str, Any]) -> _Fault:
    """A fault whose rule is in the schema as errorMessage."""
    rule = schema.get("errorMessage", "see `klingflow schema` for what may stand here")
    if isinstance(value, dict | list):
        return "bad-value", f"{thing} is not right: {rule}", ""
    close = _spelled(value, schema)
    rule = f"write {close}; {rule}" if close else rule
    return "bad-value", f"{thing} cannot be {_shown(value)}{_odd(value)}", rule


def _odd(value: object) -> str:
    """What of a text cannot be seen or looks like a plain letter, since a reader finds no fault in it."""
    found = odd(value) if isinstance(value, str) else ""
    return f": it has {found}" if found else ""


def _spelled(value: object, schema: Mapping[str, Any]) -> str:
    """The value as its pattern wants it, where small letters, and `-` for what is between words, make it so."""
    if not isinstance(value, str) or not re.fullmatch(r"[\w -]+", value):
        return ""
    text = "-".join(value.casefold().split())
    return text if text != value and "pattern" in schema and re.search(schema["pattern"], text) else ""


_DESCRIBE: Mapping[str, _Describe] = {
    "type": _type,
    "enum": _enum,
    "anyOf": _any_of,
    "const": _const,
    "minimum": _range,
    "maximum": _range,
    "minLength": _size,
    "maxLength": _size,
    "minItems": _size,
    "maxItems": _size,
    "minProperties": _size,
    "maxProperties": _size,
    "uniqueItems": _unique,
}


@cache  # the same misspelling may be in ten thousand shots
def _belongs(key: str, known: tuple[str, ...]) -> str:
    """What to do with a key that does not belong at its place."""
    close = next((n for n in known if n.casefold() == key.casefold()), None) or nearest(key, known)
    if close:
        return suggestion(close, key)
    if not known:
        return ""
    return f"the fields here are {', '.join(known)}"


def _example(key: str, schema: Mapping[str, Any]) -> str:
    examples = [schema[k] if k != "examples" else schema[k][0] for k in ("const", "examples", "default") if k in schema]
    simple = [str(e) for e in examples if isinstance(e, str | int)]
    return f"add `{key}: {simple[0]}`" if simple else f"add `{key}`"


def _thing(document: Document, name: str, path: Path) -> str:
    """What a path is called in a sentence: "duration of shot 'dawn'"."""
    if not path:
        return _NAMES.get(name, "the file")
    names = [step for step in path if isinstance(step, str)]
    head = str(path[-1])
    if isinstance(path[-1], int):
        head = f"entry {path[-1] + 1} of {names[-1]}" if names else f"entry {path[-1] + 1}"
    if path[0] == "shots" and len(path) > 1:
        shot = _shot(document, path[1])
        return shot if len(path) == 2 else f"{head} of {shot}"
    return f"{head} of {names[-2]}" if len(names) > 1 else head


def _shot(document: Document, step: str | int) -> str:
    if isinstance(step, str):
        return f"shot '{step}'"
    shots = document.data["shots"] if isinstance(document.data, dict) else []
    shot = shots[step]
    if isinstance(shot, dict) and isinstance(shot.get("id"), str):
        return f"shot {_shown(shot['id'])}"
    return f"shot {step + 1}"


def _shown(value: object) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
        case str():
            line = value.replace("\n", "\\n")
            return f"'{line}'" if len(line) <= 60 else f"'{line[:57]}…'"
        case list():
            return "a list"
        case dict():
            return "a mapping of fields"
        case _:
            return written(value)


def _or(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
