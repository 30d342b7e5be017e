"""Lists for the next visit are made by the clock, not by a record: kills in the midst of them lose and double none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from schemas.topics import RECOMMENDATIONS
from tests.faults.schedule import Schedule, Step, feed, kill, start, until
from tests.faults.storefront import Storefront, run_storefront

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(600)]

#: Of the broker's time: visits end while the workers are killed.
GAP_S = 2.0


@pytest.fixture
def storefront(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Storefront]:
    made = Storefront(kafka, topic_prefix, tmp_path, workers=2, session_gap_s=GAP_S)
    yield made
    made.end()


def test_visits_that_end_under_kills_are_followed_by_one_list_each(storefront: Storefront, tmp_path: Path) -> None:
    steps: list[Step] = [start(0), start(1), until("ready", worker=0), until("ready", worker=1)]
    for victim in (0, 1, 0, 1):
        # Two seconds without events end the visits of those who came; the kill comes while their lists are made.
        steps += [feed(150), until("complete"), until("seconds", 3), kill(victim), start(victim), feed(50), until("complete")]
    steps += [kill(0), Step("wipe", 0), start(0), feed(100), until("complete"), until("seconds", 6)]
    verdict = run_storefront(Schedule(51, 2, tuple(steps), job="storefront", name="visits that end under kills"), storefront, tmp_path)
    print(verdict)
    assert verdict.clean
    records = [orjson.loads(m.value()) for m in storefront.deployment.read(RECOMMENDATIONS.name) if m.value() is not None]
    made = Counter(record["recommendation_id"] for record in records if record.get("occasion") == "next_visit")
    print(f"{len(made)} lists for the next visit among {len(records)}")
    assert len(made) > 10
    assert set(made.values()) == {1}
    # Nobody who ever bought was left without: not those either whose worker died between their visit and its end.
    newest = {record.get("user_id") or f"session:{record['session_id']}": record for record in records}
    oracle = storefront.oracle
    buyers = {shopper for (partition, _), shopper in oracle.shoppers.items() if oracle.profiles[partition, shopper.profile_key].bought_skus}
    assert {shopper.topic_key.decode() for shopper in buyers} <= {
        name for name, record in newest.items() if record.get("occasion") == "next_visit"
    }
