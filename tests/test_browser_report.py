"""The report in a real browser: both schemes, phone and desk, the keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from klingflow.output import report
from klingflow.planning.plan import Action
from tests.browser_helpers import WIDTHS, Browsing, browsing, check_usable, needs_browser
from tests.shared import ran
from tests.test_report import known, measured, plan, step

pytestmark = [pytest.mark.slow, needs_browser]

BOARD = """\
klingflow: 1
title: "The keeper — الفنار — 灯台"
defaults: {provider: animatic, resolution: 720p, duration: 3}
shots:
  - {id: dawn, title: First light, takes: 2, prompt: A pier before sunrise.}
  - {id: noon, title: "ظهر", continues: dawn, prompt: "Noon comes. ظهيرة حارة على الميناء"}
  - {id: dusk, prompt: A boat comes home.}
  - {id: night, continues: dusk, prompt: The lamp is lit.}
  - {id: spare, prompt: Not in the film.}
film: {shots: [dawn, noon, dusk, {shot: night, in: 12}]}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browsing]:
    with browsing() as one:
        yield one


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {"film.yaml": BOARD}
    project = ran(tmp_path_factory, "browsed", tmp_path_factory.mktemp("browsed") / "project", files, "film.yaml")
    return project.root / "out/film/report.html"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of everything that can be wrong, without any media."""
    steps = plan(step("dawn"), step("noon"), step("dusk", Action.RESOLVE, reason="asked " * 60, seconds=0))
    said = {"message": "m" * 300, "next": "klingflow resolve"}
    order = report.Order(shot="dusk", take=1, state="in doubt", price=None, needs_person=True, **said)
    seen = report.view(known(plan=steps, takes={}, files={}, orders=(order,), rehearsal=True))
    file = tmp_path_factory.mktemp("broken") / "report.html"
    file.write_text(report.html(seen), "utf-8")
    return file


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with verdicts on its seams, without any media."""
    file = tmp_path_factory.mktemp("judged") / "report.html"
    file.write_text(report.html(report.view(known(files={}, verdict=measured((1, 31.0))))), "utf-8")
    return file


def until(page: Page, what: str) -> None:
    """Waits until something is true in the page. (Playwright's own waiting is refused by the page's policy.)"""
    page.evaluate(f"async () => {{ while (!({what})) await new Promise(requestAnimationFrame) }}")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("which", ["page", "broken", "judged"])
def test_everybody_can_use_it_closed_and_open(
    browser: Browsing, request: pytest.FixtureRequest, which: str, width: int, dark: bool
) -> None:
    with browser.shown(request.getfixturevalue(which), width=width, dark=dark) as shown:
        check_usable(shown)
        shown.locator(".strip button").nth(1).click()
        check_usable(shown)


def test_the_keyboard_alone_goes_through_the_film(browser: Browsing, page: Path) -> None:
    with browser.shown(page) as shown:
        focused = "document.activeElement.dataset.open"
        opened = "document.querySelector('dialog[open]')?.dataset.shot ?? ''"
        shown.keyboard.press("ArrowRight")
        assert shown.evaluate(focused) == "dawn"
        shown.keyboard.press("ArrowRight")
        assert shown.evaluate(focused) == "noon"
        shown.keyboard.press("Enter")
        assert shown.evaluate(opened) == "noon"
        assert shown.evaluate("location.hash") == "#noon"
        shown.keyboard.press("ArrowRight")
        assert shown.evaluate(opened) == "dusk"
        shown.keyboard.press("ArrowLeft")
        shown.keyboard.press("ArrowLeft")
        shown.keyboard.press("ArrowLeft")
        assert shown.evaluate(opened) == "dawn"
        shown.keyboard.press("Escape")
        assert shown.evaluate(opened) == ""
        until(shown, f"{focused} === 'dawn'")


def test_an_open_shot_plays_and_a_closed_one_is_quiet(browser: Browsing, page: Path) -> None:
    with browser.shown(page) as shown:
        shown.locator("[data-open=noon]").first.click()
        video = "document.querySelector('#shot-noon .look > video')"
        shown.keyboard.press(" ")
        until(shown, f"{video}.currentTime > 0 && {video}.videoWidth > 0")
        shown.keyboard.press("Escape")
        until(shown, f"{video}.paused")


def test_nothing_is_loaded_before_it_is_asked_for(browser: Browsing, page: Path) -> None:
    with browser.shown(page) as shown:
        shown.wait_for_load_state("networkidle")
        idle = "[...document.querySelectorAll('video')].every(one => one.readyState === 0 && !one.buffered.length)"
        assert shown.evaluate(idle)


def test_an_address_opens_a_shot_and_a_seam_of_a_shot_leads_back(browser: Browsing, judged: Path) -> None:
    with browser.shown(judged.as_uri() + "#noon") as shown:
        assert shown.evaluate("document.querySelector('dialog[open]').dataset.shot") == "noon"
        shown.locator("#shot-noon .near a").first.click()
        until(shown, "location.hash === '#seam-1' && document.activeElement.id === 'seam-1'")
        assert shown.evaluate("document.querySelector('dialog[open]')") is None


def test_every_picture_that_is_named_is_shown(browser: Browsing, page: Path) -> None:
    with browser.shown(page) as shown:
        shown.evaluate("document.querySelectorAll('img').forEach(one => one.loading = 'eager')")
        shown.wait_for_load_state("networkidle")
        assert shown.evaluate("[...document.querySelectorAll('.strip img, .seams img')].every(one => one.naturalWidth)")


def test_it_prints_every_shot(browser: Browsing, page: Path) -> None:
    with browser.shown(page) as shown:
        shown.emulate_media(media="print")
        assert shown.locator("dialog.open").nth(2).is_visible()
        assert not shown.locator(".screen").is_visible()
