"""Brokers that start on this machine: librdkafka's embedded one, and Apache Kafka in KRaft mode."""

from streams.broker.embedded import EmbeddedBroker
from streams.broker.exceptions import BrokerError, BrokerStartError, JavaMissing, KafkaUnavailable, MavenMissing
from streams.broker.kafka import RealKafka

__all__ = ["BrokerError", "BrokerStartError", "EmbeddedBroker", "JavaMissing", "KafkaUnavailable", "MavenMissing", "RealKafka"]
