"""ListSessions, EndSession and EndSessions: where people are signed in, and how that ends."""

from collections.abc import Awaitable

import grpc
import httpx
import jwt
import pytest

from tests.auth.conftest import PASSWORD, MakeUser, SessionStub
from tests.conftest import AuthStub, Metadata, bearer, eventually
from tests.content.items import refused
from thmnayah.auth.v1.auth_pb2 import GetMeRequest, LoginRequest, RefreshTokensRequest, Tokens, User
from thmnayah.auth.v1.sessions_pb2 import EndSessionRequest, EndSessionsRequest, ListSessionsRequest, Session

ALL = EndSessionsRequest.ALL


async def sign_in(auth: AuthStub, user: User, device_name: str = "") -> Tokens:
    return await auth.Login(LoginRequest(email=user.email, password=PASSWORD, device_name=device_name), timeout=10)


async def listed(sessions: SessionStub, tokens: Tokens) -> list[Session]:
    answer = await sessions.ListSessions(ListSessionsRequest(), metadata=bearer(tokens.access_token), timeout=10)
    return list(answer.sessions)


def session_id(tokens: Tokens) -> str:
    return str(jwt.decode(tokens.access_token, options={"verify_signature": False})["sid"])


async def accepted(auth: AuthStub, tokens: Tokens) -> bool:
    """Whether an access token opens anything."""
    try:
        await auth.GetMe(GetMeRequest(), metadata=bearer(tokens.access_token), timeout=10)
    except grpc.aio.AioRpcError as error:
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED
        return False
    return True


async def refreshes(auth: AuthStub, tokens: Tokens) -> bool:
    try:
        await auth.RefreshTokens(RefreshTokensRequest(refresh_token=tokens.refresh_token), timeout=10)
    except grpc.aio.AioRpcError:
        return False
    return True


async def test_a_person_sees_where_they_are_signed_in(
    auth: AuthStub, sessions: SessionStub, make_user: MakeUser, rest: httpx.AsyncClient
) -> None:
    user = await make_user()
    phone, laptop = await sign_in(auth, user, "هاتف ليلى"), await sign_in(auth, user, "Laptop")

    first, second = await listed(sessions, phone)

    assert [first.device_name, second.device_name] == ["Laptop", "هاتف ليلى"]
    assert [first.current, second.current] == [False, True]
    assert [first.id, second.id] == [session_id(laptop), session_id(phone)]
    assert {first.user_id, second.user_id} == {user.id}
    assert first.create_time.seconds <= first.last_used_time.seconds < first.expire_time.seconds
    over_rest = await rest.get("/v1/me/sessions", headers={"authorization": f"Bearer {laptop.access_token}"})
    assert [each["current"] for each in over_rest.json()["sessions"]] == [True, False]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox, Windows"),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.0 Safari/605.1.15",
            "Safari, macOS",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36 Edg/140.0",
            "Edge, Windows",
        ),
        (
            "Mozilla/5.0 (Linux; Android 15; Pixel) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Mobile",
            "Chrome, Android",
        ),
        ("something/1.0 <script>", ""),
    ],
)
async def test_a_session_says_what_program_it_is(
    sessions: SessionStub, make_user: MakeUser, rest: httpx.AsyncClient, sent: str, shown: str
) -> None:
    user = await make_user()
    credentials = {"email": user.email, "password": PASSWORD}
    answer = await rest.post("/v1/auth:login", json=credentials, headers={"user-agent": sent})

    (session,) = await listed(sessions, Tokens(access_token=answer.json()["accessToken"]))

    assert session.user_agent == shown


async def test_a_refresh_is_a_use(auth: AuthStub, sessions: SessionStub, make_user: MakeUser) -> None:
    tokens = await sign_in(auth, await make_user())
    (before,) = await listed(sessions, tokens)

    await auth.RefreshTokens(RefreshTokensRequest(refresh_token=tokens.refresh_token), timeout=10)

    (after,) = await listed(sessions, tokens)
    assert after.last_used_time.ToNanoseconds() > before.last_used_time.ToNanoseconds()
    assert after.create_time == before.create_time


