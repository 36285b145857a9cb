"""One way from file to score: every entry point gives an image the same scores.

The tagger in onnxruntime gets the same files in `test_runtimes.py`.
"""

import base64
import copy
import importlib
import io
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import DataLoader
from transformers import AutoImageProcessor, pipeline

from assocformer_hf import AssocFormerForMultiLabel, Tagger
from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import evaluation_transform
from assocformer_hf.data.scenes.scenes import draw_scene
from assocformer_hf.data.schema import multilabel_features
from assocformer_hf.evaluation.evaluator import evaluate
from assocformer_hf.hub.create_space import create_space
from assocformer_hf.hub.handler import EndpointHandler
from assocformer_hf.inference.predict import PredictOptions, predict
from assocformer_hf.model.image_processing_assocformer import FORMATS
from tests.conftest import ROOT

MODEL = ROOT / "model_cards/assocformer-swin-tiny-scenes"
MODES = (
    "1", "L", "P", "RGB", "RGBA", "CMYK", "LA", "PA", "YCbCr", "LAB", "HSV", "RGBX", "RGBa", "La", "I", "I;16", "I;16B",
)  # fmt: skip
WIDE = ("I", "I;16", "I;16B")
SUFFIXES = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
BOUND = 1e-3


def picture(seed: int, width: int, height: int) -> Image.Image:
    """A drawn scene, of which the model is sure."""
    names = ["person", "dog", "chair", "sofa", "bottle", "car", "bird", "bus"]
    scene = draw_scene([names[seed % 8], names[(seed + 3) % 8]], 256, np.random.default_rng(seed))
    return scene.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode in WIDE:
        grey = np.asarray(image.convert("L")).astype(np.int32) * 257
        return Image.fromarray(grey if mode == "I" else grey.astype(">u2" if mode == "I;16B" else np.uint16))
    through = {"RGBa": "RGBA", "La": "LA", "PA": "RGBA"}.get(mode, "RGB")
    return image.convert(through).convert(mode)


def write_corpus(folder: Path):
    """Every mode in every format that has it, every orientation, and what cameras and web pages add to it."""
    seed = 0
    for kind in FORMATS:
        for mode in MODES:
            seed += 1
            file = io.BytesIO()
            try:
                in_mode(picture(seed, 150 + seed % 40, 120), mode).save(file, kind)
                Image.open(file).load()
            except (OSError, ValueError, KeyError, SystemError):
                continue  # the format has no such mode, or PIL cannot read what it wrote: YCbCr in TIFF
            wide = "wide-" if mode in WIDE else ""
            name = f"{wide}{kind}-{mode.replace(';', '')}.{SUFFIXES.get(kind, kind.lower())}"
            (folder / name).write_bytes(file.getvalue())
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix in ("jpg", "png", "webp", "tif"):
            picture(orientation, 140, 100).save(folder / f"turned-{orientation}.{suffix}", exif=exif)
    for i, quality in enumerate((60, 75, 90)):
        picture(i, 1600, 1200).save(folder / f"large-{quality}.jpg", quality=quality)
        picture(i, 1300, 700).convert("L").save(folder / f"large-grey-{quality}.jpg", quality=quality, progressive=True)
        picture(i, 900, 1200).convert("CMYK").save(folder / f"large-cmyk-{quality}.jpg", quality=quality)
    palette = picture(5, 150, 120).quantize(64)
    palette.save(folder / "palette-one.png", transparency=3)
    palette.save(folder / "palette-many.png", transparency=bytes(range(64)))
    palette.save(folder / "palette.gif", transparency=0)
    frames = [picture(6, 120, 90), picture(7, 120, 90)]
    for suffix in ("gif", "webp", "tif", "png"):
        frames[0].save(folder / f"moving.{suffix}", save_all=True, append_images=frames[1:])


