"""Challenges: the right to one step of a sign-in or an enrolment, for 5 minutes, 5 tries and one success."""

import secrets
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp

from libs.db import Connection, fetch_one
from libs.errors import Unauthenticated
from services.auth.digests import digest
from thmnayah.auth.v1.auth_pb2 import MfaChallenge

MINUTES = 5
TRIES = 5

SIGN_IN, PASSKEY_LOGIN, ENROLMENT = "sign_in", "passkey_login", "enrolment"


@dataclass(frozen=True)
class Device:
    """What a session is to be begun on."""

    name: str = ""
    browser: bool = False
    """Whether a page in a browser asks, whose refresh token goes into a cookie."""


@dataclass(frozen=True)
class Challenge:
    """A challenge that holds."""

    hash: bytes
    user_id: str
    """"" in a sign-in by passkey alone."""
    session_id: str
    """The one it was asked for in; "" in a sign-in."""
    nonce: bytes = field(repr=False)
    seed: bytes | None = field(repr=False)
    device: Device


async def begin(
    conn: Connection, purpose: str, device: Device, *, user_id: str = "", session_id: str = ""
) -> tuple[MfaChallenge, bytes]:
    """A new challenge, and the 32 bytes that a passkey has to sign for it."""
    token, nonce = secrets.token_urlsafe(32), secrets.token_bytes(32)
    row = await fetch_one(
        conn,
        """
        INSERT INTO mfa_challenges (hash, purpose, user_id, session_id, nonce, device_name, browser, expire_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(mins => $8))
        RETURNING expire_time
        """,
        digest(token),
        purpose,
        user_id or None,
        session_id or None,
        nonce,
        device.name,
        device.browser,
        MINUTES,
    )
    expire_time = Timestamp()
    expire_time.FromDatetime(row["expire_time"])
    return MfaChallenge(challenge=token, expire_time=expire_time), nonce


async def take(conn: Connection, token: str, purpose: str, *, tries: int = 1) -> Challenge:
    """Hold a challenge until the transaction ends, and count a try, which must be committed if it fails.

    Args:
        tries: 0 where nothing can be guessed.

    Raises:
        Unauthenticated: it is unknown, over, out of tries or for another purpose, or its session has ended.
    """
    row = await conn.fetchrow(
        """
        UPDATE mfa_challenges c
        SET tries = tries + $3
        WHERE hash = $1 AND purpose = $2 AND expire_time > now() AND tries < $4
          AND (session_id IS NULL OR EXISTS (SELECT FROM sessions s WHERE s.id = c.session_id AND s.end_time IS NULL))
        RETURNING hash, user_id, session_id, nonce, seed, device_name, browser
        """,
        digest(token),
        purpose,
        tries,
        TRIES,
    )
    if row is None:
        raise Unauthenticated(
            "MFA_CHALLENGE_INVALID", "this step is over; begin again", "انتهت هذه الخطوة؛ ابدأ من جديد"
        )
    return Challenge(
        row["hash"],
        str(row["user_id"] or ""),
        str(row["session_id"] or ""),
        row["nonce"],
        row["seed"],
        Device(row["device_name"], browser=row["browser"]),
    )


async def keep_seed(conn: Connection, challenge: Challenge, seed: bytes) -> None:
    """Remember the encrypted seed of an app that is being added."""
    await conn.execute("UPDATE mfa_challenges SET seed = $2 WHERE hash = $1", challenge.hash, seed)


async def end(conn: Connection, challenge: Challenge) -> None:
    """Nobody takes it again."""
    await conn.execute("DELETE FROM mfa_challenges WHERE hash = $1", challenge.hash)


async def forget_expired(conn: Connection) -> None:
    """Delete what nobody can use any more."""
    await conn.execute("DELETE FROM mfa_challenges WHERE expire_time < now()")
