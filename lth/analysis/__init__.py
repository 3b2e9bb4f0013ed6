"""Statistics over seeds: intervals, summaries per level and arm, and comparisons paired by seed."""

from lth.analysis.intervals import Interval, bootstrap_interval, mean_interval
from lth.analysis.paired import PairedDifference, PairedRatio, paired_difference, paired_log_ratio
from lth.analysis.summary import SUMMARY_SCHEMA, ordered_arms, seed_means, single_experiment, summarise

__all__ = [
    "SUMMARY_SCHEMA",
    "Interval",
    "PairedDifference",
    "PairedRatio",
    "bootstrap_interval",
    "mean_interval",
    "ordered_arms",
    "paired_difference",
    "paired_log_ratio",
    "seed_means",
    "single_experiment",
    "summarise",
]
