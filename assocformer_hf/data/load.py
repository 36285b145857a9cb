"""One entry point for datasets of every form: benchmarks by name, files and folders, Hub ids, objects in memory."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, overload

import datasets
import numpy as np

from assocformer_hf.data.identity import image_digests
from assocformer_hf.data.readers.coco import load_coco
from assocformer_hf.data.readers.features import images_only, stream_dataset
from assocformer_hf.data.readers.files import image_files, is_image_name, with_files
from assocformer_hf.data.readers.hub import HubReader, load_from_hub
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.readers.reader import Match, Reader, Splits
from assocformer_hf.data.readers.registry import find_reader, forms
from assocformer_hf.data.readers.shards import ShardReader
from assocformer_hf.data.readers.tables import TABLE_SUFFIXES, read_table
from assocformer_hf.data.readers.voc import load_voc
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import (
    DataError,
    LabelledImages,
    label_names,
    label_set,
    named_split,
    require_text,
    to_dataset,
    with_undeclared_unknown,
)
from assocformer_hf.data.split import iterative_stratification
from assocformer_hf.data.split_names import SPLIT_NAMES, choose_splits
from assocformer_hf.data.streams import StreamedDataset
from assocformer_hf.data.summary import MultiLabelDataset, ReadSummary
from assocformer_hf.wording import counted

DEFAULT_SPLITS = {
    "scenes": ("train", "validation"),
    "coco": ("train2014", "val2014"),
    "voc": ("trainval", "test"),
}
ALL = "all"  # every image of a source, whatever its split


def load_split(
    source, split: str, data_dir: str | Path | None = None, bad_images: str = "error", **options
) -> datasets.Dataset:
    """One split of a dataset.

    Args:
        source: `"scenes"` (drawn on the spot, needs no files), `"coco"`, `"voc"`, or a source of
            [`load_multilabel_dataset`].
        split: `"train"`, `"validation"` or `"test"` as that function gives them; the split's name in the dataset's own
            files, such as `"train2014"` or `"trainval"`, for all its images; or `"all"` for the images of all splits.
        data_dir: the folder of the dataset's official files; not for scenes.
        bad_images: see [`load_multilabel_dataset`].
        options: those of [`SourceOptions`].

    Returns:
        The split; `info.description` says what was read.

    Raises:
        DataError: if the dataset is unknown, or its files are missing or malformed.
    """
    options = SourceOptions(**options)
    if isinstance(source, str) and source in DEFAULT_SPLITS:
        _refuse_options(source, options)
        return _benchmark_split(source, split, data_dir, bad_images)
    reader, found = _open(source, data_dir, options)
    name = _shown(source)
    own = split in found and split not in SPLIT_NAMES
    chosen = {} if own else choose_splits(name, found, options, needs_train=False)
    if own or split in found and split not in chosen:
        chosen = {split: split}
    if split == ALL:
        found, chosen = _every_image(found, chosen)
    hold_out = not own and split in ("train", "validation")
    splits = _assemble(name, reader, found, chosen, options, bad_images, hold_out)
    if split == ALL:
        whole = datasets.concatenate_datasets(list(splits.values()), split=datasets.NamedSplit(ALL))
    elif split in splits:
        whole = splits[split]
    else:
        raise DataError(f"{name}: no split {split!r}; it has {', '.join(map(str, splits))}, or {ALL} for every image")
    whole.info.description = str(splits.summary)
    return whole


def has_validation(source, data_dir: str | Path | None = None, **options) -> bool:
    """Whether a dataset has a validation split of its own, so that none is held out of `train`.

    Args:
        source: as for [`load_split`].
        data_dir: likewise.
        options: those of [`SourceOptions`].

    Raises:
        DataError: if the dataset is unknown, or its files are missing.
    """
    if isinstance(source, str) and source in DEFAULT_SPLITS:
        return True
    chosen = SourceOptions(**options)
    _, found = _open(source, data_dir, chosen)
    return "validation" in choose_splits(_shown(source), found, chosen, needs_train=False)


@overload
def load_multilabel_dataset(
    source, data_dir: str | Path | None = None, *, streaming: Literal[False] = False, **options: Any
) -> MultiLabelDataset: ...
@overload
def load_multilabel_dataset(
    source, data_dir: str | Path | None = None, *, streaming: Literal[True], **options: Any
) -> StreamedDataset: ...
@overload
def load_multilabel_dataset(
    source, data_dir: str | Path | None = None, *, streaming: bool, **options: Any
) -> MultiLabelDataset | StreamedDataset: ...


def load_multilabel_dataset(
    source,
    data_dir: str | Path | None = None,
    *,
    streaming: bool = False,
    bad_images: str = "error",
    **options,
) -> MultiLabelDataset | StreamedDataset:
    """A dataset with the splits `train` and `validation`, and `test` where there is one.

    The benchmarks follow the protocol of the paper: COCO trains on the images that have a label and evaluates on all.
    Of any other dataset without a validation split, a part of `train` is held out by iterative stratification.

    Args:
        source: `"scenes"`, `"coco"` or `"voc"`; a file or folder of any form that a reader knows; the id of a Hub
            dataset, `owner/name` or `owner/name:configuration`; a DataFrame, a `Dataset`, a list of dicts, or a dict of
            splits of these, such as a `DatasetDict`.
        data_dir: the folder of the benchmark's official files; of other sources, the folder that their image paths are
            relative to.
        streaming: whether to read a Hub dataset or shards example by example, without a copy on the disk.
        bad_images: `"error"` refuses images whose files are missing, `"skip"` keeps them for what skips bad images,
            such as [`MultiLabelImages`]. No image is decoded here.
        options: those of [`SourceOptions`], such as `train_split` and `eval_split`, the dataset's own names of its
            splits.

    Returns:
        Splits in the schema of `multilabel_features`, with `summary`, which says what was read; images of files are
        read when they are used.

    Raises:
        DataError: if no form or several fit, splits are named alike or share an image, or the dataset is malformed; it
            names the file or value, and the way out.
    """
    options = SourceOptions(**options)
    if isinstance(source, str) and source in DEFAULT_SPLITS:
        if streaming:
            raise DataError(f"{source}: is read from the disk and cannot be streamed; leave out streaming")
        _refuse_options(source, options)
        return _load_benchmark(source, data_dir, options, bad_images)
    name = _shown(source)
    if streaming:
        return _stream(source, data_dir, options)
    reader, found = _open(source, data_dir, options)
    chosen = choose_splits(name, found, options)
    return _assemble(name, reader, found, chosen, options, bad_images)


def _refuse_options(benchmark: str, options: SourceOptions):
    """Refuses options that say how a dataset of one's own is read."""
    if given := [name for name in options.given() if name not in ("train_split", "eval_split")]:
        raise DataError(f"{benchmark}: is read by its own protocol; {given[0]} is for other datasets: leave it out")


