"""Calibration: a scaling that is found again, an error as others measure it, and models that carry it."""

import copy

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.calibration import calibration_curve

from assocformer_hf import AssocFormerForMultiLabel
from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.calibration import (
    Scaling,
    apply_scaling,
    fit_scaling,
    held_out_scale,
    is_no_better_than_chance,
    log_loss,
    reliability,
)
from assocformer_hf.interpretation.reliability_diagram import reliability_figure
from tests.conftest import images


@pytest.fixture(scope="module")
def overconfident() -> tuple[np.ndarray, np.ndarray]:
    """Scores whose logits are 2.5 times what they should be, and 1 higher, in float32 as models give them."""
    generator = np.random.default_rng(0)
    logits = generator.normal(-1, 1.5, (2000, 5))
    targets = (generator.random(logits.shape) < expit(logits)).astype(np.int8)
    return expit(2.5 * logits + 1).astype(np.float32), targets


def test_the_scaling_is_found_again_and_lowers_error_and_loss(overconfident):
    scores, targets = overconfident
    found = fit_scaling(scores, targets)
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert found.offset == pytest.approx(-1 / 2.5, abs=0.05)
    scaled = held_out_scale(scores, targets)
    assert reliability(scaled, targets).error < 0.02 < 0.1 < reliability(scores, targets).error
    assert log_loss(scaled, targets).mean() < log_loss(scores, targets).mean() - 0.05


def test_labels_that_are_unknown_do_not_count(overconfident):
    scores, targets = overconfident
    some, half = targets.copy(), len(targets) // 2
    some[half:] = -1
    assert fit_scaling(scores, some).temperature == pytest.approx(
        fit_scaling(scores[:half], targets[:half]).temperature, rel=1e-4
    )


@pytest.mark.parametrize("factor", [0.005, 1.0, 300.0])
def test_logits_of_any_size_are_scaled_alike(overconfident, factor):
    _, targets = overconfident
    logits = np.random.default_rng(1).normal(-0.02, 0.01, targets.shape) + 0.02 * targets
    found = fit_scaling(expit(factor * logits), targets)
    assert found.temperature == pytest.approx(factor * fit_scaling(expit(logits), targets).temperature, rel=1e-3)


def test_scores_that_are_no_numbers_and_folds_without_a_label_are_named(overconfident):
    scores, targets = overconfident
    broken = scores.copy()
    broken[3, 1] = np.nan
    with pytest.raises(DataError, match="scores that are no numbers"):
        fit_scaling(broken, targets)
    few = np.zeros((10, 1), dtype=np.int8)
    few[4] = 1
    spread = np.linspace(0.1, 0.9, 10)[:, None]
    fit_scaling(spread, few)
    with pytest.raises(DataError, match="too few images for the cross-validation: .* or calibrate with --no_scaling"):
        held_out_scale(spread, few)


def test_reliability_is_that_of_scikit_learn_and_leaves_unknown_labels_out(overconfident):
    scores, targets = overconfident
    targets = targets.copy()
    targets[:50] = -1
    found = reliability(scores, targets, bins=10)
    frequency, score = calibration_curve(targets[50:].ravel(), scores[50:].ravel(), n_bins=10)
    np.testing.assert_allclose(found.frequency, frequency)
    np.testing.assert_allclose(found.score, score, rtol=1e-6)
    assert found.count.sum() == targets[50:].size
    assert np.isnan(log_loss(scores, targets)[:50]).all()


def test_the_diagram_has_room_above_the_largest_count(overconfident):
    scores, targets = overconfident
    states = {"before": reliability(scores, targets), "scaled": reliability(held_out_scale(scores, targets), targets)}
    counts = reliability_figure(states).axes[1]
    most = max(state.count.max() for state in states.values())
    assert counts.transAxes.inverted().transform(counts.transData.transform((0, most)))[1] < 0.95


def test_scores_of_zero_and_one_have_a_finite_loss():
    loss = log_loss(np.array([[1.0, 0.0]], dtype=np.float32), np.array([[0, 1]]))
    assert 10 < loss[0] < 100
    with pytest.raises(DataError, match="labels that are present and labels that are absent"):
        fit_scaling(np.array([[0.2]]), np.array([[1]]))


def test_images_that_the_model_separates_have_no_scaling(overconfident):
    scores, targets = overconfident
    with pytest.raises(DataError, match="no scaling is the best for these images: the model makes no mistake"):
        fit_scaling(np.where(targets == 1, 0.6, 0.4), targets)


