"""Kling 3.0 Omni, whoever sells it: its neutral name, and the shots that no seller can make.

HiAPI, MuleRouter and fal.ai resell this one model, and Kling sells it itself, under four names. A key holds the neutral
one, so that a clip bought from one satisfies the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal

from klingflow.core.model import Film, Shot
from klingflow.core.source import Problem, Severity
from klingflow.providers.base import Caps

MODEL = "kling-3.0-omni"
ALIASES = {MODEL: MODEL, "kling-v3-omni": MODEL, "kling-o3": MODEL}
"""Names that a storyboard may use. "kling-v3-omni" is MuleRouter's and the legacy Kling API's, "O3" is fal.ai's (read
2026-11). A turbo (kling-3.0-turbo), kling-3.0 without "omni" and 4.0 are other models, which no seller here has."""

SEGMENTS = 6
"""Shots of one multi_shot; MuleRouter docs, image-to-video, and Kling docs, Omni-Video, read 2026-11."""
SEGMENT_CHARS = 512
"""Characters of the prompt of one of them; Kling docs, Omni-Video, and MuleRouter's client, read 2026-11."""
ELEMENT_IMAGES = 3
"""Reference images of one element; MuleRouter docs, model page, and fal.ai's client, read 2026-11."""
ELEMENTS_WITH_FRAMES = 3
"""Kling docs, video omni, and MuleRouter docs, image-to-video, read 2026-11."""
IMAGES_IN_ALL = 7
"""Elements, images and frames together; MuleRouter's client, and for the first two Kling docs, read 2026-11."""

RATIOS = ("16:9", "9:16", "1:1")
"""MuleRouter docs, image-to-video, read 2026-11. HiAPI's text-to-video page names the first two, its own tools for this
model (2026-08-20) and Kling's own API all three."""


LIST_PRICE: Mapping[str, tuple[Decimal, Decimal]] = {
    "720p": (Decimal("0.084"), Decimal("0.112")),
    "1080p": (Decimal("0.112"), Decimal("0.14")),
    "4K": (Decimal("0.42"), Decimal("0.42")),
}
"""Dollars a second, (silent, with sound), by resolution: Kling's own list price for 3.0 Omni without video input
(Kling docs, pricing, read 2026-11). A seller whose own prices are not public takes it for an estimate."""
PRICES_FROM = "Kling's list price, read 2026-11"


def model(shot: Shot) -> str:
    return MODEL if shot.model is None else ALIASES.get(shot.model, shot.model)


