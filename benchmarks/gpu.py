"""What training and inference cost on a GPU: correctness first, then heads, large label sets and whole models.

`python -m benchmarks.gpu`: bfloat16 autocast on one GPU; needs neither datasets nor evaluate. `--parts` and `--modes`
run some of it alone. With `--tiny` small models run, on a CPU too, to try the script itself. Results go to `--output`.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import torch
from timm.utils import ModelEmaV3
from torch import nn

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel
from assocformer_hf.model.association import AssociationHead
from assocformer_hf.model.losses import association_penalty_from_sums
from assocformer_hf.model.presets import BACKBONE_PRESETS
from assocformer_hf.training.optimization import create_optimizer
from benchmarks.heads import compare_heads, compare_with_literal_convolutions, large_label_sets
from benchmarks.measure import DEVICE, GPU, RESULTS, peak_memory, report
from benchmarks.peers import LiteralAssociationHead

PARTS = ("check", "heads", "label_sets", "models")
MODES = ("eager", "channels_last", "compiled")
COMPILED_BATCH = 32  # one alone: compiling takes minutes


def check_head(labels: int = 80, channels: int = 1536):
    """The low-rank head, whole and in parts, against the paper's convolutions in float64: scores and gradients."""
    torch.manual_seed(0)
    features = torch.randn(3, channels, device=DEVICE, dtype=torch.float64)
    literal = LiteralAssociationHead(channels, labels).to(DEVICE, torch.float64)
    expected = _scores_and_gradients(literal, features)
    for tiled, fused in ((False, False), (True, False), (True, True))[: 3 if GPU else 2]:  # on a CPU tests compile it
        head = AssociationHead(channels, labels, tiled=tiled, fused=fused).to(DEVICE, torch.float64)
        head.load_state_dict(literal.state_dict())
        for got, wanted in zip(_scores_and_gradients(head, features), expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def _scores_and_gradients(head: AssociationHead, features: torch.Tensor) -> list[torch.Tensor]:
    inputs = features.clone().requires_grad_()
    scores = head(inputs)
    sums = scores.association_sums
    if sums is None:
        sums = torch.stack([scores.association.sum((1, 2)), scores.association.square().sum((1, 2))], dim=1)
    (scores.logits.square().mean() + 0.1 * association_penalty_from_sums(sums)).backward()
    return [scores.logits, sums, inputs.grad, *(parameter.grad for parameter in head.parameters())]


@torch.inference_mode()
def check_model(preset: str, size: int):
    """A model's logits against those of the CPU, in float32 and under autocast."""
    model = create_model(preset, size).eval()
    images = torch.rand(2, 3, size, size)
    expected = model(images).logits
    model = model.to(DEVICE)
    torch.testing.assert_close(model(images.to(DEVICE)).logits.cpu(), expected, rtol=1e-3, atol=1e-3)
    with torch.autocast(DEVICE, torch.bfloat16, enabled=GPU):
        torch.testing.assert_close(model(images.to(DEVICE)).logits.cpu(), expected, rtol=0.1, atol=0.1)


def create_model(preset: str, size: int, labels: int = 80) -> AssocFormerForMultiLabel:
    torch.manual_seed(0)
    config = AssocFormerConfig(backbone_config=BACKBONE_PRESETS[preset](size), num_labels=labels)
    return AssocFormerForMultiLabel(config)


def throughput(preset: str, size: int, batches: tuple[int, ...], mode: str, seconds: float) -> list[dict]:
    """Images per second and peak memory of whole training steps (optimizer and EMA too) and of inference."""
    rows = []
    model = create_model(preset, size).to(DEVICE)
    if mode == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    called = torch.compile(model) if mode == "compiled" else model
    optimizer, ema = create_optimizer(model, 1e-6, 1e-4), ModelEmaV3(model)
    for batch in batches:
        images = torch.rand(batch, 3, size, size, device=DEVICE)
        if mode == "channels_last":
            images = images.contiguous(memory_format=torch.channels_last)
        labels = (torch.rand(batch, 80, device=DEVICE) < 0.04).float()
        training = partial(training_step, model, called, optimizer, ema, images, labels)
        inference = partial(inference_step, model, called, images)
        for what, call in (("training", training), ("inference", inference)):
            row = {"model": preset, "what": what, "batch": batch}
            try:
                rate = batch / mean_seconds(call, seconds)
                row |= {"images_per_second": rate, "peak_GiB": peak_memory(call) / 2**30}
            except torch.OutOfMemoryError:
                row |= {"images_per_second": None, "peak_GiB": None}  # out of memory
            rows.append(row)
            print(mode, "  ".join(str(value) for value in row.values()), flush=True)
    torch.compiler.reset()
    return rows


def training_step(model: nn.Module, called: nn.Module, optimizer, ema, images: torch.Tensor, labels: torch.Tensor):
    model.train()
    with torch.autocast(DEVICE, torch.bfloat16, enabled=GPU):
        loss = called(images, labels=labels).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    ema.update(model)


@torch.no_grad()
def inference_step(model: nn.Module, called: nn.Module, images: torch.Tensor):
    model.eval()
    with torch.autocast(DEVICE, torch.bfloat16, enabled=GPU):
        called(images)


def mean_seconds(call, seconds: float) -> float:
    """Mean time of a call, after three untimed ones, over as many as the seconds allow."""
    for _ in range(3):
        call()
    if GPU:
        torch.cuda.synchronize()
    started, count = time.perf_counter(), 0
    while count < 3 or time.perf_counter() - started < seconds:
        call()
        count += 1
        if GPU:
            torch.cuda.synchronize()
    return (time.perf_counter() - started) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="small models, to try the script")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    if not (GPU or args.tiny):
        raise SystemExit("error: no GPU; --tiny tries the script on the CPU")
    presets, size, batches = ("swin-large", "cvt-w24"), 384, (8, 16, 32, 64)
    if args.tiny:
        presets, size, batches = ("tiny-swin", "tiny-cvt"), 64, (2,)

    if "check" in args.parts:
        check_head()
        for preset in presets:
            check_model(preset, size)
        print("correct: head, tiles and models agree with float64 and the CPU", flush=True)

    write = partial(report, command="python -m benchmarks.gpu", folder=args.output)
    if "heads" in args.parts and not args.tiny:
        write("gpu_low_rank", compare_with_literal_convolutions())
        write("gpu_heads", compare_heads())
    if "label_sets" in args.parts:
        write("gpu_large_label_sets", large_label_sets(**({"sizes": (80,), "rounds": 1} if args.tiny else {})))
    for mode in args.modes if "models" in args.parts else ():
        rows = []
        for preset in presets:
            tried = (COMPILED_BATCH,) if mode == "compiled" and not args.tiny else batches
            rows += throughput(preset, size, tried, mode, 1.0 if GPU else 0.1)
            write(f"gpu_models_{mode}", rows)


if __name__ == "__main__":
    main()
