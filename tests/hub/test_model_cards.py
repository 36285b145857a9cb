"""The folders of `model_cards/`: complete, loadable, and true."""

import ast
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoImageProcessor, pipeline

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel, Tagger
from assocformer_hf.data.images.decoding import decode_image
from assocformer_hf.data.load import load_split
from assocformer_hf.data.readers.coco import load_coco
from assocformer_hf.data.scenes.scenes import load_scenes, voc2007_cooccurrence
from assocformer_hf.data.schema import label_names
from assocformer_hf.evaluation.association_worth import is_worth_showing, worth_sentence
from assocformer_hf.evaluation.metrics import multilabel_metrics
from assocformer_hf.hub.handler import EndpointHandler
from assocformer_hf.hub.model_folder import HANDLER, MODEL_ROOM, read_metrics, write_card
from model_cards.write_cards import describe_scenes, worth_table
from model_cards.write_paper_folders import PAPER as PAPER_NUMBERS
from model_cards.write_paper_folders import folder_of, paper_card
from model_cards.write_photographs_folder import MODELS, describe
from tests.conftest import ROOT

CARDS = ROOT / "model_cards"
TRAINED = CARDS / "assocformer-swin-tiny-scenes"
PHOTOGRAPHS = CARDS / "assocformer-efficientnet-lite0-mirflickr"
OF_PHOTOGRAPHS = sorted(CARDS.glob("assocformer-*-mirflickr"))

PAPER = [folder_of(*key) for key in PAPER_NUMBERS]


@pytest.mark.parametrize("folder", [TRAINED, *OF_PHOTOGRAPHS, *PAPER], ids=lambda path: path.name)
def test_the_metadata_is_valid(folder):
    card = ModelCard.load(folder / "README.md")
    data = card.data.to_dict()
    assert data["license"] == "apache-2.0"
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "image-classification"
    assert {"multi-label-classification", "assocformer"} <= set(data["tags"])
    assert (folder / "README.md").read_text() == str(card)  # the schema classes read all that is written
    # What the Hub refuses: names of datasets and models that are none of its own form, results without a value.
    for name in [*data.get("datasets", []), *filter(None, [data.get("base_model")])]:
        assert re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)
    for result in card.data.eval_results or []:
        assert 0 <= result.metric_value <= 1
        assert result.dataset_type
    assert all(set(example) == {"src", "example_title"} for example in data.get("widget", []))
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", card.text):
        assert (folder / picture).is_file()


@pytest.mark.parametrize("folder", [TRAINED, *OF_PHOTOGRAPHS], ids=lambda path: path.name)
def test_a_trained_model_is_small_and_complete(folder):
    assert (folder / "model.safetensors").stat().st_size < (4e6 if folder == TRAINED else 8e6)
    expected = {
        "README.md",
        "config.json",
        "preprocessor_config.json",
        "metrics.json",
        "handler.py",
        "requirements.txt",
        "recipe.yaml",
        "predictions.jpg",
    }
    assert expected <= {path.name for path in folder.iterdir()}
    assert (folder / "handler.py").read_text() == HANDLER.read_text()
    for name in json.loads((folder / "config.json").read_text())["auto_map"].values():
        assert (folder / f"{name.partition('.')[0]}.py").is_file()
    for code in MODEL_ROOM.glob("*.py"):
        assert code.stem == "__init__" or (folder / code.name).read_text() == code.read_text()


@pytest.mark.parametrize("folder", [TRAINED, *OF_PHOTOGRAPHS], ids=lambda path: path.name)
def test_what_is_generated_is_up_to_date(folder, tmp_path):
    written = shutil.copytree(folder, tmp_path / folder.name)
    if folder == TRAINED:
        describe_scenes(written)
    else:
        (bundled,) = (one for one in MODELS.values() if one.folder == folder)
        describe(read_metrics(folder)["test"]["rows"], replace(bundled, folder=written))
    for name in ("README.md", "recipe.yaml", "metrics.json"):
        assert (written / name).read_text() == (folder / name).read_text(), name


