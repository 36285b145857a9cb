"""Feature maps of a frozen backbone on MIRFLICKR-25000, computed once and kept in a folder outside the repository."""

import hashlib
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms
from transformers import AutoModel

from assocformer_hf.data.identity import dataset_identity
from assocformer_hf.data.images.decoding import decode_image
from assocformer_hf.data.images.transforms import backbone_image_processor, pixel_scaling
from assocformer_hf.data.load import load_multilabel_dataset
from benchmarks.measure import DEVICE, GPU

SPLITS = ("train", "validation", "test")
BATCH = 16


class Split(NamedTuple):
    """Photographs of one split as a head sees them.

    Attributes:
        maps: `(photographs, positions, channels)` in float16, on the disk until read.
        pooled: their means over the positions, `(photographs, channels)` in float32.
        labels: multi-hot, `(photographs, labels)` in float32.
    """

    maps: np.ndarray
    pooled: Tensor
    labels: Tensor


def features_name(photographs: Mapping[str, datasets.Dataset], backbone: Path, image_size: int) -> str:
    """What tells these maps from others: the photographs and labels, the backbone's files, and the input size."""
    content = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        content.update((backbone / name).read_bytes())
    for split in SPLITS:
        content.update(dataset_identity(photographs[split]).encode())
    return f"{backbone.name}-{image_size}-{content.hexdigest()[:12]}"


def load_photographs(dataset: Path, limit: int | None = None) -> dict[str, datasets.Dataset]:
    """The three splits of a source of `load_multilabel_dataset`; of each the first `limit`, where one is given."""
    photographs = load_multilabel_dataset(dataset)
    if limit is None:
        return photographs
    return {split: photographs[split].select(range(limit)) for split in SPLITS}


def load_features(
    photographs: Mapping[str, datasets.Dataset], backbone: Path, folder: Path, image_size: int
) -> dict[str, Split]:
    """The splits as heads see them; maps that are not in the folder are computed and put there.

    Args:
        photographs: the three splits.
        backbone: folder of the backbone.
        folder: of these maps alone, see `features_name`; they take 92 kB a photograph at 192 pixels.
        image_size: side of the square input in pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    num_labels = len(photographs["train"].features["labels"].feature.names)
    missing = [split for split in SPLITS if not (folder / f"{split}.npy").exists()]
    if missing:
        runner = BackboneRunner(backbone, image_size)
        for split in missing:
            _extract(photographs[split], runner, folder / f"{split}.npy")
    return {split: _read(folder / f"{split}.npy", photographs[split], num_labels) for split in SPLITS}


class BackboneRunner:
    """Images to feature maps: by torch on a GPU, else by ONNX Runtime in one thread, in 0.4 of torch's time there.

    Both give the same to 3e-5.
    """

    def __init__(self, backbone: Path, image_size: int):
        self.size = image_size
        self.scale = pixel_scaling(backbone_image_processor(str(backbone), image_size))
        model = _FeatureMap(AutoModel.from_pretrained(backbone)).eval()
        if GPU:
            self.run = partial(_on_gpu, model.to(DEVICE))
            return
        example = torch.zeros(BATCH, 3, image_size, image_size)
        exported = torch.onnx.export(model, (example,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},))
        import onnxruntime  # a machine with a GPU can do without it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        content = exported.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        self.run = lambda pixels: session.run(None, {name: pixels.numpy()})[0]

    def __call__(self, images: list[bytes]) -> np.ndarray:
        """Encoded images to maps `(images, positions, channels)`."""
        side = [self.size, self.size]
        pixels = [
            transforms.resize(transforms.pil_to_tensor(decode_image(image)), side, InterpolationMode.BICUBIC).expand(
                3, -1, -1
            )
            for image in images
        ]
        maps = self.run(self.scale(torch.stack(pixels)))
        return maps.reshape(*maps.shape[:2], -1).transpose(0, 2, 1)


@torch.inference_mode()
def _on_gpu(model: nn.Module, pixels: Tensor) -> np.ndarray:
    with torch.backends.cudnn.flags(allow_tf32=False):
        return model(pixels.to(DEVICE)).cpu().numpy()


class _FeatureMap(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model(pixel_values=pixel_values).last_hidden_state


def _extract(photographs, runner: BackboneRunner, path: Path):
    """Writes the maps aside and gives them their name once all are there."""
    files = photographs.with_format("arrow")[:]["image"]
    started, unfinished, maps = time.perf_counter(), path.with_suffix(".unfinished"), None
    for start in range(0, len(files), BATCH):
        batch = runner([image["bytes"] for image in files[start : start + BATCH].to_pylist()])
        if maps is None:
            shape = (len(files), *batch.shape[1:])
            maps = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.float16, shape=shape)
        maps[start : start + len(batch)] = batch
    maps.flush()
    unfinished.rename(path)
    print(f"{path}: {len(files)} maps in {time.perf_counter() - started:.0f} s", flush=True)


def _read(path: Path, photographs, num_labels: int) -> Split:
    maps, means = np.load(path, mmap_mode="r"), path.with_name(f"{path.stem}-pooled.npy")
    if not means.exists():
        blocks = np.array_split(maps, -(-len(maps) // 250))
        np.save(means, np.concatenate([block.mean(1, dtype=np.float32) for block in blocks]))
    pooled = torch.from_numpy(np.load(means))
    labels = torch.zeros(len(photographs), num_labels)
    for row, present in zip(labels, photographs["labels"], strict=True):
        row[present] = 1
    return Split(maps, pooled, labels)
