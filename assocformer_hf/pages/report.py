"""An evaluation for people: one page of HTML that needs no other file, and its numbers as CSV."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from pyarrow.compute import struct_field

from assocformer_hf.csv_file import write_csv
from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.analysis import (
    confused_pairs,
    image_rows,
    label_rows,
    precision_recall_points,
    score_histograms,
)
from assocformer_hf.evaluation.association_worth import is_worth_showing, worth_sentence
from assocformer_hf.evaluation.bootstrap import bootstrap_metrics
from assocformer_hf.evaluation.calibration import (
    Reliability,
    fit_scaling,
    held_out_scale,
    is_no_better_than_chance,
    reliability,
)
from assocformer_hf.evaluation.comparison import Comparison
from assocformer_hf.evaluation.evaluator import Evaluation
from assocformer_hf.evaluation.metrics import HEADLINE, reaches
from assocformer_hf.evaluation.thresholds import cross_validate_thresholds
from assocformer_hf.interpretation.association_map import (
    Correlation,
    association_figures,
    association_summary,
    cooccurrence_correlation,
    save_association_data,
)
from assocformer_hf.interpretation.reliability_diagram import reliability_figure
from assocformer_hf.output_folder import OutputFolder
from assocformer_hf.pages.html import Thumbnails, embedded_figure, render
from assocformer_hf.wording import shown

PAGE_FILE = "report.html"
GROUP = "report"
FIGURES = ("reliability.png", "association_map.png")  # as a model has them too
BEST, WORST, CHANGED = 6, 12, 24  # images shown
EXAMPLES = 6  # of each label's hits, misses and false alarms
PHOTOGRAPHS = 2_500_000  # bytes of the page
FOLDS = 5


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
        facts: what else the page says at its top, such as dataset, image size and command; the date is added.
        comparison: the model beside another one, see `compare`.
        model: the model's name.
        compared_with: the other model's name.
    """

    title: str
    evaluation: Evaluation
    label_names: Sequence[str]
    threshold: float | Sequence[float]
    dataset: datasets.Dataset
    cooccurrence: np.ndarray | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    comparison: Comparison | None = None
    model: str = "this model"
    compared_with: str = "the other"


def refuse_report(folder: str | Path) -> None:
    """Says now, before the work for it, if a report could not be written to a folder.

    Raises:
        OutputError: if there are files of others in its place, or it cannot be written to.
    """
    output = OutputFolder(folder)
    output.make()
    output.refuse_foreign([PAGE_FILE, *FIGURES], GROUP)


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
    with output.replacing(GROUP) as aside:
        _write(aside, report)
    return output.path / PAGE_FILE


def _write(folder: Path, report: ReportInput):
    evaluation, names = report.evaluation, list(report.label_names)
    scores, targets = evaluation.scores, evaluation.targets
    thresholds = np.broadcast_to(report.threshold, len(names)).astype(float)
    intervals = bootstrap_metrics(scores, targets, thresholds) if len(scores) > 1 else {}
    headline = [
        {"metric": key, "value": evaluation.metrics[key], "low": low, "high": high}
        for key in HEADLINE
        for low, high in [intervals.get(key, (None, None))]
    ]
    labels = label_rows(evaluation, names, thresholds, intervals.get("per_label_AP"))
    points = {
        name: precision_recall_points(scores[:, c], targets[:, c])
        for c, name in enumerate(names)
        if (targets[:, c] == 1).any()
    }
    histograms = {name: score_histograms(scores[:, c], targets[:, c]) for c, name in enumerate(names)}
    confused = confused_pairs(evaluation, names, thresholds)
    files, thumbnails = _files(report.dataset), Thumbnails(report.dataset)
    images = [row | {"file": files[row["index"]]} for row in image_rows(evaluation, names, thresholds)]
    comparison = report.comparison
    changed = [row | {"file": files[row["index"]]} for row in comparison.images] if comparison else []
    states, choices = {"as they are": reliability(scores, targets)}, []
    no_choices = no_scaling = ""
    try:
        choices = _threshold_choices(scores, targets, thresholds)
    except DataError as error:
        no_choices = str(error)
    try:
        if is_no_better_than_chance(fit_scaling(scores, targets)(scores), targets):
            raise DataError("the scores say nothing about the labels of these images")
        states["scaled, held out"] = reliability(held_out_scale(scores, targets, FOLDS), targets)
    except DataError as error:
        no_scaling = str(error)
    worth = evaluation.association_worth
    associations, correlation = _associations(folder, report, is_worth_showing(worth))
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
    if comparison:
        tables |= {"compared_metrics": comparison.metrics, "compared_labels": comparison.labels}
        tables["compared_images"] = changed
    for name, rows in tables.items():
        write_csv(folder / f"{name}.csv", rows)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=150)
    association = evaluation.association
    summary = "" if association is None else worth_sentence(worth)
    if is_worth_showing(worth):
        summary += f" {association_summary(association, names)}"
    examples, photographs = _examples(evaluation, thresholds, thumbnails, files)
    content = render(
        "report.html",
        title=report.title,
        facts={"date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")} | dict(report.facts),
        model=report.model,
        compared_with=report.compared_with,
        comparison=comparison,
        changed=[row | {"thumbnail": thumbnails(row["index"]), "parts": _changes(row)} for row in changed[:CHANGED]],
        metrics=evaluation.metrics,
        unreadable=len(evaluation.unreadable),
        trained_on=evaluation.trained_on,
        headline=headline,
        labels=sorted(
            (row | {"column": c} for c, row in enumerate(labels)), key=lambda row: (row["AP"] is None, row["AP"])
        ),
        points=points,
        histograms=histograms,
        confused=confused,
        worst=[row | {"thumbnail": thumbnails(row["index"]), "parts": _decisions(row)} for row in images[:WORST]],
        best=[
            row | {"thumbnail": thumbnails(row["index"]), "parts": _decisions(row)}
            for row in images[WORST:][-BEST:][::-1]
        ],
        choices=choices,
        no_choices=no_choices,
        no_scaling=no_scaling,
        errors=[state.error for state in states.values()],
        figures={name: embedded_figure(figure, name.replace("_", " ")) for name, figure in figures.items()},
        association_summary=summary,
        has_cooccurrence=report.cooccurrence is not None,
        correlation=correlation,
        examples=examples,
        photographs=photographs,
        polyline=_polyline,
        bars=_bars,
    )
    (folder / PAGE_FILE).write_text(content, encoding="utf-8")


