"""GetJwks: the keys that anyone can check our tokens with."""

import base64
import hashlib
import json

import httpx
import jwt

from tests.conftest import AuthStub
from thmnayah.auth.v1.auth_pb2 import GetJwksRequest


async def test_the_key_set_is_one_that_libraries_read(rest: httpx.AsyncClient, editor_token: str) -> None:
    answer = await rest.get("/.well-known/jwks.json")

    assert answer.status_code == 200
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(answer.json()).keys}
    header = jwt.get_unverified_header(editor_token)
    assert (header["alg"], header["typ"]) == ("ES256", "at+jwt")
    claims = jwt.decode(
        editor_token, keys[header["kid"]], algorithms=["ES256"], audience="thmnayah", issuer="https://auth.thmnayah"
    )
    assert {"iss", "aud", "client_id", "sub", "sid", "jti", "iat", "exp", "roles", "rv", "epoch"} == claims.keys()


async def test_a_key_has_its_public_members_and_no_other(rest: httpx.AsyncClient) -> None:
    keys = (await rest.get("/.well-known/jwks.json")).json()["keys"]

    assert keys
    for key in keys:
        assert key.keys() == {"kty", "use", "alg", "kid", "crv", "x", "y"}
        assert (key["kty"], key["use"], key["alg"], key["crv"]) == ("EC", "sig", "ES256", "P-256")
        for coordinate in ("x", "y"):
            assert len(base64.urlsafe_b64decode(key[coordinate] + "=")) == 32
        members = {name: key[name] for name in ("crv", "kty", "x", "y")}
        digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
        assert key["kid"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")  # RFC 7638


async def test_both_ways_to_ask_give_the_same_keys(rest: httpx.AsyncClient, auth: AuthStub) -> None:
    answer = await auth.GetJwks(GetJwksRequest(), timeout=10)

    assert [key.kid for key in answer.keys] == [
        key["kid"] for key in (await rest.get("/.well-known/jwks.json")).json()["keys"]
    ]
