"""A plan as a pull request comment in GitHub's Markdown (GitLab reads it too).

Every text from a storyboard passes `escape` before it is written here: a title, an id, a prompt is text and nothing
else, whatever it holds. The comment always fits: what is too much is folded away, then summed up, row by row and
prompt by prompt, and no table or block is ever cut in its middle.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from urllib.parse import quote

from klingflow.core.digest import PartChange
from klingflow.core.model import ShotId
from klingflow.core.redact import redact
from klingflow.core.source import Problem, visible
from klingflow.output.answers import answers, in_flight, refused_by_limit, said_once, texts
from klingflow.output.words import clock, count, duration, unknown
from klingflow.planning.compare import Comparison, FieldChange, Segments, ShotChange, ShotState, words
from klingflow.planning.plan import SIGN, Action, FilmPlan, Plan, Step, Totals, totals
from klingflow.planning.price import money, noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """The pictures of a change that were written beside a plan."""

    shots: int
    """That a reviewer has to look at."""
    strip: bool
    """Whether there is a picture of all of them."""
    url: str = ""
    """The address of their folder, http or https, without a slash at its end; empty where it has none. A comment on
    GitHub shows no picture that has no address: neither data: URLs nor what is in an artifact."""


PICTURES_MARK = "<!-- klingflow:pictures -->"
"""A line that a job replaces by a link to the page, where that is known only after it was uploaded (action.yml)."""

LIMIT = 65_536
"""Characters of a comment on GitHub; kept in bytes, which are never fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much of everything is shown."""

    films: int
    """Rows of the table of films."""
    rows: int
    """Rows of the table of shots."""
    diffs: int
    """Folded changes."""
    text: int
    """Characters of one folded text."""
    warnings: int
    prompts: int = 0
    """Clips whose texts are shown as they are sent."""
    cell: int = 300
    """Characters of one cell."""


ROOMS = (
    Room(films=40, rows=400, diffs=100, text=6_000, warnings=50, prompts=400),
    Room(films=40, rows=400, diffs=60, text=1_500, warnings=30, prompts=60),
    Room(films=40, rows=200, diffs=25, text=800, warnings=20, prompts=25),
    Room(films=30, rows=100, diffs=10, text=600, warnings=10, prompts=10, cell=160),
    Room(films=20, rows=40, diffs=3, text=400, warnings=5, prompts=5, cell=120),
    Room(films=12, rows=15, diffs=0, text=0, warnings=3, cell=100),
    Room(films=8, rows=5, diffs=0, text=0, warnings=1, cell=80),
    Room(films=4, rows=1, diffs=0, text=0, warnings=0, cell=60),
)
"""From the roomiest to the one that fits whatever the plan: at most 4 films of 1 short row."""


def comment(
    plan: Plan,
    comparisons: Mapping[str, Comparison] | None = None,
    *,
    path: str = "",
    base: str = "",
    command: str = "",
    pictures: Pictures | None = None,
) -> str:
    """The comment for a plan; `comparisons` by variant, `base` the ref that they compare with.

    `path` names the storyboard to the reader ("films/one/harbour.yaml"; by default, its path in its project), `command`
    is what makes the plan real, as the reader would type it ("klingflow run harbour.yaml").
    Its first line is a mark that only this storyboard's comments have, so that the next plan replaces it.
    """
    for room in ROOMS:
        text = _comment(plan, comparisons or {}, path or plan.storyboard, base, command, pictures, room)
        if len(text.encode()) < LIMIT:
            return text
    raise AssertionError("BUG: the smallest comment does not fit")


def refused(storyboard: str, problems: Sequence[Problem]) -> str:
    """The comment for a storyboard that no plan can be made of: it replaces the last plan, which holds no more."""
    rows = [_problem(problem, ROOMS[0]) for problem in problems[:30]]
    if len(problems) > len(rows):
        rows.append(f"- … and {len(problems) - len(rows)} more: `klingflow check` shows them.")
    blocks = [
        marker(storyboard),
        f"### {code(_short(storyboard, 200))}",
        f"**There is no plan: {count(len(problems), 'thing')} to mend first.**",
        "\n".join(rows),
        "Nothing was bought for this comment.",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def marker(storyboard: str) -> str:
    """The hidden first line of the comments about one storyboard. It can neither be ended nor forged by a path."""
    safe = re.sub(r"[^A-Za-z0-9._/]", lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode()), storyboard)
    return f"<!-- klingflow:{safe[:500]} -->"


def _comment(
    plan: Plan,
    comparisons: Mapping[str, Comparison],
    path: str,
    base: str,
    command: str,
    pictures: Pictures | None,
    room: Room,
) -> str:
    sums = totals(plan.films)
    blocks = [
        marker(path),
        f"### {_heading(plan, path, room)}",
        f"**{verdict(plan, sums)}**",
        *_pictures(pictures),
        *_lines(plan, comparisons, base, sums),
        *_answers(plan, room),
    ]
    shown = plan.films[: room.films]
    if len(plan.films) > 1:
        blocks.append(_films_table(shown, len(plan.films)))
    blocks += _shots(plan.films, comparisons, room)
    blocks += _diffs(plan.films, comparisons, room)
    blocks += _prompts(plan.films, room)
    blocks += _warnings(plan.films, room)
    blocks.append(_footer(plan, command, room))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _pictures(found: Pictures | None) -> list[str]:
    """Where the changed shots can be looked at."""
    if found is None:
        return []
    what = f"{count(found.shots, 'shot')} before and now" if found.shots else "what changed"
    if not found.url:
        return [f"Review page: {what}, in <code>review.html</code>.", PICTURES_MARK]
    page, strip = (f"{_address(found.url)}/{name}" for name in ("review.html", "strip.jpg"))
    lines = [f"[Review page]({page}): {what}."]
    return [*lines, f"[![{what}]({strip})]({page})"] if found.strip else lines


def _address(url: str) -> str:
    """An address that ends no link and no picture of Markdown."""
    return quote(url, safe=":/%@!$&'+,;=")


def _heading(plan: Plan, path: str, room: Room) -> str:
    title = plan.films[0].title if plan.films else ""
    named = code(_short(path, 200))
    return f"{escape(_short(title, room.cell))} · {named}" if title else named


def verdict(plan: Plan, sums: Totals) -> str:
    """The plan in one sentence."""
    steps = [step for film in plan.films for step in film.steps]
    orders = [step for step in steps if step.orders]
    parts = []
    if orders:
        would = "would be drawn" if plan.rehearsal else "would be made"
        cost = f"{_cost(orders, sums)}{noted(step.basis for step in orders)}"
        parts.append(f"{count(sums.tasks, 'clip')} {would}, {cost}, {sums.seconds} s of clips")
    if resumed := len({step.key for step in steps if step.action is Action.RESUME}):  # films may share an order
        are = "is" if resumed == 1 else "are"
        parts.append(f"{count(resumed, 'order')} on the way {are} resumed at no further cost")
    if doubt := len({(step.shot, step.take, step.key) for step in steps if step.action is Action.RESOLVE}):
        parts.append(f"{count(doubt, 'shot')} {'is' if doubt == 1 else 'are'} in doubt and must be settled first")
    if sums.later.tasks:
        waits = "waits" if sums.later.tasks == 1 else "wait"
        cost = "price not known" if sums.later.spend is None else _usd(sums.later.spend) if sums.later.spend else "free"
        parts.append(f"{count(sums.later.tasks, 'clip')} {waits} for a person's decision, {cost} later")
    if stuck := sum(step.action is Action.MAKE and not step.orders and step.same_as is None for step in steps):
        parts.append(f"{count(stuck, 'shot')} {'is' if stuck == 1 else 'are'} not made in this run")
    if not steps:
        return "No shot is selected."
    words = ((Action.ADOPT, "adopted"), (Action.REUSE, "reused"), (Action.HOLD, "held"))
    there = [f"{sums.steps[action]} {word}" for action, word in words if sums.steps[action]]
    if not parts:
        return f"Nothing to make: {', '.join(there)}. A run costs nothing."
    return "; ".join((*parts, *there)) + "."


def _cost(orders: Sequence[Step], sums: Totals) -> str:
    if sums.spend is not None:
        return "free" if sums.spend == 0 else _usd(sums.spend)
    known = sum((step.price for step in orders if step.price is not None), Decimal(0))
    unknown = sum(step.price is None for step in orders)
    return f"{_usd(known)} and {count(unknown, 'order')} of unknown price" if known else "price not known"


def _lines(plan: Plan, comparisons: Mapping[str, Comparison], base: str, sums: Totals) -> list[str]:
    """The lines under the verdict: what refuses it, rehearsal, the change's own cost, time."""
    out = []
    why = refused_by_limit(plan, sums)
    if why:
        out.append(f"**A run is refused: {escape(why)}.**")
    if plan.rehearsal:
        out.append("A rehearsal with the animatic: free, drawn on the spot, and the lock stays as it is.")
    if comparisons:
        out.append(_against(list(comparisons.values()), base))
    longest = max(plan.films, key=lambda film: film.wall_s, default=None)
    if longest is not None and longest.critical and longest.wall_s >= 1:
        chain = longest.critical
        way = " → ".join(code(_short(shot, 100)) for shot in chain[:6])
        way += f" → … ({len(chain)} shots)" if len(chain) > 6 else ""
        together = in_flight(longest, plan)
        chained = f"; the longest chain takes {duration(longest.chain_s)}" if together else ""
        waits = "; what waits is not in it" if sums.later.tasks else ""
        out.append(f"Expected time: about {duration(longest.wall_s)}{together}{chained}, along {way}{waits}.")
        out += [
            f"{code(found.shot)}: <code>meets</code> {code(found.meets)} instead of <code>continues</code> would save "
            f"about {duration(found.saves_s)}."
            for found in longest.shortcuts[:3]
        ]
    return out


