"""Who is calling, read from the verified token, and what that lets them do."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Self

import grpc
import jwt
import structlog

from libs.errors import Forbidden, Unauthenticated, Unavailable
from libs.permissions import NOTHING, Held, Scope, hold
from libs.revocations import Revocations
from libs.roles import Roles
from thmnayah.auth.v1.auth_pb2 import GetJwksRequest, JsonWebKeySet
from thmnayah.auth.v1.auth_pb2_grpc import AuthServiceStub
from thmnayah.auth.v1.roles_pb2_grpc import RoleServiceStub

AUDIENCE = "thmnayah"
ISSUER = "https://auth.thmnayah"
ALGORITHM = "ES256"
TOKEN_TYPE = "at+jwt"  # noqa: S105 — no secret; RFC 9068: keeps an ID token from passing as an access token
CLOCK_SKEW_SECONDS = 5
LONGEST_SECONDS = 86_400  # no token of ours lives longer than a day
LONGEST_CHARACTERS = 4096  # as the contract says of Tokens.access_token

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Identity:
    """A caller. The empty one is anonymous."""

    user_id: str = ""
    session_id: str = ""
    roles: tuple[str, ...] = ()
    permissions: Held = field(default_factory=dict, repr=False)
    epoch: int = 0
    """Grows with each change of the user that makes older tokens untrue."""
    by_key: bool = False
    """Whether it is a program with an API key, which narrows the permissions."""

    def may(self, permission: str) -> bool:
        """Whether any of the caller's roles grants the permission, on some items at least."""
        return permission in self.permissions

    def scope(self, permission: str) -> Scope | None:
        """What limits the permission; None when nothing does."""
        return self.permissions.get(permission, NOTHING)

    def require(self, permission: str) -> None:
        """Raises: Unauthenticated for an anonymous caller, Forbidden for one without the permission."""
        if not self.user_id:
            raise token_missing()
        if not self.may(permission):
            raise denied(permission)


ANONYMOUS = Identity()
caller: ContextVar[Identity] = ContextVar("caller", default=ANONYMOUS)


def denied(permission: str) -> Forbidden:
    return Forbidden(
        "PERMISSION_DENIED",
        f"this needs the permission {permission}",
        f"يتطلب هذا الإجراء الصلاحية {permission}",
        metadata={"permission": permission},
    )


def token_missing() -> Unauthenticated:
    return Unauthenticated("TOKEN_MISSING", "sign in first", "سجّل الدخول أولًا")


def token_invalid() -> Unauthenticated:
    return Unauthenticated("TOKEN_INVALID", "the access token is not valid", "رمز الوصول غير صالح")


class Verifier:
    """Checks access tokens against the auth service's public keys.

    A verified token is remembered until it expires, so its signature is checked once a process.
    Keys are asked for again after a minute, and sooner, though at most once a second, when a token
    names a key that is not known; while nobody answers, the keys already here go on working.
    What was revoked is asked each time, and only in memory.
    """

    REMEMBERED = 10_000
    REFRESH_SECONDS = 60

    def __init__(
        self, fetch_keys: Callable[[], Awaitable[JsonWebKeySet]], roles: Roles, revocations: Revocations | None = None
    ) -> None:
        """Args:
        roles, revocations: kept up by whoever serves; without the second no token is refused before its end.
        """
        self._fetch_keys = fetch_keys
        self.roles = roles
        self.revocations = revocations
        self._keys: dict[str, jwt.PyJWK] = {}
        self._refreshed = -self.REFRESH_SECONDS - 1.0
        self._tried = -2.0
        self._lock = asyncio.Lock()
        self._verified: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()
        # What a role granted before it changed must not live on in who was verified with it.
        roles.forget = self._verified.clear

    @classmethod
    def asking(cls, auth: grpc.aio.Channel, revocations: Revocations | None = None) -> Self:
        """A verifier that asks the auth service for its keys and roles."""
        stub, roles = AuthServiceStub(auth), RoleServiceStub(auth)

        def fetch_keys() -> Awaitable[JsonWebKeySet]:
            # Only who has none yet waits for a service that is still starting.
            return stub.GetJwks(GetJwksRequest(), timeout=2, wait_for_ready=not verifier._keys)

        verifier = cls(fetch_keys, Roles(lambda request: roles.GetRoleSnapshot(request, timeout=2)), revocations)
        return verifier

    async def verify(self, token: str) -> Identity:
        """Raises: Unauthenticated when anything at all is wrong with the token."""
        identity = await self._verified_identity(token)
        if self.revocations is not None:
            await self.revocations.loaded()
            if self.revocations.refuse(identity.session_id, identity.user_id, identity.epoch):
                raise token_invalid()
        return identity

    async def _verified_identity(self, token: str) -> Identity:
        if self._stale and self._keys:
            await self._refresh()
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        remembered = self._verified.get(digest)
        if remembered is not None:
            identity, expires = remembered
            if time.time() < expires + CLOCK_SKEW_SECONDS:
                return identity
            del self._verified[digest]
        try:
            if len(token) > LONGEST_CHARACTERS:
                raise token_invalid()
            header = jwt.get_unverified_header(token)
            if header.get("typ") != TOKEN_TYPE or header.get("alg") != ALGORITHM:
                raise token_invalid()
            claims = jwt.decode(
                token,
                await self._key(header.get("kid")),
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=CLOCK_SKEW_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub", "sid", "jti"]},
            )
            roles = tuple(str(role) for role in claims.get("roles", ()))
            roles_version, epoch = int(claims.get("rv", 0)), int(claims.get("epoch", 0))
            if not 0 < claims["exp"] - claims["iat"] <= LONGEST_SECONDS or not claims["sub"] or not claims["sid"]:
                raise token_invalid()
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            raise token_invalid() from None
        await self.roles.reach(roles, roles_version)
        held, scope = hold(str(claims["sub"]), roles, self.roles.grants), claims.get("scope")
        if scope is not None:
            held = {permission: held[permission] for permission in held.keys() & str(scope).split()}
        identity = Identity(str(claims["sub"]), str(claims["sid"]), roles, held, epoch=epoch, by_key=scope is not None)
        self._verified[digest] = (identity, float(claims["exp"]))
        if len(self._verified) > self.REMEMBERED:
            self._verified.popitem(last=False)
        return identity

    async def _key(self, kid: object) -> jwt.PyJWK:
        if not isinstance(kid, str):
            raise token_invalid()
        if self._stale or kid not in self._keys:
            await self._refresh()
        key = self._keys.get(kid)
        if key is None:
            raise token_invalid()
        return key

    @property
    def _stale(self) -> bool:
        return time.monotonic() - self._refreshed > self.REFRESH_SECONDS

    async def _refresh(self) -> None:
        async with self._lock:
            if time.monotonic() - self._tried <= 1:  # another call did it
                if not self._keys:
                    raise Unavailable(metadata={"dependency": "auth"})
                return
            try:
                keys = await self._fetch_keys()
            except Exception as error:
                if not self._keys:
                    raise Unavailable(metadata={"dependency": "auth"}) from error
                _log.warning("keys_not_refreshed", error=type(error).__name__)
                return
            finally:  # those who waited in line meanwhile do not try once more
                self._tried = time.monotonic()
            self._refreshed = time.monotonic()
            self._keys = {
                key.kid: jwt.PyJWK(
                    {"kty": key.kty, "crv": key.crv, "x": key.x, "y": key.y, "kid": key.kid, "alg": key.alg}
                )
                for key in keys.keys
            }
            # A key that was withdrawn must not live on in what was verified with it.
            self._verified.clear()
