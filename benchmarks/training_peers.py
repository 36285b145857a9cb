"""Training photographs on a CPU in this package and in what people would use instead, side by side.

`python -m benchmarks.training_peers DATA WEIGHTS [--full] [BACKBONE …]`: DATA is a dataset of small square
photographs, WEIGHTS the timm folder of the pretrained EfficientNet-Lite0. The same photographs as JPEG files, the same
backbone with the same weights, batch of 32, mirrored at random, float32, one thread and one loading process each; in
turn, each training in a process of its own. Learning rates and schedules are each package's own way with one maximum;
ours is the recipe `photographs`, with its head start and without. fastai and LightlyTrain run in environments of their
own, named by FASTAI_PYTHON and LIGHTLY_PYTHON, and are left out where these are not set. ResNet-18 is there as
LightlyTrain 0.18 trains neither of the others: the head of EfficientNet wants 1,280 features where its wrapper of timm
gives 320, and of Swin, whose maps have their channels last, it pools the wrong axes. `--full` takes more photographs
and epochs. Where backbones are named, only these are run, and the rows of the others stay.
"""

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import datasets
import numpy as np
import psutil
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import TimmWrapperConfig, TimmWrapperModel

from assocformer_hf import load_multilabel_dataset
from assocformer_hf.data.schema import label_names
from assocformer_hf.evaluation.metrics import average_precision
from benchmarks.measure import RESULTS, environment, report
from benchmarks.photographs_rows import Rows
from benchmarks.tagging import memory_of
from benchmarks.training_peers_worker import PEERS

SIZE, BATCH = 128, 32
HALF, IMAGENET = ([0.5] * 3, [0.5] * 3), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
BACKBONES = {
    "EfficientNet-Lite0, pretrained": ("tf_efficientnet_lite0", {}, HALF),
    "ResNet-18, random": ("resnet18", {}, IMAGENET),
    "Swin-T, random": ("swin_tiny_patch4_window7_224", {"img_size": SIZE, "window_size": 4}, IMAGENET),
}
CANNOT = {("LightlyTrain", "EfficientNet-Lite0, pretrained"), ("LightlyTrain", "Swin-T, random")}
WORKER = Path(__file__).with_name("training_peers_worker.py")


def environments() -> dict[str, str]:
    """The Python of each peer; those without one are not there."""
    pythons = dict.fromkeys(PEERS, sys.executable)
    pythons |= {"fastai": os.environ.get("FASTAI_PYTHON"), "LightlyTrain": os.environ.get("LIGHTLY_PYTHON")}
    return {peer: python for peer, python in pythons.items() if python}


def write_photographs(source: str, folder: Path, train: int, validation: int) -> tuple[list[str], np.ndarray]:
    """The first labelled photographs of two splits as files with tables; the labels, and what is in validation."""
    dataset = load_multilabel_dataset(source)
    names, everything, targets = label_names(dataset["train"]), [], np.zeros((validation, 0), int)
    for split, count in (("train", train), ("validation", validation)):
        part = dataset[split].cast_column("image", datasets.Image(decode=False))
        labelled = [row for row in part.select(range(2 * count)) if row["labels"]][:count]
        rows = []
        for i, row in enumerate(labelled):
            name = f"{split}/{i:05d}.jpg"
            (folder / split).mkdir(exist_ok=True)
            Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB").save(folder / name, quality=90)
            rows.append((name, "|".join(names[label] for label in row["labels"])))
        everything += [(name, labels, split) for name, labels in rows]
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("image_path", "label"), *rows])
        targets = np.zeros((len(labelled), len(names)), int)
        for line, row in zip(targets, labelled, strict=True):
            line[row["labels"]] = 1
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "labels", "split"), *everything])
    return names, targets


def write_backbone(name: str, weights: str, folder: Path) -> dict:
    """One set of weights in the two forms that are loaded: a state dict, and a folder of transformers."""
    architecture, arguments, (mean, std) = BACKBONES[name]
    torch.manual_seed(0)
    model = timm.create_model(architecture, **arguments)
    pretrained = name.endswith("pretrained")
    if pretrained:
        model.load_state_dict(load_file(Path(weights) / "model.safetensors"))
    torch.save(model.state_dict(), folder / "weights.pt")
    wrapped = TimmWrapperModel(TimmWrapperConfig(architecture=architecture, model_args=arguments or None))
    own = wrapped.timm_model.state_dict()
    wrapped.timm_model.load_state_dict({key: value for key, value in model.state_dict().items() if key in own})
    wrapped.config.pretrained_cfg = model.pretrained_cfg
    wrapped.save_pretrained(folder / "backbone")
    return {
        "architecture": architecture, "timm_arguments": arguments, "weights": str(folder / "weights.pt"),
        "folder": weights if pretrained else str(folder / "backbone"), "pretrained": pretrained,
        "mean": mean, "std": std, "learning_rate": 1e-3,
    }  # fmt: skip


