"""Images that a provider takes in before an order names them, by a free request of their own.

What was uploaded is known by the digest of its bytes and the account, until it expires: within a run, and beyond it by
the user's cache (io.cache), where no pull request can put an address of its own. The order that is sent again after a
lost answer names what the first one named; where that is not known any more, it is another request, and the doubt is a
person's (execution.replay).
"""

from __future__ import annotations

import asyncio
import time

from klingflow.core.digest import of_bytes
from klingflow.core.errors import KlingflowError
from klingflow.core.model import Digest
from klingflow.core.redact import redact
from klingflow.execution.seller import Seller
from klingflow.io.remembered import recall, remember
from klingflow.io.service import NotSent, Unanswered
from klingflow.providers.base import Uploaded

LEAST_S = 900.0
"""For how long an order must still be able to name an image: the provider may fetch it late."""
TRIES = 3
PAUSE_S = 1.0
"""Before the second try; twice as long before each further one."""


class Uploads:
    """Those of one run; an image goes to a provider once, however many shots show it."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, Digest], asyncio.Task[tuple[str, float]]] = {}

    async def text(self, seller: Seller, digest: Digest, data: bytes, form: str) -> str:
        """What stands for the image in an order. Raises KlingflowError where it cannot be uploaded."""
        at = seller.name, digest
        task = self._tasks.get(at)
        if task is not None and task.done() and (task.cancelled() or task.exception() or not _lasts(task.result()[1])):
            task = None
        if task is None:
            task = self._tasks[at] = asyncio.create_task(_uploaded(seller, digest, data, form))
        return (await asyncio.shield(task))[0]


async def _uploaded(seller: Seller, digest: Digest, data: bytes, form: str) -> tuple[str, float]:
    """The text, and until when it can be named, UTC seconds since 1970."""
    name = of_bytes(f"{seller.name} {seller.account.secret_name() if seller.account else ''} {digest}".encode())
    known = recall("upload", name)
    match known:
        case [str(text), int() | float() as until] if _lasts(until):
            return text, until
    why = ""
    for tries in range(TRIES):
        if tries:
            await asyncio.sleep(PAUSE_S * 2 ** (tries - 1))
        try:
            said = seller.provider.uploaded(await seller.ask(seller.provider.upload(data, form)))
        except (NotSent, Unanswered) as lost:
            why = str(lost)
            continue
        if isinstance(said, Uploaded):
            until = time.time() + said.valid_s
            remember("upload", name, [said.text, until])
            return said.text, until
        why = said.message
        if said.unauthorised:
            break
    mend = f"`klingflow doctor` asks {seller.name} with the same key; nothing was ordered for this shot"
    raise KlingflowError(f"an image cannot be uploaded to {seller.name}: {redact(why)}", mend)


def _lasts(until: float) -> bool:
    return until - time.time() >= LEAST_S
