"""Datasets by name."""

from pathlib import Path

import datasets

from assocformer_hf.data.coco import load_coco
from assocformer_hf.data.scenes import load_scenes
from assocformer_hf.data.schema import DataError
from assocformer_hf.data.voc import load_voc

DEFAULT_SPLITS = {
    "scenes": ("train", "validation"),
    "coco": ("train2014", "val2014"),
    "voc": ("trainval", "test"),
}


def load_split(name: str, split: str, data_dir: str | Path | None = None, **options) -> datasets.Dataset:
    """One split of a dataset.

    Args:
        name: `"scenes"` (drawn on the spot, needs no files), `"coco"` or `"voc"`.
        split: the split's name in the dataset's own files, such as `"train2014"` or `"trainval"`.
        data_dir: the folder of the dataset's official files; not for scenes.
        options: those of `load_scenes`, `load_coco` or `load_voc`.

    Raises:
        DataError: if the dataset is unknown, or its files are missing or malformed.
    """
    if name not in DEFAULT_SPLITS:
        raise DataError(f"unknown dataset {name!r}; expected one of {', '.join(DEFAULT_SPLITS)}")
    if name == "scenes":
        return load_scenes(split, **options)
    if data_dir is None:
        raise DataError(f"dataset {name!r} is read from its official files: give their folder as data_dir")
    return {"coco": load_coco, "voc": load_voc}[name](data_dir, split, **options)


def load_multilabel_dataset(
    name: str, data_dir: str | Path | None = None, train_split: str | None = None, eval_split: str | None = None
) -> datasets.DatasetDict:
    """A dataset with the splits `train` and `validation`, by the protocol of the paper's benchmarks.

    COCO trains on the images that have a label and evaluates on all.

    Args:
        name: see [`load_split`].
        data_dir: see [`load_split`].
        train_split: the dataset's own name of the split to train on; by default the benchmark's.
        eval_split: the same of the split to evaluate on.

    Raises:
        DataError: as [`load_split`], and if the two splits do not have the same labels.
    """
    default_train, default_eval = DEFAULT_SPLITS.get(name, (None, None))
    train_options = {"keep_unlabelled": False} if name == "coco" else {}
    splits = datasets.DatasetDict(
        train=load_split(name, train_split or default_train, data_dir, **train_options),
        validation=load_split(name, eval_split or default_eval, data_dir),
    )
    if splits["train"].features["labels"] != splits["validation"].features["labels"]:
        raise DataError(f"{name}: the splits {train_split} and {eval_split} do not have the same labels")
    return splits
