"""`klingflow takes`: the takes of each shot, which one counts, and another choice."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal

import klingflow
from klingflow import Chosen, Effect, Film, Storyboard, TakeRow, UsageError, money
from klingflow.cli import answer, storyboards
from klingflow.core.errors import DONE
from klingflow.core.model import Proposal
from klingflow.core.source import inert, visible
from klingflow.output import terminal
from klingflow.output.table import Row, table
from klingflow.output.words import wrapped


def takes(
    path: str | None,
    set: Sequence[str] = (),
    why: str | None = None,
    open: bool = False,
    port: int | None = None,
    format: str = "text",
) -> int:
    """Lists what the lock names: a run keeps every take of a shot that lives, so that a person can go back to one. With
    `set`, chooses one; with `open`, serves the page to choose on."""
    storyboard = klingflow.open(storyboards.one(path))
    if open:
        if set or why is not None or format == "json":
            raise UsageError("--open shows the page to choose on", "leave --set, --why and --json out")
        from klingflow.cli import takes_page

        takes_page.serve(storyboard, port or 0)
        return DONE
    if port is not None:
        raise UsageError("--port is that of the page", "write --open --port N")
    if set:
        return _choose(storyboard, set, why or "", json=format == "json")
    if why is not None:
        raise UsageError("--why says why a take is chosen", "name it with --set SHOT=N")
    rows = storyboard.takes()
    stills = [(film, one) for film in storyboard.films() for one in film.proposals()]
    if format == "json":
        listed = [
            {"film": film.label, "variant": film.variant, "shot": one.shot, "frame": one.frame, "stills": one.stills,
             "take": one.take}
            for film, one in stills
        ]  # fmt: skip
        answer.show(storyboard=storyboard.relative(), takes=[asdict(row) for row in rows], stills=listed)
        return DONE
    width = terminal.width(sys.stdout)
    lines = _listed(rows, width) if rows else ["no take yet: klingflow run makes them"]
    for film, one in stills:
        lines += ["", *_stills(film, one, width)]
    print(inert("\n".join(lines)))
    return DONE


def _listed(rows: Sequence[TakeRow], width: int) -> list[str]:
    bases = any(row.basis for row in rows)
    shown = [Row((*_cells(row), *((visible(row.basis),) if bases else ())), visible(_notes(row))) for row in rows]
    head = HEAD if bases else HEAD[:-1]
    return [*table(head, shown, width, right=("TAKE", "LENGTH", "PRICE")), *wrapped(COUNTS, width)]


def _stills(film: Film, one: Proposal, width: int) -> list[str]:
    """The stills that are proposed for a frame, and which one counts."""
    name = f"{one.shot}.{one.frame}"
    where = f" [{film.variant}]" if film.variant else ""
    way = "" if one.take else f"; --set {name}=N chooses, and what needs it is not bought before"
    chosen = f"still {one.take} counts" if one.take else "no still is chosen"
    lines = wrapped(visible(f"{name}{where}: {chosen}{way}"), width, "", "  ")
    for take, path in enumerate(one.stills, 1):
        mark = "  * " if take == one.take else "    "
        lines += wrapped(visible(f"{take} {path}"), width, mark, "      ", whole=True)
    return lines


COUNTS = "* counts: the film uses it, and other shots continue it. --set SHOT=N chooses another."
HEAD = ("  SHOT", "TAKE", "LENGTH", "PRICE", "PROVIDER", "DATE", "CLIP", "BASIS")
"""BASIS, of the price, only where there is one: it is the last, so that it makes room."""


def _choose(storyboard: Storyboard, given: Sequence[str], why: str, *, json: bool) -> int:
    if len(given) > 1:
        raise UsageError("--set is here more than once", "choose one take at a time: each may make others stale")
    name, equals, number = given[0].partition("=")
    if not (equals and number.isascii() and number.isdigit() and len(number) < 5):
        mend = "write SHOT=N: dawn=3; or SHOT.FRAME=N: dawn.first_frame=2"
        raise UsageError(f"--set {given[0]!r} is no choice", mend)
    chosen = storyboard.choose(name, int(number), why=why)
    if json:
        answer.show(storyboard=storyboard.relative(), chosen=_plain(chosen))
        return DONE
    print(inert("\n".join(_said(storyboard, chosen, terminal.width(sys.stdout)))))
    return DONE


def _plain(chosen: Chosen) -> dict[str, object]:
    found = chosen.consequences
    return {
        "shot": found.shot,
        "frame": found.frame,
        "take": found.take,
        "was": found.was,
        "clips": [{"variant": variant, "clip": clip} for variant, clip in found.clips.items()],
        "by": chosen.by,
        "why": chosen.why,
        "date": chosen.date,
        "file": chosen.file,
        "edited": chosen.edited,
        "stale": [asdict(effect) for effect in found.stale],
        "spared": [asdict(effect) for effect in found.spared],
        "spend": found.spend,
        "run": found.run,
    }


def _said(storyboard: Storyboard, chosen: Chosen, width: int) -> list[str]:
    """What was chosen, what that makes stale, and what it comes to."""
    found = chosen.consequences
    what = f"{found.name}: {'still' if found.frame else 'take'} {found.take}"
    if found.take == found.was:
        first = f"{what} counts, as before; the lock says that {chosen.by} chose it"
    else:
        instead = "" if found.was is None else f", and not {'still' if found.frame else 'take'} {found.was}"
        first = f"{what} counts now{instead}: written into {chosen.file}; the lock says that {chosen.by} chose it"
    lines = wrapped(visible(first), width, "", "  ", whole=True)
    if found.stale:
        lines += ["", "to be made because of it:"]
        lines += _effects(found.stale, width)
        if len(found.stale) > 1:
            lines += wrapped(f"together {_price(found.spend, _bases(found.stale))}", width, "  ", "    ")
    else:
        lines.append("nothing has to be made because of it")
    if found.spared:
        names = ", ".join(f"{one.shot}{f' take {one.take}' if one.take > 1 else ''}" for one in found.spared)
        lines += wrapped(visible(f"no longer to be made: {names}"), width, "", "  ")
    run = f"klingflow run {shlex.quote(storyboard.path)}"
    spend = "nothing" if found.run == 0 else _price(found.run)
    lines += wrapped(f"{run} would spend {spend} in all", width, "", "  ", whole=True)
    return lines


def _effects(effects: Sequence[Effect], width: int) -> list[str]:
    films = len({effect.variant for effect in effects}) > 1
    out = []
    for effect in effects:
        name = effect.shot + (f" take {effect.take}" if effect.take > 1 else "")
        name += f" [{effect.variant}]" if films else ""
        price = _price(effect.price) + (" later" if effect.waits and effect.price != 0 else "")
        out += wrapped(visible(f"{name}: {effect.reason}, {price}"), width, "  ", "    ")
    return out


def _price(amount: Decimal | None, bases: Sequence[str] = ()) -> str:
    if amount is None:
        return "price unknown"
    return (money(amount) if amount else "free") + (f" ({', '.join(bases)})" if amount and bases else "")


def _bases(effects: Sequence[Effect]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(effect.basis for effect in effects if effect.basis))


def _cells(row: TakeRow) -> tuple[str, ...]:
    name = f"{'*' if row.counts else ' '} {row.shot}" + (f" [{row.variant}]" if row.variant else "")
    price = "unknown" if row.cost is None else money(row.cost) if row.cost else "free"
    return visible(name), str(row.take), f"{row.seconds} s", price, row.provider, row.date, row.clip[:12]


def _notes(row: TakeRow) -> str:
    notes = ["stale: klingflow plan says why"] if row.stale else []
    notes += [] if row.here else ["not in this store"]
    notes += [f"taken in by hand: {row.taken_in}"] if row.taken_in else []
    return "; ".join(notes)
