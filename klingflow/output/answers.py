"""What whoever pays for a film asks of a plan, answered in the same words in the text and in the comment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from klingflow.output.words import clock, count, duration
from klingflow.planning import gates
from klingflow.planning.accounts import Bill, bills
from klingflow.planning.gates import Wait
from klingflow.planning.plan import Action, Dropped, FilmPlan, Plan, Step, Sums, Totals, totals
from klingflow.planning.price import ESTIMATE, Limits, exact, exceeded, money, noted

SHIPPED = (
    "by the list price of the model, which klingflow ships; state what your account pays under `prices` in "
    "klingflow.yaml"
)
CHAIN = "how many clips hang together, each begun with the last frame of the one before it"
MOST_NAMES = 6


def answers(plan: Plan) -> list[tuple[str, str]]:
    """Each question in a word or two, with its answer in plain text: whose bill at which rate, what is paid so far,
    what would not be used any more, how near the project's limits it is, and what a chain is."""
    sums = totals(plan.films)
    out = [("bill", bill(one)) for one in bills(plan.films)]
    bases = sorted({one.basis for one in bills(plan.films) if one.rate is not None})
    if bases:
        out.append(("rate", rates(bases)))
    if plan.paid:
        after = f"; {money(plan.paid + sums.spend)} after this run" if sums.spend else ""
        paid = f"{money(plan.paid)} for the clips in the lock{after}; klingflow status lists every order"
        out.append(("paid so far", paid))
    if plan.dropped:
        out.append(("not used any more", dropped(plan.dropped)))
    why = refused_by_limit(plan, sums)
    near = f"a run is refused: {why}" if why else limit(plan, sums)
    if near:
        out.append(("limit", near))
    steps = [step for film in plan.films for step in film.steps]
    deepest = max((step.depth for step in steps), default=1)
    if deepest > 1 and any(step.action is not Action.REUSE for step in steps):
        out.append(("chain", f"{CHAIN}: {deepest} at most"))
    return out


def bill(one: Bill) -> str:
    """`hiapi, 1080p, silent: 3 clips, 15 s at $0.112 a second, $1.68 (estimate)`."""
    kind = f"{one.provider}, {one.resolution}, {'with sound' if one.sound else 'silent'}"
    what = f"{count(one.clips, 'clip')}, {one.seconds} s"
    if one.rate is None or one.amount is None:
        return f"{kind}: {what}, price unknown"
    return f"{kind}: {what} at {exact(one.rate)} a second, {money(one.amount)}{noted([one.basis])}"


def rates(bases: Sequence[str]) -> str:
    """Where the rates of a plan come from, by what their prices are."""
    several = len(bases) > 1
    said = []
    for basis in bases:
        if not basis:
            said.append("as klingflow.yaml states under `prices`")
        elif basis == ESTIMATE:
            said.append(f"{'what is marked as an' if several else 'an'} estimate, {SHIPPED}")
        else:
            said.append(f"{'what is marked so, the' if several else 'the'} seller's {basis}, in klingflow.prices.yaml")
    return "; ".join(said)


def dropped(clips: Sequence[Dropped]) -> str:
    """What was paid for and is left aside, and its worth."""
    several = len({clip.variant for clip in clips}) > 1
    names = [
        clip.shot
        + (f" take {clip.take}" if clip.take > 1 else "")
        + (f" [{clip.variant}]" if several and clip.variant else "")
        + (" (removed)" if clip.gone else "")
        for clip in clips[:MOST_NAMES]
    ]
    names += [f"{len(clips) - MOST_NAMES} more"] if len(clips) > MOST_NAMES else []
    worth = sum((clip.cost for clip in clips), Decimal(0))
    was, stays = ("was", "it stays") if len(clips) == 1 else ("were", "they stay")
    which = "the clip" if len(clips) == 1 else "the clips"
    return f"{which} of {', '.join(names)}: {money(worth)} {was} paid; {stays} in the store"


def refused_by_limit(plan: Plan, sums: Totals) -> str:
    """Which limit of the project refuses a run; empty where none does."""
    return exceeded(plan.limits, sums.spend, sums.seconds, sums.tasks) or ""


def limit(plan: Plan, sums: Totals) -> str:
    """How near the project's limits a run would come; empty where it makes nothing, or nothing that costs."""
    limits = plan.limits
    if limits == Limits():
        return "" if sums.spend == 0 else "none is set; `limits` in klingflow.yaml says what one run may spend"
    parts = {}
    if limits.spend is not None and sums.spend is not None:
        parts["spend"] = f"{money(sums.spend)} of {money(limits.spend)}"
    if limits.seconds is not None:
        parts["seconds"] = f"{sums.seconds} of {limits.seconds} s of clips"
    if limits.tasks is not None:
        parts["tasks"] = f"{sums.tasks} of {count(limits.tasks, 'task')}"
    if not parts or not sums.tasks:
        return ""
    files = [limits.set_in.get(name, "") for name in parts]
    if len(set(files)) == 1:
        return f"{', '.join(parts.values())} a run" + (f" ({files[0]})" if files[0] else "")
    named = [f"{part} ({file})" if file else part for part, file in zip(parts.values(), files, strict=True)]
    return f"{', '.join(named)} a run"


def said_once(steps: Iterable[Step]) -> Iterator[Step]:
    """The steps of a film, those that wait for what another one waits for already with the short reason."""
    told: set[Wait] = set()
    for step in steps:
        first = step.waits_for[0] if step.waits_for else None
        if first in told and step.reason == gates.reason(step.shot, step.waits_for):
            step = replace(step, reason=gates.brief(step.shot, step.waits_for))
        told |= {first} if first else set()
        yield step


def waiting(later: Sums, films: Sequence[FilmPlan]) -> str:
    """`2 clips, 10 s, $1.12 (estimate) once it is decided`: what waiting steps would come to, in none of the totals."""
    ways = noted(step.later.basis for film in films for step in film.steps if step.later is not None)
    cost = "price unknown" if later.spend is None else f"{money(later.spend)}{ways}" if later.spend else "free"
    return f"{count(later.tasks, 'clip')}, {later.seconds} s, {cost} once decided; in no total"


def ready(film: FilmPlan, plan: Plan) -> str:
    """`29 s of film, there about 3 min after a run begins`, as far as it is known."""
    parts = [f"{clock(film.length_s)} of film"] if film.length_s is not None else []
    if film.wall_s >= 1:
        waits = any(step.action is Action.WAIT for step in film.steps)
        what = "what does not wait is ready" if waits else "ready"
        parts.append(f"{what} in about {duration(film.wall_s)}{in_flight(film, plan)}")
    return ", ".join(parts)


def in_flight(film: FilmPlan, plan: Plan) -> str:
    """`, 4 tasks at a time`, where that is what makes the film take longer than its longest chain."""
    if film.wall_s - film.chain_s < 1 or not plan.in_flight:
        return ""
    if len(plan.in_flight) == 1:
        [most] = plan.in_flight.values()
        return f", {count(most, 'task')} at a time"
    return ", " + " and ".join(f"{count(most, 'task')} at a time at {name}" for name, most in plan.in_flight.items())


def texts(step: Step) -> list[tuple[str, str]]:
    """What a step sends as text, by field, with every variable and template in its place."""
    out = [(f"shot {n} of the clip, {seconds} s", prompt) for n, (prompt, seconds) in enumerate(step.multi_shot, 1)]
    fields = [("prompt", step.prompt), *out, ("negative prompt", step.negative_prompt)]
    return [(name, text) for name, text in fields if text]