def _answers(plan: Plan, room: Room) -> list[str]:
    """What whoever pays asks, a line each."""
    lengths: dict[str, list[str]] = {}
    for film in plan.films:
        if film.length_s is not None:
            lengths.setdefault(clock(film.length_s), []).append(film.variant)
    out = answers(plan)
    if lengths:
        each = [
            f"{length} of film" + (f" ({', '.join(_named(names))})" if len(names) < len(plan.films) else "")
            for length, names in lengths.items()
        ]
        out.insert(0, ("length", "; ".join(each)))
    lines = [f"- {question}: {escape(_short(redact(answer), 2 * room.cell))}" for question, answer in out]
    return ["\n".join(lines)] if lines else []


def _prompts(films: Sequence[FilmPlan], room: Room) -> list[str]:
    """The texts of what would be ordered, exactly as they are sent, folded."""
    orders = [(film, step) for film in films for step in film.steps if step.orders and texts(step)]
    if not orders:
        return []
    if room.prompts == 0:
        return [f"The {count(len(orders), 'prompt')} as sent: `klingflow plan --prompts` shows them."]
    shared: dict[tuple[str | None, ShotId | None, int], list[str]] = {}
    for film in films:
        for step in film.steps:
            if step.same_as == step.shot:
                shared.setdefault((step.same_as_film, step.same_as, step.take), []).append(film.variant)
    lines = []
    for film, step in orders[: room.prompts]:
        name = _short(step.shot, 100) + (f" take {step.take}" if step.take > 1 else "")
        names = [film.variant, *shared.get((film.variant, step.shot, step.take), [])]
        in_films = f" ({_in_films(names, len(films))})" if len(names) < len(films) else ""
        said = [f"{field}: {escape(_short(redact(text), room.text))}" for field, text in texts(step)]
        lines.append(f"- <b>{escape(name)}</b>{in_films} · " + " · ".join(said))
    rest = len(orders) - len(lines)
    lines += [f"- … and {rest} more: `klingflow plan --prompts` shows them"] if rest else []
    return [_fold(f"Every text as it is sent, {count(len(orders), 'clip')}", "\n".join(lines))]


