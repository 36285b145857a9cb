import csv

import lightly_train
import numpy as np
from sklearn.metrics import average_precision_score, f1_score

model = lightly_train.load_model("outputs/lightly/exported_models/exported_last.pt")
names = list(model.classes.values())
rows = list(csv.DictReader(open("photos/val.csv")))
targets = np.array([[label in row["labels"].split("|") for label in names] for row in rows])
scores = np.zeros(targets.shape)
for one, row in zip(scores, rows, strict=True):
    found = model.predict(f"photos/{row['file_name']}", threshold=-1.0)
    one[found["labels"]] = found["scores"]
np.savez("scores.npz", scores=scores, targets=targets, names=names)
shown = targets.any(0)
print("mAP", average_precision_score(targets[:, shown], scores[:, shown], average="macro"))
print("CF1", f1_score(targets, scores >= 0.5, average="macro", zero_division=0))
print("OF1", f1_score(targets, scores >= 0.5, average="micro"))
