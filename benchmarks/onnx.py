"""Speed of exported models on a CPU, and what int8 costs in accuracy.

`python -m benchmarks.onnx [FOLDER]`: Swin-T at 224x224 with random weights in torch, onnxruntime and onnxruntime int8;
with the folder of a model trained on `scenes`, the mAP of its three forms on the validation split too.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers.models.timm_wrapper import TimmWrapperConfig

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel, AssocFormerImageProcessor
from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import create_image_processor, evaluation_transform
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.evaluation.metrics import average_precision
from assocformer_hf.inference.onnx import export_onnx, quantize_onnx
from benchmarks.measure import ratio, report, seconds


@torch.inference_mode()
def run_torch(model, images: np.ndarray) -> np.ndarray:
    return model(torch.from_numpy(images)).logits.numpy()


def forms(model: AssocFormerForMultiLabel, processor: AssocFormerImageProcessor, folder: Path) -> dict:
    """The model as functions of images `(batch, 3, height, width)`, by the name of what runs them."""
    export_onnx(model.eval(), folder / "fp32.onnx", processor)
    quantize_onnx(folder / "fp32.onnx", folder / "int8.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    found = {"torch fp32": partial(run_torch, model)}
    for name in ("fp32", "int8"):
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
        found[f"onnxruntime {name}"] = lambda images, session=session: session.run(None, {"pixel_values": images})[0]
    return found


def speed(folder: Path, batch: int = 8, rounds: int = 9) -> list[dict]:
    config = TimmWrapperConfig(architecture="swin_tiny_patch4_window7_224")
    model = AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=config, num_labels=80))
    images = np.random.default_rng(0).random((batch, 3, 224, 224), dtype=np.float32)
    calls = {name: partial(run, images) for name, run in forms(model, create_image_processor(224), folder).items()}
    expected = calls["torch fp32"]()
    times = seconds(calls, rounds)
    return [
        {
            "what": f"Swin-T 224, batch {batch}, {name}",
            "speed_over_torch": ratio(times, "torch fp32", name),
            "images_per_second": batch / min(times[name]),
            "largest_difference_of_logits": float(np.abs(call() - expected).max()),
        }
        for name, call in calls.items()
    ]


def accuracy(trained: str, folder: Path) -> list[dict]:
    model = AssocFormerForMultiLabel.from_pretrained(trained)
    processor = AssocFormerImageProcessor.from_pretrained(trained)
    dataset = MultiLabelImages(load_scenes("validation"), evaluation_transform(processor))
    loader = torch.utils.data.DataLoader(dataset, 50, collate_fn=MultiLabelCollator(model.config.num_labels))
    batches = list(loader)
    targets = torch.cat([batch["labels"] for batch in batches]).numpy()
    rows = []
    for name, run in forms(model, processor, folder).items():
        logits = np.concatenate([run(batch["pixel_values"].numpy()) for batch in batches])
        rows.append({"what": f"mAP on scenes, {name}", "mAP": float(average_precision(logits, targets).mean())})
    return rows


def main():
    with tempfile.TemporaryDirectory() as folder:
        report("onnx_speed", speed(Path(folder)), "python -m benchmarks.onnx")
        for trained in sys.argv[1:]:
            report("onnx_accuracy", accuracy(trained, Path(folder)), f"python -m benchmarks.onnx {trained}")


if __name__ == "__main__":
    main()