def _refuse_folder(name: str):
    """Refuses the name of a drawn dataset where there is a folder of that name too."""
    if Path(name).is_dir():
        raise DataError(
            f"{name}: the pictures that the package draws, and a folder here too; write ./{name} for the folder, or "
            "start elsewhere for the drawings"
        )


def _open(source, data_dir: str | Path | None, options: SourceOptions) -> tuple[Reader, Splits]:
    """The reader of a source, and its splits."""
    source = _existing(source, options)
    reader = find_reader(source, options, data_dir)
    found = reader.read(source)
    if not found:
        raise DataError(f"{_shown(source)}: no images")
    return reader, found


def _existing(source, options: SourceOptions):
    """A path where there is one, text that may be a Hub id, or an object.

    Raises:
        DataError: if it is text or a path that is neither.
    """
    if not isinstance(source, (str, Path)):
        return source
    if options.form not in (None, *forms()) or ("\0" not in str(source) and Path(source).exists()):
        return Path(source)
    if isinstance(source, str) and options.form in (None, HubReader.form):
        if HubReader(options).matches(source):
            return source
        if source.isidentifier():
            raise DataError(
                f"unknown dataset {source!r}; expected one of {', '.join(DEFAULT_SPLITS)}, a file or folder, or a Hub "
                "id such as owner/name"
            )
    raise DataError(f"{source}: no such file or folder")


def _shown(source) -> str:
    return str(source) if isinstance(source, (str, Path)) else f"a {type(source).__name__}"


def _assemble(
    source: str,
    reader: Reader,
    found: Splits,
    chosen: Mapping[str, str | None],
    options: SourceOptions,
    bad_images: str,
    hold_out: bool = True,
) -> MultiLabelDataset:
    """The chosen splits in the package's schema, with one held out where there is none to validate on."""
    read = {own: with_files(found[own](), bad_images) for own in dict.fromkeys(chosen.values())}
    _refuse_shared(source, read)
    names = label_set(read.values(), options.label_names)
    read = {own: with_undeclared_unknown(part, names) for own, part in read.items()}
    unknown = any(any(map(len, split.unknown)) for split in read.values())
    splits = MultiLabelDataset({key: to_dataset(read[own], names, key, unknown) for key, own in chosen.items()})
    summary = splits.summary = ReadSummary(source, reader.form, left_out=dict(reader.left_out))
    for own in found:
        uses = [key for key, name in chosen.items() if name == own]
        what = f"is {' and '.join(uses)}" if uses else "is not used"
        summary.splits[str(own) if own is not None else "the one split"] = what
    for part in read.values():
        summary.files = list(dict.fromkeys([*summary.files, part.origin]))
        summary.columns |= part.columns
        summary.notes = list(dict.fromkeys([*summary.notes, *part.notes]))
        summary.left_out |= part.left_out
    if any(_lie_below(reader.data_dir, part) for part in read.values()):
        summary.notes.insert(0, f"images below {reader.data_dir}")
    if hold_out and "validation" not in splits and "train" in splits:
        _hold_out(splits, options)
    summary.count(splits)
    return splits


