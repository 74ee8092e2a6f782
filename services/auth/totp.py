"""Authenticator apps (TOTP, RFC 6238): one for each person, its seed encrypted at rest."""

import hmac
import time

import pyotp

from libs.db import Connection
from libs.errors import Exhausted
from services.auth import keys

TRIES = 5
TRIES_SECONDS = 300
STEP_SECONDS = 30


def seal(seed: str, secret_key: bytes, user_id: str) -> bytes:
    """A seed encrypted for one person."""
    return keys.seal(seed.encode(), secret_key, _about(user_id))


def uri(seed: str, email: str) -> str:
    """The otpauth:// address that an app reads from a QR code."""
    return pyotp.TOTP(seed).provisioning_uri(name=email, issuer_name="Thmnayah")


def matching_step(seed: str, code: str, now: float) -> int | None:
    """The step that a code is of: that of `now`, the one before or the one after.

    Args:
        code: six decimal digits of any script.
        now: in seconds since 1970.
    """
    step = int(now) // STEP_SECONDS
    totp = pyotp.TOTP(seed)
    digits = f"{int(code):06}".encode()
    return next(
        (at for at in (step, step - 1, step + 1) if hmac.compare_digest(totp.generate_otp(at).encode(), digits)), None
    )


async def add(conn: Connection, user_id: str, sealed: bytes, code: str, secret_key: bytes) -> bool:
    """Make an app a factor if the code is of its seed, in place of the one before; whether it is."""
    step = matching_step(_seed(sealed, secret_key, user_id), code, time.time())
    if step is None:
        return False
    await conn.execute(
        """
        INSERT INTO totp_factors (user_id, seed, last_step) VALUES ($1, $2, $3)
        ON CONFLICT (user_id) DO UPDATE
        SET seed = excluded.seed, last_step = excluded.last_step, tries = 0, create_time = now()
        """,
        user_id,
        sealed,
        step,
    )
    return True


async def use(conn: Connection, user_id: str, code: str, secret_key: bytes) -> bool:
    """Whether a code is right and later than the last one; commit also when it is not.

    Raises:
        Exhausted: after 5 wrong ones within 5 minutes.
    """
    # The row is held from here on, so of two uses of one code at once the second sees the first.
    row = await conn.fetchrow(
        """
        UPDATE totp_factors
        SET tries = CASE WHEN tries_time > now() - make_interval(secs => $2) THEN tries + 1 ELSE 1 END,
            tries_time = CASE WHEN tries_time > now() - make_interval(secs => $2) THEN tries_time ELSE now() END
        WHERE user_id = $1
        RETURNING seed, last_step, tries, extract(epoch FROM tries_time - now())::float8 + $2 AS wait_seconds
        """,
        user_id,
        TRIES_SECONDS,
    )
    if row is None:
        return False
    if row["tries"] > TRIES:
        raise Exhausted("MFA_TRIES", "too many wrong codes", "رموز خاطئة كثيرة", retry_seconds=row["wait_seconds"])
    step = matching_step(_seed(row["seed"], secret_key, user_id), code, time.time())
    if step is None or step <= row["last_step"]:
        return False
    await conn.execute("UPDATE totp_factors SET last_step = $2, tries = 0 WHERE user_id = $1", user_id, step)
    return True


async def remove(conn: Connection, user_id: str) -> bool:
    """Whether there was one."""
    return bool(await conn.fetchval("DELETE FROM totp_factors WHERE user_id = $1 RETURNING true", user_id))


def _seed(sealed: bytes, secret_key: bytes, user_id: str) -> str:
    return keys.unseal(sealed, secret_key, _about(user_id)).decode()


def _about(user_id: str) -> str:
    return f"totp:{user_id}"
