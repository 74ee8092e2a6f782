"""Access tokens as a service reads them: whom it believes, for how long, and while the auth service is away."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs import contracts, identity, permissions
from libs.errors import Failure, Forbidden, Unauthenticated, Unavailable
from libs.identity import Identity, Verifier
from libs.roles import Roles
from tests.conftest import eventually
from thmnayah.auth.v1.auth_pb2 import JsonWebKey, JsonWebKeySet
from thmnayah.auth.v1.roles_pb2 import GetRoleSnapshotRequest, RoleSnapshot

USER = "01900000-0000-7000-8000-000000000001"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def no_roles() -> Roles:
    """None but those that are built in."""

    async def fetch(_: GetRoleSnapshotRequest) -> RoleSnapshot:
        return RoleSnapshot(version=1)

    return Roles(fetch)


@dataclass
class Issuer:
    """An auth service: its keys by their ids, and how it answers when it is asked for them."""

    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=lambda: {"one": new_key()})
    asked: int = 0
    answer: Callable[[], Awaitable[None]] | None = None
    """Waits or raises before the answer."""

    async def fetch(self) -> JsonWebKeySet:
        self.asked += 1
        if self.answer is not None:
            await self.answer()
        return JsonWebKeySet(keys=[_public(kid, key) for kid, key in self.keys.items()])

    def token(self, kid: str = "one", **claims: Any) -> str:
        """A good token, but for what is said otherwise."""
        now = int(time.time())
        usual = {
            "iss": identity.ISSUER,
            "aud": identity.AUDIENCE,
            "sub": USER,
            "sid": "session",
            "jti": f"{time.monotonic_ns()}",  # each is another token, which nobody remembers
            "iat": now,
            "exp": now + 600,
            "roles": ["editor"],
        }
        key = self.keys.get(kid) or new_key()
        # Not jwt.encode, which refuses to write some of what a stranger may.
        payload = json.dumps(usual | claims).encode()
        return jwt.PyJWS().encode(payload, key, "ES256", headers={"typ": identity.TOKEN_TYPE, "kid": kid})


def _public(kid: str, key: ec.EllipticCurvePrivateKey) -> JsonWebKey:
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    return JsonWebKey(use="sig", alg="ES256", kid=kid, **public)


async def _fail() -> None:
    raise ConnectionError("the auth service is away")


async def _hang() -> None:
    await asyncio.sleep(1.2)
    raise TimeoutError


class Impatient(Verifier):
    """Asks for the keys whenever it may."""

    REFRESH_SECONDS = 0


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def verifier(issuer: Issuer) -> Verifier:
    return Verifier(issuer.fetch, no_roles())


@pytest.fixture
def another_second() -> Callable[[], Awaitable[None]]:
    """Waits until the keys may be asked for again, which is once a second."""

    async def wait() -> None:
        started = time.monotonic()
        await eventually(lambda: _elapsed(started), lambda seconds: seconds > 1.05)

    return wait


async def _elapsed(started: float) -> float:
    return time.monotonic() - started


async def refused(verifier: Verifier, token: str) -> bool:
    try:
        await verifier.verify(token)
    except Unauthenticated as failure:
        assert failure.reason == "TOKEN_INVALID"
        return True
    return False


async def test_a_token_says_who_calls_and_what_they_may(issuer: Issuer, verifier: Verifier) -> None:
    caller = await verifier.verify(issuer.token(roles=["editor", "reader"]))

    assert (caller.user_id, caller.session_id, caller.roles) == (USER, "session", ("editor", "reader"))
    assert caller.may("content.publish")
    assert not caller.may("users.create")


async def test_an_unknown_role_grants_nothing(issuer: Issuer, verifier: Verifier) -> None:
    caller = await verifier.verify(issuer.token(roles=["king"]))

    assert caller.permissions == {}


def test_a_permission_needs_a_caller_who_has_it() -> None:
    editor = Identity(USER, "session", ("editor",), permissions.hold(USER, ["editor"], {}))

    editor.require("content.publish")
    with pytest.raises(Forbidden) as forbidden:
        editor.require("users.create")
    with pytest.raises(Unauthenticated) as anonymous:
        identity.ANONYMOUS.require("content.publish")

    assert forbidden.value.metadata == {"permission": "users.create"}
    assert anonymous.value.reason == "TOKEN_MISSING"


def test_every_permission_of_the_contracts_is_granted_by_some_role() -> None:
    needed = {each.access.permission for each in contracts.rpcs() if each.access.WhichOneof("rule") == "permission"}

    assert needed <= permissions.PERMISSIONS
    assert needed <= permissions.hold(USER, ["admin"], {}).keys()
    assert not permissions.hold(USER, ["reader"], {})


# Keys.


async def test_a_crowd_of_first_callers_asks_for_the_keys_once(issuer: Issuer, verifier: Verifier) -> None:
    await asyncio.gather(*(verifier.verify(issuer.token()) for _ in range(50)))

    assert issuer.asked == 1


async def test_a_new_key_is_found_and_the_old_one_goes_on_working(
    issuer: Issuer, verifier: Verifier, another_second: Callable[[], Awaitable[None]]
) -> None:
    before = issuer.token("one")
    await verifier.verify(before)
    issuer.keys["two"] = new_key()
    await another_second()

    for _ in range(3):
        assert (await verifier.verify(issuer.token("two"))).user_id == USER
        assert (await verifier.verify(issuer.token("one"))).user_id == USER
    assert (await verifier.verify(before)).user_id == USER
    assert issuer.asked == 2


async def test_unknown_keys_make_nobody_ask_more_than_once_a_second(issuer: Issuer, verifier: Verifier) -> None:
    started = time.monotonic()
    while time.monotonic() - started < 1.5:
        answers = await asyncio.gather(*(refused(verifier, issuer.token(f"unknown-{n}")) for n in range(20)))
        assert all(answers)

    assert issuer.asked <= time.monotonic() - started + 1
    assert not await refused(verifier, issuer.token())


async def test_a_key_that_was_withdrawn_is_believed_no_longer(
    issuer: Issuer, another_second: Callable[[], Awaitable[None]]
) -> None:
    verifier = Impatient(issuer.fetch, no_roles())
    token = issuer.token("one")
    await verifier.verify(token)
    issuer.keys = {"two": new_key()}
    await another_second()

    # Not even what was verified with it before, and though nobody else calls.
    assert await eventually(lambda: refused(verifier, token), seconds=3)
    assert await refused(verifier, issuer.token("one"))
    assert not await refused(verifier, issuer.token("two"))


async def test_the_keys_go_on_working_while_nobody_answers(
    issuer: Issuer, another_second: Callable[[], Awaitable[None]]
) -> None:
    verifier = Impatient(issuer.fetch, no_roles())
    before = issuer.token()
    await verifier.verify(before)
    issuer.answer = _fail
    await another_second()

    for token in (before, issuer.token(), issuer.token()):
        assert (await verifier.verify(token)).user_id == USER
    assert await refused(verifier, issuer.token("unknown"))
    assert issuer.asked >= 2


async def test_nobody_waits_in_line_for_an_auth_service_that_hangs(
    issuer: Issuer, another_second: Callable[[], Awaitable[None]]
) -> None:
    verifier = Impatient(issuer.fetch, no_roles())
    await verifier.verify(issuer.token())
    issuer.answer = _hang
    await another_second()

    async with asyncio.timeout(4):  # one of the waits, not twenty
        callers = await asyncio.gather(*(verifier.verify(issuer.token()) for _ in range(20)))

    assert {caller.user_id for caller in callers} == {USER}


async def test_without_any_key_the_caller_is_not_blamed(
    issuer: Issuer, verifier: Verifier, another_second: Callable[[], Awaitable[None]]
) -> None:
    issuer.answer = _fail
    token = issuer.token()
    with pytest.raises(Unavailable) as failure:
        await verifier.verify(token)
    issuer.answer = None
    await another_second()

    assert failure.value.metadata == {"dependency": "auth"}
    assert (await verifier.verify(token)).user_id == USER


async def test_nor_are_those_who_come_right_after(issuer: Issuer, verifier: Verifier) -> None:
    issuer.answer = _fail

    outcomes = await asyncio.gather(*(verifier.verify(issuer.token()) for _ in range(10)), return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {Unavailable}


# Time.


async def test_a_remembered_token_ends_when_it_says(issuer: Issuer, verifier: Verifier) -> None:
    now = time.time()
    ends = now - identity.CLOCK_SKEW_SECONDS + 1.5  # clocks may differ by so much
    token = issuer.token(iat=int(now - 600), exp=ends)
    assert (await verifier.verify(token)).user_id == USER
    assert (await verifier.verify(token)).user_id == USER

    assert await eventually(lambda: refused(verifier, token), seconds=5)
    assert time.time() >= ends + identity.CLOCK_SKEW_SECONDS - 0.1
    assert await refused(verifier, token)


WRONG_TIMES: dict[str, Callable[[int], dict[str, Any]]] = {
    "expired": lambda now: {"iat": now - 900, "exp": now - identity.CLOCK_SKEW_SECONDS - 1},
    "not yet valid": lambda now: {"nbf": now + identity.CLOCK_SKEW_SECONDS + 5},
    "made in the future": lambda now: {"iat": now + identity.CLOCK_SKEW_SECONDS + 5, "exp": now + 600},
    "good for longer than a day": lambda now: {"exp": now + 86_400 + 60},
    "beyond all time": lambda _: {"exp": 10**400},
    "no number": lambda now: {"exp": str(now + 600) + "x"},
    "nothing": lambda _: {"exp": None},
}


@pytest.mark.parametrize("name", WRONG_TIMES)
async def test_a_token_of_another_time_is_refused(issuer: Issuer, verifier: Verifier, name: str) -> None:
    assert await refused(verifier, issuer.token(**WRONG_TIMES[name](int(time.time()))))


# Whatever is sent.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
HARD = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ONE = Issuer()


@HARD
@given(
    token=st.text(max_size=200)
    | st.text(alphabet="abcAB019-_=. ", max_size=200)
    | st.from_regex(r"\A[\w-]*\.[\w-]*\.[\w-]*\Z")
)
async def test_no_text_is_taken_for_a_token(token: str) -> None:
    assert await refused(Verifier(ONE.fetch, no_roles()), token)


@HARD
@given(claim=st.sampled_from(["iss", "aud", "sub", "sid", "jti", "iat", "exp", "nbf", "roles", "epoch"]), value=JSON)
async def test_a_strange_claim_is_refused_or_harmless(claim: str, value: Any) -> None:
    try:
        caller = await Verifier(ONE.fetch, no_roles()).verify(ONE.token(**{claim: value}))
    except Failure as failure:
        assert failure.reason == "TOKEN_INVALID"
    else:
        assert caller.user_id
        assert caller.permissions.keys() <= permissions.PERMISSIONS


@HARD
@given(name=st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jku", "jwk", "x5c", "x5u", "zip", "cty"]), value=JSON)
async def test_a_strange_header_is_refused_or_harmless(name: str, value: Any) -> None:
    header, payload, signature = ONE.token().split(".")
    changed = json.loads(jwt.utils.base64url_decode(header)) | {name: value}
    encoded = jwt.utils.base64url_encode(json.dumps(changed).encode()).decode()

    assert await refused(Verifier(ONE.fetch, no_roles()), f"{encoded}.{payload}.{signature}")
