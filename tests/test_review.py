"""What a reviewer of a change is shown: every difference with its pictures, and nothing where nothing differs."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

import klingflow
from klingflow import Planned, UsageError
from klingflow.app.review import Pictures
from klingflow.core.digest import of_bytes
from klingflow.io.store import FolderStore
from klingflow.output import review, review_pictures
from klingflow.output.review import Pair, Picture
from klingflow.storyboard import lock
from klingflow.storyboard.lock import Lock, Pick
from tests import clips
from tests.cli import Project
from tests.shared import once
from tests.store_helpers import fake_s3
from tests.test_lock import entry, reread
from tests.test_places import ENV

BEFORE = """\
klingflow: 1
title: Ten
defaults: {provider: hiapi, resolution: 720p, duration: 5}
shots:
  - {id: word, prompt: A red boat drifts by the pier.}
  - {id: longer, prompt: A lamp.}
  - {id: larger, prompt: A gull.}
  - {id: retaken, prompt: A rope.}
  - {id: pixels, first_frame: frames/pier.png, prompt: The pier.}
  - {id: gone, prompt: A crab.}
  - {id: old, prompt: A net.}
  - {id: tagged, prompt: A buoy., tags: [day]}
  - {id: own, clip: footage/insert.mp4}
  - {id: alone, prompt: A mast.}
  - {id: mover, prompt: A sail.}
  - {id: gated, prompt: A bell.}
  - {id: held, prompt: A cork.}
  - {id: still-there, prompt: A hull.}
  - {id: also-there, prompt: A keel.}
film:
  audio: score.wav
  shots: [word, longer, larger, retaken, pixels, gone, old, tagged, own, alone, mover, gated, held,
    still-there, also-there]
"""
AFTER = (
    BEFORE.replace("A red boat", "A blue boat")
    .replace("A lamp.", "A lamp., duration: 8")
    .replace("A gull.", "A gull., resolution: 1080p")
    .replace("A rope.", "A rope., take: 2")
    .replace("  - {id: gone, prompt: A crab.}\n", "")
    .replace("gone, ", "")
    .replace("id: old", "id: renamed")
    .replace("old, ", "renamed, ")
    .replace("[day]", "[night]")
    .replace("A bell.", "A bell., gate: approved")
    .replace("A cork.", "A cork., hold: true")
    .replace("alone, mover", "mover, alone")
)
CHANGED = {"word", "longer", "larger", "retaken", "pixels", "gone", "renamed", "tagged", "own", "gated", "held"}


def png(size: tuple[int, int] = (640, 360), spot: tuple[int, int] | None = None) -> bytes:
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    if spot is not None:
        for x in range(3):
            picture.putpixel((spot[0] + x, spot[1]), (255, 90, 40))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, env=ENV, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def committed(project: Project) -> None:
    git(project.root, "init", "-q", "-b", "main")
    project.write(".gitignore", ".klingflow/\n")
    git(project.root, "add", "-A")
    git(project.root, "commit", "-q", "-m", "base")
    git(project.root, "switch", "-q", "-c", "change")


def clip(seed: int, folder: Path) -> bytes:
    return clips.make(folder / f"{seed}.mp4", frames=6, first=seed, size=(160, 90), sound=None).read_bytes()


def planned(project: Project, path: str = "film.yaml", **options: str) -> Planned:
    return klingflow.open(project.root / path, environ={"HOME": str(project.root)}).plan(against="main", **options)


def pictured(project: Project, to: Path, path: str = "film.yaml", **options: str) -> tuple[Pictures, str]:
    """What was written, and the page."""
    found = planned(project, path, **options).pictures(to)
    return found, found.page.read_text("utf-8") if found.page else ""


def buy(project: Project, clip_of: dict[str, bytes]) -> None:
    """Puts a clip for each of those shots into the store and the lock, as a run would."""
    plan = klingflow.open(project.root / "film.yaml", environ={"HOME": str(project.root)}).plan().plan
    store = FolderStore(project.root / ".klingflow/store")
    entries = {}
    for step in plan.films[0].steps:
        if step.shot in clip_of and step.key is not None:
            file = project.write("bought.mp4", clip_of[step.shot])
            entries[step.shot] = {step.take: entry("a", key=step.key, clip=store.put(file), inputs={}, parts={})}
            file.unlink()
    project.write("film.lock.yaml", lock.dump(Lock({"": entries})))


def make_ten(folder: Path) -> None:
    project = Project(folder / "project", {})
    scratch = folder
    project.write("film.yaml", BEFORE)
    project.write("frames/pier.png", png())
    project.write("footage/insert.mp4", clip(40, scratch))
    project.write("score.wav", b"RIFF before")
    wav = scratch / "a.wav"
    for name, level in (("score.wav", 1), ("other.wav", 2)):
        wav.write_bytes(_wav(level))
        project.write(name, wav.read_bytes())
    buy(project, {shot: clip(n, scratch) for n, shot in enumerate(("word", "gone", "mover", "held"), 1)})
    committed(project)
    project.write("film.yaml", AFTER)
    project.write("frames/pier.png", png(spot=(100, 40)))
    project.write("footage/insert.mp4", clip(41, scratch))
    project.write("score.wav", (project.root / "other.wav").read_bytes())
    pictured(project, folder / "pictures")


def _wav(level: int) -> bytes:
    import wave

    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes([level, 0]) * 4000)
    return out.getvalue()


@pytest.fixture(scope="session")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `project`, in which ten things and more were changed since main, and their `pictures`."""
    return once(tmp_path_factory, "ten-changes", make_ten)


