"""Bad access tokens of every kind: none opens anything, at the edge or past it."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils

from deploy.local.mesh import Mesh
from libs import db, identity
from services.auth import keys
from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD, Metadata, bearer
from tests.gateway.corpus import http, problem, send
from thmnayah.content.v1.content_pb2 import Content, CreateContentRequest, ListContentsRequest
from thmnayah.content.v1.content_pb2_grpc import ContentServiceStub

USER = "01900000-0000-7000-8000-000000000001"
HOUR = 3600
REQUIRED = ("iss", "aud", "sub", "sid", "jti", "iat", "exp")


def now() -> int:
    return int(time.time())


def claims(**changes: Any) -> dict[str, Any]:
    """Those of a good access token of an administrator, but for what is said."""
    usual = {
        "iss": identity.ISSUER,
        "aud": identity.AUDIENCE,
        "client_id": identity.AUDIENCE,
        "sub": USER,
        "sid": "01900000-0000-7000-8000-000000000002",
        "jti": secrets.token_hex(8),  # no two tokens are the same: a service may remember one
        "iat": now(),
        "exp": now() + HOUR,
        "roles": ["admin"],
    }
    return usual | changes


FOREIGN = ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Forger:
    """Makes tokens with the installation's own key, which a thief would have to steal first."""

    signer: keys.Signer

    def header(self, **changes: Any) -> dict[str, Any]:
        return {"alg": "ES256", "typ": identity.TOKEN_TYPE, "kid": self.signer.kid} | changes

    def token(
        self, key: ec.EllipticCurvePrivateKey | None = None, header: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        """A token signed with the installation's key or another, as it should be but for what is said."""
        return self.signed(claims(**changes), header, key)

    def signed(
        self, payload: object, header: dict[str, Any] | None = None, key: ec.EllipticCurvePrivateKey | None = None
    ) -> str:
        return _joined(header or self.header(), payload, lambda text: _es256(key or self.signer.private_key, text))

    def hmac(self, secret: bytes) -> str:
        return _joined(self.header(alg="HS256"), claims(), lambda text: hmac.digest(secret, text, hashlib.sha256))

    def other(self, key: Any, algorithm: str) -> str:
        """A token signed with a key of another kind."""
        return jwt.encode(claims(), key, algorithm, headers=self.header(alg=algorithm))

    def public_pem(self) -> bytes:
        return self.signer.private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _joined(header: dict[str, Any], payload: object, sign: Callable[[bytes], bytes]) -> str:
    text = f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(payload).encode())}"
    return f"{text}.{_encoded(sign(text.encode()))}"


def _es256(key: ec.EllipticCurvePrivateKey, text: bytes) -> bytes:
    return jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign(text, key)


def _changed(token: str, part: int, change: Callable[[bytes], bytes]) -> str:
    """A token of which one part, decoded, was changed."""
    parts = token.split(".")
    parts[part] = _encoded(change(_decoded(parts[part])))
    return ".".join(parts)


def _set(**values: Any) -> Callable[[bytes], bytes]:
    return lambda part: json.dumps(json.loads(part) | values).encode()


def _flip(part: bytes) -> bytes:
    return bytes([part[0] ^ 1, *part[1:]])


def _der(signature: bytes) -> bytes:
    return utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def _jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    return found


