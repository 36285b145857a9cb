"""Checkpoints of a run: written aside and renamed, so that the last one is always whole."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import load_model, save_model
from timm.utils import ModelEmaV3

STATE_FILE = "run.json"
EMA_FILE = "ema.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that is missing, or that belongs to another run."""


@dataclass
class RunState:
    """What a run knows besides its weights.

    Attributes:
        epoch: epochs that are finished.
        best_mAP: best validation mAP so far, in [0, 1].
        history: one entry for each finished epoch.
        options: what the run was started with; a run that is resumed must have the same.
    """

    epoch: int = 0
    best_mAP: float = -1.0  # noqa: N815
    history: list[dict] = field(default_factory=list)
    options: dict = field(default_factory=dict)


def save_checkpoint(accelerator: Accelerator, ema: ModelEmaV3, state: RunState, folder: Path):
    """Writes `folder/epoch-NNNN` and removes the older ones. Called by every process."""
    checkpoint, aside = folder / f"epoch-{state.epoch:04d}", folder / "incomplete"
    if accelerator.is_main_process:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(aside))
    if accelerator.is_main_process:
        save_model(ema.module, aside / EMA_FILE)
        (aside / STATE_FILE).write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(checkpoint, ignore_errors=True)
        aside.rename(checkpoint)
        for older in folder.glob("epoch-*"):
            if older != checkpoint:
                shutil.rmtree(older)


def load_checkpoint(accelerator: Accelerator, ema: ModelEmaV3, options: dict, folder: Path) -> RunState:
    """Restores the newest checkpoint of a folder. Called by every process.

    Args:
        accelerator: has prepared the model, optimizer, scheduler and loaders of the run.
        ema: the moving average of the weights.
        options: what this run was started with.
        folder: where `save_checkpoint` wrote.

    Raises:
        CheckpointError: if there is no checkpoint, or the run it belongs to had other options.
    """
    checkpoints = sorted(folder.glob("epoch-*"))
    if not checkpoints:
        raise CheckpointError(f"{folder}: no checkpoint to resume from; start without --resume")
    checkpoint = checkpoints[-1]
    state = RunState(**json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8")))
    for name in options | state.options:
        before, now = state.options.get(name), options.get(name)
        if before != now:
            raise CheckpointError(
                f"{checkpoint}: was trained with {name}={before}, not {now}; resume with the same options, "
                "or start anew in another --output_dir"
            )
    accelerator.load_state(str(checkpoint))
    load_model(ema.module, checkpoint / EMA_FILE)
    return state
