"""What can go wrong with a local broker.

::

    BrokerError
    ├── KafkaUnavailable     Apache Kafka cannot run here
    │   ├── JavaMissing      no java
    │   └── MavenMissing     no KAFKA_HOME, nothing in the cache, and no mvn to fetch it with
    └── BrokerStartError     it was started and did not come up
"""

from __future__ import annotations


class BrokerError(RuntimeError):
    """A local broker could not do what was asked."""


class KafkaUnavailable(BrokerError):
    """Apache Kafka cannot run on this machine as it is; the message says what to install."""


class JavaMissing(KafkaUnavailable):
    """No Java on the path and no JAVA_HOME."""


class MavenMissing(KafkaUnavailable):
    """Kafka's jars are not here and there is no Maven to fetch them with."""


class BrokerStartError(BrokerError):
    """The broker process ended, or did not answer in time; the message carries the end of its log."""
