"""A worker: checks its topics, assembles the tasks of its roles, runs them in one event loop until told to stop."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import uvloop
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from schemas.topics import TOPICS
from streams.runtime.datadir import wait_until_free
from streams.runtime.errors import EXIT_CONFIG, EXIT_CRASHED, AddressTaken, BrokerUnreachable, RuntimeFault, TopicsWrong
from streams.runtime.host import CRASH_STOP_S, Host
from streams.runtime.metrics import MetricsPort
from streams.runtime.names import changelog_topic
from streams.runtime.supervisor import stop_without, supervise, supervisor_pid
from streams.runtime.task import Task
from streams.settings import Role, Settings
from streams.topics import TopicAdmin, TopicError

__all__ = ["RunningWorker", "run_tasks", "run_worker", "supervise"]

logger = logging.getLogger(__name__)

#: Roles with tasks; ``serve`` is a read replica and has none.
_TASK_MODULES: Final[dict[str, str]] = {role: f"streams.agents.{role}" for role in ("embed", "recommend", "value")}
_ADMIN_TIMEOUT_S: Final = 10.0
#: After a crash, what does not stop by itself within this time is ended with the process.
_LAST_RESORT_S: Final = 20.0
#: What an orderly stop may take beyond ``drain_s``, so that the default of 8 s stays within 10.
_LEAVE_S: Final = 1.5
#: How much longer than ``drain_s`` a supervised start waits for a worker that stops because its own supervisor is gone.
_SUCCESSION_S: Final = 22.0


def limit_threads(threads: int) -> None:
    """Bound the thread pools of BLAS, torch and FAISS, here and in libraries that load later."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(threads)


def relax_collector() -> None:
    """Collect cycles rarely: a micro-batch allocates tens of thousands of objects, none of them cyclic, and looking through all that
    is held each time takes a third of the recommend role's time [tests/benchmarks/recommend_processor.py].
    """
    gc.set_threshold(50_000, 20, 50)


def assemble(settings: Settings, roles: Sequence[Role]) -> list[Task]:
    """The tasks of ``roles``. Raises what a role raises for a model folder or setting that it cannot use."""
    limit_threads(settings.threads)
    tasks = [task for role in roles if role in _TASK_MODULES for task in importlib.import_module(_TASK_MODULES[role]).tasks(settings)]
    limit_threads(settings.threads)
    return tasks


def topic_table(settings: Settings) -> dict[str, str]:
    """Table name -> topic on the broker."""
    return {topic.name: settings.topic(topic.name) for topic in TOPICS}


def check_topics(settings: Settings) -> None:
    """Every topic of the table and every changelog exists with the right number of partitions.

    Raises ``TopicsWrong`` with the commands that mend it, or ``BrokerUnreachable``. Settings that merely drifted are logged.
    """
    try:
        drifts = TopicAdmin(settings).check()
    except TopicError as error:
        raise BrokerUnreachable(str(error)) from error
    fatal = [str(drift) for drift in drifts if drift.fatal]
    if fatal:
        raise TopicsWrong("the broker's topics do not fit:\n  " + "\n  ".join(fatal))
    for drift in drifts:
        logger.warning("%s", drift)


def describe_topics(settings: Settings, topics: Sequence[str]) -> tuple[dict[str, int], dict[str, str]]:
    """Partition counts and broker ids of ``topics``; ids are empty where the broker has none (the embedded one).

    Raises ``TopicsWrong`` for a topic that does not exist, ``BrokerUnreachable`` where nothing answers.
    """
    client = AdminClient({**settings.client_config(), "log_level": 2})
    try:
        metadata = client.list_topics(timeout=_ADMIN_TIMEOUT_S)
    except KafkaException as error:
        raise BrokerUnreachable(
            f"no broker answers at {settings.bootstrap_servers}: {error.args[0].str()}; start it, or correct the address"
        ) from error
    missing = [topic for topic in topics if topic not in metadata.topics]
    if missing:
        raise TopicsWrong(f"missing topics: {', '.join(missing)}; create them with `assay topics create`")
    counts = {topic: len(metadata.topics[topic].partitions) for topic in topics}
    if str(metadata.cluster_id).startswith("mockCluster"):
        return counts, {}
    ids = {}
    for topic, future in client.describe_topics(TopicCollection(list(topics)), request_timeout=_ADMIN_TIMEOUT_S).items():
        try:
            ids[topic] = str(future.result().topic_id)
        except KafkaException as error:
            raise BrokerUnreachable(f"topic {topic} cannot be described: {error}") from error
    return counts, ids