@pytest.fixture
def film(tmp_path: Path) -> Project:
    """Two shots of stills, in git."""
    project = Project(tmp_path / "project", {})
    project.write("frames/a.png", png())
    project.write(
        "film.yaml",
        "klingflow: 1\ndefaults: {provider: hiapi}\nshots:\n"
        "  - {id: one, first_frame: frames/a.png, prompt: A pier.}\n  - {id: two, continues: one, prompt: A boat.}\n",
    )
    committed(project)
    return project


def cards(page: str) -> dict[str, str]:
    """The text of each shot's card, by its name."""
    out = {}
    for card in re.findall(r'<article class="card shot".*?</article>', page, re.S):
        [name] = re.findall(r'<h2 id="shot-\d+-name">([^<]*)', card)
        out[name.strip()] = text(card)
    return out


def text(markup: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def summary(page: str) -> dict[str, str]:
    rows = re.findall(r"<tr>\s*<th scope=\"row\"><a .*?</tr>", page, re.S)
    return {re.findall(r">([^<]*)</a>", row)[0]: text(row) for row in rows}


def test_all_of_the_planted_differences_are_on_the_page(ten: Path) -> None:
    page = (ten / "pictures/review.html").read_text("utf-8")
    rows, shown = summary(page), cards(page)
    for shot, said in {
        "word": "prompt: red → blue",
        "longer": "duration: 5 s → 8 s",
        "larger": "resolution: 720p → 1080p",
        "retaken": "take: 1 → 2",
        "pixels": "first_frame: frames/pier.png is another file (3 pixels differ)",
        "gone": "removed",
        "renamed": "renamed from old",
        "tagged": "tags: day → night",
        "own": "clip: footage/insert.mp4 is another file",
        "gated": "gate: none → approved",
        "held": "hold: off → on",
    }.items():
        assert said in rows[shot], rows
        assert shot in shown
    assert "moved from place" in rows.get("mover", "") + rows.get("alone", "")
    assert "unchanged" not in " ".join([*rows.values(), *shown.values()])
    film_itself = text(re.findall(r'<section class="card film".*?</section>', page, re.S)[0])
    assert "audio (buys nothing) score.wav" in film_itself
    assert "alone → mover" in film_itself
    assert "mover → alone" in film_itself


def test_what_did_not_change_is_one_line_and_has_no_picture(ten: Path) -> None:
    page = (ten / "pictures/review.html").read_text("utf-8")
    shown = cards(page).keys()
    assert shown >= CHANGED
    assert shown - CHANGED in ({"mover"}, {"alone"}), "of two neighbours that changed places, one moved"
    [unchanged] = re.findall(r'<details class="unchanged">.*?</details>', page, re.S)
    assert text(unchanged).startswith("3 shots are as before")
    assert "still-there" in text(unchanged)
    assert not [file.name for file in (ten / "pictures").iterdir() if file.name.startswith(("still-there", "also"))]


def test_the_pictures_are_those_of_the_clips_and_stills(ten: Path) -> None:
    folder = ten / "pictures"

    def number(name: str) -> int | None:
        with Image.open(folder / name) as picture:
            return clips.number(picture)

    assert number("word.first-frame.before.jpg") == 1
    assert number("word.last-frame.before.jpg") == 6, "six frames from 1 on"
    assert number("gone.first-frame.before.jpg") == 2
    assert not (folder / "gone.first-frame.now.jpg").exists()
    assert number("own.first-frame.before.jpg") == 40, "read out of git"
    assert number("own.first-frame.now.jpg") == 41
    with Image.open(folder / "pixels.still-first_frame.difference.jpg") as marked:
        red, green, blue = marked.convert("RGB").getpixel((101, 40))  # type: ignore[misc]
        assert red > 180 > 120 > green, (red, green, blue)
    with Image.open(folder / "strip.jpg") as strip:
        assert strip.width > 1000


def test_a_shot_that_is_not_made_says_so_in_the_place_of_its_picture(ten: Path) -> None:
    shown = cards((ten / "pictures/review.html").read_text("utf-8"))
    assert "Now: not made yet" in shown["word"]
    assert "make, $0.42" in shown["word"]
    assert "not made yet; here is its still frames/pier.png" not in shown["word"]
    assert "a clip of it: $0.42 → $0.67" in shown["longer"]


def test_joins_whose_neighbours_changed_are_named(ten: Path) -> None:
    page = (ten / "pictures/review.html").read_text("utf-8")
    [joins] = re.findall(r'<section aria-labelledby="joins">.*?</section>', page, re.S)
    said = text(joins)
    assert "word → longer" in said
    assert re.search(r"pixels → renamed .*?these two were not neighbours", said), "what was between them is gone"
    assert re.search(r"word → longer .*?word gets another clip; longer gets another clip", said)
    assert "still-there → also-there" not in said
    assert "mover → alone" in said


def test_the_page_is_one_file_that_asks_for_nothing(ten: Path) -> None:
    page = (ten / "pictures/review.html").read_text("utf-8")
    sources = re.findall(r'\b(?:src|href|srcset|data|poster)="([^"]*)"', page)
    assert {source.partition(",")[0] for source in sources if not source.startswith("#")} <= {
        "data:image/jpeg;base64",
        "data:",
    }
    assert page.count("data:image/jpeg;base64,") > 15


def test_nothing_is_written_where_nothing_differs(film: Project, tmp_path: Path) -> None:
    found, page = pictured(film, tmp_path / "pictures")
    assert (found.page, found.files, page) == (None, (), "")
    assert not (tmp_path / "pictures").exists()
    ended = film.run("plan", "film.yaml", "--against", "main", "--pictures", str(tmp_path / "pictures"))
    assert (ended.code, ended.err) == (0, "nothing differs from main: no pictures were written\n")


def test_what_an_earlier_call_wrote_and_nobody_needs_is_removed(film: Project, tmp_path: Path) -> None:
    to = tmp_path / "pictures"
    film.write("film.yaml", (film.root / "film.yaml").read_text("utf-8").replace("A boat.", "A ship."))
    first, _ = pictured(film, to)
    assert (to / "two.first-frame.now.jpg").exists()
    assert {file.name for file in to.iterdir()} == {".pictures.json", *(file.name for file in first.files)}
    film.write("film.yaml", (film.root / "film.yaml").read_text("utf-8").replace("id: two", "id: three"))
    second, _ = pictured(film, to)
    assert {file.name for file in to.iterdir()} == {".pictures.json", *(file.name for file in second.files)}
    git(film.root, "checkout", "-q", "film.yaml")
    pictured(film, to)
    assert list(to.iterdir()) == []


def test_a_folder_with_other_files_is_left_alone(film: Project, tmp_path: Path) -> None:
    film.write("film.yaml", (film.root / "film.yaml").read_text("utf-8").replace("A boat.", "A ship."))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/holiday.jpg").write_text("x", "utf-8")
    with pytest.raises(UsageError, match="holds files that"):
        pictured(film, tmp_path / "mine")
    with pytest.raises(UsageError, match="the project itself"):
        pictured(film, film.root)
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(UsageError, match="cannot be written"):
        pictured(film, tmp_path / "file")


def test_no_link_is_followed(film: Project, tmp_path: Path) -> None:
    film.write("film.yaml", (film.root / "film.yaml").read_text("utf-8").replace("A boat.", "A ship."))
    away = tmp_path / "away"
    away.mkdir()
    (film.root / "pictures").symlink_to(away)
    for folder in (film.root / "pictures", film.root / "pictures/inner"):
        with pytest.raises(klingflow.KlingflowError, match="is a link"):
            pictured(film, folder)
    (tmp_path / "link").symlink_to(away)
    with pytest.raises(UsageError, match="is a link"):
        pictured(film, tmp_path / "link")
    to = tmp_path / "pictures"
    pictured(film, to)
    secret = tmp_path / "secret"
    secret.write_text("key", "utf-8")
    (to / "review.html").unlink()
    (to / "review.html").symlink_to(secret)
    (to / ".pictures.json").write_text(json.dumps(["../secret", "sub/x.jpg", "old.jpg"]), "utf-8")
    (to / "old.jpg").symlink_to(secret)
    pictured(film, to)
    assert secret.read_text("utf-8") == "key"
    assert not (to / "review.html").is_symlink()
    assert not (to / "old.jpg").exists()
    assert list(away.iterdir()) == []


def test_pictures_need_a_base_and_one_storyboard(film: Project) -> None:
    ended = film.run("plan", "film.yaml", "--pictures", "pics")
    assert (ended.code, "--against" in ended.err) == (2, True)
    film.write("other.yaml", (film.root / "film.yaml").read_text("utf-8"))
    ended = film.run("plan", "film.yaml", "other.yaml", "--against", "main", "--pictures", "pics")
    assert (ended.code, "one storyboard" in ended.err) == (2, True)
    ended = film.run("plan", "film.yaml", "--against", "nowhere", "--pictures", "pics")
    assert (ended.code, "git knows no commit nowhere" in ended.err) == (2, True)
    assert not (film.root / "pics").exists()
    with pytest.raises(UsageError, match="compared with nothing"):
        klingflow.open(film.root / "film.yaml").plan().pictures("pics")


def test_a_clip_that_is_not_in_the_store_is_said_and_not_looked_for(film: Project, tmp_path: Path) -> None:
    buy(film, {"one": clip(9, tmp_path)})
    git(film.root, "add", "-A")
    git(film.root, "commit", "-q", "-m", "bought")
    git(film.root, "branch", "-f", "main")
    film.write("film.yaml", (film.root / "film.yaml").read_text("utf-8").replace("A pier.", "A pier at night."))
    _, page = pictured(film, tmp_path / "with")
    assert "Before Now: not made yet; here is its still frames/a.png" in cards(page)["one"]
    for blob in (film.root / ".klingflow/store/blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()
    _, page = pictured(film, tmp_path / "without")
    still = "here is its still frames/a.png"
    assert f"before: the clip is not in this store; {still}; now: not made yet; {still}" in cards(page)["one"]
    assert "two" not in cards(page), "it had no clip, and has none"


def test_frames_come_out_of_a_shared_store(film: Project, tmp_path: Path) -> None:
    buy(film, {"one": clip(9, tmp_path)})
    git(film.root, "add", "-A")
    git(film.root, "commit", "-q", "-m", "bought")
    git(film.root, "branch", "-f", "main")
    film.write("film.yaml", (film.root / "film.yaml").read_text("utf-8").replace("A pier.", "A quay."))
    own = film.root / ".klingflow/store"
    names = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-1", "AWS_ALLOW_HTTP": "true"}
    with fake_s3() as s3:
        s3.objects |= {f"x/{f.relative_to(own).as_posix()}": f.read_bytes() for f in own.rglob("*") if f.is_file()}
        shutil.rmtree(own)
        shared = {"KLINGFLOW_STORE": "s3://bucket/x", "AWS_ENDPOINT_URL": s3.url, **names}
        ended = film.run("plan", "film.yaml", "--against", "main", "--pictures", "pics", **shared)
    assert ended.code == 0, ended.said
    with Image.open(film.root / "pics/one.first-frame.before.jpg") as picture:
        assert clips.number(picture) == 9


def test_a_shot_that_continues_a_changed_one_is_shown_as_made_again(film: Project, tmp_path: Path) -> None:
    buy(film, {"one": clip(9, tmp_path)})
    buy(film, {"one": clip(9, tmp_path), "two": clip(20, tmp_path)})
    git(film.root, "add", "-A")
    git(film.root, "commit", "-q", "-m", "bought")
    git(film.root, "branch", "-f", "main")
    assert pictured(film, tmp_path / "none")[0].page is None
    film.write("film.yaml", (film.root / "film.yaml").read_text("utf-8").replace("A pier.", "A pier at night."))
    _, page = pictured(film, tmp_path / "pictures")
    assert "gets another clip" in cards(page)["two"]
    assert "follows a changed shot" in cards(page)["two"]
    with Image.open(tmp_path / "pictures/two.first-frame.before.jpg") as picture:
        assert clips.number(picture) == 20


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ("A pier at night.", "prompt: at night added"),
        ("pier.", "prompt: A removed"),
        ("'A  pier.'", "prompt: spaces and lines alone"),
        ("The quay.", "prompt: A pier → The quay"),
    ],
)
def test_words_that_came_or_went_are_not_said_to_stand_for_none(
    film: Project, tmp_path: Path, now: str, said: str
) -> None:
    film.write("film.yaml", (film.root / "film.yaml").read_text("utf-8").replace("A pier.", now))
    assert said in summary(pictured(film, tmp_path / "pictures")[1])["one"]


