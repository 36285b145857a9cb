"""ONNX files against the models that they were exported from."""

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import AutoImageProcessor

from assocformer_hf import AssocFormerForMultiLabel
from assocformer_hf.commands.main import main
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.inference.onnx import export_onnx, export_saved_model, quantize_onnx
from tests.conftest import ROOT


def run_onnx(path, images: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"pixel_values": images.numpy()})[0])


@pytest.fixture(scope="module")
def exported(create_model, tmp_path_factory):
    """A model, and its file."""
    model, path = create_model("tiny-cvt"), tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(model, path, 64)
    return model, path


def assert_same_logits(path, model):
    for count in (1, 5):
        images = torch.rand(count, 3, 64, 64)
        torch.testing.assert_close(run_onnx(path, images), model(images).logits, rtol=0, atol=1e-4)


def test_the_file_gives_the_models_logits_at_any_batch_size(exported):
    model, path = exported
    assert not model.head.association.tiled
    assert_same_logits(path, model)


def test_a_model_in_training_that_computes_a_in_tiles_is_exported_alike_and_stays_in_training(create_model, tmp_path):
    """From 1,024 labels on A is computed in tiles."""
    model = create_model("shallow-swin", id2label={i: f"label {i}" for i in range(1100)}).train()
    assert model.head.association.tiled
    model.backbone.eval()  # as where its batch norm is frozen
    export_onnx(model, tmp_path / "model.onnx", 64)
    assert (model.training, model.backbone.training) == (True, False)
    assert_same_logits(tmp_path / "model.onnx", model.eval())


def test_int8_is_smaller(exported, tmp_path):
    _, path = exported
    quantize_onnx(path, tmp_path / "int8.onnx")
    assert (tmp_path / "int8.onnx").stat().st_size < 0.6 * path.stat().st_size


def test_int8_of_a_trained_model_is_close(tmp_path):
    folder = ROOT / "model_cards/assocformer-swin-tiny-scenes"
    model, processor = (
        AssocFormerForMultiLabel.from_pretrained(folder).eval(),
        AutoImageProcessor.from_pretrained(folder),
    )
    export_onnx(model, tmp_path / "model.onnx", 64)
    quantize_onnx(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    images = processor(images=load_scenes("validation", size=64)["image"][:], return_tensors="pt")["pixel_values"]
    scores, exact = run_onnx(tmp_path / "int8.onnx", images).sigmoid(), model(images).logits.sigmoid().detach()
    assert exact.std(0).mean() > 0.1
    torch.testing.assert_close(scores, exact, rtol=0, atol=0.02)


def test_the_command_exports_a_model_folder(create_model, tmp_path, capsys):
    create_model("shallow-cvt").save_pretrained(tmp_path / "model")
    create_image_processor(64).save_pretrained(tmp_path / "model")
    main(["export", "--model", str(tmp_path / "model"), "--int8", "--output", str(tmp_path / "exported/model.onnx")])
    printed = capsys.readouterr().out
    assert "model.onnx: " in printed
    assert "model-int8.onnx: " in printed
    differences = [float(line.split()[-3]) for line in printed.splitlines() if "scores differ" in line]
    assert differences[0] < 1e-5
    assert np.isfinite(differences[1])


def test_what_the_command_cannot_export_is_said(create_model, tmp_path, capsys):
    model = create_model("shallow-cvt")
    model.save_pretrained(tmp_path / "model")
    create_image_processor(64).save_pretrained(tmp_path / "model")
    words = ["export", "--model", str(tmp_path / "model")]
    for more, message in (
        (["--output", str(tmp_path / "a.pt")], "a.pt: must end in .onnx, or be a folder"),
        (["--calibration", "nowhere.jpg"], "--calibration is for --int8"),
    ):
        with pytest.raises(SystemExit):
            main([*words, *more])
        assert message in capsys.readouterr().err
    main([*words, "--int8", "--output", str(tmp_path)])
    assert {"model.onnx", "model-int8.onnx"} <= {path.name for path in tmp_path.iterdir()}
    main([*words, "--output", str(tmp_path)])
    assert f"{tmp_path / 'model-int8.onnx'}: removed, as it was of the earlier export" in capsys.readouterr().out
    model.head.embedding.weight.data[0, 0] = float("nan")
    model.save_pretrained(tmp_path / "model")
    before = (tmp_path / "model.onnx").read_bytes()
    with pytest.raises(SystemExit):
        main([*words, "--output", str(tmp_path)])
    assert "the model gives scores that are no numbers" in capsys.readouterr().err
    assert (tmp_path / "model.onnx").read_bytes() == before


def test_a_model_in_half_precision_is_exported_in_float32(create_model, tmp_path):
    create_model("shallow-cvt").to(torch.bfloat16).save_pretrained(tmp_path / "half")
    create_image_processor(64).save_pretrained(tmp_path / "half")
    ((file, difference),) = export_saved_model(str(tmp_path / "half"), tmp_path / "exported/half.onnx")
    assert difference < 0.02  # of torch's scores in half precision
    model = AssocFormerForMultiLabel.from_pretrained(tmp_path / "half", dtype=torch.float32)
    assert_same_logits(file, model)
