"""Pages and figures of photographs, by the bundled model; the pages on wide and small screens, light and dark."""

from dataclasses import replace
from itertools import product

import datasets
import pytest
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import DataLoader

from assocformer_hf import Tagger
from assocformer_hf.data.checks.check import check_images, check_labels
from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import evaluation_transform
from assocformer_hf.data.schema import multilabel_features
from assocformer_hf.evaluation.comparison import compare
from assocformer_hf.evaluation.evaluator import evaluate
from assocformer_hf.interpretation.explanation import explanation_figure, plot_explanation, plot_places
from assocformer_hf.interpretation.predictions import plot_predictions
from assocformer_hf.pages.check_page import write_check_page
from assocformer_hf.pages.report import ReportInput, write_report
from assocformer_hf.training.images import augmented_for_check
from tests.conftest import OVERLAPS, ROOT

MODEL = ROOT / "model_cards/assocformer-efficientnet-lite0-mirflickr"
SHOWN = {
    "temple": ["sky", "tree", "plant_life", "structures"], "flower": ["flower", "plant_life"], "cat": ["animals"],
    "coffee": ["indoor", "food"], "rocket": ["sky", "structures", "transport", "night"],
}  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The report of five photographs, the same beside other scores, and the check page."""
    folder = tmp_path_factory.mktemp("photographs")
    tagger = Tagger(MODEL)
    names = tagger.label_names
    rows = {
        "image": [str(MODEL / f"samples/{name}.jpg") for name in SHOWN],
        "labels": [[names.index(label) for label in labels] for labels in SHOWN.values()],
    }
    dataset = datasets.Dataset.from_dict(rows, features=multilabel_features(names))
    images = MultiLabelImages(dataset, evaluation_transform(tagger.processor))
    loader = DataLoader(images, 5, collate_fn=MultiLabelCollator(len(names), with_index=True))
    accelerator = Accelerator(cpu=True)
    evaluation = evaluate({"model": tagger.model}, accelerator.prepare(loader), accelerator)["model"]
    limits = tagger.model.config.thresholds
    report = ReportInput("photographs", evaluation, names, limits, dataset)
    dimmed = replace(evaluation, scores=evaluation.scores * 0.6)
    beside = replace(report, comparison=compare(evaluation, dimmed, names, limits, limits), compared_with="dimmed")
    splits = {"train": dataset, "validation": dataset}
    batch = augmented_for_check(dataset, "photos/")
    write_check_page(
        "photographs", check_labels(splits), check_images(splits, 0), splits, folder / "check.html", *batch
    )
    return {
        "report": write_report(folder / "report", report),
        "comparison": write_report(folder / "comparison", beside),
        "check": folder / "check.html",
    }


@pytest.mark.parametrize("page", ["report", "comparison", "check"])
def test_a_page_of_photographs_is_whole_on_every_screen(pages, browser, page):
    assert pages[page].stat().st_size < 5_000_000
    for width, scheme in product((1280, 390), ("light", "dark")):
        view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        troubles = []
        view.on("console", lambda said, seen=troubles: seen.append(said.text) if said.type == "error" else None)
        view.on("request", lambda sent, seen=troubles: seen.append(sent.url) if sent.url.startswith("http") else None)
        view.on("pageerror", lambda error, seen=troubles: seen.append(str(error)))
        view.goto(pages[page].as_uri())
        if page == "report":
            view.get_by_role("button", name="sky", exact=True).click()
            assert view.locator(".detail img").count() == 2
            assert view.locator(".detail").bounding_box()["width"] <= width
            assert view.locator(".detail h3").first.inner_text() == "hits: 2"
        if page == "comparison":
            text = view.locator("body").inner_text()
            assert "beside dimmed on the same images" in text
            assert "1 image has a label that one model has right" in text
        assert view.evaluate(OVERLAPS) == []
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        assert view.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert troubles == []
        view.close()


def test_figures_of_a_photograph_have_the_size_of_what_they_show(tmp_path):
    tagger = Tagger(MODEL)
    file = MODEL / "samples/temple.jpg"
    explanation = tagger.explain(file)
    assert {one.label for one in explanation.labels} >= set(SHOWN["temple"])
    with Image.open(file) as image:
        plot_explanation(image, explanation, tmp_path / "why.png")
        plot_places(image, explanation, tmp_path / "where.png")
    pictures = [Image.open(MODEL / f"samples/{name}.jpg") for name in SHOWN]
    plot_predictions(pictures, tagger(pictures), tmp_path / "predictions.png")
    for name in ("why", "where", "predictions"):
        with Image.open(tmp_path / f"{name}.png") as figure:
            assert 300 < figure.width < 2400
            assert 150 < figure.height < 1200


def test_a_large_photograph_is_drawn_from_a_small_one():
    """As it is, every label's picture would take 24 bytes for each of its pixels."""
    image = Image.open(MODEL / "samples/temple.jpg").resize((3000, 2000))
    figure = explanation_figure(image, Tagger(MODEL).explain(image))
    drawn = [picture.get_array().shape for axes in figure.axes for picture in axes.get_images()]
    assert len(drawn) > 2
    assert max(max(shape) for shape in drawn) <= 640


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["report", "comparison", "check"])
def test_nobody_is_left_out_of_a_page_of_photographs(pages, browser, violations, page, scheme):
    view = browser.new_page(viewport={"width": 390, "height": 900}, color_scheme=scheme)
    view.goto(pages[page].as_uri())
    assert violations(view) == []
    view.close()
