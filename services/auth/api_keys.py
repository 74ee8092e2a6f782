"""API keys: secrets that programs act with as their owner, within scopes."""

import re
import secrets
import string
import time
import zlib
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import uuid_utils
from google.protobuf.timestamp_pb2 import Timestamp

from libs import paging, text
from libs.db import Connection, Record, fetch_one
from libs.errors import InvalidArgument, NotFound, Unauthenticated
from libs.identity import CLOCK_SKEW_SECONDS, caller
from services.auth import audit, revocations, roles
from services.auth.digests import digest
from thmnayah.auth.v1.api_keys_pb2 import ApiKey, ListApiKeysResponse
from thmnayah.auth.v1.sessions_pb2 import Revocation

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
# A token for a key lives at most so long.
TOKEN_SECONDS = 300
SECRET_CHARACTERS = 43  # 256 bits in base 62
_KEY = re.compile(r"(thm_([a-z]{2,10})_[0-9A-Za-z]{43})_([0-9A-Za-z]{6})")

_SELECT = """
    SELECT k.id, k.user_id, k.display_name, k.scopes, k.create_time, k.expire_time, k.last_used_time,
           u.service_account, u.roles || u.group_roles AS roles,
           (SELECT prefix FROM api_key_secrets WHERE key_id = k.id ORDER BY create_time DESC LIMIT 1) AS prefix
    FROM api_keys k JOIN users u ON u.id = k.user_id
"""


def new_secret(environment: str) -> str:
    """A key as its owner sees it once: thm_, the environment, 256 random bits and a checksum."""
    key = f"thm_{environment}_" + "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_CHARACTERS))
    return f"{key}_{_checksum(key)}"


def check_form(secret: str, environment: str) -> None:
    """Raises: Unauthenticated when a key was mistyped, or made for another environment."""
    match = _KEY.fullmatch(secret)
    if match is None or match[2] != environment or match[3] != _checksum(match[1]):
        raise invalid()


def invalid() -> Unauthenticated:
    return Unauthenticated("API_KEY_INVALID", "the API key is not valid", "مفتاح الواجهة البرمجية غير صالح")