def _lie_below(folder: Path | None, part: LabelledImages) -> bool:
    """Whether images of a split are files below a folder that was given."""
    if folder is None or isinstance(part.images, datasets.Dataset):
        return False
    return any(Path(image).is_relative_to(folder) for image in part.images)


def _every_image(found: Splits, chosen: Mapping[str, str | None]) -> tuple[Splits, dict[str, str | None]]:
    """The chosen splits and, of the others, the images that these do not have, as VOC's `trainval` has those of two."""
    found, chosen = dict(found), dict(chosen)
    parts = {own: found[own]() for own in chosen.values()}
    seen = {image for part in parts.values() if isinstance(part.images, list) for image in part.images}
    for own in [own for own in found if own not in parts]:
        part = found[own]()
        if isinstance(part.images, list):
            rows = [i for i, image in enumerate(part.images) if image not in seen]
            seen.update(part.images)
            part = part.select(rows)
        if len(part.images):
            parts[own] = part
            chosen[f"other_{len(chosen)}"] = own
    return {own: lambda part=part: part for own, part in parts.items()}, chosen


def _hold_out(splits: MultiLabelDataset, options: SourceOptions):
    """Divides `train` by iterative stratification, copies of an image together where there are images enough."""
    whole = splits["train"]
    names, labels = label_names(whole), whole["labels"][:]
    _, first, image_of = np.unique(image_digests(whole), return_index=True, return_inverse=True)
    copies, copy_of = len(whole) - len(first), image_of.tolist()
    if not 0 < round(options.validation_share * len(first)) < len(first):
        first = image_of = np.arange(len(whole))
    order = np.argsort(first)  # the images by their first copies, as the division depends on the order
    parts = iterative_stratification(
        [labels[i] for i in first[order]], len(names), options.validation_share, options.split_seed
    )
    rows = [np.flatnonzero(np.isin(image_of, order[part])) for part in parts]
    splits.summary.held_out = len(rows[1])
    how = f"by iterative stratification, seed {options.split_seed}"
    splits.summary.notes.append(
        f"no validation split: {len(rows[1])} of {len(whole)} images of train are held out {how}"
    )
    if copies:
        where = "in the same split" if len(first) < len(whole) else "in both splits, as there are too few others"
        note = f"{counted(copies, 'image is a copy', 'images are copies')} of another, {where}"
        first_labels: dict[int, set] = {}
        pairs = [(image, set(row)) for image, row in zip(copy_of, labels, strict=True)]
        if differing := sum(row != first_labels.setdefault(image, row) for image, row in pairs):
            has = "one of them has" if differing == 1 else f"{differing} of them have"
            note += f"; {has} other labels there: give each image all its labels once"
        splits.summary.notes.append(note)
    for key, part in zip(("train", "validation"), rows, strict=True):
        splits[key] = named_split(whole.select(part), key)


def _refuse_shared(source: str, read: Mapping[str | None, LabelledImages]):
    """Refuses image files that are in a split twice, or in two splits."""
    split_of: dict[str, str | None] = {}
    for own, part in read.items():
        if isinstance(part.images, datasets.Dataset):
            continue
        for image in part.images:
            before = split_of.setdefault(image, own)
            if before != own:
                raise DataError(
                    f"{source}: {image} is in both {before} and {own}: evaluation would not be on unseen images; take "
                    "it out of one, or choose other splits as train_split and eval_split"
                )
        if len(set(part.images)) < len(part.images):
            ((twice, _),) = Counter(part.images).most_common(1)
            raise DataError(f"{part.origin}: {twice} is there twice; keep one of them")


def load_images(
    sources: str | Path | Iterable[str | Path], image_column: str | None = None, data_dir: str | Path | None = None
) -> datasets.Dataset:
    """The images of files, folders and datasets, without labels: one column `image`, undecoded.

    Args:
        sources: image files, folders of them, tables of image paths, `"scenes"`, or what [`load_multilabel_dataset`]
            loads through `datasets`; of a dataset, all splits.
        image_column: the column of the images in tables and datasets; default: the usual ones.
        data_dir: the folder of the images that tables name; default: that of the table.

    Raises:
        DataError: if a source does not exist or has no images.
    """
    sources = [sources] if isinstance(sources, (str, Path)) else sources
    folder = None if data_dir is None else Path(data_dir)
    parts = [part for source in sources for part in _images_of(str(source), image_column, folder)]
    return datasets.concatenate_datasets(parts)