def _against(found: Sequence[Comparison], base: str) -> str:
    name = code(_short(base, 100)) if base else "the base"
    tally = {state: len({shot for c in found for shot, s in c.states.items() if s is state}) for state in ShotState}
    counts = [f"{n} {state.value}" for state, n in tally.items() if n and state is not ShotState.UNCHANGED]
    moved = len({change.shot for c in found for change in c.shots if change.moved is not None})
    counts += [f"{moved} moved"] if moved else []
    line = f"Against {name}: {', '.join(counts)}." if counts else f"Against {name}: no shot differs."
    unread = [problem.what for problem in found[0].unread]
    if unread:
        line += f" {escape(_short(redact(unread[0]), 300))}"
        line += f"; {count(len(unread) - 1, 'more file')} likewise." if len(unread) > 1 else "."
    adds, before = _sum(c.cost.change for c in found), _sum(c.cost.base_to_buy for c in found)
    if adds is not None and (adds or before):
        more = "adds" if adds >= 0 else "saves"
        line += f" This change {more} **{_usd(abs(adds))}**"
        line += f" (a run of {name} itself would buy {_usd(before)})." if before else "."
    elif adds is None and unread:
        line += " So it is not known what this change adds to the next run."
    whole, was = _sum(c.cost.film for c in found), _sum(c.cost.base_film for c in found)
    if whole and was is not None and was != whole:
        line += f" The whole film made anew: {_usd(was)} → {_usd(whole)}."
    elif whole:
        line += f" The whole film made anew would be {_usd(whole)}."
    return line