def _checksum(key: str) -> str:
    rest, digits = zlib.crc32(key.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = _ALPHABET[digit] + digits
    return digits


async def create(
    conn: Connection,
    *,
    owner_id: str,
    display_name: str,
    scopes: Sequence[str],
    expire_time: datetime | None,
    environment: str,
    longest: timedelta,
) -> ApiKey:
    """Store a new key of the caller's own, or of a service account.

    Args:
        longest: life of a person's key.

    Raises:
        InvalidArgument: the owner or the caller does not hold a scope; the time cannot be.
        NotFound: the owner is neither the caller nor a service account.
    """
    owner = await conn.fetchrow(
        "SELECT roles || group_roles AS roles, service_account FROM users WHERE id = $1", owner_id
    )
    if owner is None or (owner_id != caller.get().user_id and not owner["service_account"]):
        raise NotFound("SERVICE_ACCOUNT_NOT_FOUND", f"no service account {owner_id}", f"لا يوجد حساب خدمة {owner_id}")
    _check_scopes(scopes, await roles.permissions_of(conn, owner["roles"]))
    _check_expiry(expire_time, longest=None if owner["service_account"] else longest)
    key_id = str(uuid_utils.uuid7())
    await conn.execute(
        "INSERT INTO api_keys (id, user_id, display_name, scopes, expire_time) VALUES ($1, $2, $3, $4, $5)",
        key_id,
        owner_id,
        text.nfc(display_name),
        sorted(scopes),
        expire_time,
    )
    secret = await _add_secret(conn, key_id, environment)
    await audit.record(
        conn, "key.created", target=f"key/{key_id}", details={"owner": owner_id, "scopes": " ".join(sorted(scopes))}
    )
    key = await get(conn, key_id)
    key.secret = secret
    return key


async def get(conn: Connection, key_id: str) -> ApiKey:
    """A key that the caller may see, without its secret. Raises: NotFound."""
    return _key(await _visible(conn, key_id))


async def list_keys(conn: Connection, *, owner_id: str, page_size: int, page_token: str) -> ListApiKeysResponse:
    """A page of the keys that the caller may see, newest first.

    Args:
        owner_id: whose; "-": everybody's.

    Raises:
        InvalidArgument: the page token cannot be read.
    """
    who = caller.get()
    after = paging.keys(page_token, [owner_id], (str,))
    size = paging.size(page_size)
    rows = await conn.fetch(
        f"""
        {_SELECT}
        WHERE ($1 = '-' OR k.user_id::text = lower($1)) AND ($2::text IS NULL OR k.id::text < $2)
          AND (k.user_id = $3 OR $4 OR ($5 AND u.service_account))
        ORDER BY k.id DESC LIMIT $6
        """,
        owner_id,
        None if after is None else str(after[0]),
        who.user_id,
        who.may("api_keys.manage"),
        who.may("service_accounts.manage"),
        size + 1,
    )
    response = ListApiKeysResponse(api_keys=map(_key, rows[:size]))
    if len(rows) > size:
        response.next_page_token = paging.token([str(rows[size - 1]["id"])], [owner_id])
    return response


async def delete(conn: Connection, key_id: str) -> None:
    """Revoke a key that the caller may see. Raises: NotFound."""
    row = await _visible(conn, key_id)
    await conn.execute("DELETE FROM api_keys WHERE id = $1", key_id)
    await refuse_tokens(conn, [key_id])
    await audit.record(conn, "key.revoked", target=f"key/{key_id}", details={"owner": str(row["user_id"])})


async def refuse_tokens(conn: Connection, key_ids: Sequence[str]) -> None:
    """Refuse the access tokens that were given for keys that are gone."""
    until = Timestamp(seconds=int(time.time()) + TOKEN_SECONDS + CLOCK_SKEW_SECONDS)
    await revocations.add(conn, [Revocation(session_id=key_id, expire_time=until) for key_id in key_ids])


async def rotate(
    conn: Connection,
    key_id: str,
    *,
    overlap: timedelta,
    expire_time: datetime | None,
    environment: str,
    longest: timedelta,
) -> ApiKey:
    """Give a key a new secret; those before it end after `overlap`.

    Raises:
        NotFound: it is neither the caller's own nor of a service account the caller manages.
        InvalidArgument: the caller no longer holds one of its scopes; the time cannot be.
    """
    row = await _visible(conn, key_id)
    who = caller.get()
    # With the new secret one acts as the owner: who may only revoke a person's key does not get it.
    if str(row["user_id"]) != who.user_id and not (row["service_account"] and who.may("service_accounts.manage")):
        raise _not_found(key_id)
    _check_scopes(row["scopes"], await roles.permissions_of(conn, row["roles"]))
    if expire_time is not None:
        _check_expiry(expire_time, longest=None if row["service_account"] else longest)
        await conn.execute("UPDATE api_keys SET expire_time = $2 WHERE id = $1", key_id, expire_time)
    await conn.execute(
        "UPDATE api_key_secrets SET expire_time = least(expire_time, now() + $2) WHERE key_id = $1", key_id, overlap
    )
    await conn.execute("DELETE FROM api_key_secrets WHERE key_id = $1 AND expire_time <= now()", key_id)
    secret = await _add_secret(conn, key_id, environment)
    await audit.record(conn, "key.rotated", target=f"key/{key_id}", details={"owner": str(row["user_id"])})
    key = await get(conn, key_id)
    key.secret = secret
    return key


async def find(conn: Connection, secret_digest: bytes) -> Record | None:
    """The key of a secret that is good now; `unnoted` when its use is to be noted."""
    return await conn.fetchrow(
        """
        SELECT k.id, k.user_id, u.epoch, k.scopes, least(k.expire_time, s.expire_time) AS expire_time,
               coalesce(k.last_used_time < now() - interval '1 minute', true) AS unnoted
        FROM api_key_secrets s JOIN api_keys k ON k.id = s.key_id JOIN users u ON u.id = k.user_id
        WHERE s.hash = $1 AND u.state = 'ACTIVE'
          AND coalesce(k.expire_time > now(), true) AND coalesce(s.expire_time > now(), true)
        """,
        secret_digest,
    )


async def note_use(conn: Connection, key_id: str, user_id: str) -> None:
    """Note that a key is used, and put it on record; of several at once, one does."""
    noted = await conn.fetchval(
        "UPDATE api_keys SET last_used_time = now()"
        " WHERE id = $1 AND coalesce(last_used_time < now() - interval '1 minute', true) RETURNING true",
        key_id,
    )
    if noted:
        await audit.record(conn, "key.used", target=f"key/{key_id}", actor=user_id, session=key_id)


async def _visible(conn: Connection, key_id: str) -> Record:
    who = caller.get()
    row = await conn.fetchrow(f"{_SELECT} WHERE k.id = $1 FOR UPDATE OF k", key_id)
    if row is None or not (
        str(row["user_id"]) == who.user_id
        or who.may("api_keys.manage")
        or (row["service_account"] and who.may("service_accounts.manage"))
    ):
        raise _not_found(key_id)
    return row


async def _add_secret(conn: Connection, key_id: str, environment: str) -> str:
    secret = new_secret(environment)
    await fetch_one(
        conn,
        # Not now(): two in one transaction must have an order.
        "INSERT INTO api_key_secrets (hash, key_id, prefix, create_time)"
        " VALUES ($1, $2, $3, clock_timestamp()) RETURNING prefix",
        digest(secret),
        key_id,
        secret[: len(f"thm_{environment}_") + 8],
    )
    return secret


def _check_scopes(scopes: Sequence[str], owners: Collection[str]) -> None:
    who = caller.get()
    refused = {
        f"scopes[{index}]": f"{scope} is not a permission that {'the owner' if who.may(scope) else 'you'} may pass on"
        for index, scope in enumerate(scopes)
        if scope not in owners or not who.may(scope)
    }
    if refused:
        raise InvalidArgument(refused)


def _check_expiry(expire_time: datetime | None, *, longest: timedelta | None) -> None:
    now = datetime.now(UTC)
    if expire_time is None:
        if longest is not None:
            raise InvalidArgument({"expireTime": "is required for the key of a person"})
    elif expire_time <= now:
        raise InvalidArgument({"expireTime": "is in the past"})
    elif longest is not None and expire_time > now + longest:
        raise InvalidArgument({"expireTime": f"may be at most {longest.days} days from now"})


def _not_found(key_id: str) -> NotFound:
    return NotFound("API_KEY_NOT_FOUND", f"no API key {key_id}", f"لا يوجد مفتاح {key_id}")


def _key(row: Record) -> ApiKey:
    key = ApiKey(
        id=str(row["id"]),
        owner_id=str(row["user_id"]),
        display_name=row["display_name"],
        scopes=row["scopes"],
        prefix=row["prefix"],
    )
    for name in ("create_time", "expire_time", "last_used_time"):
        if row[name] is not None:
            stamp = Timestamp()
            stamp.FromDatetime(row[name])
            getattr(key, name).CopyFrom(stamp)
    return key