def _images_of(source: str, image_column: str | None, data_dir: Path | None) -> list[datasets.Dataset]:
    if source == "scenes":
        _refuse_folder(source)
        return [images_only(load_scenes(split), None, source) for split in DEFAULT_SPLITS[source]]
    options, path = SourceOptions(image_column=image_column), Path(source)
    shards = ShardReader(options)
    if path.exists() and shards.matches(path) is Match.SURE:
        loose = next((file for file in path.iterdir() if is_image_name(file.name)), None) if path.is_dir() else None
        if loose is not None:
            raise DataError(f"{source}: holds shards, and image files such as {loose.name}; give one or the other")
        return [images_only(split, image_column, source) for split in shards.load(path).values()]
    if path.is_dir():
        files = image_files(path)
    elif path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        parts = read_table(path, options, data_dir, labels=False).values()
        files = [file for part in parts for file in with_files(part, "skip").images]
    elif path.is_file():
        files = [source]
    elif is_image_name(path.name) or not HubReader(options).matches(source):
        way = ""
        if "://" in source:
            way = "; URLs are not opened: download it first"
        elif any(sign in source for sign in "*?["):
            way = "; leave out the quotes, for the shell to find the files"
        raise DataError(f"{source}: no such file or folder{way}")
    else:
        return [images_only(split, image_column, source) for split in load_from_hub(source).values()]
    if not files:
        raise DataError(f"{source}: no image files in this folder")
    for file in files:
        require_text(file, f"{source}: the name of the image")
    features = datasets.Features({"image": datasets.Image(decode=False)})
    return [datasets.Dataset.from_dict({"image": files}, features=features)]


def _benchmark_split(
    name: str, split: str, data_dir: str | Path | None, bad_images: str, keep_unlabelled: bool = True
) -> datasets.Dataset:
    """A split of scenes, COCO or VOC by its official name; of COCO, if asked, without the images that have no label."""
    if name == "scenes":
        _refuse_folder(name)
        if data_dir is not None:
            raise DataError(
                f"{name}: the pictures that the package draws, which are in no folder: leave out data_dir, or give "
                f"{data_dir} as the dataset"
            )
        return load_scenes(split)
    if data_dir is None:
        raise DataError(f"dataset {name!r} is read from its official files: give their folder as data_dir")
    if name == "coco":
        return load_coco(data_dir, split, keep_unlabelled, bad_images)
    return load_voc(data_dir, split, bad_images=bad_images)


def _load_benchmark(
    name: str, data_dir: str | Path | None, options: SourceOptions, bad_images: str
) -> MultiLabelDataset:
    default_train, default_eval = DEFAULT_SPLITS[name]
    own = {"train": options.train_split or default_train, "validation": options.eval_split or default_eval}
    splits = MultiLabelDataset(
        train=_benchmark_split(name, own["train"], data_dir, bad_images, keep_unlabelled=False),
        validation=_benchmark_split(name, own["validation"], data_dir, bad_images),
    )
    if splits["train"].features["labels"] != splits["validation"].features["labels"]:
        raise DataError(f"{name}: the splits {own['train']} and {own['validation']} do not have the same labels")
    splits.summary = ReadSummary(name, "benchmark", files=[str(data_dir)] if data_dir else [])
    for key, split in own.items():
        summary = splits.summary.splits
        summary[split] = f"{summary[split]} and {key}" if split in summary else f"is {key}"
    if name == "coco":
        splits.summary.notes.append("images without a label are not trained on")
    splits.summary.count(splits)
    return splits


def _stream(source, data_dir: str | Path | None, options: SourceOptions) -> StreamedDataset:
    name = _shown(source)
    place = _existing(source, options)
    reader = find_reader(place, options, data_dir)
    found = reader.stream(place)
    if found is None:
        raise DataError(
            f"{name}: is read as {reader.form}; only Hub datasets and {ShardReader.looks_for} can be streamed: leave "
            "out streaming, or make shards of it by `assocformer prepare`"
        )
    chosen = choose_splits(name, found, options)
    streams = StreamedDataset(
        {key: stream_dataset(found[own].dataset, f"{name} ({own})", options) for key, own in chosen.items()}
    )
    streams.files = {key: found[own].files for key, own in chosen.items()}
    streams.options = options
    return streams


def dataset_name(source) -> str:
    """What a dataset is called in reports: a Hub id or benchmark as it is, a path by its last part."""
    if not isinstance(source, (str, Path)):
        return _shown(source)
    path = Path(source)
    return path.resolve().name if path.exists() and source not in DEFAULT_SPLITS else str(source)
