"""Authenticator apps: how one becomes a factor, which codes are taken, and how often one may guess."""

import asyncio

import grpc
import httpx
import pyotp
import pytest

from deploy.local.mesh import Mesh
from services.auth import totp
from tests.auth.conftest import UsersStub
from tests.auth.mailbox import code_of, mail_to
from tests.auth.people import Database, MakePerson, age, forget_codes, other_code, session_of
from tests.content.items import refused
from thmnayah.auth.v1.auth_pb2 import RECOVERY_CODE, TOTP, Tokens
from thmnayah.auth.v1.mfa_pb2 import (
    BeginMfaEnrolmentRequest,
    ConfirmTotpRequest,
    DisableTotpRequest,
    EnrolTotpRequest,
    VerifyMfaRequest,
)
from thmnayah.auth.v1.users_pb2 import RequestPasswordResetRequest, SetPasswordRequest

SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


async def test_an_app_is_asked_for_at_the_next_sign_in(make_person: MakePerson) -> None:
    person = await make_person()
    assert (await person.add_totp()).recovery_codes

    challenge = await person.challenge()

    assert set(challenge.factors) == {TOTP, RECOVERY_CODE}
    assert not challenge.enrolment
    tokens = await person.verify(challenge, totp_code=person.code(1))
    assert tokens.access_token
    assert await person.whoami() == person.user.id
    assert (await person.factors()).HasField("totp_time")


async def test_a_code_may_be_typed_in_arabic_figures(make_person: MakePerson) -> None:
    person = await make_person()
    await person.add_totp()

    code = person.code(1).translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))

    assert (await person.verify(await person.challenge(), totp_code=code)).access_token


async def test_over_rest_a_sign_in_takes_two_steps(rest: httpx.AsyncClient, make_person: MakePerson) -> None:
    person = await make_person()
    await person.add_totp()

    first = (await rest.post("/v1/auth:login", json={"email": person.user.email, "password": person.password})).json()
    challenge = first["mfa"]["challenge"]
    second = await rest.post("/v1/auth:verifyMfa", json={"challenge": challenge, "totpCode": person.code(1)})

    assert first.get("accessToken", "") == first.get("refreshToken", "") == ""
    assert first["mfa"]["factors"] == ["TOTP", "RECOVERY_CODE"]
    assert second.json()["accessToken"]


@pytest.mark.parametrize("now", [1_700_000_010, 1_700_000_010 + 29.99, 1_699_999_980, 1_700_000_009.999])
@pytest.mark.parametrize("steps", range(-3, 4))
def test_a_code_is_good_one_step_early_and_one_step_late(now: float, steps: int) -> None:
    step = int(now) // 30 + steps

    matching = totp.matching_step(SEED, pyotp.TOTP(SEED).generate_otp(step), now)

    assert matching == (step if abs(steps) <= 1 else None)


@pytest.mark.parametrize("steps", [-40, -3, 4, 40])
async def test_a_code_of_another_time_is_refused(make_person: MakePerson, auth_db: Database, steps: int) -> None:
    person = await make_person()
    await person.add_totp()
    await forget_codes(auth_db, person)

    refusal = await refused(person.verify(await person.challenge(), totp_code=person.code(steps)))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "MFA_FAILED")


async def test_a_code_is_good_once(make_person: MakePerson) -> None:
    person = await make_person()
    await person.add_totp()
    code = person.code(1)
    await person.verify(await person.challenge(), totp_code=code)

    refusal = await refused(person.verify(await person.challenge(), totp_code=code))

    assert refusal.reason == "MFA_FAILED"


async def test_the_code_that_confirmed_an_app_does_not_sign_in(make_person: MakePerson) -> None:
    person = await make_person()
    challenge = await person.begin_enrolment()
    person.seed = (await person.mfa.EnrolTotp(EnrolTotpRequest(challenge=challenge), timeout=10)).secret
    code = person.code()
    await person.mfa.ConfirmTotp(ConfirmTotpRequest(challenge=challenge, code=code), timeout=10)

    assert (await refused(person.verify(await person.challenge(), totp_code=code))).reason == "MFA_FAILED"


async def test_of_many_uses_of_one_code_at_once_one_succeeds(make_person: MakePerson) -> None:
    person = await make_person()
    await person.add_totp()
    code = person.code(1)
    challenges = [await person.challenge() for _ in range(5)]

    answers = await asyncio.gather(
        *(person.verify(challenge, totp_code=code) for challenge in challenges), return_exceptions=True
    )

    assert sum(isinstance(answer, Tokens) for answer in answers) == 1


