"""The BERT encoder on product texts: texts and tokens a second by device and precision, beside a plain loop of padded batches.

assay bench encoder [--events TEXTS]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from models.encoder.encoder import Device, Precision, TextEncoder
from models.encoder.source import locate
from models.encoder.text import product_text
from models.simulation.catalogue import generate_catalogue
from tests.benchmarks.report import Report, medians

TEXTS = 1_000
#: What sentence-transformers encodes at once by default.
PLAIN_BATCH = 32


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """``cosine_min``: the worst agreement with fp32 on the CPU. The plain loop takes texts as they come, padded to its longest."""

    system: str
    device: str
    precision: str
    threads: int
    texts: int
    texts_per_second: float
    tokens_per_second: float
    cosine_min: float


def run(*, repetitions: int = 1, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Every precision of every device here on ``events`` texts (default 1,000), medians of ``repetitions``."""
    del bootstrap_servers  # no broker is involved
    texts = product_texts(events or TEXTS)
    rows = [asdict(row) for _ in range(repetitions) for row in measure(texts)]
    remark = f"MiniLM; texts of {np.mean([len(text.split()) for text in texts]):.0f} words on average; 1 CPU thread"
    return Report("encoder", medians(rows, ("system", "device", "precision")), (remark,))


def product_texts(count: int) -> list[str]:
    """Texts of the simulated storefront: a title, a brand, a category and a sentence or two."""
    return [product_text(product) for product in generate_catalogue(np.random.default_rng(0), count).products]


def measure(texts: Sequence[str], threads: int = 1) -> list[EncoderRow]:
    """One row for each system, device and precision."""
    devices: list[tuple[Device, tuple[Precision, ...]]] = [("cpu", ("fp32", "bf16"))]
    if torch.cuda.is_available():
        devices.append(("cuda", ("fp32", "fp16", "bf16")))
    reference = TextEncoder("minilm", "cpu", "fp32", threads)
    tokens = sum(len(row) for row in reference._tokenizer(list(texts), truncation=True, max_length=256)["input_ids"])
    exact, seconds = _timed(reference.encode, texts)
    rows = [EncoderRow("assay", "cpu", "fp32", threads, len(texts), len(texts) / seconds, tokens / seconds, 1.0)]
    for device, precisions in devices:
        for precision in precisions:
            if (device, precision) == ("cpu", "fp32"):
                continue
            vectors, seconds = _timed(TextEncoder("minilm", device, precision, threads).encode, texts)
            agreement = float((vectors * exact).sum(axis=1).min())
            rows.append(EncoderRow("assay", device, precision, threads, len(texts), len(texts) / seconds, tokens / seconds, agreement))
    vectors, seconds = _timed(_plain_loop(), texts)
    agreement = float((vectors * exact).sum(axis=1).min())
    rows.append(EncoderRow("plain loop", "cpu", "fp32", threads, len(texts), len(texts) / seconds, tokens / seconds, agreement))
    return rows


def _timed(encode: Callable[[Sequence[str]], NDArray[np.float32]], texts: Sequence[str]) -> tuple[NDArray[np.float32], float]:
    encode(texts[:64])
    started = time.perf_counter()
    vectors = encode(texts)
    return vectors, time.perf_counter() - started


def _plain_loop() -> Callable[[Sequence[str]], NDArray[np.float32]]:
    folder = locate("minilm").folder
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = []
        for start in range(0, len(texts), PLAIN_BATCH):
            tokens = tokenizer(list(texts[start : start + PLAIN_BATCH]), padding=True, truncation=True, max_length=256, return_tensors="pt")
            with torch.inference_mode():
                states = model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None]
            rows.append(torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1).numpy())
        return np.concatenate(rows)

    return encode