def build_host(
    settings: Settings,
    tasks: Sequence[Task],
    table: Mapping[str, str],
    cleanup: Callable[[], None] = lambda: None,
    watch: Callable[[], None] = lambda: None,
) -> Host:
    """A host for ``tasks``, after checking that their sources are co-partitioned with their changelog. Raises ``TopicsWrong``."""
    relax_collector()
    sources = {table[name] for task in tasks for name in task.sources}
    changelogs = {changelog_topic(settings, task.name) for task in tasks}
    counts, ids = describe_topics(settings, sorted(sources | changelogs))
    for task in tasks:
        log = changelog_topic(settings, task.name)
        for source in (table[name] for name in task.sources):
            if counts[source] != counts[log]:
                raise TopicsWrong(
                    f"{source} has {counts[source]} partitions, but {log} has {counts[log]}: a task's topics need equal counts; "
                    f"`assay topics reset {log}` makes it again (its state is then recomputed from the source)"
                )
    return Host(settings, tasks, table=table, topic_ids=ids, cleanup=cleanup, watch=watch)


def _prepare(settings: Settings, roles: Sequence[Role]) -> Host:
    """Check, assemble, and start what needs no event loop (the read API)."""
    check_topics(settings)
    tasks = assemble(settings, roles)
    if "serve" not in roles:
        return build_host(settings, tasks, topic_table(settings))
    from streams.serve.server import start

    server = start(settings, stores=len(tasks) * settings.partitions)
    try:
        return build_host(settings, tasks, topic_table(settings), cleanup=server.stop, watch=server.check)
    except BaseException:
        server.stop()
        raise


def _supervised_start(settings: Settings, data_dirs: Sequence[Path]) -> None:
    """Where this process is supervised: end with the supervisor, and wait for a worker that has lost its own to let go of ``data_dirs``."""
    supervisor = supervisor_pid()
    if supervisor is None:
        return
    stop_without(supervisor)
    waited = [wait_until_free(path, settings.drain_s + _SUCCESSION_S) for path in data_dirs]
    if any(waited):
        # It lets go of its ports as it ends, up to so much later.
        time.sleep(_LEAVE_S)


def _run_process(build: Callable[[], Host], metrics_address: tuple[str, int] | None = None) -> int:
    """Run a host as this process: signals, messages, exit code; metrics are answered from when it is ready."""
    assembled = False

    async def main() -> None:
        nonlocal assembled
        metrics = MetricsPort(*metrics_address) if metrics_address else None
        host = await asyncio.to_thread(build)
        assembled = True
        loop = asyncio.get_running_loop()
        asked = False

        def stop() -> None:
            nonlocal asked
            if asked:
                os._exit(EXIT_CRASHED)
            asked = True
            logger.info("stopping: finishing what is in flight (a second signal kills)")
            late = "NotStopped: not stopped in time; what is in flight was not committed and is redone at the next start"
            _end_within(host.settings.drain_s + _LEAVE_S, EXIT_CRASHED, late)
            host.stop()

        async def announce() -> None:
            await host.ready.wait()
            if metrics is not None:
                try:
                    metrics.open()
                except AddressTaken as taken:
                    host.fail(taken)

        host.alarmed = lambda stuck: _end_within(CRASH_STOP_S + _LEAVE_S, _exit_code(stuck, assembled=True), _reason(stuck))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        announcing = asyncio.create_task(announce())
        try:
            await host.run()
        except BaseException as error:
            _end_within(_LAST_RESORT_S, _exit_code(error, assembled=True), _reason(error))
            raise
        finally:
            announcing.cancel()

    try:
        uvloop.run(main())
    except Exception as error:
        code = _exit_code(error, assembled=assembled)
        if code == EXIT_CRASHED and not isinstance(error, RuntimeFault):
            logger.exception("the worker crashed")
        sys.stderr.write(f"assay: {_reason(error)}\n")
    else:
        code = 0
    # All is closed by now; only threads of libraries may be left.
    _end_within(_LEAVE_S if code == 0 else _LAST_RESORT_S, code)
    return code


