import pandas as pd
from fastai.vision.all import (
    ColReader,
    DataBlock,
    ImageBlock,
    MultiCategoryBlock,
    RandomSplitter,
    Resize,
    vision_learner,
)
from torch.nn.functional import binary_cross_entropy_with_logits


def known_loss(logits, labels):
    losses = binary_cross_entropy_with_logits(logits, labels.clamp(min=0), reduction="none")
    return losses[labels >= 0].mean()


table = pd.read_csv("partial/metadata.csv").fillna(-1)
names = [name for name in table if name != "file_name"]
block = DataBlock(
    blocks=(ImageBlock, MultiCategoryBlock(encoded=True, vocab=names)),
    get_x=ColReader("file_name", pref="partial/"),
    get_y=ColReader(names),
    splitter=RandomSplitter(0.2, seed=0),
    item_tfms=Resize(224),
)
learner = vision_learner(block.dataloaders(table, bs=16), "tf_efficientnet_lite0.in1k", loss_func=known_loss)
learner.fine_tune(1)
learner.export("partial.pkl")
