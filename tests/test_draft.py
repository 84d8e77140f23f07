"""`film --draft`: what is there of a film, joined: stale shots as they are, cards for missing ones; and it says so."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from PIL import Image

from klingflow.animatic import design
from klingflow.animatic.missing import Card
from klingflow.output import provenance
from tests import clips
from tests.cli import Project
from tests.shared import ran
from tests.test_answers import good

BOARD = """\
klingflow: 1
defaults: {provider: animatic, resolution: 720p, duration: 3}
shots:
  - {id: dawn, prompt: A pier.}
  - {id: dusk, continues: dawn, prompt: A boat.}
"""
CHANGED = BOARD.replace("A boat.", "Two boats.") + "  - {id: night, title: The end, continues: dusk, prompt: Stars.}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A film that was run."""
    return ran(tmp_path_factory, "draft", tmp_path_factory.mktemp("draft") / "project", {"film.yaml": BOARD})


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    shutil.copytree(made.root, tmp_path / "project")
    return Project(tmp_path / "project", made.env)


def pictures(path: Path) -> list[Image.Image]:
    with av.open(str(path)) as film:
        return [frame.to_image() for frame in film.decode(video=0)]


def amber(image: Image.Image) -> bool:
    """Whether the card's frame is there."""
    unit = min(image.size) / 540
    side = image.getpixel((round(21 * unit), image.height // 2))
    return all(abs(a - b) < 30 for a, b in zip(side, design.AMBER, strict=True))


def test_a_draft_shows_what_is_there_and_says_what_is_not(project: Project) -> None:
    film, draft = project.root / "out/film/film.mp4", project.root / "out/film/film.draft.mp4"
    before, lock = film.read_bytes(), (project.root / "film.lock.yaml").read_bytes()
    project.write("film.yaml", CHANGED)
    plain = project.run("film", "film.yaml")
    assert plain.code == 6
    assert "2 shots of the film are not there: dusk (prompt changed), night (" in plain.err
    assert "`klingflow film --draft` joins what is there" in plain.err
    assert not draft.exists()
    joined = project.run("film", "film.yaml", "--draft")
    assert joined.code == 0, joined.said
    assert joined.err.splitlines() == [
        "film: dusk is stale: prompt changed; take 1 of the lock is shown",
        "film: night is missing: not made yet (continues dusk, which will be made); a card stands for it",
        "film: a draft, 214 frames, 8.917 s, 960x540: 3 shots, 1 stale, 1 missing",
        "the draft: out/film/film.draft.mp4",
    ]
    frames = pictures(draft)
    assert [n for n, frame in enumerate(frames) if amber(frame)] == list(range(143, 214))
    record = provenance.read(draft)
    assert record is not None
    assert [(shot.shot, shot.provider, shot.start, shot.end) for shot in record.shots] == [
        ("dawn", "animatic", 0, 72),
        ("dusk", "animatic", 72, 143),
        ("night", "card", 143, 214),
    ]
    assert {shot.date for shot in record.shots} == {""}, "the day on which it was drawn is not in the film's bytes"
    assert (record.shots[1].prompt_sha256, record.shots[2].clip) == (hashlib.sha256(b"A boat.").hexdigest(), "")
    assert film.read_bytes() == before
    assert (project.root / "film.lock.yaml").read_bytes() == lock
    (told,) = good("film-draft", project.run("film", "film.yaml", "--draft", "--json").out)["drafts"]
    assert (told["path"], told["frames"], told["shots"]) == ("out/film/film.draft.mp4", 214, 3)
    assert told["stale"] == [{"shot": "dusk", "take": 1, "reason": "prompt changed"}]
    why = "not made yet (continues dusk, which will be made)"
    assert told["missing"] == [{"shot": "night", "take": None, "reason": why}]
    assert project.run("open", "film.yaml").out == "out/film/film.mp4\n", "a draft is no finished film"
    assert project.run("run", "film.yaml").code == 0
    assert not draft.exists(), "the film itself is there"


def test_a_take_that_is_not_made_is_shown_by_another(project: Project) -> None:
    project.write("film.yaml", BOARD.replace("id: dusk,", "id: dusk, take: 2,"))
    joined = project.run("film", "film.yaml", "--draft")
    assert joined.code == 0, joined.said
    assert "film: dusk is stale: take 2 is not there; take 1 of the lock is shown" in joined.err
    record = provenance.read(project.root / "out/film/film.draft.mp4")
    assert record is not None
    assert [shot.take for shot in record.shots] == [1, 1]


def test_a_clip_that_the_store_lost_is_missing_and_nothing_at_all_is_an_error(project: Project) -> None:
    lock = (project.root / "film.lock.yaml").read_text("utf-8")
    clip = lock.partition("dusk:")[2].partition("clip: ")[2][:64].strip('"')
    (blob,) = (project.root / ".klingflow/store").rglob(f"*{clip[2:]}*")
    blob.unlink()
    joined = project.run("film", "film.yaml", "--draft")
    assert joined.code == 0, joined.said
    assert "film: dusk is missing: its clip is not in this store; a card stands for it" in joined.err
    shutil.rmtree(project.root / ".klingflow")
    nothing = project.run("film", "film.yaml", "--draft")
    assert nothing.code == 6
    assert "no shot has a clip here: there is nothing to make a draft of" in nothing.err
    assert "--provider animatic" in nothing.err


def test_a_draft_of_clips_of_ones_own_needs_no_run(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    project.write(
        "film.yaml",
        """\
klingflow: 1
matrix: {lang: [en, de]}
defaults: {provider: animatic, resolution: 720p}
shots:
  - {id: card, clip: card.mp4}
  - {id: after, prompt: "After. {{ lang }}"}
film: {shots: [{shot: card, in: 4}, {shot: after, out: 10}], rate: 24}
""",
    )
    clips.make(project.root / "card.mp4", frames=12, size=(640, 360))
    joined = project.run("film", "film.yaml", "--draft")
    assert joined.code == 0, joined.said
    assert "film [de]: after is missing: not made yet (new shot); a card stands for it" in joined.err
    frames = pictures(project.root / "out/film/en/film.draft.mp4")
    assert frames[0].size == (1280, 720), "as large as what was ordered"
    assert [clips.number(frame) for frame in frames[:8]] == list(range(4, 12))
    assert list(map(amber, frames)) == [False] * 8 + [True] * 10
    assert not (project.root / "film.lock.yaml").exists()


@pytest.mark.parametrize("size", [(960, 540), (540, 960), (64, 64)])
def test_a_card_is_drawn_in_any_size(size: tuple[int, int]) -> None:
    def card(**fields: str) -> Card:
        return Card(**{"number": "Shot 4", "shot": "dusk", "title": "", "length": "5 s", "why": "new", **fields})

    plain = card().draw(size)
    assert plain.size == size
    changes: list[Callable[[], Card]] = [
        lambda: card(number="Shot 5"),
        lambda: card(shot="dawn"),
        lambda: card(title="Late " * 99),
        lambda: card(length="9 s"),
        lambda: card(why="lost\x1b[31m"),
    ]
    assert all(change().draw(size) != plain for change in changes)
