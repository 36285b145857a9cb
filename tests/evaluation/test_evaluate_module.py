"""The metrics through the library `evaluate`."""

import evaluate
import numpy as np
import pytest

from assocformer_hf import evaluate_module_path, multilabel_metrics


@pytest.fixture
def metric(tmp_path):
    return evaluate.load(evaluate_module_path(), cache_dir=str(tmp_path))


def test_a_score_reaches_its_threshold_in_either_precision(metric):
    for dtype in (np.float32, np.float64):
        scores = np.array([[0.7, 0.3], [0.2, 0.9]], dtype=dtype)
        found = metric.compute(predictions=scores, references=[[1, 0], [0, 1]], threshold=0.7)
        assert found["OR"] == 1


def test_the_folder_loads_anywhere_and_equals_the_function(metric, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    scores = generator.random((30, 6)).astype(np.float32)
    targets = generator.integers(-1, 2, (30, 6))
    for start in range(0, 30, 7):
        metric.add_batch(predictions=scores[start : start + 7], references=targets[start : start + 7])
    result, expected = metric.compute(threshold=0.3), multilabel_metrics(scores, targets, 0.3)
    assert result.keys() == expected.keys()
    assert result["per_label_AP"] == pytest.approx(expected["per_label_AP"])
    for name in expected.keys() - {"per_label_AP"}:
        assert result[name] == pytest.approx(expected[name])


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [([[0.9, 0.7], [0.1, 0.8]], [[1.0, 1.0], [0.7, 0.0]], r"targets must be 1, 0 or -1 \(unknown\), got \[0.69"),
     ([[0.2, 0.7], [0.1]], [[1, 0], [1, 0]], r"a score and a reference for each label, got \[1, 2\] of them")],
)  # fmt: skip
def test_what_cannot_be_measured_is_named(metric, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=predictions, references=references)
