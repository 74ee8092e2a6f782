"""What may be served without asking the database, and how an event empties it.

A value is looked for in this process, then in Valkey, then in the database. Whoever changes it says
`changed`; every process hears the event and does so too. Valkey may be away at any time: that costs speed.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import structlog
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from libs import events
from libs.batches import Batched
from libs.memory import Memory

# The floor under the events: longer than this nothing is believed without asking again.
LOCAL_SECONDS = 600.0
VALKEY_SECONDS = 600
# How long an emptied key takes no value: a reader who asked the database before the change is done by then.
EMPTIED_SECONDS = 10
# For so long it needs no emptying again: a reader who asks then is done before it takes a value.
JUST_EMPTIED_SECONDS = 3
VALKEY_TIMEOUT_SECONDS = 0.1
# After an error Valkey is left alone for so long.
PAUSE_SECONDS = 1.0

_EMPTIED = b""
_OVERHEAD_BYTES = 500  # of a value that a process keeps, about

_requests = Counter("cache_requests_total", "Look-ups, by where they were answered", ["cache", "layer"])
_log = structlog.get_logger(__name__)


class Message(Protocol):
    """A protobuf message."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802 — protobuf's name


T = TypeVar("T", bound=Message)


def connect(url: str, *, seconds: float = VALKEY_TIMEOUT_SECONDS) -> Redis:
    """A client that gives up quickly: a slow cache is worse than none."""
    return Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=None)


async def ping(redis: Redis) -> None:
    """Raises: RedisError or OSError when Valkey does not answer."""
    await redis.ping()


