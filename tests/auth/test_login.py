"""Login: who gets in, what strangers learn, and what a busy service answers."""

import asyncio
import statistics
import time

import asyncpg
import grpc
import httpx
import jwt
import pytest
from argon2 import PasswordHasher

from tests.auth.conftest import PASSWORD, MakeUser
from tests.conftest import AuthStub, bearer
from tests.content.items import refusal, refused
from thmnayah.auth.v1.auth_pb2 import GetMeRequest, LoginRequest, Tokens


async def login(auth: AuthStub, email: str, password: str) -> Tokens:
    return await auth.Login(LoginRequest(email=email, password=password), timeout=10)


async def test_the_right_password_gives_tokens_of_the_user(auth: AuthStub, make_user: MakeUser) -> None:
    user = await make_user(roles=("editor", "reader"))

    tokens = await login(auth, user.email, PASSWORD)

    assert tokens.token_type == "Bearer"
    assert tokens.expires_in == 1800
    claims = jwt.decode(tokens.access_token, options={"verify_signature": False})
    assert (claims["sub"], claims["roles"]) == (user.id, ["editor", "reader"])
    assert claims["exp"] - claims["iat"] == tokens.expires_in
    assert abs(claims["iat"] - time.time()) < 30
    assert (await auth.GetMe(GetMeRequest(), metadata=bearer(tokens.access_token), timeout=10)).id == user.id


async def test_every_sign_in_is_a_session_of_its_own(auth: AuthStub, make_user: MakeUser) -> None:
    user = await make_user()

    first, second = await login(auth, user.email, PASSWORD), await login(auth, user.email, PASSWORD)

    sessions = {
        jwt.decode(tokens.access_token, options={"verify_signature": False})["sid"] for tokens in (first, second)
    }
    assert len(sessions) == 2
    assert first.refresh_token != second.refresh_token


