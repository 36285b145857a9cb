"""The findings of `check` as a page of HTML: photographs first, each problem beside the images that have it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from assocformer_hf.data.checks.check import UNREADABLE, FoundImage, ImageCheck, LabelCheck, cooccurrence
from assocformer_hf.data.checks.source import SourceCheck
from assocformer_hf.data.checks.text import count_table, sections
from assocformer_hf.data.images.dataset import MultiLabelImages
from assocformer_hf.data.schema import DataError
from assocformer_hf.inference.images import spread
from assocformer_hf.interpretation.association_map import conditional_cooccurrence, map_figure
from assocformer_hf.interpretation.label_names import plot_names
from assocformer_hf.output_folder import write_file
from assocformer_hf.pages.html import Thumbnails, embedded_figure, picture_url, render
from assocformer_hf.wording import shown

PLOTTED = 100  # labels
SAMPLES = 24  # images at the top
PICTURED = 12  # images of each problem
BATCH = 12  # images as the model will see them
PAIRS = 30  # of labels


def write_check_page(
    name: str,
    labels: LabelCheck,
    images: ImageCheck,
    splits: Mapping[str, datasets.Dataset],
    path: str | Path,
    augmented: MultiLabelImages | None = None,
    augmentation: str = "",
    source: SourceCheck | None = None,
) -> None:
    """Writes the findings as a page of HTML that needs no other file, with photographs and plots of the labels.

    Args:
        name: of the dataset.
        labels: what `check_labels` found.
        images: what `check_images` found.
        splits: the dataset.
        path: file to write.
        augmented: the training images as a recipe would show them to a model, before they are scaled; a batch of them
            is shown.
        augmentation: what the recipe does to them, for people.
        source: what `check_source` found.

    Raises:
        OutputError: if it is a file of somebody else.
    """
    thumbnails = {split: Thumbnails(dataset) for split, dataset in splits.items()}

    def pictured(found: Sequence[FoundImage]) -> list[dict]:
        pictures = [(image.name, thumbnails[image.split](image.index)) for image in found[:PICTURED]]
        return [{"name": shown(Path(name).name), "thumbnail": url} for name, url in pictures if url]

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
    duplicates = [
        {"what": what, "bad": bad, "groups": [{"names": group, "pictures": pictured(group[:1])} for group in groups]}
        for what, groups, bad in (
            ("in several splits", images.across_splits(), True),
            ("in one split", images.within_splits(), False),
        )
        if groups
    ]
    if images.similar:
        groups = [{"names": pair, "pictures": pictured(pair)} for pair in images.similar]
        duplicates.append({"what": "alike in two splits", "bad": True, "groups": groups})
    order = np.argsort(-labels.positives["train"], kind="stable")[:PLOTTED]
    counts = cooccurrence(splits["train"])
    together = _matrix(counts, labels.names, np.sort(order))
    header, *rows = count_table(labels)
    content = render(
        "check.html",
        title=name,
        counts=labels.images,
        samples=_samples(splits["train"], labels.names, thumbnails["train"]),
        batch=[] if augmented is None else _batch(augmented, labels.names),
        augmentation=augmentation,
        problems=[problem for problem in problems if problem["kinds"]],
        duplicates=duplicates,
        read={} if source is None else source.findings(),
        findings=labels.findings(),
        figures=[embedded_figure(_bars(labels, order), "Images per label"), embedded_figure(together, "Co-occurrence")],
        pairs=_pairs(*counts, labels.names),
        header=header,
        rows=rows,
        shown_names=SAMPLES,
    )
    write_file(path, lambda aside: aside.write_text(content, encoding="utf-8", errors="replace"))


def _samples(dataset: datasets.Dataset, names: Sequence[str], thumbnails: Thumbnails) -> list[dict]:
    """Images from the whole length of the split, with their labels."""
    labels = dataset.select_columns(["labels"])
    samples = [
        {"thumbnail": thumbnails(index), "labels": [names[c] for c in labels[index]["labels"]]}
        for index in spread(len(dataset), SAMPLES)
    ]
    return [sample for sample in samples if sample["thumbnail"]]


def _batch(images: MultiLabelImages, names: Sequence[str]) -> list[dict]:
    """Images as the model gets them in the first epoch, from the whole length of the split."""
    try:
        examples = [images[index] for index in spread(len(images), BATCH)]
    except DataError:  # none can be read, which stands above
        return []
    return [
        {
            "thumbnail": picture_url(Image.fromarray(example["pixel_values"].permute(1, 2, 0).numpy())),
            "labels": [names[c] for c in example["labels"]],
        }
        for example in examples
    ]


def _pairs(counts: np.ndarray, annotated: np.ndarray, names: Sequence[str]) -> list[dict]:
    """The pairs of labels that are most often in the same image, for how often they are there by themselves.

    Images where one of the two is unknown do not count.
    """
    first, second = np.triu_indices(len(counts), 1)
    both = counts[first, second]
    either = annotated[first, second] + annotated[second, first] - both
    share = both / np.maximum(either, 1)
    order = np.argsort(-share, kind="stable")[:PAIRS]
    return [
        {"label": names[first[i]], "other": names[second[i]], "both": int(both[i]), "share": float(share[i])}
        for i in order[share[order] > 0].tolist()
    ]


def _bars(check: LabelCheck, shown: np.ndarray):
    """Images per label, the most frequent on top."""
    from assocformer_hf.interpretation.figure import names_figure

    figure = names_figure(figsize=(10, 1.4 + 0.2 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(shown))
    for split, counts in check.positives.items():
        axes.barh(range(len(shown)), counts[shown], left=left, label=split)
        left += counts[shown]
    axes.set_yticks(range(len(shown)), plot_names([check.names[i] for i in shown]), fontsize=9)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("images")
    axes.legend()
    axes.set_title(f"Images per label{_part(shown, check.names)}", fontsize=11)
    return figure


def _matrix(counts: tuple[np.ndarray, np.ndarray], names: list[str], shown: np.ndarray):
    """How often the label of the column is there too where that of the row is, and its own is known."""
    together = conditional_cooccurrence(*(part[np.ix_(shown, shown)] for part in counts))
    np.fill_diagonal(together, np.nan)
    title = f"Label co-occurrence in train{_part(shown, names)}"
    return map_figure(together, [names[i] for i in shown], title, "cooccurrence", range(len(shown)))


def _part(shown: np.ndarray, names: list[str]) -> str:
    return f" (the {len(shown)} most frequent of {len(names)} labels)" if len(shown) < len(names) else ""
