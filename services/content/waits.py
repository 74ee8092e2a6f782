"""Publishing an item once all that it refers to is published: kept, done once, or given up with a reason."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import structlog

from libs.db import Connection, Pool, connection, transaction
from libs.errors import FailedPrecondition, Failure
from services.content import contents, publishing
from services.content.references import GONE, SATISFIED
from services.content.stages import Row
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.references_pb2 import ContentWaitFailed, ContentWaiting

POLL_SECONDS = 0.5
# Of one round.
MAX_ITEMS = 100

# What may be published now by what the index says, and what refers to an item that is gone.
_READY = f"""
    SELECT id FROM contents
    WHERE waiting->>'problem' = '' AND (
        NOT EXISTS (
            SELECT FROM draft_references r WHERE r.from_id = contents.id AND r.to_id <> r.from_id
            AND (r.locale = '' OR waiting->'locales' = '[]' OR waiting->'locales' ? r.locale) AND NOT {SATISFIED}
        ) OR EXISTS (SELECT FROM draft_references r WHERE r.from_id = contents.id AND {GONE})
    )
    LIMIT {MAX_ITEMS}
"""

_log = structlog.get_logger(__name__)


async def publish(conn: Connection, row: Row, *, locales: Sequence[str], author: str) -> Content | None:
    """Publish the item of a locked row, or let it wait for those that it refers to; None when it does already."""
    try:
        return await publishing.publish(conn, row, locales=locales)
    except FailedPrecondition as failure:
        if failure.reason != "REFERENCE_UNPUBLISHED":
            raise
    wait = {"locales": sorted(locales), "problem": "", "time": row["moment"].isoformat(), "created_by": author}
    if row["waiting"] is not None and (row["waiting"]["locales"], row["waiting"]["problem"]) == (wait["locales"], ""):
        return None
    return await contents.store(conn, row, {"waiting": wait}, events=[lambda content: ContentWaiting(content=content)])


async def run(pool: Pool, changed: Callable[[str], Awaitable[None]]) -> None:
    """Publish for ever what has waited for the last it refers to.

    Args:
        changed: told the id of each item that readers may see differently now.
    """
    while True:
        try:
            async with connection(pool) as conn:
                ready = [str(row["id"]) for row in await conn.fetch(_READY)]
            for content_id in ready:
                if await _finish(pool, content_id):
                    await changed(content_id)
        except (Failure, OSError, asyncpg.PostgresError) as error:  # the next round tries again
            _log.warning("wait_interrupted", error=type(error).__name__)
        await asyncio.sleep(POLL_SECONDS)


async def _finish(pool: Pool, content_id: str) -> bool:
    """Publish an item in the transaction that ends its wait, so once, whoever else tries; whether it was published."""
    async with transaction(pool) as conn:
        found = await conn.fetchrow(
            f"{contents.SELECT} WHERE id = $1 AND waiting->>'problem' = '' FOR UPDATE SKIP LOCKED", content_id
        )
        if found is None:
            return False
        row = dict(found)
        try:
            async with conn.transaction():
                published = await publishing.publish(conn, row, locales=row["waiting"]["locales"])
        except FailedPrecondition as failure:
            # What it refers to may have been unpublished just now: it goes on waiting.
            if failure.reason != "REFERENCE_UNPUBLISHED":
                given_up = {**row["waiting"], "problem": failure.reason}
                await contents.store(
                    conn, row, {"waiting": given_up}, events=[lambda content: ContentWaitFailed(content=content)]
                )
            return False
        if published is None or published.HasField("waiting"):
            await contents.store(conn, await contents.read(conn, content_id, lock=True), {"waiting": None})
        return published is not None
