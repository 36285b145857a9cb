"""`train` as it is called from Python: from names, paths, memory, and in several processes."""

import os
import pydoc
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import datasets
import pytest
import torch
import yaml
from transformers import TimmWrapperConfig, TimmWrapperModel

import assocformer_hf
from assocformer_hf import AssocFormerForMultiLabel, train
from assocformer_hf.data.images.dataset import MultiLabelCollator
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import DataError, label_names, multilabel_features
from assocformer_hf.hub.model_folder import add_sample_images
from assocformer_hf.hub.publish import model_files
from assocformer_hf.model.configuration_assocformer import ConfigurationError
from assocformer_hf.training.arguments import (
    ModelArguments,
    OptionError,
    RecipeArguments,
    epochs_for,
    head_decay_for,
    read_recipe,
    training_arguments,
)
from assocformer_hf.training.checkpoint import CheckpointError, checkpoints
from assocformer_hf.training.images import first_pictures
from assocformer_hf.training.preemption import Preempted
from assocformer_hf.training.train import write_options
from tests import forked

QUICK = {"epochs": 1, "batch_size": 8, "num_workers": 0, "report_to": "none"}


@pytest.fixture(scope="module")
def splits():
    return {"train": load_scenes("train", size=24), "validation": load_scenes("validation", size=12)}


@pytest.fixture(scope="module")
def trained(splits, tmp_path_factory):
    output = tmp_path_factory.mktemp("train") / "model"
    return train(splits, backbone="tiny-cvt", image_size=64, output_dir=output, **QUICK)


def test_train_returns_model_processor_metrics_and_history(trained):
    assert isinstance(trained.model, AssocFormerForMultiLabel)
    assert trained.processor.size["height"] == 64
    assert trained.metrics["images"] == 12
    assert trained.metrics["run"]["dataset"] == "own data"
    assert [entry["epoch"] for entry in trained.history] == [1]
    assert max(trained.history[0][name]["mAP"] for name in ("raw", "ema")) == pytest.approx(trained.metrics["mAP"])
    assert trained.url is None


def test_of_epochs_with_the_same_map_the_one_with_the_least_loss_is_kept(splits, tmp_path):
    one = {"train": splits["train"], "validation": splits["validation"].select(range(1))}  # any scores rank it right
    options = QUICK | {"epochs": 3, "learning_rate": 1e-2}
    result = train(one, backbone="tiny-cvt", image_size=64, output_dir=tmp_path, **options)
    losses = {
        (entry["epoch"], name): entry[name]["asl"]
        for entry in result.history
        for name in ("raw", "ema")
        if entry[name]["mAP"] == result.metrics["mAP"]
    }
    assert len(losses) == 6
    run = result.metrics["run"]
    assert (run["epoch"], run["weights"]) == min(losses, key=losses.get) != (1, "raw")


def test_options_lie_over_the_recipe_of_the_dataset(tmp_path):
    model, data, recipe, *_ = training_arguments(dataset="photos/", epochs=3)
    assert (model.backbone, model.image_size) == ("timm/tf_efficientnet_lite0.in1k", 224)
    assert (model.association_norm, data.horizontal_flip, recipe.epochs) == ("none", 0.5, 3)
    assert training_arguments(dataset="photos/", config="paper")[0] == ModelArguments()
    assert training_arguments(dataset="coco")[2] == RecipeArguments()
    assert training_arguments()[0].backbone == "tiny-cvt"
    own = tmp_path / "own.yaml"
    own.write_text("learning_rate: 1e-3\nlabel_names: [a, b]\nepochs: 2\n")
    _, _, recipe, source, _ = training_arguments(config=own, epochs=5)
    assert (recipe.learning_rate, recipe.epochs, source.label_names) == (1e-3, 5, ["a", "b"])
    own.write_text("mixed_precision: no\n")
    with pytest.raises(OptionError, match="mixed_precision must be str or nothing, got False; in YAML put it in"):
        training_arguments(config=own)