BAD: dict[str, Callable[[Forger], str]] = {
    # Not signed, or not by us.
    "no token at all": lambda _: "garbage",
    "one dot": lambda _: "a.b",
    "dots alone": lambda _: "..",
    "four dots": lambda forger: forger.token() + ".x.y",
    "no JSON": lambda _: f"{_encoded(b'x')}.{_encoded(b'y')}.{_encoded(b'z')}",
    "a list for claims": lambda forger: forger.signed([]),
    "a text for claims": lambda forger: forger.signed("x"),
    "without algorithm": lambda forger: _joined(forger.header(alg="none"), claims(), lambda _: b""),
    "without algorithm, in other case": lambda forger: _joined(forger.header(alg="nOnE"), claims(), lambda _: b""),
    "without algorithm, signed": lambda forger: forger.token(header=forger.header(alg="none")),
    "without a signature": lambda forger: forger.token().rpartition(".")[0] + ".",
    "HMAC with the public key": lambda forger: forger.hmac(forger.public_pem()),
    "HMAC with a part of it": lambda forger: forger.hmac(_decoded(_jwk(forger.signer.private_key)["x"])),
    "HMAC with nothing": lambda forger: forger.hmac(b""),
    "RSA": lambda forger: forger.other(rsa.generate_private_key(65_537, 2048), "RS256"),
    "ES384": lambda forger: forger.other(ec.generate_private_key(ec.SECP384R1()), "ES384"),
    "EdDSA": lambda forger: forger.other(ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    "ES256 that says ES512": lambda forger: forger.token(header=forger.header(alg="ES512")),
    "another key under our id": lambda forger: forger.token(FOREIGN),
    "another key that brings itself": lambda forger: forger.token(FOREIGN, forger.header(jwk=_jwk(FOREIGN))),
    "another key that says where it is": lambda forger: forger.token(
        FOREIGN, forger.header(jku="https://evil.example/keys", x5u="https://evil.example/cert")
    ),
    "another key under an id of its own": lambda forger: forger.token(FOREIGN, forger.header(kid="mine")),
    "a signature of zeros": lambda forger: _changed(forger.token(), 2, lambda part: bytes(len(part))),
    "a signature in DER": lambda forger: _changed(forger.token(), 2, _der),
    "half a signature": lambda forger: _changed(forger.token(), 2, lambda part: part[:32]),
    "a signature with more behind it": lambda forger: _changed(forger.token(), 2, lambda part: part + b"\0"),
    "a changed signature": lambda forger: _changed(forger.token(), 2, _flip),
    "another token's signature": lambda forger: ".".join(
        (forger.token().rpartition(".")[0], forger.token().rpartition(".")[2])
    ),
    # Changed after they were signed.
    "another user": lambda forger: _changed(forger.token(), 1, _set(sub="01900000-0000-7000-8000-00000000ffff")),
    "another role": lambda forger: _changed(forger.token(roles=["reader"]), 1, _set(roles=["admin"])),
    "a later end": lambda forger: _changed(forger.token(exp=now() - HOUR), 1, _set(exp=now() + HOUR)),
    "a changed header": lambda forger: _changed(forger.token(), 0, _set(cty="x")),
    # Signed by us, for something else.
    "a JWT of no kind": lambda forger: forger.token(header=forger.header(typ=None)),
    "an ID token": lambda forger: forger.token(header=forger.header(typ="JWT")),
    "a logout token": lambda forger: forger.token(header=forger.header(typ="logout+jwt")),
    "no key id": lambda forger: forger.token(header={"alg": "ES256", "typ": identity.TOKEN_TYPE}),
    "an empty key id": lambda forger: forger.token(header=forger.header(kid="")),
    "an unknown key id": lambda forger: forger.token(header=forger.header(kid="unknown")),
    "a key id that is a path": lambda forger: forger.token(header=forger.header(kid="../../dev/null")),
    "a key id that is SQL": lambda forger: forger.token(header=forger.header(kid="' OR ''='")),
    "a key id that is a number": lambda forger: forger.token(header=forger.header(kid=1)),
    "an extension it must know": lambda forger: forger.token(header=forger.header(crit=["x"], x=1)),
    "another issuer": lambda forger: forger.token(iss="https://evil.example"),
    "an issuer that ours is a part of": lambda forger: forger.token(iss=identity.ISSUER + ".evil.example"),
    "a part of our issuer": lambda forger: forger.token(iss=identity.ISSUER[:-1]),
    "another audience": lambda forger: forger.token(aud="another-api"),
    "an audience that ours is a part of": lambda forger: forger.token(aud=identity.AUDIENCE + "-staging"),
    "other audiences": lambda forger: forger.token(aud=["a", "b"]),
    "no audience": lambda forger: forger.token(aud=[]),
    "expired": lambda forger: forger.token(iat=now() - HOUR, exp=now() - 60),
    "expired long ago": lambda forger: forger.token(iat=0, exp=1),
    "not yet valid": lambda forger: forger.token(nbf=now() + 600),
    "made in the future": lambda forger: forger.token(iat=now() + 600, exp=now() + 1200),
    "good for two days": lambda forger: forger.token(exp=now() + 48 * HOUR),
    "good for ever": lambda forger: forger.token(exp=2**53),
    "an end that is no number": lambda forger: forger.token(exp="tomorrow"),
    "ended before the leeway": lambda forger: forger.token(iat=now() - HOUR, exp=now() - 7),
    "not yet valid by more than the leeway": lambda forger: forger.token(nbf=now() + 60),
    "ends before it begins": lambda forger: forger.token(iat=now() + 4, exp=now() + 3),
    "a second over a day": lambda forger: forger.token(exp=now() + 24 * HOUR + 1),
    "an end that is not finite": lambda forger: forger.signed(claims(exp=float("inf"))),
    "a beginning that is no number": lambda forger: forger.token(iat="yesterday"),
    "a second end behind ours": lambda forger: _changed(
        forger.token(exp=now() - HOUR), 1, lambda part: part[:-1] + f', "exp": {now() + HOUR}}}'.encode()
    ),
    "a second algorithm behind ours": lambda forger: _changed(
        forger.token(), 0, lambda part: part[:-1] + b', "alg": "none"}'
    ),
    "a claim of many levels": lambda forger: forger.signed(claims(x=json.loads("[" * 300 + "]" * 300)), key=FOREIGN),
    "longer than ours ever are": lambda forger: forger.token(x="x" * 3500),
    "an ID token for a client": lambda forger: forger.token(
        header=forger.header(typ="JWT"), aud="studio", nonce="n", email="a@example.com"
    ),
    "nobody": lambda forger: forger.token(sub=""),
    "a user that is a number": lambda forger: forger.token(sub=1),
}


def _lacking(claim: str) -> Callable[[Forger], str]:
    return lambda forger: forger.signed({name: value for name, value in claims().items() if name != claim})


BAD |= {f"no {claim}": _lacking(claim) for claim in REQUIRED}


@pytest.fixture(scope="session")
async def forger(mesh: Mesh) -> Forger:
    secret_key = json.loads((mesh.data / "secrets.json").read_text())["secret_key"]
    pool = await db.connect(mesh.database_url("auth"), service="tests", size=1)
    async with db.transaction(pool) as conn:
        signer = await keys.ensure(conn, base64.b64decode(secret_key))
    await pool.close()
    return Forger(signer)


async def rest_answers(mesh: Mesh, authorization: Sequence[str]) -> list[int]:
    """The statuses of a protected and of a public address; errors are in the one shape and blame the token."""
    statuses = []
    for path in ("/v1/me", "/v1/contents"):
        answer = await send(mesh.address, http(path, *(f"Authorization: {value}" for value in authorization)))
        if answer.status != 200:
            error = problem(answer.status, answer.headers, answer.body)
            assert error.reason in ("TOKEN_INVALID", "TOKEN_MISSING")
            assert error.code == 16
        statuses.append(answer.status)
    return statuses


async def grpc_answers(address: str, metadata: Metadata) -> list[grpc.StatusCode]:
    """The same over gRPC."""
    codes = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = ContentServiceStub(channel)
        article = Content(type="article", title={"en": "Forged"})
        for call in (
            stub.CreateContent(CreateContentRequest(content=article), metadata=metadata, timeout=10),
            stub.ListContents(ListContentsRequest(), metadata=metadata, timeout=10),
        ):
            try:
                await call
                codes.append(grpc.StatusCode.OK)
            except grpc.aio.AioRpcError as error:
                codes.append(error.code())
    return codes


OK, UNAUTHENTICATED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED


async def test_a_token_as_ours_are_is_accepted(mesh: Mesh, forger: Forger, admin_token: str) -> None:
    """So that it is for what is wrong with them that the others are refused."""
    for address in (mesh.address, mesh.service_address("content")):
        assert await grpc_answers(address, bearer(forger.token())) == [OK, OK]
    assert (await rest_answers(mesh, [f"Bearer {forger.token()}"]))[1] == 200
    assert await rest_answers(mesh, [f"Bearer {admin_token}"]) == [200, 200]


async def test_an_account_that_is_gone_is_not_signed_in(mesh: Mesh, forger: Forger) -> None:
    assert await rest_answers(mesh, [f"Bearer {forger.token()}"]) == [401, 200]


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_is_refused_over_rest(mesh: Mesh, forger: Forger, name: str) -> None:
    assert await rest_answers(mesh, [f"Bearer {BAD[name](forger)}"]) == [401, 401]


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_is_refused_over_grpc(mesh: Mesh, forger: Forger, name: str) -> None:
    assert await grpc_answers(mesh.address, bearer(BAD[name](forger))) == [UNAUTHENTICATED, UNAUTHENTICATED]


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_is_refused_past_the_edge(mesh: Mesh, forger: Forger, name: str) -> None:
    answers = await grpc_answers(mesh.service_address("content"), bearer(BAD[name](forger)))

    assert answers == [UNAUTHENTICATED, UNAUTHENTICATED]


# How a token is sent. RFC 9110: one header, and the name of the scheme in any case.

ACCEPTED = {
    "as it should be": ["Bearer {token}"],
    "in lower case": ["bearer {token}"],
    "in upper case": ["BEARER {token}"],
    "with a space behind it": ["Bearer {token} "],
}
REFUSED = {
    "another scheme": ["Basic {token}"],
    "a user and a password": ["Basic YWRtaW46YWRtaW4="],
    "the scheme alone": ["Bearer"],
    "the scheme and a space": ["Bearer "],
    "the token alone": ["{token}"],
    "two spaces": ["Bearer  {token}"],
    "a tab": ["Bearer\t{token}"],
    "more behind it": ["Bearer {token} x"],
    "a scheme before the scheme": ["x Bearer {token}"],
    "a colon": ["Bearer: {token}"],
    "quotes": ['Bearer "{token}"'],
    "two in one": ["Bearer {token}, Bearer {token}"],
    "a second header": ["Bearer {token}", "Bearer {token}"],
    "a bad one first": ["Bearer a.b.c", "Bearer {token}"],
    "a bad one second": ["Bearer {token}", "Bearer a.b.c"],
    "another scheme first": ["Basic YWRtaW46YWRtaW4=", "Bearer {token}"],
}


@pytest.mark.parametrize("name", ACCEPTED)
async def test_a_token_may_be_sent_like_this(mesh: Mesh, admin_token: str, name: str) -> None:
    assert await rest_answers(mesh, [value.format(token=admin_token) for value in ACCEPTED[name]]) == [200, 200]


@pytest.mark.parametrize("name", REFUSED)
async def test_a_token_may_not_be_sent_like_this(mesh: Mesh, admin_token: str, name: str) -> None:
    assert await rest_answers(mesh, [value.format(token=admin_token) for value in REFUSED[name]]) == [401, 401]


SENT = {
    "in lower case": ([("authorization", "bearer {token}")], OK),
    "another scheme": ([("authorization", "Basic {token}")], UNAUTHENTICATED),
    "the token alone": ([("authorization", "{token}")], UNAUTHENTICATED),
    "two spaces": ([("authorization", "Bearer  {token}")], UNAUTHENTICATED),
    "a bad one first": ([("authorization", "Bearer a.b.c"), ("authorization", "Bearer {token}")], UNAUTHENTICATED),
    "a bad one second": ([("authorization", "Bearer {token}"), ("authorization", "Bearer a.b.c")], UNAUTHENTICATED),
    "in another header": ([("x-forwarded-access-token", "{token}")], None),
}


@pytest.mark.parametrize("name", SENT)
async def test_it_is_the_same_over_grpc_at_the_edge_and_past_it(mesh: Mesh, admin_token: str, name: str) -> None:
    pairs, code = SENT[name]
    metadata = tuple((key, value.format(token=admin_token)) for key, value in pairs)
    expected = [UNAUTHENTICATED, OK] if code is None else [code, code]  # without a token lists are read

    for address in (mesh.address, mesh.service_address("content")):
        assert await grpc_answers(address, metadata) == expected, address


@pytest.mark.parametrize("parameter", ["access_token", "token", "authorization", "jwt"])
async def test_a_token_in_the_address_is_not_looked_at(
    rest: httpx.AsyncClient, admin_token: str, parameter: str
) -> None:
    private = await rest.get("/v1/me", params={parameter: admin_token})
    public = await rest.get("/v1/contents", params={parameter: admin_token})

    assert problem(private.status_code, private.headers, private.content).reason == "TOKEN_MISSING"
    assert problem(public.status_code, public.headers, public.content).violations.keys() == {parameter}


async def test_a_token_in_a_cookie_is_not_looked_at(rest: httpx.AsyncClient, admin_token: str) -> None:
    answer = await rest.get("/v1/me", headers={"cookie": f"access_token={admin_token}; authorization={admin_token}"})

    assert problem(answer.status_code, answer.headers, answer.content).reason == "TOKEN_MISSING"


@pytest.mark.parametrize("stale", ["Bearer a.b.c", "Bearer", "Basic x", "{expired}", "{foreign}"])
async def test_whoever_holds_a_stale_token_can_still_sign_in(
    rest: httpx.AsyncClient, forger: Forger, stale: str
) -> None:
    expired = forger.token(iat=now() - HOUR, exp=now() - 60)
    headers = {"authorization": stale.format(expired=f"Bearer {expired}", foreign=f"Bearer {forger.token(FOREIGN)}")}
    credentials = {"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}

    signed_in = await rest.post("/v1/auth:login", json=credentials, headers=headers)
    refresh_token = {"refreshToken": signed_in.json()["refreshToken"]}
    refreshed = await rest.post("/v1/auth:refresh", json=refresh_token, headers=headers)
    refresh_token = {"refreshToken": refreshed.json()["refreshToken"]}
    signed_out = await rest.post("/v1/auth:logout", json=refresh_token, headers=headers)

    assert [signed_in.status_code, refreshed.status_code, signed_out.status_code] == [200, 200, 200]
