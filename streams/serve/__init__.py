"""The read API: a replica of what the workers wrote, and HTTP over it.

``start`` runs it beside whatever else the process does; ``assay serve`` is that alone. Read ``server`` first, then ``replica`` (lists
and valuation on disk), ``assortment`` (catalogue, texts and live sessions in memory), ``search`` and
``queries`` (what searches take beside it), ``routes`` and ``openapi``.
"""

from streams.serve.server import RunningServer, start

__all__ = ["RunningServer", "start"]
