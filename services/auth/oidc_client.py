"""What is asked of OpenID Connect providers, and what of their answers is believed.

Every address comes from an administrator or from a provider, so each is looked at before it is called:
https alone, no host in a private network unless the operator named it, no redirect, and little of the
answer. httpx speaks HTTP and PyJWT checks signatures; docs/decisions/0015-oidc.md says why these.
"""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import structlog

from libs.errors import Unauthenticated, Unavailable

# Public keys alone: a shared secret must not sign, and nothing unsigned is looked at.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
SKEW_SECONDS = 30
FRESH_SECONDS = 300
REMEMBER_SECONDS = 300
MOST_BYTES = 256 * 1024
# For each answer, within the deadline of the call.
ANSWER_SECONDS = 3.0
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Party:
    """A provider, and who this platform is to it."""

    provider: str
    """Its id."""
    issuer: str
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class Person:
    """Whom a provider says it has before it."""

    subject: str
    email: str
    """"" unless the provider has verified it."""
    name: str
    fresh: bool
    """Whether the person signed in there within the last 5 minutes."""
    claims: Mapping[str, Any] = field(repr=False)

    def groups(self, claim: str) -> list[str]:
        """The groups that a claim lists."""
        listed = self.claims.get(claim)
        return [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []


@dataclass(frozen=True)
class _Metadata:
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    basic: bool
    """Whether the client secret goes into a header, as it does unless the provider says otherwise."""
    tells_issuer: bool
    """Whether people come back with the parameter `iss` (RFC 9207)."""


class _Unusable(Exception):
    """A provider is away, or what it says makes no sense. Its text is for the log."""


class Client:
    """Asks providers."""

    def __init__(self, private_hosts: frozenset[str]) -> None:
        """Args: private_hosts: those that may be in a private network, and, where they are loopback, without TLS."""
        self._private_hosts = private_hosts
        # A connection is made to an address that was looked at, so that none may serve another name's next call.
        self._http = httpx.AsyncClient(
            limits=httpx.Limits(max_connections=20, max_keepalive_connections=0),
            timeout=ANSWER_SECONDS,
            trust_env=False,
        )
        self._known: dict[str, tuple[_Metadata, float]] = {}

    def refusal(self, address: str) -> str:
        """Why an address cannot be called, for whoever gave it; "" when it can."""
        try:
            url = httpx.URL(address)
        except httpx.InvalidURL:
            return "is not an address"
        if url.userinfo or url.fragment or not url.host:
            return "is not an address of a host alone"
        if url.scheme == "http" and url.host in LOOPBACK & self._private_hosts:
            return ""
        return "" if url.scheme == "https" else "must begin with https://"

    async def authorization_uri(
        self, party: Party, *, redirect_uri: str, scopes: list[str], state: str, nonce: str, verifier: str, fresh: bool
    ) -> str:
        """Where to send a person.

        Raises:
            Unavailable: the provider does not say where it is.
        """
        metadata = await self._metadata(party)
        digest = hashlib.sha256(verifier.encode()).digest()
        parameters = {
            "response_type": "code",
            "client_id": party.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(dict.fromkeys(["openid", *scopes])),
            "state": state,
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
            **({"prompt": "login", "max_age": str(FRESH_SECONDS)} if fresh else {}),
        }
        return str(httpx.URL(metadata.authorization_endpoint).copy_merge_params(parameters))

    async def person(
        self, party: Party, *, code: str, redirect_uri: str, nonce: str, verifier: str, issuer: str
    ) -> Person:
        """Trade a code for whom it is of.

        Args:
            issuer: the parameter `iss` that the person came back with; "" for none.

        Raises:
            Unauthenticated: the provider does not take the code, or its ID token cannot be trusted.
            Unavailable: it does not answer as it should.
        """
        metadata = await self._metadata(party)
        if (issuer or metadata.tells_issuer) and issuer != party.issuer:
            raise _distrusted(party, "another iss in the redirect")
        token = await self._trade(party, metadata, code=code, redirect_uri=redirect_uri, verifier=verifier)
        keys = await self._document(party, metadata.jwks_uri)
        try:
            claims = _verified(token, keys, party)
            if not hmac.compare_digest(str(claims["nonce"]).encode(), nonce.encode()):
                raise jwt.InvalidTokenError("another nonce")
            # A token for several is for the one that it names.
            azp = claims.get("azp", party.client_id if claims["aud"] in (party.client_id, [party.client_id]) else None)
            if azp != party.client_id:
                raise jwt.InvalidTokenError("another azp")
            subject = claims["sub"]
            if not 0 < len(subject) <= 255 or "\0" in subject:
                raise jwt.InvalidTokenError("no usable sub")
            signed_in = float(claims.get("auth_time") or 0)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError) as error:
            raise _distrusted(party, f"{type(error).__name__}: {error}") from None
        return Person(
            subject,
            str(claims.get("email", "")) if claims.get("email_verified") is True else "",
            str(claims.get("name") or "")[:120],
            time.time() - signed_in < FRESH_SECONDS + SKEW_SECONDS,
            claims,
        )

    async def _metadata(self, party: Party) -> _Metadata:
        known, until = self._known.get(party.issuer, (None, 0.0))
        if known is not None and time.monotonic() < until:
            return known
        said = await self._document(party, party.issuer.rstrip("/") + "/.well-known/openid-configuration")
        try:
            if said["issuer"] != party.issuer:
                raise _Unusable("it names another issuer")
            methods = said.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
            metadata = _Metadata(
                authorization_endpoint=str(said["authorization_endpoint"]),
                token_endpoint=str(said["token_endpoint"]),
                jwks_uri=str(said["jwks_uri"]),
                basic="client_secret_basic" in methods,
                tells_issuer=said.get("authorization_response_iss_parameter_supported") is True,
            )
            if reason := self.refusal(metadata.authorization_endpoint):
                raise _Unusable(f"authorization_endpoint {reason}")
        except (_Unusable, KeyError, TypeError) as error:
            raise _unavailable(party, error) from None
        self._known[party.issuer] = (metadata, time.monotonic() + REMEMBER_SECONDS)
        return metadata

    async def _trade(self, party: Party, metadata: _Metadata, *, code: str, redirect_uri: str, verifier: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers = {}
        if metadata.basic:  # RFC 6749, 2.3.1: both are form-encoded before they are joined
            pair = f"{quote(party.client_id, safe='')}:{quote(party.client_secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": party.client_id, "client_secret": party.client_secret}
        try:
            status, answer = await self._ask("POST", metadata.token_endpoint, headers=headers, data=form)
            if status == httpx.codes.BAD_REQUEST and answer.get("error") == "invalid_grant":
                raise Unauthenticated(
                    "OIDC_REFUSED",
                    "the provider does not take the code; begin again",
                    "لم يقبل المزوّد الرمز؛ ابدأ من جديد",
                )
            if status != httpx.codes.OK:
                raise _Unusable(f"its token endpoint answers {status}")
            return str(answer["id_token"])
        except (_Unusable, AttributeError, KeyError, TypeError) as error:
            raise _unavailable(party, error) from None

    async def _document(self, party: Party, address: str) -> Any:
        try:
            status, document = await self._ask("GET", address)
            if status != httpx.codes.OK:
                raise _Unusable(f"it answers {status}")
        except _Unusable as error:
            raise _unavailable(party, error) from None
        return document

    async def _ask(self, verb: str, address: str, *, headers: Mapping[str, str] | None = None, data: Any = None) -> Any:
        """The status and the JSON of an answer. Raises: _Unusable."""
        if reason := self.refusal(address):
            raise _Unusable(f"an address of it {reason}")
        url = httpx.URL(address)
        sent = {"host": url.netloc.decode(), "accept": "application/json", "accept-encoding": "identity"}
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                host = await self._resolved(url)
                request = self._http.stream(
                    verb,
                    url.copy_with(host=host),
                    headers={**sent, **(headers or {})},
                    data=data,
                    extensions={"sni_hostname": url.host},  # the certificate is to be the name's
                )
                async with request as response:
                    body = bytearray()
                    async for part in response.aiter_raw():
                        body += part
                        if len(body) > MOST_BYTES:
                            raise _Unusable("it says too much")
            return response.status_code, json.loads(body)
        except (httpx.HTTPError, TimeoutError, OSError, ValueError, RecursionError) as error:
            raise _Unusable(f"{type(error).__name__}") from None

    async def _resolved(self, url: httpx.URL) -> str:
        """The address to connect to: looked up once, so that the one that was looked at is the one that is used."""
        port = url.port or (443 if url.scheme == "https" else 80)
        found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        addresses = [str(each[4][0]) for each in found]
        if url.host not in self._private_hosts and not all(map(_is_public, addresses)):
            raise _Unusable("it is in a private network")
        # A loopback name often has two addresses, of which a server in development listens on the older.
        return min(addresses, key=lambda each: ":" in each)


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_global and not ip.is_multicast


