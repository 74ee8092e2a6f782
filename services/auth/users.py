"""Accounts of people."""

import unicodedata

import uuid_utils

from libs import text
from libs.db import Connection, Record
from libs.errors import AlreadyExists, NotFound
from libs.identity import token_invalid
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, User

COLUMNS = "id, email, display_name, roles, group_roles, create_time, state, locale, time_zone, version"


async def create(conn: Connection, request: CreateUserRequest, *, password_hash: str) -> User:
    """Store a new account."""
    row = await conn.fetchrow(
        f"""
        INSERT INTO users (id, email, email_key, display_name, roles, password_hash)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (email_key) DO NOTHING
        RETURNING {COLUMNS}
        """,
        str(uuid_utils.uuid7()),
        text.nfc(request.email),
        key(request.email),
        text.nfc(request.display_name),
        list(request.roles),
        password_hash,
    )
    if row is None:
        raise taken()
    return message(row)


async def hold(conn: Connection, user_id: str, password_hash: str | None = None) -> bool:
    """Let nobody change an account until the transaction ends; False when it is gone or closed.

    Args:
        password_hash: False also when it is another one now.
    """
    # A sign-in waits here for a change of the password, and such a change for the sign-in.
    held = await conn.fetchval(
        "SELECT $2::text IS NULL OR password_hash = $2 FROM users WHERE id = $1 AND state = 'ACTIVE' FOR NO KEY UPDATE",
        user_id,
        password_hash,
    )
    return bool(held)


def not_found(user_id: str) -> NotFound:
    return NotFound("USER_NOT_FOUND", f"no user {user_id}", f"لا يوجد مستخدم {user_id}")


def taken() -> AlreadyExists:
    return AlreadyExists(
        "USER_EXISTS",
        "there is an account with this e-mail address",
        "يوجد حساب بهذا البريد الإلكتروني",
        violations={"email": "is taken"},
    )


async def get(conn: Connection, user_id: str) -> User:
    """The account of a signed-in caller. Raises: Unauthenticated when it is gone or closed."""
    row = await conn.fetchrow(f"SELECT {COLUMNS} FROM users WHERE id = $1 AND state = 'ACTIVE'", user_id)
    if row is None:
        raise token_invalid()
    return message(row)


async def credentials(conn: Connection, email: str) -> tuple[User, str] | None:
    """The account that an address may sign in to, and the hash of its password."""
    row = await conn.fetchrow(
        f"SELECT {COLUMNS}, password_hash FROM users WHERE email_key = $1 AND state = 'ACTIVE'", key(email)
    )
    return None if row is None else (message(row), row["password_hash"])


async def set_password_hash(conn: Connection, user_id: str, password_hash: str) -> None:
    """Replace a hash made with outdated parameters."""
    await conn.execute("UPDATE users SET password_hash = $2 WHERE id = $1", user_id, password_hash)


async def any_admin(conn: Connection) -> bool:
    """Whether anyone can administer this installation."""
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM users WHERE 'administrator' = ANY(roles))"))


def all_roles(user: User) -> list[str]:
    """A person's own roles and those of the person's groups."""
    return list(dict.fromkeys([*user.roles, *user.group_roles]))


def key(email: str) -> str:
    """An address as it is compared."""
    return unicodedata.normalize("NFKC", email).casefold()


def message(row: Record) -> User:
    """The account of a row of COLUMNS."""
    user = User(
        id=str(row["id"]),
        email=row["email"],
        display_name=row["display_name"],
        roles=row["roles"],
        group_roles=row["group_roles"],
        state=User.State.Value(row["state"]),
        locale=row["locale"],
        time_zone=row["time_zone"],
        etag=f'"{row["version"]}"',
    )
    user.create_time.FromDatetime(row["create_time"])
    return user
