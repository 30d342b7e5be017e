"""GET /v1/search over real topics and a real encoder: what is found, for whom, and what happens when a part fails."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.encoder.encoder import TextEncoder
from models.search.fusion import BOOST
from schemas.catalog import Product
from schemas.recommendation import CausedBy, Recommendations, RecommendedItem, Versions
from schemas.serving import SearchResults
from streams.serve import search
from streams.settings import Settings
from tests.serve.conftest import DEADLINE_S, NOON, GatedEncoder, Store, eventually, serving, store_on
from tests.serve.test_api import error_code

PRODUCTS = (
    Product(sku="couch", title="Velvet couch, three seats", category_path=("Living", "Seating")),
    Product(sku="drill", title="Cordless drill XR-5042", category_path=("Workshop",)),
    Product(sku="red", title="Enamel mug, red", category_path=("Kitchen", "Mugs")),
    Product(sku="blue", title="Enamel mug, blue", category_path=("Kitchen", "Mugs")),
    Product(sku="tall", title="Tall mug of bone china", category_path=("Kitchen", "Porcelain")),
    Product(sku="gone", title="Enamel mug, green", category_path=("Kitchen", "Mugs"), stock=0),
    Product(sku="fee", title="Postage for a mug", recommendable=False),
    Product(sku="bare"),
)


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return TextEncoder("minilm", device="cpu", threads=1)


@pytest.fixture(autouse=True)
def encoder(minilm: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> GatedEncoder:
    """The encoder of servers that a test starts: loaded once for all of them."""
    gated = GatedEncoder(minilm)
    monkeypatch.setattr(search, "TextEncoder", lambda *_, **__: gated)
    return gated


def recommended(*scores: tuple[str, float], policy: Any = "personal") -> bytes:
    items = tuple(
        RecommendedItem(sku=sku, position=place, score=score, explanation="", reasons=())
        for place, (sku, score) in enumerate(scores, start=1)
    )
    return Recommendations(
        recommendation_id="r", generated_at=NOON, policy=policy, items=items, versions=Versions(encoder="e", model="m", index=1),
        caused_by=CausedBy(topic="storefront.events", partition=0, first_offset=0, last_offset=0, events=1),
    ).to_json()  # fmt: skip


def shop(store: Store, encoder: TextEncoder) -> Settings:
    """The settings of a server that searches ``PRODUCTS`` for shoppers of every kind."""
    store.publish(encoder, *PRODUCTS)
    store.put("recommendations", "ann", recommended(("blue", 0.8), ("couch", 0.2)))
    store.put("recommendations", "session:s1", recommended(("tall", 0.5)))
    store.put("recommendations", "new", recommended(("blue", 0.8), policy="cold_start"))
    store.put("recommendations", "odd", b'{"items":[{"sku":1}]}')
    return store.settings.model_copy(update={"search": True})


@pytest.fixture
def stocked(store: Store, minilm: TextEncoder) -> Settings:
    return shop(store, minilm)


@pytest.fixture(scope="module")
def client(broker: str, tmp_path_factory: pytest.TempPathFactory, minilm: TextEncoder) -> Iterator[httpx.Client]:
    """One server, with an encoder that it loads itself, for all tests that change nothing."""
    with serving(shop(store_on(broker, "searched.", tmp_path_factory.mktemp("searched")), minilm)) as (_, client):
        yield client


def found(client: httpx.Client, **parameters: Any) -> SearchResults:
    reply = client.get("/v1/search", params=parameters)
    assert reply.status_code == 200, reply.text
    results = SearchResults.model_validate_json(reply.content)
    scores = [item.score for item in results.items]
    assert scores == sorted(scores, reverse=True)
    for item in results.items:
        assert sum(share.score for share in item.shares) == pytest.approx(item.score, abs=1e-9)
        assert 0 < item.score <= 1
    return results


def skus(client: httpx.Client, **parameters: Any) -> list[str]:
    return [item.sku for item in found(client, **parameters).items]


def shares(results: SearchResults) -> dict[str, dict[str, float]]:
    return {item.sku: {share.source: share.score for share in item.shares} for item in results.items}


def test_words_and_meaning_find_products_each_with_its_share(client: httpx.Client) -> None:
    results = found(client, q="  Red   MUG ")
    assert (results.query, results.personal, results.degraded) == ("red mug", False, ())
    assert results.items[0].sku == "red"
    assert results.items[0].title == "Enamel mug, red"
    assert results.items[0].category == "Kitchen > Mugs"
    assert shares(results)["red"] == {"lexical": 0.4, "semantic": 0.4}
    assert {"red", "blue", "tall"} <= set(shares(results))


def test_a_synonym_is_found_by_meaning_and_a_model_number_by_word(client: httpx.Client) -> None:
    sofa = found(client, q="sofa")
    assert sofa.items[0].sku == "couch"
    assert set(shares(sofa)["couch"]) == {"semantic"}
    assert skus(client, q="5042")[0] == "drill"
    assert "lexical" in shares(found(client, q="5042"))["drill"]
    assert skus(client, q="xr-50")[0] == "drill"


def test_what_may_not_be_shown_is_not_found(client: httpx.Client) -> None:
    assert not {"gone", "fee"} & set(skus(client, q="enamel mug green postage", limit=100))


def test_a_product_without_text_is_found_by_its_sku(client: httpx.Client) -> None:
    assert skus(client, q="bare")[0] == "bare"


def test_what_is_in_the_shoppers_list_or_like_it_is_lifted(client: httpx.Client) -> None:
    plain, personal = found(client, q="enamel mug"), found(client, q="enamel mug", user="ann")
    assert (plain.personal, personal.personal) == (False, True)
    assert not any("personal" in parts for parts in shares(plain).values())
    assert personal.items[0].sku == "blue"
    for sku, parts in shares(personal).items():
        lift = parts.pop("personal", 0.0)
        assert parts == shares(plain)[sku]
        assert lift <= BOOST * sum(parts.values()) + 1e-6
    lifts = {sku: parts.get("personal", 0.0) for sku, parts in shares(found(client, q="enamel mug", user="ann")).items()}
    assert lifts["blue"] > lifts["red"] > lifts["tall"]
    assert "couch" not in lifts, "a taste brings in nothing that does not fit"


def test_a_session_has_a_taste_too(client: httpx.Client) -> None:
    assert found(client, q="mug", user="session:s1").personal
    assert not found(client, q="mug", user="s1").personal


@pytest.mark.parametrize("user", ["", "nobody", "new", "x" * 256, "naïve☕ a/b"])
def test_a_shopper_of_whom_nothing_is_known_gets_plain_relevance(client: httpx.Client, user: str) -> None:
    assert found(client, q="enamel mug", user=user) == found(client, q="enamel mug")


def test_a_list_that_cannot_be_read_is_said_and_lifts_nothing(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    results = found(client, q="enamel mug", user="odd")
    assert (results.degraded, results.personal) == (("personal",), False)
    assert shares(results) == shares(found(client, q="enamel mug"))
    assert "'odd'" in caplog.text


def test_an_erased_shopper_gets_plain_relevance_from_then_on(store: Store, stocked: Settings) -> None:
    with serving(stocked) as (_, client):
        assert found(client, q="mug", user="ann").personal
        store.withdraw("ann")
        eventually(lambda: not found(client, q="mug", user="ann").personal)


def test_a_category_and_a_limit_bound_the_list(client: httpx.Client) -> None:
    everywhere = skus(client, q="mug", limit=100)
    assert set(skus(client, q="mug", category="Kitchen > Mugs")) == {"red", "blue"}
    assert set(skus(client, q="mug", category="Kitchen")) == {"red", "blue", "tall"}
    assert skus(client, q="mug", category="") == everywhere[:20]
    assert skus(client, q="mug", limit=1) == everywhere[:1]


@pytest.mark.parametrize(
    "query",
    [
        '"',
        '"mug',
        "mug'; DROP TABLE product; --",
        "NEAR(mug, 2)",
        "title:mug AND",
        "*",
        "!!!",
        "🛒",
        "🛒 mug",
        "\x00",
        "a" * 256,
        "é " * 128,
        "%",
        "红色杯子",
    ],
)
def test_no_query_is_an_error(client: httpx.Client, query: str) -> None:
    found(client, q=query)
    assert skus(client, q="red mug")[0] == "red"


@pytest.mark.parametrize("query", ["!!!", '""', "🛒", "\x00"])
def test_a_query_without_a_word_finds_nothing_and_is_not_encoded(stocked: Settings, encoder: GatedEncoder, query: str) -> None:
    with serving(stocked) as (_, client):
        assert skus(client, q=query) == []
    assert encoder.calls == []


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/search", 400, "parameter_invalid"),
        ("/v1/search?q=", 400, "parameter_invalid"),
        ("/v1/search?q=%20%09", 400, "parameter_invalid"),
        (f"/v1/search?q={'a' * 257}", 400, "parameter_invalid"),
        ("/v1/search?q=a&limit=0", 400, "parameter_invalid"),
        ("/v1/search?q=a&limit=101", 400, "parameter_invalid"),
        ("/v1/search?q=a&limit=ten", 400, "parameter_invalid"),
        (f"/v1/search?q=a&user={'u' * 257}", 400, "parameter_invalid"),
        ("/v1/search?q=a&category=Garden", 404, "category_unknown"),
    ],
)
def test_a_bad_request_gets_a_stable_code_and_is_told_why(client: httpx.Client, path: str, status: int, code: str) -> None:
    reply = client.get(path)
    assert (reply.status_code, error_code(reply)) == (status, code)


def test_a_query_of_256_characters_is_taken_whatever_white_space_is_around_it(client: httpx.Client) -> None:
    assert client.get("/v1/search", params={"q": f"  {'a' * 256} \n"}).status_code == 200


def test_a_server_that_was_not_asked_to_search_says_how_to_ask(store: Store) -> None:
    with serving(store.settings) as (_, client):
        reply = client.get("/v1/search?q=mug")
    assert (reply.status_code, error_code(reply)) == (404, "search_disabled")
    assert "assay serve --search" in reply.json()["error"]["message"]


def test_an_empty_catalogue_answers_with_an_empty_list(store: Store) -> None:
    with serving(store.settings.model_copy(update={"search": True})) as (_, client):
        assert skus(client, q="mug") == []


def test_products_come_and_go_while_it_serves_down_to_none(store: Store, minilm: TextEncoder) -> None:
    with serving(store.settings.model_copy(update={"search": True})) as (_, client):
        store.publish(minilm, *PRODUCTS[:4])
        eventually(lambda: set(shares(found(client, q="enamel mug")).get("red", {})) == {"lexical", "semantic"})
        store.put("storefront.catalog", "red", Product(sku="red", title="Enamel mug, red", stock=0).to_json())
        eventually(lambda: "red" not in skus(client, q="enamel mug"))
        for product in PRODUCTS[:4]:
            store.put("storefront.catalog", product.sku, None)
        eventually(lambda: skus(client, q="enamel mug couch drill") == [])
        store.product("mug")
        eventually(lambda: skus(client, q="mug") == ["mug"])


def test_vectors_of_another_encoder_are_left_out_and_that_is_said(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.product("mug", vector=(1, 0, 0))
    with caplog.at_level(logging.WARNING), serving(store.settings.model_copy(update={"search": True})) as (_, client):
        for _ in range(2):
            results = found(client, q="mug")
            assert (results.degraded, shares(results)) == (("semantic",), {"mug": {"lexical": 0.4}})
    assert caplog.text.count("by the encoder tiny") == 1


def test_a_query_that_the_encoder_fails_on_is_answered_by_word(stocked: Settings, encoder: GatedEncoder) -> None:
    encoder.fails_on = "enamel"
    with serving(stocked) as (_, client):
        results = found(client, q="enamel mug")
        assert results.degraded == ("semantic",)
        assert {"red", "blue"} <= set(shares(results))
        encoder.fails_on = None
        assert found(client, q="enamel mug").degraded == ()


def test_a_query_asked_again_is_not_encoded_again(stocked: Settings, encoder: GatedEncoder) -> None:
    with serving(stocked) as (_, client):
        first = found(client, q="Red mug")
        assert found(client, q=" red  MUG") == first
    assert encoder.calls == [["red mug"]]


def test_when_too_many_are_under_way_the_next_is_told_to_come_back_and_reads_go_on(
    stocked: Settings, encoder: GatedEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "RUNNING", 2)
    encoder.gate.clear()
    with serving(stocked) as (_, client), ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.get, f"/v1/search?q={query}") for query in ("red mug", "sofa")]
        eventually(lambda: running(client) == 2)
        reply = client.get("/v1/search?q=drill")
        assert (reply.status_code, error_code(reply)) == (503, "overloaded")
        assert int(reply.headers["retry-after"]) >= 1
        assert client.get("/v1/users/ann/recommendations").status_code == 200
        assert client.get("/v1/items/red/similar").status_code == 200
        encoder.gate.set()
        assert [future.result(DEADLINE_S).status_code for future in waiting] == [200, 200]
        eventually(lambda: running(client) == 0)
        assert skus(client, q="drill")[0] == "drill"


def running(client: httpx.Client) -> float:
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    return families["assay_searches_running"].samples[0].value


def test_before_the_catalogue_is_read_it_says_so(stocked: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.runtime.broadcast.BroadcastReader.catch_up", lambda *_: 1 / 0)
    with serving(stocked, wait=False) as (_, client):
        reply = client.get("/v1/search?q=mug")
    assert (reply.status_code, error_code(reply)) == (503, "not_ready")
    assert int(reply.headers["retry-after"]) >= 1


def test_replies_are_as_described_and_kept_by_no_cache(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    responses = document["paths"]["/v1/search"]["get"]["responses"]
    for parameters, status in (
        ({"q": "mug", "user": "ann"}, "200"),
        ({"q": "!"}, "200"),
        ({}, "400"),
        ({"q": "mug", "category": "no"}, "404"),
    ):
        reply = client.get("/v1/search", params=parameters)
        assert str(reply.status_code) == status
        schema = responses[status]["content"]["application/json"]["schema"]
        jsonschema.validate(reply.json(), {**schema, "components": document["components"]})
    assert client.get("/v1/search?q=mug").headers["cache-control"] == "private, no-store"


def test_requests_are_counted_as_searches(client: httpx.Client) -> None:
    client.get("/v1/search?q=mug")
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    assert ("/v1/search", "200") in {
        (sample.labels["route"], sample.labels["status"]) for sample in families["assay_http_requests"].samples
    }


def test_an_encoder_that_is_not_there_stops_the_command_with_its_name(store: Store) -> None:
    command = [sys.executable, "-m", "streams.cli", "serve", "--search", "--encoder", "./no-such-folder", "--port", "0", "--data-dir"]
    where = [
        str(store.settings.data_dir),
        "--bootstrap-servers",
        store.settings.bootstrap_servers,
        "--topic-prefix",
        store.settings.topic_prefix,
    ]
    ended = subprocess.run([*command, *where], stderr=subprocess.PIPE, text=True, check=False, timeout=2 * DEADLINE_S, env=dict(os.environ))
    assert ended.returncode == 2
    assert "no-such-folder" in ended.stderr
    assert "Traceback" not in ended.stderr
