"""Settings from environment variables, each service's in one frozen model."""

import sys
from typing import Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What every process of ours is told; a service adds its own in a subclass."""

    model_config = SettingsConfigDict(env_prefix="THMNAYAH_", frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="Address the gRPC server and the metrics listen on.")
    port: int = Field(0, ge=0, le=65535, description="Port of the gRPC server; 0 finds a free one.")
    metrics_port: int = Field(0, ge=0, le=65535, description="Port of the Prometheus metrics; 0 turns them off.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least level that is logged.")
    otlp_endpoint: str = Field(
        "", description="OpenTelemetry collector (gRPC), such as http://127.0.0.1:4317; empty: no traces."
    )
    concurrent_calls: int = Field(128, ge=1, description="Calls served at once; more are refused and may be retried.")
    auth_address: str = Field("127.0.0.1:50051", description="host:port of the auth service, for its public keys.")
    drain_seconds: float = Field(5, ge=0, description="Between saying `not serving` and refusing calls, on SIGTERM.")

    @classmethod
    def load(cls) -> Self:
        """Read the environment, or end the process with one line for each setting that is wrong."""
        try:
            return cls()
        except ValidationError as error:
            for problem in error.errors():
                name = "_".join(str(part) for part in problem["loc"]).upper()
                print(f"THMNAYAH_{name}: {problem['msg']}", file=sys.stderr)
            raise SystemExit(2) from None


class StoreSettings(Settings):
    """Settings of a service that keeps data and tells others of changes."""

    database_url: SecretStr = Field(description="postgresql:// address of the service's own database.")
    nats_url: SecretStr = Field(SecretStr("nats://127.0.0.1:4222"), description="Where NATS JetStream is.")
    stream_replicas: int = Field(1, ge=1, le=5, description="Copies that NATS keeps of an event; 3 on a cluster.")
    pool_size: int = Field(8, ge=1, description="Connections to PostgreSQL a process may hold.")
