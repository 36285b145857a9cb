"""What was read: the form, files and columns of a dataset, and what became of its splits and images."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import datasets
import numpy as np
import pyarrow
import pyarrow.compute

from assocformer_hf.wording import counted, some

SHOWN = 4


@dataclass
class ReadSummary:
    """What reading a source found; `str` of it is a few lines for people.

    Attributes:
        source: the dataset.
        form: the form it was read in.
        files: what describes the images.
        columns: the columns used, by what they are for; empty for forms without columns.
        splits: for each of the source's own splits what became of it.
        images: number of images by split.
        labels: number of labels.
        held_out: number of images of `train` that are held out as `validation`, where the source has no such split.
        unlabelled: number of images without any label.
        unknown: number of labels that are unknown for an image.
        notes: what else to know, such as where images were found.
        left_out: what was not used, and why.
    """

    source: str
    form: str
    files: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    labels: int = 0
    held_out: int = 0
    unlabelled: int = 0
    unknown: int = 0
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def count(self, splits: Mapping[str, datasets.Dataset]) -> None:
        """Fills in the numbers from the splits in the schema of `multilabel_features`."""
        first = next(iter(splits.values()))
        self.labels = len(first.features["labels"].feature.names)
        self.images = {key: len(split) for key, split in splits.items()}
        self.unlabelled = self.unknown = 0
        for split in splits.values():
            columns = split.select_columns([name for name in ("labels", "unknown") if name in split.column_names])
            for batch in columns.with_format("arrow").iter(100_000):
                self.unlabelled += int((column_lengths(batch["labels"]) == 0).sum())
                if "unknown" in batch.column_names:
                    self.unknown += int(column_lengths(batch["unknown"]).sum())

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.form}" + (f", {some(self.files, SHOWN)}" if self.files else "")]
        if self.columns:
            lines.append("  columns: " + ", ".join(f"{name} = {what}" for what, name in self.columns.items()))
        lines.append(
            "  images: " + ", ".join(f"{count} {key}" for key, count in self.images.items())
            + f"; {counted(self.labels, 'label')}; {counted(self.unlabelled, 'image')} without a label; "
            + counted(self.unknown, "unknown label")
        )  # fmt: skip
        lines += ["  splits: " + ", ".join(f"{name} {what}" for name, what in self.splits.items())] * bool(self.splits)
        lines += [f"  {note}" for note in self.notes]
        reasons: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            reasons.setdefault(why, []).append(name)
        lines += [f"  left out: {some(names, SHOWN)} ({why})" for why, names in reasons.items()]
        return "\n".join(lines)


class MultiLabelDataset(datasets.DatasetDict):
    """Splits in the schema of `multilabel_features`, with `summary`, which says what was read."""

    summary: ReadSummary


def column_lengths(column: pyarrow.ChunkedArray) -> np.ndarray:
    """The lengths of the lists of an Arrow column, as an array."""
    return pyarrow.compute.list_value_length(column).to_numpy()
