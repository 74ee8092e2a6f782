"""Settings of the mesh on one machine: where it listens, where it keeps data, what it uses instead of its own."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class LocalSettings(BaseSettings):
    """Read from the environment, then from `.env`. Everything has a default."""

    model_config = SettingsConfigDict(env_prefix="THMNAYAH_", env_file=".env", frozen=True, extra="ignore")

    http_port: int = Field(8080, ge=1, le=65535, description="Port of the REST gateway; gRPC stubs use the same.")
    data_dir: Path = Field(Path("var"), description="Folder for data, logs and secrets.")
    admin_email: str = Field("admin@thmnayah.local", description="E-mail address of the first administrator.")
    admin_password: SecretStr = Field(SecretStr(""), description="Password of the first administrator; empty: made up.")
    postgres_url: SecretStr = Field(
        SecretStr(""), description="PostgreSQL to use, as a role that may create roles and databases; empty: its own."
    )
    redis_url: SecretStr = Field(SecretStr(""), description="Redis or Valkey to use; empty: its own.")
    nats_url: SecretStr = Field(SecretStr(""), description="NATS with JetStream to use; empty: its own.")
