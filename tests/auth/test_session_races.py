"""Refresh, revocation and a change of the password at once, on real PostgreSQL: nothing is minted after the end."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.local.mesh import Mesh
from libs import db
from libs.errors import Unauthenticated
from services.auth import sessions, users
from services.auth.sessions import Issued, Terms
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest

TERMS = Terms(timedelta(minutes=30), timedelta(days=7), timedelta(days=30), secrets.token_bytes(32))

# What each of several callers does, all at once; the number is the turns it waits before.
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["refresh", "refresh", "sign_in", "log_out", "end_all", "new_password"]), st.integers(0, 4)
    ),
    min_size=2,
    max_size=6,
)


@pytest.fixture(scope="session")
async def pool(mesh: Mesh) -> AsyncIterator[db.Pool]:
    pool = await db.connect(mesh.database_url("auth"), service="tests", size=6)
    yield pool
    await pool.close()


@dataclass
class Race:
    """One user, with a session that all callers know."""

    pool: db.Pool
    user_id: str
    issued: list[Issued]
    ended: set[str] = field(default_factory=set)
    """What had ended when its transaction had committed: ids of sessions, and "password"."""

    async def refresh(self) -> None:
        presented = self.issued[-1]
        known = set(self.ended)
        try:
            async with db.transaction(self.pool) as conn:
                successor = await sessions.rotate(conn, presented.refresh_token, TERMS)
        except Unauthenticated:
            return
        assert successor is not None, "within the grace nobody is a thief"
        assert successor.session_id not in known, "minted after the end"
        self.issued.append(successor)

    async def sign_in(self) -> None:
        changed = "password" in self.ended
        async with db.transaction(self.pool) as conn:
            if not await users.hold(conn, self.user_id, "old"):
                return
            started = await sessions.start(conn, self.user_id, TERMS)
        assert not changed, "signed in with a password that was changed before"
        self.issued.append(started)

    async def log_out(self) -> None:
        session_id = self.issued[0].session_id
        async with db.transaction(self.pool) as conn:
            await sessions.end(conn, session_id)
        self.ended.add(session_id)

    async def end_all(self) -> None:
        before = {each.session_id for each in self.issued}
        async with db.transaction(self.pool) as conn:
            await sessions.end_all(conn, self.user_id)
        self.ended.update(before)

    async def new_password(self) -> None:
        before = {each.session_id for each in self.issued}
        async with db.transaction(self.pool) as conn:
            await users.set_password_hash(conn, self.user_id, "new")
            await sessions.end_all(conn, self.user_id)
        self.ended.update(before, ["password"])

    async def act(self, name: str, turns: int) -> None:
        for _ in range(turns):
            await db.ping(self.pool)
        await getattr(self, name)()

    async def check(self) -> None:
        """One branch a session, and no token of an ended one works."""
        async with db.connection(self.pool) as conn:
            rows = await conn.fetch(
                """
                SELECT s.id::text, s.end_time IS NOT NULL AS ended,
                       count(*) FILTER (WHERE t.used_time IS NULL) AS unused,
                       EXISTS (SELECT FROM revocations r WHERE r.session_id = s.id AND r.expire_time > now()) AS revoked
                FROM sessions s JOIN refresh_tokens t ON t.session_id = s.id
                WHERE s.user_id = $1
                GROUP BY s.id
                """,
                self.user_id,
            )
        for row in rows:
            assert row["unused"] == 1, "two branches of one session"
            assert row["revoked"] == row["ended"]
        live = {row["id"] for row in rows if not row["ended"]}
        assert not live & self.ended
        if "password" in self.ended:
            assert not live, "a session with the old password outlived it"
        for each in self.issued:
            if each.session_id not in live:
                with pytest.raises(Unauthenticated):
                    async with db.transaction(self.pool) as conn:
                        await sessions.rotate(conn, each.refresh_token, TERMS)


async def play(pool: db.Pool, actions: list[tuple[str, int]]) -> None:
    async with db.transaction(pool) as conn:
        request = CreateUserRequest(email=f"race-{secrets.token_hex(8)}@example.com", roles=["reader"])
        user = await users.create(conn, request, password_hash="old")
        first = await sessions.start(conn, user.id, TERMS)
    race = Race(pool, user.id, [first])
    await asyncio.gather(*(race.act(*each) for each in actions))
    await race.check()


SETTINGS = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@settings(max_examples=60, **SETTINGS)  # type: ignore[arg-type]  # each of its own type
@given(actions=ACTIONS)
async def test_nothing_is_minted_after_the_end(pool: db.Pool, actions: list[tuple[str, int]]) -> None:
    await play(pool, actions)


@pytest.mark.fault
@settings(max_examples=2000, **SETTINGS)  # type: ignore[arg-type]  # each of its own type
@given(actions=ACTIONS)
async def test_nothing_is_minted_after_the_end_in_2000_interleavings(
    pool: db.Pool, actions: list[tuple[str, int]]
) -> None:
    await play(pool, actions)
