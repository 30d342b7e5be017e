from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from streams.runtime import metrics
from streams.runtime.errors import BrokerUnreachable, Stuck
from streams.runtime.watchdog import Probe, Watchdog

LIMIT_S = 60.0


class FakeTask:
    name = "recommend"
    rebalance_s = 20.0

    def __init__(self) -> None:
        self.applied: dict[tuple[str, int], int] = {("t", 0): 4}
        self.standing: tuple[str, int] | None = None
        self.waits: set[int] = set()
        self.starts: list[tuple[str, int, int]] = []
        self.broadcasts: dict[tuple[str, int], int] = {}

    def positions(self) -> dict[tuple[str, int], int]:
        return dict(self.applied)

    def unread(self) -> tuple[str, int] | None:
        return self.standing

    def log_starts_at(self, topic: str, partition: int, earliest: int) -> None:
        self.starts.append((topic, partition, earliest))

    def waiting(self) -> set[int]:
        return self.waits

    def broadcast_lag(self) -> dict[tuple[str, int], int]:
        return dict(self.broadcasts)


class FakeProbe:
    def __init__(self) -> None:
        self.end = 5
        self.real: bool | None = True
        self.asked = 0
        self.down = False
        self.leaderless: set[int] = set()
        self.lose = lambda: None

    def extent(self, topic: str, partition: int) -> tuple[int, int]:
        if self.down or partition in self.leaderless:
            self.lose()
            raise BrokerUnreachable("down")
        return 0, self.end

    def holds_record(self, topic: str, partition: int, offset: int) -> bool | None:
        self.asked += 1
        return self.real


class Scene:
    def __init__(self) -> None:
        self.now = 0.0
        self.task, self.probe = FakeTask(), FakeProbe()
        self.dog = Watchdog([self.task], lambda: None, LIMIT_S, lambda _stuck: None, clock=lambda: self.now)  # type: ignore[arg-type, return-value]

    def look(self, after_s: float) -> Stuck | None:
        self.now += after_s
        return self.dog.look(self.probe)  # type: ignore[arg-type]


def test_a_partition_with_records_that_does_not_move_on_is_stuck() -> None:
    scene = Scene()
    scene.probe.end = 6
    assert scene.look(0) is None
    assert scene.look(LIMIT_S - 1) is None
    stuck = scene.look(1)
    assert stuck is not None
    assert "t/0" in str(stuck)
    assert stuck.exit_code == 5


def test_a_long_idle_partition_is_not_stuck_the_moment_a_record_arrives() -> None:
    scene = Scene()
    for _ in range(10):
        assert scene.look(LIMIT_S) is None
    scene.probe.end = 6
    assert scene.look(LIMIT_S) is None


def test_a_partition_that_is_behind_but_moves_on_is_not_stuck() -> None:
    scene = Scene()
    scene.probe.end = 1_000
    for applied in range(10):
        scene.task.applied = {("t", 0): applied}
        assert scene.look(LIMIT_S) is None


def test_a_partition_that_waits_for_a_broadcast_topic_is_not_stuck_and_another_one_is() -> None:
    scene = Scene()
    scene.probe.end = 6
    scene.task.waits = {0}
    for _ in range(5):
        assert scene.look(LIMIT_S) is None
    scene.task.waits = set()
    assert scene.look(LIMIT_S - 1) is None
    scene.task.applied[("t", 1)] = 4
    scene.task.waits = {1}
    stuck = scene.look(1)
    assert stuck is not None
    assert "t/0" in str(stuck)


def test_a_task_is_told_at_each_look_where_its_logs_begin() -> None:
    scene = Scene()
    scene.look(0)
    scene.look(1)
    assert scene.task.starts == [("t", 0, 0)] * 2


def test_one_stuck_partition_is_noticed_beside_one_that_works() -> None:
    scene = Scene()
    scene.probe.end = 1_000
    for step in range(3):
        scene.task.applied = {("t", 0): 4, ("t", 1): step}
        stuck = scene.look(LIMIT_S / 2)
    assert stuck is not None


def test_a_marker_of_a_transaction_at_the_end_is_no_work() -> None:
    scene = Scene()
    scene.probe.end, scene.probe.real = 6, False
    for _ in range(4):
        assert scene.look(LIMIT_S) is None