def test_a_label_stays_in_its_row_and_as_it_is(tmp_path):
    metrics = json.loads((TRAINED / "metrics.json").read_text())
    row = metrics["per_label"].pop("person")
    metrics["per_label"]["a\nb|c_*d*"] = row
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    write_card(tmp_path)
    assert f"| a b\\|c\\_\\*d\\* | {100 * row['AP']:.1f} | {row['positives']} |" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("folder", [TRAINED, *OF_PHOTOGRAPHS], ids=lambda path: path.name)
def test_a_trained_card_states_what_was_measured(folder):
    card, metrics = ModelCard.load(folder / "README.md"), json.loads((folder / "metrics.json").read_text())
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    # Of a split that chose nothing, where there is one.
    split, measured = metrics["run"]["eval_split"], metrics
    if held_out := metrics.get("test"):
        split, measured = held_out["split"], held_out["rows"][0]
    assert {result.dataset_split for result in card.data.eval_results} == {split}
    assert results == {key: round(measured[key], 4) for key in ("mAP", "CF1", "OF1")}
    for name, row in metrics["per_label"].items():
        assert f"| {name} | {100 * row['AP']:.1f} | {row['positives']} |" in card.text
    for example in card.data.widget:
        assert (folder / example["src"]).is_file()
    for row in metrics.get("test", {}).get("rows", []):
        assert f"| {row['model']} | {row['photographs']} | {100 * row['mAP']:.1f} (" in card.text


def test_photographs_get_their_labels():
    """Widget, handler and tagger agree, and see what the pictures show; each picture has its licence beside it."""
    tagger, handler, ours = (
        pipeline("image-classification", model=str(PHOTOGRAPHS)),
        EndpointHandler(str(PHOTOGRAPHS)),
        Tagger(PHOTOGRAPHS),
    )
    shows = {
        "temple": {"sky", "tree", "plant_life", "structures"},
        "flower": {"flower", "plant_life"},
        "cat": {"animals"},
        "coffee": {"indoor"},
        "rocket": {"sky", "structures"},
    }
    licences = (PHOTOGRAPHS / "samples/LICENSES.md").read_text()
    assert {path.stem for path in (PHOTOGRAPHS / "samples").glob("*.jpg")} == shows.keys()
    for name, expected in shows.items():
        path = PHOTOGRAPHS / f"samples/{name}.jpg"
        tags = tagger(str(path), top_k=24)
        answer = handler({"inputs": path.read_bytes(), "parameters": {"top_k": 24}})
        for one, other in zip(tags, answer, strict=True):
            assert (one["label"], one["score"]) == (other["label"], pytest.approx(other["score"], abs=1e-5))
        assert expected <= set(ours(path).labels), name
        assert f"`{name}.jpg`" in licences


@pytest.mark.parametrize("folder", OF_PHOTOGRAPHS, ids=lambda path: path.name)
def test_a_model_of_photographs_scores_as_its_card_says(folder):
    source = ROOT.parent / "shared/data/mirflickr25k-128"
    if not source.is_dir():
        pytest.skip(f"{source} is absent: the photographs are no part of the repository")
    row, *_ = json.loads((folder / "metrics.json").read_text())["test"]["rows"]
    dataset = load_split(str(source), "test").select(range(500))
    ours = Tagger(folder)
    scores = np.stack([one.all_scores for one in ours(dataset["image"][:])])
    targets = np.zeros(scores.shape, dtype=np.int8)
    for target, labels in zip(targets, dataset["labels"], strict=True):
        target[labels] = 1
    assert multilabel_metrics(scores, targets)["mAP"] == pytest.approx(row["mAP of the first 500"], abs=0.01)


