"""Settings and small pieces that the tests share."""

import json
import os
import shutil
import subprocess
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched: folders with random weights stand in for the Hub
os.environ.setdefault("PYTHONFAULTHANDLER", "1")  # processes that are aborted say where they stood
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run in two processes side by side

import pytest
import torch
from transformers import PreTrainedConfig

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.model.presets import BACKBONE_PRESETS, tiny_cvt, tiny_swin

ROOT = Path(__file__).parent.parent
TINY_BACKBONES = ("tiny-swin", "tiny-cvt")
SHALLOW_BACKBONES = ("shallow-swin", "shallow-cvt")
NAMES = ("cat", "dog", "person", "sofa")

# Boxes of the text that is drawn, which on no screen may lie over each other.
OVERLAPS = """() => {
  const boxes = [];
  for (const element of document.querySelectorAll(
      'h1, h2, h3, p, nav a, th, td, dt, dd, label, figcaption, svg, svg text, .tiles > div, img'))
    boxes.push([element, element.getBoundingClientRect()]);
  const found = [];
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const [one, a] = boxes[i], [other, b] = boxes[j];
    if (one.contains(other) || other.contains(one)) continue;
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 1 && high > 1) found.push([one.outerHTML.slice(0, 80), other.outerHTML.slice(0, 80)]);
  }
  return found;
}"""


def images(count: int = 2, height: int = 64, width: int = 64) -> torch.Tensor:
    """The same random images in every call."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def shallow_swin(image_size: int) -> PreTrainedConfig:
    """The tiny Swin with one block of each kind: compilers and exporters take as long as a model has layers."""
    config = tiny_swin(image_size)
    config.model_args |= {"depths": [2, 1], "num_heads": [2, 4]}
    return config


def shallow_cvt(image_size: int) -> PreTrainedConfig:
    """The tiny CvT with one block in each stage."""
    config = tiny_cvt(image_size)
    config.depth = [1, 1, 1]
    return config


PRESETS = BACKBONE_PRESETS | {"shallow-swin": shallow_swin, "shallow-cvt": shallow_cvt}


@pytest.fixture(scope="session")
def create_model():
    """Builds a small model with random weights from a preset's name and configuration values."""

    def create(preset: str = "tiny-cvt", **config) -> AssocFormerForMultiLabel:
        torch.manual_seed(0)
        config.setdefault("id2label", dict(enumerate(NAMES)))
        return AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=PRESETS[preset](64), **config)).eval()

    return create


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests, with a camera that shows a drawn picture."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", *camera])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def violations(tmp_path_factory):
    """What axe-core finds wrong with a page: the rules that it breaks, and where."""
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        pytest.skip("no npm to get axe-core with")
    got = subprocess.run(["npm", "install", "axe-core@4", "--no-audit", "--no-fund"], cwd=folder, capture_output=True)
    if got.returncode != 0:
        pytest.skip("axe-core cannot be had from the npm registry")
    script = (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")

    def find(page) -> list:
        page.evaluate(script)
        found = page.evaluate("axe.run()")["violations"]
        return [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found]

    return find


@pytest.fixture(scope="session")
def coco_mini() -> Path:
    """The folder of 159 real COCO images, where it is at hand."""
    folder = Path(os.environ.get("ASSOCFORMER_TEST_DATA", ROOT.parent / "shared/data")) / "coco-mini"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: real COCO images are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def small_coco(tmp_path_factory) -> Path:
    """A folder in COCO's layout, with drawn images: 48 to train on (`train`), 37 to evaluate on (`val`)."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "annotations").mkdir()
    for split, source, count in (("train", "train", 48), ("val", "validation", 37)):
        scenes = load_scenes(source, size=count)
        (folder / split).mkdir()
        names = scenes.features["labels"].feature.names
        images, annotations = [], []
        for i, example in enumerate(scenes):
            example["image"].convert("RGB").save(folder / split / f"{i:04d}.jpg")
            images.append({"id": i, "file_name": f"{i:04d}.jpg"})
            annotations += [{"image_id": i, "category_id": label + 1} for label in example["labels"]]
        content = {
            "images": images,
            "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations)],
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
        }
        (folder / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return folder
