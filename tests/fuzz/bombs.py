"""Decodes each of ``documents.bombs`` in this process; prints what came of it, in how long, and by how much memory grew at most.

A process of its own, because the peak of a process that has run other tests says nothing.
"""

from __future__ import annotations

import json
import resource
import time

from schemas.decoding import InvalidRecord, decode_event
from tests.fuzz.documents import bombs

VALID = (
    b'{"event_id":"e","type":"purchase","user_id":"u","sku":"a","channel":"web","occurred_at":"2023-11-14T10:00:00Z",'
    b'"unit_price":"1.50","currency":"GBP","order_id":"o"}'
)


def main() -> None:
    """See the module."""
    outcomes = {}
    for name, value in bombs(VALID).items():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        try:
            decode_event(b"u", value, received_ms=0, max_bytes=2 * len(value))
            code = "accepted"
        except InvalidRecord as refused:
            code = refused.code
        outcomes[name] = {
            "code": code,
            "seconds": time.perf_counter() - started,
            "grown_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        }
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
