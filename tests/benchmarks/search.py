"""Product search and what it costs the reads beside it: 10,000 products, server on one core, load on the rest.

Reads of users' lists go at 500 requests/s on a schedule, from a server without ``--search``, from one with it that nobody searches, and
beside searches at a steady rate: each query new to the server (it is encoded), and queries that it remembers. Then new products are
published, and searches tell how soon they are found by word and, after their vector, by meaning.
"""

from __future__ import annotations

import multiprocessing
import random
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from itertools import cycle, product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import psutil
from confluent_kafka import Producer

from models.catalog.vectors import pack
from models.encoder.text import product_text
from models.simulation.catalogue import Catalogue, generate_catalogue
from models.simulation.vocabulary import CATEGORIES, STYLES
from schemas.catalog import Embedding, Product
from schemas.recommendation import CausedBy, Reason, Recommendations, RecommendedItem, Versions
from schemas.topics import CATALOG, EMBEDDINGS, RECOMMENDATIONS
from streams.broker.node import free_port
from streams.settings import Settings
from streams.topics import TopicAdmin
from tests.benchmarks.load import percentiles
from tests.benchmarks.measure import broker, cpu_seconds, preload, python_module
from tests.benchmarks.report import Report, medians
from tests.benchmarks.serve import list_paths, listening, paced, settle

if TYPE_CHECKING:  # the searching process starts sooner without torch
    from models.encoder.encoder import Encoder

_USERS = 20_000
#: Of one load; loads take turns, so that what else the machine does falls on all of them alike.
_SECONDS = 5.0
_TURNS = 4
_SEARCHES = 20.0
_NEW_A_TURN = int(_SEARCHES * _SECONDS)
#: Texts that are really encoded; the vectors of the others lie beside one of these. Encoding all would take minutes.
_ENCODED = 600
_NEW_PRODUCTS = 20
_PATIENCE_S = 60.0


def vectors_of(catalogue: Catalogue, encoder: Encoder) -> np.ndarray:
    """float32[n, d] unit vectors: of ``_ENCODED`` products their own, of the others one of those, of the same category, and noise."""
    step = _ENCODED - _ENCODED % len(CATEGORIES)
    own = encoder.encode([product_text(item) for item in catalogue.products[:step]])
    noise = np.random.default_rng(7).normal(scale=0.3 / np.sqrt(encoder.dimensions), size=(len(catalogue), encoder.dimensions))
    noise[: len(own)] = 0.0
    near = own[np.arange(len(catalogue)) % len(own)] + noise
    return np.asarray(near / np.linalg.norm(near, axis=1, keepdims=True), dtype=np.float32)


def embedding(sku: str, vector: np.ndarray, encoder: Encoder) -> bytes:
    """A record of ``catalog.embeddings``."""
    return Embedding(sku=sku, encoder=encoder.version, dimensions=len(vector), vector=pack(vector), text_hash="-").to_json()


def lists(catalogue: Catalogue) -> Iterator[tuple[bytes, bytes]]:
    """A personal list of 20 products for each user."""
    draw = random.Random(7)
    made = datetime(2026, 3, 1, tzinfo=UTC)
    cause = CausedBy(topic="storefront.events", partition=0, first_offset=0, last_offset=0, events=1)
    for number in range(_USERS):
        chosen = draw.sample(catalogue.products, 20)
        items = tuple(
            RecommendedItem(
                sku=item.sku, position=place, score=round(1 - place / 40, 6), explanation=f"Because you viewed {item.title}",
                reasons=(Reason(source="similar", score=round(1 - place / 40, 6), because=item.sku),),
            )
            for place, item in enumerate(chosen, start=1)
        )  # fmt: skip
        record = Recommendations(
            recommendation_id=f"r-{number}", user_id=f"user-{number}", generated_at=made, policy="personal", items=items, caused_by=cause,
            versions=Versions(encoder="minilm", model="blend", index=1),
        )  # fmt: skip
        yield f"user-{number}".encode(), record.to_json()


