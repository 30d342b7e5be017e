"""Lists for the next visit are made by the clock, not by a record: kills in the midst of them lose and double none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from schemas.topics import EVENTS, RECOMMENDATIONS
from streams.reading import TopicReader
from tests.end_to_end.oracle import Oracle
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


class NextVisits:
    """Follows the lists: which of them are for a next visit, and what each shopper was sent last."""

    def __init__(self, storefront: Storefront) -> None:
        self._storefront = storefront
        self._reader = TopicReader(storefront.settings, [storefront.settings.topic(RECOMMENDATIONS.name)])
        self._newest: dict[str, bool] = {}
        self._made = 0
        self._before: int | None = None

    def _read(self) -> None:
        for message in self._reader.poll(0.0):
            if message.value() is not None:
                for_next = orjson.loads(message.value()).get("occasion") == "next_visit"
                self._newest[message.key().decode()] = for_next
                self._made += for_next

    def one_more(self) -> bool:
        """Whether one was made since this was first asked."""
        self._read()
        if self._before is None:
            self._before = self._made
        if self._made == self._before:
            return False
        self._before = None
        return True

    def all_left(self) -> bool:
        """Whether it is what everybody was sent last who has bought something and kept it."""
        self._read()
        products = [key.decode() for key, _ in self._storefront.products]
        oracle = Oracle.of(self._storefront.deployment.read(EVENTS.name), products, int(1000 * GAP_S))
        bought = {place for place, profile in oracle.profiles.items() if profile.bought_skus}
        shoppers = {shopper.topic_key.decode() for place, shopper in oracle.shoppers.items() if (place[0], shopper.profile_key) in bought}
        return len(shoppers) > 10 and all(self._newest.get(name) for name in shoppers)

    def close(self) -> None:
        self._reader.close()


def test_visits_that_end_under_kills_are_followed_by_one_list_each(storefront: Storefront, tmp_path: Path) -> None:
    steps: list[Step] = [start(0), start(1), until("ready", worker=0), until("ready", worker=1)]
    one_more, all_left = Step("await", detail="one more"), Step("await", detail="all left")
    for victim in (0, 1, 0, 1):
        # Two seconds without events end the visits of those who came; the kill comes when the first of their lists is there.
        steps += [feed(150), until("complete"), one_more, kill(victim), start(victim), feed(50), until("complete")]
    # Nobody who ever bought is left without: not those either whose worker died between their visit and its end.
    steps += [kill(0), Step("wipe", 0), start(0), feed(100), until("complete"), all_left]
    visits = NextVisits(storefront)
    schedule = Schedule(51, 2, tuple(steps), job="storefront", name="visits that end under kills")
    conditions = {"one more": visits.one_more, "all left": visits.all_left}
    verdict = run_storefront(schedule, storefront, tmp_path, conditions=conditions)
    visits.close()
    print(verdict)
    assert verdict.clean
    records = [orjson.loads(m.value()) for m in storefront.deployment.read(RECOMMENDATIONS.name) if m.value() is not None]
    made = Counter(record["recommendation_id"] for record in records if record.get("occasion") == "next_visit")
    print(f"{len(made)} lists for the next visit among {len(records)}")
    assert len(made) > 10
    assert set(made.values()) == {1}
