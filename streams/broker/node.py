"""One Kafka process: its folder, its JVM, and the signals that fault tests send it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from streams.broker.exceptions import BrokerStartError

_STOP_TIMEOUT_S = 20.0
_LOG_TAIL_BYTES = 3000
#: Below Linux's ephemeral range (32768 up), so that no outgoing connection takes the port of a broker that is down for a while.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A loopback TCP port that nothing listens on. Raises ``BrokerStartError`` if none is found."""
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BrokerStartError("no free TCP port in 20000..31999 on 127.0.0.1")


class Node:
    """A combined broker and controller in ``folder``; ``properties`` is its configuration without ``log.dirs``."""

    def __init__(
        self, *, node_id: int, folder: Path, java: str, jars: Path, cluster_id: str, heap_mb: int, port: int, properties: Mapping[str, str]
    ) -> None:
        self.node_id = node_id
        self.port = port
        self._folder = folder
        self._cluster_id = cluster_id
        self._properties = properties
        self._java = [java, f"-Xmx{heap_mb}m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{jars}/*"]
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The JVM's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def log(self) -> Path:
        """Warnings and errors of the broker, appended over restarts."""
        return self._folder / "broker.log"

    def log_tail(self) -> str:
        """The end of the log, for an error message."""
        return self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace") if self.log.exists() else "(no log)"

    def format(self) -> None:
        """Write the configuration, and the storage metadata if the folder is new."""
        data = self._folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        config = self._folder / "server.properties"
        config.write_text("".join(f"{k}={v}\n" for k, v in {**self._properties, "log.dirs": str(data)}.items()))
        if (data / "meta.properties").exists():
            return
        command = [*self._java, "kafka.tools.StorageTool", "format", "-t", self._cluster_id, "-c", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BrokerStartError(f"could not format {data} (exit {done.returncode}):\n{(done.stdout + done.stderr)[-_LOG_TAIL_BYTES:]}")

    def start(self) -> None:
        """Start the JVM unless it runs; returns at once."""
        if self.pid is not None:
            return
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches us, and we stop the broker in order.
            self._process = subprocess.Popen(
                [*self._java, "kafka.Kafka", str(self._folder / "server.properties")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self._folder,
            )
        # Should this process die without a word (kill -9), the pipe closes and the guard takes the JVM down with it.
        self._guard = subprocess.Popen(
            ["sh", "-c", 'read _; kill -9 "$0"', str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def raise_if_ended(self) -> None:
        """Raise ``BrokerStartError`` with the end of the log if the JVM was started and has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise BrokerStartError(
                f"Kafka node {self.node_id} ended with exit code {self._process.returncode}. The end of {self.log}:\n{self.log_tail()}"
            )

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after 20 s."""
        if self.pid is None or self._process is None:
            self._reap()
            return
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def kill(self) -> None:
        """SIGKILL."""
        if self.pid is not None and self._process is not None:
            self._process.kill()
        self._reap()

    def pause(self) -> None:
        """SIGSTOP."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGCONT)

    def _reap(self) -> None:
        # The guard first: it must never see its pipe close after the JVM's pid was given to another process.
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None
        if self._process is not None:
            self._process.wait()
            self._process = None
