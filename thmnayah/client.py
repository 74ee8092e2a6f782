"""The async client: gRPC stubs with credentials, deadlines, retries, readable errors and pages.

async with connect("127.0.0.1:8080", email="editor@example.com", password="…") as mesh:
    draft = Content(type="article", title={"ar": "مرحبا", "en": "Hello"})
    item = await mesh.content.CreateContent(CreateContentRequest(content=draft))
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, LocalizedMessage, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status

from thmnayah.api.v1 import annotations_pb2
from thmnayah.auth.v1 import (
    api_keys_pb2,
    audit_pb2,
    auth_pb2,
    groups_pb2,
    mfa_pb2,
    oidc_pb2,
    roles_pb2,
    scim_pb2,
    sessions_pb2,
    signing_keys_pb2,
    users_pb2,
)
from thmnayah.auth.v1.api_keys_pb2_grpc import ApiKeyServiceStub, ServiceAccountServiceStub
from thmnayah.auth.v1.audit_pb2_grpc import AuditServiceStub
from thmnayah.auth.v1.auth_pb2 import LoginRequest, MfaChallenge, RefreshTokensRequest, Tokens
from thmnayah.auth.v1.auth_pb2_grpc import AuthServiceStub
from thmnayah.auth.v1.groups_pb2_grpc import GroupServiceStub
from thmnayah.auth.v1.mfa_pb2_grpc import MfaServiceStub
from thmnayah.auth.v1.oidc_pb2_grpc import OidcServiceStub
from thmnayah.auth.v1.roles_pb2_grpc import RoleServiceStub
from thmnayah.auth.v1.scim_pb2_grpc import ScimServiceStub
from thmnayah.auth.v1.sessions_pb2_grpc import SessionServiceStub
from thmnayah.auth.v1.signing_keys_pb2_grpc import SigningKeyServiceStub
from thmnayah.auth.v1.users_pb2_grpc import UserServiceStub
from thmnayah.content.v1 import (
    blocks_pb2,
    comments_pb2,
    content_pb2,
    references_pb2,
    revisions_pb2,
    rich_text_pb2,
    slugs_pb2,
    taxonomy_pb2,
    types_pb2,
    workflow_pb2,
)
from thmnayah.content.v1.blocks_pb2_grpc import BlockServiceStub
from thmnayah.content.v1.comments_pb2_grpc import CommentServiceStub
from thmnayah.content.v1.content_pb2 import Content, ListContentsRequest
from thmnayah.content.v1.content_pb2_grpc import ContentServiceStub
from thmnayah.content.v1.references_pb2_grpc import ReferenceServiceStub
from thmnayah.content.v1.revisions_pb2_grpc import RevisionServiceStub
from thmnayah.content.v1.rich_text_pb2_grpc import RichTextServiceStub
from thmnayah.content.v1.slugs_pb2_grpc import SlugServiceStub
from thmnayah.content.v1.taxonomy_pb2_grpc import TaxonomyServiceStub
from thmnayah.content.v1.types_pb2_grpc import ContentTypeServiceStub
from thmnayah.content.v1.workflow_pb2_grpc import WorkflowServiceStub
from thmnayah.gateway.v1 import gateway_pb2
from thmnayah.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from thmnayah.search.v1 import search_pb2
from thmnayah.search.v1.search_pb2 import SearchRequest, SearchResult
from thmnayah.search.v1.search_pb2_grpc import SearchServiceStub

if TYPE_CHECKING:
    from thmnayah.auth.v1.auth_pb2_grpc import AuthServiceAsyncStub

DEADLINE_SECONDS = 10.0

# Renewed this long before its end, an access token does not end on its way to the server.
RENEW_SECONDS = 30.0

# A page of 200 whole items may be far larger than gRPC's default of 4 MiB.
_MAX_RECEIVE_BYTES = 64 * 1024 * 1024

_SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service
    for file in (
        auth_pb2,
        sessions_pb2,
        signing_keys_pb2,
        roles_pb2,
        audit_pb2,
        api_keys_pb2,
        mfa_pb2,
        oidc_pb2,
        users_pb2,
        groups_pb2,
        scim_pb2,
        content_pb2,
        blocks_pb2,
        comments_pb2,
        references_pb2,
        revisions_pb2,
        rich_text_pb2,
        slugs_pb2,
        taxonomy_pb2,
        types_pb2,
        workflow_pb2,
        gateway_pb2,
        search_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
)


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


RequestT = TypeVar("RequestT", bound=Message)
PageT = TypeVar("PageT", bound=_Page)


class ApiError(grpc.aio.AioRpcError):
    """A call that failed, and what the server said of it.

    It is an `AioRpcError`: `code()` is the gRPC status, `details()` the message in English.
    """

    reason: str
    """Stable and meant for programs, such as "CONTENT_NOT_FOUND"; "" when the call never got to a service."""
    message: str
    """For people, in the locale of the client."""
    violations: dict[str, str]
    """For each field that is wrong, its path in JSON names (`content.title.ar`), why."""
    metadata: dict[str, str]
    """Values that belong to the reason."""
    request_id: str
    """What the server's logs know the call by."""
    retry_seconds: float | None
    """How long to wait before asking again, where that may help."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        trailing = error.trailing_metadata() or grpc.aio.Metadata()
        super().__init__(error.code(), error.initial_metadata(), trailing, error.details(), error.debug_error_string())
        info, localized, request = ErrorInfo(), LocalizedMessage(), RequestInfo()
        bad, retry = BadRequest(), RetryInfo()
        status = Status()
        packed = trailing.get("grpc-status-details-bin", b"")
        if isinstance(packed, bytes):
            status.ParseFromString(packed)
        for detail in status.details:
            for message in (info, localized, request, bad, retry):
                detail.Unpack(message)
        self.reason = info.reason
        self.metadata = dict(info.metadata)
        self.message = localized.message or error.details() or error.code().name
        self.request_id = request.request_id
        self.violations = {violation.field: violation.description for violation in bad.field_violations}
        self.retry_seconds = retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None
        if self.retry_seconds is None and "retry-after" in trailing:  # the edge's own refusals say it so
            self.retry_seconds = float(trailing["retry-after"])

    def __str__(self) -> str:
        named = " ".join(filter(None, (self.code().name, self.reason)))
        return f"{named}: {self.message}"


class MfaNeeded(Exception):
    """The password is right, and a second factor stands before the tokens: prove it by `mesh.mfa`."""

    def __init__(self, challenge: MfaChallenge) -> None:
        super().__init__("the sign-in needs a second factor")
        self.challenge = challenge


class Session:
    """Who a client is signed in as: tokens, renewed by one refresh at a time.

    A refresh token works once, so two refreshes at once would look like a theft and end the session.
    Subclass it and extend `renew` to keep the tokens somewhere.
    """

    def __init__(self, *, email: str = "", password: str = "", tokens: Tokens | None = None) -> None:
        """Args:
        email: with `password`, signs in at the first call and again when a session has ended.
        tokens: of a session that was begun before; without a refresh token, good until the access
            token ends. With neither, calls are anonymous.
        """
        self._email = email
        self._password = password
        self._renewal: asyncio.Task[None] | None = None
        self.keep(tokens or Tokens())

    @property
    def tokens(self) -> Tokens:
        """What the server issued last."""
        return self._tokens

    @property
    def ends_soon(self) -> bool:
        """Whether it is time to renew the access token."""
        return time.time() > self._expire_time - RENEW_SECONDS

    @property
    def expire_time(self) -> float:
        """When the access token ends, in seconds since the epoch by this machine's clock."""
        return self._expire_time

    def keep(self, tokens: Tokens, *, expire_time: float | None = None) -> None:
        """Use these tokens from now on; they end in `expires_in` seconds unless told otherwise."""
        self._tokens = tokens
        self._expire_time = time.time() + tokens.expires_in if expire_time is None else expire_time

    async def access_token(self, auth: "AuthServiceAsyncStub", *, refused: str = "") -> str:
        """A token that is good for now, "" for an anonymous caller.

        Args:
            refused: a token that the server did not accept: it is renewed though its time is not over.
        """
        renewable = bool(self._tokens.refresh_token or self._password)
        if renewable and (self._tokens.access_token in ("", refused) or self.ends_soon):
            if self._renewal is None:
                self._renewal = asyncio.create_task(self.renew(auth))
                self._renewal.add_done_callback(self._renewed)
            # A caller that gives up must not lose the new refresh token for all others.
            await asyncio.shield(self._renewal)
        return self._tokens.access_token

    async def renew(self, auth: "AuthServiceAsyncStub") -> None:
        """Get new tokens with the refresh token, or else with the password.

        Raises:
            ApiError: UNAUTHENTICATED when the session has ended and there is no password.
            MfaNeeded: the password alone does not sign in.
        """
        if self._tokens.refresh_token:
            try:
                self.keep(await auth.RefreshTokens(RefreshTokensRequest(refresh_token=self._tokens.refresh_token)))
            except ApiError as error:
                if error.code() != grpc.StatusCode.UNAUTHENTICATED or not self._password:
                    raise
            else:
                return
        tokens = await auth.Login(LoginRequest(email=self._email, password=self._password))
        if tokens.HasField("mfa"):
            raise MfaNeeded(tokens.mfa)
        self.keep(tokens)

    async def settle(self) -> None:
        """Wait for a renewal that is under way, so that its tokens are not lost."""
        if self._renewal is not None:
            await asyncio.wait([self._renewal])

    def _renewed(self, renewal: asyncio.Task[None]) -> None:
        self._renewal = None
        if not renewal.cancelled():
            renewal.exception()  # Those who waited have it; when nobody does, asyncio should not complain.


