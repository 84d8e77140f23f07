"""The project file and the environment -> a Config.

klingflow.yaml comes with the repository, and a pull request may have written it: its folders lie inside the project,
its URLs are https, and it holds no key and no API address. The environment is the operator's own and is trusted.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from klingflow.core.errors import StoryboardError, UsageError
from klingflow.core.redact import redact, register
from klingflow.core.source import Document, Problem
from klingflow.core.source import Path as Way
from klingflow.io.cache import recall, remember
from klingflow.io.project import PROJECT_FILE, BadFile, Project
from klingflow.io.publish import Publish
from klingflow.planning.price import Limits
from klingflow.providers import PROVIDERS
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
    """Every provider's, by name."""
    limits: Limits
    prices: Mapping[str, Any]
    """As in the file: provider -> resolution -> silent, sound -> USD per second."""
    shrink: Literal["lossless", "high-quality"] | None
    """How a copy of a still that a provider lacks or may show otherwise is made (io.shrink); None: none is."""
    document: Document | None
    """klingflow.yaml, for places in messages; None where there is none."""


def load(root: Path, environ: Mapping[str, str]) -> Config:
    """The project's configuration. Raises StoryboardError for klingflow.yaml, UsageError for the environment."""
    project = Project(root)
    document = _document(project)
    data: Mapping[str, Any] = document.data if document and isinstance(document.data, dict) else {}
    problems: list[Problem] = []
    stated = data.get("store", DEFAULT_STORE)
    store = _place(project, document, stated, ("store",), "KLINGFLOW_STORE", environ, problems)
    publish = _publish(project, document, data.get("publish"), environ, problems)
    if problems:
        raise StoryboardError(problems)
    limits = data.get("limits", {})
    shrink = data.get("images", {}).get("shrink", "never")
    return Config(
        root=project.root,
        store=store,
        publish=publish,
        settings={name: Settings(**data.get("providers", {}).get(name, {})) for name in PROVIDERS},
        limits=Limits(
            spend=Decimal(str(limits["spend"])) if "spend" in limits else None,
            seconds=limits.get("seconds"),
            tasks=limits.get("tasks"),
        ),
        prices=data.get("prices", {}),
        shrink=None if shrink == "never" else shrink,
        document=document,
    )


def secret(environ: Mapping[str, str], name: str) -> str:
    """A key from the environment, from now on redacted; empty where it is not set. Raises UsageError for a value
    that cannot be a key."""
    value = environ.get(name, "").strip()
    register(value)
    if not all("!" <= c <= "~" for c in value):
        raise UsageError(f"{name} holds a character that no key has", "copy the key again, without spaces or line ends")
    return value


def _document(project: Project) -> Document | None:
    if not os.path.lexists(project.root / PROJECT_FILE):
        return None
    shown = os.path.relpath(project.root / PROJECT_FILE)
    shown = str(project.root / PROJECT_FILE) if shown.startswith("..") else shown
    raw = project.read_bytes(PROJECT_FILE)
    text = yamlread.decode(shown, raw)
    digest = hashlib.sha256(raw).hexdigest()
    known = recall("project", digest)
    if isinstance(known, dict):
        return yamlread.reopen(shown, text, known)
    document = yamlread.read(shown, text)
    if document.data is None:  # every line is commented out
        document.data = {}
    problems = schema.check(document, "project")
    if problems:
        raise StoryboardError(problems)
    remember("project", digest, document.data)
    return document


_OBJECTS = re.compile(r"(s3|gs|az)://[^/\s?#@]+(/[^\s?#]*)?")
_MEANT = re.compile(r"(?:(s3|gs|az)(?=[:;]|[/\\]{2})|[a-z][a-z0-9+.-]+:)[:;/\\]*", re.IGNORECASE)
"""How a URL begins, also a mistyped one: as a folder it would be a store that nobody shares, without a word."""


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
