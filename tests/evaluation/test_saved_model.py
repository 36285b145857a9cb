"""What a saved model was trained on, and what was held out, is known again when it is evaluated."""

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from accelerate import Accelerator
from huggingface_hub import ModelCard
from PIL import Image

from assocformer_hf import load_multilabel_dataset, train
from assocformer_hf.data.identity import image_digests
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.data.images_used import ImagesUsed
from assocformer_hf.data.load import load_images
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.options import CalibrationOptions
from assocformer_hf.evaluation.report import evaluation_report, metrics_table
from assocformer_hf.evaluation.saved_model import EvaluationArguments, evaluate_saved_model, with_own_dataset
from assocformer_hf.hub.calibrate_model import calibrate_model
from assocformer_hf.hub.model_folder import add_sample_images
from assocformer_hf.hub.publish import model_files
from assocformer_hf.output_folder import OutputError
from assocformer_hf.pages.evaluate_model import evaluate_model
from assocformer_hf.pages.options import ReportOptions
from assocformer_hf.pages.report import ReportInput, write_report
from assocformer_hf.saved_files import METRICS_FILE, OPTIONS_FILE, ModelFileError

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


def test_a_validation_split_that_came_later_is_measured_as_it_is(model, photos, caplog):
    (photos.parent / "later.png").rename(photos / "30.png")
    rows = (photos / "labels.csv").read_text().splitlines()
    table = [f"{rows[0]},split", *(f"{row},train" for row in rows[1:]), "30.png,a,validation"]
    (photos / "labels.csv").write_text("\n".join(table) + "\n")
    assert files(evaluated(model, photos)) == {"30.png"}
    assert "held out then" not in caplog.text


def test_another_dataset_that_shares_some_images_is_measured_as_it_is(model, photos, caplog, tmp_path):
    shared = files(evaluated(model, photos, split_seed=3))
    other = tmp_path / "other"
    other.mkdir()
    pixels = np.random.default_rng(1).integers(0, 255, (20, 64, 64, 3), dtype=np.uint8)
    names = [f"new{i:02d}.png" for i in range(20)]
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(other / name)
    for name in sorted(shared)[:2]:
        shutil.copy(photos / name, other / name)
        names.append(name)
    (other / "labels.csv").write_text("image,labels\n" + "".join(f"{n},{'ab'[i % 2]}\n" for i, n in enumerate(names)))
    assert len(files(evaluated(model, other)) - shared) > 1
    assert "held out then" not in caplog.text


def test_of_a_dataset_without_splits_that_was_not_trained_on_a_part_is_measured_and_said(model, photos, caplog):
    for path in photos.glob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    said = "was not trained on it: measured are only the 6 images that a training would hold out; --split all measures"
    assert len(files(evaluated(model, photos))) == 6
    assert said in caplog.text
    caplog.clear()
    assert len(files(evaluated(model, photos, "all"))) == COUNT
    assert "--split all" not in caplog.text


def test_images_that_were_trained_on_are_said(model, photos, caplog, tmp_path):
    with caplog.at_level(logging.WARNING):
        saved = evaluated(model, photos, "all", split_seed=3)
    trained = len(ImagesUsed.of_model(model).trained_on)
    assert saved.evaluation.trained_on == trained
    report = evaluation_report(saved.evaluation, saved.label_names)
    assert f"{trained} of these images were trained on" in metrics_table(report)
    page = write_report(tmp_path / "report", ReportInput("seen", saved.evaluation, ["a", "b"], 0.5, saved.dataset))
    assert f"was trained on {trained} of these images" in page.read_text(encoding="utf-8")
    assert f"{model} was trained on {trained} of these {COUNT} images" in caplog.text


def test_a_model_that_is_calibrated_on_other_images_still_knows_what_it_was_trained_on(model, photos, tmp_path):
    choice = CalibrationOptions(tmp_path / "calibrated", folds=2)
    calibrate_model(EvaluationArguments(str(model), str(photos), split="all", num_workers=0), SourceOptions(), choice)
    saved = evaluated(choice.output, photos, "all")
    assert saved.evaluation.trained_on == len(ImagesUsed.of_model(model).trained_on)