def test_scores_that_say_nothing_are_known(overconfident):
    generator = np.random.default_rng(0)
    scores = 1 / (1 + np.exp(-(generator.normal(size=(200, 10)) + 0.5)))
    targets = (generator.random((200, 10)) < 0.3).astype(int)
    targets[0] = -1
    assert is_no_better_than_chance(fit_scaling(scores, targets)(scores), targets)
    # That some labels are frequent, and score high on all images, says nothing of these images.
    often = np.linspace(0.05, 0.6, 10)
    scores = expit(np.log(often / (1 - often)) + generator.normal(size=(200, 10)))
    targets = (generator.random((200, 10)) < often).astype(int)
    assert is_no_better_than_chance(fit_scaling(scores, targets)(scores), targets)
    # Labels that come together in the same images as the scores' faults do are no evidence of their own.
    scores = expit(np.repeat(generator.normal(size=(200, 1)), 10, axis=1))
    targets = np.repeat(generator.random((200, 1)) < 0.3, 10, axis=1).astype(int)
    assert is_no_better_than_chance(scores, targets)
    scores, targets = overconfident
    assert is_no_better_than_chance(fit_scaling(1 - scores, targets)(1 - scores), targets)  # the wrong way round
    assert not is_no_better_than_chance(fit_scaling(scores, targets)(scores), targets)


def test_scores_that_say_a_little_are_not_called_chance():
    """Much noise within each label, which the label's mean has none of, and a weak signal."""
    generator = np.random.default_rng(1)
    often = np.linspace(0.05, 0.6, 20)
    targets = (generator.random((2000, 20)) < often).astype(int)
    targets[generator.random(targets.shape) < 0.2] = -1
    noise = np.log(often / (1 - often)) + generator.normal(size=targets.shape)
    assert is_no_better_than_chance(expit(noise), targets)
    assert not is_no_better_than_chance(expit(noise + 0.3 * (targets == 1)), targets)
    assert not is_no_better_than_chance(expit(100 * (targets == 1) - 50.0), targets)


@pytest.mark.parametrize(
    ("fusion", "pooling"),
    [
        ("equal", "mean"),
        ("equal", "attention"),
        ("association", "mean"),
        ("learnable", "mean"),
        ("linear", "attention"),
    ],
)
def test_a_model_carries_its_scaling_in_its_weights(create_model, tmp_path, fusion, pooling):
    config = {"threshold": 0.3, "label_thresholds": [0.2, 0.4, 0.5, 0.9]}
    model = create_model(fusion=fusion, pooling=pooling, **config).double()
    pixel_values = images(3).double()
    with torch.no_grad():
        before = model(pixel_values)
        predicted = before.logits.sigmoid().numpy() >= np.array(model.config.label_thresholds)
    cooler, scaling = copy.deepcopy(model), Scaling(0.4, -0.7)
    apply_scaling(cooler, scaling)
    with torch.no_grad():
        after = cooler(pixel_values)
    torch.testing.assert_close(after.logits, before.logits / 0.4 - 0.7, rtol=1e-12, atol=1e-12)
    assert ((after.logits.sigmoid().numpy() >= np.array(cooler.config.label_thresholds)) == predicted).all()
    assert cooler.config.threshold == pytest.approx(scaling(0.3))
    twice = copy.deepcopy(cooler)
    apply_scaling(twice, Scaling(2.0, 0.1))
    with torch.no_grad():
        torch.testing.assert_close(twice(pixel_values).logits, after.logits / 2 + 0.1, rtol=1e-12, atol=1e-12)
    if pooling == "attention":
        evidence = cooler.explain_places(pixel_values)
        torch.testing.assert_close(evidence, model.explain_places(pixel_values) / 0.4, rtol=1e-12, atol=1e-12)
    if fusion != "linear":
        contributions = cooler.explain(pixel_values)
        torch.testing.assert_close(contributions, model.explain(pixel_values) / 0.4, rtol=1e-12, atol=1e-12)
        bias = cooler.head.association.readout.bias
        part = cooler.head.fusion_weights[0] * (after.association_logits - bias)
        torch.testing.assert_close(contributions.sum(-1), part, rtol=0, atol=1e-10)
    cooler.float().save_pretrained(tmp_path)
    loaded = AssocFormerForMultiLabel.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(pixel_values.float()).logits, after.logits.float(), rtol=1e-4, atol=1e-5)
    assert loaded.config.label_thresholds == cooler.config.label_thresholds
