"""A plan, and how a run ended, as text for people: as wide as its place, colour only where it is asked for."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from klingflow.core.model import Film
from klingflow.core.source import Problem, render, visible
from klingflow.execution.outcome import Outcome, Result
from klingflow.output.answers import MOST_NAMES, answers, ready, said_once, texts, waiting
from klingflow.output.terminal import USUAL
from klingflow.output.words import count, duration, padded, unknown, wrapped
from klingflow.planning import gates
from klingflow.planning.plan import SIGN, Action, FilmPlan, Plan, Step, totals
from klingflow.planning.price import money, noted

if TYPE_CHECKING:
    from klingflow.planning.compare import Comparison, ShotChange

FOLD = 12
"""Steps with nothing to do are counted, not listed, when there are more of them than this."""

MOST_UNREAD = 5
"""Files of the base that could not be read, each with its reason."""

_COLOUR = {
    Action.MAKE: "32",
    Action.RESUME: "36",
    Action.ADOPT: "36",
    Action.HOLD: "33",
    Action.RESOLVE: "31",
    Action.WAIT: "33",
    Action.REUSE: "2",
}


def summary(
    plan: Plan,
    *,
    width: int = USUAL,
    colour: bool = False,
    details: bool = False,
    prompts: bool = False,
    against: str = "",
    compared: Mapping[str, Comparison] | None = None,
) -> str:
    """The plan of every film: a line a step, what changed, totals, what whoever pays asks. `details` shows changed
    texts too, `prompts` every text as it is sent; `compared` is, by variant, what differs from the ref `against`."""
    shown = _Shown(width, colour, details, prompts)
    blocks = [_film(film, plan, shown, against, (compared or {}).get(film.variant)) for film in plan.films]
    if len(plan.films) > 1:
        sums = totals(plan.films)
        told = _sums(sums.tasks, sums.seconds, sums.spend, basis(plan.films)) if sums.tasks else "nothing to make"
        told += f"; waiting: {waiting(sums.later, plan.films)}" if sums.later.tasks else ""
        blocks.append("\n".join(wrapped(f"all films: {told}", width, "", "  ")))
    said = [line for question, answer in answers(plan) for line in _answer(question, answer, width)]
    return "\n\n".join([*blocks, "\n".join(said)] if said else blocks)


def _answer(question: str, answer: str, width: int) -> list[str]:
    return wrapped(visible(f"{question}: {answer}"), width, "", "  ")


@dataclass(frozen=True, slots=True)
class _Shown:
    width: int
    colour: bool
    details: bool
    prompts: bool


def _film(film: FilmPlan, plan: Plan, how: _Shown, against: str, compared: Comparison | None) -> str:
    lines = [_flat(f"{film.label}: {film.title}" if film.title else film.label)]
    changes = {change.shot: change for change in compared.shots} if compared else {}
    gone = [shot for shot, change in changes.items() if change.state == "removed"]
    busy = [step for step in film.steps if step.action is not Action.REUSE or step.shot in changes]
    idle = [step for step in film.steps if step.action is Action.REUSE and step.shot not in changes]
    folded = len(idle) > FOLD and not how.prompts
    shown = tuple(busy) if folded else film.steps
    most = min(how.width * 3 // 10, how.width - 30)
    wide = max((len(name) for name in [*map(_name, shown), *gone] if len(name) <= most), default=most)
    lines += [line for step in said_once(shown) for line in _step(step, wide, how, changes.get(step.shot))]
    for shot in gone:
        lines += _row("-", shot, wide, "", "removed; what was bought stays in the store", "", how.width)
    if folded:
        steps = count(len(idle), "step")
        lines += _row(SIGN[Action.REUSE], steps, wide, f"{Action.REUSE:<7} ", "up to date", "", how.width)
    sums = totals([film])
    if sums.tasks:
        said = _sums(sums.tasks, sums.seconds, sums.spend, basis([film]))
        lines += wrapped(said, how.width, "  ", "    ")
    elif all(step.action in (Action.REUSE, Action.WAIT) for step in film.steps):
        lines.append("  nothing to make")
    if sums.later.tasks:
        lines += wrapped(f"waiting: {waiting(sums.later, [film])}", how.width, "  ", "    ")
    if compared is not None:
        text = f"against {_flat(against)}: {_differs(compared)}"
        lines += wrapped(text, how.width, "  ", "    ")
        told = {why for change in compared.shots for _, why in change.unknown}
        unread = [problem.what for problem in compared.unread if problem.what not in told]
        for what in unread[:MOST_UNREAD]:
            lines += wrapped(_flat(what), how.width, "  ", "    ")
        rest = len(unread) - MOST_UNREAD
        lines += [f"  … and {count(rest, 'more file')} that cannot be read there"] if rest > 0 else []
    about = ready(film, plan)
    if about:
        lines += wrapped(about, how.width, "  ", "    ")
    if film.critical and film.chain_s >= 1:
        chain = " -> ".join(film.critical)
        shape = chain if len(chain) <= how.width - 36 else f"{film.critical[0]} -> … -> {film.critical[-1]}"
        lines += wrapped(f"longest wait: {shape}, about {duration(film.chain_s)}", how.width, "  ", "    ")
    for found in film.shortcuts[:3]:
        text = f"{found.shot}: `meets: {found.meets}` instead of `continues` would save {duration(found.saves_s)}"
        lines += wrapped(text, how.width, "  ", "    ")
    return "\n".join(lines)


def _differs(found: Comparison) -> str:
    """What a change does, in one line."""
    tally = Counter(state.value for state in found.states.values())
    tally["moved"] = sum(change.moved is not None for change in found.shots)
    words = ("new", "changed", "unknown", "renamed", "removed", "moved")
    parts = [f"{tally[word]} {word}" for word in words if tally[word]]
    parts += [f"{field.field} changed" for field in found.film]
    parts += [f"{name} unknown" for name, _ in found.film_unknown]
    adds = found.cost.change
    if adds is None:
        parts.append("cost not known")
    elif adds:
        parts.append(f"{'adds' if adds > 0 else 'saves'} {money(abs(adds))}")
    return ", ".join(parts) or "nothing differs"


def _flat(text: str) -> str:
    return visible(" ".join(text.splitlines()))


def _name(step: Step) -> str:
    return step.shot if step.is_active_take and step.take == 1 else f"{step.shot} take {step.take}"


def _step(step: Step, wide: int, how: _Shown, change: ShotChange | None) -> list[str]:
    price = f"({_amount(step.later.price)} later)" if step.later is not None and step.later.price != 0 else ""
    if step.orders:
        amount = "price unknown" if step.price is None else money(step.price) if step.price else ""
        price = f"{step.seconds:>4} s {amount:>8}".rstrip()
    out = _row(
        SIGN[step.action], _name(step), wide, f"{step.action:<7} ", visible(_reason(step, change)), price, how.width
    )
    if how.colour:
        out[0] = f"\x1b[{_COLOUR[step.action]}m{out[0]}\x1b[0m"
    if how.details:
        for part in change.fields if change else step.changes:
            if part.field in ("prompt", "negative_prompt", "multi_shot") and (part.old or part.new):
                out += _text_change(part.old, part.new, how)
    if how.prompts:
        for name, text in texts(step):
            pad = " " * 6
            said = visible(f"{name}: {text}")
            out += wrapped(said, how.width, pad, pad + "  ")
    return out


def _amount(price: Decimal | None) -> str:
    return "price unknown" if price is None else money(price)


def _row(sign: str, name: str, wide: int, action: str, about: str, price: str, width: int) -> list[str]:
    """A row of the table: a name that its column cannot hold, and an explanation that finds no room beside it, have
    lines of their own."""
    head = f"  {sign} {name if len(name) <= wide else '':<{wide}}  {action}"
    room = width - len(head) - (len(price) + 1 if price else 0)
    if room >= 20:
        first, *rest = wrapped(about, room) or [""]
        indent = " " * len(head)
    else:
        first, rest, indent = "", wrapped(about, width - 6), " " * 6
        room = max(0, room)
        if len(head) + 1 + len(price) > width:  # an unknown price in a narrow place
            price, rest = "", [price.strip(), *rest]
    row = f"{head}{padded(first, room)} {price}" if price else head + first
    lines = [row.rstrip(), *(indent + more for more in rest)]
    if len(name) > wide:
        named = wrapped(name, width - 4)
        lines = [f"  {sign} {named[0]}", *(f"    {more}" for more in named[1:]), f"    {row[4:]}", *lines[1:]]
    return lines


def _reason(step: Step, change: ShotChange | None) -> str:
    """Why, and how the shot differs from the one that it is compared with."""
    if change is None:
        return step.reason
    parts = [step.reason] if step.action is not Action.REUSE else []
    parts += [f"renamed from {change.was}"] if change.was else []
    parts += [f"moved from place {change.moved[0]} to {change.moved[1]}"] if change.moved else []
    fields = [field.field for field in change.fields if step.action is not Action.MAKE or not field.buys]
    parts += [f"{', '.join(fields)} changed"] if fields and change.state != "new" else []
    parts += unknown(change.unknown)
    return "; ".join(parts) or step.reason


def _text_change(old: str, new: str, how: _Shown) -> list[str]:
    """The changed words among those that stay, `[-old-]{+new+}` as git's word diff has them; where the old text is not
    known, the new one."""
    pad = " " * 6
    if not old or not new:
        sign, text = ("-", old) if old else ("+", new)
        return wrapped(visible(text), how.width, f"{pad}{sign} ", f"{pad}  ")
    from klingflow.planning.compare import words  # 10 ms, and only a changed text has words to compare

    shown = {"=": "{}", "-": "[-{}-]", "+": "{{+{}+}}"}
    text = "".join(shown[op].format(part) for op, part in words(visible(old), visible(new)))
    lines = wrapped(text, how.width, pad, pad)
    if how.colour:
        lines = [_MARKED.sub(lambda m: f"\x1b[{31 if m[0][1] == '-' else 32}m{m[0]}\x1b[0m", line) for line in lines]
    return lines


_MARKED = re.compile(r"\[-.*?-\]|\{\+.*?\+\}")


def basis(films: Sequence[FilmPlan]) -> str:
    """What stands behind the prices of all orders: ` (estimate)`, ` (list price of 2026-11-27)`; or nothing."""
    return noted(step.basis for film in films for step in film.steps if step.orders)


def _sums(tasks: int, seconds: int, spend: Decimal | None, basis: str) -> str:
    cost = (
        "price unknown"
        if spend is None
        else "free"
        if not spend
        else money(spend) + basis
    )
    return f"{count(tasks, 'clip')} to make, {seconds} s of clips, {cost}"


def _cost(outcome: Outcome) -> str:
    """What a shot that did not end well has cost in this run."""
    if not outcome.spent:
        return "nothing in this run"
    if outcome.result is Result.IN_DOUBT:
        return f"{money(outcome.spent)} if it was taken; booked until it is settled"
    return (
        f"{money(outcome.spent)} booked, as for a clip that was made; whether it is charged, the provider's bill says"
    )


def ending(
    films: Sequence[tuple[Film, FilmPlan, tuple[Outcome, ...]]],
    storyboard: str,
    spent: Decimal,
    took_s: float,
    interrupted: bool,
    basis: str = "",
) -> str:
    """How a run ended: what went wrong with its place and its mend, what was made, what to do next."""
    lines: list[str] = []
    outcomes = [(film, outcome) for film, _, ended in films for outcome in ended]
    alike: dict[tuple[object, ...], list[tuple[Film, Outcome]]] = {}
    for film, outcome in outcomes:
        failure = outcome.failure
        if failure is not None and not outcome.good:  # a wrong key is one fault, however many shots it stops
            said = (outcome.result, failure.message, failure.code, failure.next, _cost(outcome))
            alike.setdefault(said, []).append((film, outcome))
    for (film, outcome), *same in alike.values():
        failure = outcome.failure
        assert failure is not None
        verb = {Result.IN_DOUBT: "is in doubt", Result.OPEN: "is not finished"}.get(outcome.result, "failed")
        code = f" [{failure.code}]" if failure.code else ""
        what = f"shot '{outcome.shot}' {verb}: {failure.message}{code}"
        span = film.where(outcome.shot, "")
        lines.append(render(Problem(rule="run", what=what, span=span, mend="")))
        lines += [f"cost: {_cost(outcome)}"] if outcome.result is not Result.OPEN else []
        lines += [f"mend: {visible(failure.next)}"] if failure.next else []
        again = [f"{one.shot}{f' take {one.take}' if one.take > 1 else ''}" for _, one in same]
        more = f", and {len(again) - MOST_NAMES} more" if len(again) > MOST_NAMES else ""
        lines += [f"the same for {', '.join(again[:MOST_NAMES])}{more}", ""] if again else [""]
    skipped = [outcome for _, outcome in outcomes if outcome.result is Result.SKIPPED]
    if skipped:
        names = ", ".join(f"{o.shot} (needs {o.because})" for o in skipped[:6]) + (", …" if len(skipped) > 6 else "")
        lines.append(f"skipped: {names}")
    lines += _waits(films)
    ended = Counter(outcome.result for _, outcome in outcomes)
    open_tasks = ended[Result.OPEN]
    parts = [f"{count(ended[Result.MADE], 'clip')} made"]
    others = (each for each in Result if each is not Result.MADE and ended[each])
    parts += [f"{ended[each]} {each.value.replace('-', ' ')}" for each in others]
    money_text = f", {money(spent)} booked{basis}" if spent else ""
    lines.append(f"{', '.join(parts)}{money_text}, {duration(took_s)}")
    run = f"klingflow run {shlex.quote(storyboard)}"
    if interrupted:
        lines.append(f"interrupted; nothing is half written. To go on and collect: {run}")
    elif open_tasks:
        lines.append(f"to collect what is being made: {run}")
    return "\n".join(lines)


def _waits(films: Sequence[tuple[Film, FilmPlan, tuple[Outcome, ...]]]) -> list[str]:
    """What waits, a line for each thing that a person does first."""
    first: dict[str, list[str]] = {}
    for _, plan, ended in films:
        waiting = {(outcome.shot, outcome.take) for outcome in ended if outcome.result is Result.WAITING}
        for step in plan.steps:
            if (step.shot, step.take) in waiting:
                first.setdefault(gates.reason(step.shot, step.waits_for[:1]), []).append(_name(step))
    return [visible(f"waiting: {_names(names)} ({why.removeprefix('waits ')})") for why, names in first.items()]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
