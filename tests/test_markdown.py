from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from klingflow.core.digest import PartChange
from klingflow.core.model import ShotId
from klingflow.core.source import Problem, Severity, Span, visible
from klingflow.output.markdown import LIMIT, Pictures, code, comment, escape, marker, refused
from klingflow.planning.compare import compare
from klingflow.planning.plan import Action, Dropped
from klingflow.planning.price import Limits
from tests.review_helpers import film, film_plan, plan, shot, step
from tests.test_compare import side

READ = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
OURS = {
    "h3", "h4", "p", "strong", "code", "table", "thead", "tbody", "tr", "th", "td", "details", "summary",
    "b", "ul", "li", "del", "ins", "i", "sub",
}  # fmt: skip


class Page(HTMLParser):
    """The tags, attributes and text of a comment as a browser would show them."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.prose = ""
        """The text that is not code: where GitHub looks for references."""
        self.feed(READ.render(markdown))
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "code" not in self.open:
            self.prose += data


def page(text: str) -> Page:
    read = Page(text)
    assert read.open == []
    assert read.tags <= OURS
    assert read.attributes <= {"style"}  # the sides of a table's columns
    return read


BASE = film(shot("dawn"), shot("harbour", continues="dawn"), shot("gone"), shot("x", title="old"))
RED = shot("dawn", prompt="the red dawn")
HEAD = film(RED, shot("harbour", continues="dawn"), shot("pier"), shot("x", title="new"))
PLAN = plan(
    film_plan(
        step("dawn", Action.MAKE),
        step("harbour", Action.MAKE, reason="continues dawn, which will be made", key=None, depth=2),
        step("pier", Action.MAKE, reason="new shot"),
        step("x"),
        critical=(ShotId("dawn"), ShotId("harbour")),
        wall_s=372,
    )
)
COMPARED = {"": compare(side(BASE), replace(side(HEAD), plan=PLAN.films[0]))}


def test_pictures_are_linked_where_they_have_an_address() -> None:
    planned = plan(film_plan(step("dawn")))
    assert "Review page" not in comment(planned)
    read = page(comment(planned, pictures=Pictures(shots=1, strip=True)))
    assert ("Review page: 1 shot before and now, in review.html." in read.text, "a" in read.tags) == (True, False)
    url = "https://pictures.example.com/pr-1/a (b)[c] *d*"
    text = comment(planned, pictures=Pictures(shots=0, strip=False, url=url))
    assert Page(text).tags - OURS == {"a"}
    assert "(https://pictures.example.com/pr-1/a%20%28b%29%5Bc%5D%20%2Ad%2A/review.html): what changed." in text
    read = Page(comment(planned, pictures=Pictures(shots=2, strip=True, url="https://pictures.example.com")))
    assert read.tags - OURS == {"a", "img"}
    assert read.attributes - {"style"} == {"href", "src", "alt"}


def test_a_comment_says_what_happens_first_and_why_shot_by_shot() -> None:
    text = comment(PLAN, COMPARED, base="origin/main", command="klingflow run harbour.yaml")
    first, _, rest = text.partition("\n")
    assert first == "<!-- klingflow:harbour.yaml -->"
    assert "**3 clips would be made, $1.68 (estimate), 15 s of clips; 1 reused.**" in rest
    assert "Against <code>origin/main</code>: 1 new, 2 changed, 1 removed. This change adds **$1.68**." in rest
    assert "Expected time: about 6 min, along <code>dawn</code> → <code>harbour</code>." in rest
    assert "| <code>+</code> | <code>dawn</code> | prompt changed | $0.56 | 1 |" in rest
    assert "continues dawn, which will be made | $0.56 | 1 → 2 |" in rest
    assert "| <code>gone</code> | removed; what was bought stays in the store | – | – |" in rest
    assert "title changed; its clip stays" in rest
    assert "- prompt: the <ins>red </ins>dawn" in rest
    assert page(text).text.count("klingflow run harbour.yaml") == 1


def test_what_a_producer_asks_is_answered_and_the_refusing_limit_is_said_first() -> None:
    dropped = (Dropped(variant="", shot=ShotId("x"), take=1, cost=Decimal("0.56"), gone=True),)
    asked = replace(PLAN, limits=Limits(spend=Decimal(1)), paid=Decimal("2.24"), dropped=dropped)
    text = page(comment(asked)).text
    assert text.index("A run is refused: the limit is $1.00 a run") < text.index("Expected time")
    for answer in ("bill: hiapi", "rate: an estimate", "paid so far: $2.24", "not used any more: the clip of x (rem"):
        assert answer in text
    assert "chain: how many clips hang together" in text
    assert "A run is refused" not in comment(replace(asked, limits=Limits(spend=Decimal(2))))


def test_the_texts_of_what_is_ordered_are_there_as_they_are_sent_and_no_others() -> None:
    steps = (
        step("a", Action.MAKE, prompt="a *red* boat", negative_prompt="text"),
        step("b", prompt="there already"),
        step("c", Action.MAKE, multi_shot=(("one", 2), ("two", 3))),
    )
    read = page(comment(plan(film_plan(*steps))))
    assert "Every text as it is sent, 2 clips" in read.text
    assert "a · prompt: a *red* boat · negative prompt: text" in read.text
    assert "c · shot 1 of the clip, 2 s: one · shot 2 of the clip, 3 s: two" in read.text
    assert "there already" not in read.text


def test_a_plan_with_nothing_to_make_is_one_sentence() -> None:
    text = comment(plan(film_plan(step("dawn"), step("harbour"))))
    assert "**Nothing to make: 2 reused. A run costs nothing.**" in text
    assert "|" not in text.replace("&#124;", "")


def test_what_is_held_is_not_said_to_be_up_to_date() -> None:
    text = comment(plan(film_plan(step("dawn", Action.HOLD), step("harbour"))))
    assert "**Nothing to make: 1 reused, 1 held. A run costs nothing.**" in text
    text = comment(plan(film_plan(step("a", Action.HOLD), step("b", Action.HOLD), step("c"), step("d", Action.MAKE))))
    assert "**1 clip would be made, $0.56 (estimate), 5 s of clips; 1 reused; 2 held.**" in text


def test_unknown_prices_doubt_and_orders_on_the_way_are_said() -> None:
    steps = (
        step("a", Action.MAKE, price=None),
        step("b", Action.MAKE),
        step("c", Action.RESUME, price=Decimal(0)),
        step("d", Action.RESOLVE, price=Decimal(0)),
    )
    text = comment(plan(film_plan(*steps)))
    assert "2 clips would be made, $0.56 and 1 order of unknown price" in text
    assert "1 order on the way is resumed at no further cost" in text
    assert "1 shot is in doubt and must be settled first" in text
    assert "klingflow resolve harbour.yaml d" in page(text).text


def test_an_order_that_two_films_wait_for_is_one() -> None:
    films = [film_plan(step("a", Action.RESUME), step("b", Action.RESOLVE), variant=name) for name in ("en", "de")]
    text = comment(plan(*films))
    assert "1 order on the way is resumed at no further cost; 1 shot is in doubt" in text


def test_a_rehearsal_is_free_and_says_so() -> None:
    drawn = step("a", Action.MAKE, price=Decimal(0), provider="animatic")
    text = comment(plan(film_plan(drawn), rehearsal=True))
    assert "1 clip would be drawn, free" in text
    assert "the lock stays as it is" in text


def test_films_of_a_matrix_have_their_own_totals_and_tables() -> None:
    films = [film_plan(step("a", Action.MAKE), step("b"), variant=name) for name in ("16x9", "9x16")]
    text = comment(plan(*films))
    assert "| <code>harbour &#91;16x9&#93;</code> | 1 | $0.56 | 5 s | 1 |" in text
    assert text.count("<code>a</code>") == 1
    assert "| <code>+</code> | <code>a</code> | all | prompt changed | 2 × $0.56 |" in text


def dubbed(*names: str) -> Any:
    """A film in several languages: dawn is one purchase, the title one each, pier is there in all but the last."""
    films = []
    for name in names:
        first = step("dawn", Action.MAKE, reason="new shot", prompt="the dawn")
        same = {"same_as": ShotId("dawn"), "same_as_film": names[0], "alone": first}
        dawn = replace(first, reason=f"same purchase as [{names[0]}]", seconds=0, price=Decimal(0), **same)
        change = (PartChange("prompt", "a *slow* pan", "a *fast* pan"),)
        said = (PartChange("prompt", f"old {name}", f"new {name}"),)
        films.append(
            film_plan(
                first if name == names[0] else dawn,
                step("pan", Action.MAKE, changes=change),
                step("title", Action.MAKE, changes=said, prompt=f"title in {name}"),
                step("pier", Action.MAKE if name == names[-1] else Action.REUSE, key=None),
                variant=name,
            )
        )
    return plan(*films)


def test_what_is_the_same_in_all_films_is_one_row_and_one_diff() -> None:
    text = comment(dubbed("en", "de", "fr"))
    rows = [line for line in text.splitlines() if line.startswith("| <code>&#43;") or "| <code>+" in line]
    assert rows == [
        "| <code>+</code> | <code>dawn</code> | all | new shot | $0.56 |",
        "| <code>+</code> | <code>pan</code> | all | prompt changed | 3 × $0.56 |",
        "| <code>+</code> | <code>title</code> | all | prompt changed | 3 × $0.56 |",
        "| <code>+</code> | <code>pier</code> | <code>fr</code> | prompt changed | $0.56 |",
    ]
    assert "same purchase" not in text
    assert text.count("What changed in <b>pan</b></summary>") == 1
    for name in ("en", "de", "fr"):
        assert text.count(f"What changed in <b>title</b> (<code>{name}</code>)</summary>") == 1
        assert f"- <b>title</b> (<code>{name}</code>) · prompt: title in {name}" in text
    assert "- <b>dawn</b> · prompt: the dawn" in text
    read = page(text)
    assert "1 shot reused" in read.text
    assert "pier (en, de)" in " ".join(read.text.split()).replace(" ,", ",").replace("( ", "(").replace(" )", ")")


def test_a_change_that_is_alike_in_the_texts_of_all_films_is_shown_once() -> None:
    def compared(name: str, *, new: str = "red ") -> Any:
        base = film(shot("title", prompt=f"a boat, subtitled in {name}"), shot("pier", prompt=f"in {name}"))
        now = film(shot("title", prompt=f"a {new}boat, subtitled in {name}"), shot("pier", prompt=f"{new} now {name}x"))
        return compare(side(base), side(now, make="title pier"))

    plans = [film_plan(step("title", Action.MAKE), step("pier", Action.MAKE), variant=name) for name in ("en", "de")]
    text = comment(plan(*plans), {name: compared(name) for name in ("en", "de")}, base="main")
    assert "Against <code>main</code>: 2 changed." in text
    assert text.count("What changed in <b>title</b></summary>") == 1
    assert "- prompt: a <ins>red </ins>boat, subtitled in en" in text
    assert "subtitled in de" not in text
    assert "As in <code>en</code>; the same words changed in the others." in text
    assert text.count("What changed in <b>pier</b> (") == 2
    text = comment(plan(*plans), {"en": compared("en"), "de": compared("de", new="blue ")}, base="main")
    assert text.count("What changed in <b>title</b> (") == 2
    assert "the same words" not in text


def test_the_lengths_of_films_are_told_once_where_they_are_one() -> None:
    films = [film_plan(step("a"), variant=name, length_s=length) for name, length in (("x", 25), ("y", 25), ("z", 31))]
    assert "length: 25 s of film (x, y); 31 s of film (z)" in page(comment(plan(*films))).text
    assert "length: 25 s of film\n" in page(comment(plan(*films[:2]))).text


def test_many_films_in_one_row_are_counted() -> None:
    names = [f"v{n}" for n in range(20)]
    films = [film_plan(step("a", Action.MAKE if name != "v19" else Action.REUSE), variant=name) for name in names]
    assert "<code>v5</code>, 13 more | prompt changed | 19 × $0.56 |" in comment(plan(*films))


def test_a_purchase_that_is_shared_with_another_shot_says_with_which() -> None:
    twin = step("twin", Action.MAKE, reason="same purchase as dawn [en]", seconds=0, price=Decimal(0))
    films = [film_plan(step("dawn", Action.MAKE), variant="en"), film_plan(twin, variant="de")]
    assert "| <code>de</code> | same purchase as dawn &#91;en&#93; | – |" in comment(plan(*films))


def test_without_a_base_the_purchase_that_the_lock_names_is_compared() -> None:
    text = comment(plan(film_plan(step("a", Action.MAKE, changes=(PartChange("prompt", "a slow pan", "a fast pan"),)))))
    assert "- prompt: a <del>slow</del><ins>fast</ins> pan" in text


def test_warnings_come_once_with_their_place_and_mend() -> None:
    span = Span("harbour.yaml", 12, 5, 9)
    warning = Problem(rule="long-chain", what="five in a row", mend="use meets", span=span, severity=Severity.WARNING)
    films = [film_plan(step("a"), variant=name, warnings=(warning,)) for name in ("x", "y")]
    read = page(comment(plan(*films)))
    assert read.text.count("harbour.yaml:12:5 five in a row → use meets") == 1


HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "](https://evil.example) ![x](https://evil.example/p.png) [a]: https://evil.example",
    "@octocat and @org/team fix #1, GH-2, octo/repo#3 and user@evil.example",
    "https://evil.example www.evil.example mailto:a@b.c :tada: $x^2$",
    "```\nfence\n```\n~~~\n    indented",
    "| cell | cell\n|--|--|\n# heading\n> quote\n- item\n1. item\n***\n---",
    "</code></details></summary><details open> <!-- x --> &lt;b&gt; &#60;b&#62;",
    "::set-output name=a::b\n::error file=x::y\n##[group]z\n::add-mask::x",
    "\x1b[31mred\x1b[0m \x07\x00\r\n\u202eright to left\u200b\u2028\ufeff\U000e0041",
    "`code` ``two`` \\` <b>**bold**__b__~~s~~*i*_i_",
    "--> -- <!--",
    "a\\|b\\\\|c",
]


def hostile_plan(text: str) -> Any:
    warning = Problem(rule="x", what=text, mend=text, span=Span(text, 1, 1, 2), severity=Severity.WARNING)
    changes = (PartChange("prompt", text, f"{text} more"), PartChange(text, text, text))
    steps = (
        step(text, Action.MAKE, reason=text, changes=changes, prompt=text, multi_shot=((text, 5),), resolution=text),
        step("b", provider=text, model=text),
    )
    planned = film_plan(*steps, title=text, warnings=(warning,), variant=text, critical=(ShotId(text),), wall_s=99)
    other = film(shot(text, prompt="before", title=text), shot("b"))
    now = film(shot(text, prompt=text, notes=text, tags=(text,)), shot("b", first_frame=None, clip=None), title=text)
    compared = compare(side(other), replace(side(now), plan=planned))
    dropped = (Dropped(variant=text, shot=ShotId(text), take=1, cost=Decimal(1), gone=True),)
    return plan(planned, film_plan(*steps), storyboard=text, dropped=dropped), {text: compared}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text(text: str) -> None:
    made, compared = hostile_plan(text)
    out = comment(made, compared, base=text, command=text)
    read = page(out)
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert not re.search(r"@\w|https?://|www\.|mailto:\w", read.text)
    assert not re.search(r"#\d|GH-\d|:tada:", read.prose)
    assert "##[" not in out
    assert not re.search(r"^(::|##\[)", out, re.MULTILINE)


@given(st.text(max_size=80))
def test_escaped_text_is_read_back_as_it_stands_and_as_nothing_else(text: str) -> None:
    for cell in (escape(text), code(text)):
        read = page(f"| a |\n| :-- |\n| x{cell}x |")
        expected = visible(text.replace("\r\n", "\n")).replace("\n", " ⏎ ").replace("\t", " ")
        assert read.text.replace("\u200b", "").split("a\n", 1)[1].strip() == f"x{expected}x"
        assert read.tags <= {"table", "thead", "tbody", "tr", "th", "td", "code"}


@given(st.text())
def test_the_mark_is_one_line_that_no_path_can_end(path: str) -> None:
    mark = marker(path)
    assert re.fullmatch(r"<!-- klingflow:[A-Za-z0-9._/%]* -->", mark)


def test_a_broken_storyboard_replaces_its_last_plan_by_what_is_wrong() -> None:
    fault = Problem(rule="x", what="no field 'duraton' @you", mend="say 'duration'", span=Span("harbour.yaml", 3, 5, 9))
    out = refused("harbour.yaml", [fault] * 1000)
    assert out.startswith(marker("harbour.yaml"))
    assert "**There is no plan: 1000 things to mend first.**" in out
    assert "harbour.yaml:3:5 no field 'duraton' @\u200byou → say 'duration'" in page(out).text
    assert "and 970 more" in out
    assert len(out.encode()) < LIMIT


def test_two_storyboards_have_two_marks() -> None:
    assert len({marker("a-b.yaml"), marker("a_b.yaml"), marker("a%2Db.yaml"), marker("a b.yaml")}) == 4


@pytest.mark.parametrize(
    ("films", "shots", "prompt"),
    [(1, 1, 200_000), (1, 300, 3_000), (1, 5_000, 2_500), (60, 40, 2_500), (400, 3, 300)],
)
def test_a_comment_always_fits_with_its_tables_whole(films: int, shots: int, prompt: int) -> None:
    change = (PartChange("prompt", "*old* " * (prompt // 6), "<new> " * (prompt // 6)),)
    steps = [step(f"shot-{i:04}", Action.MAKE, changes=change, depth=2) for i in range(shots)]
    other = [replace(one, reason=f"{one.reason} otherwise") for one in steps]  # half of the films are different
    made = plan(*(film_plan(*(other if i % 2 else steps), variant=f"v{i}") for i in range(films)))
    out = comment(made)
    assert len(out.encode()) < LIMIT
    tables = [block.splitlines() for block in out.split("\n\n") if block.startswith("|")]
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)
    assert out.count("<details>") == out.count("</details>")
    assert f"{films * shots} clip" in page(out).text.split("Expected")[0]


@settings(max_examples=6, deadline=None)
@given(st.text(alphabet="`<>|*_@#&\u202e\U000e0041 \n", min_size=200, max_size=400), st.integers(1, 6))
def test_a_comment_fits_whatever_the_names_are(text: str, films: int) -> None:
    made, compared = hostile_plan(text * 4)
    out = comment(replace(made, films=made.films * films), compared, base=text * 4, command=text * 4)
    assert len(out.encode()) < LIMIT
    page(out)


def test_what_was_left_out_is_counted() -> None:
    steps = [step(f"shot-{i:04}", Action.MAKE, reason="prompt changed " * 15) for i in range(3_000)]
    out = comment(plan(film_plan(*steps)))
    shown = sum("| <code>shot-" in line for line in out.splitlines())
    assert f"… and {3_000 - shown} more rows; the totals above count them." in unescape(out)
