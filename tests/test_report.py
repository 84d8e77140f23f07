"""The report of a film: what it says of shots, joins and money, and that it is written by every run."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

import klingflow
from klingflow.core.model import ClipFacts, ClipRecord, Cut, Digest, Film, Key, Shot, ShotFrame, ShotId
from klingflow.core.source import Span
from klingflow.execution.outcome import Failure, Outcome, Result, RunFailure
from klingflow.output import report
from klingflow.output.cutting import Join, Shown
from klingflow.output.seams import Finding, Seam, Verdict
from klingflow.planning.plan import OWN, Action, FilmPlan, Step
from klingflow.planning.price import Price
from klingflow.storyboard.lock import Entry
from tests import standins
from tests.cli import Project
from tests.paid_helpers import studio
from tests.shared import ran

NAMES = ("dawn", "noon", "dusk")


def shot(name: str, index: int, **more: object) -> Shot:
    return Shot(id=ShotId(name), index=index, title=name.title(), prompt=f"{name} comes", duration=5, **more)  # type: ignore[arg-type]


def film(*shots: Shot) -> Film:
    shots = shots or (
        shot("dawn", 0),
        shot("noon", 1, first_frame=ShotFrame(ShotId("dawn"))),
        shot("dusk", 2),
    )
    return Film(
        name="film",
        matrix={},
        title="A day",
        shots=shots,
        cut=tuple(Cut(one.id) for one in shots),
        where=lambda _shot, _field: Span("film.yaml", 1, 1, 2),
    )


def digest(name: str) -> Digest:
    return Digest(name.encode().hex().ljust(64, "0"))


def facts(name: str) -> ClipFacts:
    return ClipFacts(
        digest=digest(name), bytes=9, width=1280, height=720, frames=120, duration="5.000", rate="24", audio=False
    )


def record(name: str, cost: str = "0.56") -> ClipRecord:
    return ClipRecord(
        key=Key(digest(f"key {name}")),
        facts=facts(name),
        provider="hiapi",
        model="kling-3.0-omni",
        task=None,
        cost=Decimal(cost),
        basis="estimate",
        date="2026-11-27",
        parts={},
        inputs={},
    )


def entry(name: str, cost: str = "0.56") -> Entry:
    one = record(name, cost)
    return Entry(
        key=one.key,
        clip=one.facts.digest,
        duration="5.000",
        frames=120,
        size="1280x720",
        rate="24",
        bytes=9,
        audio=False,
        provider=one.provider,
        model=one.model,
        cost=one.cost,
        basis=one.basis,
        date=one.date,
    )


def step(name: str, action: Action = Action.REUSE, **more: object) -> Step:
    there = action is Action.REUSE
    values: dict[str, object] = {
        "shot": ShotId(name),
        "take": 1,
        "is_active_take": True,
        "action": action,
        "reason": "up to date" if there else "new shot",
        "key": Key(digest(f"key {name}")),
        "clip": digest(name) if there else None,
        "record": record(name) if there else None,
        "provider": "hiapi",
        "model": "kling-3.0-omni",
        "seconds": 0 if there else 5,
        "price": Decimal(0) if there else Decimal("0.56"),
        "basis": "" if there else "estimate",
    }
    return Step(**{**values, **more})  # type: ignore[arg-type]


def plan(*steps: Step) -> FilmPlan:
    return FilmPlan(name="film", variant="", title="A day", steps=steps or tuple(step(name) for name in NAMES))


def known(**more: object) -> report.Known:
    files = {f"{folder}/{name}{end}": digest(name) for name in NAMES for folder, end in FILES}
    values: dict[str, object] = {
        "film": film(),
        "storyboard": "film.yaml",
        "rehearsal": False,
        "plan": plan(),
        "takes": {ShotId(name): {1: entry(name)} for name in NAMES},
        "files": {**files, "film.mp4": Digest("x")},
        "shown": shown(),
        "price": lambda _: Price(amount=Decimal("0.60"), basis="estimate"),
    }
    return report.Known(**{**values, **more})  # type: ignore[arg-type]


def shown(*names: str) -> tuple[Shown, ...]:
    """All of each clip, one after the other; noon continues dawn."""
    return tuple(
        Shown(
            shot=ShotId(name),
            clip=digest(name),
            rate=Fraction(24),
            first=0,
            end=120,
            film_start=120 * n,
            picks=tuple(range(120)),
            start_s=Fraction(0),
            dropped_at_head=0,
            dropped_at_tail=0,
            join=Join.CONTINUES if name == "noon" else Join.NONE,
        )
        for n, name in enumerate(names or NAMES)
    )


FILES = (("shots", ".mp4"), ("frames", ".first.jpg"), ("frames", ".last.jpg"), ("frames", ".last.png"))


def outcome(name: str, result: Result = Result.MADE, **more: object) -> Outcome:
    good = result is Result.MADE or result is Result.REUSED
    values = {"clip": record(name) if good else None, "spent": Decimal("0.56") if result is Result.MADE else Decimal(0)}
    return Outcome(shot=ShotId(name), take=1, is_active_take=True, result=result, **{**values, **more})  # type: ignore[arg-type]


def tiles(seen: report.View) -> dict[str, tuple[str, str]]:
    return {tile.name: (tile.value, " | ".join(tile.notes)) for tile in seen.tiles}


# ---------------------------------------------------------------- money


def test_what_was_spent_saved_and_estimated_is_kept_apart() -> None:
    planned = plan(step("dawn"), step("noon", Action.MAKE), step("dusk", Action.MAKE, price=Decimal("0.70")))
    failed = outcome("dusk", Result.FAILED, failure=Failure(kind=RunFailure.NOT_SENT, message="no connection"))
    run = report.Ran(plan=planned, outcomes=(outcome("dawn", Result.REUSED), outcome("noon"), failed))
    after = plan(step("dawn"), step("noon"), step("dusk", Action.MAKE, price=Decimal("0.70")))
    takes = {ShotId("dawn"): {1: entry("dawn", "0.40"), 2: entry("dawn b", "0.41")}, ShotId("noon"): {1: entry("noon")}}
    found = tiles(report.view(known(plan=after, ran=run, takes=takes, booked=Decimal("2.37"))))
    assert found["Spent in this run"][0] == "$0.56"
    assert "$1.37 in all for the clips in the lock" in found["Spent in this run"][1]  # 0.40 + 0.41 + 0.56
    assert "$2.37 for every order on record" in found["Spent in this run"][1]
    assert found["Saved by reuse"] == ("$0.60", "1 clip at today's price (estimate)")  # dawn; noon was made by this run
    assert found["Estimate, and booked"] == ("$1.26 → $0.56", "2 clips to make (estimate)")
    assert found["Still to make"][0] == "$0.70"
    assert found["In doubt"][0] == "nothing"


def test_without_a_run_every_clip_that_is_there_is_saved_and_a_shared_one_counts_once() -> None:
    shared = replace(step("dusk"), key=step("noon").key)
    found = tiles(report.view(known(plan=plan(step("dawn"), step("noon"), shared))))
    assert found["Saved by reuse"][0] == "$1.20"
    assert found["Spent so far"][0] == "$1.68"
    assert "Estimate, and booked" not in found


def test_a_clip_that_two_shots_share_has_cost_once_and_what_is_booked_is_not_said_twice() -> None:
    shared = replace(entry("dusk"), key=entry("noon").key)
    takes = {ShotId("noon"): {1: entry("noon")}, ShotId("dusk"): {1: shared}}
    value, notes = tiles(report.view(known(takes=takes, booked=Decimal("0.56"))))["Spent so far"]
    assert (value, notes) == ("$0.56", "for the clips in the lock")


def test_a_clip_of_ones_own_saves_nothing() -> None:
    own = step("dusk", provider=OWN)
    assert tiles(report.view(known(plan=plan(step("dawn"), step("noon"), own))))["Saved by reuse"][0] == "$1.20"


def test_prices_that_are_not_known_are_said_and_no_sum_hides_them() -> None:
    found = tiles(report.view(known(price=lambda _: Price(amount=None), unpriced=2)))
    assert found["Saved by reuse"] == ("$0.00", "and 3 clips of unknown price")
    assert "2 orders of unknown price" in found["Spent so far"][1]
    later = plan(step("dawn"), step("noon"), step("dusk", Action.MAKE, price=None))
    assert tiles(report.view(known(plan=later)))["Still to make"][0] == "$0.00 and more"


def test_doubts_are_summed_and_come_with_what_settles_them() -> None:
    order = report.Order(
        shot="noon",
        take=1,
        state="in doubt",
        price=Decimal("0.56"),
        message="",
        next="klingflow resolve film.yaml noon --task ID",
        needs_person=True,
    )
    doubt = plan(step("dawn"), step("noon", Action.RESOLVE, reason="asked hiapi", seconds=0), step("dusk"))
    seen = report.view(known(plan=doubt, orders=(order,), takes={}))
    assert tiles(seen)["In doubt"] == ("$0.56", "1 order to settle with klingflow resolve")
    assert (seen.cards[1].state, seen.cards[1].next) == ("in doubt", order.next)
    assert "klingflow resolve film.yaml noon --task ID" in unescape(report.html(seen))


# ---------------------------------------------------------------- shots


def test_every_end_and_every_action_has_a_word() -> None:
    assert report._ENDED.keys() == set(Result)
    assert report._PLANNED.keys() == set(Action)


@pytest.mark.parametrize(
    ("planned", "ended", "state"),
    [
        (step("noon"), None, "reused"),
        (step("noon"), outcome("noon"), "made now"),
        (step("noon"), outcome("noon", Result.RESUMED), "collected now"),
        (step("noon", Action.HOLD, clip=digest("noon"), record=record("noon")), None, "held"),
        (step("noon", Action.HOLD, record=None), None, "missing"),
        (step("noon", Action.MAKE), None, "stale"),
        (step("noon", Action.MAKE, seconds=0), None, "failed"),
        (step("noon", Action.RESUME, seconds=0), None, "being made"),
        (step("noon", Action.MAKE), outcome("noon", Result.FAILED), "failed"),
        (step("noon", Action.MAKE), outcome("noon", Result.SKIPPED, because=ShotId("dawn")), "skipped"),
        (step("noon", Action.MAKE), outcome("noon", Result.IN_DOUBT), "in doubt"),
        (step("noon", Action.MAKE), outcome("noon", Result.STOPPED), "stopped"),
        (step("noon", Action.WAIT, seconds=0), None, "waiting"),
    ],
)
def test_a_shot_says_its_state(planned: Step, ended: Outcome | None, state: str) -> None:
    run = report.Ran(plan=plan(), outcomes=(ended,)) if ended is not None else None
    seen = report.view(known(plan=plan(step("dawn"), planned, step("dusk")), ran=run))
    assert seen.cards[1].state == state


def test_a_shot_that_was_never_made_is_missing_and_its_price_is_told() -> None:
    seen = report.view(known(plan=plan(step("dawn"), step("noon", Action.MAKE), step("dusk")), takes={}))
    assert (seen.cards[1].state, seen.cards[1].cost) == ("missing", "would cost $0.56 (estimate)")


def test_the_clip_from_before_a_change_is_shown_as_such() -> None:
    stale = plan(step("dawn"), step("noon", Action.MAKE, reason="prompt changed"), step("dusk"))
    card = report.view(known(plan=stale)).cards[1]
    assert (card.old, card.clip) == (True, "shots/noon.mp4")


def test_a_file_that_was_made_from_another_clip_is_not_shown() -> None:
    files = {f"shots/{name}.mp4": digest("another") for name in NAMES}
    assert [card.clip for card in report.view(known(files=files)).cards] == ["", "", ""]


def test_a_rehearsal_is_said_to_be_no_delivery() -> None:
    assert "This is no delivery." in report.html(report.view(known(rehearsal=True)))
    assert "no delivery" not in report.html(report.view(known()))
    drawn = replace(step("noon"), record=replace(record("noon", "0"), model="animatic", provider="animatic"))
    text = report.html(report.view(known(plan=plan(step("dawn"), drawn, step("dusk")))))
    assert "1 of 3 clips is an animatic" in text


def test_what_looks_like_a_secret_is_not_shown() -> None:
    """As in a plan: a report is a file that goes to others."""
    one = replace(shot("dawn", 0), title="Bearer abcdefgh12345678", prompt="whsec_0123456789", notes="hi-sk-a1b2c3d4e5")
    text = report.html(report.view(known(film=film(one), plan=plan(step("dawn")), shown=())))
    assert [secret for secret in ("abcdefgh12345678", "0123456789", "a1b2c3d4e5") if secret in text] == []
    inside = "data:image/jpeg;base64,/whsec+AKIA0123456789ABCDEF/sk-a1b2c3d4e5"  # no such text, whatever it holds
    assert inside in report.html(report.view(known()), "", lambda name: inside)


def test_markup_in_a_storyboard_stays_text() -> None:
    bad = "</p><script>alert(1)</script><img src=x onerror=alert(2)>"
    one = replace(shot("dawn", 0), title=bad, prompt=bad, notes=bad, tags=(bad,))
    seen = report.view(known(film=replace(film(one), title=bad), plan=plan(step("dawn", reason=bad)), shown=()))
    text = report.html(seen)
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert text.count("<script>") == 1


# ---------------------------------------------------------------- joins


def measured(*faults: tuple[int, float]) -> Verdict:
    def seam(number: int, before: str, after: str) -> Seam:
        found = tuple(
            Finding(kind="velocity", value=value, limit=25.0, at_s=5.0, note="it turns round")
            for at, value in faults
            if at == number
        )
        return Seam(
            number=number,
            before=before,
            after=after,
            join="cut",
            at_s=5.0 * number,
            frame=120 * number,
            numbers={"velocity": max([0.0, *(one.value for one in found)]), "luma": None},
            findings=found,
        )

    seams = (seam(1, "dawn", "noon"), seam(2, "noon", "dusk"))
    return Verdict(storyboard="film.yaml", variant="", title="A day", limits={"velocity": 25.0}, seams=seams)


def test_the_worst_seam_is_named_on_top_and_every_seam_has_a_verdict() -> None:
    seen = report.view(known(verdict=measured((1, 31.0), (2, 80.0))))
    assert [join.kind for join in seen.joins] == ["continues", "cut"]
    assert seen.worst is not None
    assert (seen.worst.number, seen.worst.faults) == (2, ("velocity 80 %, more than 25 %",))
    text = report.html(seen)
    assert re.search(r'href="#seam-2">Worst seam: 2 noon → 3 dusk</a>', text)
    assert seen.joins[0].numbers == (("velocity", "31 %", seen.joins[0].numbers[0][2]),)


def test_of_several_faults_the_one_that_is_furthest_above_its_limit_is_named_first() -> None:
    verdict = measured((1, 31.0))
    luma = Finding(kind="luma", value=10.6, limit=1.0, at_s=5.0, note="the light jumps")
    first = replace(verdict.seams[0], findings=(*verdict.seams[0].findings, luma))
    text = report.html(report.view(known(verdict=replace(verdict, seams=(first, verdict.seams[1])))))
    assert "Worst seam: 1 dawn → 2 noon</a>, luma 10.6 % of white, more than 1.0 % of white" in text


def test_a_seam_without_a_fault_says_so_and_one_that_was_not_measured_says_how() -> None:
    good = report.html(report.view(known(verdict=measured())))
    assert good.count("no fault found") > 2
    assert "klingflow[seams]" not in good
    assert "pip install &#39;klingflow[seams]&#39;" in report.html(report.view(known())).replace("'", "&#39;")


def test_numbers_of_another_cut_are_not_shown() -> None:
    other = measured((1, 31.0))
    for moved in (replace(other.seams[0], before="dusk"), replace(other.seams[0], frame=119)):
        seen = report.view(known(verdict=replace(other, seams=(moved,))))
        assert [join.seam for join in seen.joins] == [None, None]
    stale = plan(step("dawn"), step("noon", Action.MAKE), step("dusk"))
    assert not report.view(known(verdict=other, plan=stale)).measured


# ---------------------------------------------------------------- the page


class Reader(HTMLParser):
    """Every address in a page, and the ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [value for name in ("src", "poster", "href") if (value := found.get(name)) and tag != "link"]
        self.ids += [value for value in (found.get("id"),) if value]