def queries() -> list[str]:
    """Some thousands of different queries of two to five words, in random order."""
    nouns = [noun for words in CATEGORIES for noun, _ in words.goods]
    found = [f"{colour} {noun}" for style, noun in product(STYLES, nouns) for colour in style.colours]
    found += [f"{adjective} {noun}" for style, noun in product(STYLES, nouns) for adjective in style.adjectives]
    distinct = sorted(set(found))
    random.Random(7).shuffle(distinct)
    return distinct


def search_paths(typed: Iterator[str]) -> Iterator[str]:
    """Searches by users who each have a list."""
    draw = random.Random(11)
    for query in typed:
        yield f"/v1/search?q={urllib.parse.quote(query)}&user=user-{draw.randrange(_USERS)}"


class Searching:
    """A process that searches at ``_SEARCHES`` a second, so that its answers do not hold up the reads' sender."""

    def __init__(self, port: int, typed: list[str], *, again: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_search, args=(port, typed, again, theirs), daemon=True)
        self._process.start()
        self._pipe.recv()

    def finish(self) -> dict[str, object]:
        """Their latencies."""
        found: dict[str, object] = self._pipe.recv()
        self._process.join(10)
        return found


def _search(port: int, typed: list[str], again: bool, pipe: Connection) -> None:
    if again:
        paced(port, search_paths(iter(typed)), rate=_SEARCHES, seconds=len(typed) / _SEARCHES)
    pipe.send(None)
    pipe.send(paced(port, search_paths(cycle(typed) if again else iter(typed)), rate=_SEARCHES, seconds=_SECONDS))


class Server:
    """One start of ``assay serve``, measured."""

    def __init__(self, process: psutil.Process, port: int, system: str, size: int) -> None:
        self._process, self._port, self._system, self._size = process, port, system, size

    def row(self, job: str, load: str, found: dict[str, object], used: float) -> dict[str, object]:
        """A result row."""
        rate = found.get("requests_per_second", 0.0)
        values = {name: found[name] for name in ("p50", "p90", "p99", "samples", "max")}
        memory = round(self._process.memory_info().rss / 1e6)
        common: dict[str, object] = {"system": self._system, "job": job, "load": load, "unit": "ms", "requests_per_second": rate}
        return common | values | {"server_cores": round(used, 2), "resident_mb": memory, "products": self._size}

    def beside(self, load: str, searching: Callable[[], Searching] | None) -> list[dict[str, object]]:
        """Reads at their steady rate, and searches beside them."""
        searches = None if searching is None else searching()
        before, began = cpu_seconds(self._process), time.monotonic()
        reads = paced(self._port, list_paths(_USERS), seconds=_SECONDS)
        used = (cpu_seconds(self._process) - before) / (time.monotonic() - began)
        rows = [self.row("GET a user's list", load, reads, used)]
        return rows if searches is None else [*rows, self.row("GET /v1/search", load, searches.finish(), used)]


def freshness(server: Server, port: int, settings: Settings, encoder: Encoder, round_: str) -> list[dict[str, object]]:
    """Seconds from the record of a new product, and then of its vector, until a search finds it by word, and by meaning."""
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers, "linger.ms": 0})
    producer.list_topics(settings.topic(CATALOG.name), timeout=_PATIENCE_S)  # connects: that is not what is measured
    found: dict[str, list[float]] = {"lexical": [], "semantic": []}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_PATIENCE_S) as client:
        for number in range(_NEW_PRODUCTS):
            word = f"zq{round_}{number}"
            new = Product(sku=f"NEW-{word}", title=f"Garden gnome {word}")
            vector = encoder.encode([product_text(new)])[0]
            parts = (("lexical", CATALOG, new.to_json()), ("semantic", EMBEDDINGS, embedding(new.sku, vector, encoder)))
            for part, topic, value in parts:
                producer.produce(settings.topic(topic.name), value, new.sku.encode())
                if producer.flush(_PATIENCE_S):
                    raise RuntimeError(f"the broker did not take {new.sku} within {_PATIENCE_S:.0f} s")
                found[part].append(_until(client, f"garden gnome {word}", new.sku, part))
    return [server.row(f"new record -> found ({part})", "idle", dict(percentiles(seconds)), 0.0) for part, seconds in found.items()]


