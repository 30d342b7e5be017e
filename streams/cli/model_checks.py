"""The checks of ``assay doctor`` that load torch, transformers and FAISS."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterator

import faiss
import numpy as np
import torch

from models.encoder.encoder import TextEncoder
from models.encoder.source import EncoderError
from models.index.base import VectorIndexError
from models.index.factory import create_index
from streams.cli.checks import Finding
from streams.settings import Settings

_SAMPLE = ("Blue stoneware mug, dishwasher safe", "A ceramic cup in navy", "Steel garden rake with an ash handle")
_INDEXED = 2_000


def gpu(settings: Settings) -> Iterator[Finding]:
    """Which GPU there is, and whether PyTorch and FAISS were built to use it."""
    builds = [name for name in ("faiss-cpu", "faiss-gpu") if _version(name)]
    found = f"PyTorch {torch.__version__}, {' and '.join(f'{name} {_version(name)}' for name in builds)}"
    if len(builds) > 1:
        yield Finding(
            "GPU", "fail", f"{found}: the two FAISS builds overwrite each other", "pip uninstall -y faiss-cpu faiss-gpu, then install one"
        )
        return
    seen = torch.cuda.is_available()
    if settings.device == "cuda" and not seen:
        mend = "install the driver and PyTorch's CUDA build (`make install TORCH=default`), or set --device cpu"
        yield Finding("GPU", "fail", f"device is cuda, but PyTorch sees no GPU ({found})", mend)
    elif not seen:
        yield Finding("GPU", "ok", f"none; encoder and index run on the CPU ({found})")
    elif settings.device != "cpu" and faiss.get_num_gpus() == 0:
        mend = "in the environment: pip uninstall -y faiss-cpu && pip install faiss-gpu"
        yield Finding("GPU", "warn", f"{torch.cuda.get_device_name(0)}, but FAISS is the CPU build ({found})", mend)
    else:
        yield Finding("GPU", "ok", f"{torch.cuda.get_device_name(0)} ({found})")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def encoder(settings: Settings) -> Iterator[Finding]:
    """The encoder loads, and texts that mean the same are nearer than texts that do not."""
    try:
        started = time.perf_counter()
        model = TextEncoder(settings.encoder, settings.device, threads=settings.threads)
        loaded = time.perf_counter()
        vectors = model.encode(_SAMPLE)
    except EncoderError as error:
        yield Finding("encoder", "fail", str(error), "set --encoder to minilm, a folder with a transformers model, or a hub name")
        return
    found = f"{model.version}, {model.dimensions} dimensions, loaded in {loaded - started:.1f} s on {model.device}"
    if float(vectors[0] @ vectors[1]) > float(vectors[0] @ vectors[2]):
        yield Finding("encoder", "ok", found)
    else:
        mend = "use a sentence encoder (minilm is one); a plain language model gives poor vectors"
        yield Finding("encoder", "warn", f"{found}; but a mug is no nearer to a cup than to a rake", mend)


def index(settings: Settings) -> Iterator[Finding]:
    """The vector index of the configured kind finds what was put into it."""
    vectors = np.random.default_rng(0).standard_normal((_INDEXED, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    try:
        built = create_index(settings.index, 64, settings.device, settings.threads)
    except VectorIndexError as error:
        yield Finding("index", "fail", str(error), "change --index or --device")
        return
    built.upsert(np.arange(_INDEXED, dtype=np.int64), vectors)
    _, ids = built.search(vectors[:100], 1)
    hits = int((ids[:, 0] == np.arange(100)).sum())
    if hits < 95:
        yield Finding(
            "index", "fail", f"index {settings.index} found {hits} of 100 vectors that are in it", "reinstall faiss-cpu (or faiss-gpu)"
        )
    else:
        yield Finding("index", "ok", f"{settings.index} finds what is in it ({hits} of 100)")