async def test_a_long_list_comes_in_pages(auth: AuthStub, sessions: SessionStub, make_user: MakeUser) -> None:
    user = await make_user()
    tokens = [await sign_in(auth, user, f"{number}") for number in range(3)]
    metadata = bearer(tokens[0].access_token)

    first = await sessions.ListSessions(ListSessionsRequest(page_size=2), metadata=metadata, timeout=10)
    rest = await sessions.ListSessions(
        ListSessionsRequest(page_size=2, page_token=first.next_page_token), metadata=metadata, timeout=10
    )

    assert [each.device_name for each in (*first.sessions, *rest.sessions)] == ["2", "1", "0"]
    assert not rest.next_page_token
    another = bearer((await sign_in(auth, await make_user())).access_token)
    refusal = await refused(
        sessions.ListSessions(ListSessionsRequest(page_token=first.next_page_token), metadata=another, timeout=10)
    )
    assert list(refusal.violations) == ["pageToken"]


async def test_a_person_ends_one_session(auth: AuthStub, sessions: SessionStub, make_user: MakeUser) -> None:
    user = await make_user()
    mine, lost = await sign_in(auth, user), await sign_in(auth, user)
    metadata = bearer(mine.access_token)

    await sessions.EndSession(EndSessionRequest(id=session_id(lost)), metadata=metadata, timeout=10)

    assert not await refreshes(auth, lost)
    assert [each.id for each in await listed(sessions, mine)] == [session_id(mine)]
    await eventually(lambda: accepted(auth, lost), lambda accepted: not accepted, seconds=5)
    assert await refreshes(auth, mine)
    again = await refused(sessions.EndSession(EndSessionRequest(id=session_id(lost)), metadata=metadata, timeout=10))
    assert (again.code, again.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")


async def test_a_person_ends_all_others_and_then_all(
    auth: AuthStub, sessions: SessionStub, make_user: MakeUser, rest: httpx.AsyncClient
) -> None:
    user = await make_user()
    mine, *others = [await sign_in(auth, user) for _ in range(3)]
    headers = {"authorization": f"Bearer {mine.access_token}"}

    ended = await rest.post("/v1/me/sessions:end", json={"scope": "OTHERS"}, headers=headers)

    assert (ended.status_code, ended.json()) == (200, {"count": 2})
    assert [await refreshes(auth, each) for each in others] == [False, False]
    assert len(await listed(sessions, mine)) == 1
    ended = await rest.post("/v1/me/sessions:end", json={"scope": "ALL"}, headers=headers)
    assert ended.json() == {"count": 1}
    assert not await refreshes(auth, mine)


async def test_nobody_touches_another_users_sessions(
    auth: AuthStub, sessions: SessionStub, make_user: MakeUser
) -> None:
    victim, user = await make_user(), await make_user(roles=("editor",))
    theirs, mine = await sign_in(auth, victim), await sign_in(auth, user)
    metadata = bearer(mine.access_token)

    by_id = await refused(sessions.EndSession(EndSessionRequest(id=session_id(theirs)), metadata=metadata, timeout=10))
    assert by_id.reason == "SESSION_NOT_FOUND"
    calls: tuple[Awaitable[object], ...] = (
        sessions.ListSessions(ListSessionsRequest(user_id=victim.id), metadata=metadata, timeout=10),
        sessions.EndSession(EndSessionRequest(user_id=victim.id, id=session_id(theirs)), metadata=metadata, timeout=10),
        sessions.EndSessions(EndSessionsRequest(user_id=victim.id, scope=ALL), metadata=metadata, timeout=10),
    )
    for call in calls:
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert await refreshes(auth, theirs)


async def test_an_administrator_sees_and_ends_a_users_sessions(
    auth: AuthStub, make_user: MakeUser, admin: Metadata, rest: httpx.AsyncClient
) -> None:
    user = await make_user()
    first, second, third = [await sign_in(auth, user) for _ in range(3)]
    headers = dict(admin)

    answer = await rest.get(f"/v1/users/{user.id}/sessions", headers=headers)
    assert [each["id"] for each in answer.json()["sessions"]] == [session_id(each) for each in (third, second, first)]
    assert not any(each["current"] for each in answer.json()["sessions"])
    one = await rest.delete(f"/v1/users/{user.id}/sessions/{session_id(first)}", headers=headers)
    assert one.status_code == 200
    assert [await refreshes(auth, each) for each in (first, second)] == [False, True]
    ended = await rest.post(f"/v1/users/{user.id}/sessions:end", json={"scope": "OTHERS"}, headers=headers)
    assert ended.json() == {"count": 2}
    assert not await refreshes(auth, third)


async def test_nobody_ends_everything_by_saying_nothing(
    sessions: SessionStub, auth: AuthStub, make_user: MakeUser
) -> None:
    tokens = await sign_in(auth, await make_user())

    refusal = await refused(
        sessions.EndSessions(EndSessionsRequest(), metadata=bearer(tokens.access_token), timeout=10)
    )

    assert list(refusal.violations) == ["scope"]
