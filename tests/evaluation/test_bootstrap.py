"""Confidence intervals: the metrics themselves on resampled images, and as wide as the truth varies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assocformer_hf.evaluation.bootstrap import bootstrap_metrics, weighted_metrics
from assocformer_hf.evaluation.metrics import multilabel_metrics


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_weights_count_as_copies(seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 8, (12, 3)) / 8
    targets = generator.integers(-1, 2, (12, 3))
    weights = generator.integers(0, 3, (2, 12))
    if any((np.repeat(targets, row, axis=0) == 1).sum() == 0 for row in weights):
        return
    found = weighted_metrics(scores, targets, weights, 0.5)
    for i, row in enumerate(weights):
        expected = multilabel_metrics(np.repeat(scores, row, axis=0), np.repeat(targets, row, axis=0), 0.5)
        for key in ("mAP", "CP", "CR", "CF1", "OP", "OR", "OF1"):
            assert found[key][i] == pytest.approx(expected[key], abs=1e-12)
        per_label = np.array(expected["per_label_AP"], dtype=float)
        np.testing.assert_allclose(found["per_label_AP"][i], per_label, atol=1e-12)


def test_intervals_hold_the_measured_value_and_are_as_wide_as_other_samples_vary():
    def sample(seed: int, images: int = 400) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        targets = (generator.random((images, 6)) < [0.01, 0.05, 0.1, 0.2, 0.3, 0.4]).astype(np.int8)
        targets[0] = 1
        return 1 / (1 + np.exp(-(2 * targets - 1 + generator.normal(0, 1.2, targets.shape)))), targets

    measured = [multilabel_metrics(*sample(seed)) for seed in range(60)]
    intervals = bootstrap_metrics(*sample(0), resamples=300)
    for key in ("mAP", "CF1", "OF1"):
        low, high = intervals[key]
        assert low <= measured[0][key] <= high
        spread = np.std([one[key] for one in measured])
        assert 0.5 < (high - low) / (2 * 1.96 * spread) < 1.8
    assert intervals["per_label_AP"].shape == (6, 2)
    widths = intervals["per_label_AP"][:, 1] - intervals["per_label_AP"][:, 0]
    assert widths[1] > 2 * widths[5]


def test_labels_without_positives_have_no_interval():
    scores, targets = np.random.default_rng(0).random((30, 2)), np.zeros((30, 2), dtype=np.int8)
    targets[:9, 0] = 1
    intervals = bootstrap_metrics(scores, targets, resamples=20)
    assert np.isnan(intervals["per_label_AP"][1]).all()
    assert not np.isnan(intervals["per_label_AP"][0]).any()


@pytest.mark.parametrize("other", [np.full((30, 2), np.nan), np.full((30, 1), 0.5), np.full((30, 2), 3.0)])
def test_scores_of_the_other_model_are_checked_too(other):
    scores, targets = np.random.default_rng(0).random((30, 2)), np.ones((30, 2), np.int8)
    with pytest.raises(ValueError, match="scores"):
        bootstrap_metrics(scores, targets, resamples=5, compared=(other, 0.5))


def test_differences_of_noise_alone_are_no_differences():
    """Where two models differ in a few pairs, most of the drawn sets hold none of them."""
    scores = np.linspace(0.99, 0.01, 100, dtype=np.float32)[:, None]
    targets = np.zeros((100, 1), np.int8)
    targets[:50:2] = targets[50::7] = 1
    swapped = scores.copy()
    swapped[[40, 41]] = scores[[41, 40]]
    low, high = bootstrap_metrics(scores, targets, compared=(swapped, 0.5))["mAP"]
    assert low <= 0 < high
    found = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        targets = (generator.random((50, 5)) < 0.3).astype(np.int8)
        targets[0] = 1
        logits = 2 * targets + generator.normal(0, 1.5, targets.shape)
        one, other = (1 / (1 + np.exp(-logits - generator.normal(0, 0.01, logits.shape))) for _ in range(2))
        low, high = bootstrap_metrics(one, targets, resamples=200, compared=(other, 0.5))["mAP"]
        found += not low <= 0 <= high
    assert found <= 6  # of 60, one in twenty is due to chance
