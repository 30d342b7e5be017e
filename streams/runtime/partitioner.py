"""Which partition a key belongs to, as the storefront's own producers compute it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from aiokafka.partitioner import murmur2

Partitioner = Callable[[bytes, int], int]

#: The setting ``partitioner`` -> librdkafka's name for it: Java's default, and its own. A record without a key goes to any partition.
LIBRDKAFKA: Final = {"murmur2": "murmur2_random", "crc32": "consistent_random"}


def murmur2_partition(key: bytes, partitions: int) -> int:
    """Java's default: ``(murmur2(key) & 0x7fffffff) % partitions``."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def crc32_partition(key: bytes, partitions: int) -> int:
    """As librdkafka's ``consistent``: ``crc32(key) % partitions``."""
    return zlib.crc32(key) % partitions