def test_with_a_selection_only_its_shots_are_shown(ten: Path, tmp_path: Path) -> None:
    found, page = pictured(Project(ten / "project", {}), tmp_path / "pictures", select="longer")
    assert (found.shots, cards(page).keys()) == (1, {"longer"})


def test_what_waits_for_a_person_is_said_with_what_it_costs_then(film: Project, tmp_path: Path) -> None:
    film.write("film.yaml", (film.root / "film.yaml").read_text("utf-8").replace("A pier.", "A pier., gate: approved"))
    _, page = pictured(film, tmp_path / "pictures")
    [waits] = re.findall(r'<section aria-labelledby="waits">.*?</section>', page, re.S)
    assert "two: waits for the approval of one" in text(waits), text(waits)
    assert "gate: none → approved" in summary(page)["one"]
    assert "merge it; then $0.56" in text(waits)


def test_a_take_that_was_picked_is_shown_with_who_and_why(film: Project, tmp_path: Path) -> None:
    buy(film, {"one": clip(9, tmp_path)})
    git(film.root, "add", "-A")
    git(film.root, "commit", "-q", "-m", "bought")
    git(film.root, "branch", "-f", "main")
    bought = reread((film.root / "film.lock.yaml").read_text("utf-8"))
    held = bought.entry("", "one", 1)
    assert held is not None
    pick = Pick(take=1, clip=held.clip, by="Ann <b>", why="the light", date="2026-11-27")
    film.write("film.lock.yaml", lock.dump(replace(bought, picks={"": {"one": pick}})))
    found, page = pictured(film, tmp_path / "pictures")
    assert found.shots == 1
    assert "take 1 was picked by Ann <b> on 2026-11-27: the light" in cards(page)["one"]
    assert "Before and now" in cards(page)["one"]
    assert "Joins that are new" not in page


