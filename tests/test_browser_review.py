"""The review page in a real browser: both schemes, a phone and a wide screen, the keyboard alone, no request at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser_helpers import WIDTHS, Browsing, browsing, check_usable, needs_browser
from tests.test_review import CHANGED, ten

__all__ = ["ten"]

pytestmark = [pytest.mark.slow, needs_browser]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browsing]:
    with browsing() as started:
        yield started


def test_it_is_usable_in_both_schemes_and_widths_and_asks_for_nothing(ten: Path, browser: Browsing) -> None:
    for width in WIDTHS:
        for dark in (False, True):
            with browser.shown(ten / "pictures/review.html", width=width, dark=dark) as page:
                check_usable(page)
                page.check("input[value=slider]")
                check_usable(page)
                assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
                asked = page.evaluate("performance.getEntriesByType('resource').map(one => one.name)")
                assert [url for url in asked if not url.startswith("data:")] == []


def test_the_keyboard_reaches_every_change_and_moves_the_slider(ten: Path, browser: Browsing) -> None:
    with browser.shown(ten / "pictures/review.html") as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "word"
        page.keyboard.press("Enter")
        page.wait_for_url("**#shot-1")
        assert page.locator("#shot-1").evaluate("card => card.getBoundingClientRect().top < innerHeight")
        page.focus("input[value=side]")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.body.dataset.mode") == "slider"
        assert _shown_from(page) == "inset(0px 0px 0px 50%)"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "slide"
        for _ in range(10):
            page.keyboard.press("ArrowRight")
        assert _shown_from(page) == "inset(0px 0px 0px 60%)"
        page.keyboard.press("End")
        assert _shown_from(page) == "inset(0px 0px 0px 100%)"


def _shown_from(page: Page) -> str:
    """How the later picture of the first pair is cut, so that the earlier one is seen beside it."""
    cut = "getComputedStyle(document.querySelector('.both .halves .half + .half img')).clipPath"
    return str(page.evaluate(cut))


def test_blinking_shows_one_picture_after_the_other_in_one_place(ten: Path, browser: Browsing) -> None:
    with browser.shown(ten / "pictures/review.html") as page:
        page.check("input[value=blink]")
        for side in ("now", "before"):
            page.locator(f"body[data-shown={side}]").wait_for(state="attached")
        before, now = (page.locator(".both .halves .half img").nth(side) for side in (0, 1))
        one, other = before.bounding_box(), now.bounding_box()
        assert one == other
        page.check("input[value=side]")
        one, other = before.bounding_box(), now.bounding_box()
        assert one is not None
        assert other is not None
        assert one["x"] + one["width"] < other["x"]


def test_without_a_script_everything_is_there(ten: Path, browser: Browsing) -> None:
    with browser.shown(ten / "pictures/review.html", java_script_enabled=False) as page:
        names = page.locator("article.shot h2").all_inner_texts()
        assert set(names) >= CHANGED
        assert page.locator("fieldset.modes").is_hidden()
        assert page.locator(".both .halves .half img").first.is_visible()
