"""Judging lists by protocols that others have published numbers for."""

from models.evaluation.dataset import UNKNOWN, DatasetError, Sequences, SessionDataset, read_dataset
from models.evaluation.judge import SessionResult, judge
from models.evaluation.methods import METHODS, Method, create_method

__all__ = [
    "METHODS",
    "UNKNOWN",
    "DatasetError",
    "Method",
    "Sequences",
    "SessionDataset",
    "SessionResult",
    "create_method",
    "judge",
    "read_dataset",
]
