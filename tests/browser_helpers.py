"""A real browser for pages: Debian's chromium, driven by Playwright, and axe-core for what everybody can use.

    @needs_browser
    def test_it(tmp_path):
        with browsing() as browser, browser.shown(tmp_path / "report.html", width=390, dark=True) as page:
            page.keyboard.press("Tab")
            check_usable(page)

A page that writes an error to the console, throws, or asks for anything but its own folder, `data:` and loopback makes
`shown` raise at its end.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.tools import wanted

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
AXE = Path(__file__).with_name("browser") / "node_modules/axe-core/axe.min.js"
WIDTHS = (390, 1440)
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

needs_browser = pytest.mark.skipif(
    not wanted() and not (CHROMIUM and AXE.is_file()),
    reason="needs chromium (apt-get install chromium) and: npm install --prefix tests/browser --no-package-lock",
)


class Browsing:
    """A browser that was started."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    @contextmanager
    def shown(
        self, where: Path | str, *, width: int = 1440, height: int = 900, dark: bool = False, **context: Any
    ) -> Iterator[Page]:
        """A page of a file or a loopback URL in a window of its own. Raises AssertionError at the end for what it wrote
        to the console as an error, and for each request that left its folder or this machine."""
        url = where.absolute().as_uri() if isinstance(where, Path) else where
        scheme = "dark" if dark else "light"
        with self._browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, **context
        ) as window:
            page = window.new_page()
            faults: list[str] = []
            page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("request", lambda request: None if _near(request.url, url) else faults.append(request.url))
            page.goto(url)
            yield page
            assert not faults, faults


@contextmanager
def browsing() -> Iterator[Browsing]:
    """Starts the browser; a module's tests share one (it takes a second)."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        try:
            yield Browsing(browser)
        finally:
            browser.close()


def _near(asked: str, page: str) -> bool:
    """Whether a request stays in the page's folder, or on the server that the page came from."""
    to, own = urlsplit(asked), urlsplit(page)
    if to.scheme in ("data", "blob"):
        return True
    if own.scheme == "file":
        folder = Path(unquote(own.path)).parent
        return to.scheme == "file" and Path(unquote(to.path)).is_relative_to(folder)
    return (to.scheme, to.netloc) == (own.scheme, own.netloc)


def check_usable(page: Page) -> None:
    """Raises AssertionError for what axe-core finds (WCAG 2.2 A and AA, and best practices), and where the page is
    wider than its window."""
    page.evaluate(AXE.read_text("utf-8"))
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    found_here = [(v["id"], v["help"], [node["html"][:200] for node in v["nodes"][:4]]) for v in found["violations"]]
    assert not found_here, found_here
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"the page is {wide} pixels wider than its window"
