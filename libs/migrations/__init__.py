"""Bringing a service's database to its newest revision.

A module of its own, imported when it is needed: a server that runs wants neither Alembic nor
SQLAlchemy in its memory.
"""

import asyncio
from pathlib import Path

import asyncpg
from alembic import command, op
from alembic.config import Config
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

# One of ours at a time migrates a database; the number only has to be the same everywhere.
_MIGRATION_LOCK = 7_460_100

# A migration that waits for a lock makes every query behind it wait as well: better it fails and runs again.
MIGRATION_SESSION = ("SET lock_timeout = '2s'", "SET statement_timeout = '60s'")


async def migrate(url: str, migrations: Path) -> None:
    """Bring a database to the newest revision; whoever comes second waits and finds it done.

    Each revision is its own transaction, so one that was cut short is run again from its start.
    """
    # asyncpg reads the address itself: SQLAlchemy would not know all of its parameters.
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url), poolclass=NullPool
    )
    try:
        async with engine.connect() as conn:
            # Held by the session until the connection closes, through every revision's commit.
            # Asked for again and again: a statement that waits would stop CREATE INDEX CONCURRENTLY of who has it.
            while not await conn.scalar(text(f"SELECT pg_try_advisory_lock({_MIGRATION_LOCK})")):
                await conn.commit()
                await asyncio.sleep(0.2)
            await conn.commit()
            for statement in MIGRATION_SESSION:
                await conn.execute(text(statement))
            await conn.commit()
            await conn.run_sync(_upgrade, migrations)
    finally:
        await engine.dispose()


def run_script(script: str) -> None:
    """Run the statements of a migration, each of which ends a line with its semicolon."""
    for statement in script.split(";\n"):
        if statement.strip():
            op.execute(statement)


def alembic_config(migrations: Path) -> Config:
    """One environment serves every service; only the revisions are its own."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("version_locations", str(migrations))
    config.set_main_option("path_separator", "newline")
    return config


def _upgrade(conn: SyncConnection, migrations: Path) -> None:
    config = alembic_config(migrations)
    config.attributes["connection"] = conn
    command.upgrade(config, "head")