def test_the_dataset_of_a_file_of_options_is_what_is_trained_on(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(f"dataset: {tmp_path / 'photos'}\nbackbone: tiny-cvt\n")
    with pytest.raises(DataError, match="photos: no such file or folder"):
        train(config=own, output_dir=tmp_path / "model", **QUICK)
    with pytest.raises(ConfigurationError, match="fusion must be one of"):  # before anything is read
        train(config=own, output_dir=tmp_path / "model", fusion="sum", **QUICK)
    with pytest.raises(DataError, match="dataset 'voc' is read from its official files: give their folder as data_dir"):
        train(config="voc-cvt-w24-am", backbone="tiny-cvt", output_dir=tmp_path / "model", **QUICK)


def test_the_recipe_of_the_paper_is_the_default_of_every_option():
    model, data, recipe, *_ = training_arguments(config="paper")
    assert (model, recipe, data.cutout) == (ModelArguments(), RecipeArguments(), 0.5)
    assert {"association_norm", "ema_decay", "horizontal_flip"} <= read_recipe("paper").keys()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epoch": 3}, TypeError, "no option 'epoch'; did you mean 'epochs'?"),
        ({"epochs": "many"}, OptionError, "epochs must be int or auto, got 'many'"),
        ({"epochs": 2.5}, OptionError, "epochs must be int or auto, got 2.5"),
        ({"overwrite": "yes"}, OptionError, "overwrite must be bool, got 'yes'"),
        ({"config": "papier"}, OptionError, "config papier: No such file or directory; expected a YAML file or"),
        ({"fusion": "sum"}, ConfigurationError, "fusion must be one of"),
    ],
)
def test_bad_options_are_named(splits, tmp_path, options, error, message):
    with pytest.raises(error) as caught:
        train(splits, output_dir=tmp_path / "model", **({"backbone": "tiny-cvt"} | options))
    assert message in str(caught.value)


def test_splits_that_cannot_be_compared_or_measured_are_refused_before_the_training(splits, tmp_path):
    rows = splits["validation"].with_format(None)
    other = rows.cast(multilabel_features([*label_names(rows)[1:], label_names(rows)[0]]))
    empty = rows.map(lambda row: {"labels": []}, features=rows.features)
    for validation, message in ((other, "train and validation have different labels"), (empty, "has no image with a")):
        with pytest.raises(DataError, match=message):
            train(splits | {"validation": validation}, output_dir=tmp_path / "model", backbone="tiny-cvt", **QUICK)
    assert not (tmp_path / "model").exists()


def test_a_run_that_is_refused_leaves_its_folder_to_others(splits, tmp_path):
    options = {"output_dir": tmp_path / "model", "backbone": "tiny-cvt", "image_size": 64} | QUICK
    with pytest.raises(DataError, match="24 training images are fewer than one batch of 25") as refused:
        train(splits, **(options | {"batch_size": 25}))
    code = (
        "from assocformer_hf.output_folder import OutputFolder as O; import sys; O(sys.argv[1]).locked(0).__enter__()"
    )
    done = forked.run([sys.executable, "-c", code, str(tmp_path / "model")])
    assert done.returncode == 0, done.stderr
    assert refused.tb is not None  # as a notebook keeps it, and with it what the run held


def test_epochs_follow_the_number_of_photographs(tmp_path):
    assert [epochs_for(images) for images in (100, 3000, 6000, 15_000, 1_000_000)] == [30, 20, 10, 4, 4]
    assert training_arguments(dataset="photos/")[2].epochs == "auto"


def test_the_heads_decay_follows_the_number_of_photographs(create_model, splits, tmp_path):
    assert [head_decay_for(images) for images in (100, 450, 3000, 15_000, 1_000_000)] == [100, 100, 15, 3, 3]
    create_model().backbone.save_pretrained(tmp_path / "tiny")
    options = QUICK | {"config": "photographs", "epochs": 1, "normalization": "none"}
    result = train(
        splits, backbone=str(tmp_path / "tiny"), image_size=64, output_dir=str(tmp_path / "model"), **options
    )
    # Beside as many steps of a rate of 4e-3 nothing that only a few photographs say stays in the head.
    assert result.metrics["run"]["options"]["head_weight_decay"] == 100
    assert result.model.head.embedding.weight.abs().max() < 0.02
    # The recipe beside the model leaves it to other data again.
    again = training_arguments(config=tmp_path / "model/recipe.yaml", dataset="photos/")[2]
    assert (again.head_weight_decay, again.epochs) == ("auto", 1)


def test_what_is_saved_names_no_folder_of_the_machine(create_model, splits, tmp_path):
    folder, output = str(tmp_path / "secret/tiny"), str(tmp_path / "model")
    create_model().backbone.save_pretrained(folder)
    train(splits, backbone=folder, image_size=64, normalization="none", output_dir=output, **QUICK)
    for name in ("config.json", "metrics.json", "README.md"):
        assert "secret" not in (tmp_path / "model" / name).read_text()