class EntryPoints:
    """Each method takes the paths of images and returns their scores, `(images, labels)`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.model = AssocFormerForMultiLabel.from_pretrained(MODEL).eval()
        self.processor = AutoImageProcessor.from_pretrained(MODEL)
        self.names = list(self.model.config.id2label.values())
        self.handler = EndpointHandler(str(MODEL))

    def ordered(self, rows: list[dict]) -> list[float]:
        scores = {row["label"]: row["score"] for row in rows}
        return [scores[name] for name in self.names]

    def pipeline_from_paths(self, paths):
        found = pipeline("image-classification", model=str(MODEL))([str(path) for path in paths], top_k=20)
        return [self.ordered(rows) for rows in found]

    def pipeline_from_pictures(self, paths):
        found = pipeline("image-classification", model=str(MODEL))([Image.open(path) for path in paths], top_k=20)
        return [self.ordered(rows) for rows in found]

    def processor_and_model(self, paths):
        with torch.inference_mode():
            pictures = [Image.open(path) for path in paths]
            return self.model(**self.processor(pictures, return_tensors="pt")).logits.sigmoid().numpy()

    def predict(self, paths):
        output = self.folder / "tags"
        predict(PredictOptions(str(MODEL), [str(path) for path in paths], output, num_workers=0))
        table = datasets.Dataset.from_parquet([str(path) for path in sorted(output.glob("*.parquet"))])
        assert list(table["file"]) == [str(path) for path in paths]
        return np.array(table["scores"][:])

    def tagger(self, paths):
        return [one.all_scores for one in Tagger(MODEL)(paths)]

    def explain(self, paths):
        tagger = Tagger(MODEL)
        return [tagger.explain(path).scores for path in paths]

    def evaluate(self, paths):
        rows = {"image": [str(path) for path in paths], "labels": [[0]] * len(paths)}
        dataset = datasets.Dataset.from_dict(rows, features=multilabel_features(self.names))
        images = MultiLabelImages(dataset, evaluation_transform(self.processor))
        loader = DataLoader(images, 16, collate_fn=MultiLabelCollator(20, with_index=True))
        accelerator = Accelerator()
        model = copy.deepcopy(self.model).to(accelerator.device)
        return evaluate({"model": model}, accelerator.prepare(loader), accelerator)["model"].scores

    def handler_with(self, inputs):
        return [self.ordered(self.handler({"inputs": one, "parameters": {"top_k": 20}})) for one in inputs]

    def handler_with_bytes(self, paths):
        return self.handler_with(path.read_bytes() for path in paths)

    def handler_with_base64(self, paths):
        return self.handler_with(base64.b64encode(path.read_bytes()).decode() for path in paths)

    def handler_with_pictures(self, paths):
        return self.handler_with(Image.open(path) for path in paths)

    def space(self, paths):
        create_space(self.folder / "space", str(MODEL))
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(self.folder / "space"))
            patch.setenv("MODEL_ID", str(MODEL))
            app = importlib.import_module("app")
        try:
            answers = [app.analyse({"picture": base64.b64encode(path.read_bytes()).decode()}) for path in paths]
            shown = [[{"label": one["name"], "score": one["score"]} for one in answer["labels"]] for answer in answers]
            return [self.ordered(labels) for labels in shown]
        finally:
            for name in ("app", "handler", "panels", "why"):
                del sys.modules[name]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def entry_points(tmp_path_factory) -> EntryPoints:
    return EntryPoints(tmp_path_factory.mktemp("entry"))


@pytest.fixture(scope="module")
def expected(corpus, entry_points) -> np.ndarray:
    with torch.inference_mode():
        inputs = entry_points.processor(corpus, return_tensors="pt")
        return entry_points.model(**inputs).logits.sigmoid().numpy()


@pytest.mark.parametrize(
    "entry_point",
    [
        "pipeline_from_paths", "pipeline_from_pictures", "processor_and_model", "predict", "tagger", "explain",
        "evaluate", "handler_with_bytes", "handler_with_base64", "handler_with_pictures", "space",
    ],
)  # fmt: skip
def test_every_entry_point_gives_the_same_scores(corpus, entry_points, expected, entry_point):
    assert len(corpus) > 100
    # transformers' pipeline clips 16-bit values before any image processor sees them: docs/transformers.md says so.
    chosen = [i for i, path in enumerate(corpus) if not ("pipeline" in entry_point and path.name.startswith("wide-"))]
    found = np.array(getattr(entry_points, entry_point)([corpus[i] for i in chosen]))
    differences = np.abs(found - expected[chosen]).max(1)
    worst = {corpus[i].name: float(one) for i, one in zip(chosen, differences, strict=True) if one > BOUND}
    assert worst == {}


def test_the_scores_of_the_corpus_differ_from_image_to_image(expected):
    """Else the test above could not fail."""
    assert (expected.max(0) - expected.min(0)).mean() > 0.2