def _films_table(films: Sequence[FilmPlan], every: int) -> str:
    rows = []
    for film in films:
        sums = totals([film])
        ready = sum(sums.steps[action] for action in (Action.ADOPT, Action.REUSE, Action.HOLD))
        price = "?" if sums.spend is None else _usd(sums.spend)
        rows.append((code(_short(film.label, 100)), str(sums.tasks), price, f"{sums.seconds} s", str(ready)))
    out = _table(("film", "to make", "price", "clips", "there already"), rows, "lrrrr")
    rest = every - len(films)
    return out + (f"\n\n… and {count(rest, 'more film')}; the totals above count them." if rest else "")


_NOTHING = "–"
_MOST_NAMES = 6
"""Films that are named one by one in a row."""


@dataclass(slots=True, eq=False)
class _Row:
    """What is true of one take of one shot, and in which films."""

    sign: str
    name: str
    why: str
    price: str
    chain: str
    films: list[str] = field(default_factory=list)
    orders: int = 0


def _shots(films: Sequence[FilmPlan], comparisons: Mapping[str, Comparison], room: Room) -> list[str]:
    """One table of all films: what is the same in several is one row, which names them."""
    changes = {variant: {change.shot: change for change in found.shots} for variant, found in comparisons.items()}
    rows = _rows(films, changes, room)
    if not rows:
        return []
    several, deep = len(films) > 1, any(step.depth > 1 for film in films for step in film.steps)
    shown = []
    for row in rows[: room.rows]:
        price = f"{row.orders} × {row.price}" if row.orders > 1 and row.price.startswith("$") else row.price
        in_films = (_in_films(row.films, len(films)),) if several else ()
        shown.append((row.sign, row.name, *in_films, row.why, price, *((row.chain,) if deep else ())))
    heads = ("", "shot", *(("films",) if several else ()), "why", "price", *(("chain",) if deep else ()))
    sides = "cl" + ("l" if several else "") + "lr" + ("r" if deep else "")
    blocks = [_table(heads, shown, sides)]
    if len(rows) > len(shown):
        blocks.append(f"… and {count(len(rows) - len(shown), 'more row')}; the totals above count them.")
    return [*blocks, *_ready(films, changes, room)]


