"""JSON documents that are nearly right: valid ones whose fields were dropped, sent twice, retyped or spelled as nobody should."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson
from hypothesis import strategies as st

# What a field may hold instead of what belongs there, as it stands in the document.
_SHAPES = (
    b"null", b"true", b"false", b"{}", b"[]", b"[null]", b'{"a":{"b":[1,2,{}]}}', b"",
    # Within, at and beyond the depth that a parser which recurses would stand.
    b"[" * 150 + b"]" * 150, b"[" * 198 + b"]" * 198, b'{"a":' * 250 + b"1" + b"}" * 250, b"[" * 5_000, b"[" * 100_000 + b"]" * 100_000,
)  # fmt: skip
_NUMBERS = (
    b"0", b"-0", b"1", b"-1", b"2.0", b"1e2", b"1E400", b"-1e400", b"5e-324", b"1000", b"1001", b"1000000", b"1000001", b"01",
    b"1.", b".5", b"+1",
    b"2147483648", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"1" * 400, b"1" * 5_000,
    b"0." + b"1" * 5_000,
    b"NaN", b"Infinity", b"-Infinity", b"nan", b"1_000", "\u0661\u0662".encode(),
)  # fmt: skip
_TEXTS = (
    b'""', b'" "', b'"\\u0000"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\xed\xa0\x80"', b'"\xff"', b'"\n"',
    b'"\\x41"', b'"open',
    '"\u202e\u0000"'.encode(), '"\ufeff"'.encode(), '"\u00e9e\u0301"'.encode(), b'"session:u"', b'"a\\nsession:u"',
    b'"' + b"x" * 129 + b'"',
    b'"' + b"x" * 257 + b'"', b'"' + "\U0001f6d2".encode() * 128 + b'"', b'"' + b"x" * 20_001 + b'"', b'"' + b"\\u0041" * 20_000 + b'"',
    b'"GBP"', b'"gbp"', b'"XQZ"', '"\u0130TL"'.encode(),
)  # fmt: skip
_TYPES = (
    b'"click"', b'"login"', b'"browse"', b'"purchase"', b'"Click"', b'"1.0"', b'"1.9"', b'"2.0"', b'"1.0\\n"', b'"1"',
    '"1.\u0662"'.encode(), b'"01.0"',
)  # fmt: skip
_AMOUNTS = (
    b'"12.50"', b'"-12.50"', b'"-0.00"', b'"1E2"', b'"1e-7"', b'"NaN"', b'"Infinity"', b'"1_000"', b'"+1"', b'"1,5"', b'".5"',
    b'"5."', b'"0x10"',
    '"\u0661\u0662"'.encode(), b'"100000000"', b'"100000000.000001"', b'"999999999999999.999999"', b'"1000000000000000"', b'"1.0000000"',
    b'"' + b"0" * 10_000 + b'1"', b'"' + b"9" * 10_000 + b'"', b'"1\\n"',
)  # fmt: skip
_TIMES = (
    b'"2023-11-14T10:00:00Z"', b'"2023-11-14T10:00:00.123456789+14:00"', b'"2023-11-14t10:00:00z"', b'"1699956000"', b'"1.6e9"',
    b"1699956000",
    b'"2023-11-14 10:00:00Z"', b'"2023-11-14T10:00Z"', b'"2023-11-14T10:00:00"', b'"2023-11-14"', b'"2023-11-14T10:00:00+0000"',
    '"2023-11-14T10:00:00\u221201:00"'.encode(), b'"2023-11-14T10:00:60Z"', b'"2023-11-14T24:00:00Z"', b'"2023-02-30T10:00:00Z"',
    b'"2023-11-14T10:00:00+24:00"', b'"2023-11-14T10:00:00-00:00"', b'"0000-01-01T00:00:00Z"', b'"9999-12-31T23:59:59Z"',
    b'"1970-01-01T00:00:00Z"',
    b'"2000-01-01T00:00:00+00:01"', b'"2099-12-31T23:59:59.999999Z"', b'"2100-01-01T00:00:00Z"', b'"2023-11-14T10:00:00.Z"',
    b'"10000-01-01T00:00:00Z"',
    b'"2023-11-14T10:00:00.' + b"1" * 40 + b'Z"', b'"2023-11-14T10:00:00Z\\n"',
)  # fmt: skip

_PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
_JSON = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
).map(lambda value: json.dumps(value).encode())
#: Bytes in place of a value, one kind as often as another.
WILD: st.SearchStrategy[bytes] = st.one_of(
    *(st.sampled_from(kind) for kind in (_SHAPES, _NUMBERS, _TEXTS, _TYPES, _AMOUNTS, _TIMES)), st.binary(max_size=8), _JSON
)
_ALMOST_TIMES = st.from_regex(
    r"\A2023[-.]?[01][0-9]-[0-3][0-9][Tt _]?[0-2][0-9]:?[0-6][0-9](:[0-6][0-9])?([.,][0-9]{0,12})?(Z|z|[+\u2212-][0-2][0-9]:?[0-6][0-9])?\Z"
).map(lambda text: json.dumps(text, ensure_ascii=False).encode())
_ALMOST_AMOUNTS = st.from_regex(r"\A[-+ ]?[0-9]{0,17}[._,]?[0-9]{0,8}([eE]2)?\Z").map(lambda text: json.dumps(text).encode())
_IS_TIME = re.compile(rb'"[0-9]{4}-[0-9]{2}-[0-9]{2}T')
_IS_DECIMAL = re.compile(rb'"-?[0-9]+(\.[0-9]+)?"')


def _in_place_of(raw: bytes) -> st.SearchStrategy[bytes]:
    """What is nearly as good as ``raw``, since what is nothing like it is seldom taken; and anything."""
    if _IS_TIME.match(raw):
        return st.one_of(st.sampled_from(_TIMES), _ALMOST_TIMES, WILD)
    if _IS_DECIMAL.fullmatch(raw):
        return st.one_of(st.sampled_from(_AMOUNTS + _TYPES), _ALMOST_AMOUNTS, WILD)
    if raw.startswith(b'"'):
        return st.one_of(st.sampled_from(_TEXTS + _TYPES), WILD)
    return st.one_of(st.sampled_from(_NUMBERS), WILD) if raw else WILD


@dataclass(slots=True)
class _Node:
    """A value of a document: an object's members or an array's elements (``names`` empty), or the bytes of a scalar."""

    names: list[bytes] | None = None
    values: list[_Node] | None = None
    raw: bytes = b""


def _node(value: Any) -> _Node:
    if isinstance(value, dict):
        return _Node([orjson.dumps(name) for name in value], [_node(inner) for inner in value.values()])
    if isinstance(value, list):
        return _Node(None, [_node(inner) for inner in value])
    return _Node(raw=orjson.dumps(value))


def _written(node: _Node) -> bytes:
    if node.values is None:
        return node.raw
    inner = [_written(value) for value in node.values]
    if node.names is None:
        return b"[" + b",".join(inner) + b"]"
    return b"{" + b",".join(name + b":" + value for name, value in zip(node.names, inner, strict=True)) + b"}"


def _containers(node: _Node) -> list[_Node]:
    if node.values is None:
        return []
    return [node, *(found for value in node.values for found in _containers(value))]


@st.composite
def mutated(draw: st.DrawFn, documents: st.SearchStrategy[bytes], *, at_most: int = 4, spoil_bytes: bool = True) -> bytes:
    """One of ``documents`` (JSON objects), valid or not, after up to ``at_most`` mutations; with ``spoil_bytes``, of its bytes too."""
    root = _node(orjson.loads(draw(documents)))
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, at_most)))):
        container = draw(st.sampled_from(_containers(root)))
        values = container.values
        assert values is not None
        what = draw(st.sampled_from(("replace", "replace", "drop", "repeat", "add", "rename")))
        if what == "add" or not values:
            values.insert(draw(st.integers(0, len(values))), _Node(raw=draw(WILD)))
            if container.names is not None:
                container.names.insert(0, draw(st.sampled_from((b'"more"', b'""', b'"\\ud800"', b"1", b'"__class__"'))))
            continue
        place = draw(st.integers(0, len(values) - 1))
        if what == "drop":
            del values[place]
            if container.names is not None:
                del container.names[place]
        elif what == "repeat":
            values.append(_Node(raw=draw(WILD)) if draw(st.booleans()) else values[place])
            if container.names is not None:
                container.names.append(container.names[place])
        elif what == "rename" and container.names is not None:
            container.names[place] = draw(st.sampled_from((b'"TYPE"', b'"user_id"', b'"sku"', b'"more"', b'"\\u0074ype"', b"null")))
        else:
            values[place] = _Node(raw=draw(_in_place_of(values[place].raw)))
    written = _written(root)
    if spoil_bytes and draw(st.integers(0, 4)) == 0:
        written = draw(_spoilt(written))
    return written


@st.composite
def _spoilt(draw: st.DrawFn, written: bytes) -> bytes:
    how = draw(st.sampled_from(("cut", "insert", "before", "after", "utf-16", "noise")))
    at = draw(st.integers(0, len(written)))
    if how == "cut":
        return written[:at]
    if how == "insert":
        return written[:at] + draw(st.binary(min_size=1, max_size=4)) + written[at:]
    if how == "before":
        return draw(st.sampled_from((b"\xef\xbb\xbf", b" \t\r\n", b"\x00", b"\x0c", b"[", b"//\n"))) + written
    if how == "after":
        return written + draw(st.sampled_from((b" \n", b"\x00", b"}", b",", b"{}", b"\xff")))
    if how == "utf-16":
        return written.decode("utf-8", "replace").encode("utf-16")
    return draw(st.binary(max_size=200))


def bombs(valid: bytes) -> dict[str, bytes]:
    """``valid``, an object in bytes, made a megabyte long in the ways that cost careless parsers most."""
    head = valid[:-1]
    return {
        "arrays": head + b',"x":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
        "open arrays": b"[" * 1_000_000,
        "objects": head + b',"x":' + b'{"a":' * 160_000 + b"1" + b"}" * 160_000 + b"}",
        "digits": head + b',"x":' + b"9" * 1_000_000 + b"}",
        "fraction": head + b',"x":0.' + b"9" * 1_000_000 + b"}",
        "exponent": head + b',"x":1e' + b"9" * 1_000_000 + b"}",
        "amount": head + b',"unit_price":"' + b"9" * 1_000_000 + b'"}',
        "zeros": head + b',"unit_price":"' + b"0" * 1_000_000 + b'1"}',
        "time": head + b',"occurred_at":"2023-11-14T10:00:00.' + b"1" * 1_000_000 + b'Z"}',
        "version": head + b',"schema_version":"' + b"1" * 1_000_000 + b'.0"}',
        "text": head + b',"event_id":"' + b"x" * 1_000_000 + b'"}',
        "unread text": head + b',"x":"' + b"x" * 1_000_000 + b'"}',
        "escapes": head + b',"channel":"' + b"\\u0041" * 170_000 + b'"}',
        "type": head + b',"type":"' + b"x" * 1_000_000 + b'"}',
        "members": head + b"," + b",".join(b'"%d":0' % n for n in range(100_000)) + b"}",
        "the same member": head + b',"x":1' * 160_000 + b"}",
        "elements": head + b',"x":[' + b"0," * 499_000 + b"0]}",
        "not a number": head + b',"x":[' + b"NaN," * 249_000 + b"NaN]}",
        "blanks": b" " * 1_000_000 + valid,
        "zero bytes": b"\x00" * 1_000_000,
    }
