"""Topics that no worker may run on: said at the start, with the command that mends them."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from schemas.topics import EVENTS
from streams.runtime.names import changelog_topic
from tests.end_to_end.deployment import Deployment
from tests.faults.fleet import Worker

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


def test_partition_counts_that_do_not_match_are_refused_with_the_commands_that_mend_them(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    settings = Deployment(kafka, topic_prefix, tmp_path).settings
    admin = AdminClient(settings.client_config())
    where = ["--bootstrap-servers", kafka, "--topic-prefix", topic_prefix, "--app-id", settings.app_id]
    worker = Worker("w", tmp_path, ["worker", "--roles", "recommend", *where], "streams.cli")

    def refusal(topic: str, partitions: int) -> str:
        for future in admin.create_partitions([NewPartitions(topic, partitions)]).values():
            future.result(30)
        worker.start()
        assert worker.process.wait(120) == 6, worker.said[-2000:]
        assert not (worker.data_dir / "recommend").exists()
        return worker.said

    changelog = changelog_topic(settings, "recommend")
    said = refusal(changelog, 5)
    assert f"{changelog}: partitions is 5, should be 4" in said
    assert f"assay topics reset {changelog}" in said
    events = settings.topic(EVENTS.name)
    said = refusal(events, 6)
    assert f"{events}: partitions is 6, should be 4" in said
    assert "--partitions 6" in said
    # What the storefront writes is never to be deleted.
    assert f"assay topics reset {events}" not in said
