"""What every page inherits, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from klingflow.output import page
from tests.browser_helpers import WIDTHS, browsing, check_usable, needs_browser

pytestmark = [pytest.mark.slow, needs_browser]


def test_the_frame_of_every_page_is_usable_in_both_schemes_and_widths(tmp_path: Path) -> None:
    file = tmp_path / "base.html"
    file.write_text(page.render("base", title="Harbour Dawn"), "utf-8")
    with browsing() as browser:
        for width in WIDTHS:
            for dark in (False, True):
                with browser.shown(file, width=width, dark=dark) as shown:
                    check_usable(shown)
                    shown.keyboard.press("Tab")
                    assert shown.evaluate("document.activeElement.className") == "skip"


def test_a_request_that_leaves_the_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "bad.html"
    file.write_text('<!doctype html><title>x</title><img alt="" src="../away.png">', "utf-8")
    with browsing() as browser, pytest.raises(AssertionError, match=r"away\.png"), browser.shown(file):
        pass


def test_an_error_of_a_script_is_found(tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text("<!doctype html><title>x</title><script>missing()</script>", "utf-8")
    with browsing() as browser, pytest.raises(AssertionError, match="missing"), browser.shown(file):
        pass