def many(count: int) -> report.Known:
    prompt = "A long way down to the sea, the camera follows at the height of a hand. " * 3
    shots = tuple(replace(shot(f"shot{n}", n), prompt=prompt) for n in range(count))
    files = {f"{folder}/{one.id}{end}": digest(one.id) for one in shots for folder, end in FILES}
    steps = plan(*(step(one.id) for one in shots))
    takes = {one.id: {1: entry(one.id)} for one in shots}
    return known(film=film(*shots), plan=steps, takes=takes, files=files, shown=shown(*(one.id for one in shots)))


def test_the_page_of_twelve_shots_is_small_and_each_of_two_hundred_adds_little() -> None:
    twelve = len(report.html(report.view(many(12))).encode())
    assert twelve < 100_000
    assert len(report.html(report.view(many(200))).encode()) < twelve + 188 * 6_000


def test_media_are_loaded_only_when_they_are_looked_at() -> None:
    text = report.html(report.view(known()))
    videos = re.findall(r"<video[^>]*>", text)
    assert len(videos) == 4
    assert all('preload="none"' in video for video in videos)
    assert all('loading="lazy"' in image for image in re.findall(r"<img[^>]*>", text))


BOARD = """\
klingflow: 1
title: Two
matrix: {lang: [en, de]}
defaults: {provider: animatic, resolution: 720p, duration: 3}
shots:
  - {id: dawn, prompt: "A pier. {{ lang }}"}
  - {id: dusk, continues: dawn, prompt: A boat.}
"""