def test_stills_that_are_proposed_are_all_shown(film: Project, tmp_path: Path) -> None:
    film.write("frames/b.png", png(spot=(9, 9)))
    board = (film.root / "film.yaml").read_text("utf-8")
    film.write("film.yaml", board.replace("frames/a.png", "{stills: [frames/a.png, frames/b.png]}"))
    found, page = pictured(film, tmp_path / "pictures")
    names = {file.name for file in found.files}
    assert {"one.first_frame-proposed-1.now.jpg", "one.first_frame-proposed-2.now.jpg"} <= names
    assert "first_frame, proposed 2" in cards(page)["one"]
    film.write("film.yaml", board.replace("frames/a.png", "{stills: [frames/a.png, frames/b.png], take: 2}"))
    _, page = pictured(film, tmp_path / "pictures")
    assert "first_frame, proposed 2, chosen" in cards(page)["one"]
    assert "3 of 230,400 pixels differ" in cards(page)["one"]


def test_what_cannot_be_shown_is_said_in_its_place(film: Project, tmp_path: Path) -> None:
    board = (film.root / "film.yaml").read_text("utf-8")
    film.write("film.yaml", board + "  - {id: own, clip: footage/own.mp4}\n")
    film.write("frames/a.png", b"\x89PNG\r\n\x1a\n and then nothing")
    film.write("footage/own.mp4", "no clip at all")
    git(film.root, "add", "-A")
    git(film.root, "commit", "-q", "-m", "broken files")
    git(film.root, "branch", "-f", "main")
    film.write("frames/a.png", png())
    film.write("footage/own.mp4", clip(7, tmp_path))
    found, page = pictured(film, tmp_path / "pictures")
    shown = cards(page)
    assert "Before: frames/a.png: 'frames/a.png' is no picture that can be read" in shown["one"]
    assert "is not a video: it is a text" in shown["own"]
    with Image.open(tmp_path / "pictures/own.first-frame.now.jpg") as picture:
        assert clips.number(picture) == 7
    assert found.strip is not None


