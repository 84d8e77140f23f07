"""What can be read of a storyboard whose shape is wrong.

The schema reports what is wrong with the shape, `load` what is wrong with the meaning, and users want both at once. So
values of a wrong type are removed here, and load goes on with the rest. None as a value means: something was written
here, and its fault is reported already. EMPTY means that a shot says `null`: it has none of this, whatever the defaults
have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Data = Mapping[str, Any]
Kind = Callable[[Any], bool]


class _Empty:
    pass


EMPTY = _Empty()
_MAY_BE_EMPTY = frozenset(
    ["tags", "prompt", "negative_prompt", "images", "elements", "videos", "multi_shot", "aspect_ratio", "model", "gate"]
)


def usable(data: object) -> Data:
    """The storyboard's data with every value of the type that load expects; the same object where all of them are."""
    if not isinstance(data, dict):
        return {"shots": ()}
    out = _fields(data, _TOP)
    if "defaults" in out:
        given = out["defaults"] or {}
        set_ones = {name: value for name, value in given.items() if value is not None or name not in _MAY_BE_EMPTY}
        out = _put(out, "defaults", _fields(set_ones if len(set_ones) < len(given) else given, _DEFAULTS))
    if "cast" in out:
        cast = {name: one if _element(one) else None for name, one in (out["cast"] or {}).items()}
        out = _put(out, "cast", cast)
    if "matrix" in out:
        axes = {name: value for name, value in (out["matrix"] or {}).items() if _axis(name, value)}
        out = _put(out, "matrix", axes)
    if "film" in out:
        film = _fields(out["film"] or {}, _FILM)
        if not all(map(_cut, film.get("shots") or ())):
            film = {**film, "shots": [cut if _cut(cut) else None for cut in film["shots"]]}
        out = _put(out, "film", film)
    shots = out.get("shots") or ()
    kept = [_shot(i, shot) for i, shot in enumerate(shots)]
    if any(new is not old for new, old in zip(kept, shots, strict=True)) or not shots:
        out = _put(out, "shots", kept)
    return out


def _put(data: Data, name: str, value: object) -> Data:
    return data if data.get(name) is value or data.get(name) == value else {**data, name: value}


def _fields(data: Data, kinds: Mapping[str, Kind]) -> Data:
    """The mapping with None for values of the wrong type, and for unknown fields."""
    for name, value in data.items():
        if name not in kinds or not kinds[name](value):
            break
    else:
        return data
    return {name: value if name in kinds and kinds[name](value) else None for name, value in data.items()}


def _shot(index: int, raw: object) -> Data:
    given = raw if isinstance(raw, dict) else {"?": None}
    shot = _fields(given, _SHOT)
    empty = [name for name in shot if given[name] is None and name in _MAY_BE_EMPTY]
    if empty:
        shot = {**shot, **dict.fromkeys(empty, EMPTY)}
    if shot.get("id") is None:
        return {**shot, "id": f"#{index + 1}"}  # "#" is not allowed in an id: no reference can name it
    return shot


def _text(value: Any) -> bool:
    return type(value) is str


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flag(value: Any) -> bool:
    return type(value) is bool


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _all(kind: Kind) -> Kind:
    return lambda value: isinstance(value, list) and all(map(kind, value))


def _frame(value: Any) -> bool:
    if isinstance(value, dict):
        sources = [name for name in ("url", "shot", "still") if name in value]
        if len(sources) != 1 or not isinstance(value.get("frame", ""), str | int):
            return False
        return _text(value[sources[0]]) and _text(value.get("sha256", ""))
    return type(value) is str


def _end(value: Any) -> bool:
    if isinstance(value, dict) and "stills" in value:
        take = value.get("take")
        return value.keys() <= {"stills", "take"} and _all(_text)(value["stills"]) and (take is None or _number(take))
    return _frame(value)


def _element(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _frame(value.get("frontal_image"))
        and _all(_frame)(value.get("reference_images", []))
    )


def _elements(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_element, value.values()))
    return _all(lambda one: _text(one) or _element(one))(value)


def _video(value: Any) -> bool:
    if isinstance(value, dict):
        sources = [name for name in ("url", "shot") if name in value]
        return len(sources) == 1 and _text(value[sources[0]]) and all(map(_text, value.values()))
    return type(value) is str


def _continues(value: Any) -> bool:
    if isinstance(value, dict):
        return _text(value.get("shot")) and _text(value.get("motion", ""))
    return _text(value)


def _multi_shot(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("by") not in ("customize", "intelligence"):
        return False
    shots = value.get("shots", [])
    if (value["by"] == "customize") != bool(shots) or not isinstance(shots, list):
        return False
    return all(isinstance(one, dict) and _text(one.get("prompt")) and _number(one.get("duration")) for one in shots)


def _cut(value: Any) -> bool:
    if not isinstance(value, dict):
        return _text(value)
    known = value.keys() <= {"shot", "in", "out"} and _text(value.get("shot"))
    return known and all(_text(value[name]) or _number(value[name]) for name in value.keys() - {"shot"})


def _axis(name: str, value: Any) -> bool:
    if name == "exclude":
        return isinstance(value, list) and all(isinstance(rule, dict) for rule in value)
    return isinstance(value, list) and bool(value) and all(isinstance(one, str | int | float) for one in value)


_COMMON: Mapping[str, Kind] = {
    "title": _text,
    "notes": _text,
    "tags": _all(_text),
    "prompt": _text,
    "prompt_file": _text,
    "negative_prompt": _text,
    "images": _all(_frame),
    "elements": _elements,
    "videos": _all(_video),
    "multi_shot": _multi_shot,
    "duration": _number,
    "resolution": _text,
    "sound": _flag,
    "aspect_ratio": _text,
    "model": _text,
    "provider": _text,
    "takes": _number,
    "hold": _flag,
    "gate": _text,
    "vars": _mapping,
}
_SHOT: Mapping[str, Kind] = {
    **_COMMON,
    "id": _text,
    "first_frame": _end,
    "last_frame": _end,
    "continues": _continues,
    "meets": _text,
    "take": _number,
    "clip": _text,
}
_DEFAULTS: Mapping[str, Kind] = {**_COMMON, "max_chain": _number}
_FILM: Mapping[str, Kind] = {
    "shots": _list,
    "audio": _text,
    "size": _text,
    "resolution": _text,
    "aspect": _text,
    "rate": _amount,
    "gate": lambda value: isinstance(value, dict) and all(map(_amount, value.values())),
}
_TOP: Mapping[str, Kind] = {
    "klingflow": lambda value: True,
    "title": _text,
    "notes": _text,
    "vars": _mapping,
    "defaults": _mapping,
    "matrix": _mapping,
    "include": _all(_text),
    "cast": _mapping,
    "shots": _list,
    "film": _mapping,
}
