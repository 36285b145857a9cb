# note: the validation photographs are made anew from table and seed, as an exported learner has none
import numpy as np
import pandas as pd
from fastai.vision.all import ImageDataLoaders, Resize, load_learner
from sklearn.metrics import average_precision_score, f1_score

table = pd.read_csv("photos/metadata.csv").fillna("")
data = ImageDataLoaders.from_df(table, "photos", label_delim="|", valid_pct=0.2, seed=0, item_tfms=Resize(224), bs=16)
learner = load_learner("photos/photos.pkl")
scores, targets = (part.numpy() for part in learner.get_preds(dl=data.valid))
np.savez("scores.npz", scores=scores, targets=targets, names=list(learner.dls.vocab))
shown = targets.any(0)
print("mAP", average_precision_score(targets[:, shown], scores[:, shown], average="macro"))
print("CF1", f1_score(targets, scores >= 0.5, average="macro", zero_division=0))
print("OF1", f1_score(targets, scores >= 0.5, average="micro"))
