"""What a worker counts, for Prometheus. The one registry of the process; ``streams.serve`` exposes it at ``/metrics``, and a worker
without that role by ``MetricsPort``.
"""

from __future__ import annotations

import socket
import threading
from http.server import ThreadingHTTPServer
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, MetricsHandler

from streams.runtime.errors import AddressTaken

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
LAG: Final = Gauge(
    "assay_lag_records",
    "Records of source and broadcast topics not yet applied, by partition.",
    ["task", "topic", "partition"],
    registry=REGISTRY,
)
REMOVED: Final = Counter(
    "assay_removed_records",
    "Offsets of source topics that retention removed before they were read.",
    ["task", "topic", "partition"],
    registry=REGISTRY,
)
PARTITIONS: Final = Gauge("assay_partitions", "Partitions owned and open.", ["task"], registry=REGISTRY)
BROADCAST: Final = Counter("assay_broadcast_records", "Broadcast records applied.", ["task"], registry=REGISTRY)
RULES_READ: Final = Counter(
    "assay_business_rules_read", "Files of business rules read, by outcome: taken, or refused as invalid.", ["outcome"], registry=REGISTRY
)
RULES_REFUSED: Final = Gauge(
    "assay_business_rules_refused", "1 while the file of business rules is not what is in force, because it was refused.", registry=REGISTRY
)
PINS_PASSED_OVER: Final = Counter(
    "assay_pins_passed_over",
    "Places in lists that a pin could not take: product unknown, withdrawn or excluded, or the place beyond k.",
    registry=REGISTRY,
)


VALUE_POINTS: Final = Gauge(
    "assay_value_points", "Utility points per test that a data asset is credited with.", ["dimension", "asset", "window"], registry=REGISTRY
)
VALUE_LIFT: Final = Gauge(
    "assay_value_lift", "Utility above the popularity baseline, per test.", ["dimension", "window"], registry=REGISTRY
)
VALUE_RESIDUAL: Final = Gauge(
    "assay_value_residual",
    "By how much the points of a dimension miss its lift, summed over tests.",
    ["dimension", "window"],
    registry=REGISTRY,
)
VALUE_UNPLACED: Final = Counter(
    "assay_value_unplaced", "Items shown that valuation left out, because they had no vector.", registry=REGISTRY
)
FEEDBACK_WEIGHT: Final = Gauge(
    "assay_feedback_weight",
    "What a data asset counts in lists, 0..1, by value feedback; of recommend workers that follow it.",
    ["dimension", "asset"],
    registry=REGISTRY,
)
FEEDBACK_CHANGES: Final = Counter(
    "assay_feedback_changes", "Times that value feedback changed what a data asset counts.", ["dimension"], registry=REGISTRY
)


class MetricsPort:
    """The registry over HTTP on ``host:port``. The address is taken at once, but nothing is answered before ``open``.

    So a taken address is told at the start, and what can connect knows that the worker reads (health checks). Raises
    ``AddressTaken``, as does ``open``.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = f"{host}:{port}"
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            server = type("MetricsServer", (ThreadingHTTPServer,), {"address_family": family})
            self._server = server(address[:2], MetricsHandler.factory(REGISTRY), bind_and_activate=False)
        except OSError as error:
            raise self._taken(error) from error
        try:
            self._server.server_bind()
        except OSError as error:
            self.close()
            raise self._taken(error) from error

    def _taken(self, error: OSError) -> AddressTaken:
        return AddressTaken(
            f"cannot listen on {self._address}: {error.strerror or error}; choose another with --metrics-port and --metrics-host"
        )

    def open(self) -> None:
        """Begin to answer, in a thread of its own, until the process ends."""
        try:
            self._server.server_activate()
        except OSError as error:
            raise self._taken(error) from error
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Let go of the address."""
        self._server.server_close()
