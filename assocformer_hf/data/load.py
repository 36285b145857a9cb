"""One entry point for datasets of every form: benchmarks by name, files and folders by their content, Hub ids."""

import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import datasets

from assocformer_hf.data.readers.coco import load_coco
from assocformer_hf.data.readers.exports import SUFFIXES, image_files
from assocformer_hf.data.readers.hub import images_only, is_loadable, load_anything, stream_dataset
from assocformer_hf.data.readers.registry import FORMS, SourceOptions, find_datasets
from assocformer_hf.data.readers.tables import find_tables, read_table
from assocformer_hf.data.readers.voc import load_voc
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import DataError, LabelledImages, label_set, to_dataset
from assocformer_hf.data.split import iterative_stratification

logger = logging.getLogger(__name__)

DEFAULT_SPLITS = {
    "scenes": ("train", "validation"),
    "coco": ("train2014", "val2014"),
    "voc": ("trainval", "test"),
}
# The first name of a split that a dataset has is the one that counts.
SPLIT_NAMES = {
    "train": ("train", "training", "trainval"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:[\w.-]+)?")


def load_split(name: str, split: str, data_dir: str | Path | None = None, **options) -> datasets.Dataset:
    """One split of a dataset.

    Args:
        name: `"scenes"` (drawn on the spot, needs no files), `"coco"`, `"voc"`, or a source of
            [`load_multilabel_dataset`].
        split: the split's name in the dataset's own files, such as `"train2014"` or `"trainval"`, or `"train"`,
            `"validation"` or `"test"` for a source of one's own.
        data_dir: the folder of the dataset's official files; not for scenes.
        options: those of `load_scenes`, `load_coco`, `load_voc` or `load_multilabel_dataset`.

    Raises:
        DataError: if the dataset is unknown, or its files are missing or malformed.
    """
    if name not in DEFAULT_SPLITS:
        splits = load_multilabel_dataset(name, data_dir, **options)
        if split not in splits:
            raise DataError(f"{name}: no split {split!r}; it has {', '.join(splits)}")
        return splits[split]
    if name == "scenes":
        return load_scenes(split, **options)
    if data_dir is None:
        raise DataError(f"dataset {name!r} is read from its official files: give their folder as data_dir")
    return {"coco": load_coco, "voc": load_voc}[name](data_dir, split, **options)


def load_multilabel_dataset(
    source: str | Path,
    data_dir: str | Path | None = None,
    train_split: str | None = None,
    eval_split: str | None = None,
    streaming: bool = False,
    **options,
) -> datasets.DatasetDict | datasets.IterableDatasetDict:
    """A dataset with the splits `train` and `validation`, and `test` where there is one.

    The benchmarks follow the protocol of the paper: COCO trains on the images that have a label and evaluates on all.
    Of any other dataset without a validation split, a part of `train` is held out by iterative stratification.

    Args:
        source: `"scenes"`, `"coco"` or `"voc"`; a file or folder of any form in [`FORMS`]; or the id of a Hub dataset,
            `owner/name` or `owner/name:configuration`.
        data_dir: the folder of the benchmark's official files; of other sources, the folder that their image paths are
            relative to.
        train_split: the dataset's own name of the split to train on; by default the benchmark's, or `train`.
        eval_split: the same of the split to evaluate on; by default `validation` or what is usually called so.
        streaming: whether to read a Hub dataset or shards example by example, without a copy on the disk.
        options: those of [`SourceOptions`].

    Returns:
        Splits in the schema of `multilabel_features`; images of files are read when they are used.

    Raises:
        DataError: if no form fits, or the dataset is malformed; it names the file or value, and the way out.
    """
    source, options = str(source), SourceOptions(**options)
    if source in DEFAULT_SPLITS:
        return _load_benchmark(source, data_dir, train_split, eval_split)
    if streaming:
        return _stream(source, train_split, eval_split, options)
    found = _read_splits(source, data_dir, options, lambda names: _choose(source, names, train_split, eval_split))
    names = label_set(found.values(), options.label_names)
    unknown = any(any(split.unknown) for split in found.values())
    splits = datasets.DatasetDict({key: to_dataset(split, names, key, unknown) for key, split in found.items()})
    if "validation" in splits:
        return splits
    whole = splits["train"]
    parts = iterative_stratification(whole["labels"], len(names), options.validation_share, options.split_seed)
    logger.warning(
        "%s: no validation split; %d of %d images are held out by iterative stratification, seed %d",
        source, len(parts[1]), len(whole), options.split_seed,
    )  # fmt: skip
    for key, rows in zip(("train", "validation"), parts, strict=True):
        part = whole.select(rows)
        splits[key] = datasets.Dataset(part.data, part.info, datasets.NamedSplit(key), part._indices)
    return splits


def load_images(sources: Iterable[str | Path], image_column: str | None = None) -> datasets.Dataset:
    """The images of files, folders and datasets, without labels: one column `image`, undecoded.

    Args:
        sources: image files, folders of them, tables of image paths, `"scenes"`, or what [`load_multilabel_dataset`]
            loads through `datasets`; of a dataset, all splits.
        image_column: the column of the images in tables and datasets; default: the usual ones.

    Raises:
        DataError: if a source does not exist or has no images.
    """
    parts = [part for source in sources for part in _images_of(str(source), image_column)]
    return datasets.concatenate_datasets(parts)


def _images_of(source: str, image_column: str | None) -> list[datasets.Dataset]:
    path = Path(source)
    if source == "scenes":
        return [images_only(load_scenes(split), None, source) for split in DEFAULT_SPLITS[source]]
    if path.is_dir() and not is_loadable(path):
        files = image_files(path)
    elif path.is_file() and find_tables(path) and not is_loadable(path):
        files = [
            file for part in read_table(path, image_column=image_column, labels=False).values() for file in part.images
        ]
    elif path.is_file() and not is_loadable(path):
        files = [source]
    else:
        if not path.exists() and (path.suffix.lower() in SUFFIXES or not HUB_ID.fullmatch(source)):
            raise DataError(f"{source}: no such file or folder")
        return [images_only(split, image_column, source) for split in load_anything(source).values()]
    if not files:
        raise DataError(f"{source}: no image files in this folder")
    features = datasets.Features({"image": datasets.Image(decode=False)})
    return [datasets.Dataset.from_dict({"image": files}, features=features)]


def _load_benchmark(
    name: str, data_dir: str | Path | None, train_split: str | None, eval_split: str | None
) -> datasets.DatasetDict:
    default_train, default_eval = DEFAULT_SPLITS[name]
    train_options = {"keep_unlabelled": False} if name == "coco" else {}
    splits = datasets.DatasetDict(
        train=load_split(name, train_split or default_train, data_dir, **train_options),
        validation=load_split(name, eval_split or default_eval, data_dir),
    )
    if splits["train"].features["labels"] != splits["validation"].features["labels"]:
        raise DataError(f"{name}: the splits {train_split} and {eval_split} do not have the same labels")
    return splits


def _read_splits(
    source: str,
    data_dir: str | Path | None,
    options: SourceOptions,
    choose: Callable[[Iterable[str | None]], dict[str, str | None]],
) -> dict[str, LabelledImages]:
    """The chosen splits of a source, in the form given or found."""
    if options.form is not None and options.form not in FORMS:
        raise DataError(f"unknown form {options.form!r}; expected one of {', '.join(FORMS)}")
    path = Path(source)
    if not path.exists():
        if not HUB_ID.fullmatch(source) or options.form not in (None, "hub"):
            raise DataError(f"{source}: no such file or folder")
        if "/" not in source:
            raise DataError(
                f"unknown dataset {source!r}; expected one of {', '.join(DEFAULT_SPLITS)}, a file or folder, "
                "or a Hub id such as owner/name"
            )
        form, found = FORMS["hub"], find_datasets(source)
    else:
        candidates = [FORMS[options.form]] if options.form else list(FORMS.values())
        for form in candidates:
            if found := form.find(path, data_dir, options):
                break
        else:
            raise DataError(
                f"{source}: no dataset found; looked for {'; '.join(form.looks_for for form in candidates)}"
            )
    return {key: form.read(found[name], data_dir, options) for key, name in choose(found).items()}


def _choose(
    source: str, names: Iterable[str | None], train_split: str | None, eval_split: str | None
) -> dict[str, str | None]:
    """The dataset's own names of its splits by ours."""
    names = list(names)
    shown = ", ".join(str(name or "one without a name") for name in names)
    chosen = {}
    for key, given in (("train", train_split), ("validation", eval_split), ("test", None)):
        if given is not None and given not in names:
            raise DataError(f"{source}: no split {given!r}; it has {shown}")
        plain = {re.sub(r"[-_ ]?\d+$", "", name.lower()): name for name in names if name}
        usual = (plain[name] for name in SPLIT_NAMES[key] if name in plain and plain[name] not in chosen.values())
        name = given or next(usual, None)
        if name is not None:
            chosen[key] = name
    if "train" not in chosen:
        if len(names) > 1:
            raise DataError(f"{source}: none of its splits is called train; choose one as train_split: {shown}")
        chosen["train"] = names[0]
    return chosen


def _stream(
    source: str, train_split: str | None, eval_split: str | None, options: SourceOptions
) -> datasets.IterableDatasetDict:
    if not (is_loadable(Path(source)) or (not Path(source).exists() and HUB_ID.fullmatch(source))):
        raise DataError(f"{source}: only Hub datasets and {FORMS['hub'].looks_for} can be streamed")
    found = load_anything(source, streaming=True)
    chosen = _choose(source, found, train_split, eval_split)
    columns = (options.image_column, options.label_column, options.delimiter, options.label_names)
    return datasets.IterableDatasetDict(
        {key: stream_dataset(found[name], f"{source} ({name})", *columns) for key, name in chosen.items()}
    )


def dataset_name(source: str) -> str:
    """What a dataset is called in reports: a Hub id or benchmark as it is, a path by its last part."""
    path = Path(source)
    return path.resolve().name if path.exists() and source not in DEFAULT_SPLITS else source
