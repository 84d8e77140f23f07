"""Pages of HTML: one file each, that opens from a disk, asks for nothing but the media beside it, and runs no script
but its own.

A page NAME is templates/NAME.html.j2, which extends base.html.j2; templates/NAME.css and templates/NAME.js, where they
are there, are written into it after base.css and base.js. Everything a template shows is redacted and escaped, but what
is Markup already: so an address is passed on as that, since what looks like a secret in a data: URI is none. The policy
in the page (Content-Security-Policy) allows the page's own style and script by their SHA-256, and media from where the
page is; so a template has no `style=` and no `onclick=`: what differs from element to element is a class, an attribute
of SVG, or set by the page's script.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from klingflow.core.redact import redact

_TEMPLATES = Path(__file__).with_name("templates")


def render(name: str, *, title: str, connect: bool = False, **data: object) -> str:
    """The page as text. `data` are the values of its template; `connect` lets its script ask the server that sent it,
    which a page in a file never does."""
    style, script = _joined(name, "css"), _joined(name, "js")
    template = _environment().get_template(f"{name}.html.j2")
    return template.render(
        title=title,
        policy=policy(style, script, connect=connect),
        style=Markup(style),
        script=Markup(script),
        **data,
    )


def policy(style: str, script: str, *, connect: bool = False) -> str:
    """The Content-Security-Policy of a page with that style and that script. `file:` is where a page lies that was
    opened from a disk: browsers do not all call that 'self'."""
    near = "'self' file: data:"
    return "; ".join(
        [
            "default-src 'none'",
            f"img-src {near}",
            f"media-src {near}",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            *(["connect-src 'self'"] if connect else []),
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _joined(name: str, kind: str) -> str:
    files = [_TEMPLATES / f"{part}.{kind}" for part in ("base", name)]
    return "\n".join(file.read_text("utf-8") for file in files if file.exists())


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_redacted,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _redacted(value: object) -> object:
    return redact(value) if isinstance(value, str) and not isinstance(value, Markup) else value
