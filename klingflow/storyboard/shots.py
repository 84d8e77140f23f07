"""The shots of one film: each merged over the defaults, its templates rendered, its references to other shots resolved.

What a shot's fields exclude and require of each other is checked here. Knows no provider's limits; circles of shots are
planning's to find.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from klingflow.core.alike import difference, same
from klingflow.core.errors import KlingflowError
from klingflow.core.model import MultiShot, Shot, ShotFrame, ShotVideo
from klingflow.core.source import Path, Problem, Severity
from klingflow.storyboard import mentions, variables
from klingflow.storyboard.frames import Frames, StillOf, Stills
from klingflow.storyboard.recovery import EMPTY
from klingflow.storyboard.storyboard_file import Data, Skip, StoryboardFile, each

RESOLUTIONS = ("720p", "1080p", "4K")
ASPECT_RATIOS = ("16:9", "9:16", "1:1")

_ONE_FIRST = ("first_frame", "continues", "meets")
_NOT_WITH_CLIP = (
    "prompt",
    "prompt_file",
    "negative_prompt",
    "first_frame",
    "last_frame",
    "continues",
    "meets",
    "images",
    "elements",
    "videos",
    "multi_shot",
    "duration",
    "resolution",
    "sound",
    "aspect_ratio",
    "model",
    "provider",
    "take",
    "takes",
    "gate",
)
_TEXTS = frozenset(["title", "notes", "prompt", "negative_prompt", "model"])
_CHOICES: Mapping[str, Sequence[str]] = {
    "resolution": RESOLUTIONS,
    "aspect_ratio": ASPECT_RATIOS,
}
_NUMBERS = frozenset(["duration", "take", "takes"])
_FLAGS = frozenset(["sound", "hold", "gate"])
"""Fields that are taken as they stand."""
_MARKUP = re.compile(
    r"</?(?:a|b|br|code|div|em|font|h[1-6]|i|img|li|ol|p|pre|small|span|strong|sub|sup|u|ul)(?: [^<>]*)?/?>"
    r"|&(?:amp|lt|gt|quot|apos|nbsp|#[0-9]+);",
    re.IGNORECASE,
)
"""What is copied into a prompt from a web page or an editor that writes HTML."""
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_TAG = re.compile(r"[^\s,:+@]{1,64}")
_BLANK = " \t\r\n"
_LATER = {"prompt_file": "prompt", "continues": "first_frame", "meets": "first_frame"}
"""Fields that are another one of the later Shot."""
_SUBJECT = ("prompt", "first_frame", "last_frame", "images", "elements")


@dataclass(slots=True)
class Draft:
    """A shot that is being read: the fields of the later Shot, frames perhaps still StillOf."""

    id: str
    fields: dict[str, Any]
    skipped: dict[str, str]
    """The fields that were left out because of a fault, each with what it is, where that is not plain."""


class ShotReader:
    """The shots of one film: reads each, then resolves their references to each other."""

    def __init__(
        self,
        file: StoryboardFile,
        raws: Sequence[Data],
        defaults: Data,
        cast: Mapping[str, Data],
        provider: str | None,
        providers: Collection[str],
    ) -> None:
        self.file = file
        self.raws = raws
        self.defaults = {name: value for name, value in defaults.items() if name not in ("vars", "max_chain")}
        self.common_vars = defaults.get("vars") or {}
        self.provider = provider
        self.providers = providers
        self.ids: dict[str, int] = {}
        self.unsure: set[str] = set()
        """Ids that are no ids, or those of two shots: who refers to one may mean another."""
        self.tags: dict[str, None] = {}
        """The tags so far."""
        for index, raw in enumerate(raws):
            name = raw["id"]
            if name in self.ids:
                first, here = (file.document.span(("shots", i, "id")) for i in (self.ids[name], index))
                where = f"on line {first.line}" if first.path == here.path else f"in {first.path}, line {first.line}"
                what = f"'{name}' names two shots; the first is {where}"
                file.fault("duplicate-id", what, "give this one another id", ("shots", index, "id"))
                self.unsure.add(name)
            if name.startswith("#"):
                self.unsure.add(name)
            self.ids.setdefault(name, index)
        self.frames = Frames(file, raws, self.defaults, self.ids, self.unsure, cast)

    def at(self, index: int, field: str) -> Path:
        return ("shots", index, field) if field in self.raws[index] else ("defaults", field)

    # Reading one shot

    def draft(self, index: int, raw: Data, context: dict[str, object]) -> Draft:
        name = raw["id"]
        draft = Draft(name, {"id": name, "index": index}, {})
        merged = self.merged(index, raw)
        info: dict[str, object] = {
            "id": name,
            "index": index + 1,
            "duration": int(merged.get("duration") or 5),
            "resolution": merged.get("resolution") or "1080p",
            "tags": merged.get("tags") or (),
        }
        context["shot"] = info
        names = [one if isinstance(one, str) else "" for one in merged.get("elements") or ()]
        context["element"] = {name: mentions.spelled("element", n) for n, name in enumerate(names, 1) if name}
        if "vars" in raw or self.common_vars:
            context = self.own_vars(index, raw, context)
        for field in ("resolution", "tags"):  # first: other templates may print them
            if merged.get(field) is not None:
                self.field(draft, field, merged[field], context)
                info[field] = draft.fields.get(field, info[field])
        for field, value in merged.items():
            if value is None:
                draft.skipped[_LATER.get(field, field)] = ""
            elif field not in ("id", "vars", "resolution", "tags"):
                self.field(draft, field, value, context)
        if draft.fields.get("motion_s") is not None:
            end = ShotVideo(draft.fields["first_frame"].shot, draft.fields["motion_s"])
            draft.fields["videos"] = (*draft.fields.get("videos", ()), end)
        if self.provider is not None:
            draft.fields["provider"] = self.provider
        self.check(draft, raw, merged)
        return draft

    def merged(self, index: int, raw: Data) -> Data:
        """The shot over the defaults; where it gives the same thing by another field, the default is dropped."""
        if not self.defaults:
            out = dict(raw)
        else:
            out = {**self.defaults, **raw}
            if "prompt_file" in raw and "prompt" not in raw:
                out.pop("prompt", None)
            elif "prompt" in raw and "prompt_file" not in raw:
                out.pop("prompt_file", None)
        for field in [field for field, value in raw.items() if value is EMPTY]:
            if not any(one in self.defaults for one in (field, *(("prompt_file",) if field == "prompt" else ()))):
                what = f"{field} of shot '{raw['id']}' is empty, and the defaults have none"
                self.file.fault("empty", what, "write a value, or remove the key", ("shots", index, field))
            del out[field]
        if raw.get("clip"):
            making = [field for field in raw if field in _NOT_WITH_CLIP]
            if making:
                say = "says" if len(making) == 1 else "say"
                does = "waits for a pick among takes" if making == ["gate"] else f"{say} how to make a clip"
                what = f"{_quoted(making)} {does}, but '{raw['id']}' brings one of its own"
                mend = f"remove {' and '.join(making)}, or clip"
                self.file.fault("exclusive", what, mend, ("shots", index, making[0]), key=True)
            for field in _NOT_WITH_CLIP:
                if field not in ("provider", "resolution"):
                    out.pop(field, None)
        given = [field for field in raw if field in _ONE_FIRST]
        for field in given[1:]:
            what = f"'{raw['id']}' has both {given[0]} and {field}: a shot begins with one frame"
            self.file.fault("exclusive", what, "keep one of the two", ("shots", index, field), key=True)
            out[field] = None
        if "prompt" in raw and "prompt_file" in raw:
            what = f"'{raw['id']}' has both prompt and prompt_file"
            self.file.fault("exclusive", what, "keep one of the two", ("shots", index, "prompt_file"), key=True)
            del out["prompt_file"]
        return out

    def own_vars(self, index: int, raw: Data, context: dict[str, object]) -> dict[str, object]:
        """The context with the shot's own variables over the storyboard's."""
        own: dict[str, object] = dict(cast(dict[str, object], context["vars"]))
        out = {**context, "vars": own}
        mine = raw.get("vars") or {}
        for name, value in {**self.common_vars, **mine}.items():
            at: Path = ("shots", index, "vars", name) if name in mine else ("defaults", "vars", name)
            variables.check_name(self.file, name, at)
            own[name] = out[name] = variables.rendered(self.file, value, out, at)
        return out

    def field(self, draft: Draft, field: str, value: Any, context: dict[str, object]) -> None:
        """Reads one field into the draft."""
        fields, file = draft.fields, self.file
        index = fields["index"]
        try:
            if field in _TEXTS:
                if "{" in value:
                    value = file.text(value, context, self.at(index, field))
                fields[field] = value.strip(_BLANK)
            elif field in _NUMBERS:
                fields[field] = int(value)  # one spelling, because it goes into a key
            elif field in _FLAGS:
                fields[field] = value
            elif field in _CHOICES or field == "provider":
                fields[field] = self.choice(field, value, context, self.at(index, field))
            else:
                fields.update(self.structure(draft, field, value, context, self.at(index, field)))
        except Skip as why:
            draft.skipped[_LATER.get(field, field)] = str(why)

    def choice(self, field: str, value: str, context: dict[str, object], at: Path) -> str:
        known = _CHOICES.get(field, self.providers)
        if "{" not in value and value not in known and field in _CHOICES:
            raise Skip  # the schema has reported it
        text = self.file.text(value, context, at)
        if text not in known:
            self.file.fault("value", f"there is no {field} '{text}'", self.file.meant(text, tuple(known)), at)
            raise Skip
        return text

    def structure(
        self, draft: Draft, field: str, value: Any, context: dict[str, object], at: Path
    ) -> dict[str, object]:
        match field:
            case "prompt_file":
                return {"prompt": self.prompt_file(value, context, at)}
            case "clip":
                return {"clip": self.file.path(self.file.text(value, context, at), at)}
            case "tags":
                return {"tags": each(value, at, lambda tag, at: self.tag(tag, context, at))}
            case "continues":
                name, place = (value["shot"], (*at, "shot")) if isinstance(value, dict) else (value, at)
                other = self.frames.shot(name, context, place, draft.id)
                motion = value.get("motion") if isinstance(value, dict) else None
                return {
                    "first_frame": ShotFrame(other),
                    "motion_s": self.frames.seconds(motion, other, (*at, "motion")),
                }
            case "videos":
                return {"videos": each(value, at, lambda one, at: self.frames.video(one, context, at, draft.id))}
            case "meets":
                met = self.frames.shot(value, context, at, draft.id)
                return {"first_frame": StillOf(met, at), "meets": met}
            case "first_frame" | "last_frame":
                return {field: self.frames.end(value, context, at, draft.id)}
            case "images":
                return {"images": each(value, at, lambda one, at: self.frames.frame(one, context, at, draft.id))}
            case "elements":
                return {"elements": self.frames.elements(value, context, at, draft.id)}
            case "multi_shot":
                parts = value.get("shots", ())
                prompts = each(
                    parts, (*at, "shots"), lambda one, at: self.file.text(one["prompt"], context, (*at, "prompt"))
                )
                seconds = [int(one["duration"]) for one in parts]
                shots = tuple((text.strip(_BLANK), length) for text, length in zip(prompts, seconds, strict=True))
                return {"multi_shot": MultiShot(value["by"], shots)}
        raise AssertionError(f"the schema knows a field {field} that load does not")  # BUG

    def tag(self, value: str, context: dict[str, object], at: Path) -> str:
        text = self.file.text(value, context, at)
        if text is not value and not _TAG.fullmatch(text):
            self.file.fault("value", f"'{text}' is not a tag", "a tag is one word without , : + and @", at)
            raise Skip
        twin = next((one for one in self.tags if same(one, text)), None) if text not in self.tags else None
        if twin is not None:
            what = f"the tag '{text}' and one above it look equal: {difference(text, twin)}"
            self.file.fault("looks-equal", what, f"write it like the other, '{twin}'", at)
        self.tags[text] = None
        return text

    def prompt_file(self, value: str, context: dict[str, object], at: Path) -> str:
        path = self.file.path(self.file.text(value, context, at), at)
        try:
            text = self.file.file_text(path)
        except KlingflowError as exc:
            self.file.fault("file", exc.what, exc.mend, at)
            raise Skip(exc.what) from None
        return self.file.rendered(text.text, context, text.span, at).strip(_BLANK)

    def check(self, draft: Draft, raw: Data, merged: Data) -> None:
        """Fields that a shot needs, and fields that exclude each other."""
        fields, index = draft.fields, draft.fields["index"]
        for field in ("prompt", "negative_prompt"):
            found = _CONTROL.search(fields.get(field) or "")
            if found:
                what = f"{field} of '{draft.id}' holds the control character U+{ord(found[0]):04X}"
                source = "prompt_file" if field == "prompt" and "prompt" not in merged else field
                self.file.fault("control-character", what, "remove it", self.at(index, source))
            markup = _MARKUP.search(fields.get(field) or "")
            if markup:
                self.markup(draft, field, markup[0], merged)
        if not draft.skipped.keys() & {"prompt", "multi_shot", "elements", "images", "videos"}:
            self.mentions(draft, merged)
        take, takes = fields.get("take", 1), fields.get("takes", 1)
        if takes > 1 and take > takes:
            what = f"take {take} of '{draft.id}' counts, but only takes 1 to {takes} are made"
            self.file.fault("take", what, f"raise takes to {take}, or choose a smaller take", self.at(index, "take"))
        multi = fields.get("multi_shot")
        if multi is not None and multi.by == "customize":
            total, wanted = sum(seconds for _, seconds in multi.shots), fields.get("duration", 5)
            if total != wanted:
                what = f"the shots of multi_shot last {total} s together, but '{draft.id}' lasts {wanted} s"
                self.file.fault("duration", what, f"write duration: {total}", self.at(index, "multi_shot"), key=True)
        if draft.skipped or "clip" in fields:
            return
        if not any(fields.get(name) for name in _SUBJECT) and not (multi is not None and multi.shots):
            what = f"'{draft.id}' says nothing to show"
            self.file.fault("empty-shot", what, "give it a prompt, a frame or a clip", ("shots", index, "id"))

    def markup(self, draft: Draft, field: str, tag: str, merged: Data) -> None:
        """The warning about HTML in a text, where it was written."""
        text = merged.get(field)
        at = self.at(draft.fields["index"], field if text else "prompt_file")
        span = self.file.document.span(at)
        if isinstance(text, str) and tag in text:
            span = self.file.inside(at, text, text.index(tag), len(tag))
        what = f"{field} of '{draft.id}' holds HTML, {tag}: it is sent as it stands"
        mend = "write it as plain text"
        self.file.add(Problem(rule="markup", what=what, mend=mend, span=span, severity=Severity.WARNING))

    def mentions(self, draft: Draft, merged: Data) -> None:
        """What the prompts say of elements and images that the shot does not have, and what they leave unsaid."""
        fields = draft.fields
        multi = fields.get("multi_shot")
        texts = [fields.get("prompt", ""), *(text for text, _ in (multi.shots if multi is not None else ()))]
        given = {"element": len(fields.get("elements", ())), "image": len(fields.get("images", ()))}
        given["video"] = len(fields.get("videos", ()))
        for fault in mentions.wrong(texts, given):
            written = merged.get("prompt")
            at = self.at(fields["index"], "prompt" if written is not None else "prompt_file")
            if fault.text:
                at = (*self.at(fields["index"], "multi_shot"), "shots", fault.text - 1, "prompt")
                written = merged["multi_shot"]["shots"][fault.text - 1]["prompt"]
            said = texts[fault.text][fault.start : fault.start + fault.length]
            span = self.file.document.span(at)
            if isinstance(written, str) and said in written:
                span = self.file.inside(at, written, written.index(said), len(said))
            what = f"shot '{draft.id}': {fault.what}"
            self.file.add(Problem(rule="mention", what=what, mend=fault.mend, span=span))
        for fault in mentions.missing(texts, given):
            span = self.file.document.span(self.at(fields["index"], fault.field))
            what = f"shot '{draft.id}': {fault.what}"
            self.file.add(Problem(rule="mention", what=what, mend=fault.mend, span=span, severity=Severity.WARNING))

    # References between shots

    def resolved(self, drafts: Sequence[Draft]) -> tuple[Shot, ...]:
        """The shots, each `{still: ID}` and `meets` in them replaced by the frame that ID declares."""
        first = {draft.id: draft for draft in reversed(drafts)}  # the first of two with one id
        last = {name: draft.fields.get("last_frame") for name, draft in first.items()}
        stills = Stills(self.file, last, {name for name, draft in first.items() if draft.skipped})
        for draft in drafts:
            draft.skipped |= dict.fromkeys(stills.put_into(draft.fields), "")
            if draft.skipped:
                draft.fields["left_out"] = tuple(draft.skipped.items())
        return tuple(Shot(**draft.fields) for draft in drafts)


def _quoted(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