def _rows(
    films: Sequence[FilmPlan], changes: Mapping[str, Mapping[ShotId, ShotChange]], room: Room
) -> list[_Row]:
    places: dict[tuple[ShotId, int], dict[tuple[str, ...], _Row]] = {}
    gone: dict[ShotId, _Row] = {}
    known: dict[tuple[str, ShotId, int], tuple[str, ...]] = {}
    for film in films:
        mine = changes.get(film.variant, {})
        for step in said_once(film.steps):
            change = mine.get(step.shot)
            if step.action is Action.REUSE and change is None:
                continue
            cells = _cells_of(step, change, room)
            if step.same_as_film is not None and step.alone is not None:
                # The very purchase of a row that is there: that row says all of it, and for which films.
                orderer, alone = (step.same_as_film, step.shot, step.take), _cells_of(step.alone, change, room)
                cells = alone if step.same_as == step.shot and known.get(orderer) == alone else cells
            known[film.variant, step.shot, step.take] = cells
            row = places.setdefault((step.shot, step.take), {}).setdefault(cells, _Row(*cells))
            row.films.append(film.variant)
            row.orders += step.orders
        for change in mine.values():
            if change.state is ShotState.REMOVED:
                why = "removed; what was bought stays in the store"
                left = _Row(code("-"), code(_short(change.shot, 100)), why, _NOTHING, _NOTHING)
                gone.setdefault(change.shot, left).films.append(film.variant)
    return [*(row for rows in places.values() for row in rows.values()), *gone.values()]


def _cells_of(step: Step, change: ShotChange | None, room: Room) -> tuple[str, str, str, str, str]:
    name = code(_short(step.shot, 100)) + (f" take {step.take}" if step.take > 1 else "")
    why = [escape(_short(redact(step.reason), room.cell))] if step.action is not Action.REUSE or change is None else []
    if change is not None:
        why += _changed(change, step, room.cell)
    if step.action is Action.REUSE:
        why.append("its clip stays")
    price = _NOTHING
    if step.orders:
        price = "?" if step.price is None else "free" if step.price == 0 else _usd(step.price)
    elif step.later is not None:
        later = step.later.price
        price = "? later" if later is None else f"{_usd(later)} later" if later else "free"
    was = f"{change.depth[0]} → " if change is not None and change.depth else ""
    return code(SIGN[step.action]), name, "; ".join(why), price, f"{was}{step.depth}"


def _in_films(names: Sequence[str], every: int) -> str:
    if len(names) == every:
        return "all"
    *each, last = _named(names)
    listed = [code(name) for name in each]
    listed.append(last if len(names) > _MOST_NAMES else code(last))
    return ", ".join(listed)


