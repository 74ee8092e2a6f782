"""InviteUser, RegisterUser and SetPassword: how people come, and what proves that an address is theirs."""

import stat
from collections.abc import Awaitable
from typing import Any

import grpc
import httpx
import pytest

from deploy.local.mesh import Mesh
from libs import db
from libs.errors import Forbidden
from services.auth.passwords import Passwords
from services.auth.user_service import UserService
from tests.auth.conftest import PASSWORD, Database, Invite, MakeUser, UsersStub, minute_later, sign_in
from tests.auth.mailbox import code_of, mail_to, text_of
from tests.conftest import STUDIO_URL, AuthStub, Metadata, bearer
from tests.content.items import refused
from thmnayah.auth.v1.auth_pb2 import GetMeRequest, User
from thmnayah.auth.v1.users_pb2 import (
    DisableUserRequest,
    EnableUserRequest,
    InviteUserRequest,
    RegisterUserRequest,
    RequestPasswordResetRequest,
    SetPasswordRequest,
)


async def test_an_invited_person_sets_a_password_and_signs_in(
    mesh: Mesh, auth: AuthStub, users: UsersStub, admin: Metadata, auth_db: Database, word: str
) -> None:
    request = InviteUserRequest(
        email=f"{word}@example.com", display_name="سارة القحطاني", roles=["editor"], locale="ar-SA"
    )

    invited = await users.InviteUser(request, metadata=admin, timeout=10)

    assert (invited.state, invited.locale, list(invited.roles)) == (User.INVITED, "ar-SA", ["editor"])
    assert (await refused(sign_in(auth, request.email))).reason == "CREDENTIALS_INVALID"
    code = code_of(await mail_to(mesh, request.email))
    await users.SetPassword(SetPasswordRequest(code=code, password=PASSWORD), timeout=10)
    tokens = await sign_in(auth, request.email)
    me = await auth.GetMe(GetMeRequest(), metadata=bearer(tokens.access_token), timeout=10)
    assert (me.id, me.state, me.display_name) == (invited.id, User.ACTIVE, "سارة القحطاني")
    subjects = await auth_db.fetch(
        "SELECT subject FROM outbox WHERE headers->>'ce-subject' = $1 ORDER BY position", me.id
    )
    assert [row["subject"] for row in subjects] == ["user.created", "user.updated"]


