"""What roles demand, recovery codes, and administrators who help."""

import asyncio
import secrets

import grpc
import httpx
import pytest

from tests.auth.authenticator import Authenticator
from tests.auth.conftest import PASSWORD
from tests.auth.people import Database, MakePerson, Person, forget_codes
from tests.conftest import Metadata
from tests.content.items import refused
from thmnayah.auth.v1.auth_pb2 import PASSKEY, RECOVERY_CODE, TOTP, Tokens
from thmnayah.auth.v1.mfa_pb2 import (
    DeletePasskeyRequest,
    DisableTotpRequest,
    GetMfaPolicyRequest,
    MfaRule,
    RegenerateRecoveryCodesRequest,
    ResetUserMfaRequest,
    UpdateMfaRuleRequest,
    UserMfaChanged,
)


@pytest.fixture
def role() -> str:
    """A role that nobody else has."""
    return f"role-{secrets.token_hex(6)}"


async def demand(person: Person, admin: Metadata, role: str, requirement: MfaRule.Requirement.ValueType) -> None:
    request = UpdateMfaRuleRequest(rule=MfaRule(role=role, requirement=requirement))
    assert await person.mfa.UpdateMfaRule(request, metadata=admin, timeout=10) == request.rule


async def give(auth_db: Database, person: Person, role: str) -> None:
    await auth_db.execute("UPDATE users SET roles = roles || $2 WHERE id = $1", person.user.id, [role])


async def test_whose_role_demands_a_factor_gets_in_by_adding_one(
    make_person: MakePerson, auth_db: Database, admin: Metadata, role: str
) -> None:
    person = await make_person()
    before = person.tokens
    await give(auth_db, person, role)
    await demand(person, admin, role, MfaRule.REQUIRED)
    assert (await refused(person.refresh(before))).reason == "REFRESH_TOKEN_INVALID"

    challenge = await person.challenge()

    assert challenge.enrolment
    assert set(challenge.factors) == {TOTP, PASSKEY}
    person.tokens = Tokens()
    added = await person.add_totp(challenge.challenge)
    assert added.tokens.refresh_token
    assert len(added.recovery_codes) == 10
    assert await person.whoami() == person.user.id
    assert not (await person.challenge()).enrolment


async def test_only_a_passkey_is_enough_where_a_passkey_is_demanded(
    make_person: MakePerson, auth_db: Database, admin: Metadata, role: str
) -> None:
    person, phone = await make_person(), Authenticator()
    await person.add_totp()
    await give(auth_db, person, role)
    await demand(person, admin, role, MfaRule.PASSKEY_REQUIRED)
    first = await person.challenge()
    assert set(first.factors) == {TOTP, RECOVERY_CODE}

    tokens = await person.verify(first, totp_code=person.code(1))

    assert not tokens.access_token
    assert tokens.mfa.enrolment
    assert list(tokens.mfa.factors) == [PASSKEY]
    assert not (await person.add_totp(tokens.mfa.challenge)).tokens.access_token
    enrolment = (await person.verify(await person.challenge(), totp_code=person.code(1))).mfa
    assert (await person.add_passkey(phone, challenge=enrolment.challenge)).tokens.access_token
    await forget_codes(auth_db, person)
    challenge = await person.challenge()
    assert set(challenge.factors) == {PASSKEY, RECOVERY_CODE}
    assert (await refused(person.verify(challenge, totp_code=person.code()))).reason == "MFA_FAILED"
    assert (await person.verify(challenge, passkey=phone.get(challenge.passkey_options))).access_token


async def test_the_last_factor_stays_where_one_is_demanded(
    make_person: MakePerson, auth_db: Database, admin: Metadata, role: str
) -> None:
    person = await make_person()
    await person.add_totp()
    passkey = (await person.add_passkey(Authenticator())).passkey
    await give(auth_db, person, role)
    await demand(person, admin, role, MfaRule.REQUIRED)

    answers = await asyncio.gather(
        person.mfa.DisableTotp(DisableTotpRequest(), metadata=person.metadata, timeout=10),
        person.mfa.DeletePasskey(DeletePasskeyRequest(id=passkey.id), metadata=person.metadata, timeout=10),
        return_exceptions=True,
    )

    assert sum(isinstance(answer, grpc.aio.AioRpcError) for answer in answers) == 1
    factors = await person.factors()
    assert factors.HasField("totp_time") != bool(factors.passkeys)
    last = (
        person.mfa.DisableTotp(DisableTotpRequest(), metadata=person.metadata, timeout=10)
        if factors.HasField("totp_time")
        else person.mfa.DeletePasskey(DeletePasskeyRequest(id=passkey.id), metadata=person.metadata, timeout=10)
    )
    assert (await refused(last)).reason == "MFA_REQUIRED"
    assert (await person.factors()).recovery_codes_left == 10


async def test_a_demand_ends_the_sessions_of_those_alone_who_have_less(
    make_person: MakePerson, auth_db: Database, admin: Metadata, role: str
) -> None:
    having, lacking, other = await make_person(), await make_person(), await make_person()
    await having.add_totp()
    for person in (having, lacking):
        await give(auth_db, person, role)

    await demand(having, admin, role, MfaRule.REQUIRED)
    assert (await refused(lacking.refresh(lacking.tokens))).reason == "REFRESH_TOKEN_INVALID"
    for person in (having, other):
        person.tokens = await person.refresh(person.tokens)
    await demand(having, admin, role, MfaRule.PASSKEY_REQUIRED)
    assert (await refused(having.refresh(having.tokens))).reason == "REFRESH_TOKEN_INVALID"
    await demand(having, admin, role, MfaRule.OPTIONAL)
    assert (await lacking.login()).access_token


