"""The metrics against scikit-learn and against their definitions."""

import json
import tracemalloc
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from assocformer_hf import multilabel_metrics
from assocformer_hf.evaluation.metrics import average_precision, chance_average_precision


@st.composite
def tables(draw, unknown=False):
    """Scores, most of them tied, and targets with a positive in every label."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    images, labels = draw(st.integers(2, 40)), draw(st.integers(1, 8))
    steps = draw(st.sampled_from([2, 10, 1000]))
    scores = generator.integers(0, steps + 1, (images, labels)) / steps
    targets = (generator.random((images, labels)) < draw(st.sampled_from([0.1, 0.5]))).astype(int)
    if unknown:
        targets[generator.random(targets.shape) < 0.3] = -1
    targets[generator.integers(0, images, labels), np.arange(labels)] = 1
    return scores, targets


@settings(max_examples=100, deadline=None)
@given(tables())
def test_metrics_are_scikit_learns(table):
    scores, targets = table
    metrics, predicted = multilabel_metrics(scores, targets, 0.5), scores >= 0.5
    # Label by label, as scikit-learn takes a single column for the two classes of a binary problem.
    labels = list(zip(targets.T, predicted.T, strict=True))
    expected = {
        "CP": np.mean([precision_score(*label, zero_division=0) for label in labels]),
        "CR": np.mean([recall_score(*label) for label in labels]),
        "OP": precision_score(targets.ravel(), predicted.ravel(), zero_division=0),
        "OR": recall_score(targets.ravel(), predicted.ravel()),
        "OF1": f1_score(targets.ravel(), predicted.ravel()),
        "mAP": average_precision_score(targets, scores, average="macro"),
    }
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-9), name
    each = average_precision_score(targets, scores, average=None)
    np.testing.assert_allclose(metrics["per_label_AP"], np.atleast_1d(each), atol=1e-9)


def test_tensors_of_every_precision_are_taken():
    scores, targets = np.array([[0.5, 0.25], [0.125, 0.75]]), np.array([[1, 0], [0, 1]])
    expected = multilabel_metrics(scores, targets)
    for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        tensor = torch.tensor(scores, dtype=kind, requires_grad=True)
        assert multilabel_metrics(tensor, torch.tensor(targets)) == expected


@settings(max_examples=50, deadline=None)
@given(tables(unknown=True))
def test_unknown_labels_count_nowhere(table):
    scores, targets = table
    ours = average_precision(scores, targets)
    for label in range(scores.shape[1]):
        known = targets[:, label] >= 0
        expected = average_precision_score(targets[known, label], scores[known, label])
        assert ours[label] == pytest.approx(expected, abs=1e-9)
    changed = np.where(targets == -1, 1 - scores, scores)
    before, after = multilabel_metrics(scores, targets), multilabel_metrics(changed, targets)
    for name in ("mAP", "CP", "CR", "CF1", "OP", "OR", "OF1", "chance_mAP"):
        assert before[name] == pytest.approx(after[name], abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(table, random):
    scores, targets = table
    order = random.sample(range(len(scores)), len(scores))
    before, after = multilabel_metrics(scores, targets), multilabel_metrics(scores[order], targets[order])
    assert before["mAP"] == pytest.approx(after["mAP"])
    assert {k: v for k, v in before.items() if k != "per_label_AP"} == pytest.approx(
        {k: v for k, v in after.items() if k != "per_label_AP"}
    )


@settings(max_examples=50, deadline=None)
@given(tables())
def test_eleven_point_average_precision(table):
    scores, targets = table
    for label, value in enumerate(average_precision(scores, targets, interpolation="11point")):
        points = []
        for threshold in np.unique(scores[:, label]):
            chosen = scores[:, label] >= threshold
            hits = targets[chosen, label].sum()
            points.append((hits / targets[:, label].sum(), hits / chosen.sum()))
        best = [max((p for r, p in points if r >= level / 10 - 1e-9), default=0) for level in range(11)]
        assert value == pytest.approx(np.mean(best))


def test_top3_predicts_at_most_three_labels_and_only_above_the_threshold():
    scores = np.array([[0.9, 0.8, 0.7, 0.6, 0.1], [0.9, 0.4, 0.3, 0.2, 0.1]])
    targets = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 1]])
    metrics = multilabel_metrics(scores, targets)
    assert metrics["OP"] == metrics["OP_top3"] == 1
    assert metrics["OR"] == 5 / 7
    assert metrics["OR_top3"] == 4 / 7
    assert metrics["CR_top3"] == pytest.approx((2 / 2 + 1 / 2 + 1 / 1 + 0 + 0) / 5)


def test_every_label_can_have_its_own_threshold():
    scores, targets = np.array([[0.4, 0.4], [0.2, 0.2]]), np.array([[1, 1], [1, 1]])
    assert multilabel_metrics(scores, targets, np.array([0.1, 0.3]))["OR"] == 3 / 4


def test_labels_without_positives_are_left_out_and_counted():
    scores, targets = np.array([[0.9, 0.9], [0.1, 0.8]]), np.array([[1, 0], [0, 0]])
    metrics = multilabel_metrics(scores, targets)
    assert metrics["labels_without_positives"] == 1
    assert metrics["per_label_AP"] == [1.0, None]
    assert metrics["mAP"] == metrics["CP"] == metrics["CR"] == 1
    assert metrics["OP"] == 1 / 3
    assert metrics["chance_mAP"] == 0.75  # the one positive is first or second
    json.dumps(metrics, allow_nan=False)


def test_scores_on_disk_are_read_in_blocks_and_give_the_same_metrics(tmp_path):
    generator = np.random.default_rng(0)
    scores = np.memmap(tmp_path / "scores", np.float32, "w+", shape=(20_000, 1500))
    targets = np.memmap(tmp_path / "targets", np.int8, "w+", shape=scores.shape)
    scores[:] = generator.random(scores.shape, dtype=np.float32)
    targets[:] = generator.random(scores.shape, dtype=np.float32) < 0.01
    tracemalloc.start()
    metrics = multilabel_metrics(scores, targets)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * scores.nbytes
    some = multilabel_metrics(scores[:, :200], targets[:, :200])
    assert metrics["per_label_AP"][:200] == some["per_label_AP"]
    predicted = scores >= 0.5
    assert metrics["OP"] == pytest.approx(targets[predicted].mean(), abs=1e-9)


@pytest.mark.parametrize(("positives", "images"), [(1, 1), (1, 100), (3, 40), (20, 20), (30, 90)])
def test_chance_is_the_mean_of_what_random_scores_get(positives, images):
    generator, rounds = np.random.default_rng(0), 20_000
    targets = np.zeros((images, rounds), dtype=np.int8)
    targets[:positives] = 1
    drawn = average_precision(generator.random(targets.shape), targets)
    expected = multilabel_metrics(np.ones((images, 1)), targets[:, :1])["chance_mAP"]
    assert drawn.mean() == pytest.approx(expected, abs=4 * drawn.std() / rounds**0.5 + 1e-12)


def test_chance_is_exact_where_all_orders_can_be_listed():
    for images in range(1, 7):
        for positives in range(1, images + 1):
            columns = [[int(i in chosen) for i in range(images)] for chosen in combinations(range(images), positives)]
            scores = np.arange(images, 0, -1)[:, None] * np.ones(len(columns))
            expected = average_precision(scores, np.array(columns).T).mean()
            assert chance_average_precision([positives], [images]) == pytest.approx(expected, abs=1e-12)


def test_an_unknown_label_takes_no_place_in_the_top3():
    scores, targets = np.array([[0.9, 0.8, 0.7, 0.6]]), np.array([[-1, 1, 1, 1]])
    metrics = multilabel_metrics(scores, targets)
    assert metrics["OR_top3"] == metrics["OR"] == 1


def test_float32_scores_reach_the_threshold_that_they_were_rounded_from():
    for dtype in (np.float32, np.float64):
        scores = np.array([[0.7, 0.3]], dtype=dtype)
        for threshold in (0.7, [0.7, 0.7], np.array([0.7, 0.7])):
            assert multilabel_metrics(scores, np.array([[1, 0]]), threshold)["OR"] == 1


def test_of_equal_scores_the_first_labels_are_the_top3():
    scores, targets = np.full((1, 5), 0.7), np.array([[1, 1, 1, 0, 0]])
    assert multilabel_metrics(scores, targets)["OP_top3"] == 1
    assert multilabel_metrics(scores, targets[:, ::-1])["OP_top3"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), r"must both be \(images, labels\).*\(2, 3\) and \(2, 4\)"),
        (np.ones(3), np.ones(3), r"must both be \(images, labels\)"),
        (np.ones((0, 3)), np.ones((0, 3)), "at least one of each"),
        (np.array([[np.nan, 1]]), np.ones((1, 2)), "1 scores are NaN or infinite, the first in image 0"),
        (np.ones((1, 2)), np.array([[1, 2]]), r"targets must be 1, 0 or -1 \(unknown\), got \[2\]"),
        (np.ones((1, 2)), np.array([[0, -1]]), "no label is present in any image"),
        (
            np.array([[2.5, -1]]),
            np.ones((1, 2)),
            "must be probabilities between 0 and 1, got -1 to 2.5; of logits",
        ),
    ],
)
def test_malformed_input_is_named(scores, targets, message):
    with pytest.raises(ValueError, match=message):
        multilabel_metrics(scores, targets)


@pytest.mark.parametrize("threshold", [50, float("nan"), [0.5, -0.1]])
def test_a_threshold_is_a_probability(threshold):
    with pytest.raises(ValueError, match="threshold must be between 0 and 1, got"):
        multilabel_metrics(np.ones((1, 2)), np.ones((1, 2)), threshold)


def test_scores_may_be_above_one_by_rounding():
    scores = np.array([[1 + 1e-12, -1e-12]])
    assert multilabel_metrics(scores, np.array([[1, 0]]))["OF1"] == 1


def test_logits_have_an_average_precision_and_nan_has_none():
    assert average_precision(np.array([[3.0], [-2.0]]), np.array([[1], [0]])) == 1
    with pytest.raises(ValueError, match="1 scores are NaN or infinite, the first in image 1"):
        average_precision(np.array([[3.0], [np.nan]]), np.array([[1], [0]]))


def test_an_unknown_interpolation_is_named():
    with pytest.raises(ValueError, match="interpolation must be None or '11point', got '101point'"):
        average_precision(np.ones((1, 1)), np.ones((1, 1)), interpolation="101point")
