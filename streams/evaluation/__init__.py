"""Protocols that judge the worker's own code on a log: the recommend processor in this process, fed as a worker is."""
