"""The tagger in onnxruntime: the labels that torch gives, from a file that is made once."""

import io
import json
import pickle
import re

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from transformers.models.timm_wrapper import TimmWrapperConfig

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel, Tagger
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import DataError
from assocformer_hf.inference import onnx
from assocformer_hf.inference.images import spread_images
from assocformer_hf.inference.onnx import CALIBRATION_IMAGES, calibration_images
from assocformer_hf.inference.options import PredictOptions
from assocformer_hf.inference.predict import predict
from assocformer_hf.option_values import OptionError
from assocformer_hf.output_folder import OutputFolder
from tests.conftest import ROOT
from tests.inference.test_agreement import write_corpus

MODEL = ROOT / "model_cards/assocformer-swin-tiny-scenes"
SAMPLES = [MODEL / f"samples/{i}.jpg" for i in (1, 2, 3)]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("onnx")
        patch.setattr(onnx, "CACHE", folder)
        yield folder


@pytest.fixture(scope="module")
def scenes() -> list[Image.Image]:
    return [row["image"].convert("RGB") for row in load_scenes("validation", size=100)]


@pytest.fixture(scope="module")
def convolutional(scenes, tmp_path_factory):
    """A folder with a small network of convolutions and random weights, whose scores differ from image to image."""
    folder = tmp_path_factory.mktemp("convolutional")
    processor = create_image_processor(64)
    processor.save_pretrained(folder)
    torch.manual_seed(0)
    config = TimmWrapperConfig(architecture="test_efficientnet")
    model = AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=config, num_labels=6)).train()
    inputs = processor(scenes[:32], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
        for _ in range(30):  # batch norm learns the scale of random features
            model(inputs)
        model.head.embedding.weight.normal_(std=0.2)
    model.save_pretrained(folder)
    return folder


def scores(tagger: Tagger, images) -> np.ndarray:
    return np.stack([one.all_scores for one in tagger(images)])


@pytest.mark.parametrize(("runtime", "difference"), [("onnx", 1e-4), ("onnx-int8", 0.3)])
def test_labels_are_those_of_torch_for_99_of_100_decisions(scenes, runtime, difference):
    expected, found = scores(Tagger(MODEL), scenes), scores(Tagger(MODEL, runtime=runtime), scenes)
    assert ((found >= 0.5) == (expected >= 0.5)).mean() >= 0.99
    assert 0 < np.abs(found - expected).max() < difference
    assert (expected >= 0.5).any(1).mean() > 0.9  # else the decisions were easy


def test_images_of_every_kind_have_the_scores_that_torch_gives_them(tmp_path):
    write_corpus(tmp_path)
    corpus = sorted(tmp_path.iterdir())
    expected = scores(Tagger(MODEL), corpus)
    np.testing.assert_allclose(scores(Tagger(MODEL, runtime="onnx"), corpus), expected, rtol=0, atol=1e-4)
    assert (expected.max(0) - expected.min(0)).mean() > 0.2  # else any image's would do


def test_convolutions_in_int8_are_fitted_to_images(convolutional, scenes):
    expected = scores(Tagger(convolutional), scenes)
    tagger = Tagger(convolutional, runtime="onnx-int8", calibration=scenes[:16])
    found = scores(tagger, scenes)
    assert np.median(np.abs(found - expected)) < 0.02
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95
    assert expected.std(0).min() > 0.03  # else any constant would do
    float32 = Tagger(convolutional, runtime="onnx").onnx.path
    assert tagger.onnx.path.stat().st_size < 0.6 * float32.stat().st_size
    rows = []
    for scene in scenes[:16]:
        scene.save(file := io.BytesIO(), "png")
        rows.append({"bytes": file.getvalue(), "path": None})
    assert Tagger(convolutional, runtime="onnx-int8", calibration=rows).onnx.path == tagger.onnx.path
    message = "int8: this model's convolutions need images to measure their ranges on"
    for calibration in ((), [b"no image"]):
        with pytest.raises(DataError, match=message):
            Tagger(convolutional, runtime="onnx-int8", calibration=calibration)


def test_the_file_is_made_once_for_the_same_weights_and_calibration(convolutional, scenes, tmp_path):
    first = Tagger(convolutional, runtime="onnx")
    made = first.onnx.path.stat().st_mtime_ns
    again = Tagger(convolutional, runtime="onnx")
    assert again.onnx.path == first.onnx.path
    assert again.onnx.path.stat().st_mtime_ns == made
    model = AssocFormerForMultiLabel.from_pretrained(convolutional)
    with torch.no_grad():
        model.head.embedding.bias += 1
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text((convolutional / "preprocessor_config.json").read_text())
    changed = Tagger(tmp_path, runtime="onnx")
    assert changed.onnx.path != first.onnx.path
    np.testing.assert_allclose(scores(changed, SAMPLES), scores(Tagger(tmp_path, device="cpu"), SAMPLES), atol=1e-4)
    create_image_processor(64, [0.5] * 3, [0.5] * 3).save_pretrained(tmp_path)
    assert Tagger(tmp_path, runtime="onnx").onnx.path != changed.onnx.path  # it says how images are prepared
    one, other = (Tagger(convolutional, runtime="onnx-int8", calibration=scenes[i:16]) for i in (0, 1))
    assert one.onnx.path != other.onnx.path


def test_it_travels_to_other_processes_and_still_explains():
    tagger = Tagger(MODEL, runtime="onnx")
    copy = pickle.loads(pickle.dumps(tagger))
    np.testing.assert_array_equal(scores(copy, SAMPLES), scores(tagger, SAMPLES))
    np.testing.assert_allclose(tagger.explain(SAMPLES[0]).scores, scores(tagger, SAMPLES)[0], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "tflite"}, "runtime must be torch, onnx or onnx-int8; got 'tflite'"),
        ({"runtime": "onnx", "mixed_precision": "bf16"}, "runtime onnx computes on the CPU, in its own precision"),
        ({"runtime": "onnx-int8", "device": "cuda:0"}, "runtime onnx-int8 computes on the CPU, in its own precision"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        Tagger(MODEL, **options)


def test_predict_takes_the_calibration_from_its_images_and_keeps_runtimes_apart(convolutional, scenes, tmp_path):
    (tmp_path / "images").mkdir()
    for i, image in enumerate(scenes[:9]):
        image.save(tmp_path / f"images/{i}.png")
    (tmp_path / "images/3.png").write_bytes(b"no image")
    options = PredictOptions(str(convolutional), [str(tmp_path / "images")], tmp_path / "out", num_workers=0)
    options.runtime = "onnx-int8"
    first = predict(options)
    assert (first.images, first.tagged) == (9, 8)
    assert predict(options) == first
    options.runtime = "torch"
    with pytest.raises(DataError, match="results of another run, which differs in runtime; choose another"):
        predict(options)


def test_a_run_is_not_gone_on_with_in_another_onnx_file(scenes, tmp_path):
    """As a CPU of another kind, or other versions of the libraries, would make it."""
    scenes[0].save(tmp_path / "0.png")
    files = set()
    for runtime in ("onnx", "onnx-int8"):
        options = PredictOptions(str(MODEL), [str(tmp_path / "0.png")], tmp_path / runtime, num_workers=0)
        options.runtime = runtime
        first = predict(options)
        assert predict(options) == first
        run = json.loads((tmp_path / runtime / "_run.json").read_text())
        assert (onnx.CACHE / run["ONNX file"]).is_dir()
        files.add(run["ONNX file"])
        other = json.dumps(run | {"ONNX file": "0" * 64})
        OutputFolder(tmp_path / runtime).write(
            "_run.json", "shards", lambda aside, other=other: aside.write_text(other)
        )
        with pytest.raises(DataError, match="holds results of another run, which differs in ONNX file; choose"):
            predict(options)
    assert len(files) == 2


def test_rows_without_an_image_fit_no_int8_and_are_left_out_as_torch_does(convolutional, scenes, tmp_path):
    scenes[0].save(file := io.BytesIO(), "png")
    content = file.getvalue()
    rows = [
        {"bytes": content, "path": "0.png"}, {"bytes": None, "path": None}, None, {"bytes": content, "path": None},
    ]  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.table({"image": rows}), tmp_path / "rows.parquet")
    for runtime in ("torch", "onnx-int8"):
        options = PredictOptions(str(convolutional), [str(tmp_path / "rows.parquet")], tmp_path / runtime)
        options.num_workers, options.runtime = 0, runtime
        done = predict(options)
        assert (done.images, done.tagged) == (4, 2)
        assert [name for name, _ in done.unreadable] == [f"image {i} of the dataset" for i in (1, 2)]


@pytest.mark.parametrize(("count", "chosen"), [(0, 0), (100, 100), (256, 256), (257, 256), (1000, 256)])
def test_int8_is_fitted_to_as_many_images_as_are_said_from_all_over_those_given(count, chosen):
    rows = [{"bytes": None, "path": f"{i}.png"} for i in range(count)]
    dataset = datasets.Dataset.from_dict({"image": rows}, datasets.Features({"image": datasets.Image(decode=False)}))
    found = [int(name.removesuffix(".png")) for name in spread_images(dataset, CALIBRATION_IMAGES)]
    assert len(set(found)) == chosen
    if count:
        assert (found[0], found == sorted(found)) == (0, True)
        assert max(np.diff([*found, count])) <= -(-count // chosen)
        pixels = calibration_images(create_image_processor(8), [np.zeros((8, 8), np.uint8)] * count)
        assert len(pixels) == chosen