def test_where_the_base_cannot_be_read_nothing_is_written_and_the_plan_stands(film: Project, tmp_path: Path) -> None:
    good = (film.root / "film.yaml").read_text("utf-8")
    film.write("film.yaml", "klingflow: 1\nshots: [\n")
    git(film.root, "commit", "-q", "-a", "-m", "broken")
    git(film.root, "branch", "-f", "main")
    film.write("film.yaml", good)
    ended = film.run("plan", "film.yaml", "--against", "main", "--pictures", "pics", "--format", "markdown")
    assert (ended.code, "what differs from main is not known: no pictures" in ended.err) == (0, True)
    assert "Review page" not in ended.out
    assert not (film.root / "pics").exists()


def test_a_storyboard_that_is_new_is_shown_whole(film: Project, tmp_path: Path) -> None:
    film.write("new.yaml", (film.root / "film.yaml").read_text("utf-8"))
    found, page = pictured(film, tmp_path / "pictures", "new.yaml")
    assert (found.shots, cards(page).keys()) == (2, {"one", "two"})


def test_the_comment_links_what_was_written(film: Project, tmp_path: Path) -> None:
    words = ("plan", "film.yaml", "--against", "main", "--pictures", "pics", "--format", "markdown")
    url = {"KLINGFLOW_PICTURES_URL": "https://pictures.example.com/pr-1/"}
    assert "Review page" not in film.run(*words, **url).out
    film.write("film.yaml", (film.root / "film.yaml").read_text("utf-8").replace("A boat.", "A ship."))
    shown = film.run(*words, **url).out
    assert "[Review page](https://pictures.example.com/pr-1/review.html): 1 shot before and now." in shown
    assert "](https://pictures.example.com/pr-1/strip.jpg)]" in shown
    assert "Review page: 1 shot before and now, in <code>review.html</code>." in film.run(*words).out
    for bad in ("javascript:alert(1)", "https://a.example/x?sig=1", "https://a.example/a b"):
        ended = film.run(*words, KLINGFLOW_PICTURES_URL=bad)
        assert (ended.code, ended.out, "KLINGFLOW_PICTURES_URL" in ended.err) == (2, "", True)