def _exit_code(error: BaseException, *, assembled: bool) -> int:
    if isinstance(error, RuntimeFault):
        return error.exit_code
    # Before the tasks run, these are what a role raises for a model folder, a file or a setting that it cannot use.
    return EXIT_CONFIG if not assembled and isinstance(error, (ValueError, OSError, ImportError)) else EXIT_CRASHED


def _reason(error: BaseException) -> str:
    """What the last line says: the kind of the fault first, which scripts can tell apart more finely than by the exit code."""
    return f"{type(error).__name__}: {error}"


def _end_within(seconds: float, code: int, message: str = "") -> None:
    """End the process with ``code`` if it is still there after ``seconds``: a thread that never returns must not keep it alive.

    Nothing is lost by it: what is in flight aborts, and none of it was acknowledged or can be seen by others.
    """

    def end() -> None:
        if message:
            # Not by the log: whoever holds its lock may be what does not return.
            os.write(2, f"assay: {message}\n".encode())
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def run_worker(settings: Settings, roles: Sequence[Role]) -> int:
    """Run ``roles`` until SIGTERM or SIGINT; the exit code (0 stopped, 2 configuration, 3 no broker, 4 data dir, 5 crashed, 6 topics)."""
    _supervised_start(settings, [settings.data_dir, settings.data_dir / "serve"] if "serve" in roles else [settings.data_dir])
    address = (settings.metrics_host, settings.metrics_port) if settings.metrics_port and "serve" not in roles else None
    return _run_process(lambda: _prepare(settings, roles), address)


def run_tasks(settings: Settings, tasks: Sequence[Task], table: Mapping[str, str]) -> int:
    """Run tasks of one's own (benchmarks, tests) like ``run_worker``. ``table``: table name -> topic, for sources and outputs."""
    _supervised_start(settings, [settings.data_dir])
    return _run_process(lambda: build_host(settings, tasks, table))


class RunningWorker:
    """A worker inside this process, its event loop in a thread of its own, for the demo and for tests.

    Use as a context manager, or call ``start`` and ``stop``. What makes the worker fail is raised by ``wait_ready`` and ``stop``.
    """

    def __init__(self, settings: Settings, roles: Sequence[Role] = (), *, build: Callable[[], Host] | None = None) -> None:
        self._build = build or (lambda: _prepare(settings, roles))
        self._host: Host | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._stop_asked = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> Self:
        """Start; returns at once."""
        self._thread.start()
        return self

    def _run(self) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            host = await asyncio.to_thread(self._build)
            self._host = host
            if self._stop_asked.is_set():
                return
            waiter = asyncio.create_task(self._when_ready(host))
            try:
                await host.run()
            finally:
                waiter.cancel()

        try:
            uvloop.run(main())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _when_ready(self, host: Host) -> None:
        await host.ready.wait()
        self._ready.set()

    def wait_ready(self, timeout: float) -> None:
        """Wait until every task owns its partitions and reads. Raises what made the worker fail, or ``TimeoutError``."""
        if not self._ready.wait(timeout):
            raise TimeoutError(f"the worker was not ready within {timeout:.0f} s")
        self.check()

    def check(self) -> None:
        """Raise what made the worker fail, if it did."""
        if self._error is not None:
            raise self._error

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def positions(self) -> dict[str, dict[tuple[str, int], int]]:
        """For each task: (topic with prefix, partition) -> offset of the last record applied and committed."""
        return self._host.positions() if self._host is not None else {}

    def stop(self, timeout: float = 30.0) -> None:
        """Drain and stop. Raises what made the worker fail, if it did, or ``TimeoutError``."""
        self._stop_asked.set()
        if self._host is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._host.stop)
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"the worker did not stop within {timeout:.0f} s")
        self.check()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
