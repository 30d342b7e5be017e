"""Decodes each of ``documents.bombs`` in a child of this process; prints what came of it, in how long, and by how much memory grew at most.

A process of its own for each, because a peak hides all smaller ones that come after it.
"""

from __future__ import annotations

import json
import os
import resource
import time

import psutil

from schemas.decoding import InvalidRecord, decode_event
from tests.fuzz.documents import bombs

VALID = (
    b'{"event_id":"e","type":"purchase","user_id":"u","sku":"a","channel":"web","occurred_at":"2023-11-14T10:00:00Z",'
    b'"unit_price":"1.50","currency":"GBP","order_id":"o"}'
)


def judged(value: bytes) -> dict[str, object]:
    """What decoding ``value`` comes to, the seconds that it takes, and by how many MB this process, which has done nothing else, grows."""
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    try:
        decode_event(b"u", value, received_ms=0, max_bytes=2 * len(value))
        code = "accepted"
    except InvalidRecord as refused:
        code = refused.code
    seconds, most = time.perf_counter() - started, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"code": code, "seconds": seconds, "grown_mb": (most - before) / 2**20}


def alone(value: bytes) -> dict[str, object]:
    """The same in a child. Raises ``EOFError`` if it died of it."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.write(theirs, json.dumps(judged(value)).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    if not said:
        raise EOFError("the decoder died")
    found: dict[str, object] = json.loads(said)
    return found


def main() -> None:
    """See the module."""
    decode_event(b"u", VALID, received_ms=0)  # what is loaded at the first call is no part of any
    print(json.dumps({name: alone(value) for name, value in bombs(VALID).items()}))


if __name__ == "__main__":
    main()
