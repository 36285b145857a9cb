"""Comparisons of the heads of `benchmarks.photographs`, seed by seed."""

from collections.abc import Mapping

import numpy as np
from scipy.stats import ttest_rel

from benchmarks.photographs_runs import Results
from benchmarks.tables import NOT_RUN, mean_and_error

Runs = Mapping[tuple[str, int], Results]
BASELINE = "logistic"


def scores(results: Runs, arm: str, size: int, key: str = "test") -> np.ndarray | None:
    """mAP by seed; None for an arm that is missing or not complete."""
    result = results.get((arm, size))
    runs = None if result is None else result.finished
    return None if runs is None else np.array([run[key] for run in runs])


def paired(
    results: Runs, arm: str, reference: str, size: int, key: str = "test"
) -> tuple[np.ndarray, np.ndarray] | None:
    """mAP of two arms on the seeds that both have; None where one is not complete."""
    pair = scores(results, arm, size, key), scores(results, reference, size)
    if any(values is None for values in pair):
        return None
    seeds = min(map(len, pair))
    return pair[0][:seeds], pair[1][:seeds]


def difference(results: Runs, arm: str, reference: str, size: int, key: str = "test") -> str:
    """Mean and standard error of the differences, seed by seed; of the arm another value than its mAP with `key`."""
    pair = paired(results, arm, reference, size, key)
    return NOT_RUN if pair is None else mean_and_error(pair[0] - pair[1], "+")


def p_value(results: Runs, arm: str, reference: str, size: int) -> float | None:
    """Of the paired t-test."""
    pair = paired(results, arm, reference, size)
    return None if pair is None else float(ttest_rel(*pair).pvalue)