class Mesh:
    """The services behind one address. Use it as an async context manager, or close it."""

    def __init__(self, address: str, session: Session, *, locale: str, deadline_seconds: float) -> None:
        target, secure = endpoint(address)
        self.session = session
        options = _options(target)
        calls = [_Calls(self._access_token, locale=locale, deadline_seconds=deadline_seconds)]
        self._channel = (
            grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=options, interceptors=calls)
            if secure
            else grpc.aio.insecure_channel(target, options=options, interceptors=calls)
        )
        self.auth = AuthServiceStub(self._channel)
        self.sessions = SessionServiceStub(self._channel)
        self.signing_keys = SigningKeyServiceStub(self._channel)
        self.roles = RoleServiceStub(self._channel)
        self.api_keys = ApiKeyServiceStub(self._channel)
        self.service_accounts = ServiceAccountServiceStub(self._channel)
        self.audit = AuditServiceStub(self._channel)
        self.mfa = MfaServiceStub(self._channel)
        self.oidc = OidcServiceStub(self._channel)
        self.users = UserServiceStub(self._channel)
        self.groups = GroupServiceStub(self._channel)
        self.scim = ScimServiceStub(self._channel)
        self.content = ContentServiceStub(self._channel)
        self.taxonomy = TaxonomyServiceStub(self._channel)
        self.comments = CommentServiceStub(self._channel)
        self.workflow = WorkflowServiceStub(self._channel)
        self.revisions = RevisionServiceStub(self._channel)
        self.references = ReferenceServiceStub(self._channel)
        self.content_types = ContentTypeServiceStub(self._channel)
        self.gateway = GatewayServiceStub(self._channel)
        self.rich_text = RichTextServiceStub(self._channel)
        self.slugs = SlugServiceStub(self._channel)
        self.blocks = BlockServiceStub(self._channel)
        self.search = SearchServiceStub(self._channel)

    async def list_contents(self, request: ListContentsRequest) -> AsyncIterator[Content]:
        """Every item that a list holds, from the page asked for to the last one."""
        async for page in pages(self.content.ListContents, request):
            for content in page.contents:
                yield content

    async def search_contents(self, request: SearchRequest) -> AsyncIterator[SearchResult]:
        """Everything that a search finds, best first, from the page asked for to the last one."""
        async for page in pages(self.search.Search, request):
            for result in page.results:
                yield result

    async def close(self) -> None:
        """End the connection; calls that run are cancelled."""
        await self.session.settle()
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _access_token(self, refused: str) -> str:
        return await self.session.access_token(self.auth, refused=refused)


