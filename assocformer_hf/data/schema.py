"""The one dataset schema of the package, and the error its readers raise."""

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
