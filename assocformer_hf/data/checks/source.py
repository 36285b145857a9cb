"""What may be wrong with how a dataset was read: images that no split has, odd columns, labels that are one."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import datasets

from assocformer_hf.data.readers.files import image_files
from assocformer_hf.data.readers.labels import NO_LABELS
from assocformer_hf.data.schema import UNUSED_COLUMNS, label_names
from assocformer_hf.data.summary import ReadSummary

# What tables write where there is nothing to say.
NOTHING = frozenset(
    ("nan", "na", "n/a", "#n/a", "null", "none", "nil", "undefined", "unknown", "unlabelled", "unlabeled", "?", "-")
)
SHORT = 5  # names below this length may differ by a letter, as car and cat do


@dataclass
class SourceCheck:
    """What is odd about how a dataset was read.

    Attributes:
        unused_images: image files in the folder of the dataset that no split has.
        unused_folders: those folders of them none of whose images is used.
        ignored_columns: columns that were not read.
        doubtful_labels: labels that may be columns of something else, or stand for no label.
        similar_labels: groups of labels whose names differ by case, punctuation or one letter.
        words: labels that look like several, divided by spaces.
    """

    unused_images: list[str] = field(default_factory=list)
    unused_folders: list[str] = field(default_factory=list)
    ignored_columns: list[str] = field(default_factory=list)
    doubtful_labels: list[str] = field(default_factory=list)
    similar_labels: list[list[str]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def findings(self) -> dict[str, list[str]]:
        """What is odd, and the files, columns or labels concerned."""
        found = {
            "folders whose images no split has": self.unused_folders,
            "images that no split has": self.unused_images,
            "columns that were not read": self.ignored_columns,
            "labels that may be columns of something else, or stand for no label": self.doubtful_labels,
            "names that may mean the same label": [" = ".join(group) for group in self.similar_labels],
            "labels that may be several, divided by spaces (then say delimiter ' ')": self.words,
        }
        return {what: names for what, names in found.items() if names}


def check_source(source, splits: Mapping[str, datasets.Dataset], summary: ReadSummary) -> SourceCheck:
    """Compares what was read with what is there; opens no image.

    Args:
        source: what was read; the images of folders are compared.
        splits: of the schema of `multilabel_features`.
        summary: what reading said.
    """
    check = check_names(label_names(next(iter(splits.values()))))
    check.ignored_columns = [name for name, why in summary.left_out.items() if why == UNUSED_COLUMNS]
    if isinstance(source, (str, Path)) and Path(source).is_dir():
        _unused(Path(source), splits, summary.left_out, check)
    return check


def check_names(names: list[str]) -> SourceCheck:
    """What may be wrong with the names of labels alone."""
    doubtful = [name for name in names if name.strip().lower() in NO_LABELS | NOTHING]
    return SourceCheck(doubtful_labels=doubtful, similar_labels=similar_names(names), words=divided_by_spaces(names))


def _unused(folder: Path, splits: Mapping[str, datasets.Dataset], left_out: Iterable[str], check: SourceCheck):
    used = {os.path.realpath(path) for path in left_out}  # the reader said why
    for split in splits.values():
        for batch in split.select_columns(["image"]).with_format("arrow").iter(10_000):
            paths = batch["image"].combine_chunks().field("path").to_pylist()
            used.update(os.path.realpath(path) for path in paths if path)
    there = image_files(folder)
    if used.isdisjoint(os.path.realpath(path) for path in there):
        return  # the images are embedded, or elsewhere
    unused = [os.path.relpath(path, folder) for path in there if os.path.realpath(path) not in used]
    in_use = {os.path.dirname(os.path.relpath(path, folder)) for path in there if os.path.realpath(path) in used}
    check.unused_folders = sorted({os.path.dirname(path) for path in unused} - in_use)
    check.unused_images = [path for path in unused if os.path.dirname(path) not in check.unused_folders]


def similar_names(names: list[str]) -> list[list[str]]:
    """Groups of names that differ by case, punctuation, a plural s or, from five letters on, one letter."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        plain = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())
        plain = plain or name
        keys = {plain, plain.removesuffix("s")}
        if len(plain) >= SHORT and not any(letter.isdigit() for letter in plain):
            keys |= {plain[:i] + plain[i + 1 :] for i in range(len(plain))}  # one letter more, less or another
        for key in keys:
            groups[key].add(name)
    pairs = {pair for group in groups.values() for pair in combinations(sorted(group), 2)}
    return _joined(pairs)


def _joined(pairs: set[tuple[str, str]]) -> list[list[str]]:
    """The connected groups of pairs."""
    group_of: dict[str, set[str]] = {}
    for first, second in sorted(pairs):
        joined = group_of.get(first, {first}) | group_of.get(second, {second})
        for name in joined:
            group_of[name] = joined
    return sorted({id(group): sorted(group) for group in group_of.values()}.values())


def divided_by_spaces(names: list[str]) -> list[str]:
    """Labels of several words, where most such labels consist of words that other labels have too."""
    several = [name for name in names if len(name.split()) > 1]
    count: dict[str, int] = defaultdict(int)
    for name in names:
        for word in set(name.split()):
            count[word] += 1
    made = [name for name in several if all(count[word] > 1 for word in name.split())]
    return made if len(made) >= 2 and len(made) > len(several) / 2 else []
