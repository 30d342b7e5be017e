"""Which partition a key belongs to, as the storefront's own producers compute it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Literal

from aiokafka.partitioner import murmur2

Partitioner = Callable[[bytes, int], int]


def murmur2_partition(key: bytes, partitions: int) -> int:
    """Java's default: ``(murmur2(key) & 0x7fffffff) % partitions``."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def crc32_partition(key: bytes, partitions: int) -> int:
    """As librdkafka's ``consistent``: ``crc32(key) % partitions``."""
    return zlib.crc32(key) % partitions


def partitioner(name: Literal["murmur2", "crc32"]) -> Partitioner:
    """The function behind the setting ``partitioner``."""
    return murmur2_partition if name == "murmur2" else crc32_partition
