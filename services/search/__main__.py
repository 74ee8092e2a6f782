"""Runs the search service, or migrates its database: python -m services.search [migrate]."""

import asyncio
import sys
from pathlib import Path

from nats.aio.client import Client as NatsClient
from pydantic import Field

from libs import config, db, events, identity, rpc, telemetry
from libs.denials import Denials
from libs.revocations import Revocations
from services.search.documents import Writer
from services.search.index import Index
from services.search.service import SearchService
from thmnayah.search.v1 import search_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"
SUBJECTS = ("content.published", "content.unpublished", "content.deleted")


class Settings(config.StoreSettings):
    """Settings of the search service."""

    index_bytes: int = Field(32 * 1024 * 1024, ge=0, description="How much of the index a process remembers.")
    answers_bytes: int = Field(24 * 1024 * 1024, ge=0, description="How much of its answers a process remembers.")


async def serve(settings: Settings) -> None:
    pool = await db.connect(settings.database_url.get_secret_value(), service="search", size=settings.pool_size)
    nats = NatsClient()
    refused = Denials(nats)
    servicer = SearchService(pool, Index(size_bytes=settings.index_bytes), answers_bytes=settings.answers_bytes)
    async with rpc.channel(settings.auth_address) as auth:
        revoked = Revocations.asking(auth)
        await rpc.serve(
            settings,
            verifier=identity.Verifier.asking(auth, revoked),
            register=lambda server: search_pb2_grpc.add_SearchServiceServicer_to_server(servicer, server),
            needs={"postgresql": lambda: db.ping(pool)},
            uses={"nats": lambda: events.ping(nats)},
            denied=refused.note,
            tasks=[
                refused.tell,
                lambda: events.stay_connected(nats, settings.nats_url.get_secret_value(), service="search"),
                lambda: revoked.listen(nats),
                lambda: events.consume(
                    pool, nats, stream="content", consumer="search", subjects=SUBJECTS, handler=Writer().put
                ),
            ],
        )
    await pool.close()


def main() -> None:
    settings = Settings.load()
    telemetry.start("search", settings)
    if sys.argv[1:] == ["migrate"]:
        from libs import migrations  # noqa: PLC0415 — a server has no use for it

        asyncio.run(migrations.migrate(settings.database_url.get_secret_value(), MIGRATIONS))
    else:
        rpc.run(serve(settings))
    telemetry.stop()


if __name__ == "__main__":
    main()
