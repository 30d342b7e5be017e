"""What can stop a worker, with the exit code that says so to a supervisor."""

from __future__ import annotations

EXIT_CONFIG = 2
EXIT_BROKER = 3
EXIT_DATA_DIR = 4
EXIT_CRASHED = 5
EXIT_TOPICS = 6


class RuntimeFault(Exception):
    """Base of all: ``exit_code`` is what the process ends with; the message tells the operator what mends it."""

    exit_code = EXIT_CRASHED


class BrokerUnreachable(RuntimeFault):
    """No broker answered."""

    exit_code = EXIT_BROKER


class TopicsWrong(RuntimeFault):
    """A topic is missing or has the wrong number of partitions."""

    exit_code = EXIT_TOPICS


class SourceRecreated(RuntimeFault):
    """The position marker speaks of records that the source topic does not have: it was deleted and created again."""

    exit_code = EXIT_TOPICS


class SourceTruncated(SourceRecreated):
    """It does so although it is the same topic: a broker went down before the newest records were on its disk."""


class ResetUnfinished(RuntimeFault):
    """A reset of this state began and did not end: only a part of it is left, beside outputs of which some are emptied."""

    exit_code = EXIT_TOPICS


class AddressTaken(RuntimeFault):
    """A host and port cannot be listened on."""

    exit_code = EXIT_CONFIG


class RulesWrong(RuntimeFault):
    """The file of business rules cannot be read or is not valid."""

    exit_code = EXIT_CONFIG


class RankingWrong(RuntimeFault):
    """The trained ranker or the weights of the sources cannot be used."""

    exit_code = EXIT_CONFIG


class ValuationWrong(RuntimeFault):
    """A file that says what purchases earn, or what data costs, cannot be used; or workers value by different neighbours."""

    exit_code = EXIT_CONFIG


class DataDirTaken(RuntimeFault):
    """Another process works in this data dir."""

    exit_code = EXIT_DATA_DIR


class StoreDamaged(RuntimeFault):
    """RocksDB cannot use a partition's files: disk full, read-only, no permission."""

    exit_code = EXIT_DATA_DIR


class StoreCorrupt(StoreDamaged):
    """RocksDB found its files damaged; the next start sets them aside and rebuilds them, so a restart mends it."""

    exit_code = EXIT_CRASHED


class StoreFailed(StoreDamaged):
    """RocksDB gave up, and not for the disk: no memory, or a lock that another process is about to let go. A restart may mend it."""

    exit_code = EXIT_CRASHED


class ProducerFailed(RuntimeFault):
    """A transaction failed for a reason other than a new owner: what was sent is aborted, nothing was acknowledged."""


class Fenced(RuntimeFault):
    """A new owner opened the partition: whatever was in flight here never happened."""


class BroadcastFailed(RuntimeFault):
    """A broadcast topic could not be read, so in-memory indexes would silently go stale."""


class RecordsLost(RuntimeFault):
    """Records arrived that do not connect to the ones before them."""


class OutOfMemory(RuntimeFault):
    """There is no memory for one record after the other, each alone."""


class OutOfFiles(RuntimeFault):
    """RocksDB may open no more files: a restart helps where others have taken partitions over, a higher ``ulimit -n`` always."""


class Stuck(RuntimeFault):
    """There was lag and no commit for longer than ``watchdog_s``."""
