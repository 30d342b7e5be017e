"""Business rules in the recommend worker: what its records say, and the file that is read again while it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.rules import BusinessRules, read_rules
from schemas.catalog import Product
from schemas.recommendation import Recommendations
from streams.agents.recommend import tasks
from streams.runtime.errors import EXIT_CONFIG, RulesWrong
from streams.runtime.metrics import REGISTRY
from streams.runtime.processor import Batch, DictState, SourceRecord, Step
from streams.settings import Settings
from tests.agents.pipeline import START_MS, Pipeline, event, messages, outcomes

WITHOUT_B = b"exclude: [{skus: b}]"


def rules(**kinds: list[dict[str, Any]]) -> BusinessRules:
    return BusinessRules.model_validate(kinds)


def newest(step: Step) -> Recommendations:
    (message,) = messages(step, "recommendations")
    assert isinstance(message, Recommendations)
    return message


def skus(step: Step) -> set[str]:
    return {item.sku for item in newest(step).items}


def reading(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_record_names_the_rules_that_it_was_made_under() -> None:
    given = read_rules(WITHOUT_B)
    assert newest(Pipeline(rules=given).send(event("click", 0))).versions.rules == given.digest
    bare = Pipeline().send(event("click", 0))
    assert newest(bare).versions.rules is None
    assert b'"rules"' not in next(output.value for output in bare.outputs if output.topic == "recommendations")


def test_other_rules_hold_from_the_very_next_batch_on_for_lists_and_for_the_baseline() -> None:
    worker = Pipeline("abc")
    popular = [event("purchase", number, "v", sku="b") for number in range(3)]
    assert skus(worker.send(*popular)) == set("abc")
    worker.processor.rules_changed(read_rules(WITHOUT_B))
    step = worker.send(event("click", 10), event("click", 11, sku="b"))
    assert skus(step) == set("ac")
    assert [outcome.popularity_rank for outcome in outcomes(step)] == [1, None]
    worker.processor.rules_changed(read_rules(b"exclude: []"))
    assert skus(worker.send(event("click", 12))) == set("abc")


def test_rules_outlive_a_change_of_the_encoder() -> None:
    worker = Pipeline("abc", rules=read_rules(WITHOUT_B))
    worker.catalogue.encoder_changes += 1
    assert skus(worker.send(event("click", 0))) == set("ac")


def test_rules_that_exclude_everything_give_an_empty_list_with_its_reason() -> None:
    worker = Pipeline(rules=rules(exclude=[{"categories": "Shop"}]))
    message = newest(worker.send(event("click", 0)))
    assert (message.policy, message.items) == ("empty", ())
    assert message.reason == "the business rules exclude every product that may be recommended"
    for sku in "abcdef":
        worker.delete(sku)
    assert newest(worker.send(event("click", 1))).reason == "the catalogue holds no product that may be recommended"


def test_a_pinned_item_is_judged_like_any_other_and_pins_passed_over_are_counted() -> None:
    given = rules(pin=[{"sku": "f", "position": 1}, {"sku": "never-published", "position": 2}, {"sku": "e", "position": 2}])
    worker = Pipeline(rules=given)
    before = reading("assay_pins_passed_over_total")
    first = newest(worker.send(event("click", 0)))
    assert [(item.sku, item.pinned, item.explanation) for item in first.items[:2]] == [
        ("f", True, "Chosen by the shop"), ("e", True, "Chosen by the shop"),
    ]  # fmt: skip
    assert reading("assay_pins_passed_over_total") == before + 1
    (outcome,) = outcomes(worker.send(event("click", 1, sku="f")))
    assert (outcome.rank, outcome.recommendation_id) == (1, first.recommendation_id)


def test_a_region_is_the_country_that_events_named_last_and_goes_along_at_login() -> None:
    given = rules(exclude=[{"skus": "b", "for": {"regions": "IE"}}])
    worker = Pipeline("abc", rules=given)
    assert skus(worker.send(event("click", 0, None, session_id="s"))) == set("abc")
    assert skus(worker.send(event("click", 1, None, session_id="s", country="IE", second=5))) == set("ac")
    assert skus(worker.send(event("click", 2, None, session_id="s", second=9))) == set("ac")  # who names none has not moved
    step = worker.send(event("login", 3, "u", session_id="s", second=10))
    assert skus(worker.process(worker.merges(step))) == set("ac")
    assert skus(worker.send(event("click", 4, country="GB", second=20))) == set("abc")


# -- The file -----------------------------------------------------------------------------------------------------------


class Worker:
    """The recommend role's task as the runtime would drive it: what it does about once a second, then a batch."""

    def __init__(self, folder: Path, data: bytes, **settings: Any) -> None:
        self.file = folder / "rules.yaml"
        self.write(data)
        settings = {"index": "flat", "device": "cpu", "data_dir": folder / "data", "business_rules": self.file, **settings}
        (self.task,) = tasks(Settings(**settings))
        self._state = DictState()
        self._offset = 0
        products = [Product(sku=sku, title=sku) for sku in "abc"]
        records = [SourceRecord("storefront.catalog", 0, n, START_MS, one.sku.encode(), one.to_json()) for n, one in enumerate(products)]
        self.task.broadcasts[0].apply(records)

    def write(self, data: bytes) -> None:
        """Put another file in the place of the present one, as an operator would."""
        other = self.file.with_suffix(".new")
        other.write_bytes(data)
        other.replace(self.file)

    def listed(self) -> set[str]:
        assert self.task.background is not None
        self.task.background()
        key, value = event("click", self._offset)
        record = SourceRecord("storefront.events", 0, self._offset, START_MS, key, value)
        self._offset += 1
        step = self.task.processor.process(self._state, Batch(0, [record], START_MS))
        self._state.apply(step.writes)
        return skus(step)


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    started: list[Worker] = []
    yield started
    for worker in started:
        assert worker.task.close is not None
        worker.task.close()


