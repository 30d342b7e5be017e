"""The demo from end to end: broker, workers, catalogue, events, figures."""

from __future__ import annotations

import logging
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from schemas.topics import EVENTS
from streams.broker import EmbeddedBroker
from streams.demo.feed import DatasetFeed, Feed, SimulatedFeed
from streams.demo.feeder import Feeder
from streams.demo.readings import Readings
from streams.demo.summary import Summary
from streams.demo.view import LiveView, PlainView, View
from streams.replay.publisher import Publisher, await_embeddings
from streams.settings import ROLES, Settings
from streams.topics import PlannedTopic, TopicAdmin, TopicError
from streams.worker import RunningWorker

#: Far inside what the embedded broker keeps (5 MiB a partition), and near enough that shoppers react to fresh lists.
MAX_LAG = 1_000
_READY_S = 180.0
_EMBEDDING_S = 300.0
_IDLE_S = 0.005
#: How much of the workers' log is shown when they fail.
_LOG_LINES = 20
#: Progress lines are printed as they are: no colours for numbers, no line breaks of ours.
_PLAIN: Final[dict[str, Any]] = {"highlight": False, "soft_wrap": True}
#: After the last event: the longest silence of the topics before the run counts as incomplete.
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """``events`` None: without end. ``exit_at_end``: stop once they are counted. ``per_second`` None: as fast as workers follow."""

    events: int | None = None
    exit_at_end: bool = False
    dataset: str | None = None
    path: Path | None = None
    seed: int = 7
    per_second: float | None = None
    embedded: bool = True


def run_demo(settings: Settings, options: DemoOptions, console: Console) -> Summary:
    """Run until the end or Ctrl-C; what came of it.

    Raises ``TopicError`` (broker), ``ReplayError`` (data set), ``RuntimeFault`` and whatever else made the workers fail.
    """
    with ExitStack() as stack:
        stack.enter_context(_sigterm_as_interrupt())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-demo-")))
        settings = _placed(settings, folder)
        stack.push(_log_to((folder if settings.data_dir.is_relative_to(folder) else settings.data_dir) / "demo.log", console))
        settings = _with_broker(settings, options, console, stack)
        readings = Readings(settings)
        stack.callback(readings.close)
        feed = _feed(options, readings)
        console.print(f"starting the workers: encoder, vector index, consumer groups ({', '.join(ROLES)})", **_PLAIN)
        console.print("(the first start on a machine also compiles loops, for a minute or so)", **_PLAIN)
        began = time.monotonic()
        worker = RunningWorker(settings, ROLES).start()
        stack.callback(worker.stop)
        with console.status("loading the encoder, joining the consumer groups"):
            worker.wait_ready(_READY_S)
        ready = time.monotonic()
        _publish(settings, feed, console)
        console.print(f"workers ready in {ready - began:.1f} s, catalogue embedded in {time.monotonic() - ready:.1f} s", **_PLAIN)
        return _drive(settings, options, console, feed, worker, readings)


def _placed(settings: Settings, folder: Path) -> Settings:
    """The demo's own data dir and port, where the operator named none."""
    changes: dict[str, object] = {}
    if "data_dir" not in settings.model_fields_set:
        changes["data_dir"] = folder / "data"
    if "port" not in settings.model_fields_set:
        changes["port"] = _free_port(settings.host, settings.port)
    return settings.model_copy(update=changes)


def _free_port(host: str, preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise TopicError(f"no port of {host} is free for the read API; give one with --port")


def _log_to(path: Path, console: Console) -> Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], None]:
    """Keep the workers' log off the terminal; returns an exit callback that shows its end if the demo fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)

    def show_end(kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        handler.flush()
        if kind is not None and issubclass(kind, Exception):
            lines = [line for line in path.read_text(errors="replace").splitlines() if " INFO " not in line]
            for line in lines[-_LOG_LINES:]:
                console.print(line, markup=False, **_PLAIN)

    return show_end


def _with_broker(settings: Settings, options: DemoOptions, console: Console, stack: ExitStack) -> Settings:
    """Settings that point at a broker with the topics, all empty. Raises ``TopicError``."""
    if options.embedded:
        console.print("starting an embedded Kafka broker (in memory, nothing to install)")
        broker = stack.enter_context(EmbeddedBroker())
        settings = settings.model_copy(update={"bootstrap_servers": broker.bootstrap_servers})
    elif "topic_prefix" not in settings.model_fields_set:
        settings = settings.model_copy(update={"topic_prefix": f"assay-demo-{time.strftime('%Y%m%d-%H%M%S')}."})
    admin = TopicAdmin(settings)
    created = admin.create()
    held = admin.records([topic for topic in admin.plan if topic.name == settings.topic(EVENTS.name)])
    if any(held.values()):
        raise TopicError(
            f"{settings.topic(EVENTS.name)} holds events already; choose another --topic-prefix, so that the figures are the demo's own"
        )
    if not options.embedded:
        console.print(f"created {len(created)} topics with the prefix {settings.topic_prefix} at {settings.bootstrap_servers}", **_PLAIN)
        stack.callback(_delete_topics, settings, [topic for topic in admin.plan if topic.name in created], console)
    return settings


def _delete_topics(settings: Settings, topics: list[PlannedTopic], console: Console) -> None:
    """Leave no trace on somebody's broker."""
    console.print(f"deleting the {len(topics)} topics that the demo created", **_PLAIN)
    client = AdminClient(settings.client_config() | {"log_level": 0})
    for future in client.delete_topics([topic.name for topic in topics]).values():
        future.result()


