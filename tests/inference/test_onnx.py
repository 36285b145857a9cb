"""ONNX files against the models that they were exported from."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor

from assocformer_hf import AssocFormerForMultiLabel, AssocFormerImageProcessor, Tagger
from assocformer_hf.commands.main import main
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.inference.onnx import export_onnx, export_saved_model, quantize_onnx
from tests.conftest import NAMES, ROOT

SCENES = ROOT / "model_cards/assocformer-swin-tiny-scenes"
SAMPLE = "model_cards/assocformer-swin-tiny-scenes/samples/1.jpg"


def run_onnx(path, images: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"pixel_values": images.numpy()})[0])


@pytest.fixture(scope="module")
def exported(create_model, tmp_path_factory):
    """A model, and its file."""
    model, path = create_model("tiny-cvt"), tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(model, path, create_image_processor(64))
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
    export_onnx(model, tmp_path / "model.onnx", create_image_processor(64))
    assert (model.training, model.backbone.training) == (True, False)
    assert_same_logits(tmp_path / "model.onnx", model.eval())


def test_int8_is_smaller(exported, tmp_path):
    _, path = exported
    quantize_onnx(path, tmp_path / "int8.onnx")
    assert (tmp_path / "int8.onnx").stat().st_size < 0.6 * path.stat().st_size


def test_int8_of_a_trained_model_is_close(tmp_path):
    model, processor = (
        AssocFormerForMultiLabel.from_pretrained(SCENES).eval(),
        AutoImageProcessor.from_pretrained(SCENES),
    )
    export_onnx(model, tmp_path / "model.onnx", processor)
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


@pytest.fixture(scope="module")
def page_program() -> str:
    """The program of the documentation that needs nothing but the file."""
    page = (ROOT / "docs/transformers.md").read_text(encoding="utf-8")
    (program,) = (code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "onnxruntime.Inf" in code)
    return program


def metadata(path) -> dict[str, str]:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7], "resample": 2},
        {"do_normalize": True, "image_mean": 100.0, "image_std": 250.0, "do_rescale": False, "resample": None},
    ],
    ids=["0 to 1", "normalised", "bytes normalised"],
)
def test_the_program_of_the_page_finds_the_taggers_scores_with_what_the_file_says(settings, page_program, tmp_path):
    model = AssocFormerForMultiLabel.from_pretrained(SCENES)
    model.config.label_thresholds = [i / 100 for i in range(model.config.num_labels)]
    model.save_pretrained(tmp_path / "model")
    AssocFormerImageProcessor(size={"height": 64, "width": 64}, **settings).save_pretrained(tmp_path / "model")
    export_saved_model(str(tmp_path / "model"), tmp_path / "model.onnx")
    exif = Image.Exif()
    exif[274] = 6  # the picture lies on its side
    Image.open(ROOT / SAMPLE).crop((0, 20, 256, 200)).save(tmp_path / "photo.jpg", exif=exif)
    program = page_program.replace(SAMPLE, "photo.jpg") + (
        "\nimport sys\nassert not {'torch', 'transformers', 'assocformer_hf'} & set(sys.modules)\n"
        "print(json.dumps(scores.tolist()))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *lines, scores = done.stdout.splitlines()
    tagged = Tagger(tmp_path / "model", device="cpu")(tmp_path / "photo.jpg")
    np.testing.assert_allclose(json.loads(scores), tagged.all_scores, rtol=0, atol=0.01)
    assert {line.split(":")[0] for line in lines} == set(tagged.labels)
    assert tagged.all_scores.std() > 0.01  # else any preparation would do


def test_the_file_says_how_it_is_used_and_nothing_of_the_machine(create_model, tmp_path):
    """Its weights in a file of their own too, and in int8, with and without images to fit it to."""
    model, processor = create_model("shallow-cvt"), create_image_processor(64)
    files = {name: tmp_path / f"{name}.onnx" for name in ("float32", "dynamic", "static", "external")}
    export_onnx(model, files["float32"], processor)
    quantize_onnx(files["float32"], files["dynamic"])
    quantize_onnx(files["float32"], files["static"], torch.rand(4, 3, 64, 64))
    export_onnx(model, files["external"], processor, external_data=0)
    assert (tmp_path / "external.onnx.data").stat().st_size > 10 * files["external"].stat().st_size
    for path in files.values():
        said = metadata(path)
        assert json.loads(said["label_names"]) == list(NAMES)
        assert json.loads(said["thresholds"]) == [0.5] * len(NAMES)
        assert said["scores"] == "sigmoid(logits)"
        assert said["input"] == "RGB, values 0 to 1, then minus image_mean and divided by image_std"
        assert (said["image_size"], said["resample"], said["image_std"]) == ("64", "bicubic", "[1.0, 1.0, 1.0]")
        for private in (ROOT, Path(torch.__file__).parents[1]):
            assert str(private).encode() not in path.read_bytes()
        assert b"stack_trace" not in path.read_bytes()
