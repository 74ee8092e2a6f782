"""Runs the content service, or migrates its database: python -m services.content [migrate]."""

import asyncio
import sys
from pathlib import Path

import grpc
from nats.aio.client import Client as NatsClient
from pydantic import Field, SecretStr

from libs import cache, config, db, events, identity, outbox, rpc, telemetry
from services.content.caches import Caches
from services.content.locales import Locales
from services.content.service import ContentService
from services.content.taxonomy import TaxonomyService
from thmnayah.content.v1 import content_pb2_grpc, taxonomy_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"
# What the subjects of its events begin with, beside "content".
MORE_SUBJECTS = ("locale", "category", "tag")


class Settings(config.StoreSettings):
    """Settings of the content service."""

    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), description="Where Redis or Valkey is.")
    cache_bytes: int = Field(40 * 1024 * 1024, ge=0, description="How much of what is published a process keeps.")
    list_cache_bytes: int = Field(8 * 1024 * 1024, ge=0, description="How much of readers' lists a process keeps.")


async def serve(settings: Settings) -> None:
    pool = await db.connect(settings.database_url.get_secret_value(), service="content", size=settings.pool_size)
    nats = NatsClient()
    redis = cache.connect(settings.redis_url.get_secret_value())
    caches = Caches.make(redis, nats, cache_bytes=settings.cache_bytes, list_cache_bytes=settings.list_cache_bytes)
    locales = Locales(pool, caches.locales)

    def register(server: grpc.aio.Server) -> None:
        content_pb2_grpc.add_ContentServiceServicer_to_server(ContentService(pool, caches, locales), server)
        taxonomy_pb2_grpc.add_TaxonomyServiceServicer_to_server(TaxonomyService(pool, caches, locales), server)

    async with rpc.channel(settings.auth_address) as auth:
        await rpc.serve(
            settings,
            verifier=identity.Verifier.asking(auth),
            register=register,
            needs={"postgresql": lambda: db.ping(pool)},
            uses={"nats": lambda: events.ping(nats), "valkey": lambda: cache.ping(redis)},
            tasks=[
                lambda: events.stay_connected(nats, settings.nats_url.get_secret_value(), service="content"),
                lambda: outbox.relay(
                    pool, nats, stream="content", more=MORE_SUBJECTS, replicas=settings.stream_replicas
                ),
                *caches.followers(),
            ],
        )
    await redis.aclose()
    await pool.close()


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
