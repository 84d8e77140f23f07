"""Stills as people's programs write them and no provider says that it takes them, each of one colour."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

from PIL import Image, ImageCms

SIZE = 1280, 720


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def png(kind: int, depth: int, row: bytes, size: tuple[int, int] = SIZE, **chunks: bytes) -> bytes:
    """A PNG of equal rows, in a depth that Pillow cannot write. `kind`: 0 grey, 2 RGB, 3 palette, 4 grey and alpha,
    6 RGBA."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    width, height = size
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    more = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    rows = zlib.compress((b"\0" + row) * height, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def deep(kind: int, *pixel: int, size: tuple[int, int] = SIZE, **chunks: bytes) -> bytes:
    """A PNG of 16 bits a channel."""
    return png(kind, 16, struct.pack(f">{len(pixel)}H", *pixel) * size[0], size, **chunks)


def cmyk(cyan: int, magenta: int, yellow: int, black: int, **options: object) -> bytes:
    return saved(Image.new("CMYK", SIZE, (cyan, magenta, yellow, black)), "JPEG", quality=95, **options)


def ycck(cyan: int, magenta: int, yellow: int, black: int) -> bytes:
    """A JPEG as Photoshop writes it: Adobe's inverted inks, the first three as luma and chroma."""
    luma = Image.new("RGB", SIZE, (cyan, magenta, yellow)).convert("YCbCr").split()
    bands = [band.point(lambda value: 255 - value) for band in luma]  # Pillow writes inks inverted
    data = saved(Image.merge("CMYK", (*bands, Image.new("L", SIZE, black))), "JPEG", quality=95)
    at = data.index(b"Adobe\0")
    assert data[at + 11] == 0, "libjpeg's own word for CMYK"
    data = data[: at + 11] + b"\2" + data[at + 12 :]
    whole = bytearray(data[: at + 11] + b"\2" + data[at + 12 :])
    for marker, first, step in ((b"\xff\xc0", 10, 3), (b"\xff\xda", 5, 2)):
        names = slice(whole.index(marker) + first, whole.index(marker) + first + 4 * step, step)
        assert whole[names] == b"CMYK"
        whole[names] = b"\1\2\3\4"
    return bytes(whole)


def wide(mode: str = "RGB") -> bytes:
    """A colour profile with the primaries of Display P3, or a grey one that prints darker than a screen shows."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    count = struct.unpack(">I", data[128:132])[0]
    tags = {}
    for n in range(count):
        name, at, size = struct.unpack(">4sII", data[132 + 12 * n : 144 + 12 * n])
        tags[name] = data[at : at + size]
    if mode == "RGB":
        primaries = {b"rXYZ": (33759, 15807, -69), b"gXYZ": (19135, 45367, 2745), b"bXYZ": (10296, 4363, 51385)}
        tags |= {name: b"XYZ \0\0\0\0" + struct.pack(">3i", *xyz) for name, xyz in primaries.items()}
        called, space = "Display P3", b"RGB "
    else:
        tags = {name: tags[name] for name in (b"cprt", b"wtpt")}
        tags[b"kTRC"] = b"curv\0\0\0\0" + struct.pack(">IH", 1, 3 * 256)
        called, space = "Dot Gain 40%", b"GRAY"
    text = called.encode("utf-16-be")
    tags[b"desc"] = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    whole = data[:16] + space + data[20:128] + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]
