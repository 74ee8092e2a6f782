"""Denials out: who was refused what. The auth service puts it on record.

Of one caller's denials the first is told within a second, the others counted and told once a minute: whoever
asks in a loop fills no disk.
"""

import asyncio
import time

import structlog
from nats.aio.client import Client as NatsClient
from nats.errors import Error as NatsError
from prometheus_client import Counter

from libs import outbox, rpc, telemetry
from libs.errors import Failure
from libs.identity import caller
from thmnayah.auth.v1.audit_pb2 import AccessDenied

WINDOW_SECONDS = 60.0
# More callers, and of each more kinds of denials, are not told apart.
CALLERS = 10_000
KINDS = 20
_SEND_SECONDS = 5.0

_lost = Counter("denials_lost_total", "Denials that are on no record, since NATS was away")
_log = structlog.get_logger(__name__)


class Denials:
    """What is to be told, and who was told of when."""

    def __init__(self, nats: NatsClient) -> None:
        self._nats = nats
        self._waiting: dict[str, dict[tuple[str, str], AccessDenied]] = {}
        self._told: dict[str, float] = {}

    def note(self, failure: Failure, method: str) -> None:
        """Count that the call being served is refused."""
        identity = caller.get()
        actor = identity.user_id if identity.user_id in self._waiting or len(self._waiting) < CALLERS else ""
        kinds = self._waiting.setdefault(actor, {})
        kind = (method, failure.reason)
        if kind not in kinds and len(kinds) >= KINDS:
            kind = ("", "")
        denial = kinds.get(kind)
        if denial is None:
            denial = kinds[kind] = AccessDenied(
                actor=actor,
                session=identity.session_id,
                method=kind[0],
                reason=kind[1],
                permission=failure.metadata.get("permission", ""),
                request_id=telemetry.request_id.get(),
                client_address=rpc.client_address(),
                user_agent=rpc.request_header("user-agent")[:300],
            )
            denial.first_time.GetCurrentTime()
        denial.count += 1

    def due(self, now: float) -> list[AccessDenied]:
        """Take what is to be told at this time, in seconds of a clock that only runs forward."""
        self._told = {actor: told for actor, told in self._told.items() if now - told < WINDOW_SECONDS}
        actors = [actor for actor in self._waiting if actor not in self._told]
        self._told |= dict.fromkeys(actors, now)
        return [denial for actor in actors for denial in self._waiting.pop(actor).values()]

    async def tell(self) -> None:
        """Tell what is due, for ever. What cannot be sent is counted and logged, and otherwise lost."""
        jetstream = self._nats.jetstream(timeout=_SEND_SECONDS)
        try:
            while True:
                await asyncio.sleep(1)
                if not self._nats.is_connected:
                    continue
                for denial in self.due(time.monotonic()):
                    event_id, subject, headers, payload = outbox.row(denial, about=denial.actor)
                    try:
                        await jetstream.publish(subject, payload, headers=headers | {"Nats-Msg-Id": event_id})
                    except (NatsError, OSError, TimeoutError) as error:
                        _lose(denial.count, type(error).__name__)
        finally:
            if waiting := sum(each.count for kinds in self._waiting.values() for each in kinds.values()):
                _lose(waiting, "stopped")


def _lose(count: int, error: str) -> None:
    _lost.inc(count)
    _log.warning("denials_lost", count=count, error=error)
