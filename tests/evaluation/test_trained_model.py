"""A model is whole, or it is refused."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from assocformer_hf import Tagger
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.evaluation.trained_model import load_model_and_processor, load_trained_model
from assocformer_hf.model.configuration_assocformer import ConfigurationError
from assocformer_hf.model.image_processing_assocformer import AssocFormerImageProcessor
from assocformer_hf.saved_files import ModelFileError


@pytest.fixture
def incomplete(create_model, tmp_path):
    """A folder whose weights lack the linear part of the head, as an interrupted copy's or another version's may."""
    create_model("tiny-cvt").save_pretrained(tmp_path)
    AssocFormerImageProcessor().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("head.embedding")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def test_weights_that_are_missing_are_not_made_up(incomplete):
    message = "its weights lack head.embedding.bias, head.embedding.weight: the folder is not whole"
    with pytest.raises(ConfigurationError, match=message):
        load_trained_model(incomplete)
    with pytest.raises(ConfigurationError, match=message):
        Tagger(incomplete)


def test_a_processor_that_does_not_fit_its_model_is_named(create_model, tmp_path):
    create_model("tiny-swin", image_size=64).save_pretrained(tmp_path / "swin")
    create_model("tiny-cvt", image_size=64).save_pretrained(tmp_path / "cvt")
    for name in ("swin", "cvt"):
        create_image_processor(96).save_pretrained(tmp_path / name)
    with pytest.raises(ModelFileError, match=r"swin: preprocessor_config.json says 96 x 96 pixels, .* takes 64 x 64"):
        load_model_and_processor(tmp_path / "swin")
    load_model_and_processor(tmp_path / "cvt")  # which takes pictures of any size


@pytest.mark.parametrize("change", [{"size": None}, {"size": {"shortest_edge": 64}}, {"do_resize": False}])
def test_a_processor_that_leaves_the_size_open_is_named(create_model, tmp_path, change):
    create_model("tiny-cvt").save_pretrained(tmp_path)
    create_image_processor(64).save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    values = {name: value for name, value in (json.loads(file.read_text()) | change).items() if value is not None}
    file.write_text(json.dumps(values))
    with pytest.raises(ModelFileError, match="preprocessor_config.json must say do_resize true, and the height and"):
        Tagger(tmp_path)


def test_a_processor_whose_images_are_no_squares_is_not_for_onnx(create_model, tmp_path):
    create_model("tiny-cvt").save_pretrained(tmp_path)
    AssocFormerImageProcessor(size={"height": 64, "width": 96}).save_pretrained(tmp_path)
    assert Tagger(tmp_path)(np.zeros((50, 50, 3), np.uint8)).labels
    with pytest.raises(ModelFileError, match="64 x 96 pixels; ONNX Runtime is given squares"):
        Tagger(tmp_path, runtime="onnx")


def test_weights_that_the_configuration_does_not_use_are_named(create_model, tmp_path):
    create_model("tiny-cvt").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"fusion": "linear"}))
    with pytest.raises(
        ConfigurationError, match="its weights have head.association.*, which the model that its config"
    ):
        load_trained_model(tmp_path)


def test_a_whole_model_is_ready_for_evaluation(create_model, tmp_path):
    create_model("tiny-cvt").save_pretrained(tmp_path)
    assert not load_trained_model(tmp_path).training


def test_weights_that_do_not_fit_or_cannot_be_read_are_named(create_model, tmp_path):
    create_model("tiny-cvt").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"]["4"] = "bird"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match=r"weights are of another model than its config.json says \(head\..*5"):
        load_trained_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigurationError, match=f"{tmp_path}: its weights cannot be read"):
        load_trained_model(tmp_path)
