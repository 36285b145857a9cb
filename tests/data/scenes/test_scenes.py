"""The embedded dataset: its label statistics, its pictures, and that it can be repeated."""

import hashlib
import sys

import numpy as np
import pytest

from assocformer_hf.data.scenes.motifs import MOTIFS
from assocformer_hf.data.scenes.scenes import draw_scene, label_set_distribution, load_scenes, voc2007_cooccurrence
from assocformer_hf.data.schema import DataError, label_names
from tests import forked


def frequencies():
    counts = voc2007_cooccurrence()
    pairs = np.array(counts["pair_counts"]) + np.diag(counts["counts"])
    return pairs / counts["images"]


def test_label_sets_have_the_marginals_and_pair_frequencies_of_voc():
    label_sets, probabilities = label_set_distribution()
    assert probabilities.sum() == pytest.approx(1)
    np.testing.assert_allclose((label_sets.T * probabilities) @ label_sets, frequencies(), atol=1e-8)
    assert label_sets.sum(1).min() == 1


@pytest.mark.parametrize("coupling", [0.0, 0.5, 2.0])
def test_another_coupling_keeps_the_marginals_and_changes_the_pairs(coupling):
    label_sets, probabilities = label_set_distribution(coupling)
    joint, voc = (label_sets.T * probabilities) @ label_sets, frequencies()
    np.testing.assert_allclose(joint.diagonal(), voc.diagonal(), atol=1e-8)
    chair, table, cow = (voc2007_cooccurrence()["labels"].index(name) for name in ("chair", "diningtable", "cow"))
    assert (joint[chair, table] > voc[chair, table]) == (coupling > 1)
    assert (joint[cow, table] > 0) == (coupling == 0)  # never seen together in VOC


def test_noise_changes_the_pixels_alone():
    quiet, loud = load_scenes("train", size=3, noise=0), load_scenes("train", size=3, noise=60)
    assert quiet["labels"] == loud["labels"]
    difference = np.asarray(loud[0]["image"], dtype=float) - np.asarray(quiet[0]["image"])
    assert 30 < difference.std() < 60  # values end at 0 and 255


def test_drawn_labels_follow_the_distribution():
    dataset = load_scenes("train", size=1500, image_size=8)
    multi_hot = np.zeros((len(dataset), 20))
    for row, labels in zip(multi_hot, dataset["labels"], strict=True):
        row[labels] = 1
    expected = frequencies()
    error = np.abs(multi_hot.T @ multi_hot / len(dataset) - expected)
    assert (error <= 4.5 * np.sqrt(expected * (1 - expected) / len(dataset))).all()  # 210 binomials
    assert (error[expected == 0] == 0).all()


def test_a_smaller_split_is_a_part_of_a_larger_and_seeds_and_splits_differ():
    large, small = load_scenes("train", size=12), load_scenes("train", size=5)
    assert large[:5]["labels"] == small["labels"]
    assert all(np.array_equal(large[i]["image"], small[i]["image"]) for i in range(5))
    for other in (load_scenes("train", size=5, seed=1), load_scenes("validation", size=5)):
        assert not any(np.array_equal(other[i]["image"], small[i]["image"]) for i in range(5))


def test_the_same_pictures_are_drawn_in_another_process():
    script = """
import hashlib
from assocformer_hf.data.scenes.scenes import load_scenes
data = load_scenes("validation", size=20).data.column("image").to_pylist()
print(hashlib.sha256(b"".join(image["bytes"] for image in data)).hexdigest())
"""
    there = forked.run([sys.executable, "-c", script]).stdout
    here = load_scenes("validation", size=20).data.column("image").to_pylist()
    assert there == hashlib.sha256(b"".join(image["bytes"] for image in here)).hexdigest() + "\n"


@pytest.mark.parametrize("name", list(MOTIFS))
def test_every_label_can_be_seen(name):
    # The background and the clutter are drawn first, from the same seed.
    changed = []
    for seed in range(5):
        empty, scene = (np.asarray(draw_scene(n, 64, np.random.default_rng(seed))) for n in ([], [name]))
        changed.append((np.abs(scene.astype(int) - empty).max(-1) > 60).mean())
    assert np.median(changed) > 0.01


def test_motifs_are_those_of_the_labels():
    dataset = load_scenes("validation", size=3, image_size=48)
    assert label_names(dataset) == list(MOTIFS) == voc2007_cooccurrence()["labels"]
    assert dataset[0]["image"].size == (48, 48)
    assert str(dataset.split) == "validation"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "scenes has no split 'test'; expected one of train, validation"),
        ({"size": 0}, "size of scenes must be at least 1, got 0"),
        ({"image_size": 0}, "image_size of scenes must be at least 1, got 0"),
        ({"coupling": -1}, "coupling of scenes must be at least 0, got -1"),
        ({"noise": -1}, "noise of scenes must be at least 0, got -1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(DataError, match=message):
        load_scenes(**options)