def _named(names: Sequence[str]) -> list[str]:
    """The first few names, and how many more there are."""
    more = [f"{len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return [_short(name, 40) for name in names[:_MOST_NAMES]] + more


def _ready(
    films: Sequence[FilmPlan], changes: Mapping[str, Mapping[ShotId, ShotChange]], room: Room
) -> list[str]:
    """Folded: the shots that no row is about."""
    ready: dict[ShotId, list[str]] = {}
    for film in films:
        for shot in dict.fromkeys(step.shot for step in film.steps if step.action is Action.REUSE):
            if shot not in changes.get(film.variant, {}):
                ready.setdefault(shot, []).append(film.variant)
    if not ready:
        return []
    names = [
        code(_short(shot, 100)) + (f" ({_in_films(found, len(films))})" if len(found) < len(films) else "")
        for shot, found in islice(ready.items(), room.rows)
    ]
    more = f" and {len(ready) - len(names)} more" if len(ready) > len(names) else ""
    return [_fold(f"{count(len(ready), 'shot')} reused", ", ".join(names) + more)]


def _changed(change: ShotChange, step: Step, cell: int) -> list[str]:
    out = []
    if change.was is not None:
        out.append(f"renamed from {code(_short(change.was, 100))}")
    if change.moved is not None:
        out.append(f"moved from place {change.moved[0]} to {change.moved[1]}")
    fields = [field.field for field in change.fields if step.action is not Action.MAKE or not field.buys]
    if fields and change.state is not ShotState.NEW:
        out.append(f"{escape(', '.join(fields[:8]))}{' …' if len(fields) > 8 else ''} changed")
    out += [escape(_short(redact(text), cell)) for text in unknown(change.unknown)]
    return out


def _diffs(films: Sequence[FilmPlan], comparisons: Mapping[str, Comparison], room: Room) -> list[str]:
    """Folded, shot by shot: texts word by word, other fields before and after. What changed alike in several films is
    there once, in the words of the first."""
    found: dict[tuple[str, str, object], _Changed] = {}

    def add(title: str, shot: str, fields: Sequence[FieldChange | PartChange], film: FilmPlan) -> None:
        alike = tuple(_edits(part) if isinstance(part, FieldChange) else part for part in fields)
        one = found.setdefault((title, shot, alike), _Changed(fields))
        one.films.append(film.variant)
        one.alike = one.alike and one.fields == fields

    for film in films:
        compared = comparisons.get(film.variant)
        changed = {change.shot: change for change in compared.shots} if compared else {}
        for change in changed.values():
            if change.fields:
                title = "The new shot" if change.state is ShotState.NEW else "What changed in"
                add(title, change.shot, change.fields, film)
        for step in film.steps:
            # Without a base to compare with: what the plan knows of the purchase that the lock names.
            known = tuple(part for part in step.changes if part.old)
            if known and step.shot not in changed:
                add("What changed in", step.shot, known, film)
        if compared is not None and compared.film:
            add("What changed in", "", compared.film, film)
    if not found:
        return []
    if room.diffs == 0:
        return [f"{count(len(found), 'change')}; what they are, `klingflow plan --against REF` shows."]
    out = []
    for (title, shot, _), one in islice(found.items(), room.diffs):
        name = escape(_short(shot, 100)) if shot else "the film itself"
        in_films = f" ({_in_films(one.films, len(films))})" if len(one.films) < len(films) else ""
        body = "\n".join(_line(part if isinstance(part, FieldChange) else _as_field(part), room) for part in one.fields)
        if not one.alike:
            body += f"\n\nAs in {code(_short(one.films[0], 40))}; the same words changed in the others."
        out.append(_fold(f"{title} <b>{name}</b>{in_films}", body))
    rest = len(found) - len(out)
    return out + ([f"… and {count(rest, 'more change')}."] if rest > 0 else [])


@dataclass(slots=True, eq=False)
class _Changed:
    fields: Sequence[FieldChange | PartChange]
    films: list[str] = field(default_factory=list)
    alike: bool = True
    """Whether the texts are the same in all of them, and not only what changed in them."""


def _edits(change: FieldChange) -> object:
    """What changed in a text, without what stayed around it; the whole change where it is no text."""
    if not change.segments or all(op != "=" for op, _ in change.segments):
        return change
    return change.field, change.buys, tuple((op, text if op != "=" else "") for op, text in change.segments)


_TEXTS = frozenset({"prompt", "negative_prompt", "multi_shot"})


def _as_field(change: PartChange) -> FieldChange:
    segments = words(change.old, change.new) if change.field in _TEXTS else ()
    return FieldChange(field=change.field, old=change.old, new=change.new, segments=segments, buys=True)


def _line(field: FieldChange, room: Room) -> str:
    """One field as a list item: its words before and after."""
    mark = "" if field.buys else " (buys nothing)"
    if field.segments:
        return f"- {escape(field.field)}{mark}: {_words(field.segments, room.text)}"
    half = max(40, room.text // 2)
    old, new = escape(_short(redact(field.old), half)), escape(_short(redact(field.new), half))
    return f"- {escape(field.field)}{mark}: " + " → ".join((old or "<i>none</i>", new or "<i>none</i>"))


def _words(segments: Segments, most: int) -> str:
    """A word diff in one line. Long stretches that stayed are shortened first, then the end is left out."""
    out, left = [], most
    for i, (op, text) in enumerate(segments):
        if op == "=":
            text = _shorten(text, 80, i > 0, i + 1 < len(segments))
        if left <= 0:
            out.append(" … (the rest does not fit here)")
            break
        text = _short(redact(text), left)
        left -= len(text)
        shown = escape(text)
        out.append(shown if op == "=" else f"<del>{shown}</del>" if op == "-" else f"<ins>{shown}</ins>")
    return "".join(out)


def _shorten(text: str, keep: int, before: bool, after: bool) -> str:
    """A stretch that stayed, with at most `keep` characters beside each change."""
    if len(text) <= 2 * keep:
        return text
    head = text[:keep] if before else ""
    tail = text[-keep:] if after else ""
    return f"{head} … {tail}"


def _warnings(films: Sequence[FilmPlan], room: Room) -> list[str]:
    found = {(problem.what, problem.span): problem for film in films for problem in film.warnings}
    if not found:
        return []
    shown = [_problem(problem, room) for problem in islice(found.values(), room.warnings)]
    if not shown:
        return [f"{count(len(found), 'warning')}: `klingflow check` shows them."]
    rest = len(found) - len(shown)
    return ["\n".join(["**Warnings**", "", *shown, *([f"- … and {rest} more"] if rest else [])])]


def _problem(problem: Problem, room: Room) -> str:
    place = f"{code(_short(str(problem.span), 200))} " if problem.span else ""
    return f"- {place}{_said(problem, room.cell)}"


def _said(problem: Problem, most: int) -> str:
    mend = f" → {escape(_short(redact(problem.mend), most))}" if problem.mend else ""
    return f"{escape(_short(redact(problem.what), most))}{mend}"


def _footer(plan: Plan, command: str, room: Room) -> str:
    doubt = [step.shot for film in plan.films for step in film.steps if step.action is Action.RESOLVE]
    lines = []
    if doubt:
        name = code(_short(f"klingflow resolve {shlex.quote(plan.storyboard)} {doubt[0]}", 300))
        lines.append(f"Settle what is in doubt with {name}.")
    if command:
        lines.append(f"Nothing was bought for this comment. {code(_short(command, 300))} does what it says.")
    else:
        lines.append("Nothing was bought for this comment.")
    signs = " ".join(f"{code(sign)} {action.value}" for action, sign in SIGN.items())
    return "\n".join((*lines, f"<sub>{signs} {code('-')} removed</sub>"))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], sides: str) -> str:
    rule = {"l": ":--", "r": "--:", "c": ":-:"}
    lines = [_cells(heads), _cells([rule[side] for side in sides]), *(_cells(row) for row in rows)]
    return "\n".join(lines)


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _fold(summary: str, body: str) -> str:
    """A part that opens on a click. The empty lines let the body be Markdown."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


_ACTIVE = frozenset("\\`*_[]<>#|~&@$")
"""Every character that Markdown, HTML, mentions, references, formulas or the log of a job may act on inside a line. As
a character reference it is the same letter to a reader and nothing to a parser. No line begins with text of others."""
_BREAK = "&#8203;"
"""A space of no width: what is looked for in finished text (mentions, references, bare links) is there no more."""
_LINKS = re.compile(r"(?i)@|:(?=//)|\bwww(?=\.)|\b(?:mailto|xmpp):")
_REFERENCES = re.compile(r"(?i)#(?=\d)|\bGH-(?=\d)|:(?=[a-z0-9+_-]+:)")


def escape(text: str) -> str:
    """Text that is only text in a comment: no markup, HTML, mention, link, reference, fence, command or control."""
    return _inert(_REFERENCES.sub("\\g<0>\0", _flat(text)))


def code(text: str) -> str:
    """The same as code, where references are not linked: so that it can be copied unchanged."""
    return f"<code>{_inert(_flat(text))}</code>"


def _flat(text: str) -> str:
    return visible(text.replace("\r\n", "\n")).replace("\n", " ⏎ ").replace("\t", " ")


def _inert(text: str) -> str:
    broken = _LINKS.sub("\\g<0>\0", text)
    return "".join(_BREAK if c == "\0" else f"&#{ord(c)};" if c in _ACTIVE else c for c in broken)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(0, most - 1)] + "…"


def _usd(amount: Decimal) -> str:
    return money(amount).replace("<", "&lt;")


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
