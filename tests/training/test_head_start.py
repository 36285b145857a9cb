"""The head start: the head learns, the backbone stays as it is."""

from copy import deepcopy

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch.utils.data import DataLoader

from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import create_image_processor, pixel_scaling, training_transform
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import label_names
from assocformer_hf.training.head_start import train_head


@pytest.fixture(scope="module")
def scenes():
    dataset = load_scenes("train", size=96)
    processor = create_image_processor(64)
    augment = training_transform(processor, cutout=0, num_ops=0)
    return MultiLabelImages(dataset, augment, scale=pixel_scaling(processor)), label_names(dataset)


@pytest.mark.parametrize(("pooling", "left"), [("mean", 0.5), ("attention", 0.3)])
def test_the_head_learns_and_the_backbone_stays(create_model, scenes, pooling, left):
    """With attention it learns from the mean of the map: CvT's pooled feature is that of its class token."""
    images, names = scenes
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    accelerator = Accelerator(cpu=True)
    loader = accelerator.prepare(DataLoader(images, 32, collate_fn=MultiLabelCollator(len(names), with_index=True)))
    model = create_model(id2label=dict(enumerate(names)), pooling=pooling, association_norm="none")
    before = deepcopy(model)

    def loss(model) -> float:
        with torch.no_grad():
            return sum(model.eval()(images.scale(b["pixel_values"]), labels=b["labels"]).loss.item() for b in loader)

    again = deepcopy(model)
    for one in (model, again):
        train_head(one, images, loader, accelerator, epochs=20, weight_decay=3.0)
    assert loss(model) < left * loss(before)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name], rtol=0, atol=0)
        if name.startswith("backbone."):
            torch.testing.assert_close(value, before.state_dict()[name], rtol=0, atol=0)
