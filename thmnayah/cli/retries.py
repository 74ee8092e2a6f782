"""Patience with a server that restarts or is busy, for calls that may be made twice."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from thmnayah.client import ApiError

# Services restart within seconds, the whole mesh within less than a minute.
PATIENCE_SECONDS = 60.0
MAX_PAUSE_SECONDS = 5.0
TRANSIENT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)

T = TypeVar("T")


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The answer to a call, which is repeated while the server is away, busy or late.

    Raises:
        ApiError: for any other reason, or because patience has come to its end.
    """
    give_up = time.monotonic() + PATIENCE_SECONDS
    pause = 0.2
    while True:
        try:
            return await call()
        except ApiError as error:
            if error.code() not in TRANSIENT:
                raise
            # Never sooner than the server asks, and not all callers at once.
            wait = (error.retry_seconds or 0) + pause * random.random()  # noqa: S311 -- no secret
            if time.monotonic() + wait > give_up:
                raise
        await asyncio.sleep(wait)
        pause = min(pause * 2, MAX_PAUSE_SECONDS)
