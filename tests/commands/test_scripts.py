"""The scripts as users run them: real processes on a small dataset."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

from assocformer_hf import AssocFormerForMultiLabel
from assocformer_hf.data.identity import image_digests
from assocformer_hf.data.images_used import ImagesUsed
from assocformer_hf.data.readers.coco import load_coco
from assocformer_hf.evaluation.association_worth import is_worth_showing, worth_sentence
from assocformer_hf.training.arguments import training_arguments
from tests.commands.commands import run, training


def test_output_is_a_complete_hub_folder(trained):
    output, printed = trained
    expected = {
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json", "metrics.json",
        "recipe.yaml", "configuration_assocformer.py", "modeling_assocformer.py", "association.py", "losses.py",
        "cvt.py",
    }  # fmt: skip
    assert expected <= {path.name for path in output.iterdir()}
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["images"] == 37
    assert metrics["run"]["train_images"] == 48
    assert f"{100 * metrics['mAP']:.1f}" in printed
    assert "chance_mAP" in printed
    worth = metrics["association"]["worth"]
    assert worth["half"]["low"] <= worth["half"]["lost"] <= worth["half"]["high"]
    assert (output / "association_map.png").exists() == is_worth_showing(worth)
    pictures = EventAccumulator(str(output / "logs/assocformer"), {"images": 0}).Reload().Images("predictions")
    assert len(pictures) == metrics["run"]["options"]["epochs"]
    assert pictures[0].width > 600


def test_the_recipe_of_a_model_trains_again(trained):
    output, _ = trained
    options = json.loads((output / "metrics.json").read_text())["run"]["options"]
    model, data, recipe, *_ = training_arguments(config=output / "recipe.yaml", dataset="photos/")
    assert (recipe.epochs, recipe.learning_rate, model.backbone) == tuple(
        options[name] for name in ("epochs", "learning_rate", "backbone")
    )
    assert data.cutout == options["cutout"]


def test_model_card_states_what_was_measured(trained):
    output, _ = trained
    metrics = json.loads((output / "metrics.json").read_text())
    card = ModelCard.load(output / "README.md")
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results == {key: round(metrics[key], 4) for key in ("mAP", "CF1", "OF1")}
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.library_name == "transformers"
    assert all(f"| {name} | " in card.text for name in metrics["per_label"])
    assert metrics["run"]["seconds"] > 0
    assert f"on {metrics['run']['hardware']}: some " in card.text
    assert card.data.co2_eq_emissions["emissions"] >= 0
    assert worth_sentence(metrics["association"]["worth"]) in card.text


def test_saved_model_loads_everywhere_and_gives_the_reported_scores(trained, small_coco):
    output, _ = trained
    model = AssocFormerForMultiLabel.from_pretrained(output)
    auto = AutoModelForImageClassification.from_pretrained(output)
    processor = AutoImageProcessor.from_pretrained(output)
    image = load_coco(small_coco, "val")[0]["image"]
    inputs = processor(images=image, return_tensors="pt")
    scores = model(**inputs).logits.sigmoid()[0]
    torch.testing.assert_close(auto(**inputs).logits.sigmoid()[0], scores)
    best = pipeline("image-classification", model=str(output))(image)[0]
    assert best["score"] == pytest.approx(scores.max().item(), abs=1e-6)
    assert best["label"] == model.config.id2label[scores.argmax().item()]


def test_evaluate_under_accelerate_launch_repeats_the_training_metrics(trained, small_coco, tmp_path):
    output, _ = trained
    launcher = (sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1")
    command = [*launcher, "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["-m", "assocformer_hf", "evaluate", "--model", str(output), "--dataset", "coco"]
    run([*command, "--data_dir", str(small_coco), "--split", "val", "--output", str(tmp_path / "metrics.json")])
    again = json.loads((tmp_path / "metrics.json").read_text())
    before = json.loads((output / "metrics.json").read_text())
    for key in ("mAP", "CF1", "OF1", "OP_top3", "chance_mAP"):
        assert again[key] == pytest.approx(before[key], abs=1e-6)


def test_a_second_run_does_not_replace_the_first(trained, small_coco):
    output, _ = trained
    before = (output / "model.safetensors").read_bytes()
    done = run(training(small_coco, output), check=False)
    assert done.returncode != 0
    assert "holds checkpoints and model.safetensors of an earlier run; go on with --resume" in done.stderr
    assert (output / "model.safetensors").read_bytes() == before


def test_resuming_with_other_options_is_refused(trained, small_coco):
    output, _ = trained
    done = run(training(small_coco, output, "--resume", "--epochs", "5"), check=False)
    assert "was trained with epochs=3, not 5" in done.stderr


def test_the_model_knows_its_training_images_wherever_they_lie(trained, small_coco, tmp_path):
    output, _ = trained
    moved = tmp_path / "moved"
    shutil.copytree(small_coco, moved)
    used = ImagesUsed.of_model(output)
    assert np.isin(image_digests(load_coco(moved, "train")), used.trained_on).all()
    assert not np.isin(image_digests(load_coco(moved, "val")), used.trained_on).any()
    assert (len(used.trained_on), len(used.held_out)) == (48, 37)


@pytest.mark.parametrize("change", ["label", pytest.param("image", marks=pytest.mark.slow)])
def test_resuming_with_other_images_or_labels_is_refused(trained, small_coco, tmp_path, change):
    changed = tmp_path / "coco"
    shutil.copytree(small_coco, changed)
    if change == "label":
        file = changed / "annotations/instances_train.json"
        content = json.loads(file.read_text())
        content["annotations"].pop()
        file.write_text(json.dumps(content))
    else:
        (changed / "val/0003.jpg").write_bytes((changed / "val/0004.jpg").read_bytes())
    done = run(training(changed, trained[0], "--resume"), check=False)
    purpose = {"label": "train", "image": "evaluate"}[change]
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"the images to {purpose} on, or their labels, are not those of this run" in line


def test_a_truncated_jpeg_is_named_in_one_line(small_coco, tmp_path):
    broken = tmp_path / "coco"
    for name in ("annotations", "val"):
        broken.mkdir(exist_ok=True)
        (broken / name).symlink_to(small_coco / name)
    (broken / "train").mkdir()
    for path in (small_coco / "train").iterdir():
        (broken / "train" / path.name).write_bytes(path.read_bytes())
    victim = broken / "train/0011.jpg"
    victim.write_bytes(victim.read_bytes()[:400])
    command = training(broken, tmp_path / "model")
    done = run(command, check=False)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "train/0011.jpg: cannot be read as an image" in errors[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data_dir", "/nowhere"], "/nowhere"),
        (["--dataset", "imagenet"], "unknown dataset 'imagenet'; expected one of scenes, coco, voc"),
        pytest.param(
            ["--fusion", "sum"],
            "fusion must be one of equal, association, learnable, linear; got 'sum'",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--association_norm", "l3"],
            "association_norm must be one of l2, l1, l1_l2, nuclear, none; got 'l3'",
            marks=pytest.mark.slow,
        ),
        (["--association_kernel_size", "4"], "association_kernel_size must be odd, such as 1, 3 or 5; got 4"),
        (["--backbone", "no-such-folder"], "no-such-folder: neither a folder"),
        (["--batch_size", "64"], "48 training images are fewer than one batch of 64 x 1 processes"),
    ],
)
def test_bad_options_end_in_one_line(small_coco, tmp_path, options, message):
    command = training(small_coco, tmp_path / "model", *options)
    done = run(command, check=False)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ") and message in line]
    assert "Traceback" not in done.stderr


def test_images_of_every_colour_mode_go_through_the_pipeline(trained, tmp_path):
    """Any image a user brings goes through the pipeline: grey, palette, with alpha."""
    output, _ = trained
    tagger = pipeline("image-classification", model=str(output))
    pixels = np.random.default_rng(0).integers(0, 255, (50, 80, 4), dtype=np.uint8)
    for mode in ("L", "P", "RGBA", "CMYK"):
        assert len(tagger(Image.fromarray(pixels, "RGBA").convert("RGB").convert(mode))) == 5
