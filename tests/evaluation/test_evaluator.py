"""Evaluation of several models in one pass."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import create_image_processor, evaluation_transform
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import label_names
from assocformer_hf.evaluation.evaluator import evaluate


def test_moments_of_a_do_not_depend_on_how_it_is_computed(create_model):
    scenes = load_scenes("validation", size=10)
    names = dict(enumerate(label_names(scenes)))
    options = {"whole": {}, "tiled": {"tiled_association": True}, "linear": {"fusion": "linear"}}
    models = {name: create_model("tiny-cvt", id2label=names, **values) for name, values in options.items()}
    images = MultiLabelImages(scenes, evaluation_transform(create_image_processor(64)))
    accelerator = Accelerator(cpu=True)
    loader = accelerator.prepare(DataLoader(images, 4, collate_fn=MultiLabelCollator(len(names), with_index=True)))
    found = evaluate(models, loader, accelerator)

    inputs = torch.stack([images[i]["pixel_values"] for i in range(10)])
    association = models["whole"](inputs, output_association=True).association.detach()
    np.testing.assert_allclose(found["whole"].association, association.mean(0), atol=1e-5)
    for name in ("whole", "tiled"):
        assert found[name].association_mean == pytest.approx(association.mean().item(), abs=1e-6)
        assert found[name].association_std == pytest.approx(association.std().item(), abs=1e-4)
        np.testing.assert_allclose(found[name].scores, found["whole"].scores, atol=1e-6)
    assert found["tiled"].association is None
    assert found["linear"].association is None
    assert found["linear"].association_mean is None
