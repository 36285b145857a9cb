"""What training costs beside the backbone: head, moving average, loop, and the images.

`python -m benchmarks.training [FOLDER]`: on the CPU, float32. The images are the JPEG files in the folder; without one,
drawn scenes of COCO's usual size.
"""

import io
import random
import sys
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from timm.utils import ModelEmaV3
from torchvision.transforms import v2
from torchvision.transforms.functional import to_tensor
from transformers.models.timm_wrapper import TimmWrapperConfig

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel
from assocformer_hf.data.images.decoding import decode_image
from assocformer_hf.data.images.transforms import create_image_processor, pixel_scaling, training_transform
from assocformer_hf.data.scenes.scenes import draw_scene, voc2007_cooccurrence
from assocformer_hf.model.presets import swin_large
from assocformer_hf.training.arguments import RecipeArguments
from assocformer_hf.training.optimization import create_optimizer, create_scheduler, parameter_groups
from assocformer_hf.training.preemption import StopRequest
from assocformer_hf.training.step import SUMS, GradientGuard, Progress, train_one_epoch
from benchmarks.measure import ratio, report, seconds


def head_share(rounds: int = 3) -> dict:
    """Forward and backward of the head over a whole training step of Swin-L at 384x384, batch 1."""
    model = AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=swin_large(), num_labels=80)).train()
    images, labels = torch.rand(1, 3, 384, 384), torch.zeros(1, 80)
    features = torch.rand(1, 1536, requires_grad=True)

    def step():
        model(images, labels=labels).loss.backward()
        model.zero_grad()

    def head():
        model.head(features).logits.sum().backward()

    times = seconds({"head": head, "step": step}, rounds)
    return {"what": "head's share of a training step of Swin-L", "ratio": ratio(times, "head", "step"), "target": 0.005}


@torch.no_grad()
def loop_update(average: torch.nn.Module, model: torch.nn.Module, decay: float = 0.9997):
    """The moving average as it is commonly written, tensor by tensor."""
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        mean.copy_(decay * mean + (1 - decay) * value)


def moving_average(rounds: int = 15) -> dict:
    model = AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=swin_large(), num_labels=80))
    ema = ModelEmaV3(model, decay=0.9997)
    average = deepcopy(model)
    calls = {"ours": partial(ema.update, model), "loop": partial(loop_update, average, model)}
    times = seconds(calls, rounds)
    return {
        "what": "EMA update of Swin-L over a loop over tensors",
        "ratio": ratio(times, "ours", "loop"),
        "target": 0.5,
    }


def loop_overhead(batch: int = 16, rounds: int = 12) -> list[dict]:
    """A step of our loop over the same step written out bare, Swin-T at 224x224.

    What the loop adds does not depend on the batch: at one image it stands out from the noise, which at 16 images is
    larger than it.
    """
    config = TimmWrapperConfig(architecture="swin_tiny_patch4_window7_224")
    model = AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=config, num_labels=80))
    accelerator, bare = Accelerator(cpu=True), deepcopy(model).train()
    bare_optimizer = torch.optim.AdamW(parameter_groups(bare, 1e-4), lr=1e-6, fused=True)
    ema, optimizer = ModelEmaV3(model), create_optimizer(model, 1e-6, 1e-4)
    scheduler = create_scheduler(optimizer, 10_000)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    stop = StopRequest()

    def inputs(images: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.rand(images, 3, 224, 224), "labels": torch.zeros(images, 80)}

    def bare_step(batch: dict[str, torch.Tensor]):
        bare(**batch).loss.backward()
        bare_optimizer.step()
        bare_optimizer.zero_grad()

    def our_step(batch: dict[str, torch.Tensor]):
        """With all that keeps a run safe: seeding, the gradients' norm, counting, signals; checkpoints aside."""
        images = len(batch["labels"])
        tracked = batch | {"index": torch.arange(images), "readable": torch.ones(images, dtype=torch.bool)}
        recipe = RecipeArguments(batch_size=images, log_every=1)
        train_one_epoch(
            model, ema, [tracked], scheduler, accelerator, recipe, Progress(0, 0, 1, torch.zeros(SUMS)),
            GradientGuard(model, optimizer, accelerator, recipe), lambda step: stop.agreed(accelerator),
        )  # fmt: skip

    one, many = inputs(1), inputs(batch)
    small = seconds({"ours": partial(our_step, one), "bare": partial(bare_step, one)}, 40)
    large = seconds({"ours": partial(our_step, many), "bare": partial(bare_step, many)}, rounds)
    added = median(a - b for a, b in zip(small["ours"], small["bare"], strict=True))
    what = "a step of our loop, with EMA, schedule and all checks, over a bare one"
    return [
        {"what": f"{what}; 1 + what it adds at batch 1", "ratio": 1 + added / median(large["bare"]), "target": 1.02},
        {"what": f"{what}; timed as a whole", "ratio": ratio(large, "ours", "bare"), "target": 1.02},
    ]


def read_files(folder: str | None, count: int = 60) -> list[bytes]:
    if folder is not None:
        return [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))[:count]]
    files, names = [], voc2007_cooccurrence()["labels"]
    for index in range(count):
        scene = draw_scene([names[index % len(names)]], 640, np.random.default_rng(index)).resize((640, 480))
        scene.save(file := io.BytesIO(), "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def images_per_second(files: list[bytes], size: int = 384, rounds: int = 5) -> list[dict]:
    """Our training pipeline over one in PIL alone: decode, resize, RandAugment, Cutout, tensor; one thread.

    Ours ends in bytes, which the device scales to [0, 1]; with that done by the same core it is reported too.
    """
    processor, randaugment = create_image_processor(size), v2.RandAugment(2, 9)
    transform, scale = training_transform(processor), pixel_scaling(processor)

    def ours(file: bytes) -> torch.Tensor:
        return transform(decode_image(file))

    def scaled(file: bytes) -> torch.Tensor:
        return scale(ours(file))

    def with_pil(file: bytes) -> torch.Tensor:
        image = Image.open(io.BytesIO(file)).convert("RGB")
        image = randaugment(image.resize((size, size), Image.Resampling.BICUBIC))
        x, y, half = random.randrange(size), random.randrange(size), size // 4
        corners = max(x - half, 0), max(y - half, 0), min(x + half, size), min(y + half, size)
        image.paste(tuple(random.randrange(256) for _ in range(3)), corners)
        return to_tensor(image)

    def run(pipeline):
        for file in files:
            pipeline(file)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = seconds({f.__name__: partial(run, f) for f in (ours, scaled, with_pil)}, rounds)
    torch.set_num_threads(threads)
    print(f"training images at {size}: {len(files) / min(times['ours']):.0f} a second on one core")
    what = "training images per second and core over PIL alone"
    return [
        {"what": what, "ratio": ratio(times, "with_pil", "ours"), "target": 1.4},
        {"what": what + ", scaling included", "ratio": ratio(times, "with_pil", "scaled"), "target": 1.4},
    ]


def main():
    rows = [
        *images_per_second(read_files(sys.argv[1] if len(sys.argv) > 1 else None)),
        head_share(),
        moving_average(),
        *loop_overhead(),
    ]
    report("training", rows, "python -m benchmarks.training" + " FOLDER_OF_IMAGES" * (len(sys.argv) > 1))


if __name__ == "__main__":
    main()