def test_random_weights_are_not_kept_from_changing(trained, tmp_path):
    options = trained.metrics["run"]["options"]
    assert (options["head_epochs"], options["frozen_batch_norm"], options["weight_decay"]) == (0, False, 1e-4)
    chosen = training_arguments(dataset="photos/", backbone="tiny-cvt", weight_decay=0.05, head_weight_decay=7)[2]
    assert (chosen.weight_decay, chosen.head_weight_decay, chosen.head_epochs) == (0.05, 7, 0)
    own = tmp_path / "own.yaml"
    own.write_text("head_epochs: 1\nweight_decay: 0.5\n")
    mine = training_arguments(config=own, dataset="photos/", backbone="tiny-cvt")[2]
    assert (mine.weight_decay, mine.head_epochs) == (0.5, 1)
    photographs = training_arguments(dataset="photos/")[2]
    assert (photographs.head_epochs, photographs.frozen_batch_norm, photographs.weight_decay) == (8, True, 1.0)


def test_the_package_lists_train():
    assert "train" in dir(assocformer_hf)
    assert assocformer_hf.train is train
    assert len(pydoc.plain(pydoc.render_doc(assocformer_hf)).splitlines()) < 80  # two screens


def test_a_notebook_starts_several_processes(tmp_path):
    """As a cell of a notebook does; on a CPU `debug_launcher` is what starts more than one."""
    cell = f"""
from accelerate import debug_launcher
from assocformer_hf import train
from assocformer_hf.data.scenes.scenes import load_scenes

def cell():
    splits = {{"train": load_scenes("train", size=24), "validation": load_scenes("validation", size=12)}}
    options = dict(backbone="tiny-cvt", image_size=64, epochs=1, batch_size=4, num_workers=0, report_to="none")
    result = train(splits, output_dir={str(tmp_path / "model")!r}, **options)
    assert result.metrics["images"] == 12 and result.model.config.num_labels == 20

debug_launcher(cell, num_processes=2)
"""
    done = forked.run([sys.executable, "-c", cell])
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "model/model.safetensors").is_file()


def test_batch_norm_of_a_single_value_is_said_in_one_line(splits, tmp_path):
    """One image, of which the last stage leaves one place."""
    with pytest.raises(ConfigurationError, match="batch norm has one value for each channel.*--batch_size"):
        train(splits, backbone="tiny-cvt", image_size=32, output_dir=tmp_path / "model", **QUICK | {"batch_size": 1})


def test_a_run_with_the_normalisation_of_its_backbone_is_resumed(splits, tmp_path):
    """timm gives mean and standard deviation as tuples, a checkpoint as lists."""
    config = TimmWrapperConfig(
        architecture="resnet10t", pretrained_cfg={"input_size": (3, 64, 64), "mean": (0.5,) * 3, "std": (0.4,) * 3}
    )
    TimmWrapperModel(config).save_pretrained(tmp_path / "backbone")
    options = {"backbone": str(tmp_path / "backbone"), "normalization": "backbone", "image_size": 64, **QUICK}
    first = train(splits, output_dir=tmp_path / "model", **options)
    again = train(splits, output_dir=tmp_path / "model", resume="auto", **options)
    assert again.history == first.history


