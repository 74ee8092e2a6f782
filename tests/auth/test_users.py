"""Accounts as administrators and their owners see and change them."""

import asyncio
import os
import secrets
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import grpc
import httpx
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from deploy.local.mesh import Mesh
from libs import db, identity, permissions
from libs.errors import FailedPrecondition
from services.auth import people
from services.auth.passwords import Passwords
from services.auth.user_service import UserService
from tests.auth.conftest import PASSWORD, Database, Find, MakeUser, UsersStub, minute_later, sign_in
from tests.auth.mailbox import code_of, mail_to, mails_to
from tests.auth.people import MakePerson, age
from tests.conftest import AuthStub, Metadata, bearer
from tests.content.items import refused
from tests.content.rest import reason, violations
from thmnayah.auth.v1.auth_pb2 import GetMeRequest, RefreshTokensRequest, User
from thmnayah.auth.v1.users_pb2 import (
    ChangePasswordRequest,
    DeleteMeRequest,
    DeleteUserRequest,
    DisableUserRequest,
    EnableUserRequest,
    GetUserRequest,
    ListUsersRequest,
    RequestPasswordResetRequest,
    SetPasswordRequest,
    UpdateMeRequest,
    UpdateUserRequest,
    UserDeleted,
    UserDisabled,
    UserUpdated,
)

NEW_PASSWORD = "Another-Horse-8"


async def announced(auth_db: Database, user_id: str) -> list[tuple[str, bytes]]:
    rows = await auth_db.fetch(
        "SELECT subject, payload FROM outbox WHERE headers->>'ce-subject' = $1 ORDER BY position", user_id
    )
    return [(row["subject"], row["payload"]) for row in rows]


async def test_an_account_is_read_and_updated(
    users: UsersStub, admin: Metadata, make_user: MakeUser, auth_db: Database
) -> None:
    user = await make_user()
    assert await users.GetUser(GetUserRequest(id=user.id), metadata=admin, timeout=10) == user

    change = User(id=user.id, display_name="ليلى", locale="en", time_zone="Asia/Riyadh", etag=user.etag)
    changed = await users.UpdateUser(UpdateUserRequest(user=change), metadata=admin, timeout=10)

    assert (changed.display_name, changed.locale, changed.time_zone) == ("ليلى", "en", "Asia/Riyadh")
    assert (changed.roles, changed.email, changed.state) == (user.roles, user.email, User.ACTIVE)
    assert changed.etag != user.etag
    again = await users.UpdateUser(UpdateUserRequest(user=changed), metadata=admin, timeout=10)
    assert again == changed
    events = await announced(auth_db, user.id)
    assert [subject for subject, _ in events] == ["user.created", "user.updated"]
    assert UserUpdated.FromString(events[1][1]).user == changed


async def test_a_change_of_an_older_version_is_refused(
    rest: httpx.AsyncClient, users: UsersStub, admin: Metadata, admin_token: str, make_user: MakeUser
) -> None:
    user = await make_user()
    request = UpdateUserRequest(user=User(id=user.id, display_name="First", etag=user.etag))
    await users.UpdateUser(request, metadata=admin, timeout=10)

    stale = await refused(users.UpdateUser(request, metadata=admin, timeout=10))
    over_rest = await rest.patch(
        f"/v1/users/{user.id}",
        json={"displayName": "Second"},
        headers={"if-match": user.etag, "authorization": f"Bearer {admin_token}"},
    )

    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert over_rest.status_code in (409, 412)


