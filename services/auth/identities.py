"""Identities at OpenID Connect providers: an issuer and a subject, and whose they are."""

import uuid_utils
from google.protobuf.timestamp_pb2 import Timestamp

from libs.db import Connection, Record
from libs.errors import AlreadyExists, FailedPrecondition, NotFound
from thmnayah.auth.v1.oidc_pb2 import Identity

MOST = 20
_COLUMNS = "id, issuer, subject, create_time, use_time"


async def use(conn: Connection, issuer: str, subject: str) -> str:
    """The id of the user whose identity it is, which signs in by it now; "" when it is nobody's."""
    user_id = await conn.fetchval(
        "UPDATE identities SET use_time = now() WHERE issuer = $1 AND subject = $2 RETURNING user_id", issuer, subject
    )
    return str(user_id or "")


async def link(conn: Connection, user_id: str, issuer: str, subject: str) -> Identity:
    """Make an identity a user's, whose row is locked.

    Raises:
        AlreadyExists: it is somebody's.
        FailedPrecondition: the user has too many.
    """
    if await conn.fetchval("SELECT count(*) FROM identities WHERE user_id = $1", user_id) >= MOST:
        raise FailedPrecondition(
            "IDENTITIES_MAX",
            f"there are {MOST} identities already; unlink one first",
            f"لديك {MOST} هوية؛ ألغِ ربط إحداها أولًا",
        )
    row = await conn.fetchrow(
        f"""
        INSERT INTO identities (id, user_id, issuer, subject) VALUES ($1, $2, $3, $4)
        ON CONFLICT (issuer, subject) DO NOTHING RETURNING {_COLUMNS}
        """,
        str(uuid_utils.uuid7()),
        user_id,
        issuer,
        subject,
    )
    if row is None:
        raise AlreadyExists("IDENTITY_TAKEN", "this identity is linked already", "هذه الهوية مرتبطة بالفعل")
    return _identity(row)


async def of(conn: Connection, user_id: str) -> list[Identity]:
    """A user's, the oldest first."""
    rows = await conn.fetch(f"SELECT {_COLUMNS} FROM identities WHERE user_id = $1 ORDER BY id", user_id)
    return [_identity(row) for row in rows]


async def unlink(conn: Connection, user_id: str, identity_id: str) -> Identity:
    """Take an identity from a user, whose row is locked.

    Raises:
        NotFound: the user has no such identity.
    """
    row = await conn.fetchrow(
        f"DELETE FROM identities WHERE id = $1 AND user_id = $2 RETURNING {_COLUMNS}", identity_id, user_id
    )
    if row is None:
        raise NotFound("IDENTITY_NOT_FOUND", f"no identity {identity_id}", f"لا توجد هوية {identity_id}")
    return _identity(row)


async def require_another_way_in(conn: Connection, user_id: str) -> None:
    """Raises: FailedPrecondition when the user could not sign in any more."""
    if not await conn.fetchval(
        """
        SELECT EXISTS (SELECT FROM users WHERE id = $1 AND password_hash IS NOT NULL)
            OR EXISTS (SELECT FROM passkeys WHERE user_id = $1)
            OR EXISTS (SELECT FROM identities WHERE user_id = $1)
        """,
        user_id,
    ):
        raise FailedPrecondition(
            "LAST_SIGN_IN",
            "you could not sign in any more; set a password first",
            "لن تستطيع تسجيل الدخول بعد ذلك؛ عيّن كلمة مرور أولًا",
        )


def _identity(row: Record) -> Identity:
    identity = Identity(id=str(row["id"]), issuer=row["issuer"], subject=row["subject"])
    for name in ("create_time", "use_time"):
        if row[name] is not None:
            moment = Timestamp()
            moment.FromDatetime(row[name])
            getattr(identity, name).CopyFrom(moment)
    return identity
