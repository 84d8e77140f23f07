"""Every provider, in one table: the built-in ones, and those of installed packages (providers.installed).

Packages are looked for when a name is met that no built-in provider has, or when all names are wanted; a storyboard
that names built-in ones alone never waits for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from klingflow.providers import animatic, fal, hiapi, installed, kling, mulerouter
from klingflow.providers.base import Provider

BUILT_IN: Mapping[str, Provider] = {
    module.name: cast(Provider, module) for module in (animatic, hiapi, mulerouter, fal, kling)
}


class Table(Mapping[str, Provider]):
    """Providers by name: the built-in ones first, then those of packages, by the alphabet."""

    def __init__(self) -> None:
        self._found: installed.Found | None = None

    def _packages(self) -> installed.Found:
        if self._found is None:
            self._found = installed.find(BUILT_IN)
        return self._found

    def __getitem__(self, name: str) -> Provider:
        return BUILT_IN[name] if name in BUILT_IN else self._packages().providers[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*BUILT_IN, *self._packages().providers))

    def __len__(self) -> int:
        return len(BUILT_IN) + len(self._packages().providers)

    def met(self) -> Mapping[str, Provider]:
        """Those that are at hand without looking for packages: the built-in ones, and packages that were looked for."""
        return {**BUILT_IN, **(self._found.providers if self._found is not None else {})}

    def broken(self) -> Mapping[str, str]:
        """What is wrong with each package that offers a provider and cannot be used, by the name that it offers."""
        return self._packages().broken


PROVIDERS = Table()
