"""The page of `klingflow takes --open`: a shot's takes side by side, and the choice of one.

    GET  /                     the page
    GET  /api/state            every choice, as JSON; with ?known=VERSION only VERSION where it is the same still
    GET  /media/SHA256         a candidate: a clip, or a still
    POST /api/consider         {name, take}: what would become stale, and what that costs
    POST /api/choose           {name, take, why, state}: the choice, as `takes --set` makes it

What is chosen for is a shot ("dawn") or a frame of it ("dawn.first_frame").

Everything is read from the disk at each request, so the page shows what a run that goes on has kept by now, and what
was changed elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from klingflow import (
    Candidate,
    Choice,
    Consequences,
    Effect,
    KlingflowError,
    StillCandidate,
    Storyboard,
    StoryboardError,
    UsageError,
    money,
)
from klingflow.core.redact import redact
from klingflow.output import page
from klingflow.web.server import Answer, File, Request, Serving, plain, serve

_MEDIA = re.compile(r"/media/([0-9a-f]{64})")


@asynccontextmanager
async def serving(storyboard: Storyboard, port: int = 0) -> AsyncIterator[Serving]:
    """Serves the page until the block is left. Raises KlingflowError for a storyboard that is broken at the start, and
    where the port cannot be had."""
    takes = _Takes(storyboard)
    await asyncio.to_thread(takes.choices)
    async with serve(takes.answer, port) as found:
        yield found


@dataclass(slots=True)
class _Takes:
    storyboard: Storyboard
    kinds: dict[str, str] = field(default_factory=dict)
    """What each candidate so far is, by digest: what may be asked for."""
    files: dict[str, Path] = field(default_factory=dict)
    """Where the clips are that were served."""
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def answer(self, request: Request) -> Answer | File:
        post = request.method == "POST"
        match request.path:
            case "/" if not post:
                return await self._page()
            case "/api/state" if not post:
                return await self._told(lambda: self._state(request.query))
            case "/api/consider" if post:
                return await self._told(lambda: self._consider(request.body))
            case "/api/choose" if post:
                return await self._told(lambda: self._choose(request.body))
        media = _MEDIA.fullmatch(request.path)
        return await self._media(media[1]) if media and not post else plain(404)

    async def _page(self) -> Answer:
        html = page.render("takes", title=f"Takes of {self.storyboard.relative()}", connect=True)
        headers = {"content-security-policy": "frame-ancestors 'none'"}
        return Answer(200, "text/html; charset=utf-8", html.encode(), headers)

    async def _told(self, work: Callable[[], object]) -> Answer:
        """What the work returns, as JSON; what is wrong, as what and mend (a browser would call each status but 200 an
        error of the page)."""
        try:
            async with self.one_at_a_time:
                found = await asyncio.to_thread(work)
        except KlingflowError as bad:
            found = _wrong(bad)
        return Answer(200, "application/json", redact(json.dumps(found, ensure_ascii=False)).encode())

    def choices(self) -> tuple[Choice, ...]:
        found = self.storyboard.choices()
        self.kinds.update({one.clip: _kind(one) for choice in found for one in choice.candidates})
        return found

    def _state(self, query: str) -> object:
        choices = [_choice(choice) for choice in self.choices()]
        version = hashlib.sha256(json.dumps(choices).encode()).hexdigest()
        if query == f"known={version}":
            return {"version": version}
        return {"version": version, "storyboard": self.storyboard.relative(), "choices": choices}

    def _consider(self, body: bytes) -> object:
        name, take, _ = _wanted(body)
        return _consequences(self.storyboard.consider(name, take))

    def _choose(self, body: bytes) -> object:
        name, take, more = _wanted(body)
        chosen = self.storyboard.choose(name, take, why=_text(more, "why"), state=_text(more, "state"))
        found = _consequences(chosen.consequences)
        return {**found, "by": chosen.by, "file": chosen.file, "edited": chosen.edited}

    async def _media(self, clip: str) -> Answer | File:
        """Only what is or was a candidate is served, by its digest. A clip in the store never changes; a still may."""
        if clip not in self.kinds:
            return plain(404)
        path = self.files.get(clip)
        if path is None:
            try:
                path = await asyncio.to_thread(self.storyboard.candidate_file, clip)
            except KlingflowError:
                return plain(404)
        if self.kinds[clip] == VIDEO:
            self.files[clip] = path
        return File(path, self.kinds[clip])


VIDEO = "video/mp4"


def _kind(one: Candidate | StillCandidate) -> str:
    return VIDEO if isinstance(one, Candidate) else f"image/{one.facts.format.lower()}"


def _wanted(body: bytes) -> tuple[str, int, dict[str, object]]:
    """What is chosen for, the take, and the rest of what a request asks for. Raises UsageError."""
    try:
        data = json.loads(body)
        name, take = data["name"], data["take"]
    except (ValueError, LookupError, TypeError, RecursionError):
        name = take = data = None
    if not isinstance(name, str) or not isinstance(take, int) or isinstance(take, bool):
        raise UsageError("that is no choice", "send a name and a take")
    return name, take, data


def _text(data: dict[str, object], name: str) -> str:
    value = data.get(name, "")
    if not isinstance(value, str):
        raise UsageError(f"{name} is no text", "send text")
    return value


def _wrong(bad: KlingflowError) -> object:
    problems = bad.problems if isinstance(bad, StoryboardError) else ()
    what = "\n".join(f"{problem.span}: {problem.what}" if problem.span else problem.what for problem in problems[:5])
    return {"what": what or bad.what, "mend": bad.mend}


def _choice(choice: Choice) -> dict[str, object]:
    return {
        "film": choice.film,
        "variant": choice.variant,
        "name": choice.name,
        "frame": choice.frame,
        "gate": choice.gate,
        "title": choice.title,
        "prompt": choice.prompt,
        "take": choice.take,
        "picked": choice.picked,
        "pick": None
        if choice.pick is None
        else {"take": choice.pick.take, "by": choice.pick.by, "why": choice.pick.why, "date": choice.pick.date},
        "candidates": [_candidate(one) for one in choice.candidates],
        "unmade": [{"take": one.take, "under_way": one.under_way, "reason": one.reason} for one in choice.unmade],
    }


def _candidate(one: Candidate | StillCandidate) -> dict[str, object]:
    facts = one.facts
    shown = {"take": one.take, "clip": one.clip, "width": facts.width, "height": facts.height}
    size = f"{facts.width} × {facts.height}"
    if isinstance(one, StillCandidate):
        return {**shown, "here": True, "stale": False, "facts": [one.path, size, one.facts.format]}
    return {
        **shown,
        "here": one.here,
        "stale": one.stale,
        "rate": float(Fraction(one.facts.rate)),
        "frames": one.facts.frames,
        "facts": [
            f"{one.facts.duration} s",
            size,
            f"{one.provider}, {one.date}",
            _price(one.cost, one.basis, unknown="price unknown"),
            *(["taken in by hand: " + one.taken_in] if one.taken_in else []),
        ],
    }


def _consequences(found: Consequences) -> dict[str, object]:
    return {
        "name": found.name,
        "take": found.take,
        "was": found.was,
        "stale": [_effect(effect) for effect in found.stale],
        "spared": [_effect(effect) for effect in found.spared],
        "spend": _price(found.spend, unknown="price unknown"),
        "run": _price(found.run) if found.run != 0 else "nothing",
        "state": found.state,
    }


def _effect(effect: Effect) -> dict[str, object]:
    take = f" take {effect.take}" if effect.take > 1 else ""
    variant = f" [{effect.variant}]" if effect.variant else ""
    return {
        "name": f"{effect.shot}{take}{variant}",
        "reason": effect.reason,
        "price": _price(effect.price, effect.basis) + (", later" if effect.waits and effect.price != 0 else ""),
    }


def _price(amount: Decimal | None, basis: str = "", *, unknown: str = "at a price that is not known") -> str:
    if amount is None:
        return unknown
    return (money(amount) if amount else "free") + (f" ({basis})" if amount and basis else "")
