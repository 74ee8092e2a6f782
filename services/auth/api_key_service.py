"""ApiKeyService and ServiceAccountService: each RPC's transaction and its function."""

from datetime import UTC, datetime, timedelta

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from libs.db import Pool, connection, transaction
from libs.errors import InvalidArgument
from libs.identity import caller
from libs.rpc import Context
from services.auth import api_keys, service_accounts
from services.auth.exchange import Exchange
from thmnayah.auth.v1 import api_keys_pb2, api_keys_pb2_grpc

OVERLAP = timedelta(days=1)


class ApiKeyService(api_keys_pb2_grpc.ApiKeyServiceServicer):
    """The servicer of thmnayah.auth.v1.ApiKeyService, where each RPC is described."""

    def __init__(self, db: Pool, exchange: Exchange, *, longest: timedelta) -> None:
        self.db = db
        self.exchange = exchange
        self.longest = longest

    async def CreateApiKey(self, request: api_keys_pb2.CreateApiKeyRequest, context: Context) -> api_keys_pb2.ApiKey:
        who = caller.get()
        if request.service_account_id:
            who.require("service_accounts.manage")
        async with transaction(self.db) as conn:
            return await api_keys.create(
                conn,
                owner_id=request.service_account_id.lower() or who.user_id,
                display_name=request.display_name,
                scopes=request.scopes,
                expire_time=_time(request.expire_time) if request.HasField("expire_time") else None,
                environment=self.exchange.environment,
                longest=self.longest,
            )

    async def GetApiKey(self, request: api_keys_pb2.GetApiKeyRequest, context: Context) -> api_keys_pb2.ApiKey:
        async with transaction(self.db) as conn:
            return await api_keys.get(conn, request.id)

    async def ListApiKeys(
        self, request: api_keys_pb2.ListApiKeysRequest, context: Context
    ) -> api_keys_pb2.ListApiKeysResponse:
        async with connection(self.db) as conn:
            return await api_keys.list_keys(
                conn,
                owner_id=request.owner_id or caller.get().user_id,
                page_size=request.page_size,
                page_token=request.page_token,
            )

    async def DeleteApiKey(self, request: api_keys_pb2.DeleteApiKeyRequest, context: Context) -> Empty:
        async with transaction(self.db) as conn:
            await api_keys.delete(conn, request.id)
        return Empty()

    async def RotateApiKey(self, request: api_keys_pb2.RotateApiKeyRequest, context: Context) -> api_keys_pb2.ApiKey:
        async with transaction(self.db) as conn:
            return await api_keys.rotate(
                conn,
                request.id,
                overlap=request.overlap.ToTimedelta() if request.HasField("overlap") else OVERLAP,
                expire_time=_time(request.expire_time) if request.HasField("expire_time") else None,
                environment=self.exchange.environment,
                longest=self.longest,
            )

    async def ExchangeApiKey(
        self, request: api_keys_pb2.ExchangeApiKeyRequest, context: Context
    ) -> api_keys_pb2.ExchangeApiKeyResponse:
        token, seconds = await self.exchange.token(request.api_key)
        return api_keys_pb2.ExchangeApiKeyResponse(
            access_token=token,
            expires_in=seconds,
            token_type="Bearer",  # noqa: S106 — the scheme of RFC 6750, no secret
        )


class ServiceAccountService(api_keys_pb2_grpc.ServiceAccountServiceServicer):
    """The servicer of thmnayah.auth.v1.ServiceAccountService, where each RPC is described."""

    def __init__(self, db: Pool) -> None:
        self.db = db

    async def CreateServiceAccount(
        self, request: api_keys_pb2.CreateServiceAccountRequest, context: Context
    ) -> api_keys_pb2.ServiceAccount:
        async with transaction(self.db) as conn:
            return await service_accounts.create(conn, display_name=request.display_name, roles=list(request.roles))

    async def ListServiceAccounts(
        self, request: api_keys_pb2.ListServiceAccountsRequest, context: Context
    ) -> api_keys_pb2.ListServiceAccountsResponse:
        async with connection(self.db) as conn:
            return await service_accounts.list_accounts(
                conn, page_size=request.page_size, page_token=request.page_token
            )

    async def DisableServiceAccount(
        self, request: api_keys_pb2.DisableServiceAccountRequest, context: Context
    ) -> api_keys_pb2.ServiceAccount:
        async with transaction(self.db) as conn:
            return await service_accounts.disable(conn, request.id)

    async def EnableServiceAccount(
        self, request: api_keys_pb2.EnableServiceAccountRequest, context: Context
    ) -> api_keys_pb2.ServiceAccount:
        async with transaction(self.db) as conn:
            return await service_accounts.enable(conn, request.id)

    async def DeleteServiceAccount(self, request: api_keys_pb2.DeleteServiceAccountRequest, context: Context) -> Empty:
        async with transaction(self.db) as conn:
            await service_accounts.delete(conn, request.id)
        return Empty()


def _time(stamp: Timestamp) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument({"expireTime": "is not a time between the years 1 and 9999"}) from None
