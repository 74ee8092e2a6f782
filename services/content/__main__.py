"""Runs the content service, or migrates its database: python -m services.content [migrate]."""

import asyncio
import sys
from pathlib import Path

from thmnayah.content.v1 import content_pb2_grpc

from libs import config, db, events, identity, outbox, rpc, telemetry
from services.content.service import ContentService

MIGRATIONS = Path(__file__).parent / "migrations"


async def serve(settings: config.StoreSettings) -> None:
    pool = await db.connect(settings.database_url.get_secret_value(), service="content", size=settings.pool_size)
    nats = await events.connect(settings.nats_url.get_secret_value(), service="content")
    await events.ensure_stream(nats, "content")
    async with rpc.channel(settings.auth_address) as auth:
        await rpc.serve(
            settings,
            verifier=identity.Verifier.asking(auth),
            register=lambda server: content_pb2_grpc.add_ContentServiceServicer_to_server(ContentService(pool), server),
            needs={"postgresql": lambda: db.ping(pool)},
            uses={"nats": lambda: events.ping(nats)},
            tasks=[lambda: outbox.relay(pool, nats)],
        )
    await nats.close()
    await pool.close()


def main() -> None:
    settings = config.StoreSettings.load()
    telemetry.start("content", settings)
    if sys.argv[1:] == ["migrate"]:
        asyncio.run(db.migrate(settings.database_url.get_secret_value(), MIGRATIONS))
    else:
        rpc.run(serve(settings))
    telemetry.stop()


if __name__ == "__main__":
    main()
