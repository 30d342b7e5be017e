"""Apache Kafka in KRaft mode on this machine: one JVM a node, data in a folder of its own."""

from __future__ import annotations

import base64
import contextlib
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.broker.distribution import find_java, kafka_jars
from streams.broker.exceptions import BrokerStartError
from streams.broker.node import Node, free_port
from streams.runtime.producer import MAX_RECORD_BYTES

_POLL_S = 0.1


def _no_log(*_: object) -> None:
    """Swallow librdkafka's "connection refused" lines while a broker is coming up: that it answers is what is waited for."""


class RealKafka:
    """A cluster of ``brokers`` (1 or 3) combined broker and controller nodes on loopback.

    Data, configuration and logs live in ``data_dir`` (``node-N/``); a later cluster over the same folder has the same
    topics. ``port`` fixes the first node's port, else free ones are taken; either way they stay through ``stop`` and
    ``start``. ``config`` overrides broker settings. Use it as a context manager, or call ``start`` and ``stop``.

    For fault tests: ``kill`` (SIGKILL), ``pause`` and ``resume`` (SIGSTOP, SIGCONT), each for one ``node`` (from 0) or, by
    default, for all; ``start`` brings back what is down.

    Raises ``KafkaUnavailable`` where Java or Kafka is missing and ``BrokerStartError`` where it does not come up.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        brokers: int = 1,
        port: int | None = None,
        heap_mb: int = 512,
        config: Mapping[str, object] | None = None,
        start_timeout_s: float = 60.0,
    ) -> None:
        if brokers not in (1, 3):
            raise ValueError(f"brokers must be 1 or 3 (a quorum), not {brokers}")
        self._timeout_s = start_timeout_s
        java, jars = find_java(), kafka_jars()
        data_dir.mkdir(parents=True, exist_ok=True)
        ports = [(port if port and i == 0 else free_port(), free_port()) for i in range(brokers)]
        voters = ",".join(f"{i + 1}@127.0.0.1:{controller}" for i, (_, controller) in enumerate(ports))
        self._cluster_id = cluster_id = _cluster_id(data_dir)
        self._nodes = [
            Node(
                node_id=i + 1,
                folder=data_dir / f"node-{i + 1}",
                java=java,
                jars=jars,
                cluster_id=cluster_id,
                heap_mb=heap_mb,
                port=broker_port,
                properties=_properties(i + 1, broker_port, controller_port, voters, brokers)
                | {k: str(v) for k, v in (config or {}).items()},
            )
            for i, (broker_port, controller_port) in enumerate(ports)
        ]
        self.bootstrap_servers = ",".join(f"127.0.0.1:{broker_port}" for broker_port, _ in ports)

    @property
    def pids(self) -> list[int | None]:
        """Process ids by node; None where a node is down."""
        return [node.pid for node in self._nodes]

    def start(self) -> Self:
        """Start every node that is down (formatting new folders) and wait until the whole cluster answers."""
        with ThreadPoolExecutor(len(self._nodes)) as pool:
            list(pool.map(Node.format, self._nodes))
        for node in self._nodes:
            node.start()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def wait_ready(self) -> None:
        """Return once every node that is up is a member and answers metadata requests. Raises ``BrokerStartError``."""
        deadline = time.monotonic() + self._timeout_s
        admin = AdminClient(
            {"bootstrap.servers": self.bootstrap_servers, "log_level": 0, "error_cb": _no_log, "reconnect.backoff.max.ms": 200}
        )
        wanted = {node.node_id for node in self._nodes if node.pid is not None}
        while True:
            with contextlib.suppress(KafkaException):
                found = admin.list_topics(timeout=1)
                if found.cluster_id not in (None, self._cluster_id):
                    raise BrokerStartError(f"another Kafka listens at {self.bootstrap_servers} already; stop it, or choose another --port")
                if wanted <= set(found.brokers):
                    return
            for node in self._nodes:
                node.raise_if_ended()
            if time.monotonic() > deadline:
                logs = "\n".join(node.log_tail() for node in self._nodes)
                raise BrokerStartError(
                    f"Kafka at {self.bootstrap_servers} did not answer within {self._timeout_s:g} s. The end of its log:\n{logs}"
                )
            time.sleep(_POLL_S)

    def stop(self, node: int | None = None) -> None:
        """Shut down cleanly (SIGTERM, then SIGKILL after a while). Data stays."""
        self._each(node, Node.stop)

    def kill(self, node: int | None = None) -> None:
        """SIGKILL: what a power cut looks like to the clients. Data stays."""
        self._each(node, Node.kill)

    def pause(self, node: int | None = None) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self._each(node, Node.pause)

    def resume(self, node: int | None = None) -> None:
        """SIGCONT."""
        self._each(node, Node.resume)

    def _each(self, node: int | None, act: Callable[[Node], None]) -> None:
        chosen = self._nodes if node is None else [self._nodes[node]]
        with ThreadPoolExecutor(len(chosen)) as pool:
            list(pool.map(act, chosen))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def _cluster_id(data_dir: Path) -> str:
    """The id that the folder's nodes were formatted with, made on first use."""
    file = data_dir / "cluster.id"
    if not file.exists():
        # The leading letter keeps the command line from reading an id that starts with "-" as a flag.
        file.write_text("A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:21])
    return file.read_text().strip()


def _properties(node_id: int, port: int, controller_port: int, voters: str, brokers: int) -> dict[str, str]:
    """Broker settings for one machine: little memory, quick groups, and as safe as the number of nodes allows."""
    replicas = str(min(3, brokers))
    in_sync = "2" if brokers == 3 else "1"
    return {
        "process.roles": "broker,controller",
        "node.id": str(node_id),
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        # Topics are created with checked settings by `assay topics create`, never by a typing mistake.
        "auto.create.topics.enable": "false",
        "num.partitions": "4",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": "4",
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        # Transactions that a dead worker left open end soon after their timeout (default: looked at every 10 s).
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "message.max.bytes": str(MAX_RECORD_BYTES),
        "replica.fetch.max.bytes": str(MAX_RECORD_BYTES),
        # The default takes 128 MiB of the heap.
        "log.cleaner.dedupe.buffer.size": str(16 * 1_048_576),
        # Preallocated twice for every partition; 2 MiB still index a 1 GiB segment.
        "log.index.size.max.bytes": str(2 * 1_048_576),
    }
