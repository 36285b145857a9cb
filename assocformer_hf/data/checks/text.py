"""The findings of `check` as text: a few lines before the training, and a page."""

import textwrap
from collections.abc import Sequence

import numpy as np

from assocformer_hf.data.checks.check import DOUBTFUL, REPAIRED, UNREADABLE, FoundImage, ImageCheck, LabelCheck
from assocformer_hf.data.checks.source import SourceCheck, check_names
from assocformer_hf.wording import some

SHOWN = 5


def brief_lines(check: LabelCheck) -> list[str]:
    """What to know about the labels before training starts: the findings, and the share of each label in validation."""
    found = check_names(check.names).findings() | check.findings()
    lines = [f"check: {what}, {len(labels)}: {some(labels, SHOWN)}" for what, labels in found.items()]
    shares = zip(check.names, check.shares().tolist(), check.positives["validation"].tolist(), strict=True)
    listed = [f"{name} {count} ({100 * share:.1f}%)" for name, share, count in shares if share == share]
    held_out = check.images["validation"] / (check.images["train"] + check.images["validation"])
    return [*lines, f"check: in validation, {100 * held_out:.1f}% of the images; of each label: {some(listed, 100)}"]


def source_lines(check: SourceCheck) -> list[str]:
    """What is odd about how the dataset was read, for people."""
    found = check.findings()
    lines = ["What was read, and what was not"] if found else []
    for what, names in found.items():
        lines += textwrap.wrap(
            f"{what}, {len(names)}: {some(names, 20)}", 118, initial_indent="  ", subsequent_indent="    "
        )
    return lines


def text_report(labels: LabelCheck, images: ImageCheck) -> str:
    """One page: images, duplicates, labels, and the counts of each label by split."""
    lines = [f"{images.images} images: " + ", ".join(f"{count} {split}" for split, count in labels.images.items())]
    for title, kinds in sections():
        found = [(kind, images.findings[kind]) for kind in kinds if images.findings.get(kind)]
        lines += ["", title] if found else []
        lines += [f"  {kind} ({kinds[kind]}), {len(names)}: {_images(names)}" for kind, names in found]
    if across := images.across_splits():
        lines += ["", f"The same file in several splits, {len(across)}: evaluation is not on unseen images"]
        lines += [f"  {_images(group)}" for group in across[:SHOWN]]
    if within := images.within_splits():
        lines += ["", f"The same file several times in a split, {len(within)}"]
        lines += [f"  {_images(group)}" for group in within[:SHOWN]]
    if images.similar:
        lines += ["", f"Images of two splits that look alike, {len(images.similar)}: is the one made from the other?"]
        lines += [f"  {_images(pair)}" for pair in images.similar[:SHOWN]]
    findings = labels.findings()
    lines += ["", "Labels"] if findings else []
    for what, names in findings.items():
        lines += textwrap.wrap(
            f"{what}, {len(names)}: {some(names, 20)}", 118, initial_indent="  ", subsequent_indent="    "
        )
    empty = ", ".join(f"{count} in {split}" for split, count in labels.unlabelled.items() if count)
    lines += [f"  images without a label: {empty}"] if empty else []
    if not findings and not images.findings and not images.duplicates and not images.similar:
        lines += ["", "nothing to complain of"]
    header, *rows = count_table(labels)
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines.append("")
    for row in (header, *rows):
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]))
    return "\n".join(lines)


def _images(found: Sequence[FoundImage]) -> str:
    return some([str(image) for image in found], SHOWN)


def sections() -> list[tuple[str, dict[str, str]]]:
    """The headings of the findings about images, each with its kinds."""
    return [
        ("Images that cannot be read", UNREADABLE),
        ("Images that are repaired as they are read, alike in training, evaluation and inference", REPAIRED),
        ("Images to look at", DOUBTFUL),
    ]


def count_table(check: LabelCheck) -> list[list[str]]:
    """A header, and for each label its images by split, those where it is unknown, and its share in validation."""
    unknown = np.sum([*check.unknown.values()], axis=0)
    columns = {split: counts.tolist() for split, counts in check.positives.items()}
    if unknown.any():
        columns["unknown"] = unknown.tolist()
    if "validation" in check.positives:
        columns["share in validation"] = ["-" if s != s else f"{100 * s:.1f}%" for s in check.shares().tolist()]
    return [
        ["label", *columns],
        *([name, *map(str, row)] for name, *row in zip(check.names, *columns.values(), strict=True)),
    ]
