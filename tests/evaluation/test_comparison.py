"""Two models on the same images."""

from dataclasses import replace

import numpy as np
import pytest

from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.bootstrap import bootstrap_metrics
from assocformer_hf.evaluation.comparison import compare
from assocformer_hf.evaluation.evaluator import Evaluation
from assocformer_hf.evaluation.metrics import multilabel_metrics

NAMES = ["a", "b", "c"]


def evaluation(scores, targets) -> Evaluation:
    metrics = multilabel_metrics(scores, targets)
    return Evaluation(metrics, scores, targets, np.arange(len(scores)), [], None, None, None)


@pytest.fixture(scope="module")
def pair():
    """A model, and one whose label `b` is worse."""
    generator = np.random.default_rng(0)
    targets = (generator.random((300, 3)) < 0.3).astype(np.int8)
    scores = 1 / (1 + np.exp(2 - 4 * targets + generator.normal(0, 1.5, targets.shape)))
    worse = scores.copy()
    worse[:, 1] = generator.random(300)
    return evaluation(scores, targets), evaluation(worse, targets)


def test_a_difference_is_found_where_there_is_one_and_nowhere_else(pair):
    one, other = pair
    found = compare(one, other, NAMES, 0.5, 0.5)
    rows = {row["label"]: row for row in found.labels}
    assert rows["b"]["low"] > 0.1
    assert rows["a"]["difference"] == rows["a"]["low"] == rows["a"]["high"] == 0
    overall = next(row for row in found.metrics if row["metric"] == "mAP")
    assert overall["difference"] == pytest.approx(one.metrics["mAP"] - other.metrics["mAP"])
    assert overall["low"] <= overall["difference"] <= overall["high"]
    for row in found.images:
        assert {*row["better"], *row["worse"]} == {"b"}
        place = row["index"]
        right = (one.scores[place, 1] >= 0.5) == one.targets[place, 1]
        assert row["better"] == (["b"] if right else [])


def test_paired_intervals_are_narrower_than_those_of_unpaired_draws(pair):
    one, _ = pair
    noisy = np.clip(one.scores + np.random.default_rng(1).normal(0, 0.01, one.scores.shape), 0, 1)
    paired = bootstrap_metrics(one.scores, one.targets, compared=(noisy, 0.5))["mAP"]
    alone = bootstrap_metrics(one.scores, one.targets)["mAP"]
    assert np.ptp(paired) < np.ptp(alone) / 3


def test_the_order_of_the_images_does_not_matter_and_other_images_are_refused(pair):
    one, other = pair
    order = np.random.default_rng(0).permutation(300)
    mixed = replace(other, scores=other.scores[order], targets=other.targets[order], indices=other.indices[order])
    assert compare(one, mixed, NAMES, 0.5, 0.5) == compare(one, other, NAMES, 0.5, 0.5)
    with pytest.raises(DataError, match="same images and labels"):
        compare(one, replace(other, indices=other.indices + 1), NAMES, 0.5, 0.5)
