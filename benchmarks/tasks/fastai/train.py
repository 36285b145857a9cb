import pandas as pd
from fastai.vision.all import APScoreMulti, ImageDataLoaders, Resize, vision_learner

table = pd.read_csv("photos/metadata.csv").fillna("")
data = ImageDataLoaders.from_df(table, "photos", label_delim="|", valid_pct=0.2, seed=0, item_tfms=Resize(224), bs=16)
learner = vision_learner(data, "tf_efficientnet_lite0.in1k", metrics=APScoreMulti())
learner.fine_tune(1)
learner.export("photos.pkl")
