"""What a worker counts, for Prometheus. The one registry of the process; ``streams.serve`` exposes it at ``/metrics``."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry()

_LATENCY_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

EVENTS: Final = Counter("assay_events", "Source records applied (committed).", ["task"], registry=REGISTRY)
TRANSACTIONS: Final = Counter("assay_transactions", "Transactions committed.", ["task"], registry=REGISTRY)
OUTPUTS: Final = Counter("assay_outputs", "Records committed to output topics.", ["task", "topic"], registry=REGISTRY)
DEAD_LETTERS: Final = Counter("assay_dead_letters", "Records refused, by code.", ["task", "code"], registry=REGISTRY)
STATE_WRITES: Final = Counter("assay_state_writes", "Keys written to changelog and RocksDB.", ["task"], registry=REGISTRY)
RESTORED: Final = Counter("assay_restored_records", "Changelog records read to restore state.", ["task"], registry=REGISTRY)
FENCED: Final = Counter("assay_fenced", "Partitions dropped because another worker took them over.", ["task"], registry=REGISTRY)
COMMIT_SECONDS: Final = Histogram(
    "assay_commit_seconds", "One transaction, from first send to RocksDB.", ["task"], buckets=_LATENCY_BUCKETS, registry=REGISTRY
)
COMPUTE_SECONDS: Final = Histogram(
    "assay_compute_seconds", "One call of the processor.", ["task"], buckets=_LATENCY_BUCKETS, registry=REGISTRY
)
BATCH_RECORDS: Final = Histogram(
    "assay_batch_records",
    "Source records in a transaction.",
    ["task"],
    buckets=(1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000),
    registry=REGISTRY,
)
LAG: Final = Gauge("assay_lag_records", "Source records not yet applied, by partition.", ["task", "topic", "partition"], registry=REGISTRY)
PARTITIONS: Final = Gauge("assay_partitions", "Partitions owned and open.", ["task"], registry=REGISTRY)
BROADCAST: Final = Counter("assay_broadcast_records", "Broadcast records applied.", ["task"], registry=REGISTRY)
