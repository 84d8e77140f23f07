"""The folder below `out/` that a storyboard's films are delivered to, and the storyboards that would share one.

It follows the storyboard's path, since two storyboards in two folders may have one name.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from klingflow.core.source import declares_storyboard
from klingflow.io.project import PROJECT_FILE


def of(relative: str) -> str:
    """The folder, below `out/`, of the storyboard at a path from the project root: `film.yaml` has `film`,
    `ep1/film.yaml` has `ep1/film`, and `harbour/harbour.yaml` has `harbour`."""
    *folders, stem = relative.rpartition(".")[0].split("/")
    return "/".join(folders if folders and folders[-1] == stem else [*folders, stem])


def sharing(
    root: Path, relative: str, variants: Collection[str], variants_of: Callable[[str], Collection[str]]
) -> Iterator[tuple[str, str]]:
    """The other storyboards of the project that would deliver a film to the same folder, each with that folder.

    `variants` are the names of the matrix's combinations, and `variants_of` gives those of another storyboard: it is
    asked only for one whose films may lie above, as `ep1.yaml` may have a combination `film` beside `ep1/film.yaml`.
    """
    base = _folded(of(relative))
    mine = _written(base, variants)
    steps = base.split("/")
    above = {"/".join(steps[:n]) for n in range(1, len(steps))}
    for other in _storyboards(root, "", mine | above):
        if os.path.samefile(root / other, root / relative):
            continue
        theirs = _folded(of(other))
        if theirs in mine:
            yield other, f"out/{of(other)}"
        elif base in _written(theirs, variants_of(other)):
            yield other, f"out/{of(relative)}"


def _written(base: str, variants: Collection[str]) -> set[str]:
    """Every folder that files are delivered to, rehearsals too."""
    films = [f"{base}/{_folded(variant)}" for variant in variants if variant] or [base]
    films += [f"{film}/animatic" for film in films]
    return {base, *films, *(f"{film}/{inner}" for film in films for inner in ("shots", "frames"))}


def _folded(path: str) -> str:
    """A path as a file system takes it that ignores case and Unicode's normal forms."""
    return unicodedata.normalize("NFC", path.casefold())


def _storyboards(root: Path, folder: str, wanted: Collection[str]) -> Iterator[str]:
    """The storyboards below a folder of this project whose own folder is among the wanted ones; and only folders among
    them are looked into."""
    try:
        names = sorted(os.listdir(root / folder))
    except OSError:
        return
    for name in names:
        path = f"{folder}/{name}" if folder else name
        if name.endswith((".yaml", ".yml")):
            if _folded(of(path)) in wanted and _is_storyboard(root / path):
                yield path
        elif _folded(path) in wanted:
            inner = root / path
            if inner.is_dir() and not inner.is_symlink() and not (inner / PROJECT_FILE).exists():
                yield from _storyboards(root, path, wanted)


def _is_storyboard(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return declares_storyboard(file.read(65536))
    except OSError:
        return False
