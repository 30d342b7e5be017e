import json
import time

import pytest

from schemas.topics import TOPICS
from streams.broker import EmbeddedBroker
from streams.cli import checks
from streams.runtime.datadir import DataDir
from streams.runtime.partitioner import crc32_partition, murmur2_partition
from streams.settings import Settings

KEYS = [f"user-{number}".encode() for number in range(300)]


def diagnose(assay, *arguments):
    result = assay("doctor", "--json", "--skip-models", "--port", "0", *arguments)
    report = json.loads(result.stdout)
    return result.exit_code, report["verdict"], {finding["check"]: finding for finding in report["findings"]}


def test_a_healthy_deployment_passes(assay, send):
    with EmbeddedBroker(topic.name for topic in TOPICS) as broker:
        send(broker.bootstrap_servers, "storefront.events", [(key, b"{}") for key in KEYS])
        code, _, found = diagnose(assay, "--bootstrap-servers", broker.bootstrap_servers)
    assert code == 0, found
    assert {name: found[name]["verdict"] for name in ("broker", "topics", "keys", "clock", "data dir")} == dict.fromkeys(
        ("broker", "topics", "keys", "clock", "data dir"), "ok"
    )


def test_an_unreachable_broker_fails_with_the_command_that_starts_one(assay):
    code, verdict, found = diagnose(assay, "--bootstrap-servers", "127.0.0.1:1")
    assert (code, verdict) == (1, "fail")
    assert "assay broker" in found["broker"]["mend"]


def test_topics_with_another_partition_count_fail(assay, broker):
    code, _, found = diagnose(assay, "--bootstrap-servers", broker, "--partitions", "8")
    assert code == 1
    assert found["topics"]["verdict"] == "fail"
    assert "should be 8" in found["topics"]["found"]


@pytest.mark.parametrize(
    ("place", "configured", "verdict", "mend"),
    [
        (murmur2_partition, "murmur2", "ok", ""),
        (crc32_partition, "crc32", "ok", ""),
        (crc32_partition, "murmur2", "fail", "ASSAY_PARTITIONER=crc32"),
        (murmur2_partition, "crc32", "fail", "ASSAY_PARTITIONER=murmur2"),
        (lambda key, partitions: 0, "murmur2", "fail", "one partitioner"),
    ],
)
def test_keys_that_lie_elsewhere_than_the_configured_partitioner_puts_them_are_found(place, configured, verdict, mend):
    found = checks.keys([(key, place(key, 4)) for key in KEYS], Settings(partitioner=configured))
    assert found.verdict == verdict
    assert mend in found.mend


def test_a_data_dir_in_use_is_told_apart_from_one_that_cannot_be_written(tmp_path):
    with DataDir(tmp_path / "busy"):
        taken = next(checks.data_dir(Settings(data_dir=tmp_path / "busy")))
    (tmp_path / "file").write_text("")
    unwritable = next(checks.data_dir(Settings(data_dir=tmp_path / "file")))
    assert (taken.verdict, unwritable.verdict) == ("warn", "fail")
    assert "in use" in taken.found


def test_looking_leaves_no_data_dir_behind(tmp_path):
    verdicts = [found.verdict for found in checks.data_dir(Settings(data_dir=tmp_path / "new"))]
    assert verdicts[0] == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_fails_and_a_small_one_warns(tmp_path, monkeypatch):
    for free, verdict in ((2**20, "fail"), (2**30, "warn"), (2**34, "ok")):
        monkeypatch.setattr(checks.shutil, "disk_usage", lambda _path, free=free: type("Usage", (), {"free": free}))
        assert list(checks.data_dir(Settings(data_dir=tmp_path)))[-1].verdict == verdict


def test_too_few_open_files_for_the_stores_is_a_warning_with_the_ulimit(monkeypatch):
    monkeypatch.setattr(checks.resource, "getrlimit", lambda _which: (1024, 4096))
    found = next(checks.limits(Settings(partitions=32)))
    assert found.verdict == "warn"
    assert "ulimit -n" in found.mend


def test_a_check_that_breaks_is_a_finding_not_a_crash():
    def explode(_settings):
        raise ZeroDivisionError("half a check")
        yield

    (found,) = checks.run(explode, Settings())
    assert (found.verdict, found.check) == ("fail", "explode")
    assert "half a check" in found.found


def test_events_from_the_future_are_a_clock_warning(send, monkeypatch):
    with EmbeddedBroker(topic.name for topic in TOPICS) as broker:
        send(broker.bootstrap_servers, "storefront.events", [(b"ann", b"{}")])
        now = time.time()
        monkeypatch.setattr(checks.time, "time", lambda: now - 3600)
        found = {finding.check: finding for finding in checks.broker(Settings(bootstrap_servers=broker.bootstrap_servers))}
    assert found["clock"].verdict == "warn"


def test_the_packaged_encoder_and_every_cpu_index_pass():
    from streams.cli import model_checks

    assert next(model_checks.encoder(Settings(device="cpu"))).verdict == "ok"
    for kind in ("auto", "flat", "hnsw", "ivf"):
        assert next(model_checks.index(Settings(index=kind, device="cpu"))).verdict == "ok"


def test_an_encoder_folder_that_is_not_there_fails_with_what_to_set(tmp_path):
    from streams.cli import model_checks

    found = next(model_checks.encoder(Settings(encoder=str(tmp_path / "missing"))))
    assert found.verdict == "fail"
    assert "--encoder" in found.mend
