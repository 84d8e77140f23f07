"""What a prompt says of the images and videos that go along: `<<<element_2>>>` is the shot's second element,
`<<<image_1>>>` its first reference image, `<<<video_1>>>` its first reference video.

The spelling is Kling's own, of its omni models: MuleRouter's client and the legacy Kling API document it for elements
(read 2026-11); for images it is Kling's, and MuleRouter does not mention it. A seller that spells them otherwise
translates them (`replaced`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_MENTION = re.compile(r"<<<([^<>]{0,64})>>>")
_NUMBERED = re.compile(r"(element|image|video)_([1-9][0-9]{0,3})")
_GIVEN = {"element": "elements", "image": "images", "video": "videos"}
"""The field of a shot that each kind counts in."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`text` is the index of the prompt it is in, with the place of the mention there; for one that is missing, `field`
    is where the image is given."""

    what: str
    mend: str
    field: str = ""
    text: int = 0
    start: int = 0
    length: int = 0


def spelled(kind: str, number: int) -> str:
    """How a prompt mentions the one of that number, from 1; `kind` is "element", "image" or "video"."""
    return f"<<<{kind}_{number}>>>"


def replaced(text: str, spell: Callable[[str, int], str]) -> str:
    """The text with each mention as a seller spells it."""

    def other(found: re.Match[str]) -> str:
        read = _NUMBERED.fullmatch(found[1])
        return spell(read[1], int(read[2])) if read else found[0]

    return _MENTION.sub(other, text)


def wrong(texts: Sequence[str], given: Mapping[str, int]) -> Iterator[Fault]:
    """Mentions that mean nothing, in the prompts of one shot. `given` has how many elements, images and
    videos it has, by "element", "image" and "video"."""
    for index, text in enumerate(texts):
        for found in _MENTION.finditer(text):
            read = _NUMBERED.fullmatch(found[1])
            if read is None:
                what = f"{found[0]} is no mention of an image"
                mend = "write <<<element_1>>> for the first of `elements`, <<<image_1>>> or <<<video_1>>> likewise"
            elif int(read[2]) > given[read[1]]:
                has, field = given[read[1]], _GIVEN[read[1]]
                what = f"{found[0]} is mentioned, and the shot has {has or 'no'} {read[1] if has == 1 else field}"
                mend = f"give the shot `{field}`" if not has else f"write 1 to {has}, or add to `{field}`"
            else:
                continue
            yield Fault(what, mend, text=index, start=found.start(), length=len(found[0]))


def missing(texts: Sequence[str], given: Mapping[str, int]) -> Iterator[Fault]:
    """Elements that no prompt mentions; and images or videos, where others are mentioned: alone they set a style."""
    used = {found[1] for text in texts for found in _MENTION.finditer(text)}
    for kind, count in given.items():
        left = [n for n in range(1, count + 1) if f"{kind}_{n}" not in used]
        if left and (kind == "element" or 0 < len(left) < count):
            names = " and ".join(spelled(kind, n) for n in left)
            are, it = ("are", "them") if len(left) > 1 else ("is", "it")
            yield Fault(
                f"{names} {are} given and never mentioned in a prompt: the model may leave {it} out",
                f"write {spelled(kind, left[0])} where it appears, or remove it from `{_GIVEN[kind]}`",
                _GIVEN[kind],
            )
