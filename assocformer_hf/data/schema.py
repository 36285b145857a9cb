"""The one dataset schema of the package, what its readers fill it from, and the error they raise."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import datasets
import pyarrow

from assocformer_hf.wording import some

UNUSED_COLUMNS = "columns that are not used"  # why `left_out` has them


class DataError(ValueError):
    """Input data that cannot be used: the message names the file or value and the way out."""


def multilabel_features(label_names: list[str], unknown: bool = False) -> datasets.Features:
    """Features of every dataset in the package.

    Args:
        label_names: the label set; a label's index in this list is its column in `(batch, labels)` tensors.
        unknown: whether the dataset has labels that were not annotated for some images.

    Returns:
        `image` (a PIL image when read), `labels` (indices of the labels that are present) and, with `unknown`, a
        column of that name (indices of the labels that are neither known to be present nor known to be absent).
    """
    labels = datasets.List(datasets.ClassLabel(names=list(label_names)))
    features = {"image": datasets.Image(), "labels": labels}
    if unknown:
        features["unknown"] = labels
    return datasets.Features(features)


def label_names(dataset: datasets.Dataset) -> list[str]:
    """The label set of a dataset that follows `multilabel_features`, in column order."""
    return list(dataset.features["labels"].feature.names)


@dataclass
class LabelledImages:
    """One split as a reader finds it: labels by name, before the label set is known.

    Attributes:
        origin: the file or folder that errors name.
        images: paths of the files, or a dataset whose one column `image` holds them.
        labels: for each image the names of the labels that are present.
        unknown: for each image the names of those that are neither known to be present nor absent; empty for none.
        names: the label set in its own order, where the source declares one; it says nothing of other labels.
        columns: the columns used, by what they are for.
        notes: what else to know, such as where images were found.
        left_out: what was not used, and why.
    """

    origin: str
    images: list[str] | datasets.Dataset = field(default_factory=list)
    labels: list[Sequence[str]] = field(default_factory=list)
    unknown: list[Sequence[str]] = field(default_factory=list)
    names: list[str] | None = None
    columns: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, image: str, labels: Iterable[str], unknown: Iterable[str] = ()) -> None:
        """Adds an image that is a file."""
        self.images.append(image)
        self.labels.append(list(labels))
        self.unknown.append(list(unknown))

    def select(self, rows: Sequence[int]) -> "LabelledImages":
        """The same with some of the images, which are files."""
        images, labels, unknown = ([column[row] for row in rows] for column in (self.images, self.labels, self.unknown))
        return replace(self, images=images, labels=labels, unknown=unknown)


def label_set(splits: Iterable[LabelledImages], given: Sequence[str] | None = None) -> list[str]:
    """The label set of a dataset: the given one, else the one its splits declare, else all names in them, sorted.

    Raises:
        DataError: if splits declare different sets, or names are not unique or none.
    """
    splits = list(splits)
    declared = [split for split in splits if split.names is not None]
    if given:
        names = list(given)
    elif declared:
        names = declared[0].names
        for split in declared[1:]:
            if split.names != names:
                different = sorted(set(names) ^ set(split.names))
                raise DataError(
                    f"{split.origin} and {declared[0].origin} declare different labels "
                    f"({'only one has ' + ', '.join(different[:5]) if different else 'in another order'}); "
                    "give the label set as label_names"
                )
    else:
        names = sorted({name for split in splits for row in (*split.labels, *split.unknown) for name in row})
        if all(re.fullmatch(r"-?\d+", name) for name in names):
            names.sort(key=int)  # 2 before 10
    if len(set(names)) != len(names) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        shown = ", ".join(map(str, names)) or "none"
        raise DataError(f"{splits[0].origin}: the names of labels must not be empty, and each only once; got {shown}")
    alike: dict[str, str] = {}
    for name in names:
        require_text(name, f"{splits[0].origin}: the label")
        plain = unicodedata.normalize("NFC", name).strip()
        other = alike.setdefault(re.sub(r"^(-?\d+)\.0+$", r"\1", plain), name)
        if other != name:
            raise DataError(
                f"{splits[0].origin}: the labels {other!a} and {name!a} mean the same, and differ in spaces around "
                "them, in how their letters are encoded or in a .0 behind a number; write them alike"
            )
    return names


def with_undeclared_unknown(source: LabelledImages, names: list[str]) -> LabelledImages:
    """The same images, of which the labels are unknown that the set has and the source does not declare.

    Who declares its labels has looked for no others. One that occurs all the same counts as declared; a source that
    declares nothing stays as it is.

    Args:
        source: what a reader found.
        names: the label set.

    Raises:
        DataError: if the source declares labels, but none of the set.
    """
    if source.names is None:
        return source
    looked_for = {*source.names, *(name for row in set(map(tuple, source.labels)) for name in row)}
    undeclared = [name for name in names if name not in looked_for]
    if len(undeclared) == len(names):
        raise DataError(
            f"{source.origin}: declares none of the labels {some(names, 5)}; it declares {some(source.names, 5)}: "
            "rename its labels, or give another label set as label_names"
        )
    if not undeclared:
        return source
    unknown: list[Sequence[str]] = [[*row, *undeclared] for row in source.unknown or [()] * len(source.labels)]
    note = f"{some(undeclared, 5)}: not declared by {source.origin}, unknown there"
    return replace(source, unknown=unknown, notes=[*source.notes, note])


def require_text(name: str, what: str) -> None:
    """Refuses text that cannot be written as UTF-8, such as file names in another encoding.

    Raises:
        DataError: naming it.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{what} {name!r} is not valid text (UTF-8); rename it") from error


