"""Text to unit vectors with a BERT encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, Protocol

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from models.encoder.source import EncoderError, EncoderUnavailableError, locate

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

#: Padded tokens in one forward pass: small batches stay in a CPU's cache, a GPU wants to be filled. [benchmarks/encoder_throughput.py]
TOKEN_BUDGET: Final[dict[str, int]] = {"cpu": 2_048, "cuda": 65_536}
_DTYPES: Final[dict[str, Any]] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Weights that mean pooling does without; a model saved without them is whole.
_UNUSED_WEIGHTS: Final = "pooler."


class Encoder(Protocol):
    """What the embed worker needs of an encoder."""

    version: str
    dimensions: int

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n, d] unit rows in the order of ``texts``; zeros for a blank text. Raises ``EncoderError``."""
        ...


class TextEncoder:
    """A transformers encoder, pooled over the tokens that the mask lets through and L2-normalised.

    ``source``: ``minilm``, a folder, or a hub's name (``models.encoder.source``). ``version`` is ``name@hash``; the hash covers
    weights, tokenizer, pooling and length limit. ``precision`` auto is bf16 wherever the hardware multiplies it natively and
    fp32 elsewhere: on an AVX512-BF16 core bf16 embeds three times as many texts a second, at a cosine of 0.9999 to fp32
    [tests/benchmarks/encoder_throughput.py], finer than the half floats that vectors travel in. A batch's composition may move
    a component by 1e-4 in fp32, 5e-3 in bf16.

    Mean pooling: Reimers and Gurevych, Sentence-BERT, 2019, section 3.
    """

    def __init__(self, source: str = "minilm", device: Device = "auto", precision: Precision = "auto", threads: int | None = None) -> None:
        found = locate(source)
        self.version = found.version
        self.device = _resolve_device(device)
        self.precision: str = _resolve_precision(self.device) if precision == "auto" else precision
        self._pooling = found.pooling
        self._budget = TOKEN_BUDGET[self.device]
        self._max_tokens = found.max_tokens
        if threads is not None:
            torch.set_num_threads(threads)
        bars = transformers.utils.logging.is_progress_bar_enabled()
        transformers.utils.logging.disable_progress_bar()
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(found.folder, local_files_only=True)
            model, report = transformers.AutoModel.from_pretrained(
                found.folder, local_files_only=True, dtype=_DTYPES[self.precision], output_loading_info=True
            )
            self._model: Any = model.to(self.device).eval()
        except Exception as error:  # transformers, safetensors, tokenizers and torch each raise their own
            raise EncoderUnavailableError(f"encoder folder {found.folder} cannot be loaded: {type(error).__name__}: {error}") from error
        finally:
            if bars:
                transformers.utils.logging.enable_progress_bar()
        missing = sorted(name for name in report["missing_keys"] if _UNUSED_WEIGHTS not in name)
        if missing or report["mismatched_keys"]:
            raise EncoderUnavailableError(
                f"encoder folder {found.folder}: the weights do not fit config.json "
                f"({len(missing)} missing, such as {missing[:2]}; {len(report['mismatched_keys'])} of another shape)"
            )
        self.dimensions: int = int(self._model.config.hidden_size)
        self._padding: int = self._tokenizer.pad_token_id or 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Encoder.encode``. Texts beyond the model's length limit are cut. Out of GPU memory, it goes on with smaller batches."""
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        spoken = [place for place, text in enumerate(texts) if text.strip()]
        if not spoken:
            return vectors
        tokens: list[list[int]] = self._tokenizer(
            [texts[place] for place in spoken], truncation=True, max_length=self._max_tokens, return_attention_mask=False
        )["input_ids"]
        order = sorted(range(len(tokens)), key=lambda place: -len(tokens[place]))
        done = 0
        while done < len(order):
            chunk = order[done : done + self._fitting(tokens, order, done)]
            try:
                vectors[[spoken[place] for place in chunk]] = self._forward([tokens[place] for place in chunk])
            except torch.OutOfMemoryError as error:
                if len(chunk) == 1:
                    raise EncoderError(f"a text of {len(tokens[chunk[0]])} tokens does not fit {self.device}'s memory: {error}") from error
                torch.cuda.empty_cache()
                self._budget = max(1, len(chunk) * len(tokens[chunk[0]]) // 2)
                continue
            done += len(chunk)
        return vectors

    def _fitting(self, tokens: Sequence[Sequence[int]], order: Sequence[int], start: int) -> int:
        """How many texts, longest first, fit the token budget once padded to the longest; at least one."""
        return max(1, self._budget // len(tokens[order[start]]))

    def _forward(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
        padded = np.full((len(tokens), int(lengths.max())), self._padding, dtype=np.int64)
        mask = np.arange(padded.shape[1]) < lengths[:, None]
        padded[mask] = np.fromiter(_flat(tokens), dtype=np.int64, count=int(lengths.sum()))
        with torch.inference_mode():
            attention = torch.from_numpy(mask).to(self.device)
            ids = torch.from_numpy(padded).to(self.device)
            states = self._model(input_ids=ids, attention_mask=attention.long()).last_hidden_state.float()
            pooled = states[:, 0] if self._pooling == "cls" else (states * attention[..., None]).sum(1) / attention.sum(1, keepdim=True)
            unit = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        if not np.isfinite(unit).all():
            raise EncoderError(f"encoder {self.version} gave a NaN or an infinity in {self.precision}; set another precision")
        return unit  # type: ignore[no-any-return]


def _flat(tokens: Sequence[Sequence[int]]) -> Iterator[int]:
    for row in tokens:
        yield from row


def _resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    if device == "cuda" and not torch.cuda.is_available():
        raise EncoderUnavailableError("device=cuda, but PyTorch sees no GPU: install PyTorch's CUDA build, or set device=cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _resolve_precision(device: str) -> Precision:
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"
