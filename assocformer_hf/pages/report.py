"""An evaluation for people: one page of HTML that needs no other file, and its numbers as CSV."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from pyarrow.compute import struct_field

from assocformer_hf.csv_file import write_csv
from assocformer_hf.data.images.decoding import decode_image
from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.analysis import (
    confused_pairs,
    image_rows,
    label_rows,
    precision_recall_points,
    score_histograms,
)
from assocformer_hf.evaluation.bootstrap import bootstrap_metrics
from assocformer_hf.evaluation.calibration import Reliability, fit_temperature, held_out_scale, reliability
from assocformer_hf.evaluation.evaluator import Evaluation
from assocformer_hf.evaluation.report import HEADLINE
from assocformer_hf.evaluation.thresholds import cross_validate_thresholds
from assocformer_hf.html_page import data_url, embedded_figure, page
from assocformer_hf.interpretation.association_map import (
    Correlation,
    association_figures,
    cooccurrence_correlation,
    save_association_data,
)
from assocformer_hf.interpretation.reliability_diagram import reliability_figure
from assocformer_hf.output_folder import OutputFolder, shown

PAGE_FILE = "report.html"
BEST, WORST = 6, 12  # images shown
THUMBNAIL = 160  # pixels
FOLDS = 5
STYLE = Path(__file__).with_name("report_page.css")
TEMPLATE = "report_page.html"


@dataclass
class ReportInput:
    """What a report is about.

    Attributes:
        title: heading of the page.
        evaluation: of the model.
        label_names: in the order of the columns.
        threshold: of the model: one, or one for each label.
        dataset: the images that were evaluated.
        cooccurrence: P(j | c) in the training labels, see `conditional_cooccurrence`; None leaves the comparison out.
    """

    title: str
    evaluation: Evaluation
    label_names: Sequence[str]
    threshold: float | Sequence[float]
    dataset: datasets.Dataset
    cooccurrence: np.ndarray | None = None


def write_report(folder: str | Path, report: ReportInput) -> Path:
    """Writes `report.html`, its figures as PNG, and its numbers as CSV.

    Args:
        folder: made where it is missing; earlier files of a report are replaced.
        report: what to report.

    Returns:
        The page.

    Raises:
        OutputError: if files of others would be replaced.
    """
    output = OutputFolder(folder)
    with output.replacing("report") as aside:
        _write(aside, report)
    return output.path / PAGE_FILE


def _write(folder: Path, report: ReportInput):
    evaluation, names = report.evaluation, list(report.label_names)
    scores, targets = evaluation.scores, evaluation.targets
    thresholds = np.broadcast_to(report.threshold, len(names)).astype(float)
    intervals = bootstrap_metrics(scores, targets, thresholds)
    headline = [
        {"metric": key, "value": evaluation.metrics[key], "low": low, "high": high}
        for key in HEADLINE
        for low, high in [intervals.get(key, (None, None))]
    ]
    labels = label_rows(evaluation, names, thresholds, intervals["per_label_AP"])
    points = {
        name: precision_recall_points(scores[:, c], targets[:, c])
        for c, name in enumerate(names)
        if (targets[:, c] == 1).any()
    }
    histograms = {name: score_histograms(scores[:, c], targets[:, c]) for c, name in enumerate(names)}
    confused = confused_pairs(evaluation, names, thresholds)
    files = _files(report.dataset)
    images = [row | {"file": files[row["index"]]} for row in image_rows(evaluation, names, thresholds)]
    states, choices, temperature = {"as they are": reliability(scores, targets)}, [], None
    try:
        choices, scaled = _threshold_choices(scores, targets, thresholds), held_out_scale(scores, targets, FOLDS)
        states["scaled, held out"], temperature = reliability(scaled, targets), fit_temperature(scores, targets)
    except DataError:
        pass  # too few images, or all that have labels are in one fold
    associations, correlation = _associations(folder, report)
    figures = {"reliability": reliability_figure(states)} | associations

    tables = {
        "metrics": headline,
        "labels": labels,
        "precision_recall": _point_rows(points),
        "score_histograms": _histogram_rows(histograms),
        "confused_pairs": confused,
        "images": images,
        "thresholds": choices,
        "reliability": _reliability_rows(states),
    }
    for name, rows in tables.items():
        write_csv(folder / f"{name}.csv", rows)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=100)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": _percent, "decimals": _decimals, "polyline": _polyline, "bars": _bars}
    body = environment.get_template(TEMPLATE).render(
        title=report.title,
        metrics=evaluation.metrics,
        unreadable=len(evaluation.unreadable),
        trained_on=evaluation.trained_on,
        headline=headline,
        labels=sorted(labels, key=lambda row: (row["AP"] is None, row["AP"])),
        points=points,
        histograms=histograms,
        thresholds=dict(zip(names, thresholds.tolist(), strict=True)),
        confused=confused,
        worst=[row | _thumbnail(report.dataset, row["index"]) for row in images[:WORST]],
        best=[row | _thumbnail(report.dataset, row["index"]) for row in images[WORST:][-BEST:][::-1]],
        choices=choices,
        errors=[state.error for state in states.values()],
        temperature=temperature,
        figures={name: _embedded(figure, name.replace("_", " ")) for name, figure in figures.items()},
        has_cooccurrence=report.cooccurrence is not None,
        correlation=correlation,
    )
    content = page(report.title, body, STYLE.read_text(encoding="utf-8"))
    (folder / PAGE_FILE).write_text(content, encoding="utf-8")


def _threshold_choices(scores: np.ndarray, targets: np.ndarray, thresholds: np.ndarray) -> list[dict]:
    """CF1 and OF1 at the model's own thresholds, and at those chosen on the other folds; a row for each choice."""
    rows = []
    for choice, per_label in (("one for all labels", False), ("one for each label", True)):
        found = cross_validate_thresholds(scores, targets, thresholds, FOLDS, per_label=per_label)
        if not rows:
            rows.append({"thresholds": "the model's own"} | found["baseline"])
        rows.append({"thresholds": f"{choice}, for F1"} | found["chosen"])
    return rows


