"""Calls that block, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Offload(Protocol):
    """Makes a call that blocks without holding up the loop."""

    def __call__(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...


def on(pool: ThreadPoolExecutor) -> Offload:
    """Calls on the threads of one pool. The store's calls and the decoding of video have one each: a record of a task
    that was paid for must not queue behind minutes of decoding."""

    def call(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(pool, partial(function, *args, **kwargs))

    return call
