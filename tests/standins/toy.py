"""A stand-in of the seller of docs/example-provider, as strict as that page: unknown fields, uploads that have expired,
a `client_id` that was seen and addresses that were not given out are refused."""

from __future__ import annotations

import uuid
from typing import Any

from tests.standins import Purchase, Reply, Seen, StandIn, says

FIELDS = {"client_id", "prompt", "seconds", "first_frame", "last_frame", "sound", "style"}


class Toy(StandIn):
    """`image_s` is how long an upload lives; `elsewhere` is where status and result are said to be, in place of here.
    `free` asks for no key and takes an order twice. So many tasks as `forgets` says are not known when they are asked
    after."""

    key = "toy-standin-0001"

    def __init__(
        self, *, image_s: int = 7200, elsewhere: str = "", free: bool = False, forgets: int = 0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.image_s, self.elsewhere, self.free, self.forgets = image_s, elsewhere, free, forgets
        self.uploads: dict[str, tuple[bytes, float]] = {}

    def environment(self, account: str | None = None) -> dict[str, str]:
        return {"TOY_BASE_URL": self.base_url, "TOY_API_KEY": account or self.key}

    def lets_in(self, seen: Seen) -> bool:
        return self.free or seen.headers.get("authorization") in [f"Key {key}" for key in self.accounts]

    def throttled(self, wait: int) -> Reply:
        return says(429, {"error": {"code": "slow", "message": "too many requests"}}, Retry_After=str(wait))

    def api(self, seen: Seen) -> Reply:
        if not self.lets_in(seen):
            return says(401, {"error": {"code": "key", "message": "no such key"}})
        way = seen.path.removeprefix("/v1/").strip("/").split("/")
        match seen.method, way:
            case "POST", ["images"]:
                return self._image(seen)
            case "POST", ["videos"]:
                return self._order(seen)
            case "GET", ["videos"]:
                mine = [one for one in self.purchases if one.token == seen.query.get("client_id")]
                return says(200, {"videos": [self._named(one) for one in mine]})
            case "GET", ["videos", task, *rest] if rest in ([], ["result"]):
                return self._told(task, bool(rest), seen)
        return says(404, {"error": {"code": "path", "message": "not found"}})

    def _image(self, seen: Seen) -> Reply:
        if seen.headers.get("content-type") not in ("image/png", "image/jpeg") or not seen.body:
            return says(415, {"error": {"code": "type", "message": "no image"}})
        with self.lock:
            name = f"img-{len(self.uploads) + 1}"
            self.uploads[name] = seen.body, self.clock() + self.image_s
        return says(201, {"image": name, "expires_in": self.image_s})

    def _order(self, seen: Seen) -> Reply:
        body = seen.json
        images = {role: body[role] for role in ("first_frame", "last_frame") if role in body}
        alive = {name: data for name, (data, until) in self.uploads.items() if until > self.clock()}
        if set(body) - FIELDS or not isinstance(body.get("client_id"), str) or not set(images.values()) <= set(alive):
            return says(400, {"error": {"code": "order", "message": f"not an order: {sorted(body)}"}})
        with self.lock:
            if not self.free and any(one.token == body["client_id"] for one in self.purchases):
                return says(409, {"error": {"code": "seen", "message": "this client_id was used"}})
            bought = self.buy(
                seen,
                body,
                str(uuid.uuid4()),
                token=body["client_id"],
                seconds=body["seconds"],
                aspect="16:9",
                sound=body["sound"],
                images={role: alive[name] for role, name in images.items()},
            )
        return says(202, self._named(bought))

    def _named(self, bought: Purchase) -> dict[str, str]:
        return {"id": bought.task, "status_url": f"{self.elsewhere or self.base_url}/v1/videos/{bought.task}"}

    def _told(self, task: str, result: bool, seen: Seen) -> Reply:
        bought = next((one for one in self.purchases if str(one.task) == task), None)
        if bought is None or bought.number <= self.forgets:
            return says(404, {"error": {"code": "task", "message": "no such task"}})
        ended = self.age(bought) >= 1
        if not result:
            state = bought.outcome.word or ("ended" if ended else "making")
            at = f"{self.elsewhere or self.base_url}/v1/videos/{task}/result"
            return says(200, {"id": task, "state": state, **({"result_url": at} if ended else {})})
        if not ended:
            return says(404, {"error": {"code": "early", "message": "not ended"}})
        if bought.outcome.fail is not None:
            code, message = bought.outcome.fail
            return says(200, {"id": task, "error": {"code": code, "message": message}})
        return says(200, {"id": task, "video": self.url(bought)[0]})
