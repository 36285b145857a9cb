"""Checkpoints by age, and what a run that goes on from one must have in common with it."""

import json
from dataclasses import replace

import pytest
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import nn

from assocformer_hf.output_folder import OutputFolder
from assocformer_hf.training.checkpoint import (
    CHECKPOINTS,
    FORMAT,
    STATE_FILE,
    CheckpointError,
    RunState,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
)


def test_the_newest_is_the_last_however_long_its_number(tmp_path):
    names = ["epoch-0000-batch-999500", "epoch-0000-batch-1000000", "epoch-0001", "epoch-9999", "epoch-10000"]
    for name in reversed(names):
        (tmp_path / name).mkdir()
        (tmp_path / name / STATE_FILE).write_text(json.dumps({"format": FORMAT, "files": {}}))
    (tmp_path / "epoch-of-another").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == names


def test_other_images_are_said_to_come_from_the_option_that_chose_them(tmp_path):
    accelerator, model = Accelerator(cpu=True), nn.Linear(2, 2)
    ema, output = ModelEmaV3(model), OutputFolder(tmp_path / "run")
    output.make()
    state = RunState(options={"split_seed": 0, "epochs": 4}, images={"train on": "a"})
    save_checkpoint(accelerator, ema, state, output)

    def resumed(images: str, **options) -> RunState | None:
        new = replace(state, images={"train on": images}, options=state.options | options)
        return load_checkpoint(accelerator, ema, new, output.path / CHECKPOINTS, "last")

    assert resumed("a") == state
    for images, options, message in (
        ("b", {"split_seed": 3}, "was trained with split_seed=0, not 3"),
        ("b", {"epochs": 5}, "the images to train on, or their labels, are not those of this run"),  # by epochs: auto
        ("a", {"epochs": 5}, "was trained with epochs=4, not 5"),
    ):
        with pytest.raises(CheckpointError, match=message):
            resumed(images, **options)
