"""The providers of installed packages: entry points of the group `klingflow.providers`.

    [project.entry-points."klingflow.providers"]
    toy = "klingflow_toy"            # a module or an object that meets providers.base.Provider, and its name

What the interpreter finds because it was started in some folder is left out: a project is somebody else's word, and its
folder must not bring code along. A package that fails is named with its error and does not stop the others.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from os import getcwd
from os.path import isabs, realpath
from typing import cast

from klingflow.core.source import visible
from klingflow.providers.base import Caps, Provider

GROUP = "klingflow.providers"
_NAME = "abcdefghijklmnopqrstuvwxyz0123456789-"


@dataclass(frozen=True, slots=True)
class Found:
    providers: Mapping[str, Provider]
    broken: Mapping[str, str]
    """What is wrong with those that cannot be used, in a sentence that names the package."""


def find(taken: Collection[str]) -> Found:
    """Loads every package that offers a provider. `taken` are names that no package may have."""
    from importlib import metadata  # milliseconds, for whoever meets a name that is not built in

    providers: dict[str, Provider] = {}
    broken: dict[str, str] = {}
    path, folder = _path()
    for package in metadata.distributions(path=path):
        for entry in package.entry_points:
            if entry.group != GROUP or entry.name in providers or entry.name in broken:
                continue  # of two with one name the first on the path counts, as for modules
            says = f"package {package.name} {package.version}"
            if entry.name in taken:
                broken[entry.name] = f"{says} offers a provider '{entry.name}', and that is klingflow's own"
                continue
            try:
                _refuse_shadow(entry.module, folder)
                providers[entry.name] = _checked(entry.name, entry.load())
            except (Exception, SystemExit) as bad:
                why = " ".join(str(bad).split())
                broken[entry.name] = visible(
                    f"{says} offers a provider '{entry.name}' that cannot be loaded: {type(bad).__name__}: {why}"
                )
    return Found(dict(sorted(providers.items())), broken)


def _path() -> tuple[list[str], str | None]:
    """Where packages are looked for; and the folder that is left out of it because the interpreter was started there
    (`python -m`, `python -c`), None where there is none."""
    here = realpath(getcwd())
    first = [] if sys.flags.safe_path else sys.path[:1]
    started = any(not isabs(entry) or realpath(entry) == here for entry in first)
    rest = [entry for entry in sys.path[1 if started else 0 :] if isabs(entry)]
    return rest, None if not started or here in map(realpath, rest) else here


def _refuse_shadow(module: str, folder: str | None) -> None:
    """A file of the folder that is left out would be imported in the place of the package's."""
    if folder is None:
        return
    from importlib.machinery import PathFinder

    top = module.partition(".")[0]
    if top not in sys.modules and PathFinder.find_spec(top, [folder]) is not None:
        raise ImportError(f"'{top}' in the folder in which Python was started stands before it")


def _checked(name: str, provider: object) -> Provider:
    """The provider, as far as that can be seen at once; `klingflow.testing` looks at the rest."""
    lacks = [each for each in _PROTOCOL if not hasattr(provider, each)]
    if lacks:
        raise TypeError(f"it has no {', '.join(lacks)}")
    found = cast(Provider, provider)
    if found.name != name or not name or set(name) - set(_NAME):
        raise TypeError(f"it calls itself {found.name!r}")
    if not isinstance(found.caps, Caps) or found.caps.local:
        raise TypeError("its caps are not a Caps of a provider over HTTP")
    return found


_PROTOCOL = ("name", "caps", *(each for each in vars(Provider) if not each.startswith("_")))
