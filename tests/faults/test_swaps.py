"""What workers take up while they run is swapped under load, and some die meanwhile: every list is by one version, and says which."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from schemas.topics import RECOMMENDATIONS
from tests.faults.habits import EVERYTHING
from tests.faults.schedule import Schedule, Step, Swappable, feed, generated, kill, start, swap, until
from tests.faults.storefront import Storefront, run_storefront

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]


@pytest.fixture
def make(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Callable[..., Storefront]]:
    made: list[Storefront] = []

    def storefront(**options: object) -> Storefront:
        made.append(Storefront(kafka, topic_prefix, tmp_path, workers=2, **options))  # type: ignore[arg-type]
        return made[-1]

    yield storefront
    for storefront_ in made:
        storefront_.end()


def named(storefront: Storefront) -> dict[str, Counter[str]]:
    """By kind, how many lists of visits name which version."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for message in storefront.deployment.read(RECOMMENDATIONS.name):
        record = orjson.loads(message.value()) if message.value() is not None else {"occasion": "gone"}
        if "occasion" not in record:
            versions = record["versions"]
            model, _, sequence = versions["model"].partition("+")
            for kind, name in {"ranker": model, "sequence": sequence, "rules": versions["rules"], "weights": versions["weights"]}.items():
                found[kind][name] += 1
    return found


def test_ranker_rules_and_weights_are_swapped_while_events_flow_and_workers_die(make: Callable[..., Storefront], tmp_path: Path) -> None:
    swaps: tuple[Swappable, ...] = ("ranker", "rules", "weights")
    storefront = make(roles="recommend", swaps=swaps)
    steps: list[Step] = [start(0), start(1), until("ready", worker=0), until("ready", worker=1), feed(300), until("complete")]
    for victim in (0, 1):
        # For those that live; for one that is dead; and for one that just starts, which may find the files in the midst of it.
        steps += [*map(swap, swaps), until("progress", 300, load=50), kill(victim), *map(swap, swaps), start(victim), *map(swap, swaps)]
        steps += [until("ready", worker=victim, load=50), until("progress", 200, load=50)]
    steps += [feed(300), until("complete")]
    schedule = Schedule(61, 2, tuple(steps), job="storefront", name="versions swapped under kills")
    verdict = run_storefront(schedule, storefront, tmp_path)
    found = named(storefront)
    print(verdict, {kind: dict(found[kind]) for kind in swaps})
    assert verdict.clean
    assert {kind: set(found[kind]) for kind in swaps} == storefront.versions.known()


@pytest.mark.slow
def test_a_sequence_model_rules_and_weights_are_swapped_in_random_faults(make: Callable[..., Storefront], tmp_path: Path) -> None:
    swaps: tuple[Swappable, ...] = ("sequence", "rules", "weights")
    storefront = make(habits=EVERYTHING, swaps=swaps)
    schedule = generated(62, faults=6, kinds=("swap", "swap", "kill", "wipe"), load=50, job="storefront", swaps=swaps)
    verdict = run_storefront(schedule, storefront, tmp_path)
    found = named(storefront)
    print(verdict, {kind: dict(found[kind]) for kind in swaps})
    assert verdict.clean
    swapped = {step.detail for step in schedule.steps if step.do == "swap"}
    assert {kind: set(found[kind]) for kind in swapped} == {kind: storefront.versions.known()[kind] for kind in swapped}
