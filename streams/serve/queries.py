"""Queries to vectors, beside the event loop: remembered, and encoded together where several wait."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from models.encoder.encoder import Encoder
from models.index.base import Float32
from streams.serve.metrics import QUERIES

logger = logging.getLogger(__name__)

#: Queries remembered, those asked for longest ago forgotten first: 6 MB at 384 dimensions.
REMEMBERED: Final = 4_096
_Waiting = tuple[str, Future[Float32]]


class QueryEncoder:
    """One thread that encodes. ``vector`` is for one thread too (the event loop): what is remembered needs no lock."""

    def __init__(self, encoder: Encoder, remembered: int = REMEMBERED) -> None:
        self.version = encoder.version
        self._encoder = encoder
        self._remembered = remembered
        self._known: OrderedDict[str, Future[Float32]] = OrderedDict()
        self._waiting: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="serve-encoder")

    def vector(self, query: str) -> Future[Float32]:
        """The float32[d] unit vector of a normalised query, which need not be there yet; its exception is what the encoder raised.

        The same query asked again while it waits is the same future, and never cancelled.
        """
        known = self._known.get(query)
        if known is not None and not (known.done() and known.exception()):
            self._known.move_to_end(query)
            QUERIES.labels("remembered").inc()
            return known
        vector: Future[Float32] = Future()
        vector.set_running_or_notify_cancel()  # from here on cancel() has no effect: others may wait for it as well
        self._known[query] = vector
        self._known.move_to_end(query)
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)
        self._waiting.append((query, vector))
        self._thread.submit(self._encode_waiting)
        QUERIES.labels("encoded").inc()
        return vector

    def stop(self) -> None:
        """Encode what waits and end the thread."""
        self._thread.shutdown(wait=True)

    def _encode_waiting(self) -> None:
        """All that wait by now, in one call; whoever was submitted for one of them finds nothing left to do."""
        self._encode([self._waiting.popleft() for _ in range(len(self._waiting))])

    def _encode(self, batch: Sequence[_Waiting]) -> None:
        if not batch:
            return
        try:
            vectors = self._encoder.encode([query for query, _ in batch])
        except Exception as error:  # whoever reads the future meets it
            if len(batch) == 1:
                logger.error("the encoder failed on a query: %s: %s", type(error).__name__, error)
                batch[0][1].set_exception(error)
                return
            for waiting in batch:
                self._encode([waiting])
            return
        for (_, future), vector in zip(batch, vectors, strict=True):
            future.set_result(vector)
