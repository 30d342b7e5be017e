from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from streams.runtime.overlay import Overlay, Pending
from streams.runtime.processor import DictState
from streams.runtime.store import Store

KEYS = [b"a", b"ab", b"abc", b"b", b"c", b"cd"]
writes = st.dictionaries(st.sampled_from(KEYS), st.none() | st.sampled_from([b"1", b"2", b"3"]))


@given(
    stored=writes,
    in_flight=writes,
    pending=writes,
    prefix=st.sampled_from([b"", b"a", b"ab", b"c", b"x"]),
    start=st.sampled_from([b"", b"a", b"abb", b"cd", b"z"]),
)
def test_an_overlay_reads_like_a_dict_to_which_its_layers_were_applied(
    tmp_path_factory: object,
    stored: dict[bytes, bytes | None],
    in_flight: dict[bytes, bytes | None],
    pending: dict[bytes, bytes | None],
    prefix: bytes,
    start: bytes,
) -> None:
    path: Path = tmp_path_factory.mktemp("overlay") / "0"  # type: ignore[attr-defined]
    store = Store(path)
    store.write(stored.items(), 1, 0)
    overlay = Overlay(store)
    overlay.in_flight = Pending(writes=in_flight)
    overlay.pending = Pending(writes=pending)
    model = DictState()
    for layer in (stored, in_flight, pending):
        model.apply(layer)
    assert overlay.get_many(KEYS) == model.get_many(KEYS)
    assert list(overlay.scan(prefix, start)) == list(model.scan(prefix, start))
    store.close()
