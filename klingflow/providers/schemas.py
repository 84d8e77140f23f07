"""The schemas of storyboards and project files with the names, settings and prices of given providers in them.

The files under schemas/ hold the built-in ones (docs/_make.py writes them so); whoever has packages installed gets
theirs too. The rest of a schema is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from klingflow.providers.base import Caps, Provider
from klingflow.storyboard import schema
from klingflow.storyboard.shots import RESOLUTIONS

_RATE = {"title": "USD per second", "type": "number", "minimum": 0, "maximum": 1000}
_RATES: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        "silent": {**_RATE, "description": "Without sound."},
        "sound": {**_RATE, "description": "With sound."},
    },
}


def storyboard(providers: Mapping[str, Provider]) -> dict[str, Any]:
    whole = schema.load("storyboard")
    sellers = [name for name, provider in providers.items() if not provider.caps.local]
    names = [name for name in providers if name not in sellers] + sellers
    choice, template = whole["$defs"]["provider"]["anyOf"]
    who = f"Who makes the clip: animatic draws a rough one here, free; {_listed(sellers)} sell real ones."
    provider = {
        **whole["$defs"]["provider"],
        "description": f"{who} `run --provider` overrides.",
        "anyOf": [{**choice, "enum": names}, template],
    }
    return {**whole, "$defs": {**whole["$defs"], "provider": provider}}


def project(providers: Mapping[str, Provider]) -> dict[str, Any]:
    whole = schema.load("project")
    caps = {name: provider.caps for name, provider in providers.items()}
    mends = _mends(list(caps.values()))
    sections = whole["properties"]
    settings = {**sections["providers"], "mends": mends}
    settings["properties"] = {name: _settings(one) for name, one in caps.items()}
    prices = {**sections["prices"]}
    prices["properties"] = {name: _prices(one) for name, one in caps.items() if one.paid}
    own = {name: mend for name, mend in whole["mends"].items() if name == "klingflow"}
    properties = {**sections, "providers": settings, "prices": prices}
    return {**whole, "mends": {**own, **mends}, "properties": properties}


def _settings(caps: Caps) -> dict[str, Any]:
    what = "clips drawn" if caps.local else "tasks in flight"
    concurrency = {
        "title": "Tasks at once",
        "description": f"The most {what} at once." if caps.local else f"The most {what} at this provider.",
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
    }
    made: dict[str, Any] = {"title": _title(caps), "type": "object", "additionalProperties": False}
    if mends := _own_mends(caps):
        made["mends"] = mends
    return {**made, "properties": {"concurrency": concurrency, **caps.settings}}


def _prices(caps: Caps) -> dict[str, Any]:
    kinds = {**_RATES["properties"]}
    if caps.videos:
        kinds["video"] = {**_RATE, "description": "With a reference video."}
    one = {**_RATES, "properties": kinds}
    rates = {name: {"title": name, **one} for name in dict.fromkeys((*RESOLUTIONS, *caps.resolutions))}
    return {"title": _title(caps), "type": "object", "additionalProperties": False, "properties": rates}


def _title(caps: Caps) -> str:
    title = caps.title.removeprefix("the ")
    return title[:1].upper() + title[1:]


_KEY = ("api_key", "key", "token", "secret")
_OWN_KEY = ("key", "api_key", "apikey", "token", "secret")
_ADDRESS = ("base_url", "endpoint")
_OWN_ADDRESS = ("base_url", "url", "endpoint", "host")


def _mends(sellers: Sequence[Caps]) -> dict[str, str]:
    """What stands only in the environment, and is written here by mistake."""
    keys = [name for caps in sellers for name in caps.variables]
    bases = [caps.base_variable for caps in sellers if caps.base_variable]
    hooks = [caps.webhook_variable for caps in sellers if caps.webhook_variable]
    made = dict.fromkeys(_KEY, _environment(keys)) | dict.fromkeys(_ADDRESS, _environment(bases))
    made["webhook_secret"] = _environment(hooks)
    return made | {name: _environment([name]) for name in (*keys, *hooks, *bases)}


def _own_mends(caps: Caps) -> dict[str, str]:
    made: dict[str, str] = {}
    if caps.variables:
        made |= dict.fromkeys(_OWN_KEY, _environment(caps.variables))
    if caps.base_variable:
        made |= dict.fromkeys(_OWN_ADDRESS, _environment([caps.base_variable]))
    if caps.webhook_variable:
        made["webhook_secret"] = _environment([caps.webhook_variable])
    return made


def _environment(names: Sequence[str]) -> str:
    return f"it comes from the environment only, as {' or '.join(names)}: a pull request must not move it"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