def test_a_checkpoint_of_another_folder_does_not_replace_that_folders_model(splits, tmp_path):
    options = {"backbone": "tiny-cvt", "image_size": 64, **QUICK, "epochs": 2, "keep_checkpoints": 9}
    first = train(splits, output_dir=tmp_path / "first", **options)
    train(splits, output_dir=tmp_path / "other", **options | {"seed": 7})
    other = {path: path.read_bytes() for path in (tmp_path / "other").glob("[!.]*.*")}
    begun, ended = (str(tmp_path / f"first/checkpoints/epoch-000{epoch}") for epoch in (1, 2))
    with pytest.raises(CheckpointError, match="other: holds checkpoints and model.safetensors of an earlier run"):
        train(splits, output_dir=tmp_path / "other", resume=begun, **options)
    with pytest.raises(CheckpointError, match="other: holds checkpoints"):  # before anything is read
        train(tmp_path / "no data", output_dir=tmp_path / "other", **options)
    assert other == {path: path.read_bytes() for path in (tmp_path / "other").glob("[!.]*.*")}
    with pytest.raises(CheckpointError, match="the run of this checkpoint is finished, and the model .* is not here"):
        train(splits, output_dir=tmp_path / "ended", resume=ended, **options)
    with pytest.raises(CheckpointError, match="other: the run of this checkpoint is finished, and the model .* is not"):
        train(splits, output_dir=tmp_path / "other", resume=ended, overwrite=True, **options)
    assert other == {path: path.read_bytes() for path in (tmp_path / "other").glob("[!.]*.*")}
    assert [path.name for path in checkpoints(tmp_path / "other/checkpoints")] == ["epoch-0001", "epoch-0002"]
    replaced = train(splits, output_dir=tmp_path / "other", resume=begun, overwrite=True, **options)
    assert replaced.metrics["run"]["options"]["seed"] == 0
    again = train(splits, output_dir=tmp_path / "again", resume=begun, **options)
    times = dict.fromkeys(("seconds", "images_per_second", "peak_memory_GiB"))
    assert [entry | times for entry in again.history] == [entry | times for entry in first.history]
    assert again.metrics["run"]["epoch"] == 2


def test_a_run_that_is_refused_or_fails_leaves_the_earlier_one_whole(splits, tmp_path):
    options = {"backbone": "tiny-cvt", "image_size": 64, "output_dir": tmp_path / "model", **QUICK}
    train(splits, **options | {"report_to": "tensorboard"})
    before = {path: path.read_bytes() for path in (tmp_path / "model").rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="24 training images are fewer than one batch of 500"):
        train(splits, **options | {"batch_size": 500, "overwrite": True})
    assert before == {path: path.read_bytes() for path in (tmp_path / "model").rglob("*") if path.is_file()}
    with pytest.raises(ConfigurationError, match="batch norm has one value for each channel"):
        train(splits, **options | {"batch_size": 1, "image_size": 32, "overwrite": True})
    for name in ("model.safetensors", "metrics.json", "options.yaml"):  # all of the same run
        assert (tmp_path / "model" / name).read_bytes() == before[tmp_path / "model" / name]


def test_going_back_to_a_checkpoint_leaves_what_came_after(splits, tmp_path, capsys):
    options = {"backbone": "tiny-cvt", "image_size": 64, "output_dir": tmp_path / "model", **QUICK, "epochs": 3}
    first = train(splits, **options | {"keep_checkpoints": 3})
    begun = str(tmp_path / "model/checkpoints/epoch-0001")
    again = train(splits, **options | {"resume": begun, "keep_checkpoints": 1, "checkpoint_every": 2})
    assert "removed, as the training went on from before: epoch-0002, epoch-0003" in capsys.readouterr().out
    assert [entry["raw"] for entry in again.history] == [entry["raw"] for entry in first.history]
    assert [path.name for path in checkpoints(tmp_path / "model/checkpoints")] == ["epoch-0003"]


def test_samples_of_an_earlier_model_do_not_stay_beside_a_new_one(splits, tmp_path):
    options = {"backbone": "tiny-cvt", "image_size": 64, "output_dir": tmp_path / "model", **QUICK}
    train(splits, **options)
    add_sample_images(tmp_path / "model", first_pictures(splits["validation"], 1))
    before = set(model_files(tmp_path / "model"))
    assert {"samples/1.jpg", "predictions.jpg"} <= before
    train(splits, overwrite=True, **options)
    assert set(model_files(tmp_path / "model")) == before - {"samples/1.jpg", "predictions.jpg"}


def test_a_signal_while_the_data_are_read_ends_the_run_as_one_that_can_be_started_again(splits, tmp_path):
    class Late(dict):
        """Splits that take so long to read that the run is asked to stop meanwhile."""

        def __getitem__(self, name):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().__getitem__(name)

    with pytest.raises(Preempted, match="SIGTERM: stopped before the first step"):
        train(Late(splits), backbone="tiny-cvt", output_dir=tmp_path / "model", **QUICK)


def test_the_precision_of_a_run_does_not_last_into_the_next(splits, tmp_path):
    options = {"backbone": "tiny-cvt", "image_size": 64, **QUICK}
    runs = [
        train(splits, output_dir=tmp_path / f"{i}", mixed_precision=precision, **options).metrics["run"]["options"]
        for i, precision in enumerate(("bf16", None, "bf16"))
    ]
    assert [run["mixed_precision"] for run in runs] == ["bf16", "no", "bf16"]


