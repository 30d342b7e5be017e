"""What ``assay doctor`` looks at: each check says what it found and, where something is wrong, the command that mends it."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition

from models.rules import RulesError
from schemas.topics import EVENTS
from streams.agents.rules import load_rules
from streams.runtime.datadir import DataDir
from streams.runtime.errors import DataDirTaken
from streams.runtime.partitioner import Partitioner, crc32_partition, murmur2_partition
from streams.settings import Settings, origins
from streams.topics import TASKS, TopicAdmin, TopicError

Verdict = Literal["ok", "warn", "fail"]

_GIB: Final = 1024**3
_DISK_FAIL, _DISK_WARN = 0.25 * _GIB, 2 * _GIB
#: RocksDB keeps at most 256 files open in each partition (``runtime.store``); libraries, sockets and models take a few hundred.
_FILES_PER_PARTITION, _FILES_BESIDE = 256, 512
#: How many of the newest events of each partition the key check reads.
_SAMPLE = 250
_CLOCK_SLACK_MS = 60_000
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; ``mend`` is the command (or change) that mends it, empty where nothing is wrong."""

    check: str
    verdict: Verdict
    found: str
    mend: str = ""

    def as_fields(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self)


def environment(settings: Settings) -> Iterator[Finding]:
    """Variables that look like settings and are none."""
    unread = origins(()).unread
    if unread:
        yield Finding(
            "environment", "warn", f"{', '.join(unread)} name no setting", "`assay config show` lists the settings; correct or unset them"
        )
    else:
        yield Finding("environment", "ok", f"every ASSAY_* variable names a setting; app_id {settings.app_id}")


def broker(settings: Settings) -> Iterator[Finding]:
    """The broker answers, and the topics are as the table says."""
    try:
        admin = TopicAdmin(settings)
        drifts = admin.check()
    except TopicError as error:
        yield Finding("broker", "fail", str(error).partition(";")[0], "`assay broker --kafka` starts one; else set --bootstrap-servers")
        return
    kind = "embedded broker (memory only: for trying out)" if admin.embedded else "Kafka"
    yield Finding("broker", "ok", f"{kind} answers at {settings.bootstrap_servers}")
    for drift in drifts:
        verdict: Verdict = "fail" if drift.fatal else "warn"
        yield Finding("topics", verdict, f"{drift.topic}: {drift.setting} is {drift.found}, should be {drift.expected}", drift.mend)
    if not drifts:
        yield Finding("topics", "ok", f"{len(admin.plan)} topics with {settings.partitions} partitions, as planned")
    if not any(drift.fatal for drift in drifts):
        yield from _recent_events(settings)


def _recent_events(settings: Settings) -> Iterator[Finding]:
    try:
        samples, newest = _sample(settings)
    except KafkaException as error:
        yield Finding("keys", "fail", f"events cannot be read: {error.args[0].str()}", "check the rights of this user on the events topic")
        return
    if not samples:
        yield Finding(
            "keys", "warn", "no events yet, so nobody can tell how producers place keys", "`assay replay` or your storefront sends some"
        )
        return
    yield keys(samples, settings)
    ahead = newest - int(time.time() * 1000)
    if ahead > _CLOCK_SLACK_MS:
        mend = "synchronise the clocks (chrony, ntpd) of broker and workers"
        yield Finding("clock", "warn", f"the newest event arrived {ahead / 1000:.0f} s in this machine's future", mend)
    else:
        yield Finding("clock", "ok", "no event arrived in this machine's future")


def keys(samples: list[tuple[bytes, int]], settings: Settings) -> Finding:
    """Whether (key, partition) pairs were placed by the configured partitioner; else merges and erasures would miss their shopper."""
    functions: dict[str, Partitioner] = {"murmur2": murmur2_partition, "crc32": crc32_partition}
    agree = {
        name: sum(function(key, settings.partitions) == partition for key, partition in samples) / len(samples)
        for name, function in functions.items()
    }
    configured = settings.partitioner
    other = "crc32" if configured == "murmur2" else "murmur2"
    if agree[configured] == 1.0:
        return Finding("keys", "ok", f"{len(samples)} recent keys lie where {configured} puts them")
    found = (
        f"{agree[configured]:.0%} of {len(samples)} recent keys lie where {configured} puts them, {agree[other]:.0%} where {other} would"
    )
    if agree[other] == 1.0:
        return Finding("keys", "fail", found, f"set ASSAY_PARTITIONER={other}, or let producers use {configured}")
    return Finding("keys", "fail", found, "let every producer key by shopper and use one partitioner; see README, integrating a storefront")


