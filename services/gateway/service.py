"""GatewayService: what the edge says about itself and about the mesh behind it."""

import asyncio
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs import contracts
from libs.errors import Unavailable
from libs.rpc import Context
from services.gateway import docs, openapi
from thmnayah.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from thmnayah.gateway.v1.gateway_pb2 import Health

CHECK_SECONDS = 1.0

# The document and the page change with a release; Swagger UI's files keep their names in the next.
_NO_CACHE = (("cache-control", "no-cache"),)
_CACHE_AN_HOUR = (("cache-control", "public, max-age=3600"),)


class GatewayService(gateway_pb2_grpc.GatewayServiceServicer):
    """The servicer of thmnayah.gateway.v1.GatewayService, where each RPC is described."""

    def __init__(self, services: Mapping[str, grpc.aio.Channel]) -> None:
        """Args:
        services: a channel to each service of the mesh, by its short name.
        """
        self.services = services
        document = openapi.document(contracts.descriptor_set(), contracts.rpcs(), version=version("thmnayah"))
        self.openapi = HttpBody(content_type="application/json", data=json.dumps(document, ensure_ascii=False).encode())
        self.docs = docs.load()

    async def GetHealth(self, request: gateway_pb2.GetHealthRequest, context: Context) -> Health:
        return Health(status=Health.SERVING)

    async def GetReadiness(self, request: gateway_pb2.GetReadinessRequest, context: Context) -> Health:
        states = dict(zip(self.services, await asyncio.gather(*map(_state, self.services.values())), strict=True))
        away = {name: state for name, state in states.items() if state != "SERVING"}
        if away:
            raise Unavailable("MESH_NOT_READY", metadata=away)
        return Health(status=Health.SERVING, services=dict.fromkeys(states, Health.SERVING))

    async def GetOpenApi(self, request: gateway_pb2.GetOpenApiRequest, context: Context) -> HttpBody:
        await context.send_initial_metadata(_NO_CACHE)
        return self.openapi

    async def GetDocs(self, request: gateway_pb2.GetDocsRequest, context: Context) -> HttpBody:
        file = self.docs.get(request.asset)
        if file is None:
            raise docs.not_found(request.asset)
        await context.send_initial_metadata(_CACHE_AN_HOUR if request.asset else _NO_CACHE)
        return file


async def _state(service: grpc.aio.Channel) -> str:
    """What a service says of itself, such as "SERVING", or the status that asking ended with."""
    health: Any = health_pb2_grpc.HealthStub(service)  # whose type names no methods
    try:
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=CHECK_SECONDS)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
