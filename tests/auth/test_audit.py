"""The record of what was done and refused: complete, append-only, and whoever changes it is found out."""

import asyncio
import json
import os
import random
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import httpx
import jwt
import pytest
from nats.aio.client import Client as NatsClient

from deploy.local.mesh import Mesh
from libs import db, identity
from libs.denials import CALLERS, KINDS, WINDOW_SECONDS, Denials
from libs.errors import Forbidden
from libs.identity import Identity
from services.auth import audit
from services.auth.audit import GENESIS, Head
from tests.auth.conftest import PASSWORD, Find, MakeUser
from tests.conftest import AuthStub, Metadata, bearer, eventually
from tests.content.items import Caller
from thmnayah.auth.v1.audit_pb2 import AuditEvent, ListAuditEventsRequest, VerifyAuditEventsRequest
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, LoginRequest
from thmnayah.content.v1.content_pb2 import (
    DeleteContentRequest,
    PublishContentRequest,
    UndeleteContentRequest,
    UnpublishContentRequest,
)

if TYPE_CHECKING:
    from thmnayah.auth.v1.audit_pb2_grpc import AuditServiceAsyncStub

OPERATIONS = int(os.environ.get("AUDIT_OPERATIONS", "300"))

# What is on record.


async def test_a_sign_in_is_on_record_with_who_and_from_where(
    rest: httpx.AsyncClient, make_user: MakeUser, find: Find
) -> None:
    user = await make_user()
    headers = {"x-request-id": f"request-{user.id}", "user-agent": "Test/1", "x-forwarded-for": "198.51.100.7"}

    await rest.post("/v1/auth:login", json={"email": user.email, "password": PASSWORD}, headers=headers)

    (event,) = await find(f"actor = {user.id}")
    assert (event.action, event.outcome, event.target) == ("session.started", AuditEvent.OK, f"user/{user.id}")
    assert event.request_id == f"request-{user.id}"
    assert event.user_agent == "Test/1"
    assert event.client_address not in ("", "198.51.100.7")  # the edge's word, not the caller's
    assert event.session


