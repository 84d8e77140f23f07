"""Pictures as an eye would see them: whatever a still's mode, depth, profile or EXIF says, eight bits of sRGB, upright.

An image that is passed here was opened by Pillow and is not loaded yet: only then is its file's depth known.
"""

from __future__ import annotations

import hashlib
import itertools
from io import BytesIO
from typing import TYPE_CHECKING

from klingflow.core.model import Digest, ImageFacts
from klingflow.core.source import visible

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112
"""The EXIF tag."""
SEEN_LEVELS = 8
"""Of 255: by how much a colour profile must change some colour to be told. A grey of gamma 2.2 is off by 6."""


def facts(image: Image.Image, data: bytes) -> ImageFacts:
    """What is known of a still by its bytes. Decodes it; raises what Pillow raises for a damaged one."""
    deep = _depth(image) > 8
    # A camera's JPEG may carry a small second picture (MPO): the first is the still.
    form = "JPEG" if image.format == "MPO" else str(image.format)
    _mend_clear_colour(image)
    image.load()
    alpha = _alpha(image)
    orientation = image.getexif().get(ORIENTATION, 1)
    width, height = image.size
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    return ImageFacts(
        digest=Digest(hashlib.sha256(data).hexdigest()),
        format=form,
        width=width,
        height=height,
        bytes=len(data),
        turned=orientation in range(2, 9),
        cmyk=image.mode == "CMYK",
        deep=deep,
        transparent=alpha is not None and alpha.getextrema() != (255, 255),
        profile=_odd_profile(image),
    )


def as_seen(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where the file has transparency. Blocks while the picture is decoded; raises what Pillow raises for
    a damaged one. The image may have been through `facts`."""
    from PIL import ImageOps  # costs 20 ms, and few commands look into a picture

    _mend_clear_colour(image)
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    alpha = _alpha(image)
    if _is_deep_grey(image):
        image = _eight_bits(image)
    elif image.mode in ("1", "LA"):
        image = image.convert("L")
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGBA").convert("RGB")
    seen = _to_srgb(image, profile)
    if alpha is not None:
        seen.putalpha(alpha)
    return seen


def on_black(seen: Image.Image) -> Image.Image:
    """What `as_seen` gave, as RGB: black where it is transparent."""
    from PIL import Image

    if seen.mode == "RGB":
        return seen
    return Image.alpha_composite(Image.new("RGBA", seen.size, (0, 0, 0, 255)), seen).convert("RGB")


def _is_deep_grey(image: Image.Image) -> bool:
    """16 bits of grey; of colours Pillow keeps eight."""
    return image.mode.startswith("I;16")


def _eight_bits(grey: Image.Image) -> Image.Image:
    """16 bits of grey as 8; Pillow's `convert` would cut off what is above 255."""
    return grey.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")


def _depth(image: Image.Image) -> int:
    """Bits a channel in a PNG; 8 where they are not known, or in another format."""
    tiles = getattr(image, "tile", None)
    if image.format != "PNG" or not tiles:
        return 8
    bits = str(tiles[0][3]).partition(";")[2].rstrip("B")  # of "L;2", "RGB;16B"
    return int(bits) if bits.isdecimal() else 8


def _mend_clear_colour(image: Image.Image) -> None:
    """A PNG names the colour that is transparent in its own depth, and Pillow compares it with pixels of eight bits.

    Of 16 bits the colours that differ in the lower eight alone are one.
    """
    clear, depth = image.info.get("transparency"), _depth(image)
    if image.mode == "1" and isinstance(clear, int):
        image.info["transparency"] = 255 if clear else 0  # as newer versions of Pillow name it
    elif image.mode == "L" and depth < 8 and isinstance(clear, int):
        image.info["transparency"] = clear * 255 // (2**depth - 1)
    elif image.mode == "RGB" and depth == 16 and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def _alpha(image: Image.Image) -> Image.Image | None:
    """How opaque each pixel is; None where the file has no transparency."""
    from PIL import Image

    if not _is_deep_grey(image):
        return image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return None
    values = memoryview(image.convert("I").tobytes()).cast("i")
    return Image.frombytes("L", image.size, bytes(255 * (value != clear) for value in values))


_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""The mode that each kind of colour profile is for."""


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image in RGB, L or CMYK as RGB on a usual screen: by its own colour profile, where it has one that fits."""
    if profile and not is_srgb(profile):
        from PIL import ImageCms

        try:
            own = ImageCms.ImageCmsProfile(BytesIO(profile))
            mode = _SPACES.get(own.profile.xcolor_space)
            if mode == image.mode or (mode, image.mode) == ("RGB", "L"):
                screen = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(image.convert(mode), own, screen, outputMode="RGB")
                if converted is not None:
                    return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a profile that cannot be read is no profile
    return image.convert("RGB")


def _odd_profile(image: Image.Image) -> str:
    """The name of an image's colour profile, where an eye sees what that changes; empty for CMYK, which has no colours
    without one."""
    from PIL import Image, ImageCms

    profile = image.info.get("icc_profile")
    if not profile or image.mode == "CMYK":
        return ""
    if image.mode in ("1", "L", "LA") or _is_deep_grey(image):
        chart = Image.frombytes("L", (256, 1), bytes(range(256)))
    else:
        colours = itertools.product(range(0, 256, 51), repeat=3)
        chart = Image.frombytes("RGB", (216, 1), bytes(itertools.chain.from_iterable(colours)))
    shown, plain = _to_srgb(chart, profile).tobytes(), chart.convert("RGB").tobytes()
    if all(abs(one - other) <= SEEN_LEVELS for one, other in zip(shown, plain, strict=True)):
        return ""
    name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(profile)))
    return visible(" ".join(name.split())[:60]) or "without a name"


def is_srgb(profile: bytes) -> bool:
    """Whether a colour profile is that of a usual screen, by its name."""
    from PIL import ImageCms

    try:
        own = ImageCms.ImageCmsProfile(BytesIO(profile))
        return "srgb" in ImageCms.getProfileDescription(own).lower()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