def _sample(settings: Settings) -> tuple[list[tuple[bytes, int]], int]:
    topic = settings.topic(EVENTS.name)
    config = settings.client_config() | {"group.id": f"{settings.app_id}-doctor", "enable.auto.commit": False, "log_level": 0}
    reader = Consumer(config)
    try:
        starts, wanted = [], 0
        for partition in range(settings.partitions):
            low, high = reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT_S)
            start = max(low, high - _SAMPLE)
            wanted += high - start
            starts.append(TopicPartition(topic, partition, start))
        reader.assign(starts)
        samples: list[tuple[bytes, int]] = []
        newest = seen = 0
        deadline = time.monotonic() + _TIMEOUT_S
        while seen < wanted and time.monotonic() < deadline:
            messages = reader.consume(_SAMPLE, 0.5)
            if not messages and samples:
                break  # the rest are transaction markers
            for message in messages:
                seen += 1
                if message.error() is None:
                    newest = max(newest, message.timestamp()[1])
                    if message.key():
                        samples.append((message.key(), message.partition()))
        return samples, newest
    finally:
        reader.close()


def data_dir(settings: Settings) -> Iterator[Finding]:
    """The data dir can be locked and written, and its disk has room."""
    path = settings.data_dir
    existed = path.exists()
    try:
        with DataDir(path):
            probe = path / ".doctor"
            probe.write_bytes(b"\0" * 4096)
            probe.unlink()
        yield Finding("data dir", "ok", f"{path} is free and writable")
    except DataDirTaken as error:
        yield Finding(
            "data dir", "warn" if "in use" in str(error) else "fail", str(error), "give this worker another folder with --data-dir"
        )
    except OSError as error:
        yield Finding("data dir", "fail", f"{path}: {error.strerror}", "choose another folder with --data-dir, or mend its rights")
    if not existed and path.is_dir():
        shutil.rmtree(path)
    parent = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(parent).free
    verdict: Verdict = "fail" if free < _DISK_FAIL else "warn" if free < _DISK_WARN else "ok"
    mend = "" if verdict == "ok" else "free some space, or put --data-dir on a larger disk"
    yield Finding("disk", verdict, f"{free / _GIB:.1f} GiB free at {parent}", mend)


def limits(settings: Settings) -> Iterator[Finding]:
    """Open files and memory for the stores of all partitions, were this the only worker."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    stores = settings.partitions * len(TASKS)
    wanted = stores * _FILES_PER_PARTITION + _FILES_BESIDE
    enough = soft == resource.RLIM_INFINITY or soft >= wanted
    mend = (
        ""
        if enough
        else f"`ulimit -n {wanted}` before the worker starts (LimitNOFILE= in systemd, ulimits: in compose); the hard limit is {hard}"
    )
    yield Finding("open files", "ok" if enough else "warn", f"limit {soft}, a worker with all {stores} stores may want {wanted}", mend)
    need = stores * (settings.rocksdb_cache_mb + 2 * settings.rocksdb_memtable_mb) / 1024
    free = psutil.virtual_memory().available / _GIB
    fits = need < 0.5 * free
    mend = "" if fits else "run more workers, or lower --rocksdb-cache-mb and --rocksdb-memtable-mb"
    yield Finding("memory", "ok" if fits else "warn", f"{free:.1f} GiB available, stores are bounded to {need:.1f} GiB in all", mend)


def api_port(settings: Settings) -> Iterator[Finding]:
    """Nothing else listens on the port of the read API."""
    if settings.port == 0:
        yield Finding("API port", "ok", "any free port")
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            mend = "choose another with --port, unless it is `assay serve` itself"
            yield Finding("API port", "warn", f"{settings.host}:{settings.port}: {os.strerror(error.errno or 0)}", mend)
            return
    yield Finding("API port", "ok", f"{settings.host}:{settings.port} is free")


def business_rules(settings: Settings) -> Iterator[Finding]:
    """The file of business rules is one that a worker takes."""
    path = settings.business_rules
    if path is None:
        return
    try:
        rules = load_rules(path)
    except RulesError as error:
        yield Finding("business rules", "fail", f"{path}: {error}", f"`assay rules check {path}` lists all that is wrong")
    else:
        yield Finding("business rules", "ok", f"{path}: {rules.count} rules, digest {rules.digest}")


def run(check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> Iterator[Finding]:
    """The findings of ``check``; what it did not foresee is a finding too, because a doctor who dies helps nobody."""
    try:
        yield from check(settings)
    except Exception as error:
        yield Finding(
            check.__name__.replace("_", " "),
            "fail",
            f"{type(error).__name__}: {error}",
            "report this with the output of `assay doctor --json`",
        )


def verdict(findings: list[Finding]) -> Verdict:
    """The worst of all."""
    found: set[Any] = {finding.verdict for finding in findings}
    return "fail" if "fail" in found else "warn" if "warn" in found else "ok"
