"""What producers do to a shop: every bad habit alone and all at once, judged record by record on the real roles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from schemas.topics import DEAD_LETTERS
from tests.end_to_end.test_online_retail import poison
from tests.faults.habits import EVERYTHING, Arrival, Habits
from tests.faults.schedule import TAKEOVERS, Schedule, feed, generated, kill, start, until
from tests.faults.storefront import Storefront, run_storefront

#: Of each 21 bad records that name a shopper: how many are refused with which code.
REFUSED = {
    "json_invalid": 1, "encoding_invalid": 1, "object_expected": 1, "value_missing": 1, "value_too_large": 1, "type_unknown": 1,
    "version_unsupported": 1, "quantity_invalid": 1, "field_invalid": 2, "price_invalid": 2, "amount_invalid": 2, "field_missing": 1,
    "time_out_of_range": 2, "time_in_future": 1, "sku_unknown": 1, "shopper_missing": 1, "key_mismatch": 1,
}  # fmt: skip

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.fixture
def make(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Callable[..., Storefront]]:
    made: list[Storefront] = []

    def storefront(**options: object) -> Storefront:
        made.append(Storefront(kafka, topic_prefix, tmp_path, **options))  # type: ignore[arg-type]
        return made[-1]

    yield storefront
    for storefront_ in made:
        storefront_.end()


def test_every_bad_habit_at_once_over_a_kill(make: Callable[..., Storefront], tmp_path: Path) -> None:
    storefront = make(habits=EVERYTHING)
    steps = (start(0), feed(1_500), until("progress", 800), kill(0), start(0), feed(500), until("complete"))
    verdict = run_storefront(Schedule(21, 1, steps, name="every bad habit"), storefront, tmp_path)
    print(verdict)
    assert verdict.clean
    # The file says whose events these were, so that it runs again as it ran here.
    assert Schedule.load(tmp_path / "schedule.json").shop == storefront.shop
    assert Schedule.load(tmp_path / "schedule.json").job == "storefront"
    assert verdict.dead_lettered > 20
    assert len(storefront.oracle.duplicates) > 1_000


def test_a_burst_of_nothing_but_poison_blocks_nobody(make: Callable[..., Storefront], tmp_path: Path) -> None:
    storefront = make(roles="recommend")
    worker = storefront.workers[0]
    worker.start()
    storefront.feed(200)
    storefront.send(Arrival(key, value) for key, value in poison(10, storefront.sku))
    storefront.feed(200)
    storefront.until(lambda: storefront.complete, "good and bad are all answered")
    verdict = storefront.judge("burst of poison")
    print(verdict)
    assert verdict.clean
    assert verdict.dead_lettered == len(poison(10))
    # It takes its place in the micro-batches of the good ones, not in transactions of its own, each of which would wait for the broker. One
    # leaves a mark in each partition that it writes to, which takes an offset.
    places = sorted((message.partition(), message.offset()) for message in storefront.deployment.read(DEAD_LETTERS.name))
    batches = 1 + sum(after != (before[0], before[1] + 1) for before, after in pairwise(places))
    print(f"{len(places)} records refused in {batches} micro-batches")
    assert batches < len(places) / 5
    # By the worker's own word, not by the oracle's, which shares its decoder.
    letters = Counter(orjson.loads(message.value())["code"] for message in storefront.deployment.read(DEAD_LETTERS.name))
    assert letters == {code: 10 * times for code, times in REFUSED.items()} | {"key_missing": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    "habits",
    [
        pytest.param(Habits(poison_share=0.01), id="1 % poison"),
        pytest.param(Habits(copies=3), id="sent 1-3 times"),
        pytest.param(Habits(shuffle_s=300, late_share=0.01), id="shuffled, 1 % a day late"),
        pytest.param(Habits(clocks_s=(3_600, -86_400)), id="clocks +1 h, -1 day"),
        pytest.param(Habits(versions=("1.0", "1.7", "1.12")), id="old and new versions"),
    ],
)
def test_one_bad_habit_of_two_workers_producers_over_two_kills(
    make: Callable[..., Storefront], tmp_path: Path, habits: Habits, request: pytest.FixtureRequest
) -> None:
    storefront = make(workers=2, habits=habits)
    steps = [start(0), start(1), feed(1_000), until("progress", 500)]
    for victim in (0, 1):
        steps += [feed(1_000), until("progress", 200, load=50), kill(victim), until("progress", 300, load=50), start(victim)]
    steps += [feed(500), until("complete")]
    verdict = run_storefront(Schedule(22, 2, tuple(steps), name=request.node.callspec.id), storefront, tmp_path)
    print(verdict)
    assert verdict.clean


@pytest.mark.slow
def test_five_random_faults_of_two_workers_whose_producers_have_every_bad_habit(make: Callable[..., Storefront], tmp_path: Path) -> None:
    verdict = run_storefront(generated(41, faults=5, load=50, job="storefront"), make(workers=2, habits=EVERYTHING), tmp_path)
    print(verdict)
    assert verdict.clean


@pytest.mark.slow
def test_standbys_of_both_roles_take_over_whose_producers_have_every_bad_habit(make: Callable[..., Storefront], tmp_path: Path) -> None:
    schedule = generated(42, faults=4, kinds=TAKEOVERS, load=50, job="storefront", standby=True)
    verdict = run_storefront(schedule, make(workers=2, habits=EVERYTHING, standby=True), tmp_path)
    print(verdict)
    assert verdict.clean
