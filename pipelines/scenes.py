"""Scenes drawn by code: the pictures that draw.py writes.

Flat layers of paper with light between them: skies, ridges, water that mirrors what stands above it, and a few
things to tell a story with. Every scene is a function from a size to an image; it works in both orientations and
draws the same pixels each time. Pillow alone; knows no file and no storyboard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

Size = tuple[int, int]
Colour = tuple[int, int, int]
Point = tuple[float, float]

FINE = 2
"""Scenes are drawn this many times larger and then reduced: smooth edges."""


# Light and air -------------------------------------------------------------------------------------------------


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _sky(size: Size, stops: Sequence[tuple[float, Colour]]) -> Image.Image:
    """A vertical gradient through (height from 0 to 1, colour)."""
    column = Image.new("RGB", (1, size[1]))
    for y in range(size[1]):
        at = y / max(1, size[1] - 1)
        below = next((i for i, (stop, _) in enumerate(stops) if stop >= at), len(stops) - 1)
        (a, first), (b, second) = stops[max(0, below - 1)], stops[below]
        column.putpixel((0, y), _mix(first, second, (at - a) / (b - a) if b > a else 0.0))
    return column.resize(size)


def glow(
    image: Image.Image, at: Point, radius: float, colour: Colour, strength: float = 1.0, flat: float = 1.0
) -> None:
    """Adds light round a point; `flat` below 1 presses it into an ellipse."""
    wide, high = max(2, round(radius * 2)), max(2, round(radius * 2 * flat))
    # Pillow's gradient is 180 at the middle of an edge: dark from there on, or the light has corners.
    fall = [round(255 * min(1.0, strength) * max(0.0, 1 - i / 180) ** 2.2) for i in range(256)]
    mask = Image.radial_gradient("L").point(fall).resize((wide, high), Image.Resampling.BICUBIC)
    left, top = round(at[0] - wide / 2), round(at[1] - high / 2)
    box = (max(0, left), max(0, top), min(image.width, left + wide), min(image.height, top + high))
    if box[0] >= box[2] or box[1] >= box[3]:
        return
    mask = mask.crop((box[0] - left, box[1] - top, box[2] - left, box[3] - top))
    lit = Image.composite(Image.new("RGB", mask.size, colour), Image.new("RGB", mask.size), mask)
    image.paste(ImageChops.screen(image.crop(box), lit), box[:2])


def _fog(image: Image.Image, y: float, thick: float, colour: Colour, strength: float) -> None:
    """A bank of mist, densest at height `y`."""
    column = Image.new("L", (1, image.height))
    for row in range(image.height):
        column.putpixel((0, row), round(255 * strength * math.exp(-(((row - y) / thick) ** 2))))
    image.paste(colour, (0, 0), column.resize(image.size))


def _shade(image: Image.Image, strength: float = 0.35) -> Image.Image:
    """A vignette, and the reduction to the size that was asked for."""
    image = image.reduce(FINE)
    mask = Image.radial_gradient("L").point(
        [round(255 * strength * max(0.0, i / 255 - 0.45) ** 1.6) for i in range(256)]
    )
    image.paste((6, 8, 16), (0, 0), mask.resize(image.size, Image.Resampling.BICUBIC))
    return image


def _streaks(
    image: Image.Image, top: float, bottom: float, colour: Colour, seed: int, count: int, strength: float
) -> None:
    """Long flat clouds, smaller and closer towards the bottom."""
    dice = Random(seed)
    mask = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(mask)
    for _ in range(count):
        depth = dice.random()
        y = top + (bottom - top) * depth
        x, length = dice.uniform(-0.2, 1.1) * image.width, dice.uniform(0.12, 0.4) * image.width * (1.25 - depth * 0.75)
        height = dice.uniform(0.004, 0.016) * image.height * (1.3 - depth)
        for _ in range(4):
            dx, dy, part = (
                dice.uniform(-0.3, 0.3) * length,
                dice.uniform(-1.4, 0.5) * height,
                dice.uniform(0.35, 0.9) * length,
            )
            draw.ellipse(
                (x + dx - part / 2, y + dy - height, x + dx + part / 2, y + dy + height), fill=round(255 * strength)
            )
    image.paste(colour, (0, 0), mask.filter(ImageFilter.GaussianBlur(image.height / 260)))


def _stars(image: Image.Image, bottom: float, seed: int, count: int) -> None:
    dice, draw = Random(seed), ImageDraw.Draw(image)
    for _ in range(count):
        x, y = dice.random() * image.width, dice.random() ** 1.5 * bottom
        r, level = dice.choice((1, 1, 1.6, 2.2)), dice.randint(120, 245) * (1 - 0.75 * y / bottom)
        here = image.getpixel((min(int(x), image.width - 1), int(y)))
        assert isinstance(here, tuple)
        draw.ellipse(
            (x - r, y - r, x + r, y + r),
            fill=tuple(max(round(level * k), c) for k, c in zip((0.95, 0.97, 1), here, strict=True)),
        )


# Land and water ------------------------------------------------------------------------------------------------


def _hills(width: float, base: float, height: float, seed: int, rough: float = 0.5) -> list[Point]:
    """The line of a ridge from left to right: midpoint displacement, `rough` near 0.4 for hills and 0.6 for rock."""
    dice = Random(seed)
    line = [dice.uniform(0.2, 1.0) for _ in range(4)]
    swing = 0.5
    for _ in range(7):
        line = [v for a, b in pairwise(line) for v in (a, (a + b) / 2 + dice.uniform(-swing, swing) * 0.5)] + [line[-1]]
        swing *= rough
    return [(i * width / (len(line) - 1), base - height * v) for i, v in enumerate(line)]


def _land(image: Image.Image, line: Sequence[Point], colour: Colour, bottom: float) -> None:
    ImageDraw.Draw(image).polygon([*line, (line[-1][0], bottom), (line[0][0], bottom)], fill=colour)


def _water(image: Image.Image, horizon: int, tint: Colour, seed: int, tinted: float = 0.35, calm: float = 1.0) -> None:
    """Everything below the horizon mirrors what stands above it, the more broken the nearer."""
    dice = Random(seed)
    depth = image.height - horizon
    above = image.crop((0, 0, image.width, horizon))
    phases = [dice.uniform(0, math.tau) for _ in range(4)]
    row = 0
    while row < depth:
        near = row / depth
        step = 1 + round(near * 5)
        source = horizon - 1 - round(row * min(1.0, horizon / depth) * 0.98)
        sway = (
            (math.sin(row / (6 + 40 * near) + phases[0]) + 0.6 * math.sin(row / (2.5 + 17 * near) + phases[1]))
            * (2 + 26 * near)
            / calm
        )
        strip = above.crop((0, max(0, source - step + 1), image.width, source + 1)).transpose(
            Image.Transpose.FLIP_TOP_BOTTOM
        )
        image.paste(strip, (0, horizon + row))
        image.paste(strip, (round(sway), horizon + row))
        row += step
    mask = Image.new("L", (1, depth))
    for y in range(depth):
        mask.putpixel((0, y), round(255 * (tinted + (0.92 - tinted) * (y / depth) ** 1.5)))
    image.paste(tint, (0, horizon, image.width, image.height), mask.resize((image.width, depth)))


def _ripples(
    image: Image.Image,
    horizon: float,
    colour: Colour,
    seed: int,
    count: int,
    strength: float,
    *,
    x: float | None = None,
    spread: float = 1.0,
) -> None:
    """Short strokes on the water; with `x` they make the path of a light that stands there."""
    dice = Random(seed)
    mask = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(mask)
    for _ in range(count):
        near = dice.random() ** 1.7
        y = horizon + near * (image.height - horizon)
        reach = image.width * (0.03 + 0.11 * near) * spread
        cx = dice.gauss(x, reach) if x is not None else dice.random() * image.width
        length = image.width * (0.006 + 0.05 * near) * dice.uniform(0.4, 1.0) * (spread if x is not None else 1.0)
        high = image.height * (0.0008 + 0.0042 * near)
        fade = math.exp(-(((cx - x) / (2.2 * reach)) ** 2)) if x is not None else 1.0
        level = round(255 * strength * fade * dice.uniform(0.4, 1.0))
        draw.ellipse((cx - length, y - high, cx + length, y + high), fill=level)
    image.paste(colour, (0, 0), mask)


def _afloat(image: Image.Image, thing: Image.Image, line: float, seed: int, strength: float = 0.55) -> None:
    """Sets a transparent layer on the water; `line` is where it touches, and below that it is mirrored."""
    mirrored = ImageOps.flip(thing.crop((0, 0, thing.width, round(line))))
    dice = Random(seed)
    phase = dice.uniform(0, math.tau)
    under = Image.new("RGBA", image.size)
    for y in range(0, min(mirrored.height, image.height - round(line)), 3):
        strip = mirrored.crop((0, y, mirrored.width, y + 3))
        sway = round(math.sin(y / 9 + phase) * (2 + y / 26) + math.sin(y / 3.7) * 2)
        under.paste(ImageChops.offset(strip, sway, 0), (0, round(line) + y))
    alpha = under.getchannel("A").point([round(i * strength) for i in range(256)])
    image.paste(under.convert("RGB"), (0, 0), alpha)
    image.paste(thing.convert("RGB"), (0, 0), thing.getchannel("A"))


# Things --------------------------------------------------------------------------------------------------------


def _boat(size: Size, at: Point, scale: float, hull: Colour, trim: Colour, lamp: Colour | None = None) -> Image.Image:
    """A small fishing boat seen from the side, bow to the right; `at` is amidships on the waterline."""
    layer = Image.new("RGBA", size)
    draw = ImageDraw.Draw(layer)

    def p(*points: Point) -> list[Point]:
        return [(at[0] + x * scale, at[1] + y * scale) for x, y in points]

    dark = _mix(hull, (10, 10, 20), 0.55)
    rope = (*_mix(dark, (60, 50, 50), 0.4), 255)
    draw.line(p((-6, -34), (-6, -168)), fill=rope, width=round(4.2 * scale))
    draw.line(p((-6, -160), (118, -40)), fill=rope, width=max(1, round(1.4 * scale)))
    draw.line(p((-6, -160), (-112, -38)), fill=rope, width=max(1, round(1.4 * scale)))
    draw.line(p((-6, -120), (-86, -70)), fill=rope, width=max(1, round(3 * scale)))
    draw.polygon(p((-70, -36), (-70, -92), (-20, -92), (-12, -36)), fill=(*trim, 255))
    draw.polygon(p((-76, -92), (-72, -100), (-16, -100), (-14, -92)), fill=(*dark, 255))
    draw.polygon(p((-62, -84), (-62, -64), (-46, -64), (-46, -84)), fill=(*(lamp or _mix(trim, dark, 0.8)), 255))
    draw.polygon(p((-40, -84), (-40, -64), (-24, -64), (-21, -84)), fill=(*(lamp or _mix(trim, dark, 0.8)), 255))
    draw.polygon(
        p((-132, -44), (-120, -2), (-110, 6), (86, 6), (112, -14), (140, -62), (104, -46), (40, -36), (-60, -35)),
        fill=(*hull, 255),
    )
    draw.polygon(p((-130, -38), (-122, -10), (-110, 6), (86, 6), (104, -8), (92, -8), (-108, -10)), fill=(*dark, 255))
    draw.line(
        p((-132, -44), (-60, -35), (40, -36), (104, -46), (140, -62)),
        fill=(*_mix(trim, hull, 0.15), 255),
        width=round(4 * scale),
        joint="curve",
    )
    draw.line(
        p((-123, -12), (-110, -10), (92, -8), (105, -10)), fill=(*_mix(trim, hull, 0.35), 255), width=round(3 * scale)
    )
    for x in (-70, 10, 76):
        # Old tyres along the side.
        draw.line(p((x, -40), (x, -28)), fill=rope, width=max(1, round(1.6 * scale)))
        draw.ellipse([*p((x - 7, -30))[0], *p((x + 7, -16))[0]], outline=(26, 24, 30, 255), width=round(4 * scale))
    return layer


def _sail(size: Size, at: Point, scale: float, cloth: Colour, hull: Colour) -> Image.Image:
    layer = Image.new("RGBA", size)
    draw = ImageDraw.Draw(layer)

    def p(*points: Point) -> list[Point]:
        return [(at[0] + x * scale, at[1] + y * scale) for x, y in points]

    draw.polygon(p((2, -118), (2, -14), (48, -14)), fill=(*cloth, 255))
    draw.polygon(p((-3, -104), (-3, -14), (-34, -14)), fill=(*_mix(cloth, hull, 0.25), 255))
    draw.polygon(p((-44, -12), (-32, 2), (36, 2), (54, -12)), fill=(*hull, 255))
    return layer


def _gulls(image: Image.Image, where: Sequence[tuple[float, float, float]], colour: Colour) -> None:
    draw = ImageDraw.Draw(image)
    for x, y, span in where:
        for side in (-1, 1):
            wing = [
                (x + side * span * t, y - span * (0.55 * math.sin(math.pi * min(t * 1.1, 1)) - 0.12 * t))
                for t in (0, 0.2, 0.4, 0.6, 0.8, 1)
            ]
            draw.line(wing, fill=colour, width=max(2, round(span / 8)), joint="curve")


def _person(draw: ImageDraw.ImageDraw, x: float, ground: float, tall: float, colour: Colour, hat: bool = False) -> None:
    """A standing figure in a coat, cut out of dark paper."""

    def p(*points: Point) -> list[Point]:
        return [(x + a * tall, ground - b * tall) for a, b in points]

    draw.ellipse([*p((-0.052, 1.0))[0], *p((0.052, 0.87))[0]], fill=colour)
    draw.rectangle([*p((-0.02, 0.89))[0], *p((0.02, 0.83))[0]], fill=colour)
    if hat:
        draw.rectangle([*p((-0.095, 0.975))[0], *p((0.095, 0.955))[0]], fill=colour)
        draw.rectangle([*p((-0.055, 1.04))[0], *p((0.055, 0.96))[0]], fill=colour)
    coat = p((-0.05, 0.85), (0.05, 0.85), (0.115, 0.8), (0.13, 0.62), (0.115, 0.48), (0.085, 0.48), (0.09, 0.64))
    draw.polygon([*coat, *p((0.125, 0.32), (-0.125, 0.32), (-0.09, 0.64), (-0.085, 0.48), (-0.115, 0.48))], fill=colour)
    draw.polygon(p((-0.115, 0.48), (-0.13, 0.62), (-0.115, 0.8), (-0.05, 0.85), (-0.06, 0.6)), fill=colour)
    draw.polygon(p((-0.085, 0.34), (-0.012, 0.34), (-0.03, 0), (-0.085, 0)), fill=colour)
    draw.polygon(p((0.085, 0.34), (0.012, 0.34), (0.04, 0), (0.095, 0)), fill=colour)


def _lamp_post(
    image: Image.Image, x: float, ground: float, tall: float, colour: Colour, light: Colour, strength: float
) -> None:
    draw = ImageDraw.Draw(image)
    thin = max(2.0, tall / 46)
    draw.rectangle((x - thin / 2, ground - tall, x + thin / 2, ground), fill=colour)
    draw.rectangle((x - thin * 1.6, ground - tall * 0.06, x + thin * 1.6, ground), fill=colour)
    top, wide = ground - tall, tall / 15
    draw.polygon(
        [(x - wide, top - wide * 1.9), (x + wide, top - wide * 1.9), (x + wide * 0.6, top), (x - wide * 0.6, top)],
        fill=light,
    )
    draw.polygon(
        [(x - wide * 1.3, top - wide * 1.8), (x, top - wide * 2.9), (x + wide * 1.3, top - wide * 1.8)], fill=colour
    )
    glow(image, (x, top - wide), tall * 0.75, light, strength)
    glow(image, (x, top - wide), tall * 0.22, light, min(1.0, strength * 1.6))


def _house(
    image: Image.Image,
    box: tuple[float, float, float, float],
    wall: Colour,
    roof: Colour,
    light: Colour,
    dice: Random,
    lit: float,
) -> None:
    """A gabled house front: `box` is its wall, the gable stands on top."""
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = box
    wide = right - left
    peak = top - wide * dice.uniform(0.42, 0.7)
    draw.rectangle(box, fill=wall)
    draw.polygon([(left, top), ((left + right) / 2, peak), (right, top)], fill=wall)
    edge = wide * 0.05
    draw.line(
        [(left - edge, top + edge), ((left + right) / 2, peak), (right + edge, top + edge)],
        fill=roof,
        width=round(wide * 0.07),
        joint="curve",
    )
    if dice.random() < 0.7:
        x = left + wide * dice.choice((0.22, 0.72))
        draw.rectangle((x, peak + wide * 0.05, x + wide * 0.1, top), fill=roof)
        draw.polygon([(left, top), ((left + right) / 2, peak), (right, top)], fill=wall)
        draw.line(
            [(left - edge, top + edge), ((left + right) / 2, peak), (right + edge, top + edge)],
            fill=roof,
            width=round(wide * 0.07),
            joint="curve",
        )
    dark, frame = _mix(wall, (8, 10, 22), 0.55), _mix(wall, (255, 240, 220), 0.16)
    columns = max(2, round(wide / 62))
    cell = wide / columns
    floor = cell * 1.25
    rows = max(1, int((bottom - top - floor * 0.9) / floor))
    for row in range(rows + 1):
        for column in range(columns):
            x, y = left + cell * (column + 0.5), top + floor * (row + 0.5)
            if row == rows:
                if column != columns // 2:
                    continue
                draw.rectangle((x - cell * 0.26, bottom - floor * 0.85, x + cell * 0.26, bottom), fill=dark)
                continue
            on = dice.random() < lit
            pane = (x - cell * 0.24, y - cell * 0.36, x + cell * 0.24, y + cell * 0.36)
            draw.rectangle((pane[0] - 3, pane[1] - 3, pane[2] + 3, pane[3] + 3), fill=frame)
            draw.rectangle(pane, fill=_mix(light, wall, dice.uniform(0, 0.25)) if on else dark)
            draw.line((x, pane[1], x, pane[3]), fill=frame, width=3)
            draw.line((pane[0], y - cell * 0.06, pane[2], y - cell * 0.06), fill=frame, width=3)
            if on:
                glow(image, (x, y), cell * 1.0, light, 0.35)


def _lighthouse(
    image: Image.Image, foot: Point, tall: float, paint: tuple[Colour, Colour], lamp: Colour, shade: float
) -> Point:
    """A striped tower on its foot; returns where its lamp is."""
    draw = ImageDraw.Draw(image)
    x, y = foot
    low, high = tall * 0.115, tall * 0.068
    body = tall * 0.8

    def half(at: float) -> float:
        return low + (high - low) * at

    for band in range(5):
        a, b = band / 5, (band + 1) / 5
        draw.polygon(
            [
                (x - half(a), y - body * a),
                (x + half(a), y - body * a),
                (x + half(b), y - body * b),
                (x - half(b), y - body * b),
            ],
            fill=paint[band % 2],
        )
    # The side away from the light.
    side = Image.new("L", image.size)
    across = Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90).resize((round(low * 2), round(body)))
    side.paste(across.point([round(max(0, i - 70) * shade) for i in range(256)]), (round(x - low), round(y - body)))
    tower = Image.new("L", image.size)
    ImageDraw.Draw(tower).polygon([(x - low, y), (x + low, y), (x + high, y - body), (x - high, y - body)], fill=255)
    image.paste((8, 10, 26), (0, 0), ImageChops.multiply(side, tower))
    draw.rectangle((x - high * 1.5, y - body - tall * 0.022, x + high * 1.5, y - body), fill=(26, 28, 42))
    for i in range(-3, 4):
        draw.line(
            (x + i * high * 0.46, y - body - tall * 0.062, x + i * high * 0.46, y - body), fill=(26, 28, 42), width=3
        )
    draw.line(
        (x - high * 1.45, y - body - tall * 0.062, x + high * 1.45, y - body - tall * 0.062), fill=(26, 28, 42), width=4
    )
    room = (x - high * 0.72, y - body - tall * 0.125, x + high * 0.72, y - body - tall * 0.022)
    draw.rectangle(room, fill=lamp)
    for i in (-1, 0, 1):
        draw.line((x + i * high * 0.36, room[1], x + i * high * 0.36, room[3]), fill=(26, 28, 42), width=3)
    draw.polygon(
        [(x - high * 0.95, room[1]), (x, room[1] - tall * 0.07), (x + high * 0.95, room[1])],
        fill=paint[0] if shade < 0.9 else (70, 26, 34),
    )
    draw.line((x, room[1] - tall * 0.07, x, room[1] - tall * 0.1), fill=(26, 28, 42), width=4)
    for at in (0.14, 0.5):
        wide = half(at) * 0.17
        draw.rectangle(
            (x - wide - half(at) * 0.2, y - body * at - tall * 0.05, x + wide - half(at) * 0.2, y - body * at),
            fill=(34, 30, 46),
        )
    return x, (room[1] + room[3]) / 2


def _beam(
    image: Image.Image, at: Point, towards: float, length: float, spread: float, colour: Colour, strength: float
) -> None:
    """A cone of light; `towards` and `spread` in radians."""
    mask = Image.new("L", (image.width // 4, image.height // 4), 0)
    draw = ImageDraw.Draw(mask)
    x, y = at[0] / 4, at[1] / 4
    for i in range(24):
        reach, level = length / 4 * (1 - i / 26), 255 * strength * ((i + 1) / 24) ** 1.5
        a, b = towards - spread, towards + spread
        draw.polygon(
            [
                (x, y),
                (x + reach * math.cos(a), y + reach * math.sin(a)),
                (x + reach * math.cos(b), y + reach * math.sin(b)),
            ],
            fill=round(level),
        )
    mask = mask.filter(ImageFilter.GaussianBlur(image.height / 400)).resize(image.size, Image.Resampling.BICUBIC)
    lit = Image.composite(Image.new("RGB", image.size, colour), Image.new("RGB", image.size), mask)
    image.paste(ImageChops.screen(image, lit))


# Scenes --------------------------------------------------------------------------------------------------------


def _start(size: Size) -> tuple[Size, float]:
    """The size to draw in, and the unit: 1/720 of the shorter side."""
    fine = (size[0] * FINE, size[1] * FINE)
    return fine, min(fine) / 720


def harbour_dawn(size: Size) -> Image.Image:
    """A red fishing boat on still water before a low sun."""
    fine, u = _start(size)
    w, h = fine
    horizon = round(h * 0.56)
    image = _sky(
        fine,
        [
            (0, (38, 66, 98)),
            (0.22, (86, 120, 142)),
            (0.40, (214, 160, 128)),
            (0.52, (250, 190, 118)),
            (0.57, (255, 214, 150)),
            (1, (255, 214, 150)),
        ],
    )
    sun = (w * 0.63, horizon - 22 * u)
    glow(image, sun, 520 * u, (255, 170, 90), 0.75, 0.75)
    _streaks(image, h * 0.06, h * 0.44, (246, 176, 140), 5, 26, 0.5)
    _streaks(image, h * 0.18, h * 0.5, (120, 112, 134), 9, 12, 0.45)
    glow(image, sun, 190 * u, (255, 226, 160), 0.9)
    ImageDraw.Draw(image).ellipse(
        (sun[0] - 40 * u, sun[1] - 40 * u, sun[0] + 40 * u, sun[1] + 40 * u), fill=(255, 246, 214)
    )
    for base, high, seed, colour in (
        (0, 120, 3, (196, 142, 130)),
        (0, 84, 11, (142, 112, 124)),
        (0, 52, 27, (92, 88, 110)),
    ):
        _land(image, _hills(w, horizon - base, high * u, seed, 0.46), colour, horizon)
        _fog(image, horizon, 26 * u, (255, 206, 150), 0.35)
    # A mole with its light closes the bay on the left.
    draw = ImageDraw.Draw(image)
    draw.polygon(
        [(0, horizon - 34 * u), (w * 0.2, horizon - 22 * u), (w * 0.27, horizon), (0, horizon)], fill=(58, 60, 84)
    )
    draw.rectangle((w * 0.19, horizon - 84 * u, w * 0.19 + 14 * u, horizon - 20 * u), fill=(58, 60, 84))
    draw.rectangle((w * 0.19 - 3 * u, horizon - 92 * u, w * 0.19 + 17 * u, horizon - 84 * u), fill=(46, 48, 72))
    glow(image, (w * 0.19 + 7 * u, horizon - 98 * u), 46 * u, (255, 236, 180), 1.0)
    for x, scale in ((0.8, 0.62), (0.9, 0.85)):
        sail = _sail(fine, (w * x, horizon - 1), scale * u, (250, 224, 190), (70, 62, 84))
        image.paste(sail.convert("RGB"), (0, 0), sail.getchannel("A"))
    _water(image, horizon, (40, 72, 100), 3, 0.12, 1.2)
    _ripples(image, horizon, (255, 222, 160), 6, 420, 0.85, x=sun[0], spread=0.75)
    _ripples(image, horizon, (30, 56, 84), 8, 260, 0.35)
    _ripples(image, horizon, (250, 196, 150), 10, 120, 0.3)
    boat = _boat(fine, (w * 0.34, h * 0.78), 1.55 * u, (176, 48, 38), (236, 222, 200))
    _afloat(image, boat, h * 0.78 + 9 * u, 4, 0.6)
    _ripples(image, h * 0.8, (246, 190, 146), 13, 60, 0.35)
    _gulls(
        image,
        [
            (w * 0.46, h * 0.2, 26 * u),
            (w * 0.52, h * 0.16, 19 * u),
            (w * 0.41, h * 0.27, 15 * u),
            (w * 0.22, h * 0.33, 12 * u),
        ],
        (52, 60, 84),
    )
    return _shade(image)


def harbour_quay(size: Size) -> Image.Image:
    """Gabled houses along a quay, the boat moored, lamps going out."""
    return _quay(size, night=False)


def harbour_night(size: Size) -> Image.Image:
    """The same quay at night, every window lit."""
    return _quay(size, night=True)


def _quay(size: Size, *, night: bool) -> Image.Image:
    fine, u = _start(size)
    w, h = fine
    quay = round(h * 0.62)
    light = (255, 206, 122)
    if night:
        image = _sky(fine, [(0, (8, 12, 34)), (0.35, (18, 28, 62)), (0.62, (52, 58, 98)), (1, (52, 58, 98))])
        _stars(image, h * 0.45, 4, 260)
        moon = (w * 0.8, h * 0.16)
        glow(image, moon, 260 * u, (150, 170, 230), 0.5)
        ImageDraw.Draw(image).ellipse(
            (moon[0] - 34 * u, moon[1] - 34 * u, moon[0] + 34 * u, moon[1] + 34 * u), fill=(240, 240, 226)
        )
        _streaks(image, h * 0.08, h * 0.35, (70, 78, 120), 3, 9, 0.5)
        far, walls, roof, ink = (
            (26, 34, 66),
            [(58, 52, 80), (44, 54, 84), (70, 54, 72), (50, 48, 78)],
            (18, 20, 40),
            (12, 14, 30),
        )
    else:
        image = _sky(
            fine,
            [
                (0, (92, 140, 168)),
                (0.3, (168, 190, 190)),
                (0.52, (248, 214, 172)),
                (0.62, (255, 226, 182)),
                (1, (255, 226, 182)),
            ],
        )
        glow(image, (w * 0.12, h * 0.44), 560 * u, (255, 196, 120), 0.7)
        _streaks(image, h * 0.06, h * 0.36, (255, 232, 206), 14, 18, 0.55)
        far, roof, ink = (146, 152, 160), (84, 54, 52), (50, 48, 62)
        walls = [(206, 120, 88), (232, 188, 128), (150, 160, 150), (214, 152, 120), (236, 214, 180), (118, 136, 150)]
    _land(image, _hills(w, quay - 60 * u, 190 * u, 8, 0.45), far, quay)
    # The church behind the roofs.
    draw = ImageDraw.Draw(image)
    tower = _mix(far, ink, 0.35)
    x = w * 0.66
    draw.rectangle((x, quay - 330 * u, x + 56 * u, quay), fill=tower)
    draw.polygon(
        [(x - 6 * u, quay - 328 * u), (x + 28 * u, quay - 452 * u), (x + 62 * u, quay - 328 * u)],
        fill=_mix(tower, ink, 0.35),
    )
    draw.ellipse((x + 17 * u, quay - 306 * u, x + 39 * u, quay - 284 * u), fill=light if night else (240, 226, 196))
    dice = Random(21)
    left, i = -30 * u, 0
    while left < w:
        wide = dice.uniform(92, 140) * u
        top = quay - dice.uniform(150, 236) * u
        wall = walls[i % len(walls)]
        _house(
            image, (left, top, left + wide, quay), wall, _mix(roof, wall, 0.15), light, dice, 0.62 if night else 0.12
        )
        left, i = left + wide + dice.choice((0, 0, 6 * u)), i + 1
    if not night:
        glow(image, (0, h * 0.46), 620 * u, (255, 200, 130), 0.42)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, quay - 10 * u, w, quay + 40 * u), fill=_mix(ink, (120, 110, 110), 0.25))
    draw.rectangle((0, quay - 10 * u, w, quay - 4 * u), fill=_mix(ink, (230, 210, 180), 0.35 if night else 0.55))
    for x, tall in ((0.2, 78), (0.245, 70), (0.47, 76), (0.86, 74)):
        _person(draw, w * x, quay - 6 * u, tall * u, ink)
    for x in (0.09, 0.37, 0.63, 0.93):
        _lamp_post(image, w * x, quay - 4 * u, 150 * u, ink, light, 0.75 if night else 0.35)
    line = quay + 40 * u
    _water(image, round(line), (14, 22, 46) if night else (58, 92, 108), 7, 0.25, 1.4)
    if night:
        for x in (0.09, 0.37, 0.63, 0.93):
            _ripples(image, line, light, int(x * 100), 90, 0.8, x=w * x, spread=0.22)
        _ripples(image, line, (200, 210, 240), 55, 60, 0.35, x=w * 0.8, spread=0.5)
    _ripples(image, line, (200, 214, 210) if not night else (60, 72, 112), 2, 150, 0.3)
    hull, trim = ((176, 48, 38), (240, 226, 204)) if not night else ((96, 30, 40), (150, 140, 150))
    boat = _boat(fine, (w * 0.54, h * 0.79), 1.45 * u, hull, trim, light if night else None)
    _afloat(image, boat, h * 0.79 + 8 * u, 9, 0.55)
    other = _boat(fine, (w * 0.13, h * 0.735), 0.95 * u, (52, 92, 120) if not night else (30, 44, 72), trim)
    _afloat(image, other, h * 0.735 + 5 * u, 5, 0.5)
    if night:
        glow(image, (w * 0.54 - 60 * u, h * 0.79 - 105 * u), 120 * u, light, 0.5)
    return _shade(image, 0.5 if night else 0.35)


def market(size: Size) -> Image.Image:
    """A market street at dusk: stalls on both sides, lanterns overhead, people against the light."""
    fine, u = _start(size)
    w, h = fine
    light = (255, 190, 96)
    far = (w * 0.52, h * 0.52)
    image = _sky(
        fine,
        [
            (0, (34, 34, 78)),
            (0.3, (98, 66, 108)),
            (0.5, (232, 136, 104)),
            (0.56, (255, 190, 130)),
            (1, (255, 190, 130)),
        ],
    )
    _streaks(image, h * 0.04, h * 0.34, (214, 118, 120), 8, 10, 0.5)
    glow(image, far, 420 * u, (255, 190, 120), 0.8)
    draw = ImageDraw.Draw(image)
    # The hill with its castle at the end of the street.
    _land(image, _hills(w, h * 0.53, 90 * u, 4, 0.45), (150, 96, 116), h)
    x, y = far[0] + 30 * u, h * 0.47
    draw.rectangle((x - 46 * u, y - 34 * u, x + 40 * u, y + 40 * u), fill=(128, 82, 108))
    draw.rectangle((x - 20 * u, y - 84 * u, x + 8 * u, y), fill=(128, 82, 108))
    draw.polygon([(x - 26 * u, y - 82 * u), (x - 6 * u, y - 122 * u), (x + 14 * u, y - 82 * u)], fill=(112, 70, 100))
    # The street: paving that runs to the vanishing point.
    draw.polygon(
        [
            (0, h),
            (w, h),
            (w, h * 0.8),
            (far[0] + 44 * u, far[1] + 22 * u),
            (far[0] - 44 * u, far[1] + 22 * u),
            (0, h * 0.8),
        ],
        fill=(84, 58, 78),
    )
    dice = Random(5)
    for row in range(26):
        near = (row / 26) ** 2.1
        y = far[1] + 22 * u + near * (h - far[1] - 22 * u)
        tall = (0.9 + near * 15) * u
        count = 22
        for i in range(count):
            t = (i + (0.5 if row % 2 else 0) + dice.uniform(-0.06, 0.06)) / count * 2 - 1
            reach = (44 + (y - far[1] - 22 * u) / u * 2.2) * u
            cx = far[0] + t * reach
            half = reach / count * 0.86
            warm = math.exp(-((t * 1.5) ** 2)) * (1 - near * 0.7)
            tone = _mix(_mix((72, 50, 74), (104, 72, 84), dice.random()), (236, 150, 110), warm * 0.75)
            draw.rounded_rectangle((cx - half, y - tall * 0.5, cx + half, y + tall * 0.5), radius=tall * 0.4, fill=tone)
    # Facades in perspective, from far to near, both sides.
    walls = [(150, 84, 84), (120, 76, 98), (172, 104, 86), (100, 68, 96), (136, 88, 104)]
    for i in range(6):
        for side in (-1, 1):
            near_a, near_b = (i / 6) ** 1.8, ((i + 1) / 6) ** 1.8

            def wall(near: float, side: int = side) -> tuple[float, float, float]:
                return (
                    far[0] + side * (50 * u + near * w * 0.62),
                    far[1] - 66 * u - near * h * 0.82,
                    far[1] + 26 * u + near * h * 0.26,
                )

            (xa, ta, ba), (xb, tb, bb) = wall(near_a), wall(near_b)
            colour = _mix(
                _mix((236, 140, 112), walls[(i + (side > 0) * 2) % 5], 0.35 + 0.65 * near_b),
                (34, 24, 54),
                0.55 * near_b,
            )
            step = (dice.uniform(-0.06, 0.10)) * (ba - ta)
            draw.polygon([(xa, ta + step), (xb, tb + step), (xb, bb), (xa, ba)], fill=colour)
            draw.line(
                [(xa, ta + step), (xb, tb + step)],
                fill=_mix(colour, (24, 16, 40), 0.5),
                width=max(2, round((3 + near_b * 14) * u)),
            )
            for floor in range(1, 4):
                for column in range(2):
                    fa, fb = (column + 0.25) / 2, (column + 0.72) / 2
                    ya, yb = floor / 4 - 0.07 - 0.12, floor / 4 - 0.02 - 0.02

                    def q(
                        f: float,
                        v: float,
                        xa: float = xa,
                        xb: float = xb,
                        ta: float = ta,
                        tb: float = tb,
                        ba: float = ba,
                        bb: float = bb,
                        step: float = step,
                    ) -> Point:
                        top, low = ta + step + (tb - ta) * f, ba + (bb - ba) * f
                        return xa + (xb - xa) * f, top + (low - top) * v * 0.82

                    on = dice.random() < 0.5
                    pane = _mix(light, colour, 0.12) if on else _mix(colour, (20, 16, 40), 0.55)
                    draw.polygon([q(fa, ya), q(fb, ya), q(fb, yb), q(fa, yb)], fill=pane)
    # Stalls: striped awnings with lit goods, the near ones large.
    stripes = [
        ((206, 62, 52), (248, 228, 200)),
        ((34, 112, 122), (246, 226, 190)),
        ((226, 150, 52), (250, 236, 206)),
        ((112, 62, 116), (244, 220, 200)),
    ]
    order = sorted(((near, side) for near in (0.07, 0.2, 0.42, 0.8) for side in (-1, 1)), key=lambda item: item[0])
    for n, (near, side) in enumerate(order):
        near += 0.02 if side > 0 else 0.0
        k = (0.16 + near * 1.06) * u
        x = far[0] + side * (58 * u + near * w * 0.43)
        ground = far[1] + 26 * u + near * h * 0.36
        _stall(image, (x, ground), k, stripes[n % 4], light, dice)
    glow(image, (far[0], far[1] + 10 * u), 330 * u, (255, 200, 130), 0.55, 0.8)
    draw = ImageDraw.Draw(image)
    for x, near, hat in (
        (0.505, 0.05, False),
        (0.54, 0.075, True),
        (0.47, 0.12, False),
        (0.56, 0.2, False),
        (0.585, 0.2, True),
        (0.45, 0.34, True),
        (0.5, 0.62, False),
    ):
        ground = far[1] + 26 * u + near * h * 0.44
        tall = (44 + near * 330) * u
        draw.polygon(
            [
                (w * x - tall * 0.1, ground),
                (w * x + tall * 0.1, ground),
                (w * x + tall * 0.16 + (w * x - far[0]) * 0.5, ground + tall * 0.5),
                (w * x - tall * 0.16 + (w * x - far[0]) * 0.5, ground + tall * 0.5),
            ],
            fill=_mix((72, 48, 72), (40, 26, 52), 0.5),
        )
        _person(draw, w * x, ground, tall, _mix((124, 70, 86), (26, 18, 44), min(1.0, 0.35 + near * 2)), hat)
    # Lanterns on lines across the street.
    for near in (0.05, 0.14, 0.3, 0.56):
        y, reach = far[1] - (64 + near * 430) * u, (60 + near * 860) * u
        for i in range(7):
            t = (i + 0.5) / 3.5 - 1
            x, drop = far[0] + t * reach, (1 - t * t) * (20 + near * 76) * u
            r = (5 + near * 34) * u * (0.86 + 0.28 * dice.random())
            if i:
                before = (i - 0.5) / 3.5 - 1
                draw.line(
                    (far[0] + before * reach, y + (1 - before * before) * (20 + near * 76) * u, x, y + drop),
                    fill=(44, 28, 52),
                    width=max(1, round((0.6 + near * 2.2) * u)),
                )
            tint = ((255, 176, 84), (255, 120, 76), (255, 214, 120))[i % 3]
            glow(image, (x, y + drop + r), r * 4.2, tint, 0.5)
            draw = ImageDraw.Draw(image)
            draw.ellipse((x - r, y + drop, x + r, y + drop + r * 1.9), fill=tint)
            draw.ellipse(
                (x - r * 0.5, y + drop + r * 0.2, x + r * 0.5, y + drop + r * 1.7),
                fill=_mix(tint, (255, 250, 220), 0.6),
            )
            draw.rectangle((x - r * 0.4, y + drop - r * 0.12, x + r * 0.4, y + drop + r * 0.1), fill=(60, 34, 44))
    return _shade(image, 0.6)


def _stall(
    image: Image.Image, at: Point, k: float, stripes: tuple[Colour, Colour], light: Colour, dice: Random
) -> None:
    """A market stall, 200 units wide; the counter shows its goods towards the street."""
    draw = ImageDraw.Draw(image)
    x, ground = at
    left, right, top = x - 110 * k, x + 110 * k, ground - 250 * k
    draw.rectangle((left + 8 * k, top, right - 8 * k, ground - 90 * k), fill=(92, 48, 50))
    glow(image, (x, ground - 170 * k), 190 * k, light, 0.85)
    draw = ImageDraw.Draw(image)
    for end in (left, right):
        draw.rectangle((end - 5 * k, top - 20 * k, end + 5 * k, ground), fill=(56, 34, 46))
    draw.rectangle((left - 8 * k, ground - 92 * k, right + 8 * k, ground), fill=(94, 54, 54))
    for i in range(5):
        draw.line(
            (left + (i + 0.5) * 44 * k, ground - 84 * k, left + (i + 0.5) * 44 * k, ground),
            fill=(76, 42, 48),
            width=max(1, round(3 * k)),
        )
    draw.rectangle((left - 12 * k, ground - 102 * k, right + 12 * k, ground - 88 * k), fill=(134, 82, 66))
    for i in range(4):
        colour = ((214, 64, 48), (240, 170, 60), (120, 150, 64), (220, 112, 60))[dice.randrange(4)]
        cx = left + (i + 0.5) * 55 * k
        for row, count in ((0, 4), (1, 3), (2, 2)):
            for j in range(count):
                fx, fy = cx + (j - (count - 1) / 2) * 12 * k, ground - (108 + row * 10) * k
                draw.ellipse(
                    (fx - 7 * k, fy - 7 * k, fx + 7 * k, fy + 7 * k), fill=_mix(colour, (255, 226, 150), 0.12 * row)
                )
    count = 8
    wide = (right - left + 44 * k) / count
    for i in range(count):
        a, b = left - 22 * k + i * wide, left - 22 * k + (i + 1) * wide
        slant = 20 * k
        colour = stripes[i % 2]
        draw.polygon(
            [
                (a + slant * (1 - i / 4), top - 62 * k),
                (b + slant * (1 - (i + 1) / 4), top - 62 * k),
                (b, top),
                (a, top),
            ],
            fill=colour,
        )
        draw.pieslice((a, top - 14 * k, b, top + 16 * k), 0, 180, fill=_mix(colour, (60, 20, 40), 0.28))
    draw.line(
        (left - 22 * k, top, right + 22 * k, top), fill=_mix(stripes[0], (60, 20, 40), 0.35), width=max(1, round(3 * k))
    )
    draw.ellipse((x - 8 * k, top + 26 * k, x + 8 * k, top + 44 * k), fill=(255, 244, 206))
    glow(image, (x, top + 35 * k), 70 * k, (255, 226, 150), 0.9)


def lighthouse(size: Size) -> Image.Image:
    """A lighthouse on its rock at blue hour, beam over a rising sea."""
    fine, u = _start(size)
    w, h = fine
    tall = h > w
    horizon = round(h * (0.66 if tall else 0.62))
    image = _sky(
        fine,
        [
            (0, (16, 24, 60)),
            (0.3, (44, 62, 112)),
            (0.5, (142, 112, 146)),
            (0.6, (246, 160, 120)),
            (0.66, (255, 196, 140)),
            (1, (255, 196, 140)),
        ],
    )
    _stars(image, h * 0.34, 12, 150)
    glow(image, (w * (0.2 if tall else 0.16), horizon), 560 * u, (255, 170, 110), 0.8, 0.7)
    _streaks(image, h * 0.14, h * (0.56 if tall else 0.5), (206, 118, 126), 6, 18, 0.5)
    _streaks(image, h * 0.08, h * 0.4, (60, 66, 116), 16, 14, 0.55)
    for base, high, seed, colour in ((0, 70, 5, (176, 112, 130)), (0, 44, 17, (112, 86, 124))):
        line = _hills(w, horizon - base, high * u, seed, 0.44)
        _land(image, line, colour, horizon)
    _water(image, horizon, (22, 40, 78), 11, 0.3, 0.9)
    _ripples(image, horizon, (255, 180, 130), 3, 260, 0.6, x=w * (0.2 if tall else 0.16), spread=1.1)
    _ripples(image, horizon, (26, 40, 80), 4, 300, 0.5)
    # The rock, in three planes, with surf at its foot.
    x = w * (0.6 if tall else 0.68)
    top = h * (0.7 if tall else 0.62)
    draw = ImageDraw.Draw(image)
    for inset, drop, colour, seed in (
        (0.0, 0.0, (52, 44, 76), 2),
        (0.06, 0.05, (38, 34, 64), 5),
        (0.14, 0.12, (26, 24, 50), 8),
    ):
        dice = Random(seed)
        reach = w * (0.62 if tall else 0.42)
        line = [(x - reach * (1 - inset) + reach * 2 * (1 - inset) * i / 22, 0.0) for i in range(23)]
        shaped = []
        for i, (px, _) in enumerate(line):
            away = max(0.0, abs(i - 11) - 3.2) / 7.8
            shaped.append(
                (
                    px,
                    top
                    + h * drop
                    + (away**1.7) * h * (0.22 if tall else 0.3)
                    + dice.uniform(-9, 9) * u * (0.4 if 7 < i < 15 else 2.2),
                )
            )
        draw.polygon([*shaped, (shaped[-1][0], h), (shaped[0][0], h)], fill=colour)
    # The keeper's house.
    hx = x + 92 * u
    draw.rectangle((hx, top - 56 * u, hx + 120 * u, top + 12 * u), fill=(196, 184, 190))
    draw.rectangle((hx + 78 * u, top - 56 * u, hx + 120 * u, top + 12 * u), fill=(140, 130, 152))
    draw.polygon(
        [
            (hx - 10 * u, top - 54 * u),
            (hx + 18 * u, top - 98 * u),
            (hx + 104 * u, top - 98 * u),
            (hx + 130 * u, top - 54 * u),
        ],
        fill=(116, 48, 56),
    )
    draw.rectangle((hx + 88 * u, top - 122 * u, hx + 104 * u, top - 92 * u), fill=(96, 42, 52))
    for wx in (16, 52):
        draw.rectangle((hx + wx * u, top - 40 * u, hx + (wx + 20) * u, top - 16 * u), fill=(255, 206, 120))
        glow(image, (hx + (wx + 10) * u, top - 28 * u), 60 * u, (255, 200, 110), 0.7)
    lamp = _lighthouse(
        image, (x, top + 6 * u), h * (0.46 if tall else 0.5), ((196, 58, 56), (238, 226, 222)), (255, 244, 200), 0.8
    )
    _beam(image, lamp, math.pi + 0.10, w * 1.1, 0.075, (255, 236, 180), 0.75)
    _beam(image, lamp, -0.06, w * 0.8, 0.075, (255, 236, 180), 0.5)
    glow(image, lamp, 250 * u, (255, 226, 150), 0.9)
    glow(image, lamp, 80 * u, (255, 250, 220), 1.0)
    # Swell and surf in front.
    for i, (y, colour) in enumerate(((0.86, (30, 56, 98)), (0.915, (24, 46, 86)), (0.965, (18, 36, 72)))):
        crest = [
            (px, h * y + 10 * u * math.sin(px / (92 * u) + i * 1.9) + 5 * u * math.sin(px / (37 * u) + i))
            for px in range(0, w + 8, 8)
        ]
        ImageDraw.Draw(image).polygon([*crest, (w, h), (0, h)], fill=colour)
        ImageDraw.Draw(image).line(crest, fill=_mix(colour, (220, 226, 240), 0.5), width=round(2.4 * u), joint="curve")
        dice = Random(30 + i)
        foam = Image.new("L", fine, 0)
        for _ in range(46):
            fx = dice.gauss(x, w * 0.26)
            fy = h * y + 10 * u * math.sin(fx / (92 * u) + i * 1.9) + dice.uniform(-3, 9) * u
            r = dice.uniform(2, 9) * u
            ImageDraw.Draw(foam).ellipse(
                (fx - r * 2.4, fy - r * 0.6, fx + r * 2.4, fy + r * 0.6), fill=dice.randint(60, 190)
            )
        image.paste((226, 230, 244), (0, 0), foam.filter(ImageFilter.GaussianBlur(u)))
    _gulls(
        image, [(w * 0.3, h * 0.3, 22 * u), (w * 0.37, h * 0.34, 15 * u), (w * 0.24, h * 0.37, 13 * u)], (226, 214, 226)
    )
    return _shade(image, 0.5)


def lantern(size: Size) -> Image.Image:
    """A storm lantern on a window sill, the sea and a far lighthouse outside."""
    fine, u = _start(size)
    w, h = fine
    tall = h > w
    image = Image.new("RGB", fine, (44, 30, 40))
    # Outside.
    pane = (round(w * (0.1 if tall else 0.2)), round(h * 0.07), round(w * (0.9 if tall else 0.8)), round(h * 0.74))
    size_out = (pane[2] - pane[0], pane[3] - pane[1])
    out = _sky(
        size_out,
        [
            (0, (14, 22, 56)),
            (0.45, (58, 70, 122)),
            (0.66, (190, 128, 140)),
            (0.72, (240, 168, 132)),
            (1, (240, 168, 132)),
        ],
    )
    horizon = round(size_out[1] * 0.7)
    _stars(out, size_out[1] * 0.45, 3, 90)
    _streaks(out, size_out[1] * 0.15, size_out[1] * 0.6, (150, 100, 136), 3, 12, 0.5)
    _land(out, _hills(size_out[0], horizon, 46 * u, 14, 0.44), (92, 80, 120), horizon)
    lx = size_out[0] * (0.78 if tall else 0.8)
    far = ImageDraw.Draw(out)
    far.polygon(
        [
            (lx - 90 * u, horizon),
            (lx - 40 * u, horizon - 30 * u),
            (lx + 40 * u, horizon - 32 * u),
            (lx + 120 * u, horizon),
        ],
        fill=(44, 42, 76),
    )
    far.polygon(
        [
            (lx - 9 * u, horizon - 28 * u),
            (lx - 5 * u, horizon - 104 * u),
            (lx + 5 * u, horizon - 104 * u),
            (lx + 9 * u, horizon - 28 * u),
        ],
        fill=(212, 200, 210),
    )
    far.rectangle((lx - 7 * u, horizon - 118 * u, lx + 7 * u, horizon - 104 * u), fill=(44, 42, 76))
    _beam(out, (lx, horizon - 111 * u), math.pi + 0.08, size_out[0] * 0.9, 0.06, (255, 236, 180), 0.55)
    glow(out, (lx, horizon - 111 * u), 70 * u, (255, 240, 190), 1.0)
    _water(out, horizon, (28, 42, 82), 5, 0.3, 1.0)
    _ripples(out, horizon, (250, 186, 150), 6, 130, 0.45)
    draw = ImageDraw.Draw(image)
    # Wall boards, window frame, sill.
    for i in range(14):
        a, b = w * i / 14, w * (i + 1) / 14 - 3 * u
        tone = _mix((58, 40, 50), (48, 33, 44), i % 3 / 2)
        draw.rectangle((a, 0, b, h), fill=tone)
    image.paste(out, pane[:2])
    frame, edge, lit = 22 * u, (112, 78, 70), (168, 116, 88)
    for box in (
        (pane[0] - frame, pane[1] - frame, pane[2] + frame, pane[1]),
        (pane[0] - frame, pane[1], pane[0], pane[3]),
        (pane[2], pane[1], pane[2] + frame, pane[3]),
    ):
        draw.rectangle(box, fill=edge)
    middle = (pane[0] + pane[2]) / 2
    draw.rectangle((middle - 8 * u, pane[1], middle + 8 * u, pane[3]), fill=edge)
    bar = pane[1] + size_out[1] * 0.4
    draw.rectangle((pane[0], bar - 7 * u, pane[2], bar + 7 * u), fill=edge)
    draw.rectangle((pane[0] - 60 * u, pane[3], pane[2] + 60 * u, pane[3] + 26 * u), fill=lit)
    draw.rectangle(
        (pane[0] - 60 * u, pane[3] + 26 * u, pane[2] + 60 * u, pane[3] + 50 * u), fill=_mix(edge, (30, 20, 30), 0.3)
    )
    # A curtain on each side, in folds.
    for side in (-1, 1):
        for i in range(5):
            outer = pane[0] - 70 * u if side < 0 else pane[2] + 70 * u
            a, b = outer - side * i * 26 * u, outer - side * (i + 1) * 26 * u
            low = pane[3] - (10 + i * 26) * u
            draw.polygon(
                [
                    (a, 0),
                    (b, 0),
                    (b + side * 8 * u, low * 0.6),
                    (b + side * 20 * u, low),
                    (a + side * 12 * u, low + 20 * u),
                ],
                fill=_mix((126, 48, 56), (84, 30, 48), i % 2 * 0.8),
            )
    # The lantern.
    x, foot = w * (0.44 if tall else 0.4), pane[3] + 8 * u
    k = (1.5 if tall else 1.25) * u

    def p(*points: Point) -> list[Point]:
        return [(x + a * k, foot - b * k) for a, b in points]

    glow(image, p((0, 112))[0], 620 * u, (255, 160, 70), 0.75)
    draw = ImageDraw.Draw(image)
    metal, shine = (70, 56, 54), (156, 116, 84)
    draw.arc([*p((-66, 300))[0], *p((66, 130))[0]], 180, 360, fill=shine, width=round(5 * k))
    draw.polygon(p((-70, 0), (70, 0), (62, 16), (48, 50), (-48, 50), (-62, 16)), fill=metal)
    draw.polygon(p((-70, 0), (-40, 0), (-34, 50), (-48, 50), (-62, 16)), fill=_mix(metal, shine, 0.6))
    draw.rectangle([*p((-54, 60))[0], *p((54, 48))[0]], fill=shine)
    draw.polygon(p((-42, 60), (42, 60), (58, 110), (46, 168), (-46, 168), (-58, 110)), fill=(255, 190, 98))
    draw.polygon(p((-30, 66), (30, 66), (40, 112), (30, 162), (-30, 162), (-40, 112)), fill=(255, 216, 138))
    draw.polygon(p((-13, 68), (13, 68), (19, 94), (0, 150), (-19, 94)), fill=(255, 250, 226))
    for side in (-1, 1):
        draw.line(p((side * 62, 10), (side * 66, 110), (side * 54, 178)), fill=metal, width=round(6 * k), joint="curve")
    draw.line(p((-58, 110), (58, 110)), fill=_mix(metal, shine, 0.4), width=round(3 * k))
    draw.polygon(p((-54, 168), (54, 168), (44, 184), (26, 210), (-26, 210), (-44, 184)), fill=metal)
    draw.polygon(p((-54, 168), (-30, 168), (-20, 210), (-26, 210), (-44, 184)), fill=_mix(metal, shine, 0.6))
    draw.rectangle([*p((-16, 226))[0], *p((16, 208))[0]], fill=metal)
    glow(image, p((0, 112))[0], 190 * u, (255, 206, 120), 0.9)
    glow(image, (x, foot + 10 * u), 300 * u, (255, 176, 90), 0.55, 0.14)
    # A book and a cup keep it company.
    draw = ImageDraw.Draw(image)
    bx = w * (0.68 if tall else 0.57)
    for i, (tint, long) in enumerate((((44, 82, 96), 150), ((150, 60, 52), 128))):
        y = foot - i * 26 * u
        draw.rectangle((bx, y - 26 * u, bx + long * u, y), fill=tint)
        draw.rectangle((bx + 8 * u, y - 20 * u, bx + long * u, y - 6 * u), fill=(226, 206, 176))
        draw.rectangle((bx, y - 26 * u, bx + 14 * u, y), fill=_mix(tint, (255, 190, 110), 0.35))
    return _shade(image, 0.75)


def night_train(size: Size) -> Image.Image:
    """A lit train on a viaduct under the moon."""
    fine, u = _start(size)
    w, h = fine
    image = _sky(
        fine,
        [(0, (8, 14, 44)), (0.35, (26, 44, 96)), (0.62, (84, 110, 160)), (0.8, (150, 168, 196)), (1, (150, 168, 196))],
    )
    _stars(image, h * 0.5, 9, 280)
    moon = (w * 0.74, h * 0.2)
    glow(image, moon, 420 * u, (170, 190, 240), 0.6)
    draw = ImageDraw.Draw(image)
    draw.ellipse((moon[0] - 58 * u, moon[1] - 58 * u, moon[0] + 58 * u, moon[1] + 58 * u), fill=(246, 244, 228))
    for dx, dy, r in ((-16, -14, 13), (18, 8, 17), (-8, 24, 9), (26, -24, 7)):
        draw.ellipse(
            (moon[0] + (dx - r) * u, moon[1] + (dy - r) * u, moon[0] + (dx + r) * u, moon[1] + (dy + r) * u),
            fill=(228, 226, 214),
        )
    _streaks(image, h * 0.1, h * 0.36, (92, 112, 164), 22, 9, 0.5)
    for base, high, seed, rough, colour in (
        (0.7, 270, 3, 0.58, (94, 116, 166)),
        (0.76, 190, 8, 0.55, (62, 84, 136)),
        (0.84, 120, 15, 0.5, (38, 58, 104)),
    ):
        line = _hills(w, h * base, high * u, seed, rough)
        _land(image, line, colour, h)
        if rough > 0.56:
            # Snow on the far peaks.
            snow = Image.new("L", fine, 0)
            ImageDraw.Draw(snow).polygon(
                [*line, *[(px, py + (26 + 20 * math.sin(px / (24 * u))) * u) for px, py in reversed(line)]], fill=150
            )
            keep = Image.new("L", (1, h))
            for y in range(h):
                keep.putpixel((0, y), 255 if y < h * 0.49 else max(0, round(255 - (y - h * 0.49) / (40 * u) * 255)))
            image.paste((196, 208, 234), (0, 0), ImageChops.multiply(snow, keep.resize(fine)))
        _fog(image, h * (base + 0.03), 52 * u, (168, 184, 214), 0.5)
    # The viaduct: piers and arches, with mist between them.
    deck = h * 0.6
    stone, dark = (34, 42, 76), (24, 30, 60)
    mask = Image.new("L", fine, 0)
    arches = ImageDraw.Draw(mask)
    arches.rectangle((0, deck, w, h), fill=255)
    span = w / 6.4
    for i in range(8):
        a = i * span - span * 0.62
        arches.pieslice((a + 15 * u, deck + 30 * u, a + span - 15 * u, deck + 30 * u + span - 30 * u), 180, 360, fill=0)
        arches.rectangle((a + 15 * u, deck + 30 * u + (span - 30 * u) / 2, a + span - 15 * u, h), fill=0)
    image.paste(stone, (0, 0), mask)
    draw = ImageDraw.Draw(image)
    for i in range(8):
        a = i * span - span * 0.62
        draw.arc(
            (a + 15 * u, deck + 30 * u, a + span - 15 * u, deck + 30 * u + span - 30 * u),
            180,
            360,
            fill=(60, 70, 112),
            width=round(4 * u),
        )
        draw.rectangle((a - 15 * u, deck + 30 * u + (span - 30 * u) / 2, a - 4 * u, h), fill=(52, 62, 102))
    draw.rectangle((0, deck - 6 * u, w, deck + 6 * u), fill=dark)
    draw.rectangle((0, deck - 8 * u, w, deck - 5 * u), fill=(72, 84, 128))
    _fog(image, h * 0.9, 74 * u, (150, 170, 206), 0.7)
    dice = Random(6)
    # The train: an engine with its lamp and four coaches.
    draw = ImageDraw.Draw(image)
    x, tall = w * 0.02, 66 * u
    rail = deck - 16 * u
    for coach in range(5):
        long = w * 0.165
        draw.rounded_rectangle((x, rail - tall, x + long, rail), radius=9 * u, fill=(24, 40, 62))
        draw.rectangle((x + 4 * u, rail - tall, x + long - 4 * u, rail - tall + 7 * u), fill=(46, 64, 94))
        draw.rectangle((x, rail - 20 * u, x + long, rail - 15 * u), fill=(186, 76, 60))
        for i in range(7):
            wx = x + long * (0.07 + i * 0.128)
            lit = dice.random() < 0.88
            draw.rounded_rectangle(
                (wx, rail - 52 * u, wx + long * 0.09, rail - 27 * u),
                radius=3 * u,
                fill=(255, 212, 128) if lit else (44, 58, 86),
            )
            if lit and dice.random() < 0.35:
                cx = wx + long * 0.045
                draw.ellipse((cx - 5 * u, rail - 45 * u, cx + 5 * u, rail - 34 * u), fill=(96, 66, 58))
                draw.rectangle((cx - 7 * u, rail - 34 * u, cx + 7 * u, rail - 27 * u), fill=(96, 66, 58))
        for wheel in (0.14, 0.26, 0.74, 0.86):
            cx = x + long * wheel
            draw.ellipse((cx - 9 * u, deck - 22 * u, cx + 9 * u, deck - 4 * u), fill=(14, 18, 36))
        glow(image, (x + long / 2, rail - 38 * u), long * 0.62, (255, 190, 100), 0.5, 0.5)
        draw = ImageDraw.Draw(image)
        x += long + 6 * u
        if coach < 4:
            draw.rectangle((x - 7 * u, rail - 40 * u, x + 1 * u, rail - 8 * u), fill=(14, 18, 36))
    nose = x - 6 * u
    draw.polygon(
        [
            (nose - 16 * u, rail - tall),
            (nose + 52 * u, rail - tall + 10 * u),
            (nose + 104 * u, rail - 24 * u),
            (nose + 104 * u, rail),
            (nose - 16 * u, rail),
        ],
        fill=(24, 40, 62),
    )
    draw.polygon(
        [
            (nose + 30 * u, rail - 54 * u),
            (nose + 56 * u, rail - 50 * u),
            (nose + 82 * u, rail - 30 * u),
            (nose + 30 * u, rail - 30 * u),
        ],
        fill=(150, 190, 214),
    )
    draw.polygon(
        [
            (nose - 16 * u, rail - 20 * u),
            (nose + 104 * u, rail - 20 * u),
            (nose + 104 * u, rail - 15 * u),
            (nose - 16 * u, rail - 15 * u),
        ],
        fill=(186, 76, 60),
    )
    _beam(image, (nose + 98 * u, rail - 10 * u), 0.05, w * 0.3, 0.13, (255, 236, 180), 0.8)
    glow(image, (nose + 100 * u, rail - 10 * u), 110 * u, (255, 244, 206), 1.0)
    # Firs in front.
    draw = ImageDraw.Draw(image)
    for _ in range(30):
        fx, size_of = dice.random() * w, dice.uniform(60, 150) * u
        if abs(fx / w - 0.5) < 0.2:
            size_of *= 0.55
        _fir(draw, fx, h + 14 * u, size_of, _mix((14, 22, 46), (26, 38, 68), dice.random()))
    return _shade(image, 0.45)


def _fir(draw: ImageDraw.ImageDraw, x: float, foot: float, tall: float, colour: Colour) -> None:
    for i in range(5):
        low, wide = foot - tall * i * 0.17, tall * (0.26 - i * 0.043)
        draw.polygon([(x - wide, low), (x, low - tall * 0.36), (x + wide, low)], fill=colour)


def platform(size: Size) -> Image.Image:
    """A station at night: one traveller under the lamps, and a headlight far down the line."""
    fine, u = _start(size)
    w, h = fine
    far = (w * 0.34, h * 0.5)
    light = (255, 214, 140)
    image = _sky(fine, [(0, (8, 12, 36)), (0.35, (24, 36, 78)), (0.5, (76, 88, 132)), (1, (40, 46, 80))])
    _stars(image, h * 0.4, 17, 160)
    _land(image, _hills(w, h * 0.51, 76 * u, 6, 0.5), (34, 42, 82), h)
    _fog(image, h * 0.5, 30 * u, (140, 150, 190), 0.55)
    draw = ImageDraw.Draw(image)
    # Track bed, sleepers and rails to the vanishing point.
    draw.polygon([far, (-w * 0.55, h), (w * 0.52, h)], fill=(38, 36, 58))
    for i in range(26):
        near = ((i + 1) / 26) ** 2.4
        y = far[1] + near * (h - far[1]) * 1.05
        half = 190 * u * near * 2.1
        cx = far[0] + near * (w * 0.06 - far[0])
        draw.rectangle((cx - half, y - 7 * u * near * 2, cx + half, y + 7 * u * near * 2), fill=(62, 52, 66))
    for side in (-1, 1):
        x = w * 0.06 + side * 255 * u
        draw.polygon([far, (x - 13 * u, h * 1.03), (x + 13 * u, h * 1.03)], fill=(150, 156, 182))
    # The platform on the right, its edge painted.
    draw.polygon([far, (w * 0.5, h), (w, h), (w, h * 0.62), (far[0] + 60 * u, far[1])], fill=(74, 70, 96))
    draw.polygon([far, (w * 0.5, h), (w * 0.535, h)], fill=(232, 214, 160))
    draw.polygon([far, (w * 0.44, h), (w * 0.5, h)], fill=(44, 42, 66))
    for i in range(9):
        near = ((i + 1) / 9) ** 2
        y = far[1] + near * (h - far[1])
        draw.line(
            (far[0] + near * (w * 0.54 - far[0]), y, w, y - 30 * u * (1 - near)),
            fill=(64, 60, 86),
            width=round((1 + near * 3) * u),
        )
    # The station house with its clock, and the canopy on its posts.
    draw.polygon([(w * 0.62, h * 0.2), (w, h * 0.02), (w, h * 0.74), (w * 0.62, h * 0.6)], fill=(86, 58, 66))
    for i in range(4):
        a, b = 0.645 + i * 0.09, 0.645 + i * 0.09 + 0.05
        top, low = h * (0.345 - (a - 0.62) * 0.3), h * (0.545 + (a - 0.62) * 0.3)
        top_b, low_b = h * (0.345 - (b - 0.62) * 0.3), h * (0.545 + (b - 0.62) * 0.3)
        draw.polygon([(w * a, top), (w * b, top_b), (w * b, low_b), (w * a, low)], fill=(255, 206, 122))
        draw.line(
            (w * (a + b) / 2, (top + top_b) / 2, w * (a + b) / 2, (low + low_b) / 2),
            fill=(110, 70, 66),
            width=round(4 * u),
        )
        glow(image, (w * (a + b) / 2, (top + low) / 2), 150 * u, (255, 190, 110), 0.45)
    draw = ImageDraw.Draw(image)
    draw.polygon([(w * 0.44, h * 0.31), (w * 0.5, h * 0.25), (w, -h * 0.04), (w, h * 0.13)], fill=(30, 30, 52))
    draw.polygon([(w * 0.44, h * 0.31), (w, h * 0.13), (w, h * 0.17), (w * 0.44, h * 0.325)], fill=(132, 92, 78))
    for near in (0.06, 0.2, 0.46, 0.86):
        x = w * (0.46 + near * 0.5)
        top, low = h * (0.315 - near * 0.17), h * (0.545 + near * 0.4)
        thick = (3 + near * 11) * u
        draw.rectangle((x - thick / 2, top, x + thick / 2, low), fill=(40, 38, 60))
        draw.rectangle((x - thick, low - thick * 2, x + thick, low), fill=(40, 38, 60))
        lamp = (x - thick * 2.2, top + (14 + near * 34) * u)
        r = (5 + near * 15) * u
        draw.line((x, top + 8 * u * near, lamp[0], lamp[1] - r), fill=(40, 38, 60), width=round(2 + near * 4 * u))
        glow(image, lamp, r * 15, light, 0.55)
        glow(image, (lamp[0], low), r * 12, light, 0.5, 0.22)
        draw = ImageDraw.Draw(image)
        draw.ellipse((lamp[0] - r, lamp[1] - r, lamp[0] + r, lamp[1] + r), fill=(255, 246, 214))
    clock = (w * 0.575, h * 0.365)
    draw.line((clock[0], h * 0.27, clock[0], clock[1]), fill=(30, 30, 52), width=round(5 * u))
    draw.ellipse((clock[0] - 27 * u, clock[1] - 27 * u, clock[0] + 27 * u, clock[1] + 27 * u), fill=(30, 30, 52))
    draw.ellipse((clock[0] - 22 * u, clock[1] - 22 * u, clock[0] + 22 * u, clock[1] + 22 * u), fill=(250, 240, 214))
    draw.line((clock[0], clock[1], clock[0], clock[1] - 17 * u), fill=(30, 30, 52), width=round(3 * u))
    draw.line((clock[0], clock[1], clock[0] - 11 * u, clock[1] + 5 * u), fill=(30, 30, 52), width=round(3 * u))
    # The traveller, with a long shadow, and the case beside.
    x, ground, tall = w * 0.6, h * 0.86, 330 * u
    draw.polygon(
        [(x - 30 * u, ground), (x + 34 * u, ground), (x - 140 * u, ground + 96 * u), (x - 240 * u, ground + 96 * u)],
        fill=(50, 48, 74),
    )
    _person(draw, x, ground, tall, (22, 22, 42), hat=True)
    draw.rounded_rectangle((x + 58 * u, ground - 84 * u, x + 150 * u, ground), radius=8 * u, fill=(110, 62, 48))
    draw.rectangle((x + 76 * u, ground - 84 * u, x + 82 * u, ground), fill=(78, 44, 42))
    draw.rectangle((x + 126 * u, ground - 84 * u, x + 132 * u, ground), fill=(78, 44, 42))
    draw.arc(
        (x + 88 * u, ground - 104 * u, x + 120 * u, ground - 66 * u), 180, 360, fill=(78, 44, 42), width=round(5 * u)
    )
    # The train that is coming.
    glow(image, (far[0] - 4 * u, far[1] - 6 * u), 330 * u, (255, 226, 170), 0.8)
    for dx in (-13, 7):
        glow(image, (far[0] + dx * u, far[1] - 4 * u), 60 * u, (255, 250, 230), 1.0)
    for side in (-1, 1):
        x = w * 0.06 + side * 255 * u
        glow(image, (far[0] + (x - far[0]) * 0.12, far[1] + (h - far[1]) * 0.12), 90 * u, (255, 230, 180), 0.6, 0.5)
    return _shade(image, 0.6)


def compartment(size: Size) -> Image.Image:
    """A night train's window seat: the moonlit land outside, a reading lamp inside."""
    fine, u = _start(size)
    w, h = fine
    pane = (round(w * 0.2), round(h * 0.1), round(w * 0.8), round(h * 0.64))
    out_size = (pane[2] - pane[0], pane[3] - pane[1])
    out = _sky(out_size, [(0, (14, 22, 60)), (0.5, (60, 84, 140)), (0.75, (130, 150, 186)), (1, (130, 150, 186))])
    _stars(out, out_size[1] * 0.45, 2, 90)
    moon = (out_size[0] * 0.3, out_size[1] * 0.26)
    glow(out, moon, 300 * u, (176, 196, 240), 0.6)
    ImageDraw.Draw(out).ellipse(
        (moon[0] - 38 * u, moon[1] - 38 * u, moon[0] + 38 * u, moon[1] + 38 * u), fill=(246, 244, 228)
    )
    for base, high, seed, colour in ((0.74, 150, 4, (78, 98, 150)), (0.84, 90, 9, (50, 68, 116))):
        _land(out, _hills(out_size[0], out_size[1] * base, high * u, seed, 0.52), colour, out_size[1])
        _fog(out, out_size[1] * (base + 0.02), 30 * u, (160, 178, 212), 0.4)
    _water(out, round(out_size[1] * 0.86), (36, 54, 100), 4, 0.25, 1.0)
    _ripples(out, out_size[1] * 0.86, (226, 232, 246), 5, 60, 0.7, x=moon[0], spread=0.7)
    dice = Random(3)
    land = ImageDraw.Draw(out)
    for _ in range(9):
        fx = dice.choice((dice.uniform(0, 0.18), dice.uniform(0.62, 1.0))) * out_size[0]
        _fir(land, fx, out_size[1] + 8 * u, dice.uniform(80, 150) * u, (18, 28, 56))
    image = _sky(fine, [(0, (86, 50, 44)), (0.65, (64, 38, 42)), (1, (40, 26, 36))])
    draw = ImageDraw.Draw(image)
    for i in range(13):
        x = w * i / 13
        draw.line((x, 0, x, h * 0.7), fill=(74, 43, 42), width=round(3 * u))
    draw.rectangle((0, h * 0.045, w, h * 0.06), fill=(150, 104, 62))
    rim = 26 * u
    draw.rounded_rectangle(
        (pane[0] - rim, pane[1] - rim, pane[2] + rim, pane[3] + rim), radius=40 * u, fill=(150, 104, 62)
    )
    draw.rounded_rectangle(
        (pane[0] - rim * 0.55, pane[1] - rim * 0.55, pane[2] + rim * 0.55, pane[3] + rim * 0.55),
        radius=32 * u,
        fill=(94, 60, 46),
    )
    mask = Image.new("L", out_size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, out_size[0] - 1, out_size[1] - 1), radius=26 * u, fill=255)
    image.paste(out, pane[:2], mask)
    sheen = Image.new("L", fine, 0)
    for a, wide in ((0.5, 0.05), (0.57, 0.02)):
        ImageDraw.Draw(sheen).polygon(
            [(w * a, pane[1]), (w * (a + wide), pane[1]), (w * (a + wide - 0.16), pane[3]), (w * (a - 0.16), pane[3])],
            fill=26,
        )
    image.paste((255, 240, 220), (0, 0), sheen)
    draw = ImageDraw.Draw(image)
    for side in (-1, 1):
        # Curtains, then the high-backed seats facing each other.
        edge = pane[0] - 8 * u if side < 0 else pane[2] + 8 * u
        for i in range(4):
            a, b = edge - side * (i * 24 - 30) * u, edge - side * ((i + 1) * 24 - 30) * u
            draw.polygon(
                [
                    (a, pane[1] - 20 * u),
                    (b, pane[1] - 20 * u),
                    (b + side * 12 * u, pane[3] - 20 * u),
                    (a + side * 12 * u, pane[3] - 12 * u),
                ],
                fill=_mix((56, 92, 92), (36, 64, 72), i % 2),
            )
        x = w * 0.5 + side * w * 0.5
        inner = x - side * w * 0.2
        cloth, dark = (132, 44, 48), (92, 30, 42)
        draw.rounded_rectangle(
            (min(x, inner) - (side < 0) * 60 * u, h * 0.3, max(x, inner) + (side > 0) * 60 * u, h * 1.1),
            radius=56 * u,
            fill=dark,
        )
        draw.rounded_rectangle(
            (
                min(x, inner + side * 20 * u) - (side < 0) * 60 * u,
                h * 0.33,
                max(x, inner + side * 20 * u) + (side > 0) * 60 * u,
                h * 0.74,
            ),
            radius=44 * u,
            fill=cloth,
        )
        for row in range(3):
            for column in range(3):
                bx, by = inner + side * (60 + column * 76) * u, h * (0.42 + row * 0.1)
                draw.ellipse((bx - 6 * u, by - 6 * u, bx + 6 * u, by + 6 * u), fill=dark)
        seat = inner - side * w * 0.07
        draw.rounded_rectangle(
            (min(x, seat) - (side < 0) * 60 * u, h * 0.8, max(x, seat) + (side > 0) * 60 * u, h * 1.1),
            radius=34 * u,
            fill=_mix(cloth, (255, 190, 130), 0.1),
        )
    # The table under the window, a cup, a letter, and the lamp.
    draw.polygon(
        [(w * 0.33, h * 0.74), (w * 0.67, h * 0.74), (w * 0.71, h * 0.82), (w * 0.29, h * 0.82)], fill=(150, 98, 62)
    )
    draw.polygon(
        [(w * 0.29, h * 0.82), (w * 0.71, h * 0.82), (w * 0.71, h * 0.845), (w * 0.29, h * 0.845)], fill=(104, 66, 50)
    )
    draw.rectangle((w * 0.49, h * 0.845, w * 0.51, h), fill=(80, 50, 44))
    draw.polygon(
        [(w * 0.46, h * 0.785), (w * 0.54, h * 0.765), (w * 0.57, h * 0.79), (w * 0.485, h * 0.81)],
        fill=(240, 226, 200),
    )
    draw.line((w * 0.482, h * 0.788, w * 0.54, h * 0.776), fill=(150, 130, 120), width=round(2 * u))
    draw.line((w * 0.49, h * 0.796, w * 0.55, h * 0.783), fill=(150, 130, 120), width=round(2 * u))
    cx, cy = w * 0.605, h * 0.79
    draw.ellipse((cx - 46 * u, cy - 9 * u, cx + 46 * u, cy + 9 * u), fill=(206, 196, 186))
    draw.polygon(
        [(cx - 26 * u, cy - 42 * u), (cx + 26 * u, cy - 42 * u), (cx + 18 * u, cy), (cx - 18 * u, cy)],
        fill=(240, 232, 220),
    )
    draw.arc((cx + 14 * u, cy - 38 * u, cx + 42 * u, cy - 10 * u), 270, 90, fill=(240, 232, 220), width=round(6 * u))
    lx, ly = w * 0.385, h * 0.785
    draw.ellipse((lx - 34 * u, ly - 8 * u, lx + 34 * u, ly + 8 * u), fill=(176, 128, 70))
    draw.rectangle((lx - 4 * u, ly - 118 * u, lx + 4 * u, ly), fill=(176, 128, 70))
    glow(image, (lx, ly - 130 * u), 460 * u, (255, 176, 90), 0.75)
    glow(image, (lx, ly + 4 * u), 250 * u, (255, 200, 120), 0.6, 0.2)
    draw = ImageDraw.Draw(image)
    draw.polygon(
        [
            (lx - 26 * u, ly - 178 * u),
            (lx + 26 * u, ly - 178 * u),
            (lx + 58 * u, ly - 108 * u),
            (lx - 58 * u, ly - 108 * u),
        ],
        fill=(255, 214, 138),
    )
    draw.polygon(
        [
            (lx - 16 * u, ly - 174 * u),
            (lx + 16 * u, ly - 174 * u),
            (lx + 34 * u, ly - 112 * u),
            (lx - 34 * u, ly - 112 * u),
        ],
        fill=(255, 240, 200),
    )
    return _shade(image, 0.7)


def png(image: Image.Image, most: int = 300_000) -> bytes:
    """The image as PNG of at most `most` bytes where leaving out its lowest bits gets there: fit for a repository."""
    data = b""
    for low in (0, 1, 3):
        levels = [min(255, (i + (low + 1) // 2) & ~low) for i in range(256)]
        file = BytesIO()
        (image.point(levels * 3) if low else image).save(file, "PNG", optimize=True)
        data = file.getvalue()
        if len(data) <= most:
            break
    return data
