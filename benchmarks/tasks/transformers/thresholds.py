# after evaluate.py, with the scores that it saved; of these the thresholds are then no honest measure
import json

import numpy as np
from sklearn.metrics import precision_recall_curve

saved = np.load("scores.npz")
thresholds = {}
for name, scores, targets in zip(saved["names"].tolist(), saved["scores"].T, saved["targets"].T, strict=True):
    precision, recall, cuts = precision_recall_curve(targets, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    thresholds[name] = float(cuts[f1[:-1].argmax()]) if targets.any() else 0.5
json.dump(thresholds, open("thresholds.json", "w"))