async def test_an_unknown_user_and_a_wrong_password_are_answered_alike(
    auth: AuthStub, make_user: MakeUser, word: str
) -> None:
    user = await make_user()

    wrong = await refused(login(auth, user.email, "Wrong-password-1"))
    unknown = await refused(login(auth, f"{word}@example.com", "Wrong-password-1"))

    assert wrong == unknown
    assert (wrong.code, wrong.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID")


async def test_over_rest_they_are_answered_alike_too(rest: httpx.AsyncClient, make_user: MakeUser, word: str) -> None:
    user = await make_user()
    answers = []
    for email in (user.email, f"{word}@example.com"):
        answer = await rest.post(
            "/v1/auth:login", json={"email": email, "password": "Wrong-password-1"}, headers={"x-request-id": word}
        )
        headers = {
            name: value
            for name, value in answer.headers.items()
            if name not in ("date", "x-request-id", "x-envoy-upstream-service-time")
        }
        answers.append((answer.status_code, headers, answer.text))

    assert answers[0] == answers[1]
    assert answers[0][0] == 401


async def test_an_unknown_user_takes_as_long_as_a_wrong_password(
    auth: AuthStub, make_user: MakeUser, word: str
) -> None:
    seconds: dict[str, list[float]] = {"known": [], "unknown": []}

    for number in range(4):
        known = (await make_user()).email
        for _ in range(4):  # after one more, both would be told to wait
            for email, taken in zip((known, f"{word}-{number}@example.com"), seconds.values(), strict=True):
                began = time.perf_counter()
                assert (await refused(login(auth, email, "Wrong-password-1"))).reason == "CREDENTIALS_INVALID"
                taken.append(time.perf_counter() - began)

    known_seconds, unknown_seconds = (statistics.median(taken) for taken in seconds.values())
    # Without a hash of its own an unknown user would be answered many times as fast.
    assert 0.5 < known_seconds / unknown_seconds < 2


async def test_an_address_is_read_without_regard_to_case(auth: AuthStub, make_user: MakeUser, word: str) -> None:
    user = await make_user(email=f"Ahmed.{word}@Example.COM")

    assert user.email == f"Ahmed.{word}@Example.COM"
    for email in (user.email, user.email.lower(), user.email.upper()):
        assert await login(auth, email, PASSWORD)


@pytest.mark.parametrize(
    ("made_with", "typed"),
    [
        ("Ｐassw０rd-wide", "Passw0rd-wide"),
        ("Caf\u00e9-au-lait-1", "Cafe\u0301-au-lait-1"),
        ("Cafe\u0301-au-lait-1", "Caf\u00e9-au-lait-1"),
        ("Aكلمة-سر-طويلة-١", "Aكلمة-سر-طويلة-١"),
        ("Aلا\u0653خر-١٢٣٤", "Aلآخر-١٢٣٤"),
        ("Spaces are kept 1 ", "Spaces are kept 1 "),
        ("A1" + "😀" * 126, "A1" + "😀" * 126),
    ],
)
async def test_a_password_is_the_same_however_a_keyboard_composes_it(
    auth: AuthStub, make_user: MakeUser, made_with: str, typed: str
) -> None:
    user = await make_user(password=made_with)

    assert await login(auth, user.email, typed)


@pytest.mark.parametrize(
    "typed", [PASSWORD.lower(), PASSWORD + " ", " " + PASSWORD, PASSWORD[:-1], PASSWORD + PASSWORD]
)
async def test_a_password_is_compared_exactly(auth: AuthStub, make_user: MakeUser, typed: str) -> None:
    user = await make_user()

    assert (await refused(login(auth, user.email, typed))).reason == "CREDENTIALS_INVALID"


@pytest.mark.parametrize(
    ("email", "password", "violation"),
    [
        ("", "x", "email"),
        ("no address", "x", "email"),
        ("a@example.com", "", "password"),
        ("a@example.com", "x" * 129, "password"),
        ("a@example.com", "😀" * 128 + "x", "password"),
        ("a" * 250 + "@example.com", "x", "email"),
    ],
)
async def test_a_request_that_breaks_a_rule_is_refused_before_anything_is_hashed(
    auth: AuthStub, email: str, password: str, violation: str
) -> None:
    refusal = await refused(login(auth, email, password))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == [violation]


async def test_a_huge_password_is_turned_away_at_once(rest: httpx.AsyncClient) -> None:
    began = time.perf_counter()
    try:
        answer = await rest.post("/v1/auth:login", json={"email": "a@example.com", "password": "x" * 10_000_000})
    except httpx.TransportError:
        pass  # the edge hung up before all of it was sent
    else:
        assert answer.status_code in (400, 413)
    assert time.perf_counter() - began < 2


async def test_an_authorization_header_is_not_looked_at(auth: AuthStub, make_user: MakeUser) -> None:
    user = await make_user()

    request = LoginRequest(email=user.email, password=PASSWORD)
    for value in ("Bearer nonsense", "Basic YTpi", ""):
        assert await auth.Login(request, metadata=(("authorization", value),), timeout=10)


async def test_a_password_is_stored_as_argon2id_with_the_chosen_parameters(
    make_user: MakeUser, auth_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    user = await make_user()

    stored = await auth_db.fetchval("SELECT password_hash FROM users WHERE id = $1", user.id)

    algorithm, version, parameters, salt, tag = stored.split("$")[1:]
    assert (algorithm, version, parameters) == ("argon2id", "v=19", "m=19456,t=2,p=1")
    assert (len(salt), len(tag)) == (22, 43)  # 16 and 32 bytes in base64


async def test_a_hash_of_old_parameters_is_renewed_at_sign_in(
    auth: AuthStub, make_user: MakeUser, auth_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    user = await make_user()
    old = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=2).hash(PASSWORD)
    await auth_db.execute("UPDATE users SET password_hash = $2 WHERE id = $1", user.id, old)

    assert (await refused(login(auth, user.email, "Wrong-password-1"))).reason == "CREDENTIALS_INVALID"
    assert await auth_db.fetchval("SELECT password_hash FROM users WHERE id = $1", user.id) == old
    await login(auth, user.email, PASSWORD)

    renewed = await auth_db.fetchval("SELECT password_hash FROM users WHERE id = $1", user.id)
    assert renewed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    await login(auth, user.email, PASSWORD)
    assert await auth_db.fetchval("SELECT password_hash FROM users WHERE id = $1", user.id) == renewed


async def test_of_too_many_sign_ins_some_are_told_to_wait_and_none_waits_long(
    auth: AuthStub, make_user: MakeUser
) -> None:
    user = await make_user()

    async def attempt() -> Tokens | grpc.aio.AioRpcError:
        try:
            return await login(auth, user.email, PASSWORD)
        except grpc.aio.AioRpcError as error:
            return error

    results = await asyncio.gather(*(attempt() for _ in range(80)))

    busy = [refusal(result) for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert {(each.code, each.reason) for each in busy} == {(grpc.StatusCode.RESOURCE_EXHAUSTED, "SIGN_IN_BUSY")}
    assert all(each.retry_seconds and each.retry_seconds >= 1 for each in busy)
    assert len(results) - len(busy) >= 8
    assert await login(auth, user.email, PASSWORD)


async def test_over_rest_a_busy_service_says_when_to_come_back(rest: httpx.AsyncClient, word: str) -> None:
    request = {"email": f"{word}@example.com", "password": PASSWORD}

    answers = await asyncio.gather(*(rest.post("/v1/auth:login", json=request) for _ in range(80)))

    assert {answer.status_code for answer in answers} == {401, 429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 429)
