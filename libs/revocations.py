"""Which access tokens a process refuses though their time is not over.

The auth service tells of each by an event, and is asked for all of them every POLL_SECONDS, so that one
of the two may be away.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Self

import grpc
import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from libs import events
from libs.errors import Unavailable
from thmnayah.auth.v1.sessions_pb2 import ListRevocationsRequest, ListRevocationsResponse, Revocation, TokensRevoked
from thmnayah.auth.v1.sessions_pb2_grpc import SessionServiceStub

POLL_SECONDS = 2.0
FIRST_POLL_SECONDS = 0.2  # until the first answer
ANSWER_SECONDS = 2.0
# Cut off for longer, a process may believe tokens that were revoked.
DEAF_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class Revocations:
    """A deny list that is asked without waiting."""

    def __init__(self, fetch: Callable[[ListRevocationsRequest], Awaitable[ListRevocationsResponse]]) -> None:
        self._fetch = fetch
        self._loaded = asyncio.Event()
        self._heard = 0.0
        self._sessions: dict[str, float] = {}
        self._users: dict[str, tuple[int, float]] = {}

    @classmethod
    def asking(cls, auth: grpc.aio.Channel) -> Self:
        """A list that the auth service is asked for."""
        stub = SessionServiceStub(auth)
        return cls(lambda request: stub.ListRevocations(request, timeout=ANSWER_SECONDS, wait_for_ready=True))

    @property
    def deaf(self) -> bool:
        """Whether nothing could be heard of for too long."""
        return time.monotonic() - self._heard > DEAF_SECONDS

    def refuse(self, session_id: str, user_id: str, epoch: int) -> bool:
        """Whether a token of this session, user and epoch is revoked."""
        return session_id in self._sessions or (user_id in self._users and epoch < self._users[user_id][0])

    async def loaded(self) -> None:
        """Returns once the list was read, which in a running service it was.

        Raises:
            Unavailable: the auth service has not answered since this process began.
        """
        if self._loaded.is_set():
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._loaded.wait()
        except TimeoutError as error:
            raise Unavailable(metadata={"dependency": "auth"}) from error

    async def poll(self) -> None:
        """Ask the auth service for ever."""
        since: Timestamp | None = None
        while True:
            try:
                answer = await self._fetch(ListRevocationsRequest(since_time=since))
            except Exception as error:  # noqa: BLE001 — away is away, for any reason
                _log.warning("revocations_not_read", error=type(error).__name__)
            else:
                since = answer.next_since_time
                self._add(*answer.revocations)
                if answer.more:
                    continue
                self._heard = time.monotonic()
                self._loaded.set()
            self._forget()
            await asyncio.sleep(POLL_SECONDS if self._loaded.is_set() else FIRST_POLL_SECONDS)

    async def listen(self, nats: NatsClient) -> None:
        """Hear of each as it happens, for ever, while NATS is there."""

        async def hear(message: Msg) -> None:
            self._add(TokensRevoked.FromString(message.data).revocation)

        await events.connected(nats)
        await nats.subscribe("token.revoked", cb=hear)
        while True:
            await asyncio.sleep(POLL_SECONDS / 2)
            if nats.is_connected:
                self._heard = time.monotonic()

    def _add(self, *revocations: Revocation) -> None:
        for each in revocations:
            expires = float(each.expire_time.seconds)
            if each.session_id:
                self._sessions[each.session_id] = expires
            elif each.epoch >= self._users.get(each.user_id, (0, 0.0))[0]:
                self._users[each.user_id] = (each.epoch, expires)

    def _forget(self) -> None:
        now = time.time()
        self._sessions = {key: expires for key, expires in self._sessions.items() if expires > now}
        self._users = {key: each for key, each in self._users.items() if each[1] > now}
