"""PostgreSQL: the pool, connections and transactions from it."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import structlog

from libs.errors import Conflict, Unavailable

Record: TypeAlias = asyncpg.Record
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

# A second for a free connection: a caller who waited longer is better served by trying again.
ACQUIRE_SECONDS = 1.0
COMMAND_SECONDS = 6.0  # above statement_timeout, so that the server ends a statement first

_SESSION = {
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    # Statements here are short: compiling them costs more than it saves.
    "jit": "off",
}

_log = structlog.get_logger(__name__)


class NotDurable(Exception):
    """The server may lose what it acknowledged, so no service writes to it."""


async def connect(url: str, *, service: str, size: int = 8) -> Pool:
    """A pool of connections to a database that keeps what it acknowledges.

    Raises:
        NotDurable: the server runs with `fsync` or `synchronous_commit` off, or without checksums.
        OSError, asyncpg.PostgresError: it cannot be reached or refuses us.
    """
    pool = await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=size,
        command_timeout=COMMAND_SECONDS,
        timeout=5,
        init=_prepare,
        reset=_keep,
        server_settings={"application_name": f"thmnayah-{service}", **_SESSION},
    )
    row = await pool.fetchrow(
        "SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,"
        " current_setting('data_checksums') AS data_checksums"
    )
    weak = [f"{name} = off" for name, value in dict(row or {}).items() if value == "off"]
    if weak:
        await pool.close()
        raise NotDurable(f"PostgreSQL may lose acknowledged writes: {', '.join(weak)}")
    return pool


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection for statements that each stand alone.

    Raises:
        Unavailable: the database is away; the pool has dropped the connections to it.
        Conflict: the statements and somebody else's waited for each other.
    """
    try:
        conn = await pool.acquire(timeout=ACQUIRE_SECONDS)
    except TimeoutError as error:  # all are in use: they are not to blame
        raise Unavailable(metadata={"dependency": "postgresql"}) from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        await _lost(pool, error)
        raise Unavailable(metadata={"dependency": "postgresql"}) from error
    try:
        yield conn
    except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
        raise Conflict(
            "CONCURRENT_CHANGE", "another change came in between; try again", "حدث تغيير متزامن؛ حاول مرة أخرى"
        ) from error
    except BaseException as error:
        if not _is_unavailable(error):
            raise
        await _lost(pool, error)
        raise Unavailable(metadata={"dependency": "postgresql"}) from error
    finally:
        await pool.release(conn)


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """A connection in a transaction, which commits when the block ends without an exception.

    Raises:
        Unavailable: the database is away. The effect may have happened when it went during COMMIT.
    """
    async with connection(pool) as conn, conn.transaction():
        yield conn


async def fetch_one(conn: Connection, statement: str, *parameters: object) -> Record:
    """The row of a statement that always has one, such as INSERT … RETURNING."""
    row = await conn.fetchrow(statement, *parameters)
    if row is None:
        raise LookupError("a statement that returns a row returned none")
    return row


async def ping(pool: Pool) -> None:
    """Raises: Unavailable when the database does not answer."""
    async with connection(pool) as conn:
        await conn.fetchval("SELECT 1", timeout=1)


async def _prepare(conn: Any) -> None:
    await conn.set_type_codec("jsonb", encoder=_to_json, decoder=json.loads, schema="pg_catalog")


async def _keep(_conn: Any) -> None:
    """Nothing here changes a session's state but the relay, which puts its lock back: no query to reset it."""


# Made once: json.dumps makes an encoder a call when it is told anything.
_to_json = json.JSONEncoder(ensure_ascii=False).encode


def _is_unavailable(error: BaseException) -> bool:
    """Whether the database, and not the statement, is at fault."""
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        # 25006: demoted to a standby; 57P01..3: shut down, crashed, starting; 53: out of connections or disk.
        return code in {"25006", "57P01", "57P02", "57P03"} or code.startswith(("08", "53"))
    # Our own time-outs and connection errors; those of other libraries derive from them and are not meant.
    return type(error) in (TimeoutError, OSError, socket.gaierror) or isinstance(
        error, (ConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    )


async def _lost(pool: Pool, error: BaseException) -> None:
    _log.warning("database_unavailable", error=type(error).__name__)
    await pool.expire_connections()
