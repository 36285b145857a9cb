"""What A is worth to a model: the same weights with another A in its place, and the interval of what that costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import create_image_processor, evaluation_transform
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import label_names
from assocformer_hf.evaluation.association_worth import is_worth_showing, worth_sentence
from assocformer_hf.evaluation.evaluator import evaluate
from assocformer_hf.evaluation.metrics import multilabel_metrics

OPTIONS = {
    "equal": {}, "learnable": {"fusion": "learnable"}, "shared": {"fusion": "association", "readout": "shared"},
    "attention": {"pooling": "attention"}, "tiled": {"tiled_association": True}, "linear": {"fusion": "linear"},
}  # fmt: skip


@pytest.fixture(scope="module")
def evaluated(create_model):
    """Models of every kind, their inputs, and their evaluations on 12 scenes."""
    scenes = load_scenes("validation", size=12)
    names = dict(enumerate(label_names(scenes)))
    models = {name: create_model("tiny-cvt", id2label=names, **options) for name, options in OPTIONS.items()}
    images = MultiLabelImages(scenes, evaluation_transform(create_image_processor(64)))
    accelerator = Accelerator(cpu=True)
    loader = accelerator.prepare(DataLoader(images, 5, collate_fn=MultiLabelCollator(len(names), with_index=True)))
    inputs = torch.stack([images[i]["pixel_values"] for i in range(12)])
    return models, inputs, evaluate(models, loader, accelerator)


@pytest.mark.parametrize("name", ["equal", "learnable", "shared", "attention"])
def test_scores_with_another_a_are_those_of_contributions_scaled_by_it(evaluated, name):
    models, inputs, found = evaluated
    with torch.no_grad():
        output = models[name](inputs, output_features=True)
        association, contributions = models[name].head.explain(output.features)
    rest, messages = output.logits - contributions.sum(-1), contributions / association
    for other, matrix in (("half", torch.tensor(0.5)), ("mean", association.mean(0))):
        expected = (rest + (matrix * messages).sum(-1)).sigmoid()
        np.testing.assert_allclose(found[name].scores_without[other], expected, atol=2e-6)


def test_what_has_no_whole_a_is_not_measured(evaluated):
    for name in ("tiled", "linear"):
        assert evaluated[2][name].scores_without == {}
        assert evaluated[2][name].association_worth is None
    assert "was not measured" in worth_sentence(None)
    assert not is_worth_showing(None)


def test_a_loss_is_shown_where_its_interval_is_above_zero(evaluated):
    generator = np.random.default_rng(0)
    scores = generator.random((200, 6)).astype(np.float32)
    targets = (scores > 0.7).astype(np.int8)
    noisy = np.clip(scores + generator.normal(0, 0.3, scores.shape), 0, 1).astype(np.float32)
    evaluation = replace(
        evaluated[2]["equal"], metrics=multilabel_metrics(scores, targets), scores=scores, targets=targets,
        scores_without={"half": noisy, "mean": scores},
    )  # fmt: skip
    worth = evaluation.association_worth
    half = worth["half"]
    assert half["lost"] == pytest.approx(1 - multilabel_metrics(noisy, targets)["mAP"])
    assert 0 < half["low"] < half["lost"] < half["high"]
    assert worth["mean"] == {"mAP": 1, "lost": 0, "low": 0, "high": 0}
    assert is_worth_showing(worth)
    assert f"loses {100 * half['lost']:.2f} points of mAP" in worth_sentence(worth)
    reversed_ = replace(evaluation, scores_without={"half": scores, "mean": noisy}).association_worth
    assert not is_worth_showing(reversed_)
    harm = {"lost": -0.002, "low": -0.0097, "high": -0.0006}
    assert "gains 0.20 points of mAP (95% interval 0.06 to 0.97): A does harm" in worth_sentence(
        {"half": harm, "mean": harm}
    )
    assert "no map of it is shown" in worth_sentence(reversed_)
