"""The one dataset schema of the package, what its readers fill it from, and the error they raise."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import datasets


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
        names: the label set in its own order, where the source declares one.
    """

    origin: str
    images: list[str] | datasets.Dataset = field(default_factory=list)
    labels: list[Sequence[str]] = field(default_factory=list)
    unknown: list[Sequence[str]] = field(default_factory=list)
    names: list[str] | None = None

    def add(self, image: str, labels: Iterable[str], unknown: Iterable[str] = ()):
        """Adds an image that is a file."""
        self.images.append(image)
        self.labels.append(list(labels))
        self.unknown.append(list(unknown))


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
    if len(set(names)) != len(names) or not names:
        raise DataError(
            f"{splits[0].origin}: labels must have names, and each another one; got {', '.join(names) or 'none'}"
        )
    return names


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
    unknown = any(source.unknown) if unknown is None else unknown
    columns = {"labels": source.labels}
    if unknown:
        columns["unknown"] = source.unknown or [()] * len(source.labels)
    for rows in columns.values():
        for i, row in enumerate(rows):
            if not index.keys() >= set(row):
                outside = next(name for name in row if name not in index)
                image = f"row {i + 1}" if isinstance(source.images, datasets.Dataset) else source.images[i]
                raise DataError(
                    f"{source.origin}: {image}: unknown label {outside!r}; expected one of {', '.join(names)}"
                )
    columns = {key: [sorted({index[name] for name in row}) for row in rows] for key, rows in columns.items()}
    features = multilabel_features(names, unknown)
    if not isinstance(source.images, datasets.Dataset):
        return datasets.Dataset.from_dict({"image": source.images, **columns}, features=features, split=split)
    dataset = source.images
    for key, rows in columns.items():
        dataset = dataset.add_column(key, rows, feature=features[key])
    dataset = dataset.cast_column("image", datasets.Image())
    return datasets.Dataset(dataset.data, dataset.info, datasets.NamedSplit(split))


def image_file(folder: Path, name: str, origin: str) -> str:
    """The path of an image that a file of annotations names, which must not lead out of the folder.

    Args:
        folder: the folder that holds the images, absolute.
        name: the path in it; backslashes separate too where no file has them in its name.
        origin: what errors call the file that names it.

    Raises:
        DataError: if there is no name, or it leads out of the folder. Whether the file exists is not looked at:
            [`require_files`] does that for all.
    """
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{origin}: an image without a file name")
    path = os.path.normpath(folder / name)
    if "\\" in name and not os.path.exists(path):
        path = os.path.normpath(folder / name.replace("\\", "/"))
    if not Path(path).is_relative_to(folder):
        raise DataError(
            f"{origin}: {name} leads out of {folder}; give the folder that holds all the images as data_dir"
        )
    return path


def require_files(source: LabelledImages):
    """Refuses images whose files are missing.

    Raises:
        DataError: naming the first, and how many there are.
    """
    missing = [path for path in source.images if not os.path.isfile(path)]
    if missing:
        raise DataError(
            f"{missing[0]}: missing, with {len(missing) - 1} more of the {len(source.images)} images that "
            f"{source.origin} lists; complete them, or give the folder that they are in as data_dir"
        )


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: if the file is missing or in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