def compact(body: dict[str, object]) -> bytes:
    """A request body: the same bytes for the same values, always."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def problem(
    film: Film, shot: Shot, field: str, what: str, mend: str, *, rule: str = "provider", warning: bool = False
) -> Problem:
    return Problem(
        rule=rule,
        what=f"shot '{shot.id}': {what}",
        span=film.where(shot.id, field),
        mend=mend,
        severity=Severity.WARNING if warning else Severity.ERROR,
    )


def faults(film: Film, shot: Shot, caps: Caps, seller: str) -> Iterator[Problem]:
    """What is wrong whichever way the shot is made."""
    if shot.model is not None and shot.model not in ALIASES:
        yield problem(
            film,
            shot,
            "model",
            f"{seller} sells no model '{shot.model}' that klingflow knows",
            f"write {MODEL}, or leave the field out; image- or text-to-video follows from the shot's frames",
            rule="unknown-model",
        )
    least, most = caps.seconds
    if not least <= shot.duration <= most:
        yield problem(
            film,
            shot,
            "duration",
            f"a clip lasts {least} to {most} seconds, not {shot.duration}",
            f"choose a duration from {least} to {most}",
            rule="duration",
        )
    if shot.resolution not in caps.resolutions:
        sold = ", ".join(caps.resolutions)
        other = " (hiapi, fal and kling make 4K)" if shot.resolution == "4K" else ""
        yield problem(
            film,
            shot,
            "resolution",
            f"{seller} makes {sold}, not {shot.resolution}",
            f"choose one of {sold}, or another provider{other}",
            rule="resolution",
        )
    if shot.aspect_ratio is not None and shot.aspect_ratio not in RATIOS:
        yield problem(
            film,
            shot,
            "aspect_ratio",
            f"the model makes {', '.join(RATIOS)}, not {shot.aspect_ratio}",
            f"choose one of {', '.join(RATIOS)}",
            rule="aspect-ratio",
        )
    if shot.last_frame is not None and shot.first_frame is None:
        yield problem(
            film,
            shot,
            "last_frame",
            "a last frame needs a first frame",
            "give it a first_frame (or continues, or meets), or drop last_frame",
            rule="last-without-first",
        )
    customize = shot.multi_shot is not None and shot.multi_shot.by == "customize"
    if shot.first_frame is None and not shot.prompt.strip() and not customize:
        yield problem(
            film,
            shot,
            "prompt",
            "a shot without a first frame is made from its prompt, and it has none",
            "write a prompt, or give it a first_frame",
            rule="no-prompt",
        )
    if len(shot.prompt) > caps.prompt_chars:
        yield too_long(film, shot, "prompt", "the prompt", len(shot.prompt), caps.prompt_chars, seller)


def multi_shot_faults(film: Film, shot: Shot, seller: str) -> Iterator[Problem]:
    """What is wrong with a multi_shot, for every seller that takes it."""
    multi = shot.multi_shot
    if multi is None:
        return

    def wrong(what: str, mend: str, *, warning: bool = False) -> Problem:
        return problem(film, shot, "multi_shot", what, mend, rule="multi-shot", warning=warning)

    if multi.by == "intelligence" and not shot.prompt.strip():
        yield wrong("multi_shot by intelligence cuts the prompt up, and there is none", "write a prompt")
    if multi.by == "customize":
        if not 1 <= len(multi.shots) <= SEGMENTS:
            yield wrong(f"multi_shot has {len(multi.shots)} shots", f"give it 1 to {SEGMENTS}")
        for number, (prompt, seconds) in enumerate(multi.shots, 1):
            if not prompt.strip():
                yield wrong(f"shot {number} of multi_shot has no prompt", "write one")
            if len(prompt) > SEGMENT_CHARS:
                what = f"prompt {number} of multi_shot"
                yield too_long(film, shot, "multi_shot", what, len(prompt), SEGMENT_CHARS, seller)
            if seconds < 1:
                yield wrong(f"shot {number} of multi_shot lasts {seconds} seconds", "give it at least 1")
        if shot.prompt.strip():
            yield wrong(
                "with multi_shot by customize the model follows the prompts of its shots; the shot's own may count for "
                "nothing",
                "move what matters into the prompts of multi_shot",
                warning=True,
            )


def prompt_faults(film: Film, shot: Shot, seller: str) -> Iterator[Problem]:
    """For sellers that make nothing without a prompt, also where there is a first frame."""
    if shot.first_frame is not None and shot.multi_shot is None and not shot.prompt.strip():
        what = f"{seller} makes no clip without a prompt, also from a first frame"
        yield problem(film, shot, "prompt", what, "write a prompt, or use provider: hiapi", rule="no-prompt")


def lacking(film: Film, shot: Shot, field: str, what: str, mend: str) -> Problem:
    """That a seller has no such field, or not for such a shot."""
    return problem(film, shot, field, what, mend, rule="not-offered")


def image_faults(film: Film, shot: Shot, seller: str, *, needs_reference: bool = False) -> Iterator[Problem]:
    """Too many elements, images and frames. `needs_reference`: an element without a reference image is refused."""
    framed = shot.first_frame is not None
    if framed and len(shot.elements) > ELEMENTS_WITH_FRAMES:
        yield problem(
            film,
            shot,
            "elements",
            f"{len(shot.elements)} elements; with a first or last frame {seller} takes {ELEMENTS_WITH_FRAMES}",
            f"keep {ELEMENTS_WITH_FRAMES}",
            rule="too-many-images",
        )
    for number, element in enumerate(shot.elements, 1):
        has = len(element.reference_images)
        if has > ELEMENT_IMAGES or has == 0:
            yield problem(
                film,
                shot,
                "elements",
                f"element {number} has {has} reference images; {seller} names 1 to {ELEMENT_IMAGES}",
                "add one" if has == 0 else f"keep {ELEMENT_IMAGES}",
                rule="element-images",
                warning=has == 0 and not needs_reference,
            )
    total = len(shot.elements) + len(shot.images) + framed + (shot.last_frame is not None)
    if total > IMAGES_IN_ALL:
        yield problem(
            film,
            shot,
            "images" if shot.images else "elements",
            f"{total} frames, images and elements together; {seller} takes {IMAGES_IN_ALL}",
            f"drop {total - IMAGES_IN_ALL}",
            rule="too-many-images",
        )


def too_long(film: Film, shot: Shot, field: str, what: str, has: int, most: int, seller: str) -> Problem:
    return problem(
        film,
        shot,
        field,
        f"{what} is {has} characters as rendered; {seller} takes {most}",
        f"shorten it by {has - most}",
        rule="prompt-too-long",
    )
