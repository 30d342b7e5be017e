"""``python -m streams.cli`` is ``assay``."""

from streams.cli import main

main()
