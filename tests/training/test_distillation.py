"""A student learns what its teacher makes of the images, not their labels."""

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator

from assocformer_hf import Tagger, train
from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import DataError, label_names, multilabel_features
from assocformer_hf.saved_files import ModelFileError
from assocformer_hf.training import distillation
from assocformer_hf.training.checkpoint import CheckpointError
from assocformer_hf.training.distillation import teacher_scores
from tests.conftest import ROOT

TEACHER = ROOT / "model_cards/assocformer-swin-tiny-scenes"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "CACHE", tmp_path / "teachers")
    return tmp_path / "teachers"


@pytest.fixture(scope="module")
def scenes():
    return load_scenes("train", size=24)


def relabelled(scenes: datasets.Dataset, names: list[str]) -> datasets.Dataset:
    """The same images without a label, of other names."""
    rows = [
        {"image": image, "labels": []} for image in scenes.cast_column("image", datasets.Image(decode=False))["image"]
    ]
    return datasets.Dataset.from_list(rows, features=multilabel_features(names))


def test_the_scores_are_the_teachers_by_label_and_are_kept(scenes, cache):
    accelerator, names = Accelerator(cpu=True), label_names(scenes)
    scores = teacher_scores(str(TEACHER), scenes, accelerator).scores
    expected = np.stack([one.all_scores for one in Tagger(TEACHER)(scenes["image"][:])])
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    few = relabelled(scenes, [names[7], names[2]])
    np.testing.assert_allclose(teacher_scores(str(TEACHER), few, accelerator).scores, expected[:, [7, 2]], atol=1e-5)
    assert len(files := sorted(cache.glob("*/scores.npy"))) == 2
    for file in files:
        np.save(file, np.load(file) / 2)
    np.testing.assert_allclose(teacher_scores(str(TEACHER), scenes, accelerator).scores, expected / 2, atol=1e-5)
    with pytest.raises(DataError, match="the teacher does not know the label 'zebra'"):
        teacher_scores(str(TEACHER), relabelled(scenes, ["dog", "zebra"]), accelerator)
    with pytest.raises(ModelFileError, match="nobody: no such folder; give one that train or calibrate wrote"):
        teacher_scores(str(cache / "nobody"), scenes, accelerator)


def test_a_batch_has_soft_labels_in_the_place_of_labels(scenes):
    soft = torch.rand(len(scenes), 20)
    images = MultiLabelImages(scenes, lambda image: torch.zeros(1), soft_labels=soft)
    batch = MultiLabelCollator(20)([images[3], images[0]])
    assert torch.equal(batch["labels"], soft[[3, 0]])


def test_a_student_learns_scores_whatever_the_labels_are(scenes, tmp_path):
    names, held_out = label_names(scenes), load_scenes("validation", size=12)
    options = {"backbone": "tiny-cvt", "image_size": 64, "epochs": 1, "batch_size": 8, "num_workers": 0}
    options |= {"report_to": "none", "config": "scenes"}

    losses = []
    for number, images in enumerate((scenes, relabelled(scenes, names))):
        splits, output = {"train": images, "validation": held_out}, tmp_path / str(number)
        result = train(splits, output_dir=output, teacher=str(TEACHER), **options)
        assert result.metrics["run"]["options"]["teacher"] == TEACHER.name
        assert f"teacher: {TEACHER}" in (output / "options.yaml").read_text()
        # Other images have other labels, which this teacher does not know.
        assert "teacher" not in (output / "recipe.yaml").read_text()
        assert "add the model to learn from as `--teacher`" in (output / "README.md").read_text()
        losses.append(result.history[0]["loss"])
    assert losses[0] == losses[1]


def test_the_loss_of_a_student_is_that_of_its_teacher_s_scores(scenes, tmp_path):
    result = train(
        {"train": scenes, "validation": load_scenes("validation", size=12)}, config="scenes", backbone="micro-swin",
        image_size=64, epochs=1, batch_size=8, learning_rate=1e-12, cutout=0, randaugment_ops=0, gamma_neg=0,
        association_norm="none", num_workers=0, report_to="none", teacher=str(TEACHER), output_dir=tmp_path / "model",
    )  # fmt: skip
    images = scenes["image"][:]
    student, teacher = (np.stack([one.all_scores for one in Tagger(m)(images)]) for m in (result.output_dir, TEACHER))
    cross_entropy = -(teacher * np.log(student) + (1 - teacher) * np.log(1 - student)).mean()
    assert result.history[0]["loss"] == pytest.approx(cross_entropy, rel=1e-3)


def test_a_run_is_not_resumed_with_another_teacher_of_the_same_name(create_model, scenes, tmp_path):
    splits = {"train": scenes, "validation": load_scenes("validation", size=12)}
    options = {"backbone": "tiny-cvt", "image_size": 64, "epochs": 1, "batch_size": 8, "num_workers": 0}
    options |= {"report_to": "none", "config": "scenes", "output_dir": tmp_path / "model"}
    train(splits, teacher=str(TEACHER), **options)
    other = tmp_path / TEACHER.name
    create_model(id2label=dict(enumerate(label_names(scenes)))).save_pretrained(other)
    create_image_processor(64).save_pretrained(other)
    with pytest.raises(CheckpointError, match="was trained with teacher_digest="):
        train(splits, teacher=str(other), resume="auto", **options)
