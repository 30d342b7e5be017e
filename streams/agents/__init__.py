"""The roles: each module builds the ``Task`` of one, a processor that decodes, calls ``models`` and emits."""
