"""What one run has booked and may book. Money is booked before a request that may cost it, and given back only where
nothing was certainly bought."""

from __future__ import annotations

from decimal import Decimal

from klingflow.core.model import Key
from klingflow.planning.price import Limits, exceeded


class Budget:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._booked: dict[Key, dict[int, tuple[Decimal | None, int]]] = {}
        """By attempt, the price and the seconds."""
        self._tasks = 0
        self._seconds = 0
        self.spent = Decimal(0)

    def book(self, key: Key, attempt: int, price: Decimal | None, seconds: int) -> str | None:
        """None when it fits (and is booked, once for each attempt); else the sentence that names the limit."""
        if attempt in self._booked.get(key, ()):
            return None
        spend = None if price is None else self.spent + price
        why = exceeded(self._limits, spend, self._seconds + seconds, self._tasks + 1)
        if why is None:
            self._booked.setdefault(key, {})[attempt] = price, seconds
            self._add(price, seconds, 1)
        return why

    def give_back(self, key: Key, attempt: int) -> None:
        booked = self._booked.get(key, {}).pop(attempt, None)
        if booked is not None:
            price, seconds = booked
            self._add(None if price is None else -price, -seconds, -1)

    def spent_on(self, key: Key) -> Decimal:
        return sum((price or Decimal(0) for price, _ in self._booked.get(key, {}).values()), Decimal(0))

    def _add(self, price: Decimal | None, seconds: int, tasks: int) -> None:
        self.spent += price or 0
        self._seconds += seconds
        self._tasks += tasks
