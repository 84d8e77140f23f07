"""The project file and the environment -> a Config.

The nearest klingflow.yaml is the project's; those in the folders above it limit what a run may spend, too, so that a
project file further down is no way round them.

klingflow.yaml comes with the repository, and a pull request may have written it: its folders lie inside the project,
its URLs are https, and it holds no key and no API address. The environment is the operator's own and is trusted.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from klingflow.core.errors import StoryboardError, UsageError
from klingflow.core.redact import redact, register
from klingflow.core.source import Document, Problem
from klingflow.core.source import Path as Way
from klingflow.io.project import (
    PRICE_FILE,
    PROJECT_FILE,
    BadFile,
    Project,
    folders_above,
    misnamed_settings,
    settings_name,
)
from klingflow.io.publish import Publish
from klingflow.io.remembered import recall, remember
from klingflow.planning import price
from klingflow.planning.price import Limits, tightest
from klingflow.providers import BUILT_IN, PROVIDERS, schemas
from klingflow.providers.base import Settings
from klingflow.storyboard import schema, yamlread

DEFAULT_STORE = ".klingflow/store"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    root: Path
    store: str
    """An absolute folder, or s3://…, gs://…, az://…."""
    publish: Publish | None
    """`to` is an absolute folder or an object storage URL."""
    settings: Mapping[str, Settings]
    """By provider, of those that the file names."""
    limits: Limits
    prices: Mapping[str, Any]
    """As in the file: provider -> resolution -> silent, sound -> USD per second."""
    listed: Mapping[str, Any]
    """As in klingflow.prices.yaml: provider -> date; way -> resolution -> silent, sound -> USD per second."""
    shrink: Literal["lossless", "high-quality"] | None
    """How a copy of a still that a provider lacks or may show otherwise is made (io.shrink); None: none is."""
    document: Document | None
    """klingflow.yaml, for places in messages; None where there is none."""
    above: tuple[Path, ...]
    """The folders above the root whose project files limit it too."""


def load(root: Path, environ: Mapping[str, str]) -> Config:
    """The project's configuration. Raises StoryboardError for klingflow.yaml, also for one above the root, UsageError
    for the environment."""
    project = Project(root)
    above = folders_above(root)
    problems: list[Problem] = []
    documents = {folder: _document_of(folder, problems) for folder in (project.root, *above)}
    list_prices = _document_of(project.root, problems, PRICE_FILE)
    if problems:
        raise StoryboardError(problems)
    document = documents[project.root]
    data = _data(document)
    stated = data.get("store", DEFAULT_STORE)
    store = _place(project, document, stated, ("store",), "KLINGFLOW_STORE", environ, problems)
    publish = _publish(project, document, data.get("publish"), environ, problems)
    own, *outer = [_limits(folder, _data(each)) for folder, each in documents.items()]
    allowed = tightest(outer)
    if allowed.spend is not None:
        stated = [_data(documents[folder]).get("prices", {}) for folder in above]
        for stating, ways in ((document, _own_prices(data)), (list_prices, _list_prices(_data(list_prices)))):
            if stating is not None:
                problems += _lowered_prices(stating, ways, stated, allowed.set_in["spend"])
    if problems:
        raise StoryboardError(problems)
    shrink = data.get("images", {}).get("shrink", "never")
    return Config(
        root=project.root,
        store=store,
        publish=publish,
        settings={name: _settings(stated) for name, stated in data.get("providers", {}).items()},
        limits=tightest((allowed, own)),
        prices=data.get("prices", {}),
        listed=_data(list_prices),
        shrink=None if shrink == "never" else shrink,
        document=document,
        above=above,
    )


def _document_of(folder: Path, problems: list[Problem], name: str = PROJECT_FILE) -> Document | None:
    """The project file of a folder, or its list of prices; None where it has none, or a broken one, whose faults are
    noted."""
    try:
        return _document(Project(folder), name)
    except StoryboardError as bad:
        problems += bad.problems
    except BadFile as bad:  # it is no file that can be read
        problems.append(Problem(rule="unreadable", what=f"{_shown(folder, name)}: {bad.what}", mend=bad.mend))
    return None


def _data(document: Document | None) -> Mapping[str, Any]:
    return document.data if document and isinstance(document.data, dict) else {}


def _settings(stated: Mapping[str, Any]) -> Settings:
    own = {name: value for name, value in stated.items() if name != "concurrency"}
    return Settings(concurrency=stated.get("concurrency"), own=own)