def _feed(options: DemoOptions, readings: Readings) -> Feed:
    if options.dataset is not None and options.path is not None:
        return DatasetFeed(options.dataset, options.path, options.events)
    return SimulatedFeed(options.seed, readings.shelf)


def _publish(settings: Settings, feed: Feed, console: Console) -> None:
    """The catalogue, and then its vectors, with a progress bar each."""
    with_text = {product.sku for product in feed.products if product.title or product.description or product.brand or product.category_path}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars, Publisher(settings) as publisher:
        if not console.is_terminal:
            console.print(f"publishing and embedding {len(feed.products):,} products", **_PLAIN)
        task = bars.add_task("publishing products", total=len(feed.products))
        publisher.publish_products(feed.products, lambda count: bars.advance(task, count))
        vectors = bars.add_task("embedding products ", total=len(with_text))
        await_embeddings(settings, with_text, timeout_s=_EMBEDDING_S, progress=lambda count: bars.advance(vectors, count))


def _drive(settings: Settings, options: DemoOptions, console: Console, feed: Feed, worker: RunningWorker, readings: Readings) -> Summary:
    """Send, read, show, until everything is counted or somebody presses Ctrl-C."""
    topic = settings.topic(EVENTS.name)

    def applied() -> dict[int, int]:
        places = worker.positions().get("recommend", {})
        return {partition: offset for (name, partition), offset in places.items() if name == topic}

    feeder = Feeder(settings, feed.records(), applied, limit=options.events, per_second=options.per_second, max_lag=MAX_LAG)
    with _view(settings, console, feed) as view:
        try:
            _loop(options, feeder, worker, readings, view)
        except KeyboardInterrupt:
            console.print("stopping")
        finally:
            feeder.close()
    return Summary(feeder.sent, feeder.seconds, readings.figures)


def _loop(options: DemoOptions, feeder: Feeder, worker: RunningWorker, readings: Readings, view: View) -> None:
    counted, patience = -1, time.monotonic() + _PATIENCE_S
    while True:
        worker.check()
        busy = feeder.advance()
        read = readings.poll(0.0 if busy else _IDLE_S)
        figures = readings.figures
        view.show(feeder.sent, figures)
        if not (feeder.exhausted and feeder.done() and options.exit_at_end):
            patience = time.monotonic() + _PATIENCE_S
            continue
        now_counted = figures.outcomes + figures.dead_letters.total()
        if now_counted >= feeder.sent and not read:
            return
        if now_counted != counted:
            counted, patience = now_counted, time.monotonic() + _PATIENCE_S
        elif time.monotonic() > patience:
            return


def _view(settings: Settings, console: Console, feed: Feed) -> View:
    if not console.is_terminal:
        return PlainView(console)
    reach = f"--bootstrap-servers {settings.bootstrap_servers}" + (
        f" --topic-prefix {settings.topic_prefix}" if settings.topic_prefix else ""
    )
    hints = [
        f"read API      http://{settings.host}:{settings.port}/   (lists, similar items, trending, valuation)",
        f"see messages  assay tail recommendations {reach}",
        f"refused       assay dead-letters list {reach}",
        f"one shopper   assay profiles get user-00000 {reach}",
        "Ctrl-C stops; then `assay --help` shows how to run it against your own Kafka",
    ]
    return LiveView(console, feed.title, {product.sku: product for product in feed.products}, hints)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
