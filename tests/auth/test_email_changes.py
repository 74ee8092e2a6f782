"""Changes of e-mail addresses: by their owners, with a code that is mailed to the new one, and by administrators."""

import asyncio

import grpc
import httpx

from deploy.local.mesh import Mesh
from tests.auth.conftest import Database, Find, MakeUser, UsersStub, sign_in
from tests.auth.mailbox import code_of, mail_to, mails_to, text_of
from tests.auth.people import MakePerson, Person, age
from tests.auth.test_secrets import everything
from tests.conftest import STUDIO_URL, AuthStub, Metadata, bearer
from tests.content.items import refused
from tests.content.rest import Rest
from thmnayah.auth.v1.auth_pb2 import User
from thmnayah.auth.v1.users_pb2 import (
    BeginEmailChangeRequest,
    ChangeUserEmailRequest,
    DeleteUserRequest,
    FinishEmailChangeRequest,
    RequestPasswordResetRequest,
    SetPasswordRequest,
    UserUpdated,
)


async def begin(users: UsersStub, person: Person, email: str) -> None:
    await users.BeginEmailChange(BeginEmailChangeRequest(email=email), metadata=person.metadata, timeout=10)


async def finish(users: UsersStub, person: Person, code: str) -> User:
    return await users.FinishEmailChange(FinishEmailChangeRequest(code=code), metadata=person.metadata, timeout=10)


async def test_a_person_gets_the_address_that_they_read(
    mesh: Mesh,
    rest: httpx.AsyncClient,
    users: UsersStub,
    make_person: MakePerson,
    auth_db: Database,
    find: Find,
    word: str,
) -> None:
    person, new = await make_person(), f"{word}@example.com"
    old, elsewhere = person.user.email, person.tokens
    await person.login()
    await users.RequestPasswordReset(RequestPasswordResetRequest(email=old), timeout=10)
    reset = code_of(await mail_to(mesh, old))
    headers = dict(person.metadata)

    begun = await rest.post("/v1/me:beginEmailChange", json={"email": new.upper()}, headers=headers)

    assert begun.status_code == 200, begun.text
    mail = await mail_to(mesh, new.upper())
    assert mail["Content-Language"] == "ar"
    code = code_of(mail)
    assert f"{STUDIO_URL}/email#{code}" in text_of(mail)
    logs = [path.read_text("utf-8", "replace") for path in mesh.supervisor.log_dir.iterdir()]
    assert not any(code in each for each in (*logs, await everything(mesh, "auth")))
    assert (await rest.get("/v1/me", headers=headers)).json()["email"] == old
    done = await rest.post("/v1/me:finishEmailChange", json={"code": code}, headers=headers)
    assert (done.status_code, done.json()["email"]) == (200, new.upper())

    assert await sign_in(person.auth, new)
    assert (await refused(sign_in(person.auth, old))).reason == "CREDENTIALS_INVALID"
    assert (await refused(person.refresh(elsewhere))).reason == "REFRESH_TOKEN_INVALID"
    assert (await person.refresh(person.tokens)).access_token
    by_old = users.SetPassword(SetPasswordRequest(code=reset, password="Another-Horse-8"), timeout=10)
    assert (await refused(by_old)).reason == "CODE_INVALID"
    notice = await mail_to(mesh, old, 2)
    assert "تغيّر بريدك" in notice["Subject"]
    assert new.casefold() not in text_of(notice).casefold()
    event = await auth_db.fetchrow(
        "SELECT payload FROM outbox WHERE headers->>'ce-subject' = $1 AND subject = 'user.updated'", person.user.id
    )
    assert event is not None
    assert UserUpdated.FromString(event["payload"]).user.email == new.upper()
    (asked,) = await find(f'target = "user/{person.user.id}" AND action = user.email_change_requested')
    (changed,) = await find(f'target = "user/{person.user.id}" AND action = user.email_changed')
    assert (asked.actor, changed.actor) == (person.user.id, person.user.id)
    assert not asked.details
    assert not changed.details


async def test_a_code_is_good_once_for_ten_minutes_and_for_whoever_asked(
    mesh: Mesh, users: UsersStub, make_person: MakePerson, auth_db: Database, find: Find, word: str
) -> None:
    person, thief, new = await make_person(), await make_person(), f"{word}@example.com"
    await begin(users, person, new)
    code = code_of(await mail_to(mesh, new))
    left = await auth_db.fetchval("SELECT expire_time - now() FROM email_changes WHERE user_id = $1", person.user.id)
    assert 0 < left.total_seconds() <= 600

    for wanted in (False, True):
        if wanted:
            await begin(users, thief, new)
        refusal = await refused(finish(users, thief, code))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CODE_INVALID")
        assert list(refusal.violations) == ["code"]
    assert len(await find(f"actor = {thief.user.id} AND action = user.email_changed AND outcome = FAILED")) == 2
    # Asking for it again takes the mail that is there from nobody.
    await begin(users, person, new)
    await auth_db.execute("UPDATE email_changes SET expire_time = now() WHERE user_id = $1", person.user.id)
    assert (await refused(finish(users, person, code))).reason == "CODE_INVALID"
    await auth_db.execute(
        "UPDATE email_changes SET expire_time = now() + interval '1 minute' WHERE user_id = $1", person.user.id
    )
    results = await asyncio.gather(*(finish(users, person, code) for _ in range(4)), return_exceptions=True)
    assert sum(not isinstance(each, BaseException) for each in results) == 1