async def test_a_code_works_once(mesh: Mesh, users: UsersStub, invite: Invite, word: str) -> None:
    code = code_of(await mail_to(mesh, (await invite(word)).email))
    request = SetPasswordRequest(code=code, password=PASSWORD)
    await users.SetPassword(request, timeout=10)

    again = await refused(users.SetPassword(request, timeout=10))

    assert (again.code, again.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CODE_INVALID")


async def test_a_code_that_is_too_old_does_nothing(
    mesh: Mesh, auth: AuthStub, users: UsersStub, invite: Invite, auth_db: Database, word: str
) -> None:
    user = await invite(word)
    code = code_of(await mail_to(mesh, user.email))
    lives = await auth_db.fetchval(
        "UPDATE password_codes AS code SET expire_time = now() FROM password_codes AS before"
        " WHERE code.hash = before.hash AND code.user_id = $1 RETURNING before.expire_time - now()",
        user.id,
    )
    assert 6.9 < lives.total_seconds() / 86_400 <= 7

    assert (
        await refused(users.SetPassword(SetPasswordRequest(code=code, password=PASSWORD), timeout=10))
    ).reason == "CODE_INVALID"
    assert (await refused(sign_in(auth, user.email))).reason == "CREDENTIALS_INVALID"


async def test_a_weak_password_leaves_the_code_good(mesh: Mesh, users: UsersStub, invite: Invite, word: str) -> None:
    code = code_of(await mail_to(mesh, (await invite(word)).email))

    weak = await refused(users.SetPassword(SetPasswordRequest(code=code, password="Password1"), timeout=10))

    assert (weak.code, weak.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PASSWORD_WEAK")
    assert list(weak.violations) == ["password"]
    await users.SetPassword(SetPasswordRequest(code=code, password=PASSWORD), timeout=10)


async def test_codes_are_stored_as_hashes_alone(mesh: Mesh, invite: Invite, auth_db: Database, word: str) -> None:
    code = code_of(await mail_to(mesh, (await invite(word)).email))

    tables = [
        row["tablename"] for row in await auth_db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    ]

    assert "password_codes" in tables
    for table in tables:
        assert not await auth_db.fetchval(
            f"SELECT true FROM {table} AS t WHERE t::text LIKE '%' || $1 || '%' LIMIT 1", code
        )
    assert code not in (mesh.supervisor.log_dir / "auth.log").read_text("utf-8")


async def test_an_address_is_invited_once(users: UsersStub, admin: Metadata, make_user: MakeUser) -> None:
    user = await make_user()

    again = await refused(
        users.InviteUser(InviteUserRequest(email=user.email.upper(), roles=["reader"]), metadata=admin, timeout=10)
    )

    assert (again.code, again.reason) == (grpc.StatusCode.ALREADY_EXISTS, "USER_EXISTS")


async def test_an_invitation_that_was_lost_is_asked_for_again(
    mesh: Mesh, users: UsersStub, invite: Invite, auth_db: Database, word: str
) -> None:
    user = await invite(word)
    first = code_of(await mail_to(mesh, user.email))
    await minute_later(auth_db, user.email)

    await users.RequestPasswordReset(RequestPasswordResetRequest(email=user.email), timeout=10)

    second = await mail_to(mesh, user.email, 2)
    assert "دعوة" in second["Subject"]
    await users.SetPassword(SetPasswordRequest(code=code_of(second), password=PASSWORD), timeout=10)
    used = await refused(users.SetPassword(SetPasswordRequest(code=first, password=PASSWORD), timeout=10))
    assert used.reason == "CODE_INVALID"


async def test_the_invitation_of_a_closed_account_is_worthless(
    mesh: Mesh, users: UsersStub, admin: Metadata, invite: Invite, word: str
) -> None:
    user = await invite(word)
    code = code_of(await mail_to(mesh, user.email))

    await users.DisableUser(DisableUserRequest(id=user.id), metadata=admin, timeout=10)

    request = SetPasswordRequest(code=code, password=PASSWORD)
    assert (await refused(users.SetPassword(request, timeout=10))).reason == "CODE_INVALID"
    opened = await users.EnableUser(EnableUserRequest(id=user.id), metadata=admin, timeout=10)
    assert opened.state == User.INVITED


@pytest.mark.parametrize(
    ("locale", "subject", "direction"),
    [("ar", "دعوة", "rtl"), ("en-GB", "invitation", "ltr"), ("fr", "invitation", "ltr")],
)
async def test_a_mail_is_in_the_persons_language_and_direction(
    mesh: Mesh, users: UsersStub, admin: Metadata, word: str, locale: str, subject: str, direction: str
) -> None:
    request = InviteUserRequest(
        email=f"{word}@example.com", display_name="<b>منى & Co", roles=["reader"], locale=locale
    )
    await users.InviteUser(request, metadata=admin, timeout=10)

    mail = await mail_to(mesh, request.email)

    assert subject in mail["Subject"]
    assert mail["Auto-Submitted"] == "auto-generated"
    plain, html = text_of(mail), text_of(mail, "html")
    assert "\u2068<b>منى & Co\u2069" in plain
    assert f'dir="{direction}"' in html.split("<body")[1].split(">")[0]
    assert "<bdi>&lt;b&gt;منى &amp; Co</bdi>" in html
    assert f"{STUDIO_URL}/invitation#{code_of(mail)}" in plain
    assert f'href="{STUDIO_URL}/invitation#{code_of(mail)}"' in html


async def test_a_mail_is_a_file_for_its_owner_alone(mesh: Mesh, invite: Invite, word: str) -> None:
    await mail_to(mesh, (await invite(word)).email)

    modes = {stat.S_IMODE(path.stat().st_mode) for path in (mesh.data / "mail").glob("*.eml")}
    assert modes == {0o600}
    assert stat.S_IMODE((mesh.data / "mail").stat().st_mode) == 0o700


async def test_who_registers_proves_the_address_before_signing_in(
    mesh: Mesh, auth: AuthStub, users: UsersStub, auth_db: Database, word: str
) -> None:
    request = RegisterUserRequest(email=f"{word}@example.com", display_name="Sami", locale="en")

    await users.RegisterUser(request, timeout=10)

    code = code_of(await mail_to(mesh, request.email))
    user_id = await auth_db.fetchval("SELECT id::text FROM users WHERE email_key = $1", request.email)
    announced = "SELECT subject FROM outbox WHERE headers->>'ce-subject' = $1"
    assert await auth_db.fetch(announced, user_id) == []
    await users.SetPassword(SetPasswordRequest(code=code, password=PASSWORD), timeout=10)
    tokens = await sign_in(auth, request.email)
    me = await auth.GetMe(GetMeRequest(), metadata=bearer(tokens.access_token), timeout=10)
    assert (me.state, list(me.roles), me.locale) == (User.ACTIVE, ["reader"], "en")
    assert [row["subject"] for row in await auth_db.fetch(announced, user_id)] == ["user.created"]


async def test_registering_a_taken_address_tells_its_owner_and_nobody_else(
    mesh: Mesh, rest: httpx.AsyncClient, make_user: MakeUser, word: str
) -> None:
    user = await make_user()
    answers = []
    for email in (user.email, f"{word}@example.com"):
        answer = await rest.post("/v1/users:register", json={"email": email}, headers={"x-request-id": word})
        answers.append((answer.status_code, answer.text, {**answer.headers, "date": ""}))

    assert answers[0] == answers[1]
    assert answers[0][:2] == (200, "{}")
    mail = await mail_to(mesh, user.email)
    assert "لديك حساب" in mail["Subject"]
    assert "#" not in text_of(mail)
    assert "أكّد" in (await mail_to(mesh, f"{word}@example.com"))["Subject"]


async def test_nobody_registers_where_it_is_off(mesh: Mesh, word: str) -> None:
    pool = await db.connect(mesh.database_url("auth"), service="auth", size=1)
    try:
        service = UserService(pool, Passwords(), registration=False)
        call: Awaitable[Any] = service.RegisterUser(RegisterUserRequest(email=f"{word}@example.com"), None)  # type: ignore[arg-type]
        with pytest.raises(Forbidden) as refused:
            await call
        assert refused.value.reason == "REGISTRATION_CLOSED"
    finally:
        await pool.close()
