"""Asking for many things at a time, where many callers each ask for one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Batched(Generic[K, V]):
    """What keys lead to. Those that are asked for while an answer is awaited go together, after it.

    So under load there are fewer and larger questions, and none is answered from before it was asked.
    """

    def __init__(self, ask: Callable[[Sequence[K]], Awaitable[Sequence[V]]]) -> None:
        """Args:
        ask: answers for different keys, in their order. What it raises is raised to all who wait.
        """
        self._ask = ask
        self._waiting: dict[K, asyncio.Future[V]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V:
        """What a key leads to."""
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        # One of the waiting may be cancelled; the others still want the answer.
        return await asyncio.shield(future)

    async def _ask_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, {}
            try:
                answers = await self._ask(list(batch))
            except Exception as error:  # noqa: BLE001 — it is the callers' to handle
                for future in batch.values():
                    future.set_exception(error)
            else:
                for future, answer in zip(batch.values(), answers, strict=True):
                    future.set_result(answer)
        self._asking = None
