"""What a tracker is shown of an evaluation."""

from dataclasses import replace

import numpy as np
from accelerate import Accelerator
from torch.utils.data import DataLoader

from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import create_image_processor, evaluation_transform
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import label_names
from assocformer_hf.evaluation.evaluator import evaluate
from assocformer_hf.training.curves import sample_predictions


def test_labels_that_nobody_knows_are_neither_right_nor_wrong(create_model):
    scenes = load_scenes("validation", size=2)
    images = MultiLabelImages(scenes, evaluation_transform(create_image_processor(64)))
    model, accelerator = create_model(id2label=label_names(scenes)).eval(), Accelerator(cpu=True)
    found = evaluate({"model": model}, DataLoader(images, 2, collate_fn=MultiLabelCollator(20, True)), accelerator)
    sure = replace(found["model"], scores=np.zeros_like(found["model"].scores))
    sure.scores[:, 3] = 0.9
    high = replace(sure, scores=sure.scores.copy())
    high.scores[:, 5] = 0.8
    pictures = [sample_predictions(images, evaluation, model.config) for evaluation in (sure, high)]
    assert pictures[0].shape < pictures[1].shape  # a line more
    unknown = replace(high, targets=high.targets.copy())
    unknown.targets[:, 5] = -1
    known = replace(sure, targets=unknown.targets)
    pictures = [sample_predictions(images, evaluation, model.config) for evaluation in (known, unknown)]
    np.testing.assert_array_equal(*pictures)
