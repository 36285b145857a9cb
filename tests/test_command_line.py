"""Options from the command line and from files."""

import pytest

from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.data.schema import DataError
from assocformer_hf.model.configuration_assocformer import ConfigurationError
from assocformer_hf.training.arguments import (
    DataArguments,
    HubArguments,
    ModelArguments,
    RecipeArguments,
    default_recipe,
)
from tests.conftest import ROOT

CLASSES = [ModelArguments, DataArguments, RecipeArguments]


def test_defaults_are_the_papers():
    model, data, recipe = parse_arguments(CLASSES, argv=["--dataset", "coco"])
    assert model.backbone == "timm/swin_large_patch4_window12_384.ms_in22k"
    assert (model.image_size, model.fusion, model.association_norm, model.association_weight) == (
        384,
        "equal",
        "l2",
        0.1,
    )
    assert (model.gamma_pos, model.gamma_neg, model.clip) == (0, 2, 0)
    assert (data.cutout, recipe.epochs, recipe.batch_size) == (0.5, 40, 16)
    assert (recipe.learning_rate, recipe.pct_start, recipe.weight_decay, recipe.ema_decay) == (1e-4, 0.2, 1e-4, 0.9997)


def test_command_line_overrides_file_overrides_default(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("learning_rate: 1e-3\nepochs: 7\nbackbone: tiny-cvt\noverwrite: true\n")
    model, _, recipe = parse_arguments(CLASSES, argv=["--config", str(config), "--epochs", "9"])
    assert (recipe.learning_rate, recipe.epochs, model.backbone, recipe.overwrite) == (1e-3, 9, "tiny-cvt", True)
    assert recipe.batch_size == 16


def test_a_dataset_brings_its_own_file_unless_one_is_named(tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("epochs: 3\n")
    assert parse_arguments(CLASSES, default_recipe, [])[2].epochs == 16
    assert parse_arguments(CLASSES, default_recipe, ["--dataset", "voc"])[2].epochs == 40
    assert parse_arguments(CLASSES, default_recipe, ["--dataset", "photos"])[0].image_size == 224
    assert parse_arguments(CLASSES, default_recipe, ["--dataset", "photos", "--config", "paper"])[0].image_size == 384
    assert parse_arguments(CLASSES, default_recipe, ["--config", str(other)])[2].epochs == 3


@pytest.mark.parametrize("config", sorted((ROOT / "examples/configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_in_the_repository_parses(config):
    parse_arguments(CLASSES, argv=["--config", str(config)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "unknown option 'epoch'"),
        ("epochs: many", "invalid int value: 'many'"),
        ("- a", "expected `option: value` lines"),
        ("a: [", "not valid YAML"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_is_named(tmp_path, capsys, text, message):
    config = tmp_path / "run.yaml"
    if text is not None:
        config.write_text(text)
    with pytest.raises(SystemExit):
        parse_arguments(CLASSES, argv=["--config", str(config)])
    assert message in capsys.readouterr().err


def test_publishing_needs_a_name():
    with pytest.raises(ConfigurationError, match="--hub_model_id organization/name"):
        parse_arguments([HubArguments], argv=["--push_to_hub"])


def test_errors_of_the_user_end_in_one_line_and_others_pass():
    with pytest.raises(SystemExit, match="^error: a.jpg: broken$"), one_line_errors():
        raise DataError("a.jpg: broken")
    worker = (
        "Caught DataError in DataLoader worker process 0.\nTraceback:\n  x\nassocformer_hf.DataError: a.jpg: broken\n"
    )
    with pytest.raises(SystemExit, match="^error: a.jpg: broken$"), one_line_errors():
        raise DataError(worker)
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError
