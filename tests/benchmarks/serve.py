"""The read API under load: requests/s and latency with a million stored users, server on one core, load tool on the other.

Saturated by wrk (32 connections), then at 500 requests/s on a schedule (latency counts from when a request was due). The baseline reads
the same copy through a router, a model and its encoder. Peers measured elsewhere are quoted in ``README.md``, not here.
"""

from __future__ import annotations

import os
import random
import re
import select
import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from models.simulation import Storefront, StorefrontOptions
from schemas.topics import CATALOG, EVENTS, RECOMMENDATIONS
from streams.broker.node import free_port
from streams.reading import TopicReader
from streams.settings import Settings
from streams.topics import TopicAdmin
from tests.benchmarks.load import percentiles
from tests.benchmarks.measure import broker, count_committed, cpu_seconds, preload, python_module, worker
from tests.benchmarks.peers import PeerUnavailable
from tests.benchmarks.report import Report, medians

_CONNECTIONS = 32
_SECONDS = 15
_PACED_RATE = 500
_PACED_CONNECTIONS = 8
_READY_S = 900.0
_SETTLE_S = 3.0
_IDLE_PERCENT = 5.0
_WRK = re.compile(r"Requests/sec:\s+([\d.]+)")
_WRK_PERCENTILE = re.compile(r"^\s+(50|75|90|99)%\s+([\d.]+)(us|ms|s)$", re.MULTILINE)
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def sample_lists(bootstrap: str, folder: Path, count: int = 200) -> list[bytes]:
    """Real lists of the recommend role, with ``@USER@`` in the place of the shopper."""
    name = f"lists{uuid.uuid4().hex[:6]}"
    settings = Settings(bootstrap_servers=bootstrap, topic_prefix=f"{name}.", app_id=name)
    TopicAdmin(settings).create()
    store = Storefront(7, StorefrontOptions(products=1_000, users=count, visit_interval_s=0.1, fault_share=0.0, login_share=0.0))
    preload(bootstrap, settings.topic(CATALOG.name), [(p.sku.encode(), p.to_json()) for p in store.catalogue.products])
    events = []
    for record in store.records():
        if record.key is not None and record.value is not None and b'"user_id"' in record.value:
            events.append((record.key, record.value))
        if len(events) == 20 * count:
            break
    preload(bootstrap, settings.topic(EVENTS.name), events)
    flags = ["--bootstrap-servers", bootstrap, "--topic-prefix", settings.topic_prefix, "--app-id", name, "--data-dir", str(folder / name)]
    with worker(python_module("streams.cli", "worker", "--roles", "recommend", *flags), folder / f"{name}.log"):
        count_committed(bootstrap, settings.topic(RECOMMENDATIONS.name), at_least=count)
        lists = _read_lists(settings)
    return lists[-count:]


def _read_lists(settings: Settings) -> list[bytes]:
    with TopicReader(settings, [settings.topic(RECOMMENDATIONS.name)]) as reader:
        found: list[bytes] = []
        while messages := reader.poll(2.0):
            values = [message.value() for message in messages]
            found += [re.sub(rb'"user_id":"[^"]*"', b'"user_id":"@USER@"', value, count=1) for value in values if value is not None]
    return found


@contextmanager
def listening(command: list[str], log: Path, url: str) -> Iterator[psutil.Process]:
    """A server on the first core, once ``url`` answers."""
    pinned = ["taskset", "-c", "0", *command]
    with worker(pinned, log) as process:
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                with urllib.request.urlopen(url, timeout=2):
                    break
            except OSError as error:
                if time.monotonic() > deadline or not process.is_running():
                    raise RuntimeError(f"{url} did not answer: {error}\n{log.read_text()[-2000:]}") from error
                time.sleep(0.2)
        yield process


def settle(process: psutil.Process) -> None:
    """Wait until a server that was asked nothing does nothing: the compaction of a copy just filled takes its one core for a while."""
    deadline = time.monotonic() + _READY_S
    while process.cpu_percent(_SETTLE_S) > _IDLE_PERCENT:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the server was still busy {_READY_S:.0f} s after its start")


