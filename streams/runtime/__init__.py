"""All that is specific to Faust, Kafka transactions and RocksDB: one transaction a micro-batch and partition.

Read in this order: ``processor`` (what a role must supply), ``transport`` (Faust hands over whole batches), ``partition``
(open, step, lose), ``store`` (RocksDB), ``changelog``, ``producer``, ``broadcast``, ``app``, ``watchdog``, ``standby``.
"""
