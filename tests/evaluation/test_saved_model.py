"""What a saved model was trained on, and what was held out, is known again when it is evaluated."""

import logging
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from PIL import Image

from assocformer_hf import load_multilabel_dataset
from assocformer_hf.data.identity import image_digests
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.data.images_used import ImagesUsed
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.evaluation.report import evaluation_report, metrics_table
from assocformer_hf.evaluation.saved_model import EvaluationArguments, evaluate_saved_model
from assocformer_hf.pages.report import ReportInput, write_report

COUNT = 30


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder of images with a table, without a validation split."""
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (COUNT + 1, 64, 64, 3), dtype=np.uint8)
    for i in range(COUNT + 1):
        Image.fromarray(pixels[i]).save(folder / f"{i:02d}.png")
    (folder / "labels.csv").write_text("image,labels\n" + "".join(f"{i:02d}.png,{'ab'[i % 2]}\n" for i in range(COUNT)))
    (folder / f"{COUNT}.png").rename(tmp_path / "later.png")
    return folder


@pytest.fixture
def model(create_model, photos, tmp_path) -> Path:
    """As a training saves it, with what it used of the photographs."""
    folder = tmp_path / "model"
    create_model(id2label={0: "a", 1: "b"}).save_pretrained(folder)
    create_image_processor(64).save_pretrained(folder)
    splits = load_multilabel_dataset(photos, split_seed=3)
    digests = [image_digests(splits[key]) for key in ("train", "validation")]
    ImagesUsed(*digests, divided=splits.summary.held_out > 0).save(folder)
    return folder


def evaluated(model: Path, photos: Path, split: str | None = None, **options):
    args = EvaluationArguments(str(model), str(photos), split=split, num_workers=0)
    return evaluate_saved_model(args, SourceOptions(**options), Accelerator(cpu=True))


def files(saved) -> set[str]:
    return {Path(saved.images.name(i)).name for i in range(len(saved.dataset))}


def test_the_images_that_were_held_out_are_found_again(model, photos, caplog):
    """With another seed, and with one image more, the division would be another one."""
    held_out = files(evaluated(model, photos, split_seed=3))
    assert "evaluated are the" not in caplog.text
    assert "trained on" not in caplog.text
    other = evaluated(model, photos, split_seed=0)
    assert files(other) == held_out
    assert other.evaluation.trained_on == 0
    (photos.parent / "later.png").rename(photos / "30.png")
    with (photos / "labels.csv").open("a") as table:
        table.write("30.png,a\n")
    caplog.clear()
    assert files(evaluated(model, photos.rename(photos.parent / "moved"), split_seed=3)) == held_out
    assert f"evaluated are the {len(held_out)} images that were held out then" in caplog.text


def test_images_that_were_trained_on_are_said(model, photos, caplog, tmp_path):
    with caplog.at_level(logging.WARNING):
        saved = evaluated(model, photos, "all", split_seed=3)
    trained = len(ImagesUsed.of_model(model).trained_on)
    assert saved.evaluation.trained_on == trained
    report = evaluation_report(saved.evaluation, saved.label_names)
    assert f"{trained} of these images were trained on" in metrics_table(report)
    page = write_report(tmp_path / "report", ReportInput("seen", saved.evaluation, ["a", "b"], 0.5, saved.dataset))
    assert f"was trained on {trained} of these images" in page.read_text(encoding="utf-8")
    assert f"the model was trained on {trained} of these {COUNT} images" in caplog.text
