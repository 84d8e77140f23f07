"""The card that a draft of a film shows in the place of a shot that has no clip.

Pillow alone. Nobody takes it for a picture: dark, in an amber frame, with a word that says what it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw

from klingflow.animatic import design
from klingflow.animatic.lettering import Face

DRAWING = 1
"""Raised when the same card is drawn otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    number: str
    """The shot's place in the film: "Shot 4"."""
    shot: str
    title: str
    length: str
    """How long it will be: "5 s"."""
    why: str
    """Why there is no clip."""

    def draw(self, size: tuple[int, int]) -> Image.Image:
        """The card as a picture of that size, RGB."""
        width, height = size
        unit = max(min(size) / 540, 0.1)
        image = Image.new("RGB", size, design.STRIP)
        draw = ImageDraw.Draw(image)
        margin, line = round(40 * unit), max(1, round(3 * unit))
        draw.rectangle((margin // 2, margin // 2, width - margin // 2, height - margin // 2), None, design.AMBER, line)
        room = width - 3 * margin
        rows = [
            (f"{self.number} · MISSING", 22, True, design.AMBER),
            (self.shot, 54, True, design.WHITE),
            (self.title, 30, False, design.WHITE),
            (self.length, 22, False, design.GREY),
            (self.why, 22, False, design.GREY),
        ]
        shown = [(text, round(side * unit), bold, colour) for text, side, bold, colour in rows if text]
        y = (height - sum(round(side * 1.5) for _, side, _, _ in shown)) // 2
        for text, side, bold, colour in shown:
            face = Face(max(6, side), bold)
            face.draw(image, (1.5 * margin, y), design.shortened(design.plain(text), face, room), colour)
            y += round(side * 1.5)
        return image
