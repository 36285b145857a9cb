"""The findings of `check` as a page of HTML: photographs first, each problem beside the images that have it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import numpy as np

from assocformer_hf.data.checks.check import UNREADABLE, ImageCheck, LabelCheck, cooccurrence
from assocformer_hf.data.checks.page import count_table, sections
from assocformer_hf.interpretation.label_names import plot_names
from assocformer_hf.output_folder import shown, write_file
from assocformer_hf.pages.html import Thumbnails, embedded_figure, render

PLOTTED = 100  # labels
SAMPLES = 24  # images at the top
PICTURED = 12  # images of each problem


def html_report(
    name: str, labels: LabelCheck, images: ImageCheck, splits: Mapping[str, datasets.Dataset], path: str | Path
):
    """Writes the findings as a page of HTML that needs no other file, with photographs and plots of the labels.

    Args:
        name: of the dataset.
        labels: what `check_labels` found.
        images: what `check_images` found.
        splits: the dataset.
        path: file to write.

    Raises:
        OutputError: if it is a file of somebody else.
    """
    thumbnails = {split: Thumbnails(dataset) for split, dataset in splits.items()}
    places = _places(splits)

    def pictured(names: Sequence[str]) -> list[dict]:
        found = [(one, *places[one]) for one in names[:PICTURED] if one in places]
        pictures = [(one, thumbnails[split](index)) for one, split, index in found]
        return [{"name": shown(Path(one).name), "thumbnail": url} for one, url in pictures if url]

    problems = [
        {
            "title": title,
            "kinds": [
                {
                    "what": kind, "why": kinds[kind], "names": images.findings[kind], "bad": kinds is UNREADABLE,
                    "pictures": pictured(images.findings[kind]),
                }
                for kind in kinds if images.findings.get(kind)
            ],
        }
        for title, kinds in sections()
    ]  # fmt: skip
    across = images.across_splits()
    inside = [group for group in images.duplicates if group not in across]
    duplicates = [
        {"what": what, "bad": bad, "groups": [{"names": group, "pictures": pictured(group[:1])} for group in groups]}
        for what, groups, bad in (("in several splits", across, True), ("in one split", inside, False))
        if groups
    ]
    if images.similar:
        groups = [{"names": pair, "pictures": pictured(pair)} for pair in images.similar]
        duplicates.append({"what": "alike in two splits", "bad": True, "groups": groups})
    order = np.argsort(-labels.positives["train"], kind="stable")[:PLOTTED]
    together = _matrix(cooccurrence(splits["train"]), labels.names, np.sort(order))
    header, *rows = count_table(labels)
    content = render(
        "check.html",
        title=name,
        counts=labels.images,
        samples=_samples(splits["train"], labels.names, thumbnails["train"]),
        problems=[problem for problem in problems if problem["kinds"]],
        duplicates=duplicates,
        findings=labels.findings(),
        figures=[embedded_figure(_bars(labels, order), "Images per label"), embedded_figure(together, "Co-occurrence")],
        header=header,
        rows=rows,
        shown_names=SAMPLES,
    )
    write_file(path, lambda aside: aside.write_text(content, encoding="utf-8", errors="replace"))


def _places(splits: Mapping[str, datasets.Dataset]) -> dict[str, tuple[str, int]]:
    """Split and index of each image by the name that the findings give it."""
    places = {}
    for split, dataset in splits.items():
        undecoded = dataset.select_columns(["image"]).cast_column("image", datasets.Image(decode=False))
        for index, row in enumerate(undecoded):
            places[f"{split}: {row['image']['path'] or f'image {index}'}"] = (split, index)
    return places


def _samples(dataset: datasets.Dataset, names: Sequence[str], thumbnails: Thumbnails) -> list[dict]:
    """Images from the whole length of the split, with their labels."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(SAMPLES, len(dataset))).round().astype(int)).tolist()
    labels = dataset.select_columns(["labels"])
    samples = [
        {"thumbnail": thumbnails(index), "labels": [names[c] for c in labels[index]["labels"]]} for index in chosen
    ]
    return [sample for sample in samples if sample["thumbnail"]]


def _bars(check: LabelCheck, shown: np.ndarray):
    """Images per label, the most frequent on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.4 + 0.19 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(shown))
    for split, counts in check.positives.items():
        axes.barh(range(len(shown)), counts[shown], left=left, label=split)
        left += counts[shown]
    axes.set_yticks(range(len(shown)), plot_names([check.names[i] for i in shown]), fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("images")
    axes.legend()
    axes.set_title(f"Images per label{_part(shown, check.names)}", fontsize=11)
    return figure


def _matrix(counts: np.ndarray, names: list[str], shown: np.ndarray):
    """How often the label of the column is there too where that of the row is."""
    from matplotlib.figure import Figure

    side = 4 + 0.12 * len(shown)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    together = counts[np.ix_(shown, shown)] / np.maximum(np.diag(counts)[shown, None], 1)
    np.fill_diagonal(together, np.nan)
    picture = axes.imshow(together, cmap="Blues", vmin=0, vmax=1)
    labels = plot_names([names[i] for i in shown])
    axes.set_xticks(range(len(shown)), labels, rotation=90, fontsize=7)
    axes.set_yticks(range(len(shown)), labels, fontsize=7)
    axes.set_title(f"Label co-occurrence in train{_part(shown, names)}", fontsize=11)
    figure.colorbar(picture, ax=axes, shrink=0.8, label="share of the row's images that have the column's label")
    return figure


def _part(shown: np.ndarray, names: list[str]) -> str:
    return f" (the {len(shown)} most frequent of {len(names)} labels)" if len(shown) < len(names) else ""