def _decisions(row: dict) -> list[tuple[str, str, list[str]]]:
    return [("found", "good", row["found"]), ("missed", "bad", row["missed"]), ("wrong", "bad", row["wrong"])]


def _changes(row: dict) -> list[tuple[str, str, list[str]]]:
    return [("now right", "good", row["better"]), ("now wrong", "bad", row["worse"])]


def _examples(
    evaluation: Evaluation, thresholds: np.ndarray, thumbnails: Thumbnails, files: Sequence[str]
) -> tuple[list[list[dict]], dict[int, tuple[str, str]]]:
    """Of each label its hits, misses and false alarms, the clearest first, and the photographs of these.

    Every label gets its first examples before any gets its second, as far as the page's bytes go.
    """
    scores, present = evaluation.scores, evaluation.targets == 1
    predicted = reaches(scores, thresholds) & (evaluation.targets != -1)
    kinds = (
        ("hits", predicted & present, -1, "the highest scores first"),
        ("misses", present & ~predicted, 1, "the lowest scores first"),
        ("false alarms", predicted & ~present, -1, "the highest scores first"),
    )
    labels, waiting = [], []
    for c in range(scores.shape[1]):
        labels.append([])
        for what, mask, sign, order in kinds:
            rows = np.flatnonzero(mask[:, c])
            group: dict[str, Any] = {"what": what, "count": len(rows), "order": order, "images": []}
            labels[-1].append(group)
            chosen = rows[np.argsort(sign * scores[rows, c], kind="stable")[:EXAMPLES]]
            waiting += [(rank, group, row, c) for rank, row in enumerate(chosen.tolist())]
    photographs, size = {}, 0
    for _, group, row, c in sorted(waiting, key=lambda entry: entry[0]):
        index = int(evaluation.indices[row])
        if index not in photographs:
            url = thumbnails(index)
            if size + len(url) > PHOTOGRAPHS:
                continue
            photographs[index], size = (files[index], url), size + len(url)
        group["images"].append((index, float(scores[row, c])))
    return labels, photographs


def _threshold_choices(scores: np.ndarray, targets: np.ndarray, thresholds: np.ndarray) -> list[dict]:
    """CF1 and OF1 at the model's own thresholds, and at those chosen on the other folds; a row for each choice."""
    rows = []
    for choice, per_label in (("one for all labels", False), ("one for each label", True)):
        found = cross_validate_thresholds(scores, targets, thresholds, FOLDS, per_label=per_label)
        if not rows:
            rows.append({"thresholds": "the model's own"} | found["baseline"])
        rows.append({"thresholds": f"{choice}, for F1"} | found["chosen"])
    return rows


def _associations(folder: Path, report: ReportInput, drawn: bool) -> tuple[dict, Correlation | None]:
    """Writes the data of A, where there is one; the figures, if it is drawn, and the correlation with co-occurrence."""
    association, names, together = report.evaluation.association, report.label_names, report.cooccurrence
    if association is None:
        return {}, None
    save_association_data(folder, association, names, together)
    if not drawn:
        return {}, None
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


def _polyline(points: np.ndarray) -> str:
    """Recall and precision as points of an SVG, in a frame of 120 x 120 at (34, 6)."""
    places = [(0, points[0, 2]), *points[:, 1:].tolist()]
    return " ".join(f"{34 + 120 * recall:.1f},{126 - 120 * precision:.1f}" for recall, precision in places)


def _bars(histogram: np.ndarray) -> list[str]:
    """Paths of an SVG, 120 wide from 34 on: images with the label upwards from 42, the others downwards."""
    width, paths = 120 / histogram.shape[1], []
    for counts, direction in zip(histogram, (-36, 36), strict=True):
        heights = direction * counts / max(counts.max(), 1)
        bars = [(34 + i * width, height) for i, height in enumerate(heights) if height]
        paths.append("".join(f"M{x:.0f} 42h{width - 1:.0f}v{height:.1f}h-{width - 1:.0f}z" for x, height in bars))
    return paths
