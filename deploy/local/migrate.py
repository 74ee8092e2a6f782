"""Brings the services' databases up to date: python -m deploy.local.migrate < {"service": "postgresql://…"}

A process of its own, which ends: Alembic and SQLAlchemy would stay in the launcher's memory. One for all
services: half of a start would be the imports of three.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from libs import migrations

ROOT = Path(__file__).resolve().parents[2]


async def _migrate(urls: Mapping[str, str]) -> None:
    for service, url in urls.items():
        try:
            await migrations.migrate(url, ROOT / "services" / service / "migrations")
        except (SQLAlchemyError, CommandError, OSError) as error:
            sys.exit(f"the database of {service} cannot be migrated: {error}")


if __name__ == "__main__":
    asyncio.run(_migrate(json.load(sys.stdin)))