def to_dataset(source: LabelledImages, names: list[str], split: str, unknown: bool | None = None) -> datasets.Dataset:
    """A split in the schema of `multilabel_features`.

    Args:
        source: what a reader found.
        names: the label set.
        split: the split's name.
        unknown: whether it has the column `unknown`; default: if there is an unknown label.

    Raises:
        DataError: if a label is not in the set, or there is no image.
    """
    if not len(source.images):
        raise DataError(f"{source.origin}: no images")
    index = {name: i for i, name in enumerate(names)}
    unknown = any(map(len, source.unknown)) if unknown is None else unknown
    columns = {"labels": source.labels}
    if unknown:
        columns["unknown"] = source.unknown or [()] * len(source.labels)
    indices = {key: [] for key in columns}
    for key, rows in columns.items():
        of_row: dict[tuple[str, ...], list[int]] = {}  # few of the rows differ
        for i, row in enumerate(map(tuple, rows)):
            if row not in of_row:
                if outside := [name for name in row if name not in index]:
                    image = f"row {i + 1}" if isinstance(source.images, datasets.Dataset) else source.images[i]
                    raise DataError(
                        f"{source.origin}: {image}: unknown label {outside[0]!r}; expected one of {', '.join(names)}; "
                        "rename it, take it out, or add it to label_names"
                    )
                of_row[row] = sorted({index[name] for name in row})
            indices[key].append(of_row[row])
    features = multilabel_features(names, unknown)
    if not isinstance(source.images, datasets.Dataset):
        for image in source.images:
            if not image.isascii():
                require_text(image, f"{source.origin}: the name of the image")
        columns = {key: pyarrow.array(rows, pyarrow.list_(pyarrow.int64())) for key, rows in indices.items()}
        paths = pyarrow.array(source.images, pyarrow.string())
        return datasets.Dataset.from_dict({"image": paths, **columns}, features=features, split=split)
    dataset = source.images
    for key, rows in indices.items():
        dataset = dataset.add_column(key, rows, feature=features[key])
    return named_split(dataset.cast_column("image", datasets.Image()), split)


def named_split(dataset: datasets.Dataset, split: str) -> datasets.Dataset:
    """The same dataset as the split of this name."""
    return datasets.concatenate_datasets([dataset], split=datasets.NamedSplit(split))
