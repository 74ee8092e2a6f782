"""How guessing passwords is slowed down without locking their owners out.

Failures in a row are counted for the address that was tried, known or not, and apart from it for each
device that its owner has signed in on before.
"""

import base64
import hashlib
import hmac
import os
import time
import uuid
from binascii import Error as Base64Error
from dataclasses import dataclass

from libs.db import Connection
from libs.errors import Exhausted

FREE = 5  # failures before there is a delay
STOP = 100  # failures after which no delay helps (NIST SP 800-63B)
LONGEST_DELAY_SECONDS = 900
DEVICE_SECONDS = 180 * 86_400

# After n failures, n ≥ FREE: 1 s, 2 s, 4 s …
_DELAY = f"make_interval(secs => least({LONGEST_DELAY_SECONDS}, 2 ^ least({{failures}} - {FREE}, 20)))"


@dataclass(frozen=True)
class Attempt:
    """A sign-in that may be looked at."""

    key: bytes
    counted: bool
    """Whether it stands in the count already."""
    failures: int


class Devices:
    """Signs what a device keeps to be known by."""

    def __init__(self, secret_key: bytes) -> None:
        """Args: secret_key: the installation's."""
        self._key = hmac.digest(secret_key, b"thmnayah device token", "sha256")

    def token(self, user_id: str, device: bytes | None) -> str:
        """A token for a device, a new one when it has none, that the user has just signed in on."""
        expires = int(time.time() + DEVICE_SECONDS).to_bytes(8)
        signed = (device or os.urandom(16)) + expires
        return base64.urlsafe_b64encode(signed + self._signature(user_id, signed)).decode()

    def device(self, user_id: str, token: str) -> bytes | None:
        """The device that a token of this user is of; None when it is not valid."""
        try:
            decoded = base64.b64decode(token, altchars=b"-_", validate=True)
        except (Base64Error, ValueError):
            return None
        signed, signature = decoded[:24], decoded[24:]
        if not hmac.compare_digest(signature, self._signature(user_id, signed)):
            return None
        return signed[:16] if int.from_bytes(signed[16:]) > time.time() else None

    def _signature(self, user_id: str, signed: bytes) -> bytes:
        return hmac.digest(self._key, (uuid.UUID(user_id).bytes if user_id else b"") + signed, "sha256")


def key(kind: str, value: str | bytes) -> bytes:
    """What failures are counted by.

    Args:
        kind: "address", "device" or "user".
    """
    return hashlib.sha256(kind.encode() + b"\0" + (value.encode() if isinstance(value, str) else value)).digest()


async def admit(conn: Connection, counter: bytes) -> Attempt:
    """Let an attempt through; `failed` or `succeeded` must follow.

    Once there is a delay, each attempt is counted before it is looked at: of many at the end of a
    delay, one gets through.

    Raises:
        Exhausted: `SIGN_IN_THROTTLED` before the delay is over, `SIGN_IN_STOPPED` after too many.
    """
    row = await conn.fetchrow(
        "SELECT failures, extract(epoch FROM next_time - now())::float8 AS seconds FROM failed_sign_ins WHERE key = $1",
        counter,
    )
    if row is None or row["failures"] < FREE:
        return Attempt(counter, counted=False, failures=row["failures"] if row else 0)
    if row["failures"] >= STOP:
        raise Exhausted(
            "SIGN_IN_STOPPED",
            "too many wrong passwords; reset the password",
            "محاولات دخول خاطئة كثيرة؛ أعد تعيين كلمة المرور",
        )
    claimed = row["seconds"] <= 0 and await conn.fetchval(
        f"""
        UPDATE failed_sign_ins
        SET failures = failures + 1, next_time = now() + {_DELAY.format(failures="(failures + 1)")}
        WHERE key = $1 AND next_time <= now()
        RETURNING failures
        """,
        counter,
    )
    if not claimed:
        raise Exhausted(
            "SIGN_IN_THROTTLED",
            "too many wrong passwords; wait a little",
            "محاولات دخول خاطئة كثيرة؛ انتظر قليلًا",
            retry_seconds=max(1.0, row["seconds"]),
        )
    return Attempt(counter, counted=True, failures=claimed)


async def failed(conn: Connection, attempt: Attempt) -> None:
    """Count an attempt with a wrong password."""
    if attempt.counted:
        return
    await conn.execute(
        f"""
        INSERT INTO failed_sign_ins AS counted (key, failures, next_time) VALUES ($1, 1, now())
        ON CONFLICT (key) DO UPDATE
        SET failures = counted.failures + 1,
            next_time = now() + CASE WHEN counted.failures + 1 < {FREE} THEN interval '0'
                                     ELSE {_DELAY.format(failures="(counted.failures + 1)")} END
        """,
        attempt.key,
    )


async def succeeded(conn: Connection, attempt: Attempt) -> None:
    """Begin to count anew."""
    if attempt.failures:
        await forget(conn, attempt.key)


async def forget(conn: Connection, counter: bytes) -> None:
    """Begin to count anew, whatever was."""
    await conn.execute("DELETE FROM failed_sign_ins WHERE key = $1", counter)


async def forget_old(conn: Connection) -> None:
    """Delete the counts of a day without failures, and of a month when they had come to their end."""
    await conn.execute(
        f"""
        DELETE FROM failed_sign_ins
        WHERE next_time < now() - CASE WHEN failures < {STOP} THEN interval '1 day' ELSE interval '30 days' END
        """
    )