def connect(
    address: str,
    *,
    email: str = "",
    password: str = "",
    tokens: Tokens | None = None,
    session: Session | None = None,
    locale: str = "en",
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Mesh:
    """A client of the mesh at an address; nothing is sent before the first call.

    Every call ends after `deadline_seconds` unless it is given its own `timeout`. Calls that change
    nothing are tried up to three times while the server is UNAVAILABLE; others are never repeated.

    Args:
        address: `host:port` as the gateway listens there, or `https://host` for TLS. Where the
            system's certificate authorities do not do, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names others.
        email: signs in, with `password`.
        tokens: of a session begun before, instead of a password.
        session: instead of either, a session of your own.
        locale: of the messages of errors: "ar" or "en".
    """
    session = session or Session(email=email, password=password, tokens=tokens)
    return Mesh(address, session, locale=locale, deadline_seconds=deadline_seconds)


def endpoint(address: str) -> tuple[str, bool]:
    """An address as `host:port`, and whether it is spoken to over TLS.

    Raises:
        ValueError: it is neither `host[:port]` nor an http or https URL of one.
    """
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise ValueError(f"{address!r} is not an address such as 127.0.0.1:8080 or https://cms.example.com")
    secure = parts.scheme == "https"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or (443 if secure else 80)}", secure


