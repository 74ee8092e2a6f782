"""The keys that access tokens are signed with, encrypted at rest."""

import base64
import hashlib
import json
import os
import time
from dataclasses import dataclass, field

import jwt
import uuid_utils
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from libs.db import Connection
from libs.identity import ALGORITHM, AUDIENCE, ISSUER, TOKEN_TYPE
from thmnayah.auth.v1.auth_pb2 import JsonWebKey, JsonWebKeySet, User

_LOCK = 7_460_300


class WrongSecretKey(Exception):
    """The stored signing key was sealed under another secret key."""


@dataclass(frozen=True)
class Signer:
    """Makes access tokens with the key in use."""

    kid: str
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)

    def sign(self, user: User, session_id: str, *, life_seconds: int) -> str:
        """An RFC 9068 access token."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "client_id": AUDIENCE,
            "sub": user.id,
            "sid": session_id,
            "jti": str(uuid_utils.uuid7()),
            "iat": now,
            "exp": now + life_seconds,
            "roles": list(user.roles),
        }
        return jwt.encode(claims, self.private_key, ALGORITHM, headers={"typ": TOKEN_TYPE, "kid": self.kid})


async def ensure(conn: Connection, secret_key: bytes) -> Signer:
    """The newest signing key, made now if there is none.

    Args:
        conn: in a transaction.
        secret_key: 32 bytes, the installation's.

    Raises:
        WrongSecretKey: the key cannot be opened with this one.
    """
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    row = await conn.fetchrow("SELECT kid, sealed FROM signing_keys ORDER BY create_time DESC LIMIT 1")
    if row is not None:
        return Signer(row["kid"], _open(row["sealed"], secret_key, row["kid"]))
    private_key = ec.generate_private_key(ec.SECP256R1())
    numbers = private_key.public_key().public_numbers()
    public = {"crv": "P-256", "kty": "EC", "x": _base64url(numbers.x), "y": _base64url(numbers.y)}
    thumbprint = hashlib.sha256(json.dumps(public, separators=(",", ":")).encode()).digest()  # RFC 7638
    kid = base64.urlsafe_b64encode(thumbprint).decode().rstrip("=")
    await conn.execute(
        "INSERT INTO signing_keys (kid, public, sealed) VALUES ($1, $2, $3)",
        kid,
        public,
        _seal(private_key, secret_key, kid),
    )
    return Signer(kid, private_key)


async def key_set(conn: Connection) -> JsonWebKeySet:
    """The public halves, the newest first."""
    rows = await conn.fetch("SELECT kid, public FROM signing_keys ORDER BY create_time DESC")
    return JsonWebKeySet(keys=[JsonWebKey(use="sig", alg=ALGORITHM, kid=row["kid"], **row["public"]) for row in rows])


def seal(plain: bytes, secret_key: bytes, about: str) -> bytes:
    """Encrypt with AES-256-GCM; opens under the same key for the same `about` alone."""
    nonce = os.urandom(12)
    return nonce + AESGCM(secret_key).encrypt(nonce, plain, about.encode())


def unseal(sealed: bytes, secret_key: bytes, about: str) -> bytes:
    """Raises: InvalidTag when it was sealed otherwise."""
    return AESGCM(secret_key).decrypt(sealed[:12], sealed[12:], about.encode())


def _seal(private_key: ec.EllipticCurvePrivateKey, secret_key: bytes, kid: str) -> bytes:
    plain = private_key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return seal(plain, secret_key, kid)


def _open(sealed: bytes, secret_key: bytes, kid: str) -> ec.EllipticCurvePrivateKey:
    try:
        plain = unseal(sealed, secret_key, kid)
    except InvalidTag:
        raise WrongSecretKey("THMNAYAH_SECRET_KEY is not the one the signing key was stored under") from None
    private_key = serialization.load_der_private_key(plain, password=None)
    if not isinstance(private_key, ec.EllipticCurvePrivateKey):
        raise WrongSecretKey("the stored signing key is not an elliptic-curve key")
    return private_key


def _base64url(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).decode().rstrip("=")
