"""Sign-ins by a provider that are under way: for 10 minutes, for one try, and for whoever began them."""

import hmac
import secrets
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp

from libs.db import Connection, fetch_one
from libs.errors import Unauthenticated
from services.auth.challenges import Device
from services.auth.digests import digest
from services.auth.sessions import Terms

MINUTES = 10


@dataclass(frozen=True)
class Secrets:
    """What goes to the provider: made of one secret, so that a database that is read gives none away."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)

    @classmethod
    def of(cls, secret: str, terms: Terms) -> "Secrets":
        return cls(*(terms.digest(f"oidc {name}", secret) for name in ("state", "nonce", "verifier")))


@dataclass(frozen=True)
class Login:
    """One that has come back."""

    provider_id: str
    redirect_uri: str
    device: Device
    secrets: Secrets


async def begin(
    conn: Connection, provider_id: str, redirect_uri: str, device: Device, *, session_id: str = ""
) -> tuple[str, Timestamp]:
    """A secret for its beginner to keep, and until when.

    Args:
        session_id: the one that an identity is to be linked in; "" for a sign-in.
    """
    secret = secrets.token_urlsafe(32)
    row = await fetch_one(
        conn,
        """
        INSERT INTO oidc_logins (hash, provider_id, redirect_uri, session_id, device_name, browser, expire_time)
        VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(mins => $7)) RETURNING expire_time
        """,
        digest(secret),
        provider_id,
        redirect_uri,
        session_id or None,
        device.name,
        device.browser,
        MINUTES,
    )
    expire_time = Timestamp()
    expire_time.FromDatetime(row["expire_time"])
    return secret, expire_time


async def take(conn: Connection, secret: str, state: str, terms: Terms, *, session_id: str = "") -> Login | None:
    """End a sign-in, which must be committed; None when there is none, or the state is not its own.

    Args:
        session_id: the caller's, where an identity is to be linked.
    """
    row = await conn.fetchrow(
        """
        DELETE FROM oidc_logins WHERE hash = $1 AND session_id IS NOT DISTINCT FROM $2 AND expire_time > now()
        RETURNING provider_id, redirect_uri, device_name, browser
        """,
        digest(secret),
        session_id or None,
    )
    made = Secrets.of(secret, terms)
    if row is None or not hmac.compare_digest(made.state.encode(), state.encode()):
        return None
    return Login(row["provider_id"], row["redirect_uri"], Device(row["device_name"], browser=row["browser"]), made)


def invalid() -> Unauthenticated:
    return Unauthenticated(
        "OIDC_LOGIN_INVALID", "this sign-in is over; begin again", "انتهت محاولة الدخول هذه؛ ابدأ من جديد"
    )


async def forget_expired(conn: Connection) -> None:
    """Delete what nobody can use any more."""
    await conn.execute("DELETE FROM oidc_logins WHERE expire_time < now()")
