"""What one run has booked and may book. Money is booked before a request that may cost it, and given back only where
nothing was certainly bought."""

from __future__ import annotations

from decimal import Decimal

from klingflow.core.model import Key
from klingflow.planning.price import Limits, exceeded


class Budget:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._booked: dict[tuple[Key, int], tuple[Decimal | None, int]] = {}

    def book(self, key: Key, attempt: int, price: Decimal | None, seconds: int) -> str | None:
        """None when it fits (and is booked, once for each attempt); else the sentence that names the limit."""
        if (key, attempt) in self._booked:
            return None
        booked = self._booked.values()
        spend = None if price is None else self.spent + price
        total = sum(took for _, took in booked) + seconds
        why = exceeded(self._limits, spend, total, len(booked) + 1)
        if why is None:
            self._booked[key, attempt] = price, seconds
        return why

    def give_back(self, key: Key, attempt: int) -> None:
        self._booked.pop((key, attempt), None)

    @property
    def spent(self) -> Decimal:
        return sum((price or Decimal(0) for price, _ in self._booked.values()), Decimal(0))

    def spent_on(self, key: Key) -> Decimal:
        return sum((price or Decimal(0) for (of, _), (price, _) in self._booked.items() if of == key), Decimal(0))