def test_images_that_are_in_both_splits_are_counted(splits, tmp_path):
    both = {"train": splits["train"], "validation": splits["train"].select(range(5))}
    result = train(both, backbone="tiny-cvt", image_size=64, output_dir=tmp_path / "model", **QUICK)
    assert result.metrics["trained_on"] == 5


def test_a_folder_of_a_benchmarks_or_presets_name_is_not_what_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("voc", "tiny-cvt"):
        (tmp_path / name).mkdir()
    groups = training_arguments(dataset="voc", backbone="tiny-cvt", data_dir="voc")[:4]
    write_options(groups, "voc", tmp_path / "options.yaml")
    written = yaml.safe_load((tmp_path / "options.yaml").read_text())
    assert (written["dataset"], written["backbone"]) == ("voc", "tiny-cvt")
    assert written["data_dir"] == str(tmp_path / "voc")


def test_splits_that_datasets_made_are_read_first(splits, tmp_path):
    """-1 is how `datasets` marks a class that is not known; torch would take it for the last label."""
    names = datasets.List(datasets.ClassLabel(names=["a", "b", "c"]))
    features = datasets.Features({"image": datasets.Image(), "labels": names})
    images = splits["train"]["image"][:16]
    rows = {"image": images, "labels": [[0], [1, 2], [-1], []] * 4}
    raw = datasets.DatasetDict(dict.fromkeys(("train", "validation"), datasets.Dataset.from_dict(rows, features)))
    result = train(raw, backbone="tiny-cvt", image_size=64, output_dir=tmp_path / "model", **QUICK)
    assert [result.metrics["per_label"][name]["positives"] for name in "abc"] == [4, 4, 4]
    with pytest.raises(DataError, match=r"labels of an image are \[-1\]: read the dataset by load_multilabel_dataset"):
        MultiLabelCollator(3)([{"pixel_values": torch.zeros(3, 4, 4), "labels": [-1]}])


def test_it_trains_in_a_thread_of_a_web_application(splits, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        options = {"backbone": "tiny-cvt", "image_size": 64, "output_dir": tmp_path / "model", **QUICK}
        assert pool.submit(train, splits, **options).result().metrics["mAP"] > 0


def test_pictures_for_the_models_page_are_the_first_of_the_dataset(splits):
    pictures = first_pictures(splits["validation"], 2)
    assert [picture.size for picture in pictures] == [splits["validation"][i]["image"].size for i in range(2)]
    assert len(first_pictures(splits["validation"], 99)) == 12


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(splits, tmp_path):
    options = {"backbone": "tiny-cvt", "image_size": 64, "output_dir": tmp_path / "model"} | QUICK
    first = train(splits, **options)
    shutil.rmtree(tmp_path / "model/checkpoints")
    again = train(splits, resume="auto", **options)
    assert again.metrics["mAP"] == first.metrics["mAP"]
    shutil.rmtree(tmp_path / "model/checkpoints")
    with pytest.raises(CheckpointError, match=r"model: holds model.safetensors of an earlier run"):
        train(splits, resume="auto", **options | {"seed": 7})


def test_how_data_are_read_is_not_said_of_what_was_read(splits, tmp_path):
    with pytest.raises(
        DataError, match="validation_share=0.5 says how data are read, .* give it to load_multilabel_dataset"
    ):
        train(splits, validation_share=0.5, output_dir=tmp_path / "model", **QUICK)
    with pytest.raises(DataError, match="train_split='nonsense' says how data are read"):
        train(splits, train_split="nonsense", output_dir=tmp_path / "model", **QUICK)


def test_a_validation_whose_labelled_images_cannot_be_read_is_named(splits, tmp_path):
    labelled = next(i for i, row in enumerate(splits["validation"]["labels"]) if row)
    images = [{"path": None, "bytes": b"no image"}, splits["validation"].with_format(None)[0]["image"]]
    rows = {"image": images, "labels": [splits["validation"]["labels"][labelled], []]}
    validation = datasets.Dataset.from_dict(rows, features=splits["validation"].features)
    options = {"backbone": "tiny-cvt", "image_size": 64, "output_dir": tmp_path / "model", "bad_images": "skip"} | QUICK
    with pytest.raises(DataError, match="no image with a label is left to measure on: 1 of 2 images cannot be read"):
        train({"train": splits["train"], "validation": validation}, **options)
