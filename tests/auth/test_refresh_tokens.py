"""RefreshTokens and Logout: each token works once, and a session ends as a whole."""

import asyncio
import hashlib
from datetime import timedelta

import asyncpg
import grpc
import jwt
import pytest

from tests.auth.conftest import PASSWORD, MakeUser
from tests.conftest import AuthStub, bearer
from tests.content.items import refused
from thmnayah.auth.v1.auth_pb2 import GetMeRequest, LoginRequest, LogoutRequest, RefreshTokensRequest, Tokens
from thmnayah.auth.v1.sessions_pb2 import SessionReused


async def sign_in(auth: AuthStub, make_user: MakeUser) -> Tokens:
    user = await make_user()
    return await auth.Login(LoginRequest(email=user.email, password=PASSWORD), timeout=10)


async def refresh(auth: AuthStub, token: str) -> Tokens:
    return await auth.RefreshTokens(RefreshTokensRequest(refresh_token=token), timeout=10)


async def logout(auth: AuthStub, token: str) -> None:
    await auth.Logout(LogoutRequest(refresh_token=token), timeout=10)


async def let_grace_pass(auth_db: "asyncpg.Connection[asyncpg.Record]", token: str) -> None:
    """As if a used token had been used 11 s ago."""
    digest = hashlib.sha256(token.encode()).digest()
    found = await auth_db.execute(
        "UPDATE refresh_tokens SET used_time = used_time - interval '11 s' WHERE hash = $1", digest
    )
    assert found == "UPDATE 1"


