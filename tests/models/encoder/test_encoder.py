from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from models.encoder.encoder import TextEncoder
from models.encoder.source import EncoderError, EncoderUnavailableError, locate

TEXTS = ["WHITE HANGING HEART T-LIGHT HOLDER", "mug", "", "Réd mug, 赤いマグ", "a " * 900, "cupid hearts coat hanger. Clothing, Hooks"]


@pytest.fixture(scope="module")
def exact() -> TextEncoder:
    return TextEncoder("minilm", device="cpu", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def default() -> TextEncoder:
    return TextEncoder("minilm", device="cpu", threads=1)


def reference(texts: list[str]) -> np.ndarray:
    """Mean pooling written out for one text at a time, so that no padding or mask is involved."""
    folder = locate("minilm").folder
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for text in texts:
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=256)).last_hidden_state[0].numpy()
        mean = states.sum(axis=0) / len(states)
        rows.append(mean / np.sqrt((mean**2).sum()))
    return np.array(rows)


def test_vectors_are_the_normalised_mean_over_tokens(exact: TextEncoder) -> None:
    texts = [text for text in TEXTS if text]
    np.testing.assert_allclose(exact.encode(texts), reference(texts), atol=1e-5)


def test_known_sentences_lie_as_the_model_card_says(exact: TextEncoder) -> None:
    # sentence-transformers' own numbers for all-MiniLM-L6-v2 on its documentation's three sentences.
    vectors = exact.encode(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    similarity = vectors @ vectors.T
    np.testing.assert_allclose(similarity, [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]], atol=2e-4)


def test_low_precision_stays_close_to_full(exact: TextEncoder, default: TextEncoder) -> None:
    texts = [text for text in TEXTS if text]
    assert (exact.encode(texts) * default.encode(texts)).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("budget", [1, 40, 300, 100_000])
def test_the_composition_of_batches_changes_nothing(exact: TextEncoder, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = TEXTS * 5
    whole = exact.encode(texts)
    monkeypatch.setattr(exact, "_budget", budget)
    np.testing.assert_allclose(exact.encode(texts), whole, atol=1e-4)


def test_rows_come_in_the_order_of_the_texts(default: TextEncoder) -> None:
    vectors = default.encode(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), default.dimensions), np.float32)
    for place, text in enumerate(TEXTS):
        np.testing.assert_allclose(vectors[place], default.encode([text])[0], atol=5e-3)


def test_the_same_texts_give_the_same_bits(default: TextEncoder) -> None:
    assert default.encode(TEXTS).tobytes() == default.encode(TEXTS).tobytes()


def test_rows_have_unit_length_and_blank_texts_are_zeros(default: TextEncoder) -> None:
    vectors = default.encode(["mug", "", " \n\t"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 0], atol=1e-5)
    assert default.encode([]).shape == (0, default.dimensions)


def test_out_of_memory_halves_the_batches_until_they_fit(exact: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"mug number {place}" for place in range(40)]
    whole = exact.encode(texts)
    forward, sizes = exact._forward, []

    def limited(tokens: list[list[int]]) -> np.ndarray:
        sizes.append(len(tokens))
        if len(tokens) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(tokens)

    monkeypatch.setattr(exact, "_budget", 2048)
    monkeypatch.setattr(exact, "_forward", limited)
    np.testing.assert_allclose(exact.encode(texts), whole, atol=1e-4)
    assert sizes[:4] == [40, 20, 10, 5]
    assert sum(size for size in sizes if size <= 6) == 40

    monkeypatch.setattr(exact, "_forward", lambda tokens: limited(tokens * 7))
    with pytest.raises(EncoderError, match="does not fit"):
        exact.encode(["mug"])


def test_a_copied_folder_is_the_same_encoder_but_for_its_name(tmp_path: Path) -> None:
    here = locate("minilm")
    copy = tmp_path / "house-model"
    shutil.copytree(here.folder, copy)
    assert locate(str(copy)).version == here.version.replace("minilm@", "house-model@")
    config = json.loads((copy / "sentence_bert_config.json").read_text())
    (copy / "sentence_bert_config.json").write_text(json.dumps({**config, "max_seq_length": 8}))
    short = TextEncoder(str(copy), device="cpu", precision="fp32", threads=1)
    assert short.version != here.version.replace("minilm@", "house-model@"), "another length limit makes other vectors"
    vectors = short.encode(["one two three four five six seven", "one two three four five six eight nine"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5, err_msg="the limit of 8 tokens cuts both after six words")


def test_cls_pooling_is_used_where_the_model_asks_for_it(tmp_path: Path, exact: TextEncoder) -> None:
    copy = tmp_path / "cls-model"
    shutil.copytree(locate("minilm").folder, copy)
    (copy / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
    encoder = TextEncoder(str(copy), device="cpu", precision="fp32", threads=1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(copy)
    with torch.inference_mode():
        first = exact._model(**tokenizer("red mug", return_tensors="pt")).last_hidden_state[0, 0].numpy()
    np.testing.assert_allclose(encoder.encode(["red mug"])[0], first / np.linalg.norm(first), atol=1e-5)


def damaged(tmp_path: Path, damage: str) -> str:
    if damage == "absent":
        return str(tmp_path / "nowhere")
    copy = tmp_path / "model"
    shutil.copytree(locate("minilm").folder, copy)
    if damage == "no config":
        (copy / "config.json").unlink()
    elif damage == "no weights":
        (copy / "model.safetensors").unlink()
    elif damage == "cut weights":
        (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:1_000_000])
    elif damage == "bad config":
        (copy / "config.json").write_text("{")
    elif damage == "too many layers":
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 7}))
    return str(copy)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("absent", "no such folder"),
        ("no config", "no config.json"),
        ("no weights", "no weights"),
        ("cut weights", "cannot be loaded"),
        ("bad config", "config.json cannot be read"),
        ("too many layers", "weights do not fit"),
    ],
)
def test_an_unusable_folder_is_one_clear_error(tmp_path: Path, damage: str, message: str) -> None:
    with pytest.raises(EncoderUnavailableError, match=message) as caught:
        TextEncoder(damaged(tmp_path, damage), device="cpu")
    assert "\n" not in str(caught.value).split(":")[0]


def test_a_hub_model_that_cannot_be_fetched_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderUnavailableError, match="neither a folder here nor to be had from the model hub"):
        locate("nobody-here/no-such-model")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_in_words() -> None:
    with pytest.raises(EncoderUnavailableError, match="sees no GPU"):
        TextEncoder("minilm", device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")
def test_the_gpu_agrees_with_the_cpu(exact: TextEncoder) -> None:
    encoder = TextEncoder("minilm", device="cuda")
    assert encoder.version == exact.version
    texts = [text for text in TEXTS if text]
    assert (exact.encode(texts) * encoder.encode(texts)).sum(axis=1).min() > 0.999
