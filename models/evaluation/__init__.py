"""Judging lists by protocols that others have published numbers for."""

from models.evaluation.dataset import UNKNOWN, DatasetError, Sequences, SessionDataset, read_dataset
from models.evaluation.judge import SessionResult, judge
from models.evaluation.methods import Method
from models.evaluation.registry import BASELINES, METHODS, Training, create_method

__all__ = [
    "BASELINES",
    "METHODS",
    "UNKNOWN",
    "DatasetError",
    "Method",
    "Sequences",
    "SessionDataset",
    "SessionResult",
    "Training",
    "create_method",
    "judge",
    "read_dataset",
]
