"""A simulated shop on the real roles: a seeded feed with bad habits, worker processes, and the end-to-end oracle as its judge."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import orjson
from confluent_kafka import Message, Producer

from models.attribution import Windows
from models.profiles.history import SESSION_GAP_MS
from models.simulation.storefront import Storefront as SimulatedShop
from models.simulation.storefront import StorefrontOptions
from schemas.internal import Exposure, Outcome
from schemas.topics import DEAD_LETTERS, EVENTS, OUTCOMES, RECOMMENDATIONS, VALUATION
from schemas.valuation import RollingValuation
from streams.agents.shoppers import LIST_PREFIX, PROFILE_PREFIX
from streams.broker import RealKafka
from streams.broker.node import free_port
from streams.reading import TopicReader
from streams.runtime.marker import RESERVED
from streams.runtime.store import Store
from tests.agents.test_value import check_against_oracle
from tests.agents.valuation_oracle import Logged, assets_of
from tests.end_to_end import list_content, plain_profiles
from tests.end_to_end.deployment import Deployment
from tests.end_to_end.oracle import Oracle, compare
from tests.faults.execution import Execution, keep
from tests.faults.fleet import Worker, last_words
from tests.faults.habits import Arrival, Habits
from tests.faults.schedule import Schedule, Shop
from tests.faults.verdict import Verdict
from tests.faults.versions import Versions

#: On sale: as many as the valuation oracle believes the catalogue to hold. Of those that are sold out shoppers speak as well.
PRODUCTS = 100
_SOLD_OUT_EVERY = 11
#: What is compared of the rolling records: a window that stays and one that moves on, of assets that have many rows.
_DIMENSIONS = ("overall", "channel", "event_type")
_WINDOWS = ("total", "1h")
_SETTLE_S = 60.0
#: So short that windows of what was shown end while a run goes on.
_VIEW_WINDOW_S = 600
_RESOLUTION = b'"kind":"resolution"'
#: Of many faults of one kind, so many are printed.
_TOLD = 20
#: Of so many lists, the newest of a run, is told how many rest on what others did: an index that came back empty would show here.
_NEWEST_LISTS = 200


class Storefront:
    """Topics of its own, ``workers`` of ``roles``, and shoppers who send what ``habits`` make of it."""

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        folder: Path,
        workers: int = 1,
        *,
        roles: str = "recommend,value",
        seed: int = 7,
        habits: Habits | None = None,
        users: int = 150,
        session_gap_s: float = SESSION_GAP_MS / 1000,
        standby: bool = False,
        swaps: Sequence[str] = (),
    ) -> None:
        self.deployment = Deployment(bootstrap, prefix, folder)
        # A worker in this process must be told what those of their own are told by flags.
        told = {"session_gap_s": session_gap_s, "view_window_s": float(_VIEW_WINDOW_S)}
        self.settings = settings = self.deployment.settings.model_copy(update=told)
        self.roles = roles.split(",")
        self.standby = standby
        self._gap_ms = int(1000 * session_gap_s)
        self.habits = habits or Habits()
        self.shop = Shop(seed, roles, users, session_gap_s, self.habits, tuple(swaps))
        # The oracle knows nothing of logins. Visits are far apart, so that hours of event time go by in a few thousand events.
        options = StorefrontOptions(
            products=PRODUCTS * _SOLD_OUT_EVERY // (_SOLD_OUT_EVERY - 1),
            users=users,
            login_share=0.0,
            fault_share=0.0,
            visit_interval_s=20.0,
            start=datetime(2025, 1, 6, tzinfo=UTC),
        )
        shop = SimulatedShop(seed, options)
        made = enumerate(shop.catalogue.products)
        stocked = [product.model_copy(update={"stock": 100 * (number % _SOLD_OUT_EVERY != 5)}) for number, product in made]
        self._stocked = stocked
        on_sale = [product.sku for product in stocked if product.stock]
        self.versions = Versions(folder / "versions", swaps, on_sale)
        self.swap = self.versions.swap
        self._shelf = self.versions.shelf(frozenset(on_sale), frozenset(product.sku for product in stocked if not product.stock))
        self.products = [(product.sku.encode(), product.to_json()) for product in stocked]
        self.deployment.publish_catalogue(self.products)
        self._records = shop.records()
        self._chance = random.Random(seed)
        arguments = [
            "worker", "--roles", roles, "--bootstrap-servers", bootstrap, "--topic-prefix", settings.topic_prefix,
            "--app-id", settings.app_id, "--session-gap-s", str(session_gap_s), "--view-window-s", str(_VIEW_WINDOW_S),
            *["--standby"] * standby, *self.versions.flags,
        ]  # fmt: skip
        self.workers = [Worker(f"w{number}", folder, arguments, "streams.cli", free_port()) for number in range(workers)]
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "message.max.bytes": 8_000_000,
                "linger.ms": 5,
                "log_level": 2,
            }
        )
        self._reader = TopicReader(settings, [settings.topic(OUTCOMES.name), settings.topic(DEAD_LETTERS.name)])
        self.sent = self.max_lag = self._owed = 0
        self.newest = dict.fromkeys(range(settings.partitions), -1)
        self._number: dict[str, int] = {}
        self._answered: set[tuple[int, int]] = set()
        self._oracle: Oracle | None = None

    @property
    def sku(self) -> str:
        """One of its products."""
        return self.products[0][0].decode()

    # -- Feed ---------------------------------------------------------------------------------------------------------

    def feed(self, count: int, *, flush: bool = True) -> None:
        """Send ``count`` events and what bad habits add to them; wait until the broker has all."""
        self.send(self.habits.arrivals(self._records, count, self._chance, self.sku), flush=flush)

    def send(self, arrivals: Iterable[Arrival], *, flush: bool = True) -> None:
        """Send these."""
        topic = self.settings.topic(EVENTS.name)
        for arrival in arrivals:
            self._producer.produce(topic, arrival.value, arrival.key)
            self._producer.poll(0)
            if arrival.event_id:
                self._number.setdefault(arrival.event_id, self.sent)
            self.sent += 1
            self._owed += not arrival.again
        if flush:
            assert self._producer.flush(120) == 0

    # -- Watch --------------------------------------------------------------------------------------------------------

    @property
    def lag(self) -> int:
        """Records that were neither applied nor refused yet, copies aside."""
        return self._owed - len(self._answered)

    @property
    def complete(self) -> bool:
        return self.lag <= 0

    def read(self, wait_s: float = 0.1) -> None:
        """Take outcomes and dead letters."""
        for message in self._reader.poll(wait_s):
            document = orjson.loads(message.value())
            if message.topic() == self.settings.topic(DEAD_LETTERS.name):
                self._answered.add((document["partition"], document["offset"]))
            elif document["kind"] == "outcome":
                partition = document["origin"]["partition"]
                self._answered.add((partition, document["origin"]["offset"]))
                self.newest[partition] = max(self.newest[partition], self._number[document["event_id"]])
        self.max_lag = max(self.max_lag, self.lag)

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 120.0, *, feed: int = 0) -> None:
        """Read (and feed) until ``condition`` holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s:.0f} s: {what} (lag {self.lag} of {self.sent})\n{last_words(self.workers)}")
            if feed and self.lag < 4 * feed:
                self.feed(feed)
            self.read()

    # -- Judge --------------------------------------------------------------------------------------------------------

    @property
    def oracle(self) -> Oracle:
        """What must have come of the events, once ``judge`` has read them."""
        assert self._oracle is not None
        return self._oracle

    def judge(self, name: str, stop: Callable[[], None] | None = None) -> Verdict:
        """Wait until the books are settled, stop all (by ``stop``), and hold every topic and every disk against the oracle.

        Every worker opens all partitions alone on its disk as it is left; the first one's is then wiped, and rebuilt from the changelog.
        """
        wrong = self._valuation_differences() if "value" in self.roles else 0
        (stop or self.stop)()
        deployment = self.deployment
        self._oracle = oracle = Oracle.of(deployment.read(EVENTS.name), [key.decode() for key, _ in self.products], self._gap_ms)
        lists, letters = deployment.read(RECOMMENDATIONS.name), deployment.read(DEAD_LETTERS.name)
        outcomes = deployment.read(OUTCOMES.name)
        state = [deployment.state("recommend", prefix) for prefix in (PROFILE_PREFIX, LIST_PREFIX)]
        found = compare(oracle, lists, letters, outcomes, *state, Windows(view_s=_VIEW_WINDOW_S), self._stocked)
        if found.resolutions:
            print("lists shown that were told otherwise:", *found.resolutions, sep="\n")
        misread, odd = self._by_other_means(lists, letters, state[0])
        newest = self._newest_sources(lists)
        forgetful = newest["lists"] == _NEWEST_LISTS and not all(newest.values())
        differences = sum(self._differences(worker, wipe=False) for worker in self.workers) + self._differences(self.workers[0], wipe=True)
        # What was put out while disks were opened and rebuilt was put out before; but for lists shown, whose windows may end then too.
        before = len(lists) + len(letters) + _without_resolutions(outcomes)
        after = deployment.read(OUTCOMES.name)
        again = len(deployment.read(RECOMMENDATIONS.name)) + len(deployment.read(DEAD_LETTERS.name)) + _without_resolutions(after) - before
        told = Counter(orjson.loads(m.value())["resolution_id"] for m in after if _RESOLUTION in m.value())
        again += sum(told.values()) - len(told)
        return Verdict(
            name,
            self.sent,
            len(found.missing),
            len(found.duplicated) + again,
            _reordered(lists),
            len(letters),
            len(found.dead_letters) + len(found.ranks) + len(found.resolutions) + odd + wrong + forgetful,
            len(found.state) + misread + differences,
            self.max_lag,
            notes={
                "applied": len(oracle.applied),
                "resent": len(oracle.duplicates),
                "told": found.told,
                "newest": ",".join(f"{name}:{count}" for name, count in newest.items()),
            },
        )

    def _newest_sources(self, lists: Iterable[Message]) -> dict[str, int]:
        """The newest lists of visits, and how many of them have items of what others did, by source: what topics bring a worker back."""
        records = [orjson.loads(message.value()) for message in lists if message.value() is not None]
        visits = sorted((record for record in records if "occasion" not in record), key=lambda record: str(record["generated_at"]))
        newest = visits[-_NEWEST_LISTS:]
        made = Counter(
            source for record in newest for source in {reason["source"] for item in record["items"] for reason in item["reasons"]}
        )
        return {"lists": len(newest), **{source: made[source] for source in ("together", "sessions")}}

    def _by_other_means(
        self, lists: list[Message], letters: list[Message], profiles: Mapping[plain_profiles.Key, bytes]
    ) -> tuple[int, int]:
        """How many fields of profiles, and how many things in lists, are not as the oracles say that share no code with the product."""
        places = [(letter["topic"], (letter["partition"], letter["offset"])) for letter in (orjson.loads(m.value()) for m in letters)]
        topic = self.settings.topic(EVENTS.name)
        events = plain_profiles.events_of(self.deployment.read(EVENTS.name), {place for name, place in places if name == topic})
        misread = plain_profiles.differences(events, profiles, self._gap_ms)
        made = [message.value() for message in lists if message.value() is not None]
        odd = list_content.faults(made, events, self._shelf, self._gap_ms)
        for what, found in (("profiles that are misread", misread), ("lists that may not be", odd)):
            if found:
                print(f"{len(found)} {what}:", *found[:_TOLD], sep="\n")
        return len(misread), len(odd)

    def _valuation_differences(self) -> int:
        """Rolling records that are not what the outcomes add up to, once no more of them come right."""
        read = [m for m in self.deployment.read(OUTCOMES.name) if _RESOLUTION not in m.value()]
        log = [Logged(m.partition(), m.offset(), _outcome(m.value())) for m in read]
        assets = {
            pair for entry in log if isinstance(entry.message, Outcome) for pair in assets_of(entry.message) if pair[0] in _DIMENSIONS
        }
        before: list[str] = []
        while wrong := self._unsettled(log, assets):
            if wrong != before:  # it gets on, however slow the machine is
                before, deadline = wrong, time.monotonic() + _SETTLE_S
            if time.monotonic() > deadline:
                print("rolling records that differ:", *wrong, sep="\n")
                break
        return len(wrong)

    def _unsettled(self, log: list[Logged], assets: set[tuple[str, str]]) -> list[str]:
        newest = {message.key().decode(): message.value() for message in self.deployment.read(VALUATION.name)}
        wrong = []
        for dimension, asset in sorted(assets):
            for window in _WINDOWS:
                key = f"{dimension}|{asset}|{window}"
                value = newest.get(key)
                try:
                    assert value is not None
                    check_against_oracle(RollingValuation.model_validate_json(value), log, dimension, asset, window)
                except AssertionError as difference:
                    wrong.append(f"{key}: {str(difference)[:200]}")
        return wrong

    def _differences(self, worker: Worker, *, wipe: bool) -> int:
        if wipe:
            worker.wipe()
        worker.start()
        self.until(lambda: worker.ready or not worker.alive, f"{worker.name} has opened every partition")
        assert worker.stop() == 0, worker.said[-3000:]
        found = _differing(self._on_disk(worker, "recommend", PROFILE_PREFIX), self.oracle.state())
        if "value" in self.roles:
            # What its books hold is judged by its records, and they by the oracle: its disk is what its changelog says.
            logged = {place: value for place, value in self.deployment.state("value", b"").items() if not place[1].startswith(RESERVED)}
            found += _differing(self._on_disk(worker, "value", b""), logged)
        return found

    def _on_disk(self, worker: Worker, task: str, prefix: bytes) -> dict[tuple[int, bytes], bytes]:
        held: dict[tuple[int, bytes], bytes] = {}
        for partition in range(self.settings.partitions):
            store = Store(worker.data_dir / task / str(partition))
            held |= {(partition, key): value for key, value in store.scan(prefix)}
            store.close()
        return held

    # -- End ----------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """SIGTERM to all that live."""
        for worker in self.workers:
            if worker.alive:
                assert worker.stop() == 0, worker.said[-3000:]

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
        self._reader.close()


