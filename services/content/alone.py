"""Changing an item without a lock, where one statement is enough.

Most edits read a row and write it in one statement, which does nothing when the item was changed in between.
Without a transaction around them they take half the round trips.
"""

from typing import Any

from libs.db import Connection


class LockNeeded(Exception):
    """The change takes more than one statement, or somebody else changed the item first."""


class Alone:
    """Stands for a connection while nothing is locked: what asks it for anything but `write` needs the lock."""

    def __init__(self, conn: Connection) -> None:
        self._conn: Connection | None = conn

    def __getattr__(self, name: str) -> Any:
        raise LockNeeded

    async def write(self, statement: str, *parameters: object) -> None:
        """Run the one statement, which answers how many rows it changed.

        Raises:
            LockNeeded: it changed none.
        """
        if self._conn is None:
            raise RuntimeError("a change without a lock may write once")
        conn, self._conn = self._conn, None
        if not await conn.fetchval(statement, *parameters):
            raise LockNeeded