HOSTILE = '</script><script>alert(1)</script><img src=x onerror=alert(2)>" onclick="alert(3)'


def test_text_of_a_pull_request_is_text(film: Project, tmp_path: Path) -> None:
    board = (
        "klingflow: 1\ntitle: " + json.dumps(HOSTILE) + "\ndefaults: {provider: hiapi}\nshots:\n"
        "  - {id: one, first_frame: 'frames/<b>a.png', prompt: " + json.dumps(HOSTILE) + ", tags: ['<i>x']}\n"
        "  - {id: two, prompt: A boat., notes: " + json.dumps("Bearer abcdef0123456789 \u202e") + "}\n"
    )
    film.write("frames/<b>a.png", png(spot=(5, 5)))
    film.write("film.yaml", board)
    found, page = pictured(film, tmp_path / "pictures")
    without = re.sub(r"<script>\n?\"use strict\".*?</script>", "", page, flags=re.S)
    assert "<script>alert" not in without
    assert "<img src=x" not in page
    assert "onclick=" not in re.sub(r"&[^;]+;", "", page) or '" onclick' not in page
    assert "<b>a" not in page
    assert "abcdef0123456789" not in page
    assert "\u202e" not in page
    assert all(re.fullmatch(r"review\.html|[a-zA-Z0-9_.-]+\.jpg", file.name) for file in found.files)