def run_storefront(
    schedule: Schedule,
    storefront: Storefront,
    folder: Path,
    cluster: RealKafka | None = None,
    conditions: Mapping[str, Callable[[], bool]] = MappingProxyType({}),
) -> Verdict:
    """The real roles under ``schedule``, which is written to ``folder`` first; ``conditions`` are those of a test's own that it awaits."""
    schedule = replace(schedule, job="storefront", shop=storefront.shop, standby=storefront.standby)
    keep(schedule, folder)
    try:
        execution = Execution(storefront, schedule, cluster, storefront.swap, conditions=conditions)
        execution.run()
        return execution.annotated(storefront.judge(schedule.name, execution.stop))
    finally:
        storefront.end()


def _differing(held: Mapping[tuple[int, bytes], bytes], expected: Mapping[tuple[int, bytes], bytes]) -> int:
    return sum(held.get(place) != expected.get(place) for place in held.keys() | expected.keys())


def _outcome(value: bytes) -> Outcome | Exposure:
    kind = Outcome if b'"kind":"outcome"' in value else Exposure
    return kind.model_validate_json(value)


def _without_resolutions(outcomes: Iterable[Message]) -> int:
    return sum(_RESOLUTION not in message.value() for message in outcomes)


def _reordered(lists: list[Message]) -> int:
    newest: Counter[tuple[int, bytes]] = Counter()
    count = 0
    for message in lists:
        if message.value() is None:
            continue
        place, offset = (message.partition(), message.key()), orjson.loads(message.value())["caused_by"]["last_offset"]
        count += offset < newest[place]
        newest[place] = max(newest[place], offset)
    return count
