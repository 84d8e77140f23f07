"""A stand-in of MuleRouter's kling-v3-omni endpoints, as strict as their pages (read 2026-11): one path a capability,
additional properties refused, both vocabularies and both error shapes. No idempotency: every accepted POST is a
purchase."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import unquote

from tests import standins
from tests.standins import BadImage, Purchase, Reply, Seen, StandIn, movie, says

ROOT = "/vendors/klingai/v1/kling-v3-omni"
CAPABILITIES = {
    f"{ROOT}/image-to-video/generation": "image",
    f"{ROOT}/text-to-video/generation": "text",
    f"{ROOT}/reference-to-video/generation": "reference",
    f"{ROOT}/reference-image-to-video/generation": "reference",
    f"{ROOT}/reference-video-to-video/generation": "video",
    f"{ROOT}/video-to-video/generation": "older video",
}
COMMON = {
    "prompt", "multi_prompt", "negative_prompt", "sound", "mode", "aspect_ratio", "duration", "multi_shot", "shot_type",
    "model_name",  # not on the pages; MuleRouter's own client sends it (openmule/mulerouter-skills, 2026-04-23)
}  # fmt: skip
FRAMES = {"first_frame", "last_frame"}
ALLOWED = {
    "image": COMMON | FRAMES | {"images", "elements"},
    "text": COMMON,
    "reference": COMMON | FRAMES | {"images", "elements"},
    "video": {"prompt", "video", "negative_prompt", "keep_audio", "elements", "mode", "aspect_ratio"},
    "older video": {
        "prompt", "video_list", "negative_prompt", "images", "elements", "mode", "aspect_ratio", "duration", *FRAMES,
    },
}  # fmt: skip
FORMATS = ("JPEG", "PNG")
WORDS = {
    "endpoint": ("pending", "processing", "completed", "failed"),
    "async": ("queued", "running", "succeeded", "failed"),
}


class Wrong(Exception):
    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.status = status


class MuleRouter(StandIn):
    """`vocabulary` and `errors` choose among the two documented sets of words and shapes. `base64` says which form of
    inline images is taken. `reference` and `video` are the paths that are live for reference images and
    videos, and `multi_shot` the type of that field (docs and clients disagree about all three)."""

    key = "mr-standin-0001"

    def __init__(
        self,
        *,
        vocabulary: Literal["endpoint", "async"] = "endpoint",
        errors: Literal["endpoint", "async"] = "endpoint",
        inline: Literal["both", "raw", "data-uri"] = "both",
        reference: Literal["both", "reference-to-video", "reference-image-to-video"] = "both",
        multi_shot: Literal["both", "boolean", "text"] = "both",
        video: Literal["both", "reference-video-to-video", "video-to-video"] = "both",
        webhook_url: str | None = None,
        webhook_secret: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.vocabulary, self.errors, self.inline, self.reference = vocabulary, errors, inline, reference
        self.multi_shot = multi_shot
        self.video = video
        self.videos: list[bytes] = []
        """The reference videos of the orders, as they were fetched."""
        self.webhook_url = webhook_url
        self.webhook_secret = webhook_secret or "whsec_" + base64.b64encode(b"standin-events-0001").decode()
        self._stopping = threading.Event()

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        super().__exit__(*error)

    def environment(self, account: str | None = None) -> dict[str, str]:
        return {
            "MULEROUTER_BASE_URL": self.base_url,
            "MULEROUTER_API_KEY": account or self.key,
            "MULEROUTER_WEBHOOK_SECRET": self.webhook_secret,
        }

    def throttled(self, wait: int) -> Reply:
        return says(429, {"detail": "rate limit exceeded"}, Retry_After=str(wait))

    def api(self, seen: Seen) -> Reply:
        if not self.lets_in(seen):
            return says(401, {"detail": "invalid token"})
        path = seen.path
        capability = next((kind for start, kind in CAPABILITIES.items() if path.startswith(start)), "")
        live = self.reference if capability == "reference" else self.video if "video" in capability else "both"
        if live != "both" and f"/{live}/" not in path:
            return says(404, {"detail": "Not Found"})
        trace = {"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"}
        try:
            if path in CAPABILITIES:
                if seen.method != "POST":
                    raise Wrong("Method Not Allowed", 405)
                reply = self._create(seen, CAPABILITIES[path])
            elif path.rpartition("/")[0] in CAPABILITIES and seen.method == "GET":
                reply = self._detail(seen)
            else:
                raise Wrong("Not Found", 404)
        except Wrong as exc:
            reply = self._refused(exc)
        reply.headers |= trace
        return reply

    def _refused(self, exc: Wrong) -> Reply:
        if exc.status == 400 and self.errors == "endpoint":
            error = {"code": 2001, "title": "Invalid Request", "detail": str(exc)}
            return says(400, {"task_info": {"id": str(uuid.uuid4()), "status": "failed", "error": error}})
        return says(exc.status, {"detail": str(exc)})

    # Create

    def _create(self, seen: Seen, capability: str) -> Reply:
        if seen.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Wrong("Unsupported Media Type", 415)
        try:
            body = json.loads(seen.body)
        except ValueError as exc:
            raise Wrong(f"body is not JSON: {exc}") from exc
        asked = self._asked(body, capability)
        if seen.in_flight:
            seen.in_flight()
        with self.lock:
            if self.credit is not None and self.credit <= 0:
                raise Wrong("Insufficient balance", 402)
            bought = self.buy(seen, body, str(uuid.uuid4()), token="", **asked)
        reply = says(202, {"task_info": self._info(bought, WORDS[self.vocabulary][0])})
        if self.webhook_url is not None:
            threading.Thread(target=self._events, args=(bought, self.webhook_url), daemon=True).start()
        return reply

    def _asked(self, body: Any, capability: str) -> dict[str, Any]:
        if not isinstance(body, dict):
            raise Wrong("body must be an object")
        if unknown := body.keys() - ALLOWED[capability]:
            raise Wrong(f"additional properties are not allowed: {sorted(unknown)}")
        if empty := [name for name, value in body.items() if value is None]:
            raise Wrong(f"klingflow sends no nulls: {empty}")
        for name in ("prompt", "negative_prompt"):
            if name in body and (not isinstance(body[name], str) or len(body[name]) > 2500):
                raise Wrong(f"{name} must be a string of at most 2500 characters")
        _one_of(body, "model_name", ("kling-v3-omni",))
        _one_of(body, "sound", ("on", "off"))
        _one_of(body, "mode", ("std", "pro"))
        _one_of(body, "aspect_ratio", ("16:9", "9:16", "1:1"))
        _one_of(body, "shot_type", ("customize", "intelligence"))
        seconds = body.get("duration", 5)
        if type(seconds) is not int or not 3 <= seconds <= 15:
            raise Wrong("duration must be an integer from 3 to 15")
        self._shots(body, seconds)
        if "video" in capability:
            seconds = self._video(body, seconds)
        images, size = self._images(body)
        if capability == "image" and "first_frame" not in body:
            raise Wrong("image-to-video needs first_frame")
        if capability == "reference" and not images:
            raise Wrong("reference-to-video needs images or elements")
        if "first_frame" not in body and "aspect_ratio" not in body:
            raise Wrong("aspect_ratio is required without first_frame")
        if capability == "text" and not body.get("prompt", "").strip() and "multi_prompt" not in body:
            raise Wrong("text-to-video needs prompt or multi_prompt")
        aspect = standins.aspect_of(*size) if size and "first_frame" in body else body.get("aspect_ratio", "16:9")
        return {"seconds": seconds, "sound": body.get("sound") == "on", "aspect": aspect, "images": images}

    def _shots(self, body: dict[str, Any], seconds: int) -> None:
        value = body.get("multi_shot", False)
        if self.multi_shot != "text" and isinstance(value, bool):
            multi = value
        elif self.multi_shot != "boolean" and "multi_shot" in body and value in ("true", "false"):
            multi = value == "true"
        elif "multi_shot" in body:
            raise Wrong(f"multi_shot must be a {'string, true or false' if self.multi_shot == 'text' else 'boolean'}")
        else:
            multi = False
        if not multi:
            if "multi_prompt" in body or "shot_type" in body:
                raise Wrong("multi_prompt and shot_type go with multi_shot")
            return
        match body.get("shot_type"):
            case "customize":
                shots = body.get("multi_prompt")
                if not isinstance(shots, list) or not 1 <= len(shots) <= 6:
                    raise Wrong("multi_prompt must have 1 to 6 items")
                for shot in shots:
                    if not isinstance(shot, dict) or shot.keys() != {"prompt", "duration"}:
                        raise Wrong("a multi_prompt item has prompt and duration")
                    if not isinstance(shot["prompt"], str) or len(shot["prompt"]) > 512:
                        raise Wrong("a multi_prompt item's prompt has at most 512 characters")
                    if type(shot["duration"]) is not int or shot["duration"] < 1:
                        raise Wrong("a multi_prompt item's duration is an integer of at least 1")
                if sum(shot["duration"] for shot in shots) != seconds:
                    raise Wrong("the durations of multi_prompt must add up to duration")
            case "intelligence":
                if "multi_prompt" in body or not body.get("prompt", "").strip():
                    raise Wrong("intelligence takes a prompt and no multi_prompt")
            case _:
                raise Wrong("multi_shot needs shot_type")

    def _video(self, body: dict[str, Any], seconds: int) -> int:
        """Judges the reference video; how long the clip gets: as long as it, where the order names no duration."""
        if not body.get("prompt", "").strip():
            raise Wrong("prompt is required")
        listed = body.get("video_list", [{"video_url": body.get("video"), "refer_type": "feature"}])
        if not isinstance(listed, list) or len(listed) != 1 or not isinstance(listed[0], dict):
            raise Wrong("video_list must have 1 item")
        if listed[0].keys() - {"video_url", "refer_type", "keep_original_sound"}:
            raise Wrong("a video has video_url, refer_type and keep_original_sound")
        if listed[0].get("refer_type") not in ("feature", "base"):
            raise Wrong("refer_type must be feature or base")
        url = listed[0]["video_url"]
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise Wrong("the video must be a URL")
        if sum(name in body for name in FRAMES) + len(body.get("images", [])) + len(body.get("elements", [])) > 4:
            raise Wrong("images and elements are more than 4 beside a video")
        if "aspect_ratio" not in body and "first_frame" not in body:
            raise Wrong("aspect_ratio is required with a reference video")
        try:
            self.videos.append(standins.fetched(url))
            length = movie.length(self.videos[-1])
        except BadImage as exc:
            raise Wrong(f"the video {exc}") from exc
        if not 2.9 <= length <= 10.1:
            raise Wrong(f"the video must have 3 to 10 seconds, not {length:.1f}")
        return int(body["duration"]) if "duration" in body else round(length)

    def _images(self, body: dict[str, Any]) -> tuple[dict[str, bytes], tuple[int, int] | None]:
        if "last_frame" in body and "first_frame" not in body:
            raise Wrong("last_frame needs first_frame")
        given = {name: body[name] for name in ("first_frame", "last_frame") if name in body}
        extra = body.get("images", [])
        if "images" in body and (not isinstance(extra, list) or not extra):
            raise Wrong("images must have at least 1 item")
        given |= {f"images.{i}": image for i, image in enumerate(extra)}
        elements = body.get("elements", [])
        if "elements" in body and (not isinstance(elements, list) or not 1 <= len(elements) <= 3):
            raise Wrong("elements must have 1 to 3 items")
        for i, element in enumerate(elements):
            if not isinstance(element, dict) or element.keys() - {"type", "frontal_image", "reference_images"}:
                raise Wrong(f"elements[{i}] has type, frontal_image and reference_images")
            if element.get("type", "image") != "image" or "frontal_image" not in element:
                raise Wrong(f"elements[{i}] is no image element")
            others = element.get("reference_images", [])
            if "reference_images" in element and (not isinstance(others, list) or not 1 <= len(others) <= 3):
                raise Wrong(f"elements[{i}].reference_images must have 1 to 3 items")
            given[f"elements.{i}.frontal_image"] = element["frontal_image"]
            given |= {f"elements.{i}.reference_images.{j}": other for j, other in enumerate(others)}
        if len(elements) + len(extra) + len(FRAMES & body.keys()) > 7:
            raise Wrong("elements, images and frames are more than 7 together")
        if len(extra) > 1 and {"first_frame", "last_frame"} <= body.keys():
            raise Wrong("last_frame is not allowed with more than one image and first_frame")
        images, size = {}, None
        for name, text in given.items():
            try:
                images[name] = data = self._image(text)
                found = standins.judged(data, FORMATS)
            except BadImage as exc:
                raise Wrong(f"{name} {exc}") from exc
            size = size or found
        return images, size

    def _image(self, text: Any) -> bytes:
        if not isinstance(text, str):
            raise BadImage("must be a string")
        if text.startswith(("http://", "https://")):
            return standins.fetched(text)
        form = "data-uri" if text.startswith("data:") else "raw"
        if self.inline not in ("both", form):
            raise BadImage(f"is {form} Base64, which is not taken here")
        return standins.decoded(text)

    # Read

    def _detail(self, seen: Seen) -> Reply:
        where, _, task = seen.path.rpartition("/")
        bought = self.find(unquote(task), seen.bearer)
        # Ids are not interchangeable between paths.
        if bought is None or bought.path != where:
            raise Wrong("task not found", 404)
        return says(200, self.told_of(bought))

    def told_of(self, bought: Purchase) -> dict[str, Any]:
        waiting, running, done, failed = WORDS[self.vocabulary]
        age, outcome = self.age(bought), bought.outcome
        word = outcome.word or (waiting if age < 0.3 else running if age < 1 else failed if outcome.fail else done)
        told: dict[str, Any] = {"task_info": self._info(bought, word)}
        if outcome.word is not None or age < 1:
            return told
        if outcome.fail and self.errors == "endpoint":
            told["task_info"]["error"] = {
                "code": outcome.fail[0], "title": "Content Error", "detail": outcome.fail[1],
            }  # fmt: skip
        elif outcome.fail:
            told["error"] = {"error_code": outcome.fail[0], "title": "Task failed", "detail": outcome.fail[1]}
        elif not outcome.no_output:
            told["videos"] = [self.url(bought)[0]]
        return told

    def _info(self, bought: Purchase, word: str) -> dict[str, Any]:
        return {
            "id": bought.task,
            "status": word,
            "created_at": datetime.fromtimestamp(bought.at + self.offset_s, UTC).isoformat().replace("+00:00", "Z"),
            "updated_at": datetime.fromtimestamp(self.now(), UTC).isoformat(),
        }

    # Events

    def _events(self, bought: Purchase, url: str) -> None:
        self.call(bought, url, "task.created")
        while self.age(bought) < 1:
            if self._stopping.wait(min(0.02, self.finish_s)):
                return
        self.call(bought, url, "task.failed" if bought.outcome.fail else "task.succeeded")

    def call(self, bought: Purchase, url: str, kind: str = "task.succeeded") -> int:
        """One signed event, now (Standard Webhooks: the stored pages do not name the headers). 0: no answer."""
        event = f"evt_{secrets.token_hex(8)}"
        payload = self.told_of(bought)
        data = {"vendor": "klingai", "model_name": "kling-v3-omni", "payload": payload}
        stamp = datetime.fromtimestamp(self.now(), UTC)
        body = json.dumps({"id": event, "type": kind, "created_at": stamp.isoformat(), "data": data}).encode()
        seconds = str(int(self.now()))
        raw = base64.b64decode(self.webhook_secret.removeprefix("whsec_"))
        mac = hmac.new(raw, f"{event}.{seconds}.".encode() + body, hashlib.sha256).digest()
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event,
            "webhook-timestamp": seconds,
            "webhook-signature": "v1," + base64.b64encode(mac).decode(),
        }
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as exc:
            exc.close()
            return exc.code
        except OSError:
            return 0


def _one_of(body: dict[str, Any], name: str, words: tuple[str, ...]) -> None:
    if name in body and body[name] not in words:
        raise Wrong(f"{name} must be one of {words}")
