"""``assay broker``: a local Kafka until Ctrl-C."""

from __future__ import annotations

import signal
import tempfile
import threading
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import click
import orjson

from schemas.topics import TOPICS
from streams.broker import BrokerError, EmbeddedBroker, KafkaUnavailable, RealKafka
from streams.cli.options import EXIT_BROKER, EXIT_CONFIG, raise_usage


@click.command()
@click.option(
    "--embedded", "kind", flag_value="embedded", default=True, help="librdkafka's mock broker: memory only, no admin calls.  [default]"
)
@click.option("--kafka", "kind", flag_value="kafka", help="Apache Kafka in KRaft mode: KAFKA_HOME, else fetched by Maven once.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the first node (with --kafka).  [default: 9092]")
@click.option("--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Nodes, each a JVM (with --kafka).")
@click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Keep the data here (with --kafka).  [default: thrown away]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object once it is up.")
def command(kind: str, port: int | None, brokers: str, data_dir: Path | None, as_json: bool) -> None:
    """Run a local Kafka until Ctrl-C: embedded, or a real one in KRaft mode.

    Prints its bootstrap servers once it answers.
    """
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with ExitStack() as stack:
        broker: AbstractContextManager[EmbeddedBroker | RealKafka]
        try:
            if kind == "embedded":
                if port is not None or data_dir is not None or brokers != "1":
                    raise_usage(
                        "the embedded broker chooses its own port and keeps nothing: --port, --brokers and --data-dir go with --kafka"
                    )
                broker = EmbeddedBroker(topic.name for topic in TOPICS)
            else:
                folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-kafka-")))
                broker = RealKafka(folder, brokers=int(brokers), port=port or 9092)
            running = stack.enter_context(broker)
        except KafkaUnavailable as missing:
            raise_usage(str(missing), EXIT_CONFIG)
        except BrokerError as error:
            raise_usage(str(error), EXIT_BROKER)
        servers = running.bootstrap_servers
        if as_json:
            click.echo(orjson.dumps({"bootstrap_servers": servers, "kind": kind}))
        else:
            click.echo(f"bootstrap servers: {servers}   (Ctrl-C stops it)\n  export ASSAY_BOOTSTRAP_SERVERS={servers}")
        stopped.wait()
