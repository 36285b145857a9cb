"""Thresholds: the best of all on the images they are chosen on, and honest on those they are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.metrics import multilabel_metrics
from assocformer_hf.evaluation.options import CalibrationOptions
from assocformer_hf.evaluation.thresholds import choose_thresholds, cross_validate_thresholds, missed_goal
from assocformer_hf.option_values import OptionError


def scored(seed: int, images: int = 60, labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Scores on a coarse grid, so that some are equal, and targets that go with them, some of them unknown."""
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 20, (images, labels)) / 20
    targets = (generator.random((images, labels)) < 0.1 + 0.7 * scores).astype(np.int8)
    targets[generator.random((images, labels)) < 0.1] = -1
    targets[:2] = [[1], [0]]
    return scores, targets


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000))
def test_no_threshold_has_a_higher_f1(seed):
    scores, targets = scored(seed)
    thresholds = choose_thresholds(scores, targets, per_label=True, min_positives=1)
    for c, threshold in enumerate(thresholds):
        known = targets[:, c] != -1
        truth, column = targets[known, c], scores[known, c]
        best = max(f1_score(truth, column >= level) for level in np.linspace(0, 1, 41))
        assert f1_score(truth, column >= threshold) == pytest.approx(best)
    common = choose_thresholds(scores, targets)
    best = max(multilabel_metrics(scores, targets, level)["OF1"] for level in np.linspace(0, 1, 41))
    assert multilabel_metrics(scores, targets, common)["OF1"] == pytest.approx(best)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.3, 1))
def test_precision_and_recall_aimed_at_are_reached_at_the_least_cost(seed, value):
    scores, targets = scored(seed, labels=1)
    known = targets[:, 0] != -1
    truth, column = targets[known, 0], scores[known, 0]

    def precision_recall(predicted):
        hits = (predicted & (truth == 1)).sum()
        return hits / max(predicted.sum(), 1), hits / truth.sum()

    every = [precision_recall(column >= level) for level in np.unique(column)]
    precision, recall = precision_recall(column >= choose_thresholds(scores, targets, "precision", value))
    highest = max(p for p, _ in every)
    assert precision >= min(value, highest)
    assert recall == max(r for p, r in every if p >= min(value, highest))
    threshold = choose_thresholds(scores, targets, "recall", value)
    assert precision_recall(column >= threshold)[1] >= value - 1e-12
    assert precision_recall(column > column[column >= threshold].min())[1] < value


def test_a_label_with_few_positives_gets_the_threshold_of_all():
    scores, targets = scored(1)
    targets[2:, 3] = 0
    thresholds = choose_thresholds(scores, targets, per_label=True, min_positives=10)
    assert thresholds[3] == choose_thresholds(scores, targets)
    assert len(set(thresholds.tolist())) > 1


def test_thresholds_gain_where_half_is_wrong_and_labels_differ():
    generator = np.random.default_rng(0)
    targets = (generator.random((600, 3)) < 0.4).astype(np.int8)
    scores = 1 / (1 + np.exp(-(3 * targets - 1.5 + generator.normal(0, 1, targets.shape) + np.array([-3, 0, 3]))))
    common = cross_validate_thresholds(scores, targets)
    own = cross_validate_thresholds(scores, targets, per_label=True)
    for key in ("CF1", "OF1"):
        assert own["chosen"][key] > max(common["chosen"][key], own["baseline"][key]) + 0.1
        assert len(own["fold_gains"][key]) == 5


def test_chance_is_not_taken_for_a_gain():
    """Where scores say nothing, thresholds that follow the images they are chosen on gain nothing on others."""
    generator = np.random.default_rng(0)
    targets = (generator.random((200, 20)) < 0.5).astype(np.int8)
    scores = generator.random(targets.shape)
    fitted = choose_thresholds(scores, targets, "precision", 0.9, per_label=True, min_positives=1)
    held_out = cross_validate_thresholds(scores, targets, goal="precision", value=0.9, per_label=True, min_positives=1)
    assert multilabel_metrics(scores, targets, fitted)["CP"] > 0.8
    assert held_out["chosen"]["OP"] < 0.65


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"goal": "accuracy"}, "goal must be f1, precision or recall; got 'accuracy'"),
        ({"goal": "precision"}, "precision needs a value above 0 and up to 1"),
        ({"goal": "recall", "value": 90}, "recall needs a value above 0 and up to 1, such as 0.9; got 90"),
        ({"value": 0.9}, "f1 takes no value"),
    ],
)
def test_bad_goals_are_named(choice, message):
    with pytest.raises(OptionError, match=message):
        choose_thresholds(*scored(0), **choice)
    with pytest.raises(OptionError, match=message):  # before the images are read
        CalibrationOptions("calibrated", **choice)


def test_images_without_labels_or_too_few_for_the_folds_are_refused():
    scores, targets = scored(0, images=4)
    with pytest.raises(DataError, match="no label is present"):
        choose_thresholds(scores, np.zeros_like(targets))
    with pytest.raises(DataError, match="4 images cannot be divided into 5 folds"):
        cross_validate_thresholds(scores, targets)


def test_neighbours_in_float32_are_told_apart():
    """The middle between them is one of them once it is rounded, as decisions are made in float32."""
    generator = np.random.default_rng(0)
    for low in generator.random(100, dtype=np.float32):
        scores = np.array([[np.nextafter(low, np.float32(1))], [low]])
        targets = np.array([[1], [0]], dtype=np.int8)
        for goal, value in (("precision", 1.0), ("f1", None)):
            metrics = multilabel_metrics(scores, targets, choose_thresholds(scores, targets, goal, value))
            assert metrics["OP"] == metrics["OR"] == 1


def test_a_precision_that_is_not_reached_is_said():
    generator = np.random.default_rng(0)
    scores, targets = generator.random((200, 3)), (generator.random((200, 3)) < 0.3).astype(np.int8)
    targets[:, 0] = scores[:, 0] > 0.7
    one = choose_thresholds(scores[:, 1:], targets[:, 1:], "precision", 0.99)
    said = missed_goal(scores[:, 1:], targets[:, 1:], one, "precision", 0.99, ["b", "c"])
    assert said.startswith("no threshold reaches a precision of 0.99 on these images; the highest is 0.")
    each = choose_thresholds(scores, targets, "precision", 0.95, per_label=True)
    assert missed_goal(scores, targets, each, "precision", 0.95, "abc") == (
        "1 label below a precision of 0.95 on these images: c"
    )
    assert missed_goal(scores[:, :1], targets[:, :1], each[:1], "precision", 0.95, "a") == ""
    never = np.array([each[0], 1.0, 1.0])  # no precision is missed where nothing is predicted
    assert missed_goal(scores, targets, never, "precision", 0.95, "abc") == ""
    recall = choose_thresholds(scores, targets, "recall", 0.99)
    assert missed_goal(scores, targets, recall, "recall", 0.99, "abc") == ""


def test_labels_in_one_fold_alone_are_named_as_such():
    scores, targets = np.linspace(0.1, 0.9, 8)[:, None], np.eye(8, 1, dtype=np.int8)
    with pytest.raises(DataError, match="all images with labels are in one of 5 folds"):
        cross_validate_thresholds(scores, targets)
