"""Passkeys, by an authenticator in software that signs what each test wants signed."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from tests.auth.authenticator import PRESENT, VERIFIED, Authenticator, base64url, from_base64url
from tests.auth.people import Database, MakePerson, Person, age
from tests.content.items import refused
from thmnayah.auth.v1.auth_pb2 import PASSKEY, RECOVERY_CODE, MfaChallenge, Tokens
from thmnayah.auth.v1.mfa_pb2 import (
    BeginPasskeyLoginRequest,
    BeginPasskeyRegistrationRequest,
    DeletePasskeyRequest,
    FinishPasskeyLoginRequest,
    FinishPasskeyRegistrationRequest,
    RenamePasskeyRequest,
    UserPasskeySuspect,
)


async def begin_login(person: Person) -> MfaChallenge:
    return await person.mfa.BeginPasskeyLogin(BeginPasskeyLoginRequest(), timeout=10)


async def finish_login(person: Person, challenge: MfaChallenge, passkey: Struct) -> Tokens:
    request = FinishPasskeyLoginRequest(challenge=challenge.challenge, passkey=passkey)
    person.tokens = await person.mfa.FinishPasskeyLogin(request, timeout=10)
    return person.tokens


async def test_a_passkey_is_a_second_factor(make_person: MakePerson) -> None:
    person, phone = await make_person(), Authenticator()
    made = await person.add_passkey(phone, name="هاتف أحمد")
    assert (made.passkey.name, len(made.recovery_codes)) == ("هاتف أحمد", 10)

    challenge = await person.challenge()

    assert set(challenge.factors) == {PASSKEY, RECOVERY_CODE}
    options = MessageToDict(challenge.passkey_options)
    assert [each["id"] for each in options["allowCredentials"]] == [base64url(phone.credential_id)]
    assert (options["rpId"], len(from_base64url(options["challenge"]))) == ("localhost", 32)
    assert (await person.verify(challenge, passkey=phone.get(challenge.passkey_options))).access_token
    assert await person.whoami() == person.user.id
    [passkey] = await person.passkeys()
    assert passkey.HasField("use_time")


async def test_a_second_factor_need_not_verify_its_user(make_person: MakePerson) -> None:
    person, key = await make_person(), Authenticator(flags=PRESENT)
    await person.add_passkey(key)
    key.user_handle = b""

    challenge = await person.challenge()

    assert (await person.verify(challenge, passkey=key.get(challenge.passkey_options))).access_token


async def test_a_passkey_alone_signs_in(make_person: MakePerson) -> None:
    person, phone = await make_person(), Authenticator()
    await person.add_passkey(phone)

    challenge = await begin_login(person)
    tokens = await finish_login(person, challenge, phone.get(challenge.passkey_options))

    options = MessageToDict(challenge.passkey_options)
    assert options["userVerification"] == "required"
    assert not options.get("allowCredentials")
    assert tokens.access_token
    assert not tokens.HasField("mfa")
    assert await person.whoami() == person.user.id


async def test_over_rest_options_and_answers_are_the_json_of_browsers(
    rest: httpx.AsyncClient, make_person: MakePerson
) -> None:
    person, phone = await make_person(), Authenticator()
    enrolment = {"challenge": await person.begin_enrolment()}
    begun = (await rest.post("/v1/auth:beginPasskeyRegistration", json=enrolment)).json()["options"]
    options = Struct()
    options.update(begun)

    made = await rest.post(
        "/v1/auth:finishPasskeyRegistration", json={**enrolment, "passkey": MessageToDict(phone.create(options))}
    )

    assert made.status_code == 200, made.text
    assert begun["timeout"] == 300_000
    assert {each["alg"] for each in begun["pubKeyCredParams"]} >= {-7, -257}
    assert begun["user"]["name"] == person.user.email
    assert begun["attestation"] == "none"
    asked = (await rest.post("/v1/auth:beginPasskeyLogin", json={})).json()
    options.Clear()
    options.update(asked["passkeyOptions"])
    signed = MessageToDict(phone.get(options))
    answer = await rest.post("/v1/auth:finishPasskeyLogin", json={"challenge": asked["challenge"], "passkey": signed})
    assert answer.json()["accessToken"]


def set_(**changed: Any) -> Callable[[Authenticator], None]:
    """Changes what an authenticator says."""
    return lambda authenticator: authenticator.__dict__.update(changed)


LIES: dict[str, Callable[[Authenticator], None]] = {
    "another site": set_(origin="https://evil.example"),
    "the site as a part of another": set_(origin="http://localhost:8080.evil.example"),
    "another port": set_(origin="http://localhost:8081"),
    "another scheme": set_(origin="https://localhost:8080"),
    "a site below ours": set_(origin="http://sub.localhost:8080"),
    "capitals": set_(origin="http://LOCALHOST:8080"),
    "another party": set_(rp_id="evil.example"),
    "a party above ours": set_(rp_id="host"),
    "nobody there": set_(flags=VERIFIED),
    "a frame of another's": set_(cross_origin=True),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_passkey_of_elsewhere_is_refused_at_sign_in(make_person: MakePerson, lie: str) -> None:
    person, phone = await make_person(), Authenticator()
    await person.add_passkey(phone)
    LIES[lie](phone)
    second, alone = await person.challenge(), await begin_login(person)

    for call in (
        person.verify(second, passkey=phone.get(second.passkey_options)),
        finish_login(person, alone, phone.get(alone.passkey_options)),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "MFA_FAILED")


@pytest.mark.parametrize("lie", LIES)
async def test_a_passkey_of_elsewhere_is_not_kept(make_person: MakePerson, lie: str) -> None:
    person, phone = await make_person(), Authenticator()
    LIES[lie](phone)

    assert (await refused(person.add_passkey(phone))).reason == "MFA_FAILED"
    assert await person.passkeys() == []


@pytest.mark.parametrize(
    "said",
    [
        {"challenge": base64url(bytes(32))},
        {"challenge": ""},
        {"type": "webauthn.create"},
        {"type": "payment.get"},
        {"origin": None},
        {"origin": ["http://localhost:8080"]},
    ],
    ids=str,
)
async def test_what_was_signed_must_be_what_was_asked(make_person: MakePerson, said: dict[str, Any]) -> None:
    person, phone = await make_person(), Authenticator()
    await person.add_passkey(phone)
    challenge = await begin_login(person)

    passkey = phone.get(challenge.passkey_options, **said)

    assert (await refused(finish_login(person, challenge, passkey))).reason == "MFA_FAILED"


async def test_alone_a_passkey_must_verify_its_user_and_say_whose_it_is(make_person: MakePerson) -> None:
    person, other, phone = await make_person(), await make_person(), Authenticator()
    await person.add_passkey(phone)
    handle = phone.user_handle

    for changed in (
        {"flags": PRESENT},
        {"user_handle": b""},
        {"user_handle": other.user.id.encode()},
        {"user_handle": handle[:-1]},
    ):
        phone.__dict__.update({"flags": PRESENT | VERIFIED, "user_handle": handle, **changed})
        challenge = await begin_login(person)
        refusal = await refused(finish_login(person, challenge, phone.get(challenge.passkey_options)))
        assert refusal.reason == "MFA_FAILED", changed


async def test_an_answer_is_good_once(make_person: MakePerson) -> None:
    person, phone = await make_person(), Authenticator(counter=0)
    await person.add_passkey(phone)
    alone, second, later = await begin_login(person), await person.challenge(), await person.challenge()
    of_alone, of_second = phone.get(alone.passkey_options), phone.get(second.passkey_options)
    await finish_login(person, alone, of_alone)
    await person.verify(second, passkey=of_second)

    assert (await refused(finish_login(person, alone, of_alone))).reason == "MFA_CHALLENGE_INVALID"
    assert (await refused(person.verify(second, passkey=of_second))).reason == "MFA_CHALLENGE_INVALID"
    assert (await refused(person.verify(later, passkey=of_second))).reason == "MFA_FAILED"
    assert (await refused(finish_login(person, later, of_alone))).reason == "MFA_CHALLENGE_INVALID"


async def test_of_many_uses_of_one_answer_at_once_one_succeeds(make_person: MakePerson) -> None:
    person, phone = await make_person(), Authenticator(counter=0)
    await person.add_passkey(phone)
    challenge = await begin_login(person)
    passkey = phone.get(challenge.passkey_options)

    answers = await asyncio.gather(
        *(finish_login(person, challenge, passkey) for _ in range(8)), return_exceptions=True
    )

    assert sum(isinstance(answer, Tokens) for answer in answers) == 1


async def test_a_challenge_ends_after_five_minutes(make_person: MakePerson, auth_db: Database) -> None:
    person, phone = await make_person(), Authenticator()
    await person.add_passkey(phone)
    second = await person.challenge()
    passkey = phone.get(second.passkey_options)
    await auth_db.execute(
        "UPDATE mfa_challenges SET expire_time = expire_time - interval '301 seconds' WHERE user_id = $1",
        person.user.id,
    )

    assert (await refused(person.verify(second, passkey=passkey))).reason == "MFA_CHALLENGE_INVALID"


async def test_a_passkey_of_another_person_is_refused(make_person: MakePerson) -> None:
    person, thief, phone, stolen = await make_person(), await make_person(), Authenticator(), Authenticator()
    await person.add_passkey(phone)
    await thief.add_passkey(stolen)
    stolen.user_handle = phone.user_handle
    challenge, alone = await person.challenge(), await begin_login(person)

    second = stolen.get(challenge.passkey_options)
    # A key of the thief's under the id of the person's.
    forged = Authenticator(credential_id=phone.credential_id, user_handle=phone.user_handle, counter=9)

    assert (await refused(person.verify(challenge, passkey=second))).reason == "MFA_FAILED"
    for passkey in (stolen.get(alone.passkey_options), forged.get(alone.passkey_options)):
        assert (await refused(finish_login(person, alone, passkey))).reason == "MFA_FAILED"
    stranger = Authenticator(user_handle=phone.user_handle)
    assert (await refused(finish_login(person, alone, stranger.get(alone.passkey_options)))).reason == "MFA_FAILED"


@pytest.mark.parametrize("back", [0, 1, 5], ids=lambda back: f"{back} back")
async def test_a_counter_that_does_not_rise_is_refused_and_announced(
    make_person: MakePerson, auth_db: Database, back: int
) -> None:
    person, phone = await make_person(), Authenticator(counter=10)
    await person.add_passkey(phone)
    challenge = await begin_login(person)
    await finish_login(person, challenge, phone.get(challenge.passkey_options))
    phone.counter -= 1 + back

    challenge = await begin_login(person)
    refusal = await refused(finish_login(person, challenge, phone.get(challenge.passkey_options)))

    assert refusal.reason == "MFA_FAILED"
    payload = await auth_db.fetchval(
        "SELECT payload FROM outbox WHERE subject = 'user.passkey_suspect' AND headers->>'ce-subject' = $1",
        person.user.id,
    )
    event = UserPasskeySuspect.FromString(payload)
    assert (event.user_id, event.passkey.name) == (person.user.id, "phone")


async def test_a_counter_that_is_always_nought_is_fine(make_person: MakePerson) -> None:
    person, phone = await make_person(), Authenticator(counter=0)
    await person.add_passkey(phone)

    for _ in range(3):
        challenge = await begin_login(person)
        assert (await finish_login(person, challenge, phone.get(challenge.passkey_options))).access_token


# What stands in an answer instead of what belongs there; None for nothing.
NONSENSE: list[tuple[str, Any]] = [
    ("id", 7),
    ("id", base64url(b"another")),
    ("rawId", "!"),
    ("type", "password"),
    ("response", "x"),
    ("response", None),
    ("clientDataJSON", base64url(b"[]")),
    ("clientDataJSON", base64url(b"\xff{")),
]
IN_A_SIGNATURE = [("signature", base64url(bytes(70))), ("authenticatorData", base64url(bytes(37))), ("signature", None)]
IN_A_CREATION = [
    ("attestationObject", base64url(b"\xa1\x63fmt\x64none")),
    ("attestationObject", base64url(b"\x9f" * 99)),
]


def spoilt(passkey: Struct, name: str, value: Any) -> Struct:
    answer: dict[str, Any] = MessageToDict(passkey)
    holder = answer if name in answer else answer["response"]
    assert name in holder
    holder[name] = value
    spoilt = Struct()
    spoilt.update(answer)
    return spoilt


@pytest.mark.parametrize(("name", "value"), NONSENSE + IN_A_SIGNATURE)
async def test_nonsense_signs_nobody_in(make_person: MakePerson, name: str, value: Any) -> None:
    person, phone = await make_person(), Authenticator()
    await person.add_passkey(phone)
    challenge = await begin_login(person)

    passkey = spoilt(phone.get(challenge.passkey_options), name, value)

    assert (await refused(finish_login(person, challenge, passkey))).reason == "MFA_FAILED"


@pytest.mark.parametrize(("name", "value"), NONSENSE + IN_A_CREATION)
async def test_nonsense_is_no_passkey(make_person: MakePerson, name: str, value: Any) -> None:
    person = await make_person()
    challenge = await person.begin_enrolment()
    begin = BeginPasskeyRegistrationRequest(challenge=challenge)
    begun = await person.mfa.BeginPasskeyRegistration(begin, timeout=10)

    passkey = spoilt(Authenticator().create(begun.options), name, value)
    request = FinishPasskeyRegistrationRequest(challenge=challenge, passkey=passkey)

    assert (await refused(person.mfa.FinishPasskeyRegistration(request, timeout=10))).reason == "MFA_FAILED"


async def test_a_person_has_several_passkeys_and_names_them(make_person: MakePerson) -> None:
    person, other, phone, laptop = await make_person(), await make_person(), Authenticator(), Authenticator()
    first = (await person.add_passkey(phone, name="phone")).passkey
    second = await person.add_passkey(laptop, name="laptop")
    assert not second.recovery_codes

    rename = RenamePasskeyRequest(id=first.id, name="old phone")
    await person.mfa.RenamePasskey(rename, metadata=person.metadata, timeout=10)

    assert [each.name for each in await person.passkeys()] == ["old phone", "laptop"]
    for call in (
        other.mfa.RenamePasskey(rename, metadata=other.metadata, timeout=10),
        other.mfa.DeletePasskey(DeletePasskeyRequest(id=first.id), metadata=other.metadata, timeout=10),
    ):
        assert (await refused(call)).reason == "PASSKEY_NOT_FOUND"
    await person.mfa.DeletePasskey(DeletePasskeyRequest(id=first.id), metadata=person.metadata, timeout=10)
    assert [each.name for each in await person.passkeys()] == ["laptop"]
    challenge = await begin_login(person)
    refusal = await refused(finish_login(person, challenge, phone.get(challenge.passkey_options)))
    assert refusal.reason == "MFA_FAILED"
    assert (await finish_login(person, challenge, laptop.get(challenge.passkey_options))).access_token


async def test_a_browser_is_told_which_passkeys_there_are(make_person: MakePerson) -> None:
    person, phone = await make_person(), Authenticator()
    await person.add_passkey(phone)

    begun = await person.mfa.BeginPasskeyRegistration(
        BeginPasskeyRegistrationRequest(challenge=await person.begin_enrolment()), timeout=10
    )

    excluded = MessageToDict(begun.options)["excludeCredentials"]
    assert [each["id"] for each in excluded] == [base64url(phone.credential_id)]


async def test_a_passkey_belongs_to_one_person(make_person: MakePerson) -> None:
    person, other, phone = await make_person(), await make_person(), Authenticator()
    await person.add_passkey(phone)

    for each in (person, other):
        refusal = await refused(each.add_passkey(phone))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "PASSKEY_EXISTS")


async def test_a_person_has_at_most_twenty_passkeys(make_person: MakePerson, auth_db: Database) -> None:
    person = await make_person()
    await person.add_passkey(Authenticator())
    await auth_db.execute(
        "INSERT INTO passkeys (id, user_id, credential_id, public_key, sign_count, name)"
        " SELECT gen_random_uuid(), $1, gen_random_uuid()::text::bytea, '', 0, '' FROM generate_series(1, 19)",
        person.user.id,
    )

    assert (await refused(person.add_passkey(Authenticator()))).reason == "PASSKEYS_MAX"


async def test_a_passkey_is_deleted_after_a_fresh_sign_in_alone(make_person: MakePerson, auth_db: Database) -> None:
    person = await make_person()
    passkey = (await person.add_passkey(Authenticator())).passkey
    await age(auth_db, person)

    delete = person.mfa.DeletePasskey(DeletePasskeyRequest(id=passkey.id), metadata=person.metadata, timeout=10)

    assert (await refused(delete)).reason == "FRESH_SIGN_IN_NEEDED"