async def test_a_sign_in_that_fails_is_on_record_without_what_was_typed(
    auth: AuthStub, make_user: MakeUser, find: Find, auth_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    user = await make_user()
    typed = f"{secrets.token_hex(8)}@example.com"

    for email in (user.email, typed):
        with pytest.raises(grpc.aio.AioRpcError):
            await auth.Login(
                LoginRequest(email=email, password="Wr0ng-password"),
                metadata=(("x-request-id", f"failed-{user.id}"),),
                timeout=10,
            )

    failed = await find(f"request_id = failed-{user.id}")
    assert [(each.action, each.outcome, each.actor) for each in failed] == [
        ("session.started", AuditEvent.FAILED, "")
    ] * 2
    assert {each.target for each in failed} == {"", f"user/{user.id}"}
    assert not await auth_db.fetchval(
        "SELECT count(*) FROM audit_events WHERE position($1 IN audit_events::text) > 0", typed
    )


async def test_an_account_that_is_made_is_on_record_and_one_that_is_not_is_not(
    auth: AuthStub, admin: Metadata, make_user: MakeUser, find: Find
) -> None:
    user = await make_user(roles=("editor", "reader"))
    again = CreateUserRequest(email=user.email, password=PASSWORD, roles=["admin"])
    with pytest.raises(grpc.aio.AioRpcError):
        await auth.CreateUser(again, metadata=admin, timeout=10)

    (event,) = await find(f'target = "user/{user.id}" AND action = user.created')

    assert event.details == {"roles": "editor reader"}
    assert event.actor


async def test_what_readers_see_changes_on_record_with_who_did_it(
    edge: grpc.aio.Channel, sign_in: Callable[[str], Awaitable[str]], find: Find, word: str
) -> None:
    editor = Caller(edge, bearer(await sign_in("editor")))
    item = await editor.create(title={"en": word})
    await editor.content.PublishContent(PublishContentRequest(id=item.id), metadata=editor.metadata, timeout=10)
    await editor.content.UnpublishContent(UnpublishContentRequest(id=item.id), metadata=editor.metadata, timeout=10)
    await editor.content.DeleteContent(DeleteContentRequest(id=item.id), metadata=editor.metadata, timeout=10)
    await editor.content.UndeleteContent(UndeleteContentRequest(id=item.id), metadata=editor.metadata, timeout=10)

    found = await eventually(lambda: find(f'target = "content/{item.id}"'), until=lambda events: len(events) >= 4)

    (actor,) = {each.actor for each in await find(f"session = {found[0].session} AND action = session.started")}
    assert [each.action for each in found] == [
        *("content.undeleted", "content.deleted", "content.unpublished", "content.published")
    ]
    assert {each.actor for each in found} == {actor}
    assert all(each.request_id for each in found)
    assert not any(word in str(each) for each in found)


async def test_an_event_that_comes_again_is_on_record_once(
    edge: grpc.aio.Channel, editor: Metadata, find: Find, mesh: Mesh, content_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    caller = Caller(edge, editor)
    item = await caller.create(title={"en": "Once"})
    await caller.content.PublishContent(PublishContentRequest(id=item.id), metadata=editor, timeout=10)
    (first,) = await eventually(lambda: find(f'target = "content/{item.id}"'))
    row = await content_db.fetchrow("SELECT subject, headers, payload FROM outbox WHERE id = $1", first.id)
    assert row is not None
    client = NatsClient()
    await client.connect(mesh.nats_url())
    await client.jetstream().publish(row["subject"], row["payload"], headers=json.loads(row["headers"]))
    await client.close()

    # What is published after it is read after it.
    await caller.content.UnpublishContent(UnpublishContentRequest(id=item.id), metadata=editor, timeout=10)
    found = await eventually(lambda: find(f'target = "content/{item.id}"'), until=lambda events: len(events) >= 2)

    assert [each.action for each in found] == ["content.unpublished", "content.published"]


async def test_a_denial_is_on_record_whichever_service_refuses(
    edge: grpc.aio.Channel, auth: AuthStub, sign_in: Callable[[str], Awaitable[str]], find: Find
) -> None:
    reader = bearer(await sign_in("reader"))
    caller = Caller(edge, reader)
    with pytest.raises(grpc.aio.AioRpcError):
        await caller.create(title={"en": "Refused"})
    request = CreateUserRequest(email="x@example.com", password=PASSWORD, roles=["admin"])
    with pytest.raises(grpc.aio.AioRpcError):
        await auth.CreateUser(request, metadata=reader, timeout=10)
    user = _claims(reader)["sub"]

    found = await eventually(
        lambda: find(f"actor = {user} AND outcome = DENIED"), until=lambda events: len(events) >= 2
    )

    assert {(each.action, each.target, each.details["permission"]) for each in found} == {
        ("access.denied", "rpc/thmnayah.content.v1.ContentService/CreateContent", "content.create"),
        ("access.denied", "rpc/thmnayah.auth.v1.AuthService/CreateUser", "users.create"),
    }
    assert all(each.client_address for each in found)


def _claims(metadata: Metadata) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(metadata[0][1].split()[1], options={"verify_signature": False})
    return claims


def test_denials_in_a_loop_are_told_once_a_minute_with_their_number() -> None:
    denials = Denials(NatsClient())
    refused = Forbidden("PERMISSION_DENIED", "no", "لا", metadata={"permission": "x.y"})
    identity.caller.set(Identity(user_id="u", session_id="s"))

    denials.note(refused, "/a")
    (first,) = denials.due(1000.0)
    for _ in range(500):
        denials.note(refused, "/a")
    early = denials.due(1000.0 + WINDOW_SECONDS - 1)
    (later,) = denials.due(1000.0 + WINDOW_SECONDS)

    assert (first.actor, first.count, first.permission, early, later.count) == ("u", 1, "x.y", [], 500)


def test_callers_and_kinds_without_end_fill_no_memory_and_none_goes_uncounted() -> None:
    denials = Denials(NatsClient())
    refused = Forbidden("PERMISSION_DENIED", "no", "لا")
    for number in range(CALLERS + 50):
        identity.caller.set(Identity(user_id=str(number)))
        denials.note(refused, "/a")
    identity.caller.set(Identity(user_id="0"))
    for number in range(KINDS + 50):
        denials.note(refused, f"/{number}")

    told = denials.due(0.0)

    assert len(told) <= CALLERS + 1 + KINDS + 1
    assert sum(each.count for each in told) == CALLERS + 50 + KINDS + 50


# Everything, and nothing twice.


async def test_random_operations_have_exactly_their_events(
    auth: AuthStub, admin: Metadata, make_user: MakeUser, find: Find
) -> None:
    """300 of them; AUDIT_OPERATIONS=10000 for as many as R-AUD-1 asks for."""
    users = [await make_user() for _ in range(3)]
    marker = f"random-{secrets.token_hex(6)}"
    metadata = (("x-request-id", marker),)
    expected: Counter[tuple[str, int]] = Counter()
    chosen = random.Random(marker)

    async def operate() -> None:
        user = chosen.choice(users)
        kind = chosen.choice(["sign in", "wrong password", "unknown address", "create", "create again"])
        email = f"{secrets.token_hex(8)}@example.com" if kind in ("unknown address", "create") else user.email
        password = "Wr0ng-password" if kind == "wrong password" else PASSWORD
        try:
            if kind.startswith("create"):
                request = CreateUserRequest(email=email, password=password, roles=["reader"])
                await auth.CreateUser(request, metadata=(*admin, *metadata), timeout=30)
            else:
                await auth.Login(LoginRequest(email=email, password=password), metadata=metadata, timeout=30)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                expected["session.started", AuditEvent.FAILED] += 1
            elif error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:  # too many wrong ones: nobody looks at it
                assert error.code() == grpc.StatusCode.ALREADY_EXISTS, error
        else:
            expected["user.created" if kind == "create" else "session.started", AuditEvent.OK] += 1

    for _ in range(OPERATIONS // 4):
        await asyncio.gather(*(operate() for _ in range(4)))

    found = await find(f"request_id = {marker}", page_size=97)
    assert Counter((each.action, each.outcome) for each in found) == expected
    assert len({each.id for each in found}) == len(found)
    assert [each.event_time.ToNanoseconds() for each in found] == sorted(
        (each.event_time.ToNanoseconds() for each in found), reverse=True
    )


async def test_a_filter_finds_by_time_and_names_what_it_does_not_know(
    records: "AuditServiceAsyncStub", admin: Metadata, make_user: MakeUser, find: Find
) -> None:
    user = await make_user()
    (event,) = await find(f'target = "user/{user.id}"')
    moment = event.event_time.ToJsonString()

    assert await find(f'target = "user/{user.id}" AND event_time > "{moment}"') == []
    assert len(await find(f'target = "user/{user.id}" AND eventTime <= "{moment}"')) == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await records.ListAuditEvents(ListAuditEventsRequest(filter="password = x"), metadata=admin, timeout=10)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "password" in str(caught.value.details())


# Nobody changes it.


@pytest.mark.parametrize("table", ["audit_events", "audit_links"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}"], ids=lambda each: each.split()[0]
)
async def test_the_services_role_can_add_and_change_nothing(
    auth_db: "asyncpg.Connection[asyncpg.Record]", table: str, statement: str
) -> None:
    column = "actor" if table == "audit_events" else "hash"
    sql = statement.format(table, column, column)

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await auth_db.execute(sql)
    # Nor does it help to be allowed to.
    transaction = auth_db.transaction()
    await transaction.start()
    await auth_db.execute(f"GRANT ALL ON {table} TO CURRENT_USER")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await auth_db.execute(sql)
    await transaction.rollback()


# Whoever changes it all the same is found out.


@pytest.fixture
async def chain(mesh: Mesh, word: str) -> AsyncIterator[db.Pool]:
    """A record of its own, of a hundred linked events, whose owner may do everything."""
    pool = await db.connect(f"{mesh.database_url('auth')}?search_path={word}", service=word, size=2)
    await pool.execute(f"CREATE SCHEMA {word}")
    for table in ("audit_events", "audit_links", "audit_unlinked"):
        await pool.execute(f"CREATE TABLE {table} (LIKE public.{table} INCLUDING ALL)")
    await fill(pool, 100)
    yield pool
    await pool.execute(f"DROP SCHEMA {word} CASCADE")
    await pool.close()


async def fill(pool: db.Pool, count: int) -> None:
    """Add so many events, and link them."""
    async with pool.acquire() as conn, conn.transaction():
        for number in range(count):
            await audit.record(conn, "user.created", target=f"user/{number}", details={"text": 'مرحبا «x» "y"'})
    await link_all(pool)


async def link_all(pool: db.Pool) -> None:
    async def step() -> int:
        async with pool.acquire() as conn, conn.transaction():
            await audit.link(conn)
            return int(await conn.fetchval("SELECT count(*) FROM audit_unlinked"))

    # Another chain's linker may hold the lock for a moment.
    await eventually(step, until=lambda left: left == 0, seconds=30)


async def verified(pool: db.Pool, *, noted: Head | None = None, limit: int = 1000) -> tuple[Head, str]:
    """Where the chain ends or breaks, page by page."""
    head, problem, more = Head(), "", True
    async with pool.acquire() as conn:
        while more:
            head, problem, more = await audit.verify(conn, head, noted=noted or Head(), limit=limit)
    return head, problem


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
async def test_a_chain_that_nobody_touched_holds(chain: db.Pool, limit: int) -> None:
    head, problem = await verified(chain, limit=limit)

    assert (head.position, problem) == (100, "")


CHANGES = {
    "an actor": ("UPDATE audit_events SET actor = 'actoR' WHERE target = 'user/41'", r"link 42: .* changed"),
    "a detail": (
        """UPDATE audit_events SET details = '{"text": "مرحبا «x» \\"z\\""}' WHERE target = 'user/41'""",
        r"link 42: .* changed",
    ),
    "a microsecond": (
        "UPDATE audit_events SET event_time = event_time + interval '1 microsecond' WHERE target = 'user/41'",
        r"link 42: .* changed",
    ),
    "a bit of a hash": (
        "UPDATE audit_links SET hash = set_bit(hash, 3, 1 - get_bit(hash, 3)) WHERE position = 42",
        r"link 42: .* changed",
    ),
    "an event gone": ("DELETE FROM audit_events WHERE target = 'user/41'", r"link 42: its event .* is gone"),
    "a link gone": ("DELETE FROM audit_links WHERE position = 42", "link 42 is gone"),
    "the first link gone": ("DELETE FROM audit_links WHERE position = 1", "link 1 is gone"),
    "an event outside the chain": ("DELETE FROM audit_links WHERE position = 100", "1 events are in no link"),
    "two events exchanged": (
        """
        WITH old AS (SELECT position, event_id FROM audit_links WHERE position IN (41, 42)),
        gone AS (DELETE FROM audit_links WHERE position IN (41, 42) RETURNING position, hash)
        INSERT INTO audit_links SELECT 1000 + gone.position, old.event_id, gone.hash
        FROM gone JOIN old ON old.position = 83 - gone.position
        """,
        "link 41 is gone",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_is_found_where_it_was_made(chain: db.Pool, name: str) -> None:
    statement, told = CHANGES[name]
    await chain.execute(statement)

    head, problem = await verified(chain)

    assert re.match(told, problem), problem
    assert head.position in (0, 40, 41, 99)


async def test_a_chain_made_anew_or_cut_short_is_found_by_a_head_that_was_noted(chain: db.Pool) -> None:
    noted, _ = await verified(chain)
    assert await verified(chain, noted=noted) == (noted, "")
    await fill(chain, 5)
    assert (await verified(chain, noted=noted))[1] == ""

    await chain.execute("UPDATE audit_events SET actor = 'another' WHERE target = 'user/50'")
    await chain.execute("INSERT INTO audit_unlinked (event_id) SELECT event_id FROM audit_links ORDER BY position")
    await chain.execute("DELETE FROM audit_links")
    await link_all(chain)

    assert (await verified(chain))[1] == ""  # by itself it is in order
    assert (await verified(chain, noted=noted))[1] == "link 100 is another"
    await chain.execute("DELETE FROM audit_events WHERE id IN (SELECT event_id FROM audit_links WHERE position > 90)")
    await chain.execute("DELETE FROM audit_links WHERE position > 90")
    assert (await verified(chain))[1] == ""
    assert (await verified(chain, noted=noted))[1] == "link 100 is gone"


async def test_writers_at_once_leave_one_chain_and_wait_for_nobody(chain: db.Pool, mesh: Mesh, word: str) -> None:
    identity.caller.set(Identity(user_id="u"))
    pool = await db.connect(f"{mesh.database_url('auth')}?search_path={word}", service=word, size=6)
    async with pool.acquire() as open_conn:
        waiting = open_conn.transaction()
        await waiting.start()
        await audit.record(open_conn, "slow.started")  # not committed before all others are linked

        async def write() -> None:
            async with db.transaction(pool) as conn:
                await audit.record(conn, "quick.started")

        await asyncio.gather(*(write() for _ in range(40)))
        await link_all(chain)
        head, problem = await verified(chain)
        assert (head.position, problem) == (140, "")
        await waiting.commit()
    await link_all(chain)
    await pool.close()

    head, problem = await verified(chain)

    assert (head.position, problem) == (141, "")
    assert (
        await chain.fetchval("SELECT action FROM audit_events JOIN audit_links ON event_id = id WHERE position = 141")
        == "slow.started"
    )


async def test_the_running_record_is_linked_and_verified_over_the_api(
    records: "AuditServiceAsyncStub", admin: Metadata, make_user: MakeUser, find: Find
) -> None:
    user = await make_user()
    (event,) = await eventually(
        lambda: find(f'target = "user/{user.id}"'), until=lambda events: bool(events[0].position)
    )

    head, token = "", ""
    while True:
        request = VerifyAuditEventsRequest(page_token=token, head=f"{event.position}:{event.hash}")
        page = await records.VerifyAuditEvents(request, metadata=admin, timeout=20)
        assert page.problem == ""
        head, token = page.head, page.next_page_token
        if not token:
            break
    wrong = VerifyAuditEventsRequest(head=f"{event.position}:{'0' * 64}")

    assert Head.parse(head).position >= event.position
    assert (await records.VerifyAuditEvents(wrong, metadata=admin, timeout=20)).problem
    assert Head.parse("") == Head(0, GENESIS)
