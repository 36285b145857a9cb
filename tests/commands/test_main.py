"""The command's options, help and errors."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assocformer_hf import __version__
from assocformer_hf.commands.main import VERBS, create_app, main, with_values
from assocformer_hf.commands.running import one_line_errors
from assocformer_hf.data.schema import DataError
from tests import forked
from tests.conftest import ROOT

RECIPES = sorted((ROOT / "examples/configs").glob("*.yaml"))


def groups(*words: str) -> dict:
    """The groups of options that a verb is called with."""
    _, bound, _ = create_app().parse_args(list(words), exit_on_error=False, print_error=False)
    return bound.arguments


def error_of(capsys, *words: str) -> str:
    """The one line that a call with words that cannot be right ends with."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_the_defaults_of_coco_are_the_papers():
    found = groups("train", "--dataset", "coco")
    model, data, run = found["model"], found["data"], found["run"]
    assert model.backbone == "timm/swin_large_patch4_window12_384.ms_in22k"
    assert (model.image_size, model.association_norm, model.association_weight) == (384, "l2", 0.1)
    assert (model.fusion, model.gamma_pos, model.gamma_neg, model.clip) == ("equal", 0, 2, 0)
    assert (data.cutout, run.epochs, run.batch_size) == (0.5, 40, 16)
    assert (run.learning_rate, run.pct_start, run.weight_decay, run.ema_decay) == (1e-4, 0.2, 1e-4, 0.9997)


def test_command_line_overrides_file_overrides_default(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("learning_rate: 1e-3\nepochs: 7\nbackbone: tiny-cvt\noverwrite: true\nlabel_names: [a b, c]\n")
    found = groups("train", "--config", str(config), "--epochs", "9", "--output", "here")
    run = found["run"]
    assert (run.learning_rate, run.epochs, run.overwrite, run.output_dir) == (1e-3, 9, True, "here")
    assert (found["model"].backbone, found["source"].label_names) == ("tiny-cvt", ["a b", "c"])
    assert run.batch_size == 16


def test_a_dataset_brings_its_own_recipe_unless_one_is_named():
    assert groups("train")["run"].epochs == 16
    assert groups("train", "--dataset", "photos")["model"].image_size == 224
    assert groups("train", "--dataset", "photos")["run"].epochs == "auto"
    assert groups("train", "--dataset", "photos", "--config", "paper")["model"].image_size == 384
    assert groups("train", "--dataset", "photos", "--config", "paper")["run"].epochs == 40


@pytest.mark.parametrize("config", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_read_by_name_and_by_path(config):
    assert groups("train", "--config", str(config)) == groups("train", "--config", config.stem) | {"config": config}


def test_the_output_of_train_has_its_name_of_the_library_too():
    assert groups("train", "--output_dir", "here")["run"].output_dir == "here"


def test_an_option_without_a_value_can_be_negated():
    assert groups("train", "--overwrite")["run"].overwrite
    assert not groups("train", "--no_overwrite")["run"].overwrite


def test_of_a_repeated_option_the_last_counts():
    assert groups("train", "--epochs", "3", "--epochs", "5")["run"].epochs == 5
    assert groups("train", "--label_names", "a", "--label_names", "b", "c")["source"].label_names == ["a", "b", "c"]


def test_a_tilde_is_the_home_folder_on_the_command_line_and_in_a_file(tmp_path):
    home = os.path.expanduser("~")
    words = ["check", "--output=~/x", "--dataset", "~/y", "--label_column", "a~/x"]
    expected = ["check", f"--output={home}/x", "--dataset", f"{home}/y", "--label_column", "a~/x"]
    assert with_values(words) == expected
    file = tmp_path / "options.yaml"
    file.write_text("output_dir: ~/x\n")
    assert groups("train", "--config", str(file))["run"].output_dir == f"{home}/x"


def test_resume_needs_no_value():
    assert with_values(["train", "--resume"]) == ["train", "--resume", "last"]
    assert with_values(["train", "--resume", "--epochs", "3"]) == ["train", "--resume", "last", "--epochs", "3"]
    assert with_values(["train", "--resume", "auto"]) == ["train", "--resume", "auto"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "no option 'epoch'; did you mean 'epochs'?"),
        ("epochs: many", "epochs must be int or auto, got 'many'"),
        ("- a", "expected `option: value` lines"),
        ("label_names: [yes, no]", "label_names: True is no text, as YAML reads it; put it in quotes"),
        ("a: [", "not valid YAML"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_is_named(tmp_path, capsys, text, message):
    config = tmp_path / "run.yaml"
    if text is not None:
        config.write_text(text)
    line = error_of(capsys, "train", "--config", str(config))
    assert message in line
    assert str(config) in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--epoch", "3"], "--epoch. Did you mean --epochs?"),
        (["trian"], 'Did you mean "train"?'),
        (["train", "--batch_size", "big"], "--batch_size"),
        (["train", "--push_to_hub"], "--hub_model_id organization/name"),
        (["train", "--hub_model_id", "org/name"], "--hub_model_id needs --push_to_hub"),
        (["train", "--hub_private_repo", "yes"], "--hub_private_repo needs --push_to_hub"),
        (["check"], "--dataset"),
    ],
)
def test_a_mistyped_word_is_named_with_what_was_likely_meant(capsys, words, message):
    assert message in error_of(capsys, *words)


def test_errors_of_the_user_end_in_one_line_and_others_pass(capsys):
    worker = (
        "Caught DataError in DataLoader worker process 0.\nTraceback:\n  x\nassocformer_hf.DataError: a.jpg: broken\n"
    )
    for text in ("a.jpg: broken", worker):
        with pytest.raises(SystemExit) as ended, one_line_errors():
            raise DataError(text)
        assert ended.value.code == 2
        assert capsys.readouterr().err == "error: a.jpg: broken\n"
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError


def test_a_missing_extra_is_named_with_how_to_install_it(capsys):
    with pytest.raises(SystemExit), one_line_errors():
        raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
    assert capsys.readouterr().err == 'error: onnxruntime is not installed: pip install -U "assocformer_hf[export]"\n'
    with pytest.raises(SystemExit), one_line_errors():
        raise ModuleNotFoundError("No module named 'onnxscript.new'", name="onnxscript.new")
    assert capsys.readouterr().err == 'error: onnxscript is too old: pip install -U "assocformer_hf[export]"\n'
    with pytest.raises(ModuleNotFoundError), one_line_errors():
        raise ModuleNotFoundError("No module named 'other'", name="other")


def run(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "assocformer_hf", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"COLUMNS": "120"})