def _associations(folder: Path, report: ReportInput) -> tuple[dict, Correlation | None]:
    """Writes the data of A, where there is one; the figures, and the correlation with the co-occurrence."""
    association, names, together = report.evaluation.association, report.label_names, report.cooccurrence
    if association is None:
        return {}, None
    save_association_data(folder, association, names, together)
    has_pairs = together is not None and len(names) > 2
    correlation = cooccurrence_correlation(association, together) if has_pairs else None
    return association_figures(association, names, together), correlation


def _files(dataset: datasets.Dataset) -> list[str]:
    """The name of each image; none is read for it."""
    paths = [
        path
        for batch in dataset.select_columns(["image"]).with_format("arrow").iter(1024)
        for path in struct_field(batch["image"], "path").to_pylist()
    ]
    return [shown(Path(path).name) if path else f"image {i}" for i, path in enumerate(paths)]


def _thumbnail(dataset: datasets.Dataset, index: int) -> dict[str, str]:
    stored = dataset.cast_column("image", datasets.Image(decode=False))[index]["image"]
    content = stored["path"] if stored["bytes"] is None else stored["bytes"]
    image = decode_image(content)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return {"thumbnail": Markup(data_url(file.getvalue(), "image/jpeg"))}


def _embedded(figure, title: str) -> Markup:
    """At twice the pixels of its size on the page, which is the figure's own: text stays readable and scrolls."""
    return Markup(embedded_figure(figure, title, dpi=160, width=f"{figure.get_figwidth() * 80:.0f}px"))


def _reliability_rows(states: Mapping[str, Reliability]) -> Iterable[dict]:
    for name, state in states.items():
        for i, count in enumerate(state.count.tolist()):
            yield {
                "scores": name, "bin": i, "mean_score": float(state.score[i]),
                "frequency": float(state.frequency[i]), "decisions": count,
            }  # fmt: skip


def _point_rows(points: Mapping[str, np.ndarray]) -> Iterable[dict]:
    for name, curve in points.items():
        for threshold, recall, precision in curve.tolist():
            yield {"label": name, "threshold": threshold, "recall": recall, "precision": precision}


def _histogram_rows(histograms: Mapping[str, np.ndarray]) -> Iterable[dict]:
    for name, (present, absent) in histograms.items():
        for i in range(len(present)):
            yield {
                "label": name, "from": i / len(present), "to": (i + 1) / len(present),
                "with_label": int(present[i]), "without_label": int(absent[i]),
            }  # fmt: skip


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _decimals(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"


def _polyline(points: np.ndarray) -> str:
    """Recall and precision as points of an SVG of 100 x 100."""
    places = [(0, points[0, 2]), *points[:, 1:].tolist()]
    return " ".join(f"{100 * recall:.1f},{100 - 100 * precision:.1f}" for recall, precision in places)


def _bars(histogram: np.ndarray) -> list[str]:
    """Paths of an SVG that is 100 wide: images with the label upwards from 40, the others downwards."""
    width, paths = 100 / histogram.shape[1], []
    for counts, direction in zip(histogram, (-38, 38), strict=True):
        heights = direction * counts / max(counts.max(), 1)
        shown = [(i * width, height) for i, height in enumerate(heights) if height]
        paths.append("".join(f"M{x:.0f} 40h{width - 1:.0f}v{height:.1f}h-{width - 1:.0f}z" for x, height in shown))
    return paths