def _limits(folder: Path, data: Mapping[str, Any]) -> Limits:
    limits = data.get("limits", {})
    return Limits(
        spend=Decimal(str(limits["spend"])) if "spend" in limits else None,
        seconds=limits.get("seconds"),
        tasks=limits.get("tasks"),
        set_in=dict.fromkeys(limits, settings_name(folder)),
    )


def _own_prices(data: Mapping[str, Any]) -> list[tuple[Way, Mapping[str, Any]]]:
    """Each provider's rates in klingflow.yaml, with the way to them."""
    return [(("prices", name), rates) for name, rates in data.get("prices", {}).items()]


def _list_prices(data: Mapping[str, Any]) -> list[tuple[Way, Mapping[str, Any]]]:
    """The same in klingflow.prices.yaml, where each provider has them by the way that a clip is made."""
    return [
        ((name, way), rates) for name, ways in data.items() for way, rates in ways.items() if isinstance(rates, Mapping)
    ]


def _lowered_prices(
    document: Document, found: Sequence[tuple[Way, Mapping[str, Any]]], outer: Sequence[Mapping[str, Any]], file: str
) -> list[Problem]:
    """Prices below those that the spend limit of a file above was set with: the highest that a file above states, else
    the shipped estimate. Whoever may state a lower one has no limit."""
    problems = []
    for way, resolutions in found:
        provider = str(way[1] if way[0] == "prices" else way[0])
        for resolution, rates in resolutions.items():
            for kind, rate in rates.items():
                sound, video = kind == "sound", kind == "video"
                stated = [price.a_second(provider, resolution, kind, prices) for prices in outer]
                least = max((one for one in stated if one is not None), default=None)
                if least is None:
                    shipped = PROVIDERS[provider].caps.shipped
                    least = price.of(provider, resolution, sound, 1, {}, shipped, with_video=video).amount
                if least is not None and Decimal(str(rate)) < least:
                    span = document.span((*way, resolution, kind))
                    what = f"{rate} a second is less than the {least} that the spend limit of {file} counts with"
                    mend = f"state the price in {file}, beside the limit"
                    problems.append(Problem(rule="lowered-price", what=what, span=span, mend=mend))
    return problems


def secret(environ: Mapping[str, str], name: str) -> str:
    """A key from the environment, from now on redacted; empty where it is not set. Raises UsageError for a value
    that cannot be a key."""
    value = environ.get(name, "").strip()
    register(value)
    if not all("!" <= c <= "~" for c in value):
        raise UsageError(f"{name} holds a character that no key has", "copy the key again, without spaces or line ends")
    return value


def _document(project: Project, name: str = PROJECT_FILE) -> Document | None:
    kind = "project" if name == PROJECT_FILE else "prices"
    if not os.path.lexists(project.root / name):
        misnamed = misnamed_settings(project.root) if name == PROJECT_FILE else None
        if misnamed is not None:
            raise BadFile(f"'{misnamed}' is not read, so nothing that it says counts", f"rename it to {PROJECT_FILE}")
        return None
    shown = _shown(project.root, name)
    raw = project.read_bytes(name)
    text = yamlread.decode(shown, raw)
    digest = hashlib.sha256(raw).hexdigest()
    known = recall(kind, digest)
    if isinstance(known, dict):
        return yamlread.reopen(shown, text, known)
    document = yamlread.read(shown, text)
    if document.data is None:  # every line is commented out
        document.data = {}
    strangers = _strangers(document.data) if kind == "project" else []
    problems = schema.check(document, kind, schemas.project(PROVIDERS.met()) if strangers else None)
    if problems:
        raise StoryboardError(problems)
    if not strangers:  # what a package takes may change with the package
        remember(kind, digest, document.data)
    return document


def _strangers(data: Any) -> list[str]:
    """The providers of packages that the project file has settings or prices of."""
    named = [data.get(section) for section in ("providers", "prices")] if isinstance(data, dict) else []
    return [
        name
        for section in named
        if isinstance(section, dict)
        for name in section
        if isinstance(name, str) and name not in BUILT_IN and name in PROVIDERS
    ]


def _shown(folder: Path, name: str = PROJECT_FILE) -> str:
    relative = os.path.relpath(folder / name)
    return str(folder / name) if relative.startswith("..") else relative