@pytest.mark.parametrize(
    ("fields", "paths", "violation"),
    [
        ({"time_zone": "Mars/Olympus"}, (), "user.timeZone"),
        ({"time_zone": "../etc/passwd"}, (), "user.timeZone"),
        ({"time_zone": ""}, ("time_zone",), "user.timeZone"),
        ({"locale": "not a tag"}, (), "user.locale"),
        ({"roles": ["owner"]}, (), "user.roles[0]"),
        ({"roles": []}, ("roles",), "user.roles"),
        ({"email": "x@example.com"}, ("email",), "updateMask"),
        ({"display_name": "a\u202eb"}, (), "user.displayName"),
    ],
)
async def test_what_an_account_cannot_be_is_refused(
    users: UsersStub,
    admin: Metadata,
    make_user: MakeUser,
    fields: dict[str, str],
    paths: tuple[str, ...],
    violation: str,
) -> None:
    user = await make_user()
    request = UpdateUserRequest(user=User(id=user.id, **fields), update_mask=FieldMask(paths=paths))  # type: ignore[arg-type]  # texts and lists

    refusal = await refused(users.UpdateUser(request, metadata=admin, timeout=10))

    assert (refusal.code, list(refusal.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, [violation])


async def test_other_roles_end_the_sessions(
    auth: AuthStub, users: UsersStub, admin: Metadata, make_user: MakeUser
) -> None:
    user = await make_user()
    tokens = await sign_in(auth, user.email)
    request = UpdateUserRequest(user=User(id=user.id, roles=["editor"]))

    changed = await users.UpdateUser(request, metadata=admin, timeout=10)

    assert changed.roles == ["editor"]
    refresh = RefreshTokensRequest(refresh_token=tokens.refresh_token)
    assert (await refused(auth.RefreshTokens(refresh, timeout=10))).reason == "REFRESH_TOKEN_INVALID"


async def test_people_change_their_own_profile_and_nothing_else(
    rest: httpx.AsyncClient, auth: AuthStub, make_user: MakeUser
) -> None:
    user, other = await make_user(), await make_user()
    headers = {"authorization": f"Bearer {(await sign_in(auth, user.email)).access_token}"}

    body = {
        "displayName": "نورة",
        "timeZone": "Africa/Cairo",
        "id": other.id,
        "roles": ["admin"],
        "email": "x@y.example",
    }
    answer = await rest.patch("/v1/me", json=body, headers=headers)
    named = await rest.patch("/v1/me?updateMask=roles", json={"roles": ["admin"]}, headers=headers)

    assert (answer.status_code, named.status_code) == (200, 400), answer.text
    me = (await rest.get("/v1/me", headers=headers)).json()
    assert (me["id"], me["email"], me["roles"]) == (user.id, user.email, ["reader"])
    assert (me["displayName"], me["timeZone"]) == ("نورة", "Africa/Cairo")


async def test_another_id_changes_the_callers_own_account(
    auth: AuthStub, users: UsersStub, admin: Metadata, make_user: MakeUser
) -> None:
    user, other = await make_user(), await make_user()
    metadata = bearer((await sign_in(auth, user.email)).access_token)

    changed = await users.UpdateMe(
        UpdateMeRequest(user=User(id=other.id, display_name="Me")), metadata=metadata, timeout=10
    )

    assert (changed.id, changed.display_name) == (user.id, "Me")
    assert await users.GetUser(GetUserRequest(id=other.id), metadata=admin, timeout=10) == other


async def test_accounts_are_listed_page_by_page_and_filtered(
    users: UsersStub, admin: Metadata, make_user: MakeUser, word: str
) -> None:
    made = [await make_user(email=f"{word}-{number}@example.com", roles=("editor",)) for number in range(3)]
    await users.DisableUser(DisableUserRequest(id=made[0].id), metadata=admin, timeout=10)

    async def listed(filter: str, size: int = 0, token: str = "") -> tuple[list[str], str]:
        request = ListUsersRequest(filter=filter, page_size=size, page_token=token)
        page = await users.ListUsers(request, metadata=admin, timeout=10)
        return [user.id for user in page.users], page.next_page_token

    ours = " OR ".join(f'email = "{user.email.upper()}"' for user in made)
    assert await listed(ours) == ([user.id for user in reversed(made)], "")
    first, token = await listed(ours, 2)
    assert first == [made[2].id, made[1].id]
    assert await listed(ours, 2, token) == ([made[0].id], "")
    assert await listed(f"({ours}) AND state = DISABLED") == ([made[0].id], "")
    assert await listed(f"({ours}) AND roles:editor AND -state = DISABLED") == ([made[2].id, made[1].id], "")
    assert await listed(f"({ours}) AND roles:admin") == ([], "")
    assert await listed(f"({ours}) AND email:*") == ([user.id for user in reversed(made)], "")
    assert (await refused(listed("password = x"))).violations.keys() == {"filter"}
    assert (await refused(listed("state = ACTIVE", 2, token))).violations.keys() == {"pageToken"}


async def test_a_disabled_account_is_closed_until_it_is_enabled(
    auth: AuthStub, users: UsersStub, admin: Metadata, make_user: MakeUser, auth_db: Database
) -> None:
    user = await make_user()
    tokens = await sign_in(auth, user.email)

    closed = await users.DisableUser(DisableUserRequest(id=user.id), metadata=admin, timeout=10)
    again = await users.DisableUser(DisableUserRequest(id=user.id), metadata=admin, timeout=10)

    assert closed.state == User.DISABLED
    assert again == closed
    assert (await refused(sign_in(auth, user.email))).reason == "CREDENTIALS_INVALID"
    refresh = RefreshTokensRequest(refresh_token=tokens.refresh_token)
    assert (await refused(auth.RefreshTokens(refresh, timeout=10))).reason == "REFRESH_TOKEN_INVALID"
    me = await refused(auth.GetMe(GetMeRequest(), metadata=bearer(tokens.access_token), timeout=10))
    assert me.code == grpc.StatusCode.UNAUTHENTICATED
    opened = await users.EnableUser(EnableUserRequest(id=user.id), metadata=admin, timeout=10)
    assert await users.EnableUser(EnableUserRequest(id=user.id), metadata=admin, timeout=10) == opened
    assert opened.state == User.ACTIVE
    assert await sign_in(auth, user.email)
    events = await announced(auth_db, user.id)
    assert [subject for subject, _ in events] == ["user.created", "token.revoked", "user.disabled", "user.updated"]
    assert UserDisabled.FromString(events[2][1]).user == closed


async def test_a_closed_account_is_mailed_nothing(
    mesh: Mesh, users: UsersStub, admin: Metadata, make_user: MakeUser, auth_db: Database
) -> None:
    user = await make_user()
    await users.DisableUser(DisableUserRequest(id=user.id), metadata=admin, timeout=10)

    await users.RequestPasswordReset(RequestPasswordResetRequest(email=user.email), timeout=10)

    await minute_later(auth_db, user.email)
    assert mails_to(mesh, user.email) == []


async def test_a_deleted_account_leaves_an_id_and_nothing_personal(
    mesh: Mesh, auth: AuthStub, users: UsersStub, admin: Metadata, make_user: MakeUser, auth_db: Database, word: str
) -> None:
    user = await make_user(email=f"{word}@example.com")
    own = bearer((await sign_in(auth, user.email)).access_token)
    await users.UpdateMe(UpdateMeRequest(user=User(display_name=f"Name {word}")), metadata=own, timeout=10)
    await users.RequestPasswordReset(RequestPasswordResetRequest(email=user.email), timeout=10)
    await mail_to(mesh, user.email)
    await refused(sign_in(auth, user.email, "Wrong-password-1"))

    deleted = await users.DeleteUser(DeleteUserRequest(id=user.id), metadata=admin, timeout=10)

    left = User(id=user.id, state=User.DELETED, etag=deleted.etag, create_time=user.create_time)
    assert deleted == left
    assert await users.GetUser(GetUserRequest(id=user.id), metadata=admin, timeout=10) == left
    tables = await auth_db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for table in {row["tablename"] for row in tables} - {"outbox"}:
        assert not await auth_db.fetchval(
            f"SELECT true FROM {table} AS t WHERE t::text LIKE '%' || $1 || '%' LIMIT 1", word
        )
    assert not await auth_db.fetchval("SELECT true FROM password_codes WHERE user_id = $1", user.id)
    assert (await refused(sign_in(auth, user.email))).reason == "CREDENTIALS_INVALID"
    events = await announced(auth_db, user.id)
    assert events[-1] == ("user.deleted", UserDeleted(user=left).SerializeToString())
    for request in (
        users.DeleteUser(DeleteUserRequest(id=user.id), metadata=admin, timeout=10),
        users.DisableUser(DisableUserRequest(id=user.id), metadata=admin, timeout=10),
        users.EnableUser(EnableUserRequest(id=user.id), metadata=admin, timeout=10),
        users.UpdateUser(UpdateUserRequest(user=User(id=user.id, locale="en")), metadata=admin, timeout=10),
    ):
        assert (await refused(request)).reason == "USER_NOT_FOUND"
    assert (await make_user(email=user.email)).id != user.id


async def test_people_erase_their_own_account_after_a_fresh_sign_in(
    rest: httpx.AsyncClient, make_person: MakePerson, auth_db: Database, find: Find
) -> None:
    person = await make_person()
    headers = dict(person.metadata)

    async def leave(email: str) -> httpx.Response:
        return await rest.post("/v1/me:delete", json={"email": email}, headers=headers)

    other = await leave("somebody@example.com")
    await age(auth_db, person)
    stale = await leave(person.user.email)
    assert (violations(other), reason(stale)) == (
        {"email": "is not the address of this account"},
        (400, "FRESH_SIGN_IN_NEEDED"),
    )
    await person.login()
    headers = dict(person.metadata)

    left = await leave(person.user.email.upper())

    assert (left.status_code, left.json()["state"], left.json()["email"]) == (200, "DELETED", "")
    assert (await refused(person.login())).reason == "CREDENTIALS_INVALID"
    assert (await refused(person.refresh(person.tokens))).reason == "REFRESH_TOKEN_INVALID"
    events = [subject for subject, _ in await announced(auth_db, person.user.id)]
    assert events == ["user.created", "token.revoked", "user.deleted"]
    (event,) = await find(f'target = "user/{person.user.id}" AND action = user.deleted')
    assert event.actor == person.user.id


async def test_two_deleted_accounts_stand_beside_each_other(
    users: UsersStub, admin: Metadata, make_user: MakeUser
) -> None:
    for _ in range(2):
        request = DeleteUserRequest(id=(await make_user()).id)
        assert (await users.DeleteUser(request, metadata=admin, timeout=10)).state == User.DELETED


async def test_changing_the_password_needs_the_old_one_and_ends_other_sessions(
    mesh: Mesh, auth: AuthStub, users: UsersStub, make_user: MakeUser
) -> None:
    user = await make_user()
    here, elsewhere = await sign_in(auth, user.email), await sign_in(auth, user.email)
    metadata = bearer(here.access_token)

    async def change(current: str, password: str) -> None:
        request = ChangePasswordRequest(current_password=current, password=password)
        await users.ChangePassword(request, metadata=metadata, timeout=10)

    wrong = await refused(change("Wrong-password-1", NEW_PASSWORD))
    weak = await refused(change(PASSWORD, "Password1"))
    assert (wrong.reason, list(wrong.violations)) == ("PASSWORD_WRONG", ["currentPassword"])
    assert (weak.reason, list(weak.violations)) == ("PASSWORD_WEAK", ["password"])
    assert await sign_in(auth, user.email)
    await change(PASSWORD, NEW_PASSWORD)

    assert (await refused(sign_in(auth, user.email))).reason == "CREDENTIALS_INVALID"
    assert await sign_in(auth, user.email, NEW_PASSWORD)
    assert await auth.RefreshTokens(RefreshTokensRequest(refresh_token=here.refresh_token), timeout=10)
    ended = await refused(auth.RefreshTokens(RefreshTokensRequest(refresh_token=elsewhere.refresh_token), timeout=10))
    assert ended.reason == "REFRESH_TOKEN_INVALID"
    assert "تغيّرت" in (await mail_to(mesh, user.email))["Subject"]


async def test_guessing_the_old_password_is_slow_too(auth: AuthStub, users: UsersStub, make_user: MakeUser) -> None:
    user = await make_user()
    metadata = bearer((await sign_in(auth, user.email)).access_token)
    request = ChangePasswordRequest(current_password="Wrong-password-1", password=NEW_PASSWORD)

    reasons = [(await refused(users.ChangePassword(request, metadata=metadata, timeout=10))).reason for _ in range(6)]

    assert reasons == ["PASSWORD_WRONG"] * 5 + ["SIGN_IN_THROTTLED"]
    assert await sign_in(auth, user.email)


async def test_a_reset_sets_a_new_password_and_ends_all_sessions(
    mesh: Mesh, auth: AuthStub, users: UsersStub, make_user: MakeUser, auth_db: Database
) -> None:
    user = await make_user()
    tokens = await sign_in(auth, user.email)

    await users.RequestPasswordReset(RequestPasswordResetRequest(email=user.email.upper()), timeout=10)

    code = code_of(await mail_to(mesh, user.email))
    life = await auth_db.fetchval("SELECT expire_time - now() FROM password_codes WHERE user_id = $1", user.id)
    assert 0 < life.total_seconds() <= 600
    await users.SetPassword(SetPasswordRequest(code=code, password=NEW_PASSWORD), timeout=10)
    assert await sign_in(auth, user.email, NEW_PASSWORD)
    refresh = RefreshTokensRequest(refresh_token=tokens.refresh_token)
    assert (await refused(auth.RefreshTokens(refresh, timeout=10))).reason == "REFRESH_TOKEN_INVALID"


async def test_of_one_code_used_twice_at_once_one_use_counts(mesh: Mesh, users: UsersStub, make_user: MakeUser) -> None:
    user = await make_user()
    await users.RequestPasswordReset(RequestPasswordResetRequest(email=user.email), timeout=10)
    request = SetPasswordRequest(code=code_of(await mail_to(mesh, user.email)), password=NEW_PASSWORD)

    results = await asyncio.gather(*(users.SetPassword(request, timeout=10) for _ in range(4)), return_exceptions=True)

    assert sum(not isinstance(result, BaseException) for result in results) == 1


async def test_an_address_gets_one_reset_a_minute(
    mesh: Mesh, users: UsersStub, make_user: MakeUser, auth_db: Database
) -> None:
    user = await make_user()
    request = RequestPasswordResetRequest(email=user.email)
    await asyncio.gather(*(users.RequestPasswordReset(request, timeout=10) for _ in range(5)))
    await mail_to(mesh, user.email)
    await users.RequestPasswordReset(request, timeout=10)
    assert await auth_db.fetchval("SELECT count(*) FROM mails WHERE email_key = $1", user.email) == 1

    await minute_later(auth_db, user.email)
    await users.RequestPasswordReset(request, timeout=10)

    await mail_to(mesh, user.email, 2)
    assert len(mails_to(mesh, user.email)) == 2


@pytest.fixture
async def own_database(mesh: Mesh) -> AsyncIterator[db.Pool]:
    """A database of the auth service with nobody in it."""
    name = f"auth_{secrets.token_hex(6)}"
    url = mesh.database_url("auth").replace("/thmnayah_auth?", f"/{name}?")
    if not url.endswith(name):
        url = url.rpartition("/")[0] + f"/{name}"
    superuser = await asyncpg.connect(mesh._postgres_url())  # noqa: SLF001 — who else may make a database
    await superuser.execute(f"CREATE DATABASE {name} OWNER thmnayah_auth")
    try:
        environ = {**os.environ, "THMNAYAH_DATABASE_URL": url, "THMNAYAH_SECRET_KEY": "A" * 43 + "="}
        migrate = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.auth", "migrate", env=environ)
        assert await migrate.wait() == 0
        pool = await db.connect(url, service="auth", size=4)
        yield pool
        await pool.close()
    finally:
        await superuser.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await superuser.close()


async def _administrator(pool: db.Pool, email: str) -> str:
    async with db.transaction(pool) as conn:
        user = await people.add(conn, email=email, display_name="", roles=["administrator"], locale="", state="INVITED")
        assert user is not None
        await people.set_password(conn, user.id, "no hash")
        return user.id


async def test_the_last_administrator_stays(own_database: db.Pool) -> None:
    first, second = [await _administrator(own_database, f"{name}@example.com") for name in ("first", "second")]
    identity.caller.set(identity.Identity(permissions=permissions.hold("", ["administrator"], {})))

    async def in_transaction(change: "str", user_id: str) -> None:
        async with db.transaction(own_database) as conn:
            if change == "disable":
                await people.disable(conn, user_id)
            elif change == "delete":
                await people.delete(conn, user_id)
            else:
                user = User(id=user_id, roles=["editor"])
                await people.update(conn, user, paths=["roles"], allowed=people.ANY, etag="")

    # Of two who go at once, one stays.
    results = await asyncio.gather(
        in_transaction("disable", first), in_transaction("delete", second), return_exceptions=True
    )
    assert [type(result) for result in results if result is not None] == [FailedPrecondition]
    last = first if results[0] is not None else second
    for change in ("disable", "delete", "demote"):
        with pytest.raises(FailedPrecondition) as refused:
            await in_transaction(change, last)
        assert refused.value.reason == "LAST_ADMINISTRATOR"
    session_id = str(uuid.uuid4())
    async with db.connection(own_database) as conn:
        await conn.execute(
            "INSERT INTO sessions (id, user_id, expire_time, final_time)"
            " VALUES ($1, $2, now() + interval '1 day', now() + interval '1 day')",
            session_id,
            last,
        )
        email = (await people.get(conn, last)).email
    caller = identity.caller.set(replace(identity.caller.get(), user_id=last, session_id=session_id))
    own = UserService(own_database, Passwords(), registration=False)
    with pytest.raises(FailedPrecondition, match="nobody else"):
        await own.DeleteMe(DeleteMeRequest(email=email), None)  # type: ignore[arg-type]  # not looked at
    identity.caller.reset(caller)
    await _administrator(own_database, "third@example.com")
    await in_transaction("demote", last)


async def test_what_is_over_is_forgotten(own_database: db.Pool) -> None:
    async with db.transaction(own_database) as conn:
        for age in ("6 days", "8 days"):
            user = await people.add(
                conn, email=f"{age[0]}@example.com", display_name="", roles=["reader"], locale="", state="UNVERIFIED"
            )
            assert user is not None
            await conn.execute(f"UPDATE users SET create_time = now() - interval '{age}' WHERE id = $1", user.id)

        await people.forget_unverified(conn)

        assert [row["email"] for row in await conn.fetch("SELECT email FROM users")] == ["6@example.com"]
        assert await conn.fetchval("SELECT count(*) FROM outbox") == 0
