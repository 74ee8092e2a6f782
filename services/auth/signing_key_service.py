"""SigningKeyService: each RPC's transaction and its function."""

from libs.rpc import Context
from services.auth import keys
from thmnayah.auth.v1 import signing_keys_pb2, signing_keys_pb2_grpc


class SigningKeyService(signing_keys_pb2_grpc.SigningKeyServiceServicer):
    """The servicer of thmnayah.auth.v1.SigningKeyService, where each RPC is described."""

    def __init__(self, ring: keys.Ring) -> None:
        self.ring = ring

    async def ListSigningKeys(
        self, request: signing_keys_pb2.ListSigningKeysRequest, context: Context
    ) -> signing_keys_pb2.ListSigningKeysResponse:
        return signing_keys_pb2.ListSigningKeysResponse(keys=await self.ring.listed())

    async def RotateSigningKeys(
        self, request: signing_keys_pb2.RotateSigningKeysRequest, context: Context
    ) -> signing_keys_pb2.SigningKey:
        return await self.ring.rotate()

    async def RemoveSigningKey(
        self, request: signing_keys_pb2.RemoveSigningKeyRequest, context: Context
    ) -> signing_keys_pb2.SigningKey:
        return await self.ring.remove(request.kid)
