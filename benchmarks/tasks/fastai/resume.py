# note: goes on at the last whole epoch, with another order of the photographs
from pathlib import Path

import pandas as pd
from fastai.vision.all import APScoreMulti, ImageDataLoaders, Resize, SaveModelCallback, vision_learner

table = pd.read_csv("photos/metadata.csv").fillna("")
data = ImageDataLoaders.from_df(table, "photos", label_delim="|", valid_pct=0.2, seed=0, item_tfms=Resize(224), bs=16)
learner = vision_learner(data, "tf_efficientnet_lite0.in1k", metrics=APScoreMulti())
done = sorted(Path("photos/models").glob("resumed_*.pth"))
if done:
    learner.load(done[-1].stem, with_opt=True)
saving = SaveModelCallback(fname="resumed", every_epoch=True, with_opt=True)
learner.fit_one_cycle(2, cbs=saving, start_epoch=len(done))
learner.export("resumed.pkl")
