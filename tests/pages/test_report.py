"""The report of an evaluation: complete, without anything from outside, and readable for 80 labels on every screen."""

import base64
import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import datasets
import numpy as np
import pytest
from PIL import Image

from assocformer_hf.data.schema import multilabel_features
from assocformer_hf.evaluation.comparison import compare
from assocformer_hf.evaluation.evaluator import Evaluation
from assocformer_hf.evaluation.metrics import multilabel_metrics
from assocformer_hf.pages.report import ReportInput, write_report
from tests.conftest import OVERLAPS, ROOT

COCO = json.loads((ROOT / "model_cards/assocformer-swin-large-coco/config.json").read_text())["id2label"]
LABELS = [*COCO.values()][:77] + [
    "<script>alert(1)</script>",
    "a $price$ & more",
    "one very long name of a label indeed",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of 80 labels, some without images, and 60 images."""
    generator = np.random.default_rng(0)
    targets = (generator.random((60, 80)) < 0.06).astype(np.int8)
    targets[:, 5], targets[:9, 6] = 0, -1
    scores = (1 / (1 + np.exp(3 - 3 * (targets == 1) + generator.normal(0, 1, targets.shape)))).astype(np.float32)
    keys = generator.normal(0, 1, (80, 4))
    evaluation = Evaluation(
        metrics=multilabel_metrics(scores, targets, 0.4), scores=scores, targets=targets, indices=np.arange(60)[::-1],
        unreadable=[60], association=1 / (1 + np.exp(-keys @ keys.T)), association_mean=0.5, association_std=0.1,
        scores_without={name: generator.random(scores.shape).astype(np.float32) for name in ("half", "mean")},
    )  # fmt: skip
    pictures = [Image.fromarray(generator.integers(0, 255, (48, 64, 3), dtype=np.uint8)) for _ in range(61)]
    dataset = datasets.Dataset.from_dict(
        {"image": pictures, "labels": [[]] * 61}, features=multilabel_features(list(map(str, range(80))))
    )
    folder = tmp_path_factory.mktemp("report")
    cooccurrence = generator.random((80, 80))
    second = np.clip(scores + generator.normal(0, 0.2, scores.shape), 0, 1).astype(np.float32)
    other = replace(evaluation, metrics=multilabel_metrics(second, targets, 0.4), scores=second)
    page = write_report(
        folder,
        ReportInput(
            "<80> labels", evaluation, LABELS, 0.4, dataset, cooccurrence, {"image size": "64 × 64 pixels"},
            compare(evaluation, other, LABELS, 0.4, 0.4), "new", "old",
        ),
    )  # fmt: skip
    return page, evaluation


class Parts(HTMLParser):
    """The tags of a page and what they refer to."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.references, self.ids, self.text = set(), [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.ids |= {value for name, value in attrs if name == "id"}

    def handle_data(self, data):
        self.text.append(data)


def rows(path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_page_is_whole_in_itself_and_small(report):
    page, _ = report
    content = page.read_text(encoding="utf-8")
    parts = Parts(content)
    assert page.stat().st_size < 5_000_000
    assert not parts.tags & {"iframe", "object", "embed"}
    assert all(reference.startswith(("data:", "#")) for reference in parts.references)
    assert {one[1:] for one in parts.references if one.startswith("#")} <= parts.ids
    assert "url(" not in content
    assert "@import" not in content
    text = " ".join(parts.text)
    assert all(name in text for name in LABELS)
    assert "1 image could not be read" in text
    for section in ("Overall", "Labels", "Curves", "Mix-ups", "Worst", "Thresholds", "Calibration", "Associations"):
        assert section in text


def test_the_tables_are_those_of_the_metrics(report):
    page, evaluation = report
    headline = {row["metric"]: row for row in rows(page.with_name("metrics.csv"))}
    for key in ("mAP", "CF1", "OF1"):
        assert float(headline[key]["value"]) == pytest.approx(evaluation.metrics[key], rel=1e-5)
        assert float(headline[key]["low"]) <= evaluation.metrics[key] <= float(headline[key]["high"])
    labels = rows(page.with_name("labels.csv"))
    assert [row["label"] for row in labels] == LABELS
    assert labels[5]["AP"] == labels[5]["recall"] == ""
    recalls = [float(row["recall"]) for row in labels if row["recall"]]
    assert np.mean(recalls) == pytest.approx(evaluation.metrics["CR"], rel=1e-4)
    precisions = [float(row["precision"] or 0) for row in labels if row["recall"]]
    assert np.mean(precisions) == pytest.approx(evaluation.metrics["CP"], rel=1e-4)
    for row, c in ((labels[0], 0), (labels[6], 6)):
        assert int(row["positives"]) == (evaluation.targets[:, c] == 1).sum()
    curve = [row for row in rows(page.with_name("precision_recall.csv")) if row["label"] == LABELS[0]]
    assert float(curve[-1]["recall"]) == 1
    histogram = [row for row in rows(page.with_name("score_histograms.csv")) if row["label"] == LABELS[6]]
    assert sum(int(row["with_label"]) + int(row["without_label"]) for row in histogram) == 51
    assert len(rows(page.with_name("thresholds.csv"))) == 3
    assert sum(int(row["decisions"]) for row in rows(page.with_name("reliability.csv"))) == 2 * (60 * 80 - 9)


def test_images_and_mix_ups_are_those_of_the_decisions(report):
    page, evaluation = report
    images = rows(page.with_name("images.csv"))
    losses = [float(row["log_loss"]) for row in images]
    assert losses == sorted(losses, reverse=True)
    assert len(images) == 60
    missed, wrong = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    for row in images:
        place = 59 - int(row["index"])
        present = {LABELS[c] for c in np.flatnonzero(evaluation.targets[place] == 1)}
        above = (evaluation.scores[place] >= 0.4) & (evaluation.targets[place] != -1)
        predicted = {LABELS[c] for c in np.flatnonzero(above)}
        assert set(filter(None, row["found"].split("; "))) == present & predicted
        assert set(filter(None, row["missed"].split("; "))) == present - predicted
        assert set(filter(None, row["wrong"].split("; "))) == predicted - present
        missed[place] = [name in present - predicted for name in LABELS]
        wrong[place] = [name in predicted - present for name in LABELS]
    pairs = rows(page.with_name("confused_pairs.csv"))
    assert pairs
    for pair in pairs:
        both = missed[:, LABELS.index(pair["missed"])] & wrong[:, LABELS.index(pair["predicted"])]
        assert int(pair["images"]) == both.sum() > 0
        assert int(pair["misses"]) == missed[:, LABELS.index(pair["missed"])].sum()


def test_nothing_overlaps_or_sticks_out_on_wide_and_small_screens(report, browser):
    page, _ = report
    for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
        view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        requested, errors = [], []
        view.on("console", lambda said, seen=errors: seen.append(said.text) if said.type == "error" else None)
        view.on("request", lambda sent, seen=requested: seen.append(sent.url))
        view.on("pageerror", lambda error, seen=errors: seen.append(str(error)))
        view.goto(page.as_uri())
        assert [url for url in requested if not url.startswith("data:")] == [page.as_uri()]
        assert errors == []
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        assert view.evaluate(OVERLAPS) == []
        background = view.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(24, 24, 27)"}[scheme]
        assert view.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        view.close()


def test_labels_are_sorted_found_and_opened(report, browser):
    page, evaluation = report
    view = browser.new_page(viewport={"width": 1280, "height": 900})
    errors = []
    view.on("pageerror", lambda error: errors.append(str(error)))
    view.goto(page.as_uri())
    table = view.locator("#label-table")

    def values(number):
        return table.locator(f"tbody tr:not([hidden]) td:nth-child({number})").all_inner_texts()

    head = table.get_by_role("button", name="images", exact=True)
    head.click()
    assert [int(value) for value in values(4)] == sorted((evaluation.targets == 1).sum(0).tolist())
    head.click()
    assert [int(value) for value in values(4)] == sorted((evaluation.targets == 1).sum(0).tolist(), reverse=True)
    table.get_by_role("button", name="AP", exact=True).click()
    assert values(2)[-1] == "–"  # the label without positives comes last, whichever way
    view.locator("[data-table=label-table]").fill("PRICE")
    assert values(1) == ["a $price$ & more"]
    assert view.locator(".tools:has([data-table=label-table]) [role=status]").inner_text() == "1 of 80 labels"
    c = LABELS.index("a $price$ & more")
    table.get_by_role("button", name="a $price$ & more").click()
    present, predicted = evaluation.targets[:, c] == 1, evaluation.scores[:, c] >= np.float32(0.4)
    expected = [(present & predicted).sum(), (present & ~predicted).sum(), (predicted & ~present).sum()]
    assert table.locator(".detail h3").all_inner_texts() == [
        f"{what}: {count}" for what, count in zip(("hits", "misses", "false alarms"), expected, strict=True)
    ]
    assert table.locator(".detail svg").count() == 1
    assert table.locator(".detail img").count() == sum(min(count, 6) for count in expected)
    assert table.locator(".detail img").evaluate_all("all => all.every(one => one.naturalWidth > 0)")
    assert view.evaluate(OVERLAPS) == []
    table.get_by_role("button", name="a $price$ & more").click()
    assert table.locator(".detail").count() == 0
    compared = view.locator("#compared-labels")
    compared.get_by_role("button", name="difference").click()
    differences = [float(one) for one in compared.locator("td:nth-child(4)").all_inner_texts() if one != "–"]
    assert differences == sorted(differences)
    assert errors == []
    view.close()


def test_the_comparison_is_that_of_both_models(report):
    page, evaluation = report
    found = {row["metric"]: row for row in rows(page.with_name("compared_metrics.csv"))}
    assert float(found["mAP"]["value"]) == pytest.approx(evaluation.metrics["mAP"], rel=1e-5)
    content = page.read_text(encoding="utf-8")
    assert "new beside old on the same images" in content
    assert "64 × 64 pixels" in content
    assert rows(page.with_name("compared_images.csv"))


def test_a_report_of_few_images_does_without_what_they_cannot_tell(tmp_path):
    generator = np.random.default_rng(0)
    targets = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.int8)
    scores = generator.random((3, 2)).astype(np.float32)
    evaluation = Evaluation(
        metrics=multilabel_metrics(scores, targets), scores=scores, targets=targets, indices=np.arange(3),
        unreadable=[], association=None, association_mean=None, association_std=None,
    )  # fmt: skip
    dataset = datasets.Dataset.from_dict(
        {"image": [Image.new("RGB", (8, 8))] * 3, "labels": [[0], [1], [0, 1]]},
        features=multilabel_features(["a", "b"]),
    )
    content = write_report(tmp_path, ReportInput("few", evaluation, ["a", "b"], [0.5, 0.4], dataset)).read_text()
    assert "Not measured: 3 images cannot be divided into 5 folds" in content
    assert not re.search("Associations|association.npz", content)
    assert not (tmp_path / "association.npz").exists()


def test_small_pictures_are_without_what_was_noted_in_their_files(tmp_path):
    rows = []
    for suffix in ("JPEG", "GIF"):
        Image.new("RGB", (8, 8)).save(file := io.BytesIO(), suffix, comment=b"Jane Doe, 52.5 N 13.4 E")
        rows.append({"bytes": file.getvalue(), "path": None})
    targets = np.eye(2, dtype=np.int8)
    scores = np.array([[0.2, 0.9], [0.7, 0.4]], dtype=np.float32)
    evaluation = Evaluation(
        metrics=multilabel_metrics(scores, targets), scores=scores, targets=targets, indices=np.arange(2),
        unreadable=[], association=None, association_mean=None, association_std=None,
    )  # fmt: skip
    dataset = datasets.Dataset.from_dict(
        {"image": rows, "labels": [[0], [1]]}, features=multilabel_features(["a", "b"])
    )
    content = write_report(tmp_path, ReportInput("noted", evaluation, ["a", "b"], 0.5, dataset)).read_text()
    small = [base64.b64decode(one) for one in re.findall(r"data:image/jpeg;base64,([^\"]+)", content)]
    assert len(small) >= 2
    assert not [one for one in small if b"Jane Doe" in one]


def test_a_report_where_every_a_is_the_same(tmp_path):
    """As of many a backbone's first epochs: there is no map to draw, and the page says so."""
    generator = np.random.default_rng(0)
    targets = (generator.random((6, 3)) < 0.5).astype(np.int8)
    scores = generator.random((6, 3)).astype(np.float32)
    evaluation = Evaluation(
        metrics=multilabel_metrics(scores, targets), scores=scores, targets=targets, indices=np.arange(6),
        unreadable=[], association=np.ones((3, 3)), association_mean=1.0, association_std=0.0,
    )  # fmt: skip
    dataset = datasets.Dataset.from_dict(
        {"image": [Image.new("RGB", (8, 8))] * 6, "labels": [[0]] * 6}, features=multilabel_features(["a", "b", "c"])
    )
    report = ReportInput("flat", evaluation, ["a", "b", "c"], 0.5, dataset, generator.random((3, 3)))
    content = write_report(tmp_path, report).read_text()
    assert "the association matrix A is worth" in content
    assert "how often the labels occur together" not in content


def test_without_worth_there_is_a_sentence_in_the_place_of_a_map(report, tmp_path):
    page, evaluation = report
    assert page.with_name("association_map.png").exists()
    names, scores, targets = LABELS[:4], evaluation.scores[:, :4], evaluation.targets[:, :4]
    dataset = datasets.Dataset.from_dict(
        {"image": [Image.new("RGB", (8, 8))] * 61, "labels": [[]] * 61}, features=multilabel_features(names)
    )
    worthless = replace(
        evaluation, metrics=multilabel_metrics(scores, targets, 0.4), scores=scores, targets=targets,
        association=evaluation.association[:4, :4], scores_without=dict.fromkeys(("half", "mean"), scores),
    )  # fmt: skip
    content = write_report(tmp_path, ReportInput("worthless", worthless, names, 0.4, dataset)).read_text()
    assert "the model loses 0.00 points of mAP (95% interval 0.00 to 0.00)" in content
    assert not (tmp_path / "association_map.png").exists()
    assert (tmp_path / "association.npz").exists()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_left_out(report, browser, violations, scheme):
    """axe-core finds nothing wrong, contrast included, also where a label is opened."""
    view = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    view.goto(report[0].as_uri())
    view.locator("#label-table button.label").first.click()
    assert violations(view) == []
    view.close()
