"""Pictures as an eye would see them: whatever a still's mode, depth, profile or EXIF says, eight bits of sRGB, upright.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def as_seen(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where parts of it are transparent. Blocks while the picture is decoded; raises what Pillow raises
    for a damaged one."""
    from PIL import ImageOps  # costs 20 ms, and few commands look into a picture

    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if is_deep_grey(image):
        alpha = _hidden(image)
        image = eight_bits(image)
    else:
        alpha = None
        if image.has_transparency_data:
            image = image.convert("RGBA")
            alpha = image.getchannel("A")
        if image.mode not in ("RGB", "L", "CMYK"):
            image = image.convert("RGB")
    seen = to_srgb(image, profile)
    if alpha is not None:
        seen.putalpha(alpha)
    return seen


def is_deep_grey(image: Image.Image) -> bool:
    return image.mode == "I" or image.mode.startswith("I;16")


def eight_bits(grey: Image.Image) -> Image.Image:
    """16 bits of grey as 8; Pillow's `convert` would cut off what is above 255."""
    return grey.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")


def _hidden(grey: Image.Image) -> Image.Image | None:
    """Where a grey of 16 bits that a PNG declares transparent is not: 255; None where it declares none."""
    from PIL import Image

    clear = grey.info.get("transparency")
    if not isinstance(clear, int):
        return None
    values = memoryview(grey.convert("I").tobytes()).cast("i")
    return Image.frombytes("L", grey.size, bytes(255 * (value != clear) for value in values))


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image in RGB, L or CMYK as RGB on a usual screen: by its own colour profile, where it has one."""
    if profile:
        from PIL import ImageCms

        try:
            if image.mode == "CMYK" or not is_srgb(profile):
                own = ImageCms.ImageCmsProfile(BytesIO(profile))
                screen = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(image, own, screen, outputMode="RGB")
                if converted is not None:
                    return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a profile that cannot be read, or is another mode's, is no profile
    return image.convert("RGB")


def is_srgb(profile: bytes) -> bool:
    """Whether a colour profile is that of a usual screen, by its name."""
    from PIL import ImageCms

    try:
        own = ImageCms.ImageCmsProfile(BytesIO(profile))
        return "srgb" in ImageCms.getProfileDescription(own).lower()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