_OBJECTS = re.compile(r"(s3|gs|az)://[^/\s?#@]+(/[^\s?#]*)?")
_MEANT = re.compile(
    r"(?:(s3|gs|az)(?=[:;]|[/\\]{2})|[a-z][a-z0-9+.-]+:)[:;/\\]*"
    r"|[a-z0-9.-]*(?:amazonaws\.com|storage\.googleapis\.com|core\.windows\.net)(?=/|$)",
    re.IGNORECASE,
)
"""How a URL begins, also one that is mistyped or lacks its scheme: as a folder it would be a store that nobody shares,
without a word."""


def _place(
    project: Project,
    document: Document | None,
    stated: str,
    way: Way,
    variable: str,
    environ: Mapping[str, str],
    problems: list[Problem],
) -> str:
    """A folder or an object storage URL: what the environment says, else what the file says (`stated`)."""
    given = environ.get(variable, "").strip()
    if _OBJECTS.fullmatch(given or stated):
        return (given or stated).rstrip("/")
    mistyped = _MEANT.match(given or stated)
    if mistyped:
        wrong = f"is neither a folder nor s3://…, gs://… or az://…: {redact(given or stated)}"
        mend = _url_meant(given or stated, mistyped)
        if given:
            raise UsageError(f"{variable} {wrong}", mend)
        span = document.span(way) if document else None
        what = f"`{'.'.join(map(str, way))}` {wrong}"
        problems.append(Problem(rule="outside-project", what=what, span=span, mend=mend))
        return ""
    if given:
        if "://" in given or "\0" in given:
            raise UsageError(f"{variable} is neither a folder nor s3://…, gs://… or az://…", "name one of these")
        return os.path.normpath(project.root / os.path.expanduser(given))
    try:
        return str(project.to_write(stated))
    except BadFile as bad:
        mend = f"name a folder inside the project, or set {variable}: the environment may name any folder"
        span = document.span(way) if document else None
        problems.append(Problem(rule="outside-project", what=bad.what, span=span, mend=mend))
        return ""


def _url_meant(place: str, mistyped: re.Match[str]) -> str:
    url = f"{(mistyped[1] or '').lower()}://{place[mistyped.end():]}"
    if _OBJECTS.fullmatch(url):
        return f"write {url}, or ./{place} for a folder"
    return f"write s3://bucket/prefix, gs://… or az://…, or ./{redact(place)} for a folder"


def _publish(
    project: Project,
    document: Document | None,
    stated: Mapping[str, Any] | None,
    environ: Mapping[str, str],
    problems: list[Problem],
) -> Publish | None:
    """Where frames are published. KLINGFLOW_PUBLISH_TO replaces the file's place and its URL: they belong together."""
    to, url = environ.get("KLINGFLOW_PUBLISH_TO", "").strip(), environ.get("KLINGFLOW_PUBLISH_URL", "").strip()
    if not to and stated is None:
        if url:
            what = "KLINGFLOW_PUBLISH_URL is set, but nothing says where to publish"
            raise UsageError(what, "set KLINGFLOW_PUBLISH_TO")
        return None
    stated = stated or {}
    if url and not re.fullmatch(r"https?://[^\s/?#@]+[^\s?#@]*", url):
        raise UsageError("KLINGFLOW_PUBLISH_URL is not a plain http or https URL", "give a prefix as https://host/path")
    way = ("publish", "to")
    place = _place(project, document, stated.get("to", ""), way, "KLINGFLOW_PUBLISH_TO", environ, problems)
    public = url or ("" if to else stated.get("public_url", ""))
    if not public and place and "://" not in place:
        what = "frames are published to a folder, and nothing says under which URL it is readable"
        if to:
            raise UsageError(what, "set KLINGFLOW_PUBLISH_URL")
        span = document.span(way) if document else None
        problems.append(Problem(rule="missing-key", what=what, span=span, mend="add `public_url`"))
    expires = _seconds(stated.get("expires", "24h"))
    if not 3600 <= expires <= 7 * 86400:
        span = document.span(("publish", "expires")) if document else None
        what = f"expires of publish must be from 1h to 7d, not {stated.get('expires')}"
        problems.append(Problem(rule="out-of-range", what=what, span=span))
    return Publish(to=place, public_url=public.rstrip("/") or None, expires_s=expires, trusted=bool(url))


def _seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]
