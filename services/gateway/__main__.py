"""Runs the gateway service, or prints Envoy's configuration: python -m services.gateway [envoy]."""

import json
import sys

import grpc
from envoy_limits import rate_limit_pb2_grpc

from libs import cache, identity, rpc, telemetry
from libs.revocations import Revocations
from services.gateway import envoy
from services.gateway.limits import SIGN_IN_SECONDS, LimitsService, limits
from services.gateway.service import GatewayService
from services.gateway.settings import GatewaySettings
from thmnayah.gateway.v1 import gateway_pb2_grpc


async def serve(settings: GatewaySettings) -> None:
    async with (
        rpc.channel(settings.auth_address) as auth,
        rpc.channel(settings.content_address) as content,
        rpc.channel(settings.search_address) as search,
    ):
        servicer = GatewayService({"auth": auth, "content": content, "search": search})
        patience = max(SIGN_IN_SECONDS, settings.limits_seconds)
        redis = cache.connect(settings.redis_url.get_secret_value(), seconds=patience)
        counts = settings.global_limits != "off"

        def register(server: grpc.aio.Server) -> None:
            gateway_pb2_grpc.add_GatewayServiceServicer_to_server(servicer, server)
            if counts:
                counting = LimitsService(redis, limits(settings))
                rate_limit_pb2_grpc.add_RateLimitServiceServicer_to_server(counting, server)

        await rpc.serve(
            settings,
            verifier=identity.Verifier.asking(auth, Revocations.asking(auth)),
            register=register,
            needs={},
            uses={"valkey": lambda: cache.ping(redis)} if counts else {},
        )


def main() -> None:
    settings = GatewaySettings.load()
    if sys.argv[1:] == ["envoy"]:
        print(json.dumps(envoy.bootstrap(settings), ensure_ascii=False, indent=1))
        return
    telemetry.start("gateway", settings)
    rpc.run(serve(settings))
    telemetry.stop()


if __name__ == "__main__":
    main()
