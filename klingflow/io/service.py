"""The door to a provider, as the engine sees it: send a request, fetch a result. `io.api` is the door over HTTP,
`animatic.service` the local one. The engine cannot tell them apart."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from klingflow.core.model import Digest
from klingflow.providers.base import Answer, Request


def polls_per_minute(limit: int) -> int:
    """What polls may use of a limit of requests a minute: a sixth is left free for orders."""
    return limit - limit // 6


class NotSent(Exception):
    """The request certainly never left this machine (name not found, connection refused, TLS failed)."""


class Unanswered(Exception):
    """The request left, or may have left, and no whole answer came back."""


class Gone(Exception):
    """The result's URL is dead (403, 404, 410, an XML error page): ask the provider for a fresh one."""


class Broken(Exception):
    """The download did not arrive whole after its retries, or is not what it should be."""


class Service(Protocol):
    async def send(
        self,
        request: Request,
        *,
        paid: bool = False,
        before: float = math.inf,
        wanted: Callable[[], Awaitable[bool]] | None = None,
    ) -> Answer:
        """One HTTP exchange with the provider's API, key attached, redirects not followed.

        `paid` requests go out once on a fresh connection and are never repeated here. `before` is a time by the running
        loop's clock: from then on no byte of the request leaves, and NotSent is raised. `wanted` is asked when the
        connection is made, right before the first byte: where it says no, NotSent is raised too. Raises NotSent or
        Unanswered.
        """
        ...

    async def fetch(self, url: str, to: Path, progress: Callable[[int, int | None], None]) -> Digest:
        """Streams a result into the new file `to` and returns the digest of its bytes; resumes or repeats when cut.

        `progress(received, expected or None)` is called now and then. Raises Gone or Broken; then `to` does not exist.
        """
        ...

    def share(self, runners: int) -> None:
        """So many runners use the account: from now on this one keeps to its part of the requests a minute."""
        ...

    def owns(self, url: str) -> bool:
        """Whether a path or a whole URL leads to the API's own host, so that a request may go there."""
        ...

    async def close(self) -> None: ...
