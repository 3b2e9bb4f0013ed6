"""Statistics over seeds: intervals, summaries per level and arm, and comparisons paired by seed."""

from lth.analysis.equivalence import MarginTest, holm, margin_test
from lth.analysis.intervals import Interval, bootstrap_interval, mean_interval
from lth.analysis.paired import PairedDifference, PairedRatio, paired_difference, paired_log_ratio
from lth.analysis.scores import score_named, single_score
from lth.analysis.sequential import confidence_sequence, e_value, seeds_to_decide, sequential_test
from lth.analysis.starts import SweepStart, starts_of
from lth.analysis.summary import SUMMARY_SCHEMA, ordered_arms, seed_means, single_experiment, summarise
from lth.analysis.verdicts import VERDICTS, first_undecided, matches_down_to, verdicts

__all__ = [
    "SUMMARY_SCHEMA",
    "VERDICTS",
    "Interval",
    "MarginTest",
    "PairedDifference",
    "PairedRatio",
    "SweepStart",
    "bootstrap_interval",
    "confidence_sequence",
    "e_value",
    "first_undecided",
    "holm",
    "margin_test",
    "matches_down_to",
    "mean_interval",
    "ordered_arms",
    "paired_difference",
    "paired_log_ratio",
    "score_named",
    "seed_means",
    "seeds_to_decide",
    "sequential_test",
    "single_experiment",
    "single_score",
    "starts_of",
    "summarise",
    "verdicts",
]
