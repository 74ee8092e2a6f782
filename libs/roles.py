"""The roles that an installation defines itself, as this process knows them: never older than a few seconds."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from libs.errors import Unavailable
from libs.permissions import BUILT_IN, OLD_NAMES, Grant
from thmnayah.auth.v1 import roles_pb2

# Two of these, and the call itself, are less than the 5 s in which a change is in force, with NATS or without.
POLL_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class Roles:
    """A copy of the roles, which is asked for again and again.

    While nobody answers, the copy that is here goes on being used: nobody can change a role then either.
    """

    def __init__(self, fetch: Callable[[roles_pb2.GetRoleSnapshotRequest], Awaitable[roles_pb2.RoleSnapshot]]) -> None:
        self._fetch = fetch
        self._version = 0
        self._lock = asyncio.Lock()
        self.grants: dict[str, tuple[Grant, ...]] = {}
        """Of each role."""
        self.forget: Callable[[], None] = lambda: None
        """Called when they changed."""

    async def reach(self, roles: tuple[str, ...], version: int) -> None:
        """Know these roles as they were in a version of all, or later.

        Raises:
            Unavailable: they are not known here, and nobody answers.
        """
        if all(role in BUILT_IN or role in OLD_NAMES for role in roles):
            return
        if self._version < max(version, 1):
            await self.refresh(max(version, 1))

    async def follow(self) -> None:
        """Keep up with changes for ever, once a role is needed."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self._version:
                try:
                    await self.refresh()
                except Unavailable:
                    _log.warning("roles_not_refreshed")

    async def refresh(self, version: int = 0) -> None:
        """Ask for the roles now, unless another call has just brought this version.

        Raises:
            Unavailable: nobody answers.
        """
        async with self._lock:
            if version and self._version >= version:
                return
            try:
                snapshot = await self._fetch(roles_pb2.GetRoleSnapshotRequest(version=self._version))
            except Exception as error:
                raise Unavailable(metadata={"dependency": "auth"}) from error
            if snapshot.version != self._version:
                self.grants = {role.id: tuple(map(grant, role.grants)) for role in snapshot.roles}
                self._version = snapshot.version
                self.forget()


def grant(said: roles_pb2.Grant) -> Grant:
    """A grant as decisions take it."""
    return Grant(
        permission=said.permission,
        types=frozenset(said.types),
        locales=frozenset(said.locales),
        categories=frozenset(said.categories),
        own=said.own,
        states=frozenset(said.states),
        fields=frozenset("external_id" if each == "externalId" else each for each in said.fields),
    )
