"""The page of `klingflow takes --open` in a real browser, by keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import klingflow
from klingflow import Storyboard
from klingflow.web import takes_page
from tests.browser_helpers import WIDTHS, Browsing, browsing, check_usable, needs_browser
from tests.choosing_helpers import read
from tests.page_helpers import served
from tests.shared import ran
from tests.standins import movie

pytestmark = [pytest.mark.slow, needs_browser]

BOARD = """\
klingflow: 1
defaults: {resolution: 720p, duration: 3}
shots:
  - id: dawn  # <b>the opening</b>
    title: Dawn <b>over</b> the harbour
    prompt: Waves roll in. <script>alert(1)</script>
    takes: 3
  - {id: keeper, continues: dawn, prompt: A door opens}
  - {id: storm, prompt: Dark clouds, takes: 2}
"""
STILLS = BOARD.replace("Dark clouds", 'Dark clouds, first_frame: {stills: [a.png, "b <i>.png"]}')


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browsing]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def board(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Storyboard:
    ran(tmp_path_factory, "takes-page", tmp_path / "project", {"film.yaml": BOARD})
    return klingflow.open(tmp_path / "project" / "film.yaml", environ={})


@contextmanager
def shown(chromium: Browsing, board: Storyboard, *, width: int = 1440, dark: bool = False) -> Iterator[Page]:
    with served(takes_page.serving(board)) as page, chromium.shown(page.opening, width=width, dark=dark) as tab:
        expect(tab.locator("video")).to_have_count(3)
        until(tab, "[...document.querySelectorAll('video')].every((video) => video.readyState > 2)")
        yield tab


def until(tab: Page, script: str) -> None:
    """Waits for a value of the page. (Playwright's own way to wait for one is refused by the page's policy.)"""
    for _ in range(600):
        if tab.evaluate(script):
            return
        tab.wait_for_timeout(50)
    raise AssertionError(f"never: {script}")


def times(tab: Page) -> list[float]:
    found: list[float] = tab.evaluate("[...document.querySelectorAll('video')].map((video) => video.currentTime)")
    return found


def test_a_take_is_chosen_by_keyboard_alone(chromium: Browsing, board: Storyboard) -> None:
    with shown(chromium, board) as tab:
        expect(tab.locator("#shot")).to_have_text("dawn: Dawn <b>over</b> the harbour")
        expect(tab.locator(".take h3").first).to_contain_text("counts")
        tab.keyboard.press("3")
        expect(tab.locator("#follows")).to_contain_text("keeper")
        expect(tab.locator("#confirm")).to_have_text("Choose take 3")
        tab.keyboard.press("n")
        tab.keyboard.type("the boat: it turns, 2 k")
        tab.keyboard.press("Enter")
        expect(tab.locator("#said")).to_contain_text("Take 3 of dawn counts now: film.yaml says so")
        expect(tab.locator(".take h3").nth(2)).to_contain_text("chosen")
        expect(tab.locator("#now")).to_contain_text("“the boat: it turns, 2 k”")
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("ArrowDown")
        expect(tab.locator("#shot")).to_have_text("storm")
        expect(tab.locator("video")).to_have_count(2)
        tab.keyboard.press("2")
        expect(tab.locator("#follows")).to_contain_text("Nothing has to be made because of it.")
        tab.keyboard.press("Enter")
        expect(tab.locator("#said")).to_contain_text("Take 2 of storm counts now")
    chosen = BOARD.replace("    takes: 3\n", "    takes: 3\n    take: 3\n").replace("takes: 2}", "takes: 2, take: 2}")
    assert Path(board.path).read_text("utf-8") == chosen
    pick = read(board).pick("", "dawn")
    assert pick is not None
    assert (pick.take, pick.why) == (3, "the boat: it turns, 2 k")


def test_all_takes_play_on_one_clock(chromium: Browsing, board: Storyboard) -> None:
    with shown(chromium, board) as tab:
        for _ in range(7):
            tab.keyboard.press(".")
        expect(tab.locator("#clock")).to_have_text("0.29 s, frame 7")
        tab.keyboard.press(",")
        until(tab, "[...document.querySelectorAll('video')].every((video) => !video.seeking)")
        assert {int(time * 24) for time in times(tab)} == {6}
        tab.keyboard.press("Space")
        expect(tab.locator("#play")).to_have_text("Pause")
        until(tab, "document.getElementById('scrub').value > 20")
        tab.keyboard.press("k")
        expect(tab.locator("#play")).to_have_text("Play")
        assert max(times(tab)) - min(times(tab)) < 0.12, times(tab)
        tab.keyboard.press("End")
        expect(tab.locator("#clock")).to_have_text("2.96 s, frame 71")
        tab.keyboard.press("j")
        until(tab, "document.getElementById('scrub').value < 60")
        tab.keyboard.press("Space")
        tab.keyboard.press("End")
        tab.keyboard.press("l")  # from the end it begins again, and goes round
        until(tab, "document.getElementById('scrub').value > 3 && document.getElementById('scrub').value < 40")
        tab.keyboard.press("k")


def test_it_shows_what_others_change_and_asks_again(chromium: Browsing, board: Storyboard) -> None:
    with shown(chromium, board) as tab:
        tab.keyboard.press("2")
        expect(tab.locator("#confirm")).to_be_enabled()
        klingflow.open(board.path, environ={}).choose("dawn", 3)
        expect(tab.locator(".take h3").nth(2)).to_contain_text("counts", timeout=15000)
        expect(tab.locator("#now")).to_have_text("Take 3 counts now.")
        assert tab.locator(".take.looked").get_attribute("data-take") == "2", "what one looks at stays"
        text = Path(board.path).read_text("utf-8")
        Path(board.path).write_text(text.replace("takes: 2", "takess: 2"), "utf-8")
        expect(tab.locator("#fault")).to_contain_text("has no field 'takess'", timeout=15000)
        Path(board.path).write_text(text, "utf-8")
        expect(tab.locator("#live")).to_have_text("up to date", timeout=15000)
        tab.keyboard.press("Enter")
        expect(tab.locator("#said")).to_contain_text("Take 2 of dawn counts now")


def test_a_still_is_chosen_by_keyboard_alone(chromium: Browsing, board: Storyboard) -> None:
    folder = Path(board.path).parent
    for number, name in enumerate(("a.png", "b <i>.png")):
        (folder / name).write_bytes(movie.still(number))
    Path(board.path).write_text(STILLS, "utf-8")
    with served(takes_page.serving(board)) as page, chromium.shown(page.opening, width=390) as tab:
        expect(tab.locator("#shot")).to_have_text("storm, first frame")
        expect(tab.locator("#transport")).to_be_hidden()
        until(tab, "[...document.querySelectorAll('.take img')].filter((image) => image.naturalWidth).length === 2")
        tab.keyboard.press("2")
        expect(tab.locator("#now")).to_have_text("No still is chosen yet.")
        expect(tab.locator("#confirm")).to_be_enabled()
        check_usable(tab)
        tab.keyboard.press("Enter")
        expect(tab.locator("#said")).to_contain_text("Still 2 of storm, first frame counts now: film.yaml says so")
        expect(tab.locator(".take h3").nth(1)).to_contain_text("chosen")
    assert Path(board.path).read_text("utf-8") == STILLS.replace('<i>.png"]}', '<i>.png"], take: 2}')


@pytest.mark.parametrize("width", WIDTHS)
def test_everybody_can_use_it(chromium: Browsing, board: Storyboard, width: int) -> None:
    for dark in (False, True):
        with shown(chromium, board, width=width, dark=dark) as tab:
            tab.keyboard.press("2")
            expect(tab.locator("#follows table")).to_be_visible()
            tab.locator("summary").click()
            check_usable(tab)
            columns = tab.evaluate(
                "new Set([...document.querySelectorAll('.take')].map((one) => one.getBoundingClientRect().left)).size"
            )
            assert columns == (3 if width > 1000 else 2), "takes are side by side"
