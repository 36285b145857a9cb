"""Our CvT against transformers' on the same weights, and what gradient checkpointing saves.

`python -m benchmarks.cvt`: CvT-w24 and Swin-L at 384x384; float32 on a CPU, bfloat16 autocast on a GPU.
"""

from copy import deepcopy
from functools import partial

import torch
from torch import nn
from transformers import CvtConfig, CvtModel

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel
from assocformer_hf.model.cvt import CvtBackbone
from assocformer_hf.model.presets import cvt_w24, swin_large
from benchmarks.measure import DEVICE, GPU, peak_memory, ratio, report, seconds

BATCH = 8 if GPU else 1


def autocast():
    return torch.autocast(DEVICE, torch.bfloat16, enabled=GPU)


def training_pass(model: nn.Module, images: torch.Tensor):
    """Forward and backward; a model that has no loss of its own gets the sum of its last map."""
    model.train()
    with autocast():
        output = model(images)
    output.last_hidden_state.float().sum().backward()
    model.zero_grad()


@torch.inference_mode()
def inference(model: nn.Module, images: torch.Tensor):
    model.eval()
    with autocast():
        return model(images)


def compare_with_transformers(config: CvtConfig, images: torch.Tensor, rounds: int) -> list[dict]:
    """Time and peak memory of both; drop-path is off, so that both compute the same."""
    config.drop_path_rate = [0.0] * len(config.depth)
    torch.manual_seed(0)
    # Each a configuration of its own, as a model notes its kind of attention in it.
    models = {"ours": CvtBackbone(deepcopy(config)).to(DEVICE), "theirs": CvtModel(deepcopy(config)).to(DEVICE)}
    models["theirs"].load_state_dict(models["ours"].cvt.state_dict())
    ours, theirs = (inference(model, images).last_hidden_state for model in models.values())
    print(f"largest difference of the outputs: {(ours - theirs).abs().max().item():.1e}")
    del ours, theirs
    rows = []
    for name, run in (("forward", inference), ("forward+backward", training_pass)):
        calls = {owner: partial(run, model, images) for owner, model in models.items()}
        what = f"CvT-w24 {name}, ours over transformers'"
        rows.append(compared(what, calls, "ours", "theirs", rounds))
    return rows


def checkpointing(name: str, config, images: torch.Tensor, rounds: int) -> dict:
    """Time and peak memory of a training pass with gradient checkpointing over one without."""
    model = AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=config, num_labels=80)).to(DEVICE).train()
    labels = torch.ones(len(images), 80, device=DEVICE)

    def step(enabled: bool):
        (model.activation_checkpointing_enable if enabled else model.activation_checkpointing_disable)()
        with autocast():
            loss = model(images, labels=labels).loss
        loss.backward()
        for parameter in model.parameters():  # kept, so that the memory of the gradients is not counted
            parameter.grad.zero_()

    calls = {"with": partial(step, True), "without": partial(step, False)}
    return compared(f"{name} training step, with gradient checkpointing over without", calls, "with", "without", rounds)


def compared(what: str, calls: dict, name: str, base: str, rounds: int) -> dict:
    """A row of the report: one call over another."""
    times = seconds(calls, rounds)
    memory = {key: peak_memory(call) for key, call in calls.items()}
    return {
        "what": what,
        "time_ratio": ratio(times, name, base),
        "memory_ratio": memory[name] / memory[base],
        "seconds": min(times[name]),
        "peak_GiB": memory[name] / 2**30,
    }


def main(image_size: int = 384, rounds: int = 5):
    images = torch.rand(BATCH, 3, image_size, image_size, device=DEVICE)
    config = cvt_w24()
    config.hidden_act = "gelu"  # the only one of transformers
    rows = compare_with_transformers(config, images, rounds)
    for name, config in (("CvT-w24", cvt_w24()), ("Swin-L", swin_large(image_size))):
        rows.append(checkpointing(name, config, images, rounds))
    report("cvt", rows, "python -m benchmarks.cvt")


if __name__ == "__main__":
    main()
