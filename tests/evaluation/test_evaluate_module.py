"""The metrics through the library `evaluate`."""

import evaluate
import numpy as np
import pytest

from assocformer_hf import multilabel_metrics
from tests.conftest import ROOT


def test_the_folder_loads_and_equals_the_function(tmp_path):
    generator = np.random.default_rng(0)
    scores = generator.random((30, 6)).astype(np.float32)
    targets = generator.integers(-1, 2, (30, 6))
    metric = evaluate.load(str(ROOT / "assocformer_hf/evaluation/multilabel"), cache_dir=str(tmp_path))
    for start in range(0, 30, 7):
        metric.add_batch(predictions=scores[start : start + 7], references=targets[start : start + 7])
    result, expected = metric.compute(threshold=0.3), multilabel_metrics(scores, targets, 0.3)
    assert result.keys() == expected.keys()
    assert result["per_label_AP"] == pytest.approx(expected["per_label_AP"])
    for name in expected.keys() - {"per_label_AP"}:
        assert result[name] == pytest.approx(expected[name])
