"""Runs the content service, or migrates its database: python -m services.content [migrate]."""

import asyncio
import sys
from pathlib import Path

import grpc
import structlog
from nats.aio.client import Client as NatsClient
from pydantic import Field, SecretStr

from libs import cache, config, db, events, identity, outbox, rpc, telemetry
from libs.db import Pool
from libs.denials import Denials
from libs.errors import Failure
from libs.revocations import Revocations
from services.content import contents, references, schedules, waits
from services.content.block_service import BlockService
from services.content.caches import Caches
from services.content.comment_service import CommentService
from services.content.locales import Locales
from services.content.reference_service import ReferenceService
from services.content.rich_text.service import RichTextService
from services.content.service import ContentService, RevisionService, WorkflowService
from services.content.slug_service import SlugService
from services.content.taxonomy_service import TaxonomyService
from services.content.type_service import ContentTypeService
from thmnayah.content.v1 import (
    blocks_pb2_grpc,
    comments_pb2_grpc,
    content_pb2_grpc,
    references_pb2_grpc,
    revisions_pb2_grpc,
    rich_text_pb2_grpc,
    slugs_pb2_grpc,
    taxonomy_pb2_grpc,
    types_pb2_grpc,
    workflow_pb2_grpc,
)

MIGRATIONS = Path(__file__).parent / "migrations"
PURGE_SECONDS = 3600

_log = structlog.get_logger(__name__)


class Settings(config.StoreSettings):
    """Settings of the content service."""

    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), description="Where Redis or Valkey is.")
    cache_bytes: int = Field(40 * 1024 * 1024, ge=0, description="How much of what is published a process keeps.")
    list_cache_bytes: int = Field(8 * 1024 * 1024, ge=0, description="How much of readers' lists a process keeps.")
    revision_days: int = Field(0, ge=0, description="How long the history is kept; 0: for ever. The newest always is.")


async def serve(settings: Settings) -> None:
    pool = await db.connect(settings.database_url.get_secret_value(), service="content", size=settings.pool_size)
    nats = NatsClient()
    refused = Denials(nats)
    redis = cache.connect(settings.redis_url.get_secret_value())
    caches = Caches.make(redis, nats, cache_bytes=settings.cache_bytes, list_cache_bytes=settings.list_cache_bytes)
    locales = Locales(pool, caches.locales)

    def register(server: grpc.aio.Server) -> None:
        items = ContentService(pool, caches, locales)
        content_pb2_grpc.add_ContentServiceServicer_to_server(items, server)
        slugs_pb2_grpc.add_SlugServiceServicer_to_server(SlugService(pool, caches, locales, items), server)
        types_pb2_grpc.add_ContentTypeServiceServicer_to_server(ContentTypeService(pool, caches), server)
        taxonomy_pb2_grpc.add_TaxonomyServiceServicer_to_server(TaxonomyService(pool, caches, locales), server)
        workflow_pb2_grpc.add_WorkflowServiceServicer_to_server(WorkflowService(pool, caches), server)
        comments_pb2_grpc.add_CommentServiceServicer_to_server(CommentService(pool), server)
        revisions_pb2_grpc.add_RevisionServiceServicer_to_server(RevisionService(pool), server)
        references_pb2_grpc.add_ReferenceServiceServicer_to_server(ReferenceService(pool), server)
        blocks_pb2_grpc.add_BlockServiceServicer_to_server(BlockService(pool), server)
        rich_text_pb2_grpc.add_RichTextServiceServicer_to_server(RichTextService(), server)

    async with rpc.channel(settings.auth_address) as auth:
        revoked = Revocations.asking(auth)
        await rpc.serve(
            settings,
            verifier=identity.Verifier.asking(auth, revoked),
            register=register,
            needs={"postgresql": lambda: db.ping(pool)},
            uses={"nats": lambda: events.ping(nats), "valkey": lambda: cache.ping(redis)},
            denied=refused.note,
            tasks=[
                refused.tell,
                lambda: events.stay_connected(nats, settings.nats_url.get_secret_value(), service="content"),
                lambda: revoked.listen(nats),
                lambda: outbox.relay(pool, nats, stream="content", replicas=settings.stream_replicas),
                lambda: caches.follow(nats),
                lambda: schedules.run(pool, caches.item_changed),
                lambda: waits.run(pool, caches.item_changed),
                lambda: references.backfill(pool),
                lambda: _purge(pool, settings.revision_days),
            ],
        )
    await redis.aclose()
    await pool.close()


async def _purge(pool: Pool, revision_days: int) -> None:
    """Remove for good, for ever, what nobody can bring back any more."""
    while True:
        try:
            async with db.connection(pool) as conn:
                while await contents.purge(conn, revision_days=revision_days):
                    pass
        except Failure as error:  # the next round tries again
            _log.warning("purge_interrupted", error=error.reason)
        await asyncio.sleep(PURGE_SECONDS)


def main() -> None:
    settings = Settings.load()
    telemetry.start("content", settings)
    if sys.argv[1:] == ["migrate"]:
        from libs import migrations  # noqa: PLC0415 — a server has no use for it

        asyncio.run(migrations.migrate(settings.database_url.get_secret_value(), MIGRATIONS))
    else:
        rpc.run(serve(settings))
    telemetry.stop()


if __name__ == "__main__":
    main()