def test_of_several_processes_the_first_one_names_a_wrong_option(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as ended:
        main(["train", "--epoch", "3"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("RANK", "0")
    assert "--epochs" in error_of(capsys, "train", "--epoch", "3")


@pytest.mark.slow
@pytest.mark.parametrize("words", [["train", "--epoch", "3"], ["evaluate", "--model", "nowhere/at/all"]])
def test_under_accelerate_launch_an_error_is_one_line(words):
    launcher = [str(Path(sys.executable).parent / "accelerate"), "launch", "--quiet", "--cpu", "--num_processes", "1"]
    command = [*launcher, "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    done = subprocess.run([*command, "-m", "assocformer_hf", *words], capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")


def test_help_names_the_verbs_and_their_options_by_group():
    overview = run("--help").stdout
    assert all(verb in overview for verb in VERBS)
    page = run("train", "--help").stdout
    for heading in ("Data", "How the data are read", "Model", "Training", "Hub"):
        assert f"─ {heading} ─" in page
    assert "--learning_rate" in page
    assert "The recipe of the data replaces them" in " ".join(page.split())
    assert run("--version").stdout.strip() == __version__


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_says_all_that_its_function_does(verb):
    said = " ".join(run(verb, "--help").stdout.split())
    described = getattr(importlib.import_module(f"assocformer_hf.commands.{verb}"), verb).__doc__
    assert " ".join(described.split()) in said


def test_options_are_understood_where_pydantic_is_imported_too():
    """As by Gradio: cyclopts then has it check the types."""
    import pydantic  # noqa: F401

    _, found, _ = create_app().parse_args(["evaluate", "--model", "a"], exit_on_error=False)
    assert found.arguments["options"].model == "a"


def test_help_comes_without_torch():
    script = """
import sys
from pathlib import Path
sys.argv[0] = "assocformer"
from assocformer_hf.commands.main import main
try:
    main(["train", "--help"])
finally:
    print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


@pytest.mark.parametrize("verb", ["predict", "explain", "evaluate", "calibrate", "export"])
def test_what_is_no_model_is_named(tmp_path, capsys, verb):
    own = {"predict": ["--images", "a.jpg"], "explain": ["--images", "a.jpg"], "calibrate": ["--output", "new"]}
    words = own.get(verb, [])
    assert "nowhere: no such folder" in error_of(capsys, verb, "--model", str(tmp_path / "nowhere"), *words)
    (tmp_path / "config.json").write_text("{}")
    assert "has no weights (model*.safetensors)" in error_of(capsys, verb, "--model", str(tmp_path), *words)


def test_a_model_that_cannot_be_had_without_a_network_is_named(capsys):
    images = str(ROOT / "model_cards/assocformer-swin-tiny-scenes/samples")
    assert "no/such-model" in error_of(capsys, "predict", "--model", "no/such-model", "--images", images)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evaluate", "--model", "m", "--batch_size", "0"), "batch_size must be at least 1; got 0"),
        (
            ("calibrate", "--model", "m", "--output", "o", "--goal", "accuracy"),
            "goal must be f1, precision or recall",
        ),
        (("check", "--dataset", "d", "--num_workers", "-1"), "num_workers must be at least 0; got -1"),
        (
            ("predict", "--model", "m", "--images", "i", "--runtime", "tflite"),
            "runtime must be torch, onnx or onnx-int8",
        ),
        (("prepare", "--dataset", "d", "--output", "o", "--shard_size", "0"), "shard_size must be at least 1; got 0"),
        (("explain", "--model", "m", "--images", "i", "--where", "there"), "where must be auto, none, attention"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_named_before_anything_is_loaded(capsys, words, message):
    assert message in error_of(capsys, *words)


def test_output_that_nobody_reads_on_ends_in_silence():
    """As of `assocformer predict … | head -1`."""
    code = (
        "import os\n"
        "from assocformer_hf.commands.running import one_line_errors\n"
        "reader, writer = os.pipe()\n"
        "os.close(reader)\n"
        "os.dup2(writer, 1)\n"
        "with one_line_errors():\n"
        "    print('cat')\n"
    )
    done = forked.run([sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (1, "")


def test_what_would_not_work_on_the_hub_is_refused_before_anything_is_written(capsys, tmp_path):
    shutil.copytree(ROOT / "model_cards/assocformer-tiny-swin-mirflickr", tmp_path / "model")
    before = {path: path.read_bytes() for path in (tmp_path / "model").rglob("*.*") if path.is_file()}
    publishing = ("publish", "--model", str(tmp_path / "model"), "--hub_model_id", "org/name")
    sample = str(tmp_path / "model/samples/temple.jpg")
    assert "leave out one of them" in error_of(capsys, *publishing, "--dry_run", "--sample_images", sample)
    assert before == {path: path.read_bytes() for path in (tmp_path / "model").rglob("*.*") if path.is_file()}
    missing = ("publish", "--model", str(tmp_path / "modle"), "--hub_model_id", "org/name", "--sample_images", sample)
    assert "publish a folder that train wrote, or that calibrate wrote" in error_of(capsys, *missing)
    space = ("space", "--model", str(tmp_path / "model"), "--output", str(tmp_path / "space"), "--push_to_hub")
    assert "publish it first, and give its Hub id" in error_of(capsys, *space)
    elsewhere = ("space", "--output", str(tmp_path / "space"), "--model")
    assert "nowhere: no such folder" in error_of(capsys, *elsewhere, str(tmp_path / "nowhere"))
    assert "--hub_space_id needs --push_to_hub" in error_of(capsys, *elsewhere, "org/a", "--hub_space_id", "org/b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