@pytest.fixture
def filmed(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Project:
    return ran(tmp_path_factory, "report", tmp_path / "project", {"film.yaml": BOARD})


def page(project: Project, folder: str = "out/film/en") -> str:
    return (project.root / folder / "report.html").read_text("utf-8")


def test_every_file_that_the_page_names_is_beside_it(filmed: Project) -> None:
    found = Reader(page(filmed))
    assert len(found.ids) == len(set(found.ids))
    near = [link for link in found.links if not link.startswith("#")]
    assert {"film.mp4", "shots/dusk.mp4", "frames/dawn.first.jpg", "../de/report.html"} <= set(near)
    assert [link for link in near if not (filmed.root / "out/film/en" / link).is_file()] == []
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)


def test_a_run_that_changes_nothing_leaves_the_page_and_a_lost_one_comes_back(filmed: Project) -> None:
    assert "made now" in page(filmed)
    assert "the report: out/film/en/report.html" in filmed.run("run").err
    assert "2 reused" in page(filmed)
    before = (filmed.root / "out/film/en/report.html").stat().st_mtime_ns
    assert filmed.run("run").code == 0
    assert (filmed.root / "out/film/en/report.html").stat().st_mtime_ns == before
    (filmed.root / "out/film/en/report.html").unlink()
    assert filmed.run("run").code == 0
    assert "2 reused" in page(filmed)
    filmed.write("film.yaml", BOARD.replace("title: Two", "title: Three"))
    assert filmed.run("run").code == 0
    assert "<h1 dir=\"auto\">Three</h1>" in page(filmed)


