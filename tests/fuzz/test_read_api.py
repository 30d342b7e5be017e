"""The read API held to its own OpenAPI document by schemathesis: a real server, read from real topics, some records of which are spoilt."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import schemathesis
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode

from models.catalog.encoders import EncoderKey
from models.encoder.source import locate
from schemas.serving import ErrorReply
from streams.broker import EmbeddedBroker
from streams.serve.openapi import document
from streams.serve.protocol import REQUEST_BYTES
from tests.fuzz.effort import effort
from tests.serve.conftest import DEADLINE_S, Store, serving, store_on
from tests.serve.test_api import stock

#: Names that the topics below know, ordinary and not: what is asked for at random is never there.
SHOPPERS = ("ann", "a/b", "a b", "100%", "\u00e9t\u00e9 \U0001f6d2", "x" * 256, "session:ann", "..", "recommendations")
SKUS = ("red mug", "sold out", "gone", "a/similar", "\U0001f6d2", "y" * 128, "never-held")


#: What shoppers type, and what they do not.
QUERIES = (
    "red mug",
    "MUG",
    "5cm",
    "'; DROP TABLE product; --",
    "NEAR(mug)",
    '"',
    "*",
    "\x00",
    "\U0001f6d2 mug",
    "\u202e",
    "a" * 256,
    "\u00e9 " * 128,
)


def spoil(store: Store, servers: str) -> None:
    """What no worker of ours would write, in each topic that the API reads."""
    producer = Producer({"bootstrap.servers": servers})
    keys = (b"channel|\xff\xfe|1h", b"\xff", b"overall|all|5m", b"|", b"overall|", b"spoilt", b"session:spoilt")
    values = (b"", b"{", b"\xff", b"[" * 5_000, b'{"items":[{"sku":"\\ud800","position":1}]}', b"NaN")
    for topic in ("valuation.rolling", "storefront.catalog", "catalog.embeddings", "sessions"):
        for key in keys:
            for value in values:
                producer.produce(store.settings.topic(topic), value, key, partition=1)
    assert producer.flush(DEADLINE_S) == 0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedBroker() as broker:
        store = store_on(broker.bootstrap_servers, "fuzzed.", tmp_path_factory.mktemp("fuzzed"))
        store.encoder = EncoderKey(locate("minilm").version, 384)
        stock(store)
        spoil(store, broker.bootstrap_servers)
        for shopper in SHOPPERS:
            store.recommend(shopper)
        for sku in SKUS[3:6]:
            store.product(sku, "Kitchen", vector=(1, 0.1, 0))
        store.put("storefront.catalog", "gone", None)
        with serving(store.settings.model_copy(update={"search": True})) as (server, _):
            yield f"http://127.0.0.1:{server.port}"
            server.check()


@pytest.fixture(scope="module")
def api(url: str) -> Any:
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


# Not by schemathesis's own parametrization: it reaches into parts of pytest that pytest 9.2 no longer has.
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", document()["paths"])
def test_every_reply_is_as_described(api: Any, path: str, mode: GenerationMode):
    operation = api[path]["GET"]
    if mode is GenerationMode.NEGATIVE and not list(operation.iter_parameters()):
        pytest.skip("takes no parameters that could be wrong")

    @effort(20)
    @given(case=operation.as_strategy(mode))
    def holds(case: schemathesis.Case):
        case.call_and_validate()

    holds()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", document()["paths"])
def test_what_is_not_described_is_refused_in_the_form_that_is(url: str, path: str, method: str):
    reply = httpx.request(method, url + path.format(id="ann", sku="pan"), content=b"{}")
    if method == "HEAD":  # a GET without its body
        assert reply.status_code < 500
        return
    assert reply.status_code == 405
    assert "GET" in reply.headers["allow"]
    assert ErrorReply.model_validate_json(reply.content).error.code == "method_not_allowed"


@pytest.mark.parametrize(
    ("path", "parameter", "known"),
    [
        ("/v1/users/{id}/recommendations", "id", SHOPPERS),
        ("/v1/sessions/{id}/recommendations", "id", SHOPPERS),
        ("/v1/items/{sku}/similar", "sku", SKUS),
    ],
)
def test_every_reply_about_what_is_known_is_as_described(api: Any, path: str, parameter: str, known: tuple[str, ...]):
    operation = api[path]["GET"]

    @effort(20)
    @given(case=operation.as_strategy(), name=st.sampled_from(known))
    def holds(case: schemathesis.Case, name: str):
        case.path_parameters[parameter] = name
        case.call_and_validate()

    holds()


def test_every_reply_to_what_is_typed_is_as_described(api: Any):
    operation = api["/v1/search"]["GET"]

    @effort(40)
    @given(case=operation.as_strategy(), query=st.sampled_from(QUERIES), user=st.sampled_from(SHOPPERS))
    def holds(case: schemathesis.Case, query: str, user: str):
        case.query |= {"q": query, "user": user}
        case.call_and_validate()

    holds()


@pytest.mark.parametrize(
    ("beginning", "status"),
    [
        pytest.param(b"GET /v1/search?q=", 431, id="an address without end"),
        pytest.param(b"GET /v1/trending HTTP/1.1\r\nhost: a\r\nx: ", 431, id="a header without end"),
        pytest.param(b"GET /v1/trending HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 9_000 + b"x: ", 431, id="headers without end"),
        # What is not read is refused at once, so the answer may be either.
        pytest.param(b"POST /v1/trending HTTP/1.1\r\nhost: a\r\ncontent-length: 1073741824\r\n\r\n", 405, id="a body of a gigabyte"),
        pytest.param(b"POST /v1/trending HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4000000\r\n", 405, id="a chunk of 64 MB"),
    ],
)
def test_what_never_ends_takes_no_memory_and_nobodys_turn(url: str, beginning: bytes, status: int):
    place = urlsplit(url)
    piece, most, sent, answer = b"a" * 65_536, 48 * 2**20, 0, b""
    before = psutil.Process().memory_info().rss
    with socket.create_connection((place.hostname, place.port), timeout=2) as caller:
        with suppress(OSError):
            # Until the server hangs up, or no longer takes it.
            caller.sendall(beginning)
            while sent < most:
                caller.sendall(piece)
                sent += len(piece)
                most_resident = psutil.Process().memory_info().rss
        with suppress(OSError):
            answer = caller.recv(65_536)
    assert sent < most
    assert most_resident - before < 16 * 2**20
    # A connection that is closed while more comes in is reset, and what was answered may be lost with it.
    assert answer[9:12] in {b"", b"413", b"%d" % status}
    assert httpx.get(f"{url}/v1/trending").status_code == 200


@pytest.mark.parametrize(
    ("request_line", "headers", "body", "status"),
    [
        (b"GET /v1/search?q=" + b"a" * 100_000 + b" HTTP/1.1", b"", b"", 431),
        (b"GET /v1/trending HTTP/1.1", b"x: " + b"a" * 100_000 + b"\r\n", b"", 431),
        (b"GET /v1/trending HTTP/1.1", b"x: " + b"a" * 60_000 + b"\r\n", b"", 200),
        (b"POST /v1/trending HTTP/1.1", b"content-length: 60000\r\n", b"a" * 60_000, 405),
    ],
)
def test_a_request_that_is_too_large_is_told_so(url: str, request_line: bytes, headers: bytes, body: bytes, status: int):
    place, request = urlsplit(url), request_line + b"\r\nhost: a\r\n" + headers + b"\r\n" + body
    with socket.create_connection((place.hostname, place.port), timeout=5) as caller:
        # One byte too many and no more: what a server has not read when it hangs up would cost the answer.
        caller.sendall(request[: REQUEST_BYTES + 1])
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
            piece = caller.recv(65_536)
            assert piece, answer
            answer += piece
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    if status == 431:
        assert ErrorReply.model_validate_json(content).error.code == "request_too_large"
        assert b"connection: close" in head
