"""All that is specific to Faust, Kafka transactions and RocksDB: one transaction a micro-batch and partition.

Read in this order: ``processor`` and ``task`` (what a role must supply), ``partition`` (open, step, lose), ``store`` and
``overlay`` (state), ``log``, ``changelog``, ``producer`` and ``marker`` (the broker's side of a partition), ``lane`` (what runs
when), ``lanes`` (which partitions are open), ``transport`` and ``faust_app`` (Faust hands over whole batches), ``broadcast``, ``app`` (a
task at work), ``host`` (several in one process), then what keeps it alive: ``watchdog``, ``supervisor``, ``standby``.
"""
