"""Recovery codes: ten for each person, each good once, for whoever has lost the other factors."""

import base64
import secrets

from libs.db import Connection
from services.auth.digests import digest

COUNT = 10
BYTES = 15  # 120 bits, which are 24 letters of base32


async def renew(conn: Connection, user_id: str) -> list[str]:
    """New codes in place of those there are; nobody sees them again."""
    codes = [base64.b32encode(secrets.token_bytes(BYTES)).decode() for _ in range(COUNT)]
    await remove(conn, user_id)
    await conn.execute(
        "INSERT INTO recovery_codes (user_id, hash) SELECT $1, unnest($2::bytea[])", user_id, list(map(digest, codes))
    )
    return ["-".join(code[at : at + 4] for at in range(0, len(code), 4)) for code in codes]


async def use(conn: Connection, user_id: str, code: str) -> bool:
    """Whether it was a code of this person's that nobody had used."""
    plain = code.replace("-", "").replace(" ", "").upper()
    return bool(
        await conn.fetchval(
            "DELETE FROM recovery_codes WHERE user_id = $1 AND hash = $2 RETURNING true", user_id, digest(plain)
        )
    )


async def remove(conn: Connection, user_id: str) -> None:
    await conn.execute("DELETE FROM recovery_codes WHERE user_id = $1", user_id)
