"""ONNX files against the models that they were exported from."""

import sys

import numpy as np
import onnxruntime
import pytest
import torch

from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.inference.onnx import export_onnx, quantize_onnx
from tests import forked
from tests.conftest import TINY_BACKBONES


def run_onnx(path, images: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"pixel_values": images.numpy()})[0])


@pytest.mark.parametrize(("preset", "labels"), [*((preset, 4) for preset in TINY_BACKBONES), ("tiny-cvt", 1100)])
def test_the_file_gives_the_models_logits_at_any_batch_size(create_model, preset, labels, tmp_path):
    """From 1,024 labels on A is computed in tiles."""
    model = create_model(preset, id2label={i: f"label {i}" for i in range(labels)}).train()
    assert model.head.association.tiled == (labels > 1000)
    export_onnx(model, tmp_path / "model.onnx", 64)
    assert model.training
    model.eval()
    for count in (1, 5):
        images = torch.rand(count, 3, 64, 64)
        torch.testing.assert_close(run_onnx(tmp_path / "model.onnx", images), model(images).logits, rtol=0, atol=1e-4)


def test_int8_is_smaller_and_close(create_model, tmp_path):
    model = create_model("tiny-cvt")
    export_onnx(model, tmp_path / "model.onnx", 64)
    quantize_onnx(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    assert (tmp_path / "int8.onnx").stat().st_size < 0.6 * (tmp_path / "model.onnx").stat().st_size
    images = torch.rand(4, 3, 64, 64)
    torch.testing.assert_close(
        run_onnx(tmp_path / "int8.onnx", images).sigmoid(), model(images).logits.sigmoid(), rtol=0, atol=0.05
    )


def test_the_script_exports_a_model_folder(create_model, tmp_path):
    create_model("tiny-cvt").save_pretrained(tmp_path / "model")
    create_image_processor(64).save_pretrained(tmp_path / "model")
    command = [sys.executable, "-m", "assocformer_hf", "export", "--model", str(tmp_path / "model"), "--int8"]
    command += ["--output", str(tmp_path / "exported/model.onnx")]
    done = forked.run(command)
    assert done.returncode == 0, done.stderr
    assert "model.onnx: " in done.stdout
    assert "model-int8.onnx: " in done.stdout
    differences = [float(line.split()[-3]) for line in done.stdout.splitlines() if "scores differ" in line]
    assert differences[0] < 1e-5
    assert np.isfinite(differences[1])