def test_a_matrix_is_one_page_and_what_its_films_share_is_shown_once(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    board = (
        "klingflow: 1\nmatrix: {lang: [en, de]}\ndefaults: {provider: hiapi}\nshots:\n"
        "  - {id: one, prompt: A pier.}\n  - {id: two, prompt: 'Says {{ lang }}.'}\n"
    )
    project.write("film.yaml", board)
    committed(project)
    project.write("film.yaml", board.replace("pier", "quay").replace("Says", "Shouts"))
    found, page = pictured(project, tmp_path / "pictures")
    assert re.findall(r'<h2 id="shot-\d+-name">(\w+) <span class="soft">([\w, ]+)<', page) == [
        ("one", "all films"),
        ("two", "en"),
        ("two", "de"),
    ]
    assert {file.name for file in found.files} >= {"en.two.first-frame.now.jpg", "de.two.first-frame.now.jpg"}


def test_pictures_are_made_smaller_until_the_page_is_small_enough() -> None:
    pairs = [[Pair(title="first frame", before=_noise(n), now=_noise(n + 1000))] for n in range(6)]
    most = 400_000
    shown = review._fitting(pairs, most)
    taken = [shown.image(pair.before.jpeg, "a") for (pair,) in pairs if pair.before]
    assert {one.width for one in taken} == {240}
    assert sum(len(one.src) for one in taken) * 2 < most
    assert "240 pixels" in shown.note(most)
    assert review._fitting(pairs, 20 << 20).note(20 << 20) == ""
    few = review._fitting(pairs, 50_000)
    srcs = [few.image(pair.before.jpeg, "a").src for (pair,) in pairs if pair.before]
    assert (srcs[0] != "", srcs[-1]) == (True, "")
    assert "did not fit" in few.note(50_000)


def _noise(seed: int) -> Picture:
    noise = random.Random(seed).randbytes(960 * 540)
    return Picture(jpeg=review_pictures.encoded(Image.frombytes("L", (960, 540), noise).convert("RGB")))


# -- pictures


def test_a_few_pixels_are_found_counted_and_shown() -> None:
    before = Image.new("RGB", (3840, 2160), (80, 90, 100))
    after = before.copy()
    after.putpixel((3000, 2000), (81, 90, 100))
    after.putpixel((3004, 2000), (80, 90, 101))
    found = review_pictures.difference(before, after)
    assert found is not None
    assert (found.pixels, found.box) == (2, (3000, 2000, 3005, 2001))
    assert found.words == "2 of 8,294,400 pixels differ, in an area of 5 × 1 at 3000, 2000"
    red, green, _ = found.marked.image().getpixel((750, 500))  # type: ignore[misc]
    assert red > 150 > 110 > green, "one level of one pixel of an 8 megapixel still is marked"
    assert found.detail is not None
    assert found.detail[0].data != found.detail[1].data
    assert review_pictures.difference(before, before.copy()) is None


def test_where_much_differs_nothing_is_enlarged() -> None:
    found = review_pictures.difference(Image.new("RGB", (320, 180)), Image.new("RGB", (320, 180), (9, 9, 9)))
    assert found is not None
    assert (found.pixels, found.detail) == (320 * 180, None)


def test_the_strip_says_how_many_more_there_are() -> None:
    one = review_pictures.encoded(Image.new("RGB", (320, 180), (200, 30, 30)))
    some = [review_pictures.Column(f"shot-{n}", "prompt", one, None) for n in range(3)]
    assert review_pictures.strip(some, "3 shots").height < 600
    many = review_pictures.strip(some * 10, "30 shots")
    assert many.height == 44 + 4 * (2 * 26 + 2 * 170 + 3 * 12) + 36
    with Image.open(io.BytesIO(many.data)) as strip:
        assert (strip.format, strip.size) == ("JPEG", (many.width, many.height))


def test_a_card_keeps_long_words_inside() -> None:
    picture = review_pictures.card(["a" * 200, "no picture: " + "because " * 40], (640, 360))
    assert picture.crop((2, 2, 20, 358)).getextrema() == ((42, 42), (43, 43), (48, 48))


def test_pictures_are_never_made_larger() -> None:
    assert review_pictures.encoded(Image.new("RGB", (64, 36))).width == 64
    small = review_pictures.encoded(Image.new("RGB", (1920, 1080)))
    assert (small.width, small.height) == (960, 540)
    assert of_bytes(small.smaller(960).data) == of_bytes(small.data)
    assert base64.b64decode(review._data(small).partition(",")[2]) == small.data
