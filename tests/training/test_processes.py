"""Several processes see, and give, what one does."""

import sys
from pathlib import Path

import pytest
from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

from tests import forked
from tests.commands.commands import BINARIES, ENVIRONMENT, run, training
from tests.conftest import ROOT


def test_two_processes_evaluate_every_image_once_and_average_spread_weights():
    script = Path(__file__).with_name("by_two_processes.py")
    for done in forked.both([sys.executable, str(script)], ENVIRONMENT, ROOT):
        assert done.returncode == 0, done.stderr
        assert "agreed" in done.stdout


def test_processes_that_do_not_see_each_other_are_no_run(small_coco, tmp_path):
    """What torchrun does on a machine without GPUs, and Accelerate is not told to use the CPU."""
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "ACCELERATE_USE_CPU"}
    first, second = forked.both(training(small_coco, tmp_path / "model"), environment)
    assert (first.returncode, second.returncode) == (2, 2), f"{first.stderr}\n{second.stderr}"
    assert "error: 2 processes were started, but Accelerate sees 1" in first.stderr
    assert "set ACCELERATE_USE_CPU=true" in first.stderr
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config_class", "model_class", "head"),
    [(Dinov2Config, Dinov2Model, ()), (ViTConfig, ViTModel, ("--fusion", "linear", "--pooling", "attention"))],
)
def test_two_processes_train_a_backbone_with_parameters_that_are_not_used(
    small_coco, tmp_path, config_class, model_class, head
):
    """Processes that wait for their gradient would end in an error.

    DINOv2's mask token has no part in the features, and a linear head on the places none in what ViT makes of L.
    """
    config = config_class(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14)
    model_class(config).save_pretrained(tmp_path / "backbone")
    options = ("--backbone", str(tmp_path / "backbone"), "--image_size", "56", "--epochs", "1", "--batch_size", "4")
    options += head
    run(training(small_coco, tmp_path / "model", *options, processes=2))
    assert (tmp_path / "model/model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "blocks"), [("tiny-cvt", "CvtLayer"), ("tiny-swin", "SwinTransformerBlock")])
def test_a_run_with_spread_weights_is_the_same_after_stops_in_training_and_evaluation(
    small_coco, tmp_path, backbone, blocks
):
    command = [
        *(BINARIES / "accelerate", "launch", "--config_file", ROOT / "examples/accelerate/fsdp.yaml"),
        *("--fsdp_transformer_layer_cls_to_wrap", f"{blocks},AssociationHead"),
        *("--num_processes", "2", "--mixed_precision", "no"),
        *(Path(__file__).with_name("by_two_processes_spread.py"), backbone, small_coco, tmp_path),
    ]
    assert "agreed" in run([str(part) for part in command]).stdout
