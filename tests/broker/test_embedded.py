from __future__ import annotations

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from streams.broker import BrokerStartError, EmbeddedBroker


def test_should_have_topics_with_four_partitions_once_touched():
    with EmbeddedBroker(["a"]) as broker:
        broker.touch(["b"])
        found = AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=5).topics
        assert {name: len(topic.partitions) for name, topic in found.items()} == {"a": 4, "b": 4}


def test_should_carry_transactions_from_producer_to_consumer(embedded: str):
    producer = Producer({"bootstrap.servers": embedded, "transactional.id": "t"})
    producer.init_transactions(10)
    for word, keep in (("lost", False), ("kept", True)):
        producer.begin_transaction()
        producer.produce("words", value=word, partition=0)
        (producer.commit_transaction if keep else producer.abort_transaction)(10)
    consumer = Consumer({"bootstrap.servers": embedded, "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.subscribe(["words"])
    message = consumer.poll(20)
    consumer.close()
    assert message is not None
    assert message.value() == b"kept"


def test_should_be_apart_from_another_one():
    with EmbeddedBroker(["mine"]) as one, EmbeddedBroker() as other:
        assert one.bootstrap_servers != other.bootstrap_servers
        assert AdminClient({"bootstrap.servers": other.bootstrap_servers}).list_topics(timeout=5).topics == {}


def test_should_not_be_touched_once_closed():
    broker = EmbeddedBroker()
    broker.close()
    with pytest.raises(BrokerStartError, match="closed"):
        broker.touch(["a"])
