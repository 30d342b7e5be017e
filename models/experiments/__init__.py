"""Randomised experiments on users: who is in which arm, what the difference is, and when it may be believed.

Read in this order: ``assignment`` (arm of a user), ``exposures`` (what each user saw and did), ``sample_ratio`` (whether the split
holds), ``effects`` (differences with intervals), ``sequential`` (intervals that may be looked at at any time), ``report``.
"""

from models.experiments.assignment import Experiment
from models.experiments.effects import (
    AdjustedEffect,
    ArmMoments,
    Effect,
    IncrementalMargin,
    cuped,
    cuped_of,
    difference_of_means,
    difference_of_ratios,
    incremental_margin,
)
from models.experiments.exposures import ArmUsers, ExposureLog, FirstExposure, UserRecord
from models.experiments.report import METRICS, Comparison, Metric, MetricResult, compare
from models.experiments.sample_ratio import SampleRatio, sample_ratio
from models.experiments.sequential import ConfidenceSequence

__all__ = [
    "METRICS",
    "AdjustedEffect",
    "ArmMoments",
    "ArmUsers",
    "Comparison",
    "ConfidenceSequence",
    "Effect",
    "Experiment",
    "ExposureLog",
    "FirstExposure",
    "IncrementalMargin",
    "Metric",
    "MetricResult",
    "SampleRatio",
    "UserRecord",
    "compare",
    "cuped",
    "cuped_of",
    "difference_of_means",
    "difference_of_ratios",
    "incremental_margin",
    "sample_ratio",
]