async def test_of_many_uses_of_one_challenge_at_once_one_succeeds(make_person: MakePerson) -> None:
    person = await make_person()
    await person.add_totp()
    challenge = await person.challenge()

    answers = await asyncio.gather(
        *(person.verify(challenge, recovery_code=code) for code in person.recovery_codes), return_exceptions=True
    )

    assert sum(isinstance(answer, Tokens) for answer in answers) == 1
    assert (await person.factors()).recovery_codes_left == 9


async def test_five_wrong_codes_stop_the_app_for_a_while_and_nothing_else(
    make_person: MakePerson, auth_db: Database
) -> None:
    person = await make_person()
    await person.add_totp()
    for number in range(5):
        # New challenges give no new tries.
        wrong = person.verify(await person.challenge(), totp_code=other_code(person.code(number % 2)))
        assert (await refused(wrong)).reason == "MFA_FAILED"

    stopped = await refused(person.verify(await person.challenge(), totp_code=person.code(1)))
    assert (stopped.code, stopped.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MFA_TRIES")
    assert stopped.retry_seconds
    assert 200 < stopped.retry_seconds <= 300
    assert (await person.verify(await person.challenge(), recovery_code=person.recovery_codes[0])).access_token

    await auth_db.execute("UPDATE totp_factors SET tries_time = tries_time - interval '301 seconds'")
    assert (await person.verify(await person.challenge(), totp_code=person.code(1))).access_token


async def test_of_many_guesses_at_once_five_are_looked_at(make_person: MakePerson) -> None:
    person = await make_person()
    await person.add_totp()
    challenges = [await person.challenge() for _ in range(12)]

    refusals = await asyncio.gather(
        *(refused(person.verify(challenge, totp_code=other_code(person.code()))) for challenge in challenges)
    )

    assert sorted(refusal.reason for refusal in refusals) == ["MFA_FAILED"] * 5 + ["MFA_TRIES"] * 7


async def test_a_challenge_is_good_for_five_tries(make_person: MakePerson) -> None:
    person = await make_person()
    await person.add_totp()
    challenge = await person.challenge()
    for _ in range(5):
        assert (await refused(person.verify(challenge, recovery_code="wrong"))).reason == "MFA_FAILED"

    over = await refused(person.verify(challenge, recovery_code=person.recovery_codes[0]))

    assert (over.code, over.reason) == (grpc.StatusCode.UNAUTHENTICATED, "MFA_CHALLENGE_INVALID")


async def test_a_challenge_is_good_for_one_success_five_minutes_and_its_own_person(
    make_person: MakePerson, auth_db: Database
) -> None:
    person, other = await make_person(), await make_person()
    await person.add_totp()
    await other.add_totp()
    challenge, later = await person.challenge(), await person.challenge()

    assert (await refused(person.verify(challenge, totp_code=other.code(1)))).reason == "MFA_FAILED"
    assert (await refused(person.verify(challenge, recovery_code=other.recovery_codes[0]))).reason == "MFA_FAILED"
    await person.verify(challenge, totp_code=person.code(1))
    used = await refused(person.verify(challenge, recovery_code=person.recovery_codes[0]))
    await auth_db.execute(
        "UPDATE mfa_challenges SET expire_time = expire_time - interval '301 seconds' WHERE user_id = $1",
        person.user.id,
    )
    expired = await refused(person.verify(later, recovery_code=person.recovery_codes[0]))
    unknown = await refused(person.mfa.VerifyMfa(VerifyMfaRequest(challenge="x", totp_code="000000"), timeout=10))

    assert used.reason == expired.reason == unknown.reason == "MFA_CHALLENGE_INVALID"


async def test_a_challenge_of_a_sign_in_adds_no_factor_and_the_other_way_round(make_person: MakePerson) -> None:
    person = await make_person()
    await person.add_totp()
    sign_in, enrolment = (await person.challenge()).challenge, await person.begin_enrolment()

    for call in (
        person.mfa.EnrolTotp(EnrolTotpRequest(challenge=sign_in), timeout=10),
        person.mfa.VerifyMfa(VerifyMfaRequest(challenge=enrolment, totp_code=person.code(1)), timeout=10),
    ):
        assert (await refused(call)).reason == "MFA_CHALLENGE_INVALID"


async def test_an_app_that_was_not_confirmed_is_no_factor(make_person: MakePerson) -> None:
    person = await make_person()
    challenge = await person.begin_enrolment()
    confirm = ConfirmTotpRequest(challenge=challenge, code="000000")
    assert (await refused(person.mfa.ConfirmTotp(confirm, timeout=10))).reason == "MFA_FAILED"
    made = await person.mfa.EnrolTotp(EnrolTotpRequest(challenge=challenge), timeout=10)
    confirm.code = other_code(pyotp.TOTP(made.secret).now())
    assert (await refused(person.mfa.ConfirmTotp(confirm, timeout=10))).reason == "MFA_FAILED"

    assert (await person.login()).access_token
    assert pyotp.parse_uri(made.uri).secret == made.secret
    assert len(made.secret) == 32


async def test_another_app_takes_the_place_of_the_first(make_person: MakePerson) -> None:
    person = await make_person()
    await person.add_totp()
    first = person.seed

    assert not (await person.add_totp()).recovery_codes

    code = pyotp.TOTP(first).now()
    assert (await refused(person.verify(await person.challenge(), totp_code=code))).reason == "MFA_FAILED"
    assert (await person.verify(await person.challenge(), totp_code=person.code(1))).access_token


async def test_a_change_needs_a_sign_in_of_the_last_five_minutes(make_person: MakePerson, auth_db: Database) -> None:
    person = await make_person()
    await person.add_totp()
    await age(auth_db, person)

    for call in (
        person.mfa.BeginMfaEnrolment(BeginMfaEnrolmentRequest(), metadata=person.metadata, timeout=10),
        person.mfa.DisableTotp(DisableTotpRequest(), metadata=person.metadata, timeout=10),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FRESH_SIGN_IN_NEEDED")

    await person.verify(await person.challenge(), totp_code=person.code(1))
    await person.mfa.DisableTotp(DisableTotpRequest(), metadata=person.metadata, timeout=10)
    assert (await person.login()).access_token
    assert await auth_db.fetchval("SELECT count(*) FROM recovery_codes WHERE user_id = $1", person.user.id) == 0


async def test_a_change_ends_all_other_sessions(make_person: MakePerson) -> None:
    person = await make_person()
    other = await person.login()
    own = await person.login()
    begun = await person.begin_enrolment()
    other_begun = await person.begin_enrolment()

    await person.add_totp(begun)

    assert (await refused(person.refresh(other))).reason == "REFRESH_TOKEN_INVALID"
    assert (await person.refresh(own)).access_token
    again = person.mfa.EnrolTotp(EnrolTotpRequest(challenge=other_begun), timeout=10)
    assert (await refused(again)).reason == "MFA_CHALLENGE_INVALID"


async def test_an_enrolment_ends_with_its_session(make_person: MakePerson, auth_db: Database) -> None:
    person = await make_person()
    challenge = await person.begin_enrolment()
    await auth_db.execute("UPDATE sessions SET end_time = now() WHERE id = $1", session_of(person.tokens))

    for call in (
        person.mfa.EnrolTotp(EnrolTotpRequest(challenge=challenge), timeout=10),
        person.mfa.BeginMfaEnrolment(BeginMfaEnrolmentRequest(), metadata=person.metadata, timeout=10),
    ):
        assert (await refused(call)).reason in {"MFA_CHALLENGE_INVALID", "FRESH_SIGN_IN_NEEDED"}


async def test_what_is_stored_is_not_what_is_known(make_person: MakePerson, auth_db: Database) -> None:
    person = await make_person()
    await person.add_totp()
    challenge = await person.challenge()

    rows = [
        row
        for table in ("totp_factors", "recovery_codes", "mfa_challenges", "outbox")
        for row in await auth_db.fetch(f"SELECT * FROM {table}")
    ]
    stored = b"\n".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)

    for known in (person.seed, challenge.challenge, *person.recovery_codes):
        assert known.encode() not in stored
        assert known.replace("-", "").encode() not in stored
    assert person.user.id.encode() in stored


async def test_a_changed_seed_is_noticed(make_person: MakePerson, auth_db: Database) -> None:
    """A seed of one person is no seed of another, whoever can write to the database."""
    person, other = await make_person(), await make_person()
    await person.add_totp()
    await other.add_totp()
    await auth_db.execute(
        "UPDATE totp_factors SET seed = (SELECT seed FROM totp_factors WHERE user_id = $2) WHERE user_id = $1",
        person.user.id,
        other.user.id,
    )

    refusal = await refused(person.verify(await person.challenge(), totp_code=other.code(1)))

    assert refusal.code == grpc.StatusCode.INTERNAL


async def test_a_reset_of_the_password_takes_no_factor_away(
    mesh: Mesh, users: UsersStub, make_person: MakePerson
) -> None:
    person = await make_person()
    await person.add_totp()
    await users.RequestPasswordReset(RequestPasswordResetRequest(email=person.user.email), timeout=10)
    code = code_of(await mail_to(mesh, person.user.email))

    person.password = "Another-Passw0rd-of-tests"
    await users.SetPassword(SetPasswordRequest(code=code, password=person.password), timeout=10)

    challenge = await person.challenge()
    assert set(challenge.factors) == {TOTP, RECOVERY_CODE}
    assert (await person.verify(challenge, totp_code=person.code(1))).access_token
