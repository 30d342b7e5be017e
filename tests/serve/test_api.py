"""The routes: what they answer, what they refuse, and that they are as described."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import jsonschema
import pytest
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from schemas.serving import ErrorReply, SimilarItems, Trending, ValuationRecords
from streams.serve import RunningServer, start
from tests.serve.conftest import Store, eventually, serving, store_on


def stock(store: Store) -> Store:
    store.product("red mug", "Kitchen", "Mugs", vector=(1, 0, 0))
    store.product("blue mug", "Kitchen", "Mugs", vector=(0.9, 0.1, 0))
    store.product("pan", "Kitchen", "Pans", vector=(0.5, 0.5, 0))
    store.product("sofa", "Living", vector=(0, 0, 1))
    store.product("sold out", "Kitchen", "Mugs", vector=(1, 0.01, 0), stock=0)
    store.session("s1", "red mug", "sofa")
    store.session("s2", "pan", "red mug", "sold out")
    store.session("s3", "pan")
    store.recommend("ann")
    store.value("overall", "all", "1h")
    store.value("channel", "web", "1h", tests=7)
    store.value("channel", "web", "total", tests=9)
    return store


@pytest.fixture
def stocked(store: Store) -> Store:
    """A deployment of the test's own."""
    return stock(store)


@pytest.fixture(scope="module")
def client(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One server for all tests that change nothing."""
    with serving(stock(store_on(broker, "shared.", tmp_path_factory.mktemp("shared"))).settings) as (_, client):
        yield client


def error_code(reply: httpx.Response) -> str:
    return ErrorReply.model_validate_json(reply.content).error.code


def test_similar_items_come_from_text_and_from_sessions_best_first(client: httpx.Client) -> None:
    reply = SimilarItems.model_validate_json(client.get("/v1/items/red mug/similar").content)
    listed = {item.sku: {share.source: share.score for share in item.shares} for item in reply.items}
    assert set(listed) == {"blue mug", "pan", "sofa"}
    assert set(listed["blue mug"]) == {"similar"}
    assert set(listed["pan"]) == {"similar", "together"}
    assert listed["blue mug"]["similar"] == pytest.approx(0.9 / (0.9**2 + 0.1**2) ** 0.5, abs=1e-3)
    scores = [item.score for item in reply.items]
    assert scores == sorted(scores, reverse=True)
    assert reply.items[0].title


def test_similar_goes_past_what_is_sold_out(stocked: Store) -> None:
    for number in range(40):
        stocked.product(f"cup {number}", "Kitchen", vector=(1, 0.001 * number, 0), stock=0)
    with serving(stocked.settings) as (_, client):
        reply = client.get("/v1/items/sold out/similar?k=2").json()
        assert [item["sku"] for item in reply["items"]] == ["red mug", "blue mug"]


def test_similar_keeps_to_k(client: httpx.Client) -> None:
    assert len(client.get("/v1/items/red mug/similar?k=1").json()["items"]) == 1


def test_trending_counts_events_everywhere_and_by_category(client: httpx.Client) -> None:
    everywhere = Trending.model_validate_json(client.get("/v1/trending").content)
    assert {item.sku for item in everywhere.items[:2]} == {"pan", "red mug"}
    assert everywhere.items[0].score == 1.0
    assert "sold out" not in {item.sku for item in everywhere.items}
    mugs = Trending.model_validate_json(client.get("/v1/trending?category=Kitchen > Mugs").content)
    assert [item.sku for item in mugs.items] == ["red mug", "blue mug"]
    kitchen = Trending.model_validate_json(client.get("/v1/trending?category=Kitchen&k=2").content)
    assert {item.sku for item in kitchen.items} == {"pan", "red mug"}


def test_an_empty_category_is_none(client: httpx.Client) -> None:
    assert client.get("/v1/trending?category=&k=20").json() == client.get("/v1/trending").json()


def test_a_product_is_there_after_its_upsert_and_gone_after_its_delete(stocked: Store) -> None:
    with serving(stocked.settings) as (_, client):

        def skus() -> set[str]:
            return {item["sku"] for item in client.get("/v1/items/red mug/similar").json()["items"]}

        stocked.product("green mug", "Kitchen", "Mugs", vector=(0.95, 0.05, 0))
        eventually(lambda: "green mug" in skus())
        stocked.put("storefront.catalog", "green mug", None)
        eventually(lambda: "green mug" not in skus())


def test_valuation_gives_the_records_of_one_dimension(client: httpx.Client) -> None:
    channel = ValuationRecords.model_validate_json(client.get("/v1/valuation?dimension=channel").content)
    assert [(record.asset, record.tests) for record in channel.records] == [("web", 7), ("web", 9)]
    assert [record.asset for record in ValuationRecords.model_validate_json(client.get("/v1/valuation").content).records] == ["all"]
    assert client.get("/v1/valuation", params={"dimension": 'no"ne'}).json() == {"dimension": 'no"ne', "records": []}


def test_a_newer_rolling_record_takes_the_place_of_the_older(stocked: Store) -> None:
    with serving(stocked.settings) as (_, client):
        stocked.value("channel", "web", "1h", tests=8)
        eventually(lambda: [record["tests"] for record in client.get("/v1/valuation?dimension=channel").json()["records"]] == [8, 9])


def test_valuation_leaves_out_the_minutes_that_are_over(stocked: Store) -> None:
    stocked.value("channel", "a|b", "1m@2025-03-01T12:00:00Z")
    stocked.value("channel", "me@home", "1m")
    with serving(stocked.settings) as (_, client):
        found = ValuationRecords.model_validate_json(client.get("/v1/valuation?dimension=channel").content)
        assert [record.asset for record in found.records] == ["me@home", "web", "web"]


def test_an_unknown_shopper_is_told_what_to_show_meanwhile(client: httpx.Client) -> None:
    reply = client.get("/v1/users/nobody/recommendations")
    assert (reply.status_code, error_code(reply)) == (404, "shopper_unknown")
    assert "/v1/trending" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/items/nothing/similar", 404, "sku_unknown"),
        ("/v1/items//similar", 404, "sku_unknown"),
        ("/v1/trending?category=Garden", 404, "category_unknown"),
        ("/v1/trending?k=0", 422, "parameter_invalid"),
        ("/v1/trending?k=101", 422, "parameter_invalid"),
        ("/v1/trending?k=many", 422, "parameter_invalid"),
        ("/v1/trending?k=٣", 422, "parameter_invalid"),
        ("/v1/trending?k=-1", 422, "parameter_invalid"),
        (f"/v1/trending?k={'9' * 5000}", 422, "parameter_invalid"),
        (f"/v1/users/{'u' * 257}/recommendations", 422, "parameter_invalid"),
        ("/v1/users//recommendations", 422, "parameter_invalid"),
        ("/v1/users/%FF/recommendations", 404, "shopper_unknown"),
        ("/v1/valuation?dimension=", 422, "parameter_invalid"),
        ("/v1/valuation?dimension=a|b", 422, "parameter_invalid"),
        ("/v1/users/ann", 404, "not_found"),
        ("/favicon.ico", 404, "not_found"),
    ],
)
def test_a_bad_request_gets_a_stable_code(client: httpx.Client, path: str, status: int, code: str) -> None:
    reply = client.get(path)
    assert (reply.status_code, error_code(reply)) == (status, code)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_reading_is_answered(client: httpx.Client, method: str) -> None:
    reply = client.request(method, "/v1/users/ann/recommendations")
    assert (reply.status_code, error_code(reply)) == (405, "method_not_allowed")
    assert "GET" in reply.headers["allow"]


def test_a_head_request_has_the_headers_and_no_body(client: httpx.Client) -> None:
    reply = client.head("/v1/users/ann/recommendations")
    assert (reply.status_code, reply.content) == (200, b"")


def test_a_failure_inside_is_a_coded_500_and_leaves_the_server_up(stocked: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(stocked.settings) as (server, client):
        monkeypatch.setattr(server._replica, "valuation", lambda dimension: 1 / 0)
        reply = client.get("/v1/valuation")
        assert (reply.status_code, error_code(reply)) == (500, "internal")
        assert client.get("/healthz").status_code == 200


def test_with_a_key_only_its_holder_reads(stocked: Store) -> None:
    settings = stocked.settings.model_copy(update={"api_key": SecretStr("s3cret")})
    with serving(settings) as (_, client):
        for path in ("/v1/users/ann/recommendations", "/v1/users/nobody/recommendations", "/v1/trending", "/metrics", "/nothing"):
            for given in ("", "Bearer wrong", "Basic s3cret", "s3cret", "Bearer s3cret2"):
                reply = client.get(path, headers={"authorization": given})
                assert (reply.status_code, error_code(reply)) == (401, "unauthorized")
                assert reply.headers["www-authenticate"].startswith("Bearer")
        for scheme in ("Bearer", "bearer"):
            assert client.get("/v1/users/ann/recommendations", headers={"authorization": f"{scheme} s3cret"}).status_code == 200
        for path in ("/", "/healthz", "/readyz", "/openapi.json"):
            assert client.get(path).status_code == 200


@pytest.mark.parametrize(("host", "key", "warned"), [("0.0.0.0", None, True), ("0.0.0.0", "k", False), ("127.0.0.1", None, False)])
def test_listening_to_the_world_without_a_key_is_warned_of(
    store: Store, caplog: pytest.LogCaptureFixture, host: str, key: str | None, warned: bool
) -> None:
    settings = store.settings.model_copy(update={"host": host, "api_key": SecretStr(key) if key else None})
    with caplog.at_level(logging.WARNING), start(settings):
        pass
    assert any("without an api_key" in record.message for record in caplog.records) is warned


def test_health_and_readiness_turn_when_a_reader_fails(stocked: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(stocked.settings) as (server, client):
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json()["status"] == "ready"
        monkeypatch.setattr(server._replica._store, "write", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        stocked.recommend("ben")
        reply = eventually(lambda: (reply := client.get("/healthz")).status_code == 503 and reply)
        assert reply.json() == {"status": "failed", "error": "disk full"}
        assert client.get("/v1/users/ann/recommendations").status_code == 200


def test_before_it_has_caught_up_it_says_so_rather_than_deny(stocked: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.serve.replica.fetch", lambda *_: [])
    monkeypatch.setattr("streams.runtime.broadcast.BroadcastReader.catch_up", lambda *_: 1 / 0)
    with serving(stocked.settings, wait=False) as (server, client):
        for path in ("/v1/users/ann/recommendations", "/v1/trending", "/v1/items/pan/similar", "/v1/valuation"):
            reply = client.get(path)
            assert (reply.status_code, error_code(reply)) == (503, "not_ready")
            assert int(reply.headers["retry-after"]) >= 1
        reply = client.get("/readyz")
        behind = {"recommendations": 1, "valuation.rolling": 3}
        assert (reply.status_code, reply.json()) == (503, {"status": "catching_up", "behind": behind})
        assert not server.ready


def test_metrics_count_requests_by_route_never_by_shopper(client: httpx.Client) -> None:
    client.get("/v1/users/ann/recommendations")
    client.get("/v1/users/nobody/recommendations")
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    labels = {(sample.labels["route"], sample.labels["status"]) for sample in families["assay_http_requests"].samples}
    assert {("/v1/users", "200"), ("/v1/users", "404")} <= labels
    assert not any("ann" in route for route, _ in labels)
    assert "assay_serve_ready" in families


def test_the_description_is_valid_and_the_replies_are_as_it_says(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    calls = {
        "/v1/users/{id}/recommendations": "/v1/users/ann/recommendations",
        "/v1/items/{sku}/similar": "/v1/items/red mug/similar",
        "/v1/trending": "/v1/trending",
        "/v1/valuation": "/v1/valuation?dimension=channel",
        "/healthz": "/healthz",
        "/readyz": "/readyz",
    }
    for route, path in calls.items():
        schema = document["paths"][route]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(client.get(path).json(), {**schema, "components": document["components"]})
    refused = client.get("/v1/users/nobody/recommendations")
    schema = document["paths"]["/v1/users/{id}/recommendations"]["get"]["responses"]["404"]["content"]["application/json"]["schema"]
    jsonschema.validate(refused.json(), {**schema, "components": document["components"]})


def test_every_route_is_described_and_shown_on_the_landing_page(client: httpx.Client) -> None:
    described = set(client.get("/openapi.json").json()["paths"])
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for route in described - {"/"}:
        assert route in page.text


def test_stopping_twice_is_harmless(store: Store) -> None:
    server: RunningServer = start(store.settings)
    server.stop()
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{server.port}/healthz")