def _until(client: httpx.Client, query: str, sku: str, part: str) -> float:
    began = time.perf_counter()
    while time.perf_counter() < began + _PATIENCE_S:
        items = client.get("/v1/search", params={"q": query, "limit": 100}).raise_for_status().json()["items"]
        if any(item["sku"] == sku and part in {share["source"] for share in item["shares"]} for item in items):
            return time.perf_counter() - began
    raise RuntimeError(f"{sku} was not found by {part} within {_PATIENCE_S:.0f} s")


def run(*, repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Measure; ``events`` is the number of products (default 10,000)."""
    size = events or 10_000
    rows: list[dict[str, object]] = []
    with ExitStack() as stack:
        bootstrap, folder = stack.enter_context(broker(bootstrap_servers))
        settings = _stock(bootstrap)
        from models.encoder.encoder import TextEncoder

        encoder = TextEncoder("minilm", "cpu", threads=1)
        catalogue = generate_catalogue(np.random.default_rng(7), size)
        preload(bootstrap, settings.topic(CATALOG.name), [(item.sku.encode(), item.to_json()) for item in catalogue.products])
        pairs = zip(catalogue.products, vectors_of(catalogue, encoder), strict=True)
        preload(
            bootstrap,
            settings.topic(EMBEDDINGS.name),
            [(item.sku.encode(), embedding(item.sku, vector, encoder)) for item, vector in pairs],
        )
        preload(bootstrap, settings.topic(RECOMMENDATIONS.name), lists(catalogue))
        typed = queries()
        for repetition in range(repetitions):
            rows += _measure_plain(settings, folder, size)
            rows += _measure_search(settings, folder, size, typed, encoder, f"{uuid.uuid4().hex[:4]}x{repetition}x")
    merged = medians(rows, ("system", "job", "load"))
    return Report("search", merged, _remarks(merged, size))


def _stock(bootstrap: str) -> Settings:
    name = f"search{uuid.uuid4().hex[:6]}"
    settings = Settings(bootstrap_servers=bootstrap, topic_prefix=f"{name}.", app_id=name)
    TopicAdmin(settings).create()
    return settings


def _command(settings: Settings, folder: Path, port: int, *more: str) -> list[str]:
    reach = ["--bootstrap-servers", settings.bootstrap_servers, "--topic-prefix", settings.topic_prefix, "--app-id", settings.app_id]
    return python_module(
        "streams.cli", "serve", *reach, "--data-dir", str(folder / settings.app_id), "--port", str(port), "--threads", "1", *more
    )


def _measure_plain(settings: Settings, folder: Path, size: int) -> list[dict[str, object]]:
    port = free_port()
    with listening(_command(settings, folder, port), folder / "plain.log", f"http://127.0.0.1:{port}/readyz") as process:
        settle(process)
        server = Server(process, port, "serve", size)
        return [row for _ in range(_TURNS) for row in server.beside("reads alone", None)]


def _measure_search(
    settings: Settings, folder: Path, size: int, typed: list[str], encoder: Encoder, round_: str
) -> list[dict[str, object]]:
    port = free_port()
    rows: list[dict[str, object]] = []
    with listening(_command(settings, folder, port, "--search"), folder / "search.log", f"http://127.0.0.1:{port}/readyz") as process:
        settle(process)
        server = Server(process, port, "serve --search", size)
        for turn in range(_TURNS):
            new = typed[turn * _NEW_A_TURN : (turn + 1) * _NEW_A_TURN]
            rows += server.beside("reads alone", None)
            rows += server.beside(f"beside {_SEARCHES:.0f} new searches/s", partial(Searching, port, new, again=False))
            rows += server.beside(f"beside {_SEARCHES:.0f} remembered searches/s", partial(Searching, port, typed[-50:], again=True))
        rows += freshness(server, port, settings, encoder, round_)
    return rows


def _remarks(rows: list[dict[str, object]], size: int) -> list[str]:
    reads = [row for row in rows if row["job"] == "GET a user's list"]
    p90 = ", ".join(f"{row['system']} {row['load']} {float(str(row['p90'])):.2f} ms" for row in reads)
    return [
        f"p90 of 500 reads/s: {p90}",
        f"{size:,} products, {_USERS:,} users with a list of 20; server on one core with one thread, load and broker on the rest",
        f"vectors: {_ENCODED} texts encoded, the others beside one of those; a new query is one that the server has not seen",
    ]
