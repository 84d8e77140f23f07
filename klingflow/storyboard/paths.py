"""Where a file that a storyboard names lies: its path relative to the project root, by its text alone.

Whether it is there, and whether a symbolic link leads out, is checked by `io.project`.
"""

from __future__ import annotations

import re

from klingflow.core.alike import odd
from klingflow.core.errors import UsageError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_URL = re.compile(r"https://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?([/?#][^\s\\]*)?")


def under_root(text: str, folder: str) -> str:
    """The path of a file from the project root, "frames/dawn.png" written in folder "pipelines/h" being
    "pipelines/h/frames/dawn.png". Raises UsageError for whatever is not a path inside the project."""
    if not text.isprintable():
        found = f": {odd(text)}" if odd(text) else ""
        raise UsageError(f"the path holds a character that cannot be seen{found}", "write the path in plain letters")
    if not text:
        raise UsageError("the path is empty", "name a file beside the storyboard")
    if "\\" in text:
        raise UsageError(f"'{text}' holds a backslash", "write folders with /, on every system")
    if text[0] in "/~" or _SCHEME.match(text):
        if text.lower().startswith(("http:", "https:", "file:", "data:")):
            scheme = text.partition(":")[0]
            raise UsageError(f"a file is needed here, not a {scheme}: address", "name a file inside the project")
        raise UsageError(f"'{text}' is not a path inside the project", "name a file relative to the storyboard")
    parts = folder.split("/") if folder else []
    for part in text.split("/"):
        if part == "..":
            if not parts:
                raise UsageError(f"'{text}' leaves the project", "keep every file inside the project")
            parts.pop()
        elif part and part != ".":
            parts.append(part)
    if not parts or text.endswith(("/", "/.", "/..")) or text in (".", ".."):
        raise UsageError(f"'{text}' names a folder", "name a file")
    return "/".join(parts)


def is_url(text: str) -> bool:
    return "://" in text and text[:7].lower() != "file://"


def host(url: str) -> str:
    """The host of a URL that https_url found good, an IPv6 address in its brackets."""
    found = _URL.fullmatch(url)
    assert found is not None
    return found[1]


def https_url(text: str) -> str:
    """The URL as it is. Raises UsageError for whatever is not a plain https URL."""
    if text.lower().startswith("http://"):
        raise UsageError("only https is fetched, not http", "write https://, or keep the image in the project")
    if not text.startswith("https://"):
        scheme = text.partition(":")[0]
        raise UsageError(f"only https is fetched, not '{scheme}'", "write https://, or keep the image in the project")
    if not text.isprintable() or not _URL.fullmatch(text):
        mend = "no user name, no password and no spaces: https://host/path"
        raise UsageError("this is not a plain https URL", mend)
    return text
