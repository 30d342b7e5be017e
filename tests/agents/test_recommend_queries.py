"""A shopper's last search in the worker: the list after it reflects it, and nothing of it stays where it may not."""

from __future__ import annotations

import pytest

from schemas.catalog import Product
from schemas.recommendation import Recommendations
from streams.agents.recommend import tasks
from streams.runtime.errors import EXIT_CONFIG, RankingWrong
from streams.runtime.processor import Step
from streams.settings import Settings
from tests.agents.pipeline import Pipeline, erasure, event, messages


def shop(**settings: object) -> Pipeline:
    worker = Pipeline("", **settings)
    for sku, title in (("m1", "Red mug"), ("m2", "Blue mug"), ("h", "Straw hat"), ("s", "Sofa"), ("l", "Lamp")):
        worker.publish(Product(sku=sku, title=title))
    return worker


def newest(step: Step) -> Recommendations:
    found: Recommendations = messages(step, "recommendations")[-1]
    return found


def by_query(found: Recommendations) -> list[str]:
    return [item.sku for item in found.items if any(reason.source == "query" for reason in item.reasons)]


def test_the_list_after_a_search_leads_with_what_fits_it() -> None:
    worker = shop()
    worker.send(event("click", 0, sku="s"))
    found = newest(worker.send(event("search", 1, query="mug", second=5)))
    assert found.policy == "personal"
    assert by_query(found) == ["m1", "m2"]
    assert {item.explanation for item in found.items if item.sku.startswith("m")} == {"Matches what you searched for"}
    # It goes on to count while the visit does.
    assert by_query(newest(worker.send(event("click", 2, sku="l", second=60)))) == ["m1", "m2"]
    assert by_query(newest(worker.send(event("click", 3, sku="l", second=60 + 1801)))) == []


def test_an_anonymous_search_comes_along_to_the_user() -> None:
    worker = shop()
    step = worker.send(event("search", 0, None, session_id="x", query="hat"), event("login", 1, "u", session_id="x", second=1))
    found = newest(worker.process(worker.merges(step)))
    assert (found.user_id, by_query(found)) == ("u", ["h"])


def test_searches_are_left_out_where_they_are_switched_off() -> None:
    worker = shop(queries="off")
    found = newest(worker.send(event("search", 0, query="mug")))
    assert (found.policy, by_query(found)) == ("cold_start", [])


def test_nothing_of_a_search_stays_without_consent_or_after_an_erasure() -> None:
    worker = shop()
    worker.send(event("search", 0, query="mug"))
    found = newest(worker.send(event("search", 1, query="mug", consent=False, second=1)))
    assert by_query(found) == []
    assert all(b"mug" not in value for value in worker.snapshot().values())
    worker.send(event("search", 2, "v", query="mug"))
    worker.process(worker.records([erasure("v")], "privacy.erasures"))
    assert all(b"mug" not in value for value in worker.snapshot().values())


def test_no_record_says_what_was_searched_for() -> None:
    worker = shop()
    worker.send(event("search", 0, query="mug with a poodle"))
    assert by_query(messages(worker, "recommendations")[-1])
    assert all(b"poodle" not in (output.value or b"") for output in worker.outputs)


def test_a_failing_search_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = shop()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no index today")

    with monkeypatch.context() as patch:
        patch.setattr("models.search.products.ProductSearch.search", fail)
        found = newest(worker.send(event("search", 0, query="mug")))
    assert (found.degraded, by_query(found)) == (("query",), [])
    assert by_query(newest(worker.send(event("search", 1, query="mug", second=1)))) == ["m1", "m2"]


def test_an_encoder_that_is_not_there_refuses_the_start(tmp_path) -> None:
    with pytest.raises(RankingWrong, match="--queries off") as refused:
        tasks(Settings(queries="meaning", encoder=str(tmp_path / "nowhere"), data_dir=tmp_path))
    assert refused.value.exit_code == EXIT_CONFIG
