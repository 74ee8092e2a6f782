"""Settings of the gateway: its service and Envoy's configuration take the same."""

from pydantic import Field

from libs.config import Settings


class GatewaySettings(Settings):
    """Read from the environment."""

    http_host: str = Field("127.0.0.1", description="Address the REST gateway listens on.")
    http_port: int = Field(8080, ge=1, le=65535, description="Port of the REST gateway; gRPC stubs use the same.")
    content_address: str = Field("127.0.0.1:50052", description="host:port of the content service.")
    search_address: str = Field("127.0.0.1:50053", description="host:port of the search service.")
    gateway_address: str = Field("127.0.0.1:50054", description="host:port of the gateway service.")
    jwks_cache_seconds: int = Field(
        60, ge=1, description="How long the edge keeps the public keys; under half of THMNAYAH_KEY_PUBLISH_SECONDS."
    )
    envoy_sockets: str = Field("/run/thmnayah", description="Folder for Envoy's unix sockets: its admin and its keys.")
    cors_origins: str = Field("", description="Origins whose pages may call the API, joined by commas; * for any.")