async def test_an_address_that_is_taken_is_answered_like_a_free_one(
    mesh: Mesh,
    rest: httpx.AsyncClient,
    users: UsersStub,
    make_person: MakePerson,
    make_user: MakeUser,
    word: str,
) -> None:
    person, owner = await make_person(), await make_user()
    answers = []
    for email in (owner.email, f"{word}@example.com"):
        headers = {"x-request-id": word, **dict(person.metadata)}
        answer = await rest.post("/v1/me:beginEmailChange", json={"email": email}, headers=headers)
        headers = {name: value for name, value in answer.headers.items() if name != "date"}
        answers.append((answer.status_code, headers, answer.text))

    assert answers[0] == answers[1]
    assert answers[0][0] == 200
    mail = await mail_to(mesh, owner.email)
    assert "لحساب آخر" in mail["Subject"]
    # Taken after the code was mailed, it stays with who has it.
    code = code_of(await mail_to(mesh, f"{word}@example.com"))
    await make_user(email=f"{word}@example.com")
    assert (await refused(finish(users, person, code))).reason == "USER_EXISTS"


async def test_what_somebody_registered_and_did_not_prove_is_whose_who_proves_it(
    mesh: Mesh, users: UsersStub, make_person: MakePerson, make_user: MakeUser, auth_db: Database, word: str
) -> None:
    person, squatter = await make_person(), await make_user(email=f"{word}@example.com")
    await auth_db.execute("UPDATE users SET state = 'UNVERIFIED' WHERE id = $1", squatter.id)

    await begin(users, person, squatter.email)
    changed = await finish(users, person, code_of(await mail_to(mesh, squatter.email)))

    assert changed.email == squatter.email
    assert not await auth_db.fetchval("SELECT true FROM users WHERE id = $1", squatter.id)


async def test_asking_needs_a_fresh_sign_in_and_another_address(
    users: UsersStub, make_person: MakePerson, auth_db: Database, word: str
) -> None:
    person = await make_person()
    assert list((await refused(begin(users, person, person.user.email.upper()))).violations) == ["email"]
    await age(auth_db, person)

    refusal = await refused(begin(users, person, f"{word}@example.com"))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FRESH_SIGN_IN_NEEDED")
    assert not await auth_db.fetchval("SELECT true FROM mails WHERE email_key = $1", f"{word}@example.com")


async def test_whoever_is_erased_leaves_no_address_they_wanted(
    mesh: Mesh, users: UsersStub, admin: Metadata, make_person: MakePerson, auth_db: Database, word: str
) -> None:
    person = await make_person()
    await begin(users, person, f"{word}@example.com")
    await mail_to(mesh, f"{word}@example.com")

    await users.DeleteUser(DeleteUserRequest(id=person.user.id), metadata=admin, timeout=10)

    for table in ("email_changes", "mails"):
        assert not await auth_db.fetchval(f"SELECT true FROM {table} WHERE email_key LIKE $1 || '%'", word)


async def test_an_administrator_gives_an_account_another_address(
    mesh: Mesh,
    auth: AuthStub,
    users: UsersStub,
    admin: Metadata,
    make_user: MakeUser,
    make_person: MakePerson,
    find: Find,
    word: str,
) -> None:
    person, other, new = await make_person(), await make_user(), f"{word}@example.com"
    await users.RequestPasswordReset(RequestPasswordResetRequest(email=person.user.email), timeout=10)
    reset = code_of(await mail_to(mesh, person.user.email))

    async def change(email: str, user_id: str = person.user.id) -> User:
        request = ChangeUserEmailRequest(id=user_id, email=email)
        return await users.ChangeUserEmail(request, metadata=admin, timeout=10)

    assert (await refused(change(other.email.upper()))).reason == "USER_EXISTS"
    assert (await refused(change(new, "0190b0a0-0000-7000-8000-00000000ffff"))).reason == "USER_NOT_FOUND"
    assert (await change(new)).email == new

    assert await sign_in(auth, new)
    assert (await refused(person.refresh(person.tokens))).reason == "REFRESH_TOKEN_INVALID"
    by_old = users.SetPassword(SetPasswordRequest(code=reset, password="Another-Horse-8"), timeout=10)
    assert (await refused(by_old)).reason == "CODE_INVALID"
    assert "تغيّر بريدك" in (await mail_to(mesh, person.user.email, 2))["Subject"]
    assert mails_to(mesh, new) == []
    (event,) = await find(f'target = "user/{person.user.id}" AND action = user.email_changed')
    assert event.actor not in ("", person.user.id)


async def test_nobody_takes_over_an_account_that_holds_more(
    rest: httpx.AsyncClient, admin_token: str, auth: AuthStub, users: UsersStub, make_user: MakeUser, word: str
) -> None:
    grants = [{"permission": "users.change_email"}]
    await Rest(rest, admin_token).ok("POST", "roles", {"id": f"r-{word}", "grants": grants})
    helper, editor = await make_user(roles=(f"r-{word}",)), await make_user(roles=("editor",))
    metadata = bearer((await sign_in(auth, helper.email)).access_token)

    request = ChangeUserEmailRequest(id=editor.id, email=f"{word}@example.com")
    refusal = await refused(users.ChangeUserEmail(request, metadata=metadata, timeout=10))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "GRANT_NOT_HELD")
    assert await sign_in(auth, editor.email)
    request.id = helper.id
    assert (await users.ChangeUserEmail(request, metadata=metadata, timeout=10)).email == request.email
