"""What other libraries write between the lines of this package."""

import pytest
import torch
import transformers
from transformers import TimmWrapperConfig, TimmWrapperModel

from assocformer_hf import AssocFormerForMultiLabel, Tagger
from assocformer_hf.model.image_processing_assocformer import AssocFormerImageProcessor
from assocformer_hf.quiet import quiet_libraries


@pytest.fixture(autouse=True)
def as_after_an_import():
    """The levels that transformers starts with, whatever other tests have set."""
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    root = transformers.logging.get_logger("transformers")
    propagated, root.propagate = root.propagate, True  # else `caplog` sees nothing of older versions
    transformers.logging.set_verbosity_warning()
    transformers.logging.enable_progress_bar()
    yield
    root.propagate = propagated
    transformers.logging.set_verbosity(level)
    if not bars:
        transformers.logging.disable_progress_bar()


def test_a_model_is_loaded_without_a_line_of_other_libraries(tmp_path, create_model, capfd):
    with quiet_libraries():
        create_model().save_pretrained(tmp_path)
    AssocFormerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    Tagger(tmp_path, device="cpu")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_load_report_is_left_out_and_the_level_comes_back(tmp_path, capfd, caplog):
    backbone = TimmWrapperModel(TimmWrapperConfig(architecture="resnet10t"))
    weights = backbone.state_dict() | {"timm_model.fc.bias": torch.zeros(5)}  # what a load report would name
    with quiet_libraries():
        backbone.save_pretrained(tmp_path, state_dict=weights)
    AssocFormerForMultiLabel.from_backbone(tmp_path, num_labels=2)
    assert "Loading weights" in capfd.readouterr().err
    assert "timm_model.fc.bias" in caplog.text
    caplog.clear()
    with quiet_libraries():
        AssocFormerForMultiLabel.from_backbone(tmp_path, num_labels=2)
    assert (capfd.readouterr().err, caplog.text) == ("", "")
    assert transformers.logging.get_verbosity() == transformers.logging.WARNING
    assert transformers.logging.is_progress_bar_enabled()


def test_a_level_that_somebody_set_stays(tmp_path):
    transformers.logging.set_verbosity_info()
    with quiet_libraries():
        assert transformers.logging.get_verbosity() == transformers.logging.INFO
    assert transformers.logging.get_verbosity() == transformers.logging.INFO
