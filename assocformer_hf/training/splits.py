"""The splits of a run: read, streamed, or given as they were loaded."""

from collections.abc import Mapping
from dataclasses import asdict

import datasets

from assocformer_hf.data.load import dataset_name, load_multilabel_dataset
from assocformer_hf.data.main_process import from_main_process
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.schema import DataError
from assocformer_hf.data.streams import StreamedDataset, on_disk
from assocformer_hf.data.summary import MultiLabelDataset
from assocformer_hf.training.arguments import DataArguments


def load_splits(dataset: object, args: DataArguments, source: SourceOptions) -> Mapping[str, datasets.Dataset]:
    """The splits `train` and `validation` of a dataset; those that the package loaded as they are."""
    if isinstance(dataset, Mapping) and {"train", "validation"} <= dataset.keys():
        parts = [dataset[key] for key in ("train", "validation")]
        if all(map(is_loaded, parts)):
            if parts[0].features["labels"] != parts[1].features["labels"]:
                raise DataError("train and validation have different labels: load both with the same label_names")
            if given := source.given():
                raise DataError(
                    f"{given[0]}={getattr(source, given[0])!r} says how data are read, and these were read already: "
                    "give it to load_multilabel_dataset, or leave it out"
                )
            if isinstance(dataset, MultiLabelDataset):
                return dataset
            dataset = dict(zip(("train", "validation"), parts, strict=True))
    if args.streaming or isinstance(dataset, StreamedDataset):
        return load_streams(dataset, args, source)
    options = asdict(source) | {"bad_images": args.bad_images}
    return from_main_process(lambda: load_multilabel_dataset(dataset, args.data_dir, **options))


def load_streams(dataset: object, args: DataArguments, source: SourceOptions) -> StreamedDataset:
    """The split `train` as a stream, and `validation`, which every epoch is evaluated on, on the disk.

    Raises:
        DataError: if the dataset is not in shards, or has no validation split.
    """
    if isinstance(dataset, StreamedDataset):
        streams = dataset
    else:
        streams = load_multilabel_dataset(dataset, args.data_dir, streaming=True, **asdict(source))
    if "validation" not in streams:
        raise DataError(
            f"{dataset_name(dataset)}: no validation split, and none can be held out of a stream; name one as "
            "eval_split, or make it by `assocformer prepare`"
        )
    loaded = StreamedDataset(streams)
    loaded.files, loaded.options = streams.files, streams.options
    held_out = streams["validation"], streams.files["validation"], streams.options
    loaded["validation"] = from_main_process(lambda: on_disk(*held_out))
    return loaded


def is_loaded(split: object) -> bool:
    """Whether a split is in the package's schema already."""
    if not isinstance(split, datasets.Dataset) or not {"image", "labels"} <= split.features.keys():
        return False
    return isinstance(getattr(split.features["labels"], "feature", None), datasets.ClassLabel)
