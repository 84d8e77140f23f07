"""The contact sheet: every shot on paper, and the same bytes every time."""

from __future__ import annotations

import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from klingflow.output import report, sheet
from klingflow.planning.plan import Action
from tests.cli import Project
from tests.shared import ran
from tests.test_report import BOARD, film, known, many, plan, step

GREEN = (20, 160, 60)


def green(_: str) -> Image.Image:
    return Image.new("RGB", (640, 360), GREEN)


def picture(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data)).convert("RGB")


def drawn(seen: report.View, find: sheet.Picture = green) -> Image.Image:
    data = sheet.png([(seen, find)])
    assert data is not None
    return picture(data)


def share(image: Image.Image, colour: tuple[int, int, int]) -> float:
    """How much of a picture has that colour."""
    return sum(n for n, value in image.getcolors(1 << 24) or [] if value == colour) / (image.width * image.height)


def test_twelve_shots_have_both_their_frames_on_one_page() -> None:
    image = drawn(report.view(many(12)))
    assert image.size == sheet.PAGE
    assert share(image, GREEN) == pytest.approx(24 * 361 * 203 / (2480 * 1754))
    pages = sheet.pdf([(report.view(many(12)), green)])
    assert len(re.findall(rb"/Type /Page\b", pages)) == 1


def test_more_shots_take_more_pages_or_a_higher_picture_and_at_last_a_pdf() -> None:
    thirteen = report.view(many(13))
    assert len(re.findall(rb"/Type /Page\b", sheet.pdf([(thirteen, green)]))) == 2
    assert drawn(thirteen).height > sheet.PAGE[1]
    assert sheet.png([(report.view(many(200)), green)]) is None


def test_the_same_film_is_the_same_bytes() -> None:
    seen = report.view(known())
    assert sheet.pdf([(seen, green)]) == sheet.pdf([(seen, green)])
    assert sheet.png([(seen, green)]) == sheet.png([(seen, green)])
    assert b"D:20261127000000Z" in sheet.pdf([(seen, green)])  # the day of the clips, not of the sheet


def test_what_looks_like_a_secret_is_not_drawn() -> None:
    def written(secret: str) -> bytes:
        shots = [replace(one, title=secret, prompt=f"Waves {secret}") for one in film().shots]
        return sheet.pdf([(report.view(known(film=replace(film(*shots), title=secret))), green)])

    assert written("whsec_0123456789") == written("whsec_9876543210")
    assert written("waves") != written("foam")


def test_a_shot_without_a_clip_is_on_the_sheet_and_says_so() -> None:
    one = plan(step("dawn"), step("noon", Action.MAKE), step("dusk"))
    whole, lacking = drawn(report.view(known())), drawn(report.view(known(plan=one, takes={})))
    assert share(whole, GREEN) * 4 / 6 == pytest.approx(share(lacking, GREEN))
    unreadable = drawn(report.view(known()), lambda _: None)
    assert share(unreadable, GREEN) == 0


def test_a_picture_that_is_not_there_is_not_taken_for_a_clip_that_is_not_made() -> None:
    noon = (90 + 748 + 56, 200, 90 + 748 + 56 + 371, 200 + 203)  # its first frame
    elsewhere = drawn(report.view(known(files={}))).crop(noon)
    new = plan(step("dawn"), step("noon", Action.MAKE), step("dusk"))
    not_made = drawn(report.view(known(plan=new, takes={}))).crop(noon)
    assert share(elsewhere, GREEN) == share(not_made, GREEN) == 0
    assert elsewhere.tobytes() != not_made.tobytes()


def test_titles_of_every_script_and_length_change_nothing_else() -> None:
    base = known()
    for title in ("الفنار القديم", "灯台守の最後の冬", "W" * 900, "a\tb\n\x1b[31mc", ""):
        shots = tuple(replace(one, title=title, prompt=title * 3) for one in base.film.shots)
        image = drawn(report.view(replace(base, film=replace(base.film, title=title, shots=shots))))
        assert share(image, GREEN) == pytest.approx(share(drawn(report.view(base)), GREEN))


def test_tall_clips_are_tall_on_the_sheet() -> None:
    steps = [step(name) for name in ("dawn", "noon", "dusk")]
    tall = [
        replace(one, record=replace(one.record, facts=replace(one.record.facts, width=720, height=1280)))
        for one in steps
        if one.record is not None
    ]
    image = drawn(report.view(known(plan=plan(*tall))), lambda _: Image.new("RGB", (360, 640), GREEN))
    row = image.crop((0, 0, image.width, 400))
    assert share(row, GREEN) > 0.2  # where they lay in wide frames it would be 0.1


@pytest.fixture
def filmed(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Project:
    return ran(tmp_path_factory, "report", tmp_path / "project", {"film.yaml": BOARD})


def test_the_command_writes_it_with_every_film_and_refuses_what_is_no_sheet(filmed: Project) -> None:
    ended = filmed.run("report", "--sheet", "sheet.pdf")
    assert (ended.code, re.sub(r"\d+", "N", ended.out)) == (0, "sheet.pdf (N KB)\n"), ended.said
    assert len(re.findall(rb"/Type /Page\b", (filmed.root / "sheet.pdf").read_bytes())) == 2
    assert filmed.run("report", "--sheet", "sheet.png").code == 0
    assert picture((filmed.root / "sheet.png").read_bytes()).size == (sheet.PAGE[0], 2 * sheet.PAGE[1])
    wrong = filmed.run("report", "--sheet", "sheet.gif")
    assert (wrong.code, "a PDF or a PNG" in wrong.err) == (2, True)
    wrong = filmed.run("report", "--sheet", "no/such/folder.pdf")
    assert (wrong.code, "cannot be written" in wrong.err, "Traceback" in wrong.err) == (2, True, False)