def test_a_changed_file_is_in_force_in_the_very_next_batch(tmp_path: Path, workers: list[Worker]) -> None:
    worker = Worker(tmp_path, WITHOUT_B)
    workers.append(worker)
    assert worker.listed() == set("ac")
    worker.write(b"exclude: [{skus: c}]")
    assert worker.listed() == set("ab")
    times = worker.file.stat()
    worker.write(b"exclude: [{skus: a}]")
    os.utime(worker.file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as old and as long as the former
    assert worker.listed() == set("bc")
    worker.file.write_bytes(b"exclude: []\n")  # in place
    assert worker.listed() == set("abc")


def test_an_invalid_file_leaves_the_former_rules_and_is_said_once(
    tmp_path: Path, workers: list[Worker], caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(tmp_path, WITHOUT_B)
    workers.append(worker)
    digest = read_rules(WITHOUT_B).digest
    refused = reading("assay_business_rules_read_total", outcome="refused")
    taken = reading("assay_business_rules_read_total", outcome="taken")
    assert reading("assay_business_rules_refused") == 0
    for data in (b"exclude: [{sku: c}]", b""):
        caplog.clear()
        worker.write(data)
        assert [worker.listed() for _ in range(3)] == [set("ac")] * 3
        (said,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert said.startswith(f"business rules {digest} stay in force: {worker.file} holds no valid business rules:\n  line 1, column ")
        assert reading("assay_business_rules_refused") == 1
    worker.file.unlink()
    caplog.clear()
    assert [worker.listed() for _ in range(2)] == [set("ac")] * 2
    assert caplog.text.count("cannot be read: No such file or directory") == 1
    assert reading("assay_business_rules_read_total", outcome="refused") == refused + 3
    worker.write(WITHOUT_B)
    assert worker.listed() == set("ac")
    assert reading("assay_business_rules_refused") == 0
    assert reading("assay_business_rules_read_total", outcome="taken") == taken + 1


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"exclude: [{sku: c}]", "line 1, column 12: exclude.0.sku: there is no such key here"),
        (b"", "line 1, column 1: a file of rules has at least one of the keys"),
        (None, "cannot be read: No such file or directory; correct its name or its rights"),
    ],
)
def test_a_worker_does_not_start_with_an_invalid_file(tmp_path: Path, data: bytes | None, complaint: str) -> None:
    file = tmp_path / "rules.yaml"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(RulesWrong) as refused:
        tasks(Settings(index="flat", device="cpu", data_dir=tmp_path / "data", business_rules=file))
    assert refused.value.exit_code == EXIT_CONFIG
    assert str(file) in str(refused.value)
    assert complaint in str(refused.value)
    assert "assay rules check" in str(refused.value)