async def ended(auth: AuthStub, token: str) -> bool:
    """Whether a refresh token is refused."""
    refusal = await refused(refresh(auth, token))
    return (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID")


async def test_a_refresh_token_is_traded_for_new_tokens_of_the_session(auth: AuthStub, make_user: MakeUser) -> None:
    first = await sign_in(auth, make_user)

    second = await refresh(auth, first.refresh_token)
    third = await refresh(auth, second.refresh_token)

    claims = [jwt.decode(tokens.access_token, options={"verify_signature": False}) for tokens in (first, second, third)]
    assert len({each["sid"] for each in claims}) == len({each["sub"] for each in claims}) == 1
    assert len({each["jti"] for each in claims}) == 3
    assert len({tokens.refresh_token for tokens in (first, second, third)}) == 3
    assert await auth.GetMe(GetMeRequest(), metadata=bearer(third.access_token), timeout=10)


async def test_using_a_token_again_ends_its_session(
    auth: AuthStub, make_user: MakeUser, auth_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    first = await sign_in(auth, make_user)
    second = await refresh(auth, first.refresh_token)
    await let_grace_pass(auth_db, first.refresh_token)

    assert await ended(auth, first.refresh_token)

    for token in (second.refresh_token, first.refresh_token, second.refresh_token):
        assert await ended(auth, token)


async def test_using_a_token_again_within_10_s_gives_the_same_successor(auth: AuthStub, make_user: MakeUser) -> None:
    first = await sign_in(auth, make_user)
    second = await refresh(auth, first.refresh_token)

    again = await refresh(auth, first.refresh_token)

    assert again.refresh_token == second.refresh_token
    assert (await refresh(auth, again.refresh_token)).refresh_token not in (first.refresh_token, again.refresh_token)


async def test_an_ended_session_has_no_grace(auth: AuthStub, make_user: MakeUser) -> None:
    first = await sign_in(auth, make_user)
    second = await refresh(auth, first.refresh_token)
    await logout(auth, second.refresh_token)

    assert await ended(auth, first.refresh_token)


async def test_the_use_of_a_stolen_token_is_announced(
    auth: AuthStub, make_user: MakeUser, auth_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    first = await sign_in(auth, make_user)
    await refresh(auth, first.refresh_token)
    await let_grace_pass(auth_db, first.refresh_token)
    session_id = jwt.decode(first.access_token, options={"verify_signature": False})["sid"]

    assert await ended(auth, first.refresh_token)

    (payload,) = [
        row["payload"]
        for row in await auth_db.fetch(
            "SELECT payload FROM outbox WHERE subject = 'session.reused' AND headers->>'ce-subject' = $1", session_id
        )
    ]
    assert SessionReused.FromString(payload).session.id == session_id


async def test_a_session_ends_for_good_however_it_is_used(
    auth: AuthStub, make_user: MakeUser, auth_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    first = await sign_in(auth, make_user)
    session_id = jwt.decode(first.access_token, options={"verify_signature": False})["sid"]
    final = await auth_db.fetchval("SELECT final_time - create_time FROM sessions WHERE id = $1", session_id)
    assert final == timedelta(days=30)
    soon = await auth_db.fetchval(
        "UPDATE sessions SET final_time = now() + interval '1 hour' WHERE id = $1 RETURNING final_time", session_id
    )

    await refresh(auth, first.refresh_token)

    rows = await auth_db.fetch("SELECT expire_time FROM refresh_tokens WHERE session_id = $1", session_id)
    assert soon in [row["expire_time"] for row in rows]
    assert await auth_db.fetchval("SELECT expire_time FROM sessions WHERE id = $1", session_id) == soon


async def test_the_end_of_a_session_is_not_the_end_of_another(
    auth: AuthStub, make_user: MakeUser, auth_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    user = await make_user()
    request = LoginRequest(email=user.email, password=PASSWORD)
    stolen, other = await auth.Login(request, timeout=10), await auth.Login(request, timeout=10)
    await refresh(auth, stolen.refresh_token)
    await let_grace_pass(auth_db, stolen.refresh_token)

    assert await ended(auth, stolen.refresh_token)

    assert await refresh(auth, other.refresh_token)


@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=pytest.mark.fault)])
async def test_50_uses_at_once_have_one_successor(
    auth: AuthStub, make_user: MakeUser, auth_db: "asyncpg.Connection[asyncpg.Record]", rounds: int
) -> None:
    tokens = await sign_in(auth, make_user)
    for number in range(rounds):
        results = await asyncio.gather(*(refresh(auth, tokens.refresh_token) for _ in range(50)))

        (successor,) = {result.refresh_token for result in results}
        session_id = jwt.decode(tokens.access_token, options={"verify_signature": False})["sid"]
        assert (
            await auth_db.fetchval("SELECT count(*) FROM refresh_tokens WHERE session_id = $1", session_id)
            == number + 2
        )
        tokens = next(result for result in results if result.refresh_token == successor)


async def test_refresh_and_logout_at_once_leave_no_session(auth: AuthStub, make_user: MakeUser) -> None:
    for _ in range(10):
        tokens = await sign_in(auth, make_user)

        result, _ = await asyncio.gather(
            refresh(auth, tokens.refresh_token), logout(auth, tokens.refresh_token), return_exceptions=True
        )

        assert await ended(auth, result.refresh_token if isinstance(result, Tokens) else tokens.refresh_token)


async def test_logout_ends_the_session_by_any_of_its_tokens(auth: AuthStub, make_user: MakeUser) -> None:
    for which in (0, 1):
        tokens = [await sign_in(auth, make_user)]
        tokens.append(await refresh(auth, tokens[0].refresh_token))

        await logout(auth, tokens[which].refresh_token)

        assert await ended(auth, tokens[1].refresh_token)
        await logout(auth, tokens[which].refresh_token)


@pytest.mark.parametrize("token", ["x", "é", "A" * 43, "' OR 1=1 --", "x" * 200])
async def test_an_unknown_token_is_refused_and_ends_nothing(auth: AuthStub, token: str) -> None:
    assert await ended(auth, token)
    await logout(auth, token)


async def test_an_access_token_does_not_refresh(auth: AuthStub, make_user: MakeUser) -> None:
    tokens = await sign_in(auth, make_user)

    refusal = await refused(refresh(auth, tokens.access_token))

    assert refusal.code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED}
    me = await refused(auth.GetMe(GetMeRequest(), metadata=bearer(tokens.refresh_token), timeout=10))
    assert me.code == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("token", ["", "x" * 201])
async def test_what_is_no_token_is_refused(auth: AuthStub, token: str) -> None:
    refusal = await refused(refresh(auth, token))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == ["refreshToken"]


async def test_tokens_are_stored_as_their_hash(
    auth: AuthStub, make_user: MakeUser, auth_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    tokens = await sign_in(auth, make_user)

    assert len(tokens.refresh_token) >= 43  # 256 random bits in base64
    digest = hashlib.sha256(tokens.refresh_token.encode()).digest()
    assert await auth_db.fetchval("SELECT count(*) FROM refresh_tokens WHERE hash = $1", digest) == 1


@pytest.mark.parametrize("age", [timedelta(seconds=1), timedelta(days=30)])
async def test_an_expired_token_is_refused(
    auth: AuthStub, make_user: MakeUser, auth_db: "asyncpg.Connection[asyncpg.Record]", age: timedelta
) -> None:
    tokens = await sign_in(auth, make_user)
    digest = hashlib.sha256(tokens.refresh_token.encode()).digest()
    await auth_db.execute("UPDATE refresh_tokens SET expire_time = now() - $2::interval WHERE hash = $1", digest, age)

    assert await ended(auth, tokens.refresh_token)


async def test_a_role_that_was_taken_away_is_not_in_the_next_token(
    auth: AuthStub, make_user: MakeUser, auth_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    user = await make_user(roles=("admin",))
    tokens = await auth.Login(LoginRequest(email=user.email, password=PASSWORD), timeout=10)
    await auth_db.execute("UPDATE users SET roles = '{reader}' WHERE id = $1", user.id)

    renewed = await refresh(auth, tokens.refresh_token)

    claims = jwt.decode(renewed.access_token, options={"verify_signature": False})
    assert claims["roles"] == ["reader"]


async def test_a_deleted_user_refreshes_nothing_and_is_nobody(
    auth: AuthStub, make_user: MakeUser, auth_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    user = await make_user()
    tokens = await auth.Login(LoginRequest(email=user.email, password=PASSWORD), timeout=10)
    await auth_db.execute("DELETE FROM users WHERE id = $1", user.id)

    assert await ended(auth, tokens.refresh_token)
    me = await refused(auth.GetMe(GetMeRequest(), metadata=bearer(tokens.access_token), timeout=10))
    assert me.code == grpc.StatusCode.UNAUTHENTICATED