def lag(topic: str = "t") -> float | None:
    return metrics.REGISTRY.get_sample_value("assay_lag_records", {"task": "recommend", "topic": topic, "partition": "0"})


def test_broadcast_topics_that_lag_show_it() -> None:
    scene = Scene()
    scene.task.broadcasts = {("catalog", 0): 7}
    assert scene.look(0) is None
    assert lag("catalog") == 7


def test_the_lag_of_a_partition_that_went_to_another_worker_is_shown_no_more() -> None:
    scene = Scene()
    scene.probe.end = 5_005
    scene.look(0)
    assert lag() == 5_000
    scene.probe.down = True
    scene.look(1)
    assert lag() == 5_000
    scene.task.applied = {}
    scene.look(1)
    assert lag() is None


def test_an_idle_partition_that_ends_with_a_marker_shows_no_lag_until_a_record_follows() -> None:
    scene = Scene()
    scene.probe.end, scene.probe.real = 6, False
    scene.look(0)
    scene.look(1)
    assert lag() == 0
    asked = scene.probe.asked
    scene.look(LIMIT_S)
    assert (lag(), scene.probe.asked) == (0, asked)
    scene.probe.end, scene.probe.real = 8, True
    scene.look(1)
    assert lag() == 3
    assert scene.look(1) is None
    assert scene.look(LIMIT_S) is not None


def test_a_broker_that_does_not_tell_leaves_the_lag_as_the_offsets_have_it() -> None:
    scene = Scene()
    scene.probe.end, scene.probe.real = 6, None
    for _ in range(3):
        assert scene.look(LIMIT_S) is None
    assert lag() == 1


def test_a_broker_that_is_away_starts_all_clocks_anew() -> None:
    scene = Scene()
    scene.probe.end = 6
    scene.look(0)
    scene.probe.down = True
    assert scene.look(LIMIT_S) is None
    scene.probe.down = False
    assert scene.look(LIMIT_S) is None
    assert scene.look(LIMIT_S) is not None


def test_a_partition_without_a_leader_excuses_no_other_for_longer_than_it_was_waited_for() -> None:
    scene = Scene()
    scene.probe.end = 6
    scene.task.applied = {("t", 0): 4, ("t", 1): 4}
    scene.probe.leaderless = {1}

    def lose() -> None:
        scene.now += 10.0

    scene.probe.lose = lose
    assert scene.look(0) is None
    assert scene.look(LIMIT_S - 1) is None
    assert scene.look(0) is None
    stuck = scene.look(1)
    assert stuck is not None
    assert "t/0" in str(stuck)


def test_a_task_that_gets_nothing_to_read_is_stuck_unless_it_restores() -> None:
    scene = Scene()
    scene.task.applied = {}
    for restored in range(10):
        scene.task.standing = ("t", restored)
        assert scene.look(LIMIT_S) is None
    assert scene.look(LIMIT_S + scene.task.rebalance_s - 1) is None
    stuck = scene.look(1)
    assert stuck is not None
    assert "has read nothing for 80 s" in str(stuck)


def test_a_task_that_reads_again_or_whose_broker_is_away_is_not_stuck_for_having_waited() -> None:
    scene = Scene()
    scene.task.applied = {}
    for _ in range(3):
        scene.task.standing = ("t", 0)
        assert scene.look(LIMIT_S) is None
        assert scene.look(LIMIT_S) is None
        scene.task.standing = None
        assert scene.look(1) is None
    scene.task.standing = ("t", 0)
    scene.look(0)
    scene.probe.down = True
    assert scene.look(2 * LIMIT_S) is None
    scene.probe.down = False
    assert scene.look(2 * LIMIT_S) is None


@pytest.fixture
def probe(embedded: str) -> Iterator[Probe]:
    probe = Probe({"bootstrap.servers": embedded}, "watchdog")
    yield probe
    probe.close()


def test_the_probe_tells_a_record_from_an_end(embedded: str, probe: Probe) -> None:
    producer = Producer({"bootstrap.servers": embedded})
    producer.produce("t", b"v", b"k", 0)
    producer.flush(10)
    assert probe.extent("t", 0) == (0, 1)
    assert probe.holds_record("t", 0, 0)
    assert not probe.holds_record("t", 0, 1)