async def pages(method: Callable[[RequestT], Awaitable[PageT]], request: RequestT) -> AsyncIterator[PageT]:
    """Each page of a list, from the one asked for to the last one."""
    asked: Any = type(request)()
    asked.CopyFrom(request)
    while True:
        page = await method(asked)
        yield page
        if not page.next_page_token:
            return
        asked.page_token = page.next_page_token


class _Calls(grpc.aio.UnaryUnaryClientInterceptor):
    """What every call gets: a deadline, a token and a locale; and errors that can be read."""

    def __init__(self, access_token: Callable[[str], Awaitable[str]], *, locale: str, deadline_seconds: float) -> None:
        self._access_token = access_token
        self._locale = locale
        self._deadline_seconds = deadline_seconds

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable["grpc.aio.UnaryUnaryCall[Any, Any]"]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> "grpc.aio.UnaryUnaryCall[Any, Any]":
        async def attempt(token: str) -> "grpc.aio.UnaryUnaryCall[Any, Any]":
            call = await continuation(self._details(client_call_details, token), request)
            try:
                await call
            except grpc.aio.AioRpcError as error:
                raise ApiError(error) from None
            return call

        if client_call_details.method in _BY_CREDENTIALS:
            return await attempt("")
        token = await self._access_token("")
        try:
            return await attempt(token)
        except ApiError as error:
            if error.code() != grpc.StatusCode.UNAUTHENTICATED or not token:
                raise
            renewed = await self._access_token(token)
            if renewed == token:
                raise
        # The server refused the token before it did anything, so every call may be repeated.
        return await attempt(renewed)

    def _details(self, details: grpc.aio.ClientCallDetails, token: str) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), ("accept-language", self._locale))
        if token:
            metadata.add("authorization", f"Bearer {token}")
        timeout = self._deadline_seconds if details.timeout is None else details.timeout
        return grpc.aio.ClientCallDetails(
            details.method, timeout, metadata, details.credentials, details.wait_for_ready
        )


def _is_by_credentials(method: MethodDescriptor) -> bool:
    return method.GetOptions().Extensions[annotations_pb2.access].by_credentials


def _has_side_effects(method: MethodDescriptor) -> bool:
    return method.GetOptions().idempotency_level != MethodOptions.NO_SIDE_EFFECTS


# Calls that bring their credentials themselves, as gRPC names them.
_BY_CREDENTIALS: frozenset[object] = frozenset(
    f"/{service.full_name}/{method.name}".encode()
    for service in _SERVICES
    for method in service.methods
    if _is_by_credentials(method)
)

_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [
                    {"service": service.full_name, "method": method.name}
                    for service in _SERVICES
                    for method in service.methods
                    if not _has_side_effects(method)
                ],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        # While most calls fail, retries would only add to what the server suffers from.
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
)


def _options(target: str) -> list[tuple[str, Any]]:
    is_local = target.startswith(("127.", "localhost:", "[::1]:"))
    return [
        ("grpc.service_config", _SERVICE_CONFIG),
        ("grpc.max_receive_message_length", _MAX_RECEIVE_BYTES),
        ("grpc.primary_user_agent", f"thmnayah-python/{version('thmnayah')}"),
        # A server that comes back after a minute should not wait two more for its clients.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # A proxy of the environment cannot reach this machine's own ports.
        ("grpc.enable_http_proxy", int(not is_local)),
    ]
