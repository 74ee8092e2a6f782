"""API keys in, access tokens out: for the edge, which asks with every request that brings a key, and for others."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from envoy_auth import external_auth_pb2 as envoy
from envoy_auth import external_auth_pb2_grpc as envoy_grpc
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from libs import rpc
from libs.db import Pool, connection, transaction
from libs.errors import Failure, Unauthenticated
from libs.revocations import Revocations
from services.auth import api_keys, keys, roles, users
from services.auth.digests import digest

# A token is given out again until so little is left.
LEAST_SECONDS = 60
# For so long a key is believed without asking the database: this is how soon a revocation takes effect.
BELIEVED_SECONDS = 2.0
REMEMBERED = 10_000

_log = structlog.get_logger(__name__)


@dataclass
class _Held:
    key_id: str
    user_id: str
    epoch: int
    token: str
    end: float
    grant: tuple[object, ...]
    checked: float


class Exchange:
    """Gives tokens for keys, and remembers them for a while."""

    def __init__(self, db: Pool, ring: keys.Ring, revoked: Revocations, *, environment: str) -> None:
        self.db = db
        self.ring = ring
        self.revoked = revoked
        self.environment = environment
        self._held: OrderedDict[bytes, _Held] = OrderedDict()

    async def token(self, secret: str) -> tuple[str, int]:
        """An access token for a key, and its life in seconds.

        Raises:
            Unauthenticated: the key is mistyped, unknown, expired or revoked, or its owner is gone.
            Unavailable: the database is away.
        """
        api_keys.check_form(secret, self.environment)
        kept = digest(secret)
        held = self._held.get(kept)
        if held is None or time.monotonic() - held.checked > BELIEVED_SECONDS or not self._is_good(held):
            self._held.pop(kept, None)
            held = await self._ask(kept, held)
            self._held[kept] = held
            if len(self._held) > REMEMBERED:
                self._held.popitem(last=False)
        return held.token, int(held.end - time.time())

    def _is_good(self, held: _Held) -> bool:
        enough = held.end - time.time() >= LEAST_SECONDS
        return enough and not self.revoked.refuse(held.key_id, held.user_id, held.epoch)

    async def _ask(self, kept: bytes, held: _Held | None) -> _Held:
        checked = time.monotonic()  # before the database is: a revocation after that counts from then on
        async with connection(self.db) as conn:
            row = await api_keys.find(conn, kept)
            if row is None:
                raise api_keys.invalid()
            user = await users.get(conn, str(row["user_id"]))
            version = await roles.version_for(conn, users.all_roles(user))
        if row["unnoted"]:
            async with transaction(self.db) as conn:
                await api_keys.note_use(conn, str(row["id"]), user.id)
        grant = (row["epoch"], version, tuple(users.all_roles(user)), tuple(row["scopes"]), row["expire_time"])
        if held is not None and held.grant == grant and self._is_good(held):
            held.checked = checked
            return held
        life = api_keys.TOKEN_SECONDS
        if row["expire_time"] is not None:
            life = max(1, min(life, int((row["expire_time"] - datetime.now(UTC)).total_seconds())))
        token = self.ring.signer.sign(
            user,
            str(row["id"]),
            epoch=row["epoch"],
            roles_version=version,
            life_seconds=life,
            scopes=row["scopes"],
        )
        return _Held(str(row["id"]), user.id, row["epoch"], token, int(time.time()) + life, grant, checked)


class EdgeService(envoy_grpc.AuthorizationServicer):
    """Answers Envoy's ext_authz filter, which asks about requests that bring a key."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    async def Check(self, request: envoy.CheckRequest, context: rpc.Context) -> envoy.CheckResponse:  # noqa: N802
        """Put a token in the place of the key."""
        headers = request.attributes.request.http.headers
        rpc.take_headers(headers)
        try:
            token, _ = await self.exchange.token(headers.get("authorization", "").removeprefix("Bearer "))
        except Unauthenticated:
            denied = envoy.DeniedHttpResponse(status=envoy.HttpStatus(code=401))
            return envoy.CheckResponse(status=Status(code=StatusCode.UNAUTHENTICATED.value[0]), denied_response=denied)
        except Failure as error:  # Envoy lets nobody pass then
            await context.abort(rpc.grpc_code(error), error.reason)
        except Exception:  # noqa: BLE001 — grpc would tell its text
            _log.exception("call_failed")
            await context.abort(StatusCode.INTERNAL, "internal error")
        header = envoy.HeaderValueOption(
            header=envoy.HeaderValue(key="authorization", value=f"Bearer {token}"),
            append_action=envoy.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        return envoy.CheckResponse(status=Status(), ok_response=envoy.OkHttpResponse(headers=[header]))
