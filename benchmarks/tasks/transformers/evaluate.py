import csv

import numpy as np
from sklearn.metrics import average_precision_score, f1_score
from transformers import pipeline

tagger = pipeline("image-classification", model="outputs/transformers/model", function_to_apply="sigmoid", top_k=1000)
names = sorted(tagger.model.config.label2id)
rows = list(csv.DictReader(open("photos/metadata.csv")))
rows = rows[len(rows) * 4 // 5 :]
targets = np.array([[label in row["labels"].split("|") for label in names] for row in rows])
found = [{tag["label"]: tag["score"] for tag in tagger(f"photos/{row['file_name']}")} for row in rows]
scores = np.array([[one[label] for label in names] for one in found])
np.savez("scores.npz", scores=scores, targets=targets, names=names)
shown = targets.any(0)
print("mAP", average_precision_score(targets[:, shown], scores[:, shown], average="macro"))
print("CF1", f1_score(targets, scores >= 0.5, average="macro", zero_division=0))
print("OF1", f1_score(targets, scores >= 0.5, average="micro"))
