"""The findings of `check` for people: a few lines before the training, a page of text, and a page of HTML."""

import html
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import numpy as np

from assocformer_hf.data.checks.check import DOUBTFUL, REPAIRED, UNREADABLE, ImageCheck, LabelCheck, cooccurrence
from assocformer_hf.data.checks.source import SourceCheck
from assocformer_hf.html_page import embedded_figure, page
from assocformer_hf.interpretation.label_names import plot_names
from assocformer_hf.output_folder import write_file

SHOWN = 5
PLOTTED = 100


def brief_lines(check: LabelCheck) -> list[str]:
    """What to know about the labels before training starts: the findings, and the share of each label in validation."""
    lines = [f"check: {what}, {len(labels)}: {_some(labels)}" for what, labels in check.findings().items()]
    shares = zip(check.names, check.shares().tolist(), check.positives["validation"].tolist(), strict=True)
    listed = [f"{name} {count} ({100 * share:.1f}%)" for name, share, count in shares if share == share]
    held_out = check.images["validation"] / (check.images["train"] + check.images["validation"])
    return [*lines, f"check: in validation, {100 * held_out:.1f}% of the images; of each label: {_some(listed, 100)}"]


def source_lines(check: SourceCheck) -> list[str]:
    """What is odd about how the dataset was read, for people."""
    found = check.findings()
    lines = ["What was read, and what was not"] if found else []
    for what, names in found.items():
        lines += textwrap.wrap(
            f"{what}, {len(names)}: {_some(names, 20)}", 118, initial_indent="  ", subsequent_indent="    "
        )
    return lines


def text_report(labels: LabelCheck, images: ImageCheck) -> str:
    """One page: images, duplicates, labels, and the counts of each label by split."""
    lines = [f"{images.images} images: " + ", ".join(f"{count} {split}" for split, count in labels.images.items())]
    for title, kinds in _sections():
        found = [(kind, images.findings[kind]) for kind in kinds if images.findings.get(kind)]
        lines += ["", title] if found else []
        lines += [f"  {kind} ({kinds[kind]}), {len(names)}: {_some(names)}" for kind, names in found]
    duplicates, across = images.duplicates, images.across_splits()
    if across:
        lines += ["", f"The same file in several splits, {len(across)}: evaluation is not on unseen images"]
        lines += [f"  {_some(group)}" for group in across[:SHOWN]]
    if len(duplicates) > len(across):
        lines += ["", f"The same file several times in a split, {len(duplicates) - len(across)}"]
        lines += [f"  {_some(group)}" for group in [g for g in duplicates if g not in across][:SHOWN]]
    if images.similar:
        lines += ["", f"Images of two splits that look alike, {len(images.similar)}: is the one made from the other?"]
        lines += [f"  {_some(pair)}" for pair in images.similar[:SHOWN]]
    findings = labels.findings()
    lines += ["", "Labels"] if findings else []
    for what, names in findings.items():
        lines += textwrap.wrap(
            f"{what}, {len(names)}: {_some(names, 20)}", 118, initial_indent="  ", subsequent_indent="    "
        )
    empty = ", ".join(f"{count} in {split}" for split, count in labels.unlabelled.items() if count)
    lines += [f"  images without a label: {empty}"] if empty else []
    if not findings and not images.findings and not duplicates and not images.similar:
        lines += ["", "nothing to complain of"]
    header, *rows = _table(labels)
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines.append("")
    for row in (header, *rows):
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]))
    return "\n".join(lines)


def html_report(
    name: str, labels: LabelCheck, images: ImageCheck, splits: Mapping[str, datasets.Dataset], path: str | Path
):
    """Writes the findings as a page of HTML that needs no other file, with plots of the labels.

    Args:
        name: of the dataset.
        labels: what `check_labels` found.
        images: what `check_images` found.
        splits: the dataset.
        path: file to write.

    Raises:
        OutputError: if it is a file of somebody else.
    """
    parts = [f"<h1>{html.escape(name)}</h1>"]
    parts.append("<p>" + ", ".join(f"{count} images in {split}" for split, count in labels.images.items()) + "</p>")
    for title, kinds in _sections():
        found = [(kind, images.findings[kind]) for kind in kinds if images.findings.get(kind)]
        if found:
            parts.append(f"<h2>{title}</h2>")
            parts += [
                _details(f"{kind}: {len(names)}", kinds[kind], names, kinds is UNREADABLE) for kind, names in found
            ]
    if images.duplicates:
        across = images.across_splits()
        inside = [group for group in images.duplicates if group not in across]
        parts.append("<h2>The same file more than once</h2>")
        for what, groups in (("in several splits", across), ("in one split", inside)):
            if groups:
                listed = [" = ".join(group) for group in groups]
                parts.append(_details(f"{what}: {len(groups)}", "", listed, what == "in several splits"))
    parts.append("<h2>Labels</h2>")
    parts += [_details(f"{what}: {len(found)}", "", found, False) for what, found in labels.findings().items()]
    shown = np.argsort(-labels.positives["train"], kind="stable")[:PLOTTED]
    parts += [embedded_figure(_bars(labels, shown), "Images per label")]
    together = _matrix(cooccurrence(splits["train"]), labels.names, np.sort(shown))
    parts += [embedded_figure(together, "Label co-occurrence")]
    header, *rows = _table(labels)
    parts.append("<h2>Images of each label</h2><table><tr>" + "".join(f"<th>{cell}</th>" for cell in header) + "</tr>")
    for row in rows:
        cells = "".join(f'<td class="number">{cell}</td>' for cell in row[1:])
        parts.append(f"<tr><td>{html.escape(row[0])}</td>{cells}</tr>")
    parts.append("</table>")
    content = page(name, "".join(parts))
    write_file(path, lambda aside: aside.write_text(content, encoding="utf-8"))


def _sections() -> list[tuple[str, dict[str, str]]]:
    return [
        ("Images that cannot be read", UNREADABLE),
        ("Images that are repaired as they are read, alike in training, evaluation and inference", REPAIRED),
        ("Images to look at", DOUBTFUL),
    ]


def _some(names: Sequence[str], limit: int = SHOWN) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _table(check: LabelCheck) -> list[list[str]]:
    """A header, and for each label its images by split, those where it is unknown, and its share in validation."""
    unknown = sum(check.unknown.values())
    columns = {split: counts.tolist() for split, counts in check.positives.items()}
    if unknown.any():
        columns["unknown"] = unknown.tolist()
    if "validation" in check.positives:
        columns["share in validation"] = ["-" if s != s else f"{100 * s:.1f}%" for s in check.shares().tolist()]
    return [
        ["label", *columns],
        *([name, *map(str, row)] for name, *row in zip(check.names, *columns.values(), strict=True)),
    ]


def _details(summary: str, explanation: str, names: Sequence[str], bad: bool) -> str:
    rows = "".join(f"<li>{html.escape(name)}</li>" for name in names)
    css = ' class="bad"' if bad else ""
    note = f" – {html.escape(explanation)}" if explanation else ""
    is_open = " open" if len(names) <= SHOWN else ""
    return (
        f"<details{is_open}><summary><span{css}>{html.escape(summary)}</span>{note}</summary><ul>{rows}</ul></details>"
    )


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
