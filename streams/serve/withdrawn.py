"""Products that may not be shown any more, taken out of lists that were made before.

A list is made when its shopper acts and read later: meanwhile a product may have been deleted or sold out. Lists are served as the
bytes that were written; only one that names such a product is parsed and written anew.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Final

import orjson

#: The SKUs of a list, escaped as in JSON, without parsing the rest: in each item the position follows the sku.
_LISTED: Final = re.compile(rb'\{"sku":"([^"\\]*+(?:\\.[^"\\]*+)*+)","position":')


def listed_skus(record: bytes) -> list[str]:
    """The SKUs of a record of ``recommendations``, in the order of the list."""
    names = _LISTED.findall(record)
    if not names:
        return []
    joined = b"\n".join(names)
    if b"\\" in joined:
        return orjson.loads(b'["' + b'","'.join(names) + b'"]')  # type: ignore[no-any-return]
    return joined.decode().split("\n")  # a JSON string holds no newline as such


def without_withdrawn(record: bytes, withdrawn: AbstractSet[str]) -> bytes:
    """``record`` itself if none of its items is ``withdrawn``; else the record without them, positions counted anew."""
    if withdrawn.isdisjoint(listed_skus(record)):
        return record
    document = orjson.loads(record)
    kept = [item for item in document["items"] if item["sku"] not in withdrawn]
    for position, item in enumerate(kept, start=1):
        item["position"] = position
    document["items"] = kept
    if not kept:
        document["policy"] = "empty"
        document["reason"] = "every product of this list has been withdrawn since it was made"
    return orjson.dumps(document)
