"""Iterative stratification: every label keeps its share."""

import json

import numpy as np
import pytest
from PIL import Image

from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import DataError
from assocformer_hf.data.split import iterative_stratification
from assocformer_hf.option_values import OptionError


def draw_from_counts(counts: dict, size: int, seed: int) -> list[list[int]]:
    """Label sets with about the frequencies of labels and pairs of a counts file.

    A first label comes by its frequency; each other one joins with its conditional frequency.
    """
    generator = np.random.default_rng(seed)
    single, pairs = np.array(counts["counts"]), np.array(counts["pair_counts"])
    conditional = pairs / single[:, None]
    first = generator.choice(len(single), size, p=single / single.sum())
    present = generator.random((size, len(single))) < conditional[first]
    present[np.arange(size), first] = True
    return [np.flatnonzero(row).tolist() for row in present]


@pytest.mark.parametrize("size", [2000, 20_000])
@pytest.mark.parametrize("share", [0.1, 0.2])
def test_labels_of_coco_keep_their_share(coco_counts, size, share):
    for seed in range(2):
        labels = draw_from_counts(coco_counts, size, seed)
        parts = iterative_stratification(labels, 80, share, seed)
        assert sorted([*parts[0], *parts[1]]) == list(range(size))
        assert len(parts[1]) == pytest.approx(share * size, rel=0.03)
        counts = np.stack([np.bincount([x for i in part for x in labels[i]], minlength=80) for part in parts])
        total = counts.sum(0)
        frequent = total >= 20
        relative = counts[1, frequent] / (share * total[frequent])
        # A tenth of 20 is 2: of 23 positives the nearest whole number is 13% off. At a fifth, it never is 10% off.
        rounding = 0.5 / (share * total[frequent])
        assert (np.abs(relative - 1) <= np.maximum(0.1, rounding) + 1e-9).all(), (relative.min(), relative.max())


@pytest.fixture(scope="module")
def coco_counts(coco_mini) -> dict:
    return json.loads((coco_mini.parent / "cooccurrence/coco2014_train.json").read_text())


def test_the_same_seed_gives_the_same_split_and_another_another():
    labels = load_scenes("train", size=200)["labels"]
    first = iterative_stratification(labels, 20, 0.2, 7)
    assert first == iterative_stratification(labels, 20, 0.2, 7)
    assert first != iterative_stratification(labels, 20, 0.2, 8)


def test_labels_that_are_rare_or_absent_do_no_harm():
    labels = [[], [], [0], [], [1, 1], [], [], [], [], []]
    train, validation = iterative_stratification(labels, 3, 0.2)
    assert sorted([*train, *validation]) == list(range(10))
    assert len(validation) == 2
    with pytest.raises(DataError, match="1 images are too few to hold out a share of 0.2"):
        iterative_stratification([[0]], 1, 0.2)


@pytest.mark.parametrize("size", [3, 4, 5, 10, 100, 1000])
@pytest.mark.parametrize("own", [1, 2, 3])
def test_labels_that_occur_once_do_not_change_the_size_of_the_parts(size, own):
    singles = [list(range(own * i, own * (i + 1))) for i in range(size)]
    frequent = [[*row, own * size + i % 2] for i, row in enumerate(singles)]
    for labels in (singles, frequent):
        train, validation = iterative_stratification(labels, own * size + 2, 0.2)
        assert sorted([*train, *validation]) == list(range(size))
        assert 1 <= len(validation) == pytest.approx(0.2 * size, abs=max(1, 0.03 * 0.2 * size))


def test_a_few_images_with_a_label_each_are_divided():
    rows = [{"image": Image.new("RGB", (8, 8), (60 * i, 0, 0)), "labels": [label]} for i, label in enumerate("abcd")]
    splits = load_multilabel_dataset(rows)
    assert {key: len(split) for key, split in splits.items()} == {"train": 3, "validation": 1}


@pytest.mark.parametrize("share", [float("nan"), 1.5, -0.1])
def test_a_share_that_is_none_is_refused_before_anything_is_read(share):
    with pytest.raises(OptionError, match=f"validation_share must be from 0 to 1; got {share}"):
        load_multilabel_dataset("photos", validation_share=share)


def test_a_seed_that_is_none_is_refused():
    with pytest.raises(OptionError, match="split_seed must be at least 0; got -1"):
        load_multilabel_dataset("photos", split_seed=-1)
    with pytest.raises(DataError, match="the seed of the split must be at least 0; got -1"):
        iterative_stratification([[0], [1]], 2, 0.5, -1)
    with pytest.raises(DataError, match="share of the validation split must be above 0 and below 1; got 1.5"):
        iterative_stratification([[0], [1]], 2, 1.5)


def test_a_dataset_without_validation_is_split_by_it(tmp_path):
    scenes = load_scenes("train", size=60)
    scenes.save_to_disk(str(tmp_path / "saved"))
    splits = load_multilabel_dataset(tmp_path / "saved", validation_share=0.25, split_seed=3)
    parts = iterative_stratification(scenes["labels"], 20, 0.25, 3)
    for part, (name, split) in zip(parts, splits.items(), strict=True):
        assert str(split.split) == name
        assert split["labels"] == [scenes["labels"][i] for i in part]
        assert split[0]["image"] == scenes[part[0]]["image"]
