"""GetReadiness says whether every service of the mesh serves, and which do not."""

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from libs import identity, rpc
from services.gateway.service import GatewayService
from thmnayah.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from thmnayah.gateway.v1.gateway_pb2 import Health

Gateway: TypeAlias = "gateway_pb2_grpc.GatewayServiceAsyncStub"


@pytest.fixture
async def content() -> AsyncIterator[tuple[HealthServicer, int]]:
    """The health of a running server, and its port."""
    server = grpc.aio.server()
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield health, port
    await server.stop(None)


@pytest.fixture
async def gateway(content: tuple[HealthServicer, int]) -> AsyncIterator[Gateway]:
    async with rpc.channel(f"127.0.0.1:{content[1]}") as service:
        server = grpc.aio.server(interceptors=[rpc.Boundary(identity.Verifier.asking(service), 10)])
        servicer = GatewayService({"content": service})
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield gateway_pb2_grpc.GatewayServiceStub(channel)
        await server.stop(None)


async def test_a_mesh_that_serves_is_ready(gateway: Gateway, content: tuple[HealthServicer, int]) -> None:
    await content[0].set("", health_pb2.HealthCheckResponse.SERVING)

    health = await gateway.GetReadiness(gateway_pb2.GetReadinessRequest())

    assert health == Health(status=Health.SERVING, services={"content": Health.SERVING})


async def test_a_service_that_does_not_serve_is_named(gateway: Gateway, content: tuple[HealthServicer, int]) -> None:
    await content[0].set("", health_pb2.HealthCheckResponse.NOT_SERVING)

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await gateway.GetReadiness(gateway_pb2.GetReadinessRequest())

    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    details = str(dict(raised.value.trailing_metadata())["grpc-status-details-bin"])
    assert all(said in details for said in ("MESH_NOT_READY", "content", "NOT_SERVING"))


async def test_the_gateway_itself_is_healthy_whatever_the_mesh_does(gateway: Gateway) -> None:
    health = await gateway.GetHealth(gateway_pb2.GetHealthRequest())

    assert health == Health(status=Health.SERVING)
