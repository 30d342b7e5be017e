"""How it runs: the Faust apps and their agents, the exactly-once layer under them, brokers, the read API, the command line."""
