"""What the read API counts, in the process's one Prometheus registry."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from streams.runtime.metrics import REGISTRY

REQUESTS: Final = Counter("assay_http_requests", "Requests answered, by route and status.", ["route", "status"], registry=REGISTRY)
CLOSED: Final = Counter(
    "assay_http_connections_closed", "Connections closed on clients that were silent, or as one too many.", ["reason"], registry=REGISTRY
)
_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
SECONDS: Final = Histogram("assay_http_seconds", "From request to reply.", ["route"], buckets=_BUCKETS, registry=REGISTRY)
APPLIED: Final = Counter("assay_replica_records", "Records read into the replica.", ["topic"], registry=REGISTRY)
READY: Final = Gauge("assay_serve_ready", "1 once the replica has read what the topics held when it started.", registry=REGISTRY)
QUERIES: Final = Counter("assay_search_queries", "Search queries, by how their vector came.", ["vector"], registry=REGISTRY)
SEARCHING: Final = Gauge("assay_searches_running", "Searches under way.", registry=REGISTRY)
