"""What a clip costs, what a run may spend, and what was spent. Money is Decimal US dollars, exact to the last digit.

Knows no file and no provider: what one asks for is given (providers.base, `Caps.listed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from klingflow.planning.job import Job, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of one clip."""

    amount: Decimal | None
    """None where no price is known."""
    basis: str = ""
    """ESTIMATE, or "list price of 2026-11-27"; empty where the project states the price, and where none is known."""

    @property
    def estimate(self) -> bool:
        """Whether it is the price that klingflow ships."""
        return self.basis == ESTIMATE


ESTIMATE = "estimate"
"""The basis of a price that klingflow ships."""


def noted(bases: Iterable[str]) -> str:
    """What stands behind a sum of prices: " (estimate)", " (list price of 2026-11-27)", both, or nothing."""
    told = sorted({basis for basis in bases if basis})
    return f" ({', '.join(told)})" if told else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may spend at most; None: no limit."""

    spend: Decimal | None = None
    """USD."""
    seconds: int | None = None
    """Seconds of clip to make."""
    tasks: int | None = None
    set_in: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The project file that sets each of them, by field; nothing for one that the command line or a program gives."""


def tightest(all_limits: Sequence[Limits]) -> Limits:
    """The least of each limit: whoever comes later may narrow what is set already, never widen it."""
    least: dict[str, Decimal | int] = {}
    set_in: dict[str, str] = {}
    for limits in all_limits:
        for name, value in (("spend", limits.spend), ("seconds", limits.seconds), ("tasks", limits.tasks)):
            if value is not None and (name not in least or value < least[name]):
                least[name] = value
                set_in[name] = limits.set_in.get(name, "")
    spend, seconds, tasks = least.get("spend"), least.get("seconds"), least.get("tasks")
    return Limits(
        spend=None if spend is None else Decimal(spend),
        seconds=None if seconds is None else int(seconds),
        tasks=None if tasks is None else int(tasks),
        set_in={name: file for name, file in set_in.items() if file},
    )


def of(
    provider: str,
    resolution: str,
    sound: bool,
    seconds: int,
    overrides: Mapping[str, object],
    shipped: Mapping[str, tuple[Decimal, Decimal]] | None,
    listed: Mapping[str, object] | None = None,
    *,
    by_text: bool = False,
    with_video: bool = False,
) -> Price:
    """The price of one clip. `overrides` is the project's `prices`: provider, resolution, {silent, sound} a second;
    `shipped` what klingflow ships of that provider, (silent, with sound) a second by resolution, None for a free one;
    `listed` is klingflow.prices.yaml: as `overrides`, below the way, with a date. `by_text`: the clip begins with no
    frame. `with_video`: a reference video goes in, whose price only the project can state."""
    if shipped is None:
        return Price(amount=Decimal(0))
    kind = "video" if with_video else "sound" if sound else "silent"
    stated = a_second(provider, resolution, kind, overrides)
    if stated is not None or with_video:
        return Price(amount=None if stated is None else stated * seconds)
    seller = (listed or {}).get(provider)
    way = "text-to-video" if by_text else "image-to-video"
    rate = _stated(listed or {}, provider, way, resolution, kind)
    if rate is not None and isinstance(seller, Mapping):
        return Price(amount=rate * seconds, basis=f"list price of {seller['date']}")
    if resolution in shipped:
        return Price(amount=shipped[resolution][sound] * seconds, basis=ESTIMATE)
    return Price(amount=None)


def a_second(provider: str, resolution: str, kind: str, overrides: Mapping[str, object]) -> Decimal | None:
    """The price of one second that the project's `prices` state; None where they do not. `kind`: silent, sound or
    video."""
    return _stated(overrides, provider, resolution, kind)


def _stated(overrides: Mapping[str, object], *path: str) -> Decimal | None:
    found: object = overrides
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    if found is None:
        return None
    try:
        # From the text: 0.112 in a file is 0.112 dollars, not the binary fraction nearest to it.
        amount = Decimal(str(found))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


def money(amount: Decimal) -> str:
    """The amount for display: $0.56, $1,234.50, <$0.01; whole cents, halves up."""
    if 0 < amount < Decimal("0.01"):
        return "<$0.01"
    return f"${amount.quantize(Decimal('0.01'), ROUND_HALF_UP):,}"


def exceeded(limits: Limits, spend: Decimal | None, seconds: int, tasks: int) -> str | None:
    """Why a run that wants so much is refused, as a sentence naming the limit and the file that sets it; None where it
    is within all of them."""

    def set_in(name: str) -> str:
        return f" ({limits.set_in[name]})" if name in limits.set_in else ""

    if limits.spend is not None and tasks:
        if spend is None:
            most = f"{money(limits.spend)} a run{set_in('spend')}"
            return f"the limit is {most}, and the price of at least one shot is not known"
        if spend > limits.spend:
            most = f"{exact(limits.spend)} a run{set_in('spend')}"
            return f"the limit is {most}, and this one would spend {exact(spend)}"
    if limits.seconds is not None and seconds > limits.seconds:
        most = f"{limits.seconds} seconds of clips a run{set_in('seconds')}"
        return f"the limit is {most}, and this one would make {seconds}"
    if limits.tasks is not None and tasks > limits.tasks:
        most = f"{limits.tasks} {_tasks(limits.tasks)} a run{set_in('tasks')}"
        return f"the limit is {most}, and this one would order {tasks}"
    return None


def exact(amount: Decimal) -> str:
    """As `money`, but with the tenth of a cent that decides where there is one."""
    text = money(amount)
    return text if amount == amount.quantize(Decimal("0.01")) else f"${amount.normalize():f}"


def _tasks(count: int) -> str:
    return "task" if count == 1 else "tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    amount: Decimal
    """Dollars booked."""
    unpriced: int
    """Orders whose price was not known; they are not in `amount`."""


def spent(jobs: Iterable[Job]) -> Spent:
    """What was booked: every order that was accepted or may have been, also when its task failed later.

    Only a definite no (`refused`), or a user who checked that nothing was bought, takes an order out.
    """
    amount, unpriced = Decimal(0), 0
    for job in jobs:
        kinds = {(record.attempt, record.kind) for record in job.records}
        for record in job.records:
            if record.kind is not Kind.INTENT:
                continue
            bought = (record.attempt, Kind.ACCEPTED) in kinds
            if not bought and ({(record.attempt, Kind.REFUSED), (record.attempt, Kind.ABANDONED)} & kinds):
                continue
            price = _stated(record.detail, "price")
            if price is None:
                unpriced += 1
            else:
                amount += price
    return Spent(amount=amount, unpriced=unpriced)