def test_labels_that_a_dataset_does_not_declare_are_not_measured(model, photos, tmp_path, capsys):
    images = sorted(path.name for path in photos.glob("*.png"))
    body = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(images)],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": i, "image_id": i, "category_id": 1} for i in range(0, len(images), 2)],
    }
    (photos / "labels.csv").unlink()
    (photos / "a.json").write_text(json.dumps(body))
    args = EvaluationArguments(str(model), str(photos), split="all", num_workers=0)
    saved = evaluate_saved_model(args, SourceOptions(), Accelerator(cpu=True))
    assert set(saved.evaluation.targets[:, 1].tolist()) == {-1}
    assert set(saved.evaluation.targets[:, 0].tolist()) == {0, 1}
    assert saved.evaluation.metrics["labels_without_positives"] == 1
    calibrate_model(args, SourceOptions(), CalibrationOptions(tmp_path / "calibrated"))
    assert "b: not declared by" in capsys.readouterr().out


def test_models_that_are_compared_see_the_same_images(create_model, model, photos, tmp_path):
    """Each held out others, with the same labels in the same order."""
    other = tmp_path / "other"
    create_model(id2label={0: "a", 1: "b"}).save_pretrained(other)
    create_image_processor(64).save_pretrained(other)
    splits = load_multilabel_dataset(photos, split_seed=0)
    ImagesUsed(*(image_digests(splits[key]) for key in ("train", "validation")), divided=True).save(other)
    args = EvaluationArguments(str(model), str(photos), num_workers=0)
    evaluate_model(args, SourceOptions(), ReportOptions(report=tmp_path / "report", compare=str(other)))
    saved, alone = evaluated(model, photos), evaluated(other, photos)
    assert files(saved) != files(alone)
    options = EvaluationArguments(str(other), str(photos), num_workers=0), SourceOptions(), Accelerator(cpu=True)
    beside = evaluate_saved_model(*options, saved.dataset)
    assert files(beside) == files(saved)
    assert beside.evaluation.trained_on == len(files(saved) - files(alone)) > 0
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert re.search(r"other, which was trained on \d+ of these images: the numbers flatter it", page)


def test_a_configuration_with_sorted_keys_is_the_same_model(create_model, photos, tmp_path):
    names = [chr(ord("a") + i) for i in range(12)]
    create_model(id2label=dict(enumerate(names))).save_pretrained(tmp_path / "many")
    create_image_processor(64).save_pretrained(tmp_path / "many")
    before = evaluated(tmp_path / "many", photos, "all").evaluation
    config = json.loads((tmp_path / "many/config.json").read_text())
    (tmp_path / "many/config.json").write_text(json.dumps(config, sort_keys=True))
    saved = evaluated(tmp_path / "many", photos, "all")
    assert saved.label_names == names
    assert saved.evaluation.metrics == before.metrics


def test_scores_that_are_no_numbers_are_said(create_model, photos, tmp_path):
    model = create_model(id2label={0: "a", 1: "b"})
    model.head.embedding.bias.data[0] = float("nan")
    model.save_pretrained(tmp_path / "broken")
    create_image_processor(64).save_pretrained(tmp_path / "broken")
    with pytest.raises(DataError, match=f"scores that are no numbers for {COUNT} of {COUNT} images"):
        evaluated(tmp_path / "broken", photos, "all")


def test_a_folder_of_the_same_name_is_not_taken_for_what_the_model_was_evaluated_on(model, photos, tmp_path):
    """Its numbers would stand in the card as those of the training's own split."""
    run = {"dataset": "photos", "eval_split": "validation"}
    (model / METRICS_FILE).write_text(json.dumps({"run": run}))
    other = tmp_path / "other/photos"
    shutil.copytree(photos, other)
    for file in other.glob("*.png"):
        Image.open(file).rotate(90).save(file)
    choice = CalibrationOptions(tmp_path / "calibrated", folds=2, min_positives=1)
    calibrate_model(EvaluationArguments(str(model), str(other), num_workers=0), SourceOptions(), choice)
    assert not (choice.output / "README.md").exists()
    assert (choice.output / "model.safetensors").is_file()


def test_a_validation_split_of_another_name_is_the_models_own(photos, tmp_path):
    """Its training calls it `validation`, in the card too, whatever the dataset does."""
    rows = (photos / "labels.csv").read_text().splitlines()
    split_of = ["split", *("held" if i < 10 else "train" for i in range(COUNT))]
    (photos / "labels.csv").write_text("\n".join(f"{row},{split}" for row, split in zip(rows, split_of, strict=True)))
    result = train(
        photos, eval_split="held", backbone="micro-swin", image_size=32, epochs=1, batch_size=4, num_workers=0,
        report_to="none", output_dir=tmp_path / "trained",
    )  # fmt: skip
    args = EvaluationArguments(str(result.output_dir), num_workers=0)
    _, source = with_own_dataset(args, SourceOptions(delimiter=";"))
    assert (source.eval_split, source.delimiter) == ("held", ";")
    choice = CalibrationOptions(tmp_path / "calibrated", folds=2, min_positives=1)
    calibrate_model(args, SourceOptions(), choice)
    assert "10 images: the split `validation` of photos" in (choice.output / "README.md").read_text()


