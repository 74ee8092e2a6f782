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
from thmnayah.auth.v1.auth_pb2 import GetJwksRequest, JsonWebKeySet
from thmnayah.auth.v1.auth_pb2_grpc import AuthServiceStub

AUDIENCE = "thmnayah"
ISSUER = "https://auth.thmnayah"
ALGORITHM = "ES256"
TOKEN_TYPE = "at+jwt"  # noqa: S105 — no secret; RFC 9068: keeps an ID token from passing as an access token
CLOCK_SKEW_SECONDS = 5
LONGEST_SECONDS = 86_400  # no token of ours lives longer than a day

_EDIT = ("create", "update", "review", "publish", "delete", "comment", "read_drafts", "edit_categories", "edit_tags")
_WRITE = frozenset(f"content.{verb}" for verb in _EDIT) | {"content_types.read"}
_DEFINE = frozenset({"content_types.create", "content_types.update", "content_types.delete", "content.edit_locales"})
_PEOPLE = frozenset({"users.create", "users.read", "users.update", "users.delete"})

# What each built-in role grants. A permission names what it allows: service, then verb.
ROLES: dict[str, frozenset[str]] = {
    "admin": _WRITE | _DEFINE | _PEOPLE | {"content.moderate_comments"},
    "editor": _WRITE,
    "reader": frozenset(),
}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Identity:
    """A caller. The empty one is anonymous."""

    user_id: str = ""
    session_id: str = ""
    roles: tuple[str, ...] = ()
    permissions: frozenset[str] = field(default=frozenset(), repr=False)

    def may(self, permission: str) -> bool:
        """Whether any of the caller's roles grants the permission."""
        return permission in self.permissions

    def require(self, permission: str) -> None:
        """Raises: Unauthenticated for an anonymous caller, Forbidden for one without the permission."""
        if not self.user_id:
            raise token_missing()
        if not self.may(permission):
            raise Forbidden(
                "PERMISSION_DENIED",
                f"this needs the permission {permission}",
                f"يتطلب هذا الإجراء الصلاحية {permission}",
                metadata={"permission": permission},
            )


ANONYMOUS = Identity()
caller: ContextVar[Identity] = ContextVar("caller", default=ANONYMOUS)


def token_missing() -> Unauthenticated:
    return Unauthenticated("TOKEN_MISSING", "sign in first", "سجّل الدخول أولًا")


def token_invalid() -> Unauthenticated:
    return Unauthenticated("TOKEN_INVALID", "the access token is not valid", "رمز الوصول غير صالح")


class Verifier:
    """Checks access tokens against the auth service's public keys.

    A verified token is remembered until it expires, so its signature is checked once a process.
    Keys are asked for again after a minute, and sooner, though at most once a second, when a token
    names a key that is not known; while nobody answers, the keys already here go on working.
    """

    REMEMBERED = 10_000
    REFRESH_SECONDS = 60

    def __init__(self, fetch_keys: Callable[[], Awaitable[JsonWebKeySet]]) -> None:
        self._fetch_keys = fetch_keys
        self._keys: dict[str, jwt.PyJWK] = {}
        self._refreshed = -self.REFRESH_SECONDS - 1.0
        self._tried = -2.0
        self._lock = asyncio.Lock()
        self._verified: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()

    @classmethod
    def asking(cls, auth: grpc.aio.Channel) -> Self:
        """A verifier that asks the auth service for its keys."""
        stub = AuthServiceStub(auth)
        return cls(lambda: stub.GetJwks(GetJwksRequest(), timeout=2))

    async def verify(self, token: str) -> Identity:
        """Raises: Unauthenticated when anything at all is wrong with the token."""
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
            if not 0 < claims["exp"] - claims["iat"] <= LONGEST_SECONDS or not claims["sub"] or not claims["sid"]:
                raise token_invalid()
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            raise token_invalid() from None
        granted = frozenset().union(*(ROLES.get(role, frozenset()) for role in roles))
        identity = Identity(str(claims["sub"]), str(claims["sid"]), roles, granted)
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
