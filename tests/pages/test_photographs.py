"""Report and check page of photographs, by the bundled model, on wide and small screens, light and dark."""

import datasets
import pytest
from accelerate import Accelerator
from torch.utils.data import DataLoader

from assocformer_hf import Tagger
from assocformer_hf.data.checks.check import check_images, check_labels
from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import evaluation_transform
from assocformer_hf.data.schema import multilabel_features
from assocformer_hf.evaluation.evaluator import evaluate
from assocformer_hf.pages.check_page import html_report
from assocformer_hf.pages.report import ReportInput, write_report
from assocformer_hf.training.train import first_batch
from tests.conftest import OVERLAPS, ROOT

MODEL = ROOT / "model_cards/assocformer-efficientnet-lite0-mirflickr"
SHOWN = {
    "temple": ["sky", "tree", "plant_life", "structures"], "flower": ["flower", "plant_life"], "cat": ["animals"],
    "coffee": ["indoor", "food"], "rocket": ["sky", "structures", "transport", "night"],
}  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The report and the check page of five photographs."""
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
    report = write_report(
        folder / "report", ReportInput("photographs", evaluation, names, tagger.model.config.thresholds, dataset)
    )
    splits = {"train": dataset, "validation": dataset}
    batch = first_batch(dataset, "photos/")
    html_report("photographs", check_labels(splits), check_images(splits, 0), splits, folder / "check.html", *batch)
    return {"report": report, "check": folder / "check.html"}


@pytest.mark.parametrize("page", ["report", "check"])
def test_a_page_of_photographs_is_whole_on_every_screen(pages, browser, page):
    assert pages[page].stat().st_size < 5_000_000
    for width, scheme in ((1280, "light"), (390, "dark")):
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
        assert view.evaluate(OVERLAPS) == []
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        assert view.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert troubles == []
        view.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["report", "check"])
def test_nobody_is_left_out_of_a_page_of_photographs(pages, browser, violations, page, scheme):
    view = browser.new_page(viewport={"width": 390, "height": 900}, color_scheme=scheme)
    view.goto(pages[page].as_uri())
    assert violations(view) == []
    view.close()
