"""The digest of what a file of one's own shows, whatever its bytes: a still or clip that was tagged, packed or named
anew has the same one.

It covers what is seen and could reach a provider: every pixel as decoded, depth and colour, turning, and when each
frame of a clip begins. Sound is not in it: no sound of a clip of one's own goes into a clip that is bought. Where two
versions of a decoder differ by a bit the digests differ, and the file counts as changed.
"""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

from klingflow.core.digest import canonical
from klingflow.core.model import Digest
from klingflow.io import pictures

_RGBA_IS_EXACT = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
"""Modes of eight bits a channel at most, which one file may have for another's without a pixel being different."""


def of_still(data: bytes) -> Digest:
    """Of the bytes of a PNG, JPEG or WEBP. Raises what Pillow raises for a damaged one."""
    from PIL import Image  # costs 20 ms; few commands look into a picture

    with Image.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
        image.load()
        profile = image.info.get("icc_profile")
        facts: dict[str, object] = {"picture": 1, "size": list(image.size), "turn": image.getexif().get(0x0112, 1)}
        if profile and not pictures.is_srgb(profile):
            facts["profile"] = hashlib.sha256(profile).hexdigest()
        if "gamma" in image.info and "srgb" not in image.info:
            facts["gamma"] = str(image.info["gamma"])
        exact = image.mode in _RGBA_IS_EXACT
        if not exact and "transparency" in image.info:
            facts["transparency"] = str(image.info["transparency"])
        facts["mode"] = "RGBA" if exact else image.mode
        pixels = (image.convert("RGBA") if exact else image).tobytes()
    return Digest(hashlib.sha256(canonical(facts) + pixels).hexdigest())


def of_clip(path: Path) -> Digest:
    """Of a video file. Decodes all of it. Raises MediaError."""
    from av.codec.context import CodecContext  # the media library, loaded only when a clip is really looked at
    from av.video.codeccontext import VideoCodecContext

    from klingflow.io import media

    line = media.timeline(path)
    at = [(begin - line.begins[0]) * line.base for begin in line.begins]
    begins = [] if line.is_steady(line.rate) else [str(time) for time in at]
    pixels = hashlib.sha256()
    packer: VideoCodecContext | None = None
    for frame, video in media.frames(path):
        shape = (frame.width, frame.height, frame.format.name)
        if packer is None or shape != (packer.width, packer.height, packer.pix_fmt):
            matrix, full = media.colour(frame)
            turn = media.turned(frame)
            facts: dict[str, object] = {
                "clip": 1,
                "rate": str(line.rate),
                "begins": begins,
                "format": frame.format.name,
                "size": [frame.width, frame.height],
                "shape": str(media.pixel_shape(video)),
                "turn": None if turn is None else turn.name,
                "matrix": matrix,
                "full": full,
                "siting": media.siting(frame, video),
                "primaries": int(video.codec_context.color_primaries),
                "transfer": int(video.codec_context.color_trc),
            }
            pixels.update(canonical(facts))
            packer = CodecContext.create("rawvideo", "w")
            assert isinstance(packer, VideoCodecContext)
            packer.width, packer.height, packer.pix_fmt = shape
            packer.time_base = line.base
        for packet in packer.encode(frame):
            pixels.update(packet)
    return Digest(pixels.hexdigest())
