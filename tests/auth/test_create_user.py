"""CreateUser and GetMe: who makes accounts, of what kind, and what they are told of their own."""

import asyncio
import time

import asyncpg
import grpc
import pytest

from tests.auth.conftest import PASSWORD, MakeUser
from tests.conftest import AuthStub, Metadata, bearer
from tests.content.items import refused
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, GetMeRequest, LoginRequest, User, UserCreated


async def test_a_new_user_signs_in_and_sees_the_account(auth: AuthStub, admin: Metadata, word: str) -> None:
    request = CreateUserRequest(
        email=f"{word}@example.com", password=PASSWORD, display_name="أحمد بن علي", roles=["editor", "reader"]
    )

    user = await auth.CreateUser(request, metadata=admin, timeout=10)

    assert (user.email, user.display_name, list(user.roles)) == (request.email, "أحمد بن علي", ["editor", "reader"])
    assert abs(user.create_time.ToSeconds() - time.time()) < 30
    tokens = await auth.Login(LoginRequest(email=user.email, password=PASSWORD), timeout=10)
    assert await auth.GetMe(GetMeRequest(), metadata=bearer(tokens.access_token), timeout=10) == user


@pytest.mark.parametrize("change", [str.upper, str.title, str.swapcase, lambda email: email.replace("x", "ｘ")])
async def test_an_address_is_used_once_without_regard_to_case(
    make_user: MakeUser, word: str, change: "type[str]"
) -> None:
    await make_user(email=f"x{word}@example.com")

    refusal = await refused(make_user(email=change(f"x{word}@example.com")))

    if refusal.code != grpc.StatusCode.INVALID_ARGUMENT:
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "USER_EXISTS")
        assert list(refusal.violations) == ["email"]


async def test_of_many_accounts_at_once_with_one_address_one_is_made(make_user: MakeUser, word: str) -> None:
    results = await asyncio.gather(*(make_user(email=f"{word}@example.com") for _ in range(6)), return_exceptions=True)

    assert sum(isinstance(result, User) for result in results) == 1


@pytest.mark.parametrize(
    "password", ["", "Short-1", "no-upper-case-1", "No-digit-here", "12345678", "A1" * 65, "😀" * 126 + "A1x"]
)
async def test_a_weak_password_is_refused(make_user: MakeUser, password: str) -> None:
    refusal = await refused(make_user(password=password))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == ["password"]
    assert not password or password not in str(refusal)


@pytest.mark.parametrize(
    ("roles", "violation"),
    [
        ((), "roles"),
        (("owner",), "roles[0]"),
        (("reader", "Admin"), "roles[1]"),
        (("reader", "reader"), "roles"),
        (("",), "roles[0]"),
    ],
)
async def test_a_role_that_is_not_there_is_refused(make_user: MakeUser, roles: tuple[str, ...], violation: str) -> None:
    refusal = await refused(make_user(roles=roles))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == [violation]


@pytest.mark.parametrize("name", ["a\u202eb", "a\x00b", "a\nb", "x" * 121])
async def test_a_name_that_deceives_is_refused(auth: AuthStub, admin: Metadata, word: str, name: str) -> None:
    request = CreateUserRequest(email=f"{word}@example.com", password=PASSWORD, display_name=name, roles=["reader"])

    refusal = await refused(auth.CreateUser(request, metadata=admin, timeout=10))

    assert list(refusal.violations) == ["displayName"]


async def test_only_administrators_make_accounts(auth: AuthStub, editor: Metadata, reader: Metadata, word: str) -> None:
    request = CreateUserRequest(email=f"{word}@example.com", password=PASSWORD, roles=["admin"])

    for metadata, code in (
        ((), grpc.StatusCode.UNAUTHENTICATED),
        (reader, grpc.StatusCode.PERMISSION_DENIED),
        (editor, grpc.StatusCode.PERMISSION_DENIED),
    ):
        assert (await refused(auth.CreateUser(request, metadata=metadata, timeout=10))).code == code
    login = LoginRequest(email=request.email, password=PASSWORD)
    assert (await refused(auth.Login(login, timeout=10))).reason == "CREDENTIALS_INVALID"


async def test_a_new_user_is_announced_without_the_password(
    make_user: MakeUser, auth_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    user = await make_user()

    rows = await auth_db.fetch("SELECT subject, payload FROM outbox WHERE headers->>'ce-subject' = $1", user.id)

    assert [row["subject"] for row in rows] == ["user.created"]
    assert UserCreated.FromString(rows[0]["payload"]).user == user


async def test_a_refused_account_is_not_announced(
    make_user: MakeUser, auth_db: "asyncpg.Connection[asyncpg.Record]", word: str
) -> None:
    user = await make_user(email=f"{word}@example.com")

    await refused(make_user(email=user.email))

    found = await auth_db.fetch("SELECT payload FROM outbox WHERE subject = 'user.created'")
    assert [UserCreated.FromString(row["payload"]).user.email for row in found].count(user.email) == 1


async def test_nobody_is_nobody(auth: AuthStub) -> None:
    assert (await refused(auth.GetMe(GetMeRequest(), timeout=10))).code == grpc.StatusCode.UNAUTHENTICATED
