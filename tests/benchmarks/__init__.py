"""Benchmarks: run by `assay bench NAME`; every figure stands beside a peer or a baseline measured in the same run."""