def _verified(token: str, keys: Any, party: Party) -> dict[str, Any]:
    header = jwt.get_unverified_header(token)
    if header.get("alg") not in ALGORITHMS:
        raise jwt.InvalidAlgorithmError("an algorithm that is not allowed")
    kid = header.get("kid")
    fitting = [each for each in keys["keys"] if kid in (None, each.get("kid")) and each.get("use", "sig") == "sig"]
    if len(fitting) != 1:
        raise jwt.InvalidKeyError(f"{len(fitting)} keys fit")
    return jwt.decode(
        token,
        jwt.PyJWK(fitting[0], header["alg"]),
        algorithms=[header["alg"]],
        audience=party.client_id,
        issuer=party.issuer,
        leeway=SKEW_SECONDS,
        options={"require": ["iss", "sub", "aud", "exp", "iat", "nonce"], "enforce_minimum_key_length": True},
    )


def _distrusted(party: Party, why: str) -> Unauthenticated:
    _log.warning("oidc_token_distrusted", provider=party.provider, why=why)
    return Unauthenticated(
        "OIDC_TOKEN_INVALID",
        "what the provider says cannot be trusted; begin again",
        "لا يمكن الوثوق برد المزوّد؛ ابدأ من جديد",
    )


def _unavailable(party: Party, error: Exception) -> Unavailable:
    _log.warning("oidc_provider_unusable", provider=party.provider, why=f"{type(error).__name__}: {error}")
    return Unavailable(
        "OIDC_PROVIDER_UNAVAILABLE",
        "the sign-in provider does not answer as it should; try again",
        "مزوّد تسجيل الدخول لا يستجيب كما ينبغي؛ حاول مرة أخرى",
        metadata={"provider": party.provider},
    )