def test_the_page_inside_one_file_holds_every_picture_and_clip(filmed: Project) -> None:
    ended = filmed.run("report", "--embed")
    assert ended.code == 0, ended.said
    assert re.fullmatch(r"(out/film/(en|de)/report.html \([0-9.]+ [KM]B\)\n){2}", ended.out)
    links = [link for link in Reader(page(filmed)).links if not link.startswith(("#", "data:"))]
    assert links == []  # what does not come along is not named
    assert sum(link.startswith("data:video/mp4;base64,") for link in Reader(page(filmed)).links) == 3


def test_a_report_brings_back_the_media_of_an_empty_folder(filmed: Project) -> None:
    whole = (filmed.root / "out/film/en/shots/dawn.mp4").read_bytes()
    for file in (filmed.root / "out").rglob("*"):
        if file.is_file():
            file.unlink()
    written = klingflow.open(filmed.root / "film.yaml", environ=filmed.environment({})).report()
    assert [one.path.relative_to(filmed.root).as_posix() for one in written] == [
        "out/film/en/report.html",
        "out/film/de/report.html",
    ]
    assert (filmed.root / "out/film/en/shots/dawn.mp4").read_bytes() == whole
    assert "No film yet." in page(filmed)


def test_the_words_that_changed_since_the_last_commit_are_marked(filmed: Project) -> None:
    git(filmed, "init", "-q", "-b", "main")
    filmed.write(".gitignore", "out\n.klingflow\n")
    git(filmed, "add", "-A")
    git(filmed, "commit", "-qm", "one")
    filmed.write("film.yaml", BOARD.replace("A boat.", "A red boat."))
    ended = filmed.run("report")
    assert ended.code == 0, ended.said
    text = page(filmed)
    assert "A <ins>red </ins>boat." in text
    assert re.search(r"Changes are those since main \([0-9a-f]{7}\): 1 shot", text)
    git(filmed, "commit", "-qam", "two")
    filmed.run("report")
    assert "<ins>" not in page(filmed)


def git(project: Project, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", *who, *words], cwd=project.root, check=True, capture_output=True)


def test_a_run_that_fails_writes_the_page_and_says_why_there(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, api):
        api.becomes(standins.Outcome(fail=("CONTENT_MODERATED", "moderation refused it")), prompt="noon comes")
        ended = project.run("run", "-y")
        assert ended.code == 1, ended.said
        assert "the report: out/film/report.html" in ended.err
        text = unescape(page(project, "out/film"))
        assert "1 shot needs you" in text
        assert re.search(r"failed: .*moderat", text)
        assert "No film yet." in text
        assert re.search(r"Spent in this run</dt>\s*<dd class=\"sum\">\$0\.50", text)  # both orders, 3 s each at $0.084
