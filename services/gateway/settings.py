"""Settings of the gateway: its service and Envoy's configuration take the same."""

from typing import Literal

from pydantic import Field, SecretStr

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
    trusted_hops: int = Field(
        0, ge=0, le=10, description="Proxies in front of the edge whose word of the caller's address is believed."
    )
    hsts_seconds: int = Field(
        0, ge=0, description="Max-age of Strict-Transport-Security, where callers come by TLS alone; 0: not sent."
    )
    anonymous_calls_per_minute: int = Field(
        60, ge=0, description="Of an address, by callers who are not signed in; 0: no limit, here and below."
    )
    anonymous_calls_per_hour: int = Field(1000, ge=0, description="The same in an hour.")
    person_calls_per_minute: int = Field(6000, ge=0, description="Of somebody who is signed in.")
    key_calls_per_minute: int = Field(12_000, ge=0, description="Of a program with an API key, by its key.")
    global_limits: Literal["off", "sign_in", "all"] = Field(
        "off", description="What several Envoys count together in Valkey: off, sign_in or all."
    )
    limits_seconds: float = Field(
        0.02, gt=0, le=5, description="How long a call waits for what is counted together; a sign-in half a second."
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="Where Redis or Valkey is, for global_limits."
    )