def saturate(base: str, users: int) -> dict[str, object]:
    """wrk, on the second core."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise PeerUnavailable("wrk is not on the path. On Debian: apt-get install wrk")
    script = str(Path(__file__).parent / "serve_lists.lua")
    command = ["taskset", "-c", "1", wrk, "-t1", f"-c{_CONNECTIONS}", f"-d{_SECONDS}s", "--latency", "-s", script, base]
    done = subprocess.run(command, env={**os.environ, "BENCH_USERS": str(users)}, capture_output=True, text=True, check=True)
    rate = _WRK.search(done.stdout)
    if rate is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"wrk: {done.stdout}")
    percentile = {f"p{at}": round(float(number) * _MS[unit], 2) for at, number, unit in _WRK_PERCENTILE.findall(done.stdout)}
    return {"load": f"saturated, {_CONNECTIONS} connections", "requests_per_second": float(rate[1])} | percentile


def list_paths(users: int) -> Iterator[str]:
    """Lists of users drawn at random, without end."""
    draw = random.Random(7)
    while True:
        yield f"/v1/users/user-{draw.randrange(users)}/recommendations"


def paced(port: int, paths: Iterator[str], rate: float = _PACED_RATE, seconds: float = _SECONDS) -> dict[str, object]:
    """Requests for ``paths`` on a schedule over a handful of connections that stay open.

    By ``select``, which wakes to the microsecond: an event loop's timer is up to a millisecond late, more than the reply takes.
    """
    # In turn: a server closes a connection that has been silent for some seconds.
    idle = deque(socket.create_connection(("127.0.0.1", port)) for _ in range(_PACED_CONNECTIONS))
    busy: dict[socket.socket, tuple[float, bytearray]] = {}
    latencies: list[float] = []
    total, number, start = int(rate * seconds), 0, time.perf_counter()
    while len(latencies) < total:
        due = start + number / rate
        wait = due - time.perf_counter()
        if number < total and wait <= 0 and idle:
            connection = idle.popleft()
            connection.sendall(f"GET {next(paths)} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            busy[connection] = due, bytearray()
            number += 1
            continue
        readable, _, _ = select.select(list(busy), [], [], max(wait, 0.0) if number < total and idle else None)
        for connection in readable:
            due, reply = busy[connection]
            reply += connection.recv(65_536)
            if _is_whole(reply):
                latencies.append(time.perf_counter() - due)
                del busy[connection]
                idle.append(connection)
    for connection in idle:
        connection.close()
    return {"load": f"{rate:.0f}/s", "requests_per_second": rate} | percentiles(latencies)


def _is_whole(reply: bytearray) -> bool:
    head, end, body = reply.partition(b"\r\n\r\n")
    if not reply or (end and not reply.startswith(b"HTTP/1.1 200")):
        raise RuntimeError(f"the server answered {bytes(head)!r}")
    length = re.search(rb"content-length: (\d+)", head)
    return length is not None and len(body) == int(length[1])


def run(*, repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Measure; ``events`` is the number of stored users (default a million)."""
    users = events or 1_000_000
    rows: list[dict[str, object]] = []
    with ExitStack() as stack:
        bootstrap, folder = stack.enter_context(broker(bootstrap_servers))
        lists = sample_lists(bootstrap, folder)
        size = sum(map(len, lists)) / len(lists)
        name = f"serve{uuid.uuid4().hex[:6]}"
        settings = Settings(bootstrap_servers=bootstrap, topic_prefix=f"{name}.", app_id=name)
        TopicAdmin(settings).create()
        stored = ((f"user-{n}".encode(), lists[n % len(lists)].replace(b"@USER@", b"user-%d" % n)) for n in range(users))
        preload(bootstrap, settings.topic(RECOMMENDATIONS.name), stored)
        data, port = folder / name, free_port()
        flags = ["--bootstrap-servers", bootstrap, "--topic-prefix", f"{name}.", "--app-id", name, "--data-dir", str(data)]
        ours = python_module("streams.cli", "serve", *flags, "--port", str(port))
        # The first start reads the topic into the copy; measured is a server that has done so.
        with listening(ours, folder / "fill.log", f"http://127.0.0.1:{port}/readyz"):
            pass
        plain = python_module("tests.benchmarks.plain_api", str(data / "serve" / "replica"), str(port), str(settings.serve_cache_mb))
        for _ in range(repetitions):
            for system, command, probe in (("assay", ours, "/readyz"), ("plain", plain, "/v1/users/user-1/recommendations")):
                with listening(command, folder / f"{system}.log", f"http://127.0.0.1:{port}{probe}") as process:
                    settle(process)
                    for load in (lambda: saturate(f"http://127.0.0.1:{port}", users), lambda: paced(port, list_paths(users))):
                        before, began = cpu_seconds(process), time.monotonic()
                        found = load()
                        used = (cpu_seconds(process) - before) / (time.monotonic() - began)
                        common: dict[str, object] = {"system": system, "job": "GET a user's list", "guarantee": "read committed"}
                        rows.append(common | {"unit": "ms"} | found | {"server_cores": round(used, 2), "users": users})
    merged = medians(rows, ("system", "load"))
    saturated = {str(r["system"]): float(str(r["requests_per_second"])) for r in merged if "saturated" in str(r["load"])}
    remarks = [
        f"saturated, assay answers {saturated['assay'] / saturated['plain']:.1f} x the requests of the same read through router and model",
        f"{users:,} stored users, {size:,.0f} bytes a list; server on one core, load on the other",
    ]
    return Report("serve", merged, remarks)