async def test_the_strictest_of_several_roles_counts(
    make_person: MakePerson, auth_db: Database, admin: Metadata, role: str
) -> None:
    person = await make_person()
    for each, requirement in ((role, MfaRule.PASSKEY_REQUIRED), (f"{role}-2", MfaRule.OPTIONAL)):
        await give(auth_db, person, each)
        await demand(person, admin, each, requirement)

    assert list((await person.challenge()).factors) == [PASSKEY]
    policy = await person.mfa.GetMfaPolicy(GetMfaPolicyRequest(), metadata=admin, timeout=10)
    assert MfaRule(role=role, requirement=MfaRule.PASSKEY_REQUIRED) in policy.rules


async def test_over_rest_a_rule_is_set_by_its_role(rest: httpx.AsyncClient, admin: Metadata, role: str) -> None:
    headers = dict(admin)

    answer = await rest.patch(f"/v1/mfaPolicy/rules/{role}", json={"requirement": "REQUIRED"}, headers=headers)

    assert answer.json() == {"role": role, "requirement": "REQUIRED"}
    assert answer.json() in (await rest.get("/v1/mfaPolicy", headers=headers)).json()["rules"]
    for wrong in ({}, {"requirement": "SOMETIMES"}, {"requirement": 9}):
        assert (await rest.patch(f"/v1/mfaPolicy/rules/{role}", json=wrong, headers=headers)).status_code == 400


async def test_a_recovery_code_is_good_once_however_it_is_typed(make_person: MakePerson, auth_db: Database) -> None:
    person = await make_person()
    codes = list((await person.add_totp()).recovery_codes)
    assert len({*codes}) == 10
    assert all(len(code.replace("-", "")) * 5 >= 112 for code in codes)

    for typed in (codes[0], codes[1].lower(), codes[2].replace("-", ""), f" {codes[3].replace('-', ' ')} "):
        assert (await person.verify(await person.challenge(), recovery_code=typed)).access_token
        refusal = await refused(person.verify(await person.challenge(), recovery_code=typed))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "MFA_FAILED")
    assert (await person.factors()).recovery_codes_left == 6
    assert (await announced(auth_db, person)).mfa.recovery_codes_left == 6


async def test_of_many_uses_of_one_recovery_code_at_once_one_succeeds(make_person: MakePerson) -> None:
    person = await make_person()
    await person.add_totp()
    challenges = [await person.challenge() for _ in range(6)]

    answers = await asyncio.gather(
        *(person.verify(challenge, recovery_code=person.recovery_codes[0]) for challenge in challenges),
        return_exceptions=True,
    )

    assert sum(isinstance(answer, Tokens) for answer in answers) == 1


async def test_new_recovery_codes_void_the_old_ones(make_person: MakePerson) -> None:
    person = await make_person()
    renew = RegenerateRecoveryCodesRequest()
    missing = await refused(person.mfa.RegenerateRecoveryCodes(renew, metadata=person.metadata, timeout=10))
    assert missing.reason == "MFA_MISSING"
    old = list((await person.add_totp()).recovery_codes)

    codes = (await person.mfa.RegenerateRecoveryCodes(renew, metadata=person.metadata, timeout=10)).codes

    assert len(codes) == 10
    assert not {*codes} & {*old}
    assert (await refused(person.verify(await person.challenge(), recovery_code=old[0]))).reason == "MFA_FAILED"
    assert (await person.verify(await person.challenge(), recovery_code=codes[0])).access_token


async def test_an_administrator_resets_the_factors_of_who_has_lost_them(
    make_person: MakePerson, auth_db: Database, admin: Metadata
) -> None:
    person = await make_person()
    await person.add_totp()
    await person.add_passkey(Authenticator())
    tokens, waiting = person.tokens, await person.challenge()
    assert (await announced(auth_db, person)).by_administrator is False

    await person.mfa.ResetUserMfa(ResetUserMfaRequest(id=person.user.id), metadata=admin, timeout=10)

    assert (await refused(person.refresh(tokens))).reason == "REFRESH_TOKEN_INVALID"
    late = await refused(person.verify(waiting, recovery_code=person.recovery_codes[0]))
    assert late.reason == "MFA_CHALLENGE_INVALID"
    assert (await person.login()).access_token
    event = await announced(auth_db, person)
    assert (event.by_administrator, event.user_id) == (True, person.user.id)
    assert event.mfa == await person.factors()
    unknown = ResetUserMfaRequest(id="0190b0a0-0000-7000-8000-000000000000")
    assert (await refused(person.mfa.ResetUserMfa(unknown, metadata=admin, timeout=10))).reason == "USER_NOT_FOUND"


async def test_a_sign_in_while_a_factor_is_added_is_ended_or_asked_for_it(make_person: MakePerson) -> None:
    for _ in range(5):
        person = await make_person()
        begun = await person.begin_enrolment()
        other = Person(person.channel, person.user, PASSWORD)

        tokens, _ = await asyncio.gather(other.login(), person.add_totp(begun))

        if tokens.access_token:
            assert (await refused(other.refresh(tokens))).reason == "REFRESH_TOKEN_INVALID"
        else:
            assert tokens.mfa.challenge


async def announced(auth_db: Database, person: Person) -> UserMfaChanged:
    """The last event of the person's factors."""
    payload = await auth_db.fetchval(
        "SELECT payload FROM outbox WHERE subject = 'user.mfa_changed' AND headers->>'ce-subject' = $1"
        " ORDER BY position DESC LIMIT 1",
        person.user.id,
    )
    return UserMfaChanged.FromString(payload)
