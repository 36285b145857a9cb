"""The package's multi-label metrics as a module of the library `evaluate`."""

import datasets
import evaluate
import numpy as np

from assocformer_hf.evaluation.metrics import multilabel_metrics

DESCRIPTION = """
Mean average precision, per-label average precision, and precision, recall and F1 by class (CP, CR, CF1) and overall
(OP, OR, OF1), each also for the three highest-scored labels of an image, of those that reach the threshold.
"""

INPUTS = """
Args:
    predictions: for each image a list of the labels' probabilities.
    references: for each image a list of 1 (present), 0 (absent) and -1 (unknown), label by label.
    threshold: probability from which a label is predicted; 0.5 by default.
"""


class MultiLabel(evaluate.Metric):
    """`evaluate.load(folder)` of this folder gives one of these; see `multilabel_metrics` for what it computes."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Sequence(datasets.Value("float32")),
                }
            ),
        )

    def _compute(self, predictions, references, threshold: float = 0.5) -> dict:
        lengths = {len(row) for row in predictions} | {len(row) for row in references}
        if len(lengths) > 1:
            raise ValueError(f"each image needs a score and a reference for each label, got {sorted(lengths)} of them")
        scores = np.asarray(predictions, dtype=np.float64)
        single = scores.astype(np.float32)
        if (single == scores).all():  # they were float32 before they were stored, and are compared as such
            scores = single
        return multilabel_metrics(scores, np.asarray(references), threshold)
