"""The keys that access tokens are signed with: encrypted at rest, published before they are used, and replaced."""

import asyncio
import base64
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import jwt
import structlog
import uuid_utils
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from libs.db import Connection, Pool, connection, transaction
from libs.errors import NotFound, Unavailable
from libs.identity import ALGORITHM, AUDIENCE, CLOCK_SKEW_SECONDS, ISSUER, TOKEN_TYPE, Verifier
from services.auth import audit, users
from thmnayah.auth.v1.auth_pb2 import JsonWebKey, JsonWebKeySet, User
from thmnayah.auth.v1.signing_keys_pb2 import SigningKey

_LOCK = 7_460_300
POLL_SECONDS = 5.0
# Kept on after the last token that it signed has ended.
MARGIN = timedelta(seconds=Verifier.REFRESH_SECONDS + CLOCK_SKEW_SECONDS)

_log = structlog.get_logger(__name__)


class WrongSecretKey(Exception):
    """The stored signing key was sealed under another secret key."""


@dataclass(frozen=True)
class Signer:
    """Makes access tokens with one key."""

    kid: str
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)
    use_time: datetime
    """When it is used first."""

    def sign(
        self,
        user: User,
        session_id: str,
        *,
        epoch: int,
        roles_version: int,
        life_seconds: int,
        scopes: Sequence[str] | None = None,
    ) -> str:
        """An RFC 9068 access token.

        Args:
            roles_version: of all roles: whoever decides by older ones asks for them again; 0 when it does not matter.
            scopes: it allows no more than these permissions.
        """
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
            "roles": users.all_roles(user),
            "epoch": epoch,
            "rv": roles_version,
            # The edge's rate limits count a key's calls by "key".
            **({} if scopes is None else {"scope": " ".join(scopes), "key": session_id}),
        }
        return jwt.encode(claims, self.private_key, ALGORITHM, headers={"typ": TOKEN_TYPE, "kid": self.kid})


class Ring:
    """The keys of this installation as one process holds them; each process has the same within POLL_SECONDS."""

    def __init__(
        self, pool: Pool, secret_key: bytes, *, publish: timedelta, access_life: timedelta, rotate_after: timedelta
    ) -> None:
        """Args:
        publish: from a key's publication to its use: longer than anyone keeps the key set.
        access_life: of a token.
        rotate_after: how long a key is used.
        """
        self._pool = pool
        self._secret_key = secret_key
        self._publish = publish
        self._retire_after = access_life + MARGIN
        self._rotate_after = rotate_after
        self._signers: Sequence[Signer] = ()

    @property
    def signer(self) -> Signer:
        """The newest key whose time has come."""
        now = datetime.now(UTC)
        return next((each for each in self._signers if each.use_time <= now), self._signers[-1])

    async def load(self, old_secret_key: bytes = b"") -> None:
        """Read the keys and make the first; for the arguments see `ensure`.

        Raises:
            WrongSecretKey: a key can be opened with neither.
        """
        async with transaction(self._pool) as conn:
            await ensure(conn, self._secret_key, old_secret_key)
            if old_secret_key:
                await seal_anew(conn, self._secret_key, old_secret_key)
            self._signers = await _open_all(conn, self._secret_key)

    async def listed(self) -> list[SigningKey]:
        """Every key, the newest first."""
        async with connection(self._pool) as conn:
            rows = await conn.fetch(
                "SELECT kid, create_time, use_time, use_time <= now() AS used FROM signing_keys ORDER BY use_time DESC"
            )
        in_use = next((row["kid"] for row in rows if row["used"]), "")
        return [
            SigningKey(
                kid=row["kid"],
                state=(
                    SigningKey.IN_USE if row["kid"] == in_use else
                    SigningKey.RETIRED if row["used"] else SigningKey.PUBLISHED
                ),
                create_time=row["create_time"],
                use_time=row["use_time"],
            )
            for row in rows
        ]  # fmt: skip

    async def rotate(self) -> SigningKey:
        """Publish a new key, unless one waits for its use already; returns it."""
        async with transaction(self._pool) as conn:
            await _lock(conn)
            if not await conn.fetchval("SELECT EXISTS (SELECT FROM signing_keys WHERE use_time > now())"):
                await _add(conn, self._secret_key, wait=self._publish)
                _log.info("signing_key_published")
                await audit.record(conn, "signing_key.published")
            self._signers = await _open_all(conn, self._secret_key)
        return (await self.listed())[0]

    async def remove(self, kid: str) -> SigningKey:
        """Withdraw a key at once; returns the one in use from now on.

        Raises:
            NotFound: there is no such key.
        """
        async with transaction(self._pool) as conn:
            await _lock(conn)
            if await conn.fetchval("DELETE FROM signing_keys WHERE kid = $1 RETURNING true", kid) is None:
                raise NotFound("SIGNING_KEY_NOT_FOUND", f"no signing key {kid}", f"لا يوجد مفتاح توقيع {kid}")
            if not await conn.fetchval("SELECT EXISTS (SELECT FROM signing_keys WHERE use_time <= now())"):
                # One that waits for its use may be known by some already.
                await conn.execute("UPDATE signing_keys SET use_time = now()")
                await ensure(conn, self._secret_key)
            self._signers = await _open_all(conn, self._secret_key)
            await audit.record(conn, "signing_key.removed", target=f"signing_key/{kid}")
        _log.warning("signing_key_removed", kid=kid)
        return next(each for each in await self.listed() if each.state == SigningKey.IN_USE)

    async def follow(self) -> None:
        """For ever: learn of other processes' keys, rotate when it is time, and forget what no token needs."""
        while True:
            await asyncio.sleep(min(POLL_SECONDS, self._publish.total_seconds() / 3))
            try:
                async with transaction(self._pool) as conn:
                    await conn.execute(
                        """
                        DELETE FROM signing_keys WHERE use_time < (
                            SELECT max(use_time) FROM signing_keys WHERE use_time < now() - $1::interval
                        )
                        """,
                        self._retire_after,
                    )
                    self._signers = await _open_all(conn, self._secret_key)
                if self._signers[0].use_time < datetime.now(UTC) - self._rotate_after:
                    await self.rotate()
            except Unavailable:
                _log.warning("signing_keys_not_read")
            except WrongSecretKey:
                # Another process has a new secret key already: this one goes on with what it holds.
                _log.warning("signing_keys_not_opened")