def run(python: str, settings: dict, folder: Path) -> dict:
    """One training: what it left, the most memory of its processes together, and the processor's time they took."""
    folder.mkdir(parents=True)
    file = folder / "settings.json"
    file.write_text(json.dumps(settings | {"output": str(folder / "out")}))
    threads = str(settings["threads"])
    environment = os.environ | {"OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"LIGHTLY_TRAIN_EVENTS_DISABLED": "1", "LIGHTLY_TRAIN_CACHE_DIR": str(folder / "cache")}
    started, peak = time.time(), 0.0
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([python, WORKER, file], env=environment, stdout=log, stderr=log, cwd=folder)
        while process.poll() is None:
            try:
                peak = max(peak, memory_of(process.pid))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.25)
    if process.wait():
        raise RuntimeError(
            f"{settings['peer']}: ended with {process.returncode}: {(folder / 'log').read_text()[-3000:]}"
        )
    result = json.loads((folder / "result.json").read_text())
    steps, of_epoch = result["steps"], len(result["steps"]) // settings["epochs"]
    spans = [steps[end - 1] - steps[end - of_epoch] for end in range(of_epoch, len(steps) + 1, of_epoch)]
    return {
        "training_images_per_second": BATCH * (of_epoch - 1) / median(spans),
        "evaluation_images_per_second": result["evaluation"],
        "seconds_to_first_step": steps[0] - started,
        "seconds_of_training": result["trained"] - started,
        "peak_MiB": peak / 2**20,
        "steps": len(steps),
        "scores": np.load(folder / "scores.npy"),
    }


def compare(backbone: str, settings: dict, targets: np.ndarray, folder: Path, rounds: int) -> list[dict]:
    """All peers in turn, round by round; ratios are the median over the rounds, with the least and the largest."""
    pythons = {peer: python for peer, python in environments().items() if (peer, backbone) not in CANNOT}
    if not settings["pretrained"]:
        del pythons["assocformer_hf without head start"]  # nothing to start on
    found = {peer: [] for peer in pythons}
    for number in range(rounds):
        for peer, python in pythons.items():
            place = folder / f"{number}-{list(pythons).index(peer)}"
            found[peer].append(run(python, settings | {"peer": peer, "seed": number}, place))
            print(backbone, peer, {k: v for k, v in found[peer][-1].items() if k != "scores"}, flush=True)
    ours, rows = found["assocformer_hf"], []
    for peer, results in found.items():
        row = {"backbone": backbone, "peer": peer}
        for key in ("training_images_per_second", "evaluation_images_per_second"):
            ratios = [a[key] / b[key] for a, b in zip(ours, results, strict=True)]
            row |= {key: median(r[key] for r in results), f"ours_over_it_{key.split('_')[0]}": _spread(ratios)}
        for key in ("seconds_to_first_step", "seconds_of_training", "peak_MiB"):
            ratios = [b[key] / a[key] for a, b in zip(ours, results, strict=True)]
            row |= {key: median(r[key] for r in results), f"it_over_ours_{key}": _spread(ratios)}
        scores = [100 * float(average_precision(r["scores"], targets).mean()) for r in results]
        rows.append(row | {"mAP": _spread(scores), "steps": results[0]["steps"], "rounds": rounds})
    return rows


def _spread(values: list[float]) -> list[float]:
    """The least, the median and the largest."""
    return [round(value, 3) for value in (min(values), median(values), max(values))]


def main(source: str, weights: str, *options: str):
    full, chosen = "--full" in options, [backbone for backbone in BACKBONES if backbone in options] or [*BACKBONES]
    train, validation, epochs, rounds = (3000, 1000, 3, 3) if full else (480, 320, 1, 2)
    name = "training_peers" if full else "training_peers_quick"
    rows = [row for row in Rows(RESULTS / f"{name}.json") if row["backbone"] not in chosen]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        names, targets = write_photographs(source, folder, train, validation)
        common = {
            "data": str(folder), "names": names, "image_size": SIZE, "batch_size": BATCH, "epochs": epochs,
            "num_workers": 1, "threads": 1,
        }  # fmt: skip
        for number, backbone in enumerate(chosen):
            (place := folder / f"backbone-{number}").mkdir()
            settings = common | write_backbone(backbone, weights, place)
            compared = compare(backbone, settings, targets, place / "runs", rounds)
            rows += [row | {"environment": environment()} for row in compared]
            rows.sort(key=lambda row: [*BACKBONES].index(row["backbone"]))
            report(name, rows, "python -m benchmarks.training_peers DATA WEIGHTS" + " --full" * full)


if __name__ == "__main__":
    main(*sys.argv[1:])
