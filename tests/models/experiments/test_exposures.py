"""The exposure log: exact, and the same whatever the order in which its parts come."""

from __future__ import annotations

import doctest
import random
from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from models.experiments import ExposureLog, UserRecord, exposures

USERS = st.sampled_from(["ann", "bob", "cid", "dee"])
ENTRIES = st.lists(
    st.one_of(
        st.tuples(
            USERS, st.sampled_from(["old", "new"]), st.integers(0, 9),
            st.dictionaries(st.sampled_from(["margin", "revenue"]), st.decimals(0, 9, places=2)),
        ),
        st.tuples(USERS, st.sampled_from(["clicks", "margin"]), st.decimals(-9, 9, places=2)),
    ),
    max_size=30,
)  # fmt: skip


def log_of(entries: list[tuple[object, ...]]) -> ExposureLog:
    log = ExposureLog()
    for entry in entries:
        if len(entry) == 4:
            log.expose(*entry)  # type: ignore[arg-type]
        else:
            log.add(*entry)  # type: ignore[arg-type]
    return log


def test_the_example_in_the_documentation_holds() -> None:
    assert doctest.testmod(exposures).failed == 0


@given(entries=ENTRIES, cut=st.integers(0, 30), seed=st.integers(0, 99))
def test_a_log_is_the_same_in_any_order_and_survives_being_written(entries: list[tuple[object, ...]], cut: int, seed: int) -> None:
    whole = log_of(entries).to_records()
    shuffled = random.Random(seed).sample(entries, len(entries))
    for parts in ((shuffled[:cut], shuffled[cut:]), (shuffled[cut:], shuffled[:cut])):
        merged = ExposureLog()
        for part in parts:
            merged.merge(log_of(part))
        assert msgspec.msgpack.encode(merged.to_records()) == msgspec.msgpack.encode(whole)
    read = msgspec.json.decode(msgspec.json.encode(whole), type=list[UserRecord])
    assert ExposureLog.from_records(read).to_records() == whole


def test_the_earliest_exposure_counts_with_the_covariates_of_then() -> None:
    log = ExposureLog()
    log.expose("ann", "new", 2_000, {"margin": Decimal(7)})
    log.expose("ann", "new", 1_000, {"revenue": Decimal(9), "margin": Decimal(3)})
    log.expose("bob", "new", 3_000, {"margin": Decimal(5)})
    assert log.arm("new").covariates("margin").tolist() == [3.0, 5.0]
    assert log.arm("new").covariates("revenue").tolist() == [9.0, 0.0]
    assert log.arm("new", until_ms=3_000).covariates("margin").tolist() == [3.0]


def test_users_of_two_arms_belong_to_none_and_are_counted() -> None:
    log = ExposureLog()
    for user, arm in (("ann", "new"), ("bob", "new"), ("bob", "old"), ("cid", "old")):
        log.expose(user, arm, 0)
        log.add(user, "clicks")
    assert (log.crossed, log.arm("new").users, log.arm("old").users) == (1, 1, 1)


def test_what_users_do_who_were_never_exposed_counts_in_no_arm() -> None:
    log = ExposureLog()
    log.add("ann", "clicks", 3)
    log.expose("bob", "new", 0)
    assert log.arm("new").sums("clicks").tolist() == [0.0]


def test_cents_add_up() -> None:
    log = ExposureLog()
    log.expose("ann", "new", 0)
    for _ in range(10):
        log.add("ann", "margin", Decimal("0.10"))
    assert log.to_records() == [("ann", (0, "new", ()), ("new",), {"margin": Decimal("1.00")})]