def test_sample_images_come_along_and_give_way_to_others(photos, tmp_path):
    result = train(
        photos, backbone="micro-swin", image_size=32, epochs=1, batch_size=4, num_workers=0, report_to="none",
        output_dir=tmp_path / "trained",
    )  # fmt: skip
    pictures = [Image.new("RGB", (90, 60), colour) for colour in ("orange", "navy")]
    add_sample_images(result.output_dir, pictures)
    args = EvaluationArguments(str(result.output_dir), num_workers=0)
    (tmp_path / "taken/samples").mkdir(parents=True)
    (tmp_path / "taken/samples/2.jpg").write_bytes(b"my own")
    with pytest.raises(OutputError, match="holds samples/2.jpg, which this package did not write"):
        calibrate_model(args, SourceOptions(), CalibrationOptions(tmp_path / "taken", folds=2, min_positives=1))
    assert not (tmp_path / "taken/model.safetensors").exists()
    choice = CalibrationOptions(tmp_path / "calibrated", folds=2, min_positives=1)
    calibrate_model(args, SourceOptions(), choice)
    assert {"predictions.jpg", "samples/1.jpg", "samples/2.jpg"} <= {*model_files(choice.output)}
    card = ModelCard.load(choice.output / "README.md")
    assert [one["src"] for one in card.data.widget] == ["samples/1.jpg", "samples/2.jpg"]
    assert "(predictions.jpg)" in card.text
    assert len(load_images(choice.output)) == 2  # not the picture of the predictions
    add_sample_images(choice.output, pictures[:1])
    assert {name for name in model_files(choice.output) if "samples" in name} == {"samples/1.jpg"}


def test_a_model_whose_metrics_say_nothing_of_a_training_needs_a_dataset(model):
    (model / METRICS_FILE).write_text(json.dumps({"mAP": 0.9}))
    with pytest.raises(DataError, match="does not say which dataset it was trained on; name one with --dataset"):
        with_own_dataset(EvaluationArguments(str(model)), SourceOptions())


def test_how_data_are_read_is_not_said_of_a_benchmark(model):
    args = EvaluationArguments(str(model), "scenes", num_workers=0)
    with pytest.raises(DataError, match="scenes: is read by its own protocol; validation_share is for other datasets"):
        evaluate_saved_model(args, SourceOptions(validation_share=0.9), Accelerator(cpu=True))


def test_another_model_that_is_not_there_is_said_before_the_first_is_measured(model, photos, tmp_path):
    outputs = ReportOptions(report=tmp_path / "report", compare=str(tmp_path / "none"))
    with pytest.raises(ModelFileError, match="none"):
        evaluate_model(EvaluationArguments(str(model), str(tmp_path / "no data")), SourceOptions(), outputs)


@pytest.mark.parametrize("text", ["", "dataset: [pics"])
def test_damaged_options_of_a_training_name_the_way_out(model, text):
    (model / OPTIONS_FILE).write_text(text)
    with pytest.raises(DataError, match=r"model.*name (one|the dataset) with --dataset"):
        with_own_dataset(EvaluationArguments(str(model)), SourceOptions())


def test_the_split_that_was_trained_on_is_known_again(model, photos):
    """Of it the validation images were held out, whatever the others hold."""
    rows = (photos / "labels.csv").read_text().splitlines()
    split_of = ["split", *("train" if i < 10 else "extra" for i in range(COUNT))]
    (photos / "labels.csv").write_text("\n".join(f"{row},{split}" for row, split in zip(rows, split_of, strict=True)))
    splits = load_multilabel_dataset(photos, train_split="extra")
    ImagesUsed(*(image_digests(splits[key]) for key in ("train", "validation")), divided=True).save(model)
    held_out = {Path(image.filename).name for image in splits["validation"]["image"]}
    options = {"dataset": str(photos), "train_split": "extra"}
    (model / OPTIONS_FILE).write_text(yaml.safe_dump(options))
    args, source = with_own_dataset(EvaluationArguments(str(model), num_workers=0), SourceOptions())
    assert files(evaluate_saved_model(args, source, Accelerator(cpu=True))) == held_out
    assert files(evaluated(model, photos)) == held_out  # found among all images where only the folder is named