async def ensure(conn: Connection, secret_key: bytes, old_secret_key: bytes = b"") -> Signer:
    """The key in use, made now if there is none.

    Args:
        conn: in a transaction.
        secret_key: 32 bytes, the installation's.
        old_secret_key: that from before; keys sealed under it are sealed under the new one.

    Raises:
        WrongSecretKey: a key can be opened with neither.
    """
    await _lock(conn)
    if not await conn.fetchval("SELECT EXISTS (SELECT FROM signing_keys)"):
        await _add(conn, secret_key, wait=timedelta(0))
    for row in await conn.fetch("SELECT kid, sealed FROM signing_keys"):
        try:
            _open(row["sealed"], secret_key, row["kid"])
        except WrongSecretKey:
            if not old_secret_key:
                raise
            sealed = _seal(_open(row["sealed"], old_secret_key, row["kid"]), secret_key, row["kid"])
            await conn.execute("UPDATE signing_keys SET sealed = $2 WHERE kid = $1", row["kid"], sealed)
    now = datetime.now(UTC)
    signers = await _open_all(conn, secret_key)
    return next((each for each in signers if each.use_time <= now), signers[-1])


async def key_set(conn: Connection) -> JsonWebKeySet:
    """The public halves, the newest first."""
    rows = await conn.fetch("SELECT kid, public FROM signing_keys ORDER BY use_time DESC")
    return JsonWebKeySet(keys=[JsonWebKey(use="sig", alg=ALGORITHM, kid=row["kid"], **row["public"]) for row in rows])


async def _lock(conn: Connection) -> None:
    """One process at a time adds keys and removes them."""
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def _open_all(conn: Connection, secret_key: bytes) -> Sequence[Signer]:
    rows = await conn.fetch("SELECT kid, sealed, use_time FROM signing_keys ORDER BY use_time DESC")
    return [Signer(row["kid"], _open(row["sealed"], secret_key, row["kid"]), row["use_time"]) for row in rows]


async def _add(conn: Connection, secret_key: bytes, *, wait: timedelta) -> None:
    private_key = ec.generate_private_key(ec.SECP256R1())
    numbers = private_key.public_key().public_numbers()
    public = {"crv": "P-256", "kty": "EC", "x": _base64url(numbers.x), "y": _base64url(numbers.y)}
    thumbprint = hashlib.sha256(json.dumps(public, separators=(",", ":")).encode()).digest()  # RFC 7638
    kid = base64.urlsafe_b64encode(thumbprint).decode().rstrip("=")
    await conn.execute(
        "INSERT INTO signing_keys (kid, public, sealed, use_time) VALUES ($1, $2, $3, now() + $4::interval)",
        kid,
        public,
        _seal(private_key, secret_key, kid),
        wait,
    )


# What else is sealed: its table and column, the primary key, and what it is sealed about.
_SEALED = (
    ("totp_factors", "seed", "user_id", "'totp:' || user_id"),
    ("oidc_providers", "client_secret", "id", "'oidc_providers/' || id"),
)


async def seal_anew(conn: Connection, secret_key: bytes, old_secret_key: bytes) -> None:
    """Seal under the secret key what is sealed under the one before, signing keys excepted: see `ensure`."""
    for table, column, row_id, about in _SEALED:
        for row in await conn.fetch(
            f"SELECT {row_id} AS id, {column} AS sealed, {about} AS about FROM {table} FOR UPDATE"
        ):
            try:
                plain = unseal(row["sealed"], old_secret_key, row["about"])
            except InvalidTag:  # under the new one already
                continue
            sealed = seal(plain, secret_key, row["about"])
            await conn.execute(f"UPDATE {table} SET {column} = $2 WHERE {row_id} = $1", row["id"], sealed)


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
