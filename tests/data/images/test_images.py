"""Transforms, examples and batches."""

import pickle

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor

from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.decoding import ImageError
from assocformer_hf.data.images.transforms import (
    Cutout,
    create_image_processor,
    evaluation_transform,
    pixel_scaling,
    training_transform,
)
from assocformer_hf.data.load import load_multilabel_dataset, load_split
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import DataError, multilabel_features


@pytest.fixture(scope="module")
def scenes():
    return load_scenes("train", size=6)


def picture(width=50, height=30, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P"])
def test_evaluation_is_what_the_saved_processor_does(tmp_path, mode):
    processor = create_image_processor(24)
    processor.save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    ours = evaluation_transform(processor)(picture(mode=mode))
    torch.testing.assert_close(ours, loaded(images=picture(mode=mode), return_tensors="pt")["pixel_values"][0])
    assert ours.shape == (3, 24, 24)
    assert ours.dtype == torch.float32
    assert 0 <= ours.min() < ours.max() <= 1


@pytest.mark.parametrize("normalization", [(), ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])], ids=["none", "backbone"])
def test_training_without_augmentation_is_evaluation(normalization):
    processor = create_image_processor(24, *normalization)
    plain = training_transform(processor, cutout=0, num_ops=0)(picture())
    assert plain.dtype == torch.uint8
    scaled = pixel_scaling(processor)(plain[None])[0]
    torch.testing.assert_close(scaled, evaluation_transform(processor)(picture()), rtol=0, atol=1e-6)


def test_training_varies_the_image():
    transform = training_transform(create_image_processor(24))
    outputs = [transform(picture()) for _ in range(5)]
    assert all(output.shape == (3, 24, 24) and output.dtype == torch.uint8 for output in outputs)
    assert not any(torch.equal(outputs[0], output) for output in outputs[1:])


def test_cutout_fills_at_most_a_square_of_half_the_side_with_one_colour():
    image = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    areas = []
    for _ in range(200):
        changed = (Cutout(0.5)(image) != image).any(0)
        rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
        height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert height <= 20
        assert width <= 20
        areas.append((height * width).item())
    assert max(areas) == 400  # a whole square
    assert min(areas) < 250  # one that the border cuts off


def test_augmentation_depends_on_seed_epoch_and_example_alone(scenes):
    transform = training_transform(create_image_processor(64))
    images = MultiLabelImages(scenes, transform, seed=3)
    first = [images[i]["pixel_values"] for i in range(6)]
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = [images[i]["pixel_values"] for i in reversed(range(6))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(torch.get_rng_state(), state)  # the model's own randomness is left alone
    images.set_epoch(1)
    assert not torch.equal(images[0]["pixel_values"], first[0])
    assert not torch.equal(MultiLabelImages(scenes, transform, seed=4)[0]["pixel_values"], first[0])


def test_images_go_to_workers_that_are_not_forked(scenes):
    processor = create_image_processor(64)
    for images in (
        MultiLabelImages(scenes, training_transform(processor), scale=pixel_scaling(processor)),
        MultiLabelImages(scenes, evaluation_transform(processor)),
    ):
        copy = pickle.loads(pickle.dumps(images))
        assert torch.equal(copy[1]["pixel_values"], images[1]["pixel_values"])


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_the_same_batches_with_any_number_of_workers(scenes, workers):
    images = MultiLabelImages(scenes, training_transform(create_image_processor(64)))
    loader = torch.utils.data.DataLoader(images, 3, collate_fn=MultiLabelCollator(20), num_workers=workers)
    batches = list(loader)
    assert [batch["pixel_values"].shape for batch in batches] == [(3, 3, 64, 64)] * 2
    expected = torch.stack([images[i]["pixel_values"] for i in range(3, 6)])
    torch.testing.assert_close(batches[1]["pixel_values"], expected, rtol=0, atol=0)
    for row, labels in zip(batches[0]["labels"], scenes["labels"], strict=False):
        assert row.nonzero().flatten().tolist() == labels


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_an_unreadable_image_is_named(tmp_path, content):
    path = tmp_path / "broken.jpg"
    picture(200, 200).save(path)
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    rows = {"image": [str(path)], "labels": [[0]]}
    dataset = datasets.Dataset.from_dict(rows, features=multilabel_features(["a"]))
    images = MultiLabelImages(dataset, evaluation_transform(create_image_processor(8)))
    with pytest.raises(
        ImageError, match=r"broken.jpg: cannot be read as an image .*; replace it .*, or skip such images"
    ):
        images[0]


def test_datasets_by_name(small_coco):
    splits = load_multilabel_dataset("coco", small_coco, train_split="train", eval_split="val")
    assert {name: len(split) for name, split in splits.items()} == {"train": 48, "validation": 37}
    with pytest.raises(DataError, match="unknown dataset 'imagenet'; expected one of scenes, coco, voc"):
        load_multilabel_dataset("imagenet")
    with pytest.raises(DataError, match="'voc' is read from its official files: give their folder as data_dir"):
        load_split("voc", "test")