class Local(Generic[T]):
    """Messages by key, in this process alone.

    Any change empties it whole, so it is for what many changes may touch, such as pages of lists.
    """

    def __init__(self, name: str, nats: NatsClient, *, parse: Callable[[bytes], T], size_bytes: int) -> None:
        """Args:
        name: of the cache, in keys and metrics.
        nats: without a connection events are missed, and nothing that is kept is used.
        parse: makes a message of its bytes, which are kept: a message would take several times the memory.
        size_bytes: how much this process keeps.
        """
        self._name = name
        self._nats = nats
        self._parse = parse
        self._held = Memory[str, tuple[bytes, float]](size_bytes)
        self._loading: dict[str, asyncio.Task[T]] = {}
        self._local, self._remote, self._database = (
            _requests.labels(name, layer) for layer in ("process", "valkey", "database")
        )

    async def get(
        self, key: str, load: Callable[[], Awaitable[T]], shape: Callable[[T], Awaitable[T]] | None = None
    ) -> T:
        """The value of a key; `load` asks the database, once for all who wait for it: do not change it.

        What `load` raises is raised to all of them, and nothing is kept.

        Args:
            shape: makes of a value what this process keeps, and may change it.
        """
        held = self._kept(key)
        return await self._shared(key, load, shape) if held is None else self._parse(held)

    async def get_bytes(self, key: str, load: Callable[[], Awaitable[T]]) -> bytes:
        """The same as bytes, which are not parsed where they are kept."""
        held = self._kept(key)
        return (await self._shared(key, load, None)).SerializeToString() if held is None else held

    def _kept(self, key: str) -> bytes | None:
        held = self._held.get(key)
        if held is None or time.monotonic() >= held[1] or not self._nats.is_connected:
            return None
        self._local.inc()
        return held[0]

    async def _shared(self, key: str, load: Callable[[], Awaitable[T]], shape: Callable[[T], Awaitable[T]] | None) -> T:
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._shaped(key, load, shape))
            self._loading[key] = task
            task.add_done_callback(lambda done: self._loaded(key, done))
        # One of the waiting may be cancelled; the others still want the answer.
        return await asyncio.shield(task)

    async def changed(self, about: str) -> None:  # noqa: ARG002 — Cache asks what it is about
        """Forget what the change of an item makes untrue, and what is being loaded."""
        self.clear()

    def clear(self) -> None:
        """Forget all that this process keeps, and what is being loaded."""
        self._held.clear()
        self._loading.clear()

    async def keep_up(self) -> None:
        """What is to be done now and then."""

    async def _find(self, key: str, load: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002 — Cache asks Valkey for it
        value = await load()
        self._database.inc()
        return value

    async def _shaped(self, key: str, load: Callable[[], Awaitable[T]], shape: Callable[[T], Awaitable[T]] | None) -> T:
        value = await self._find(key, load)
        return value if shape is None else await shape(value)

    def _loaded(self, key: str, task: "asyncio.Task[T]") -> None:
        if self._loading.get(key) is not task:
            return  # emptied meanwhile: the value may be from before the change
        del self._loading[key]
        if task.cancelled() or task.exception() is not None:
            return
        value = task.result().SerializeToString()
        self._held.put(key, (value, time.monotonic() + LOCAL_SECONDS), _OVERHEAD_BYTES + len(key) + len(value))


class Cache(Local[T]):
    """Messages by the ids of what they are about, in this process and in Valkey."""

    def __init__(
        self, name: str, redis: Redis, nats: NatsClient, *, parse: Callable[[bytes], T], size_bytes: int
    ) -> None:
        """For the arguments see `Local`."""
        super().__init__(name, nats, parse=parse, size_bytes=size_bytes)
        self._redis = redis
        self._asked = Batched(self._ask_valkey)
        self._untold: dict[str, bytes] = {}
        """What Valkey does not hold yet: it is told when it is asked next, or by `keep_up`."""
        self._unsent: set[str] = set()
        self._emptied: OrderedDict[str, float] = OrderedDict()
        self._emptying = asyncio.Lock()
        self._pause_until = 0.0

    async def changed(self, about: str) -> None:
        """Forget the value of an item here and in Valkey, and what is being loaded for it."""
        self._forget(about)
        self._unsent.add(about)
        await self.keep_up()

    async def heard(self, about: str) -> None:
        """The same for a change that an event tells of, perhaps this process's own.

        A key that it emptied just before takes no value yet.
        """
        if self._emptied.get(about, 0.0) < time.monotonic() - JUST_EMPTIED_SECONDS:
            await self.changed(about)
        else:
            self._forget(about)

    def _forget(self, about: str) -> None:
        self._held.drop(about)
        self._loading.pop(about, None)
        self._untold.pop(about, None)

    async def _find(self, key: str, load: Callable[[], Awaitable[T]]) -> T:
        is_away = key in self._unsent or time.monotonic() < self._pause_until
        stored = _EMPTIED if is_away else await self._asked.get(key)
        if stored:
            self._remote.inc()
            return self._parse(stored)
        value = await load()
        self._database.inc()
        if stored is None:
            self._untold[key] = value.SerializeToString()
        return value

    async def _ask_valkey(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """What Valkey holds: None for nothing, _EMPTIED for what must not be kept now."""
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                self._tell(pipeline)
                pipeline.mget([f"{self._name}:{key}" for key in keys])
                found: Sequence[bytes | None] = (await pipeline.execute())[-1]
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return [_EMPTIED] * len(keys)
        return found

    def _tell(self, pipeline: Pipeline) -> None:
        for key, value in self._untold.items():
            if key not in self._unsent:
                # Not over an emptied key: the value may be from before the change.
                pipeline.set(f"{self._name}:{key}", value, ex=VALKEY_SECONDS, nx=True)
        self._untold.clear()

    async def keep_up(self) -> None:
        """Empty in Valkey what is still to be emptied there (what fails is tried again), and tell it the rest."""
        async with self._emptying:  # what comes meanwhile goes together, after it
            now = time.monotonic()
            if not (self._unsent or self._untold) or now < self._pause_until:
                return
            while self._emptied and next(iter(self._emptied.values())) < now - JUST_EMPTIED_SECONDS:
                self._emptied.popitem(last=False)
            keys = list(self._unsent)
            try:
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for key in keys:
                        pipeline.set(f"{self._name}:{key}", _EMPTIED, ex=EMPTIED_SECONDS)
                    self._tell(pipeline)
                    await pipeline.execute()
            except (RedisError, OSError, TimeoutError) as error:
                self._failed(error)
            else:
                self._unsent.difference_update(keys)
                self._emptied.update(dict.fromkeys(keys, now))

    def _failed(self, error: Exception) -> None:
        _log.warning("valkey_unavailable", cache=self._name, error=type(error).__name__)
        self._pause_until = time.monotonic() + PAUSE_SECONDS


async def follow(
    nats: NatsClient, handlers: Mapping[str, Callable[[str], Awaitable[None]]], caches: Sequence[Local[Any]]
) -> None:
    """Hear, for ever, of the changes that events tell; what may have missed some is emptied.

    Args:
        handlers: for each subject, what is called with what its events are about.
    """

    async def hear(message: Msg) -> None:
        about = (message.headers or {}).get("ce-subject")
        if about:
            await handlers[message.subject](about)

    await events.connected(nats)
    for subject in handlers:
        await nats.subscribe(subject, cb=hear)
    connected = True
    while True:
        await asyncio.sleep(PAUSE_SECONDS / 2)
        missed = nats.is_connected and not connected
        connected = nats.is_connected
        for each in caches:
            if missed:
                each.clear()
            await each.keep_up()