def test_the_readme_says_what_the_card_says():
    row, *_ = json.loads((PHOTOGRAPHS / "metrics.json").read_text())["test"]["rows"]
    low, high = (f"{100 * row[key]:.1f}" for key in ("mAP from", "mAP to"))
    assert f"mAP {100 * row['mAP']:.1f} ({low} to {high})" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_trained_model_scores_as_its_card_says():
    dataset = load_scenes("validation")
    model, processor = (
        AssocFormerForMultiLabel.from_pretrained(TRAINED).eval(),
        AutoImageProcessor.from_pretrained(TRAINED),
    )
    with torch.inference_mode():
        inputs = processor(images=[image.convert("RGB") for image in dataset["image"]], return_tensors="pt")
        scores = model(**inputs).logits.sigmoid().numpy()
    targets = torch.zeros(scores.shape, dtype=torch.int8)
    for row, labels in zip(targets, dataset["labels"], strict=True):
        row[labels] = 1
    expected = json.loads((TRAINED / "metrics.json").read_text())
    measured = multilabel_metrics(scores, targets.numpy())
    assert measured["mAP"] == pytest.approx(expected["mAP"], abs=0.002)
    assert measured["OF1"] == pytest.approx(expected["OF1"], abs=0.002)


def test_the_samples_get_their_labels():
    """Widget, handler and model agree, and on the pictures' own labels."""
    tagger, handler = pipeline("image-classification", model=str(TRAINED)), EndpointHandler(str(TRAINED))
    names = (
        {"bottle", "chair", "diningtable", "person"},
        {"chair", "sofa", "tvmonitor"},
        {"dog", "person", "pottedplant"},
    )
    for i, expected in enumerate(names, start=1):
        path = TRAINED / f"samples/{i}.jpg"
        tags = tagger(decode_image(path), top_k=20)
        answer = handler({"inputs": path.read_bytes(), "parameters": {"top_k": 20}})
        for one, other in zip(tags, answer, strict=True):
            assert one["label"] == other["label"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert {tag["label"] for tag in tags if tag["score"] >= 0.5} == expected


@pytest.mark.parametrize(("backbone", "dataset"), PAPER_NUMBERS)
def test_a_paper_card_says_that_it_has_no_weights_and_whose_the_numbers_are(backbone, dataset):
    folder = folder_of(backbone, dataset)
    config = AssocFormerConfig.from_pretrained(folder)
    assert config.num_labels == {"coco": 80, "voc": 20}[dataset]
    assert config.backbone_config.model_type == {"swin-large": "timm_wrapper", "cvt-w24": "cvt"}[backbone]
    assert AutoImageProcessor.from_pretrained(folder).size["height"] == 384
    card = ModelCard.load(folder / "README.md")
    assert card.content == paper_card(backbone, dataset, config).content
    assert card.data.eval_results is None
    assert "holds no weights" in card.text
    assert "not measured with this package" in card.text
    assert re.search(rf"association module \| {PAPER_NUMBERS[backbone, dataset]['mAP']} \|", card.text)
    assert not list(folder.glob("*.safetensors"))


def test_paper_configurations_have_the_datasets_labels(coco_mini):
    voc = AssocFormerConfig.from_pretrained(folder_of("cvt-w24", "voc"))
    assert list(voc.id2label.values()) == voc2007_cooccurrence()["labels"]
    coco = AssocFormerConfig.from_pretrained(folder_of("swin-large", "coco"))
    assert list(coco.id2label.values()) == label_names(load_coco(coco_mini, "val2017"))


@pytest.mark.parametrize("folder", [TRAINED, *OF_PHOTOGRAPHS], ids=lambda path: path.name)
def test_card_and_documentation_say_what_a_is_worth(folder):
    worth = json.loads((folder / "metrics.json").read_text())["association"]["worth"]
    assert worth_sentence(worth) in (folder / "README.md").read_text(encoding="utf-8")
    assert (folder / "association_map.png").exists() == is_worth_showing(worth)
    (row,) = worth_table([folder])[2:]
    assert row in (ROOT / "docs/interpretation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("threshold", "said"), [(0.32414149739, "0.324"), (0.9997, "0.9997"), (1 - 1e-9, "0.999999999"), (1.0, "1")]
)
def test_a_card_gives_its_threshold_whole(tmp_path, threshold, said):
    folder = tmp_path / 'my "photos"'
    folder.mkdir()
    metrics = json.loads((PHOTOGRAPHS / "metrics.json").read_text()) | {"threshold": threshold}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    write_card(folder)
    text = (folder / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    constants = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert {threshold, 'my "photos"'} <= set(constants)
    assert f"A label is predicted from\n{said} on." in text
