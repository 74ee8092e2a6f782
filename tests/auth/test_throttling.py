"""Guessing passwords: it is slow, it tells nothing, and it locks nobody out."""

import asyncio
import re

import grpc
import httpx
import pytest
from argon2 import PasswordHasher

from deploy.local.mesh import Mesh
from services.auth import throttle
from tests.auth.conftest import PASSWORD, Database, MakeUser, UsersStub, minute_later, sign_in
from tests.auth.mailbox import code_of, mail_to
from tests.conftest import AuthStub
from tests.content.items import refused
from thmnayah.auth.v1.users_pb2 import RequestPasswordResetRequest, SetPasswordRequest

WRONG = "Wrong-password-1"


async def argon2_runs(mesh: Mesh) -> int:
    """How many passwords the auth service has hashed."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://{mesh.metrics_address('auth')}/metrics")).text
    (runs,) = re.findall(r"^argon2_runs_total (\S+)$", text, re.MULTILINE)
    return int(float(runs))


async def guess(auth: AuthStub, email: str, times: int, *, device: str = "") -> list[str]:
    """The reasons of so many refusals, one after the other."""
    return [(await refused(sign_in(auth, email, WRONG, device=device))).reason for _ in range(times)]


async def wait_over(auth_db: Database, email: str) -> None:
    """Let the delay of an address be over."""
    await auth_db.execute("UPDATE failed_sign_ins SET next_time = now() WHERE key = $1", throttle.key("address", email))


async def test_a_thousand_guesses_cost_few_hashes_and_lock_nobody_out(
    mesh: Mesh, auth: AuthStub, make_user: MakeUser
) -> None:
    owner = await make_user()
    device = (await sign_in(auth, owner.email)).device_token
    before = await argon2_runs(mesh)

    reasons: list[str] = []
    for _ in range(20):
        refusals = await asyncio.gather(*(refused(sign_in(auth, owner.email, WRONG)) for _ in range(50)))
        reasons += [each.reason for each in refusals]

    # Nobody else signs in here meanwhile but other tests' accounts, whose hashes would only add to these.
    assert await argon2_runs(mesh) - before <= 60
    assert len(reasons) == 1000
    assert reasons.count("SIGN_IN_THROTTLED") > 900
    throttled = await refused(sign_in(auth, owner.email))
    assert throttled.reason == "SIGN_IN_THROTTLED"
    assert await sign_in(auth, owner.email, device=device)


async def test_the_delay_doubles_and_a_success_ends_it(auth: AuthStub, make_user: MakeUser, auth_db: Database) -> None:
    user = await make_user()
    assert await guess(auth, user.email, 5) == ["CREDENTIALS_INVALID"] * 5
    delays = []
    for _ in range(12):
        refusal = await refused(sign_in(auth, user.email))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SIGN_IN_THROTTLED")
        delays.append(refusal.retry_seconds or 0)
        await wait_over(auth_db, user.email)
        assert await guess(auth, user.email, 1) == ["CREDENTIALS_INVALID"]

    for number, delay in enumerate(delays):
        longest = min(2**number, throttle.LONGEST_DELAY_SECONDS)
        assert max(1, longest - 30) <= delay <= longest
    await wait_over(auth_db, user.email)
    assert await sign_in(auth, user.email)
    assert await guess(auth, user.email, 4) == ["CREDENTIALS_INVALID"] * 4
    assert await sign_in(auth, user.email)


async def test_of_many_at_the_end_of_a_delay_one_gets_through(
    auth: AuthStub, make_user: MakeUser, auth_db: Database
) -> None:
    user = await make_user()
    await guess(auth, user.email, 5)
    await auth_db.execute(
        "UPDATE failed_sign_ins SET failures = 15, next_time = now() WHERE key = $1",
        throttle.key("address", user.email),
    )

    refusals = await asyncio.gather(*(refused(sign_in(auth, user.email, WRONG)) for _ in range(20)))

    assert sorted(each.reason for each in refusals) == ["CREDENTIALS_INVALID"] + ["SIGN_IN_THROTTLED"] * 19


async def test_after_a_hundred_only_a_reset_helps(
    mesh: Mesh, auth: AuthStub, users: UsersStub, make_user: MakeUser, auth_db: Database
) -> None:
    user = await make_user()
    await guess(auth, user.email, 5)
    await auth_db.execute(
        "UPDATE failed_sign_ins SET failures = 99, next_time = now() WHERE key = $1",
        throttle.key("address", user.email),
    )
    assert await guess(auth, user.email, 1) == ["CREDENTIALS_INVALID"]
    await wait_over(auth_db, user.email)

    assert (await refused(sign_in(auth, user.email))).reason == "SIGN_IN_STOPPED"

    await users.RequestPasswordReset(RequestPasswordResetRequest(email=user.email), timeout=10)
    code = code_of(await mail_to(mesh, user.email))
    await users.SetPassword(SetPasswordRequest(code=code, password="Another-Horse-8"), timeout=10)
    assert await sign_in(auth, user.email, "Another-Horse-8")


async def test_a_device_has_a_count_of_its_own(auth: AuthStub, make_user: MakeUser) -> None:
    user = await make_user()
    device = (await sign_in(auth, user.email)).device_token

    assert (await guess(auth, user.email, 6, device=device))[-1] == "SIGN_IN_THROTTLED"

    assert await sign_in(auth, user.email)


@pytest.mark.parametrize("of_whom", ["another", "nobody", "a spoilt one"])
async def test_a_device_token_of_another_is_no_help(auth: AuthStub, make_user: MakeUser, of_whom: str) -> None:
    user, other = await make_user(), await make_user()
    token = (await sign_in(auth, (other if of_whom == "another" else user).email)).device_token
    token = {"another": token, "nobody": "x" * 76, "a spoilt one": "AAAA" + token[4:]}[of_whom]
    await guess(auth, user.email, 5)

    assert (await refused(sign_in(auth, user.email, device=token))).reason == "SIGN_IN_THROTTLED"


def test_a_device_is_known_for_its_time_by_its_key() -> None:
    devices = throttle.Devices(b"k" * 32)
    user_id = "0190b0a0-0000-7000-8000-000000000000"
    device = devices.device(user_id, devices.token(user_id, None))

    assert device is not None
    assert devices.device(user_id, devices.token(user_id, device)) == device
    assert throttle.Devices(b"l" * 32).device(user_id, devices.token(user_id, device)) is None
    for broken in ("", "é", "=", "A"):
        assert devices.device(user_id, broken) is None


async def test_an_unknown_address_is_throttled_like_a_known_one(
    rest: httpx.AsyncClient, make_user: MakeUser, word: str
) -> None:
    user = await make_user()
    answers: dict[str, list[tuple[int, dict[str, str], str]]] = {user.email: [], f"{word}@example.com": []}

    for email, seen in answers.items():
        for _ in range(7):
            answer = await rest.post(
                "/v1/auth:login", json={"email": email, "password": WRONG}, headers={"x-request-id": word}
            )
            headers = {name: value for name, value in answer.headers.items() if name != "date"}
            seen.append((answer.status_code, headers, re.sub(r'"retryDelay":"[^"]*"', "", answer.text)))

    known, unknown = answers.values()
    assert known == unknown
    assert [status for status, _, _ in known] == [401] * 5 + [429] * 2


async def test_a_reset_for_nobody_is_answered_like_any_other(
    mesh: Mesh, rest: httpx.AsyncClient, make_user: MakeUser, auth_db: Database, word: str
) -> None:
    user = await make_user()
    answers = []
    for email in (user.email, f"{word}@example.com"):
        answer = await rest.post("/v1/auth:requestPasswordReset", json={"email": email}, headers={"x-request-id": word})
        headers = {name: value for name, value in answer.headers.items() if name != "date"}
        answers.append((answer.status_code, headers, answer.text))

    assert answers[0] == answers[1]
    assert answers[0][0] == 200
    await mail_to(mesh, user.email)
    await minute_later(auth_db, f"{word}@example.com")
    assert not [path for path in (mesh.data / "mail").iterdir() if f"{word}@" in path.read_text("utf-8")]


async def test_a_hundred_old_hashes_are_renewed_and_nobody_is_locked_out(
    auth: AuthStub, make_user: MakeUser, auth_db: Database
) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    emails = [(await make_user()).email for _ in range(4)]
    for _ in range(25):
        await auth_db.execute("UPDATE users SET password_hash = $2 WHERE email_key = ANY($1)", emails, old)

        await asyncio.gather(*(sign_in(auth, email) for email in emails))

        stored = await auth_db.fetch("SELECT password_hash FROM users WHERE email_key = ANY($1)", emails)
        assert all(row["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$") for row in stored)
