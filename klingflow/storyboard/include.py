"""A storyboard and the files that it includes, as one document: their cast and their shots, each with its place in the
file that it was written in."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from klingflow.core.source import Document, Path
from klingflow.storyboard import recovery


@dataclass(frozen=True, slots=True)
class Included:
    """A file that a storyboard includes; `folder` is the file's own, from the project root."""

    document: Document
    folder: str


class Joined(Document):
    """The storyboard's document with what it includes. The included shots come first."""

    def __init__(self, own: Document, included: Sequence[Included]) -> None:
        super().__init__(own.path, own.text, own.data, own.remark)
        self.own = own
        self.included = included
        self._files = [*(one.document for one in included), own]
        self._cast: dict[str, Document] = {}
        self._starts: list[int] = []
        data = recovery.usable(own.data)
        shots: list[object] = []
        cast: dict[str, object] = {}
        self.twins: list[tuple[str, Document, Document]] = []
        """Names of the cast that two files declare: the name, the first file, the second."""
        for file in self._files:
            part = data if file is own else recovery.usable(file.data)
            self._starts.append(len(shots))
            shots += part.get("shots") or ()
            for name, element in (part.get("cast") or {}).items():
                if name in cast:
                    self.twins.append((name, self._cast[name], file))
                    continue
                cast[name], self._cast[name] = element, file
        self.data = {**data, "cast": cast, "shots": shots}

    def place(self, path: Path) -> tuple[Document, Path]:
        match path:
            case ("shots", int(index), *rest):
                file = bisect(self._starts, index) - 1
                return self._files[file], ("shots", index - self._starts[file], *rest)
            case ("cast", str(name), *_) if name in self._cast:
                return self._cast[name], path
        return self.own, path


def names(data: object) -> Sequence[str] | None:
    """The files that a storyboard includes, as it writes them; None where the schema refused one, or the whole list."""
    listed: Any = data.get("include", []) if isinstance(data, Mapping) else []
    return listed if isinstance(listed, list) and all(isinstance(one, str) for one in listed) else None
