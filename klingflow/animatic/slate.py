"""What a film writes into the strip of an animatic's clip: the shot's number and title, and the time in the film.

A clip is kept by its content, so that a shot that is renamed or moved keeps it: its place in a film is not in it. The
strip has room for these words, and they are written where the film is joined. Only luma is written: the strip
is grey.
"""

from __future__ import annotations

from fractions import Fraction

from av.video.frame import VideoFrame
from PIL import Image, ImageDraw

from klingflow.animatic import design
from klingflow.animatic.lettering import Face


class Slate:
    """Writes into the frames of one clip; a clip that is no animatic's is left as it is."""

    def __init__(self, number: str, title: str, rate: Fraction) -> None:
        """`number`: the shot's place in the film; `rate`: the film's frames a second."""
        self._number, self._name, self._rate = number, design.plain(title), round(rate)
        self._at: design.Layout | None = None
        self._begun = False

    def write(self, frame: VideoFrame, n: int) -> VideoFrame:
        """The clip's frame as frame `n` of the film. The decoder's own frame stays as it is."""
        if not self._begun:
            self._begin(frame)
        if self._at is None:
            return frame
        frame.make_writable()
        _paste(frame, self._title, self._at.title[:2])
        design.write_time(self._time, (0, 0), n, self._rate, self._digits)
        _paste(frame, self._time, self._at.film_time)
        return frame

    def _begin(self, frame: VideoFrame) -> None:
        self._begun = True
        if frame.format.name != "yuv420p" or design.stamp_of(_light(frame)) is None:
            return
        self._at = design.Layout(frame.width, frame.height)
        left, top, right, bottom = self._at.title
        title = Image.new("RGB", (right - left, bottom - top), design.STRIP)
        face = Face(15, True)
        face.draw(title, (0, 1), self._number, design.GREY)
        begin = round(face.width(f"{self._number}  "))
        face.draw(title, (begin, 1), design.shortened(self._name, face, title.width - begin), design.WHITE)
        self._title = design.limited(title.convert("L"))
        signs = design.digits()
        time = Image.new("L", (design.TIME_LEFT + sum(signs[c].width for c in "00:00:00:00"), 20), design.STRIP[0])
        design.label(ImageDraw.Draw(time), (0, 0), "FILM")
        self._time = design.limited(time)
        self._digits = {char: design.limited(sign) for char, sign in signs.items()}


def _light(frame: VideoFrame) -> Image.Image:
    """The grey of a frame in full range."""
    plane = frame.planes[0]
    image = Image.frombytes("L", (plane.width, plane.height), bytes(plane), "raw", "L", plane.line_size)
    return image.point([min(255, max(0, round((i - 16) * 255 / 219))) for i in range(256)])


def _paste(frame: VideoFrame, patch: Image.Image, at: tuple[int, int]) -> None:
    plane = frame.planes[0]
    light, data = memoryview(plane), patch.tobytes()
    for row in range(patch.height):
        begin = (at[1] + row) * plane.line_size + at[0]
        light[begin : begin + patch.width] = data[row * patch.width : (row + 1) * patch.width]
