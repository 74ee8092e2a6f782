"""The deny list by itself: how it hears, what it refuses, and when it no longer knows."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.local.mesh import Mesh
from libs import events
from libs.errors import Unavailable
from libs.revocations import Revocations
from tests.conftest import eventually
from thmnayah.auth.v1.sessions_pb2 import ListRevocationsRequest, ListRevocationsResponse, Revocation, TokensRevoked


def revocation(seconds: int = 60, **of: str | int) -> Revocation:
    expire_time = Timestamp(seconds=int(time.time()) + seconds)
    return Revocation(expire_time=expire_time, **of)  # type: ignore[arg-type]  # each of its own type


class Auth:
    """An auth service that answers with what it is given, page by page."""

    def __init__(self, *pages: list[Revocation]) -> None:
        self.pages = list(pages)
        self.away = False
        self.asked: list[ListRevocationsRequest] = []

    async def fetch(self, request: ListRevocationsRequest) -> ListRevocationsResponse:
        self.asked.append(request)
        if self.away:
            raise ConnectionError
        page = self.pages.pop(0) if self.pages else []
        return ListRevocationsResponse(
            revocations=page, more=bool(self.pages), next_since_time=Timestamp(seconds=len(self.asked))
        )


@asynccontextmanager
async def polling(revocations: Revocations) -> AsyncIterator[None]:
    task = asyncio.create_task(revocations.poll())
    try:
        yield
    finally:
        task.cancel()


async def test_a_session_and_older_tokens_of_a_user_are_refused() -> None:
    auth = Auth([revocation(session_id="ended")], [revocation(user_id="changed", epoch=3)])
    revocations = Revocations(auth.fetch)
    async with polling(revocations):
        await revocations.loaded()

    assert revocations.refuse("ended", "anyone", 0)
    assert not revocations.refuse("other", "anyone", 0)
    assert [revocations.refuse("other", "changed", epoch) for epoch in (0, 2, 3, 4)] == [True, True, False, False]
    assert [each.since_time.seconds for each in auth.asked] == [0, 1]  # from where the page before ended


async def test_an_older_word_takes_no_newer_one_back() -> None:
    auth = Auth([revocation(user_id="changed", epoch=3)], [revocation(user_id="changed", epoch=2)])
    revocations = Revocations(auth.fetch)
    async with polling(revocations):
        await revocations.loaded()

    assert revocations.refuse("any", "changed", 2)


async def test_what_has_ended_by_itself_is_forgotten() -> None:
    auth = Auth([revocation(-1, session_id="long ago"), revocation(-1, user_id="long ago", epoch=1)])
    revocations = Revocations(auth.fetch)
    async with polling(revocations):
        await revocations.loaded()

        async def refused() -> bool:
            return revocations.refuse("long ago", "x", 0) or revocations.refuse("x", "long ago", 0)

        await eventually(refused, lambda refused: not refused)


async def test_before_the_list_was_read_no_token_is_believed() -> None:
    auth = Auth()
    auth.away = True
    revocations = Revocations(auth.fetch)
    assert revocations.deaf
    async with polling(revocations):
        with pytest.raises(Unavailable):
            await revocations.loaded()
        auth.away = False

        await eventually(lambda: _is_hearing(revocations))
        await revocations.loaded()


async def _is_hearing(revocations: Revocations) -> bool:
    return not revocations.deaf


async def test_an_event_is_heard_at_once(mesh: Mesh) -> None:
    """Without the auth service's answer."""
    nats, publisher = [await events.connect(mesh.nats_url(), service="tests") for _ in range(2)]
    auth = Auth()
    auth.away = True
    revocations = Revocations(auth.fetch)
    task = asyncio.create_task(revocations.listen(nats))
    try:
        await eventually(lambda: _is_hearing(revocations))
        event = TokensRevoked(revocation=revocation(session_id="ended"))
        await publisher.publish("token.revoked", event.SerializeToString())

        async def refused() -> bool:
            return revocations.refuse("ended", "", 0)

        await eventually(refused)
    finally:
        task.cancel()
        await publisher.close()
        await nats.close()
