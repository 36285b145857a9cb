"""The recipe files: each of them trains, on a small backbone of the same family."""

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from transformers import ConvNextConfig, ConvNextModel, Dinov2Config, Dinov2Model, ViTImageProcessor

from assocformer_hf.training.arguments import epochs_for, training_arguments
from assocformer_hf.training.optimization import create_optimizer, create_scheduler
from assocformer_hf.training.train import create_model, create_processor
from tests.conftest import NAMES, ROOT, images

CONFIGS = sorted((ROOT / "examples/configs").glob("*.yaml"))


def small_backbone(name: str, folder) -> str:
    """A preset, or a folder with random weights, of the family of a backbone on the Hub."""
    for family in ("swin", "cvt"):
        if family in name:
            return f"tiny-{family}"
    if "dinov2" in name:
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56}
        model = Dinov2Model(Dinov2Config(**sizes))
    else:
        model = ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 1, 1]))
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 56, "width": 56}).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_one_step_of_every_recipe(config, tmp_path):
    args, data, recipe, *_ = training_arguments(config=config)
    written = yaml.safe_load(config.read_text())
    assert written["backbone"] == args.backbone
    args.backbone, args.image_size = small_backbone(args.backbone, tmp_path), 56 if "dino" in args.backbone else 64
    if args.backbone.startswith("tiny"):
        args.normalization = "none"
    model = create_model(args, list(NAMES)).train()
    assert (model.config.fusion, model.config.association_norm) == (args.fusion, args.association_norm)
    assert create_processor(args).size["height"] == args.image_size
    optimizer = create_optimizer(model, recipe.learning_rate, recipe.weight_decay, recipe.backbone_learning_rate)
    epochs = epochs_for(1000) if recipe.epochs == "auto" else recipe.epochs
    scheduler = create_scheduler(optimizer, 10 * epochs, recipe.pct_start)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    labels = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, -1]])
    model(images(height=args.image_size, width=args.image_size), labels=labels).loss.backward()
    optimizer.step()
    scheduler.step()
    changed = [not torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True)]
    assert sum(changed) > 0.9 * len(changed)


@pytest.mark.parametrize("config", sorted((ROOT / "examples/accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_its_configs(config):
    loaded = load_config_from_file(str(config))
    assert loaded.num_processes >= 1
    assert loaded.mixed_precision in ("no", "bf16")
