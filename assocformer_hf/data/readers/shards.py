"""Folders that `datasets` reads itself: saved datasets, Parquet with the images in it, and WebDataset shards."""

import re
from functools import partial
from pathlib import Path

import datasets

from assocformer_hf.data.readers.classes import class_names
from assocformer_hf.data.readers.features import leaves, read_dataset
from assocformer_hf.data.readers.hub import loaded, open_streams
from assocformer_hf.data.readers.labels import LABEL_COLUMNS, UNKNOWN_COLUMN
from assocformer_hf.data.readers.reader import Match, Reader, Splits
from assocformer_hf.data.readers.tables import declared_features, embeds_images
from assocformer_hf.data.schema import DataError
from assocformer_hf.data.split_names import split_of, split_words
from assocformer_hf.data.streams import Stream

LABELS = (*LABEL_COLUMNS, UNKNOWN_COLUMN)


class ShardReader(Reader):
    """A folder of `save_to_disk`, Parquet files with images in them, or WebDataset shards such as `train-0000.tar`."""

    form = "shards"
    looks_for = "a folder of `datasets` (dataset_dict.json), Parquet files with images in them, tar shards"

    def matches(self, source: Path) -> Match:
        if _is_saved(source) or _shard_files(source, "parquet"):
            return Match.SURE
        files = _shard_files(source, "tar")
        if source.is_file() and files:
            return Match.SURE
        # A tar file without a number or split in its name may be of anything.
        numbered = [file for file in files if re.search(r"\d", file.stem) or split_of(file.stem)]
        return Match.SURE if numbered and len(numbered) == len(files) else Match.MAYBE if files else Match.NO

    def read(self, source: Path) -> Splits:
        found = self.load(source)
        shown = {name: f"{source}, split {name}" if name else str(source) for name in found}
        return {name: partial(read_dataset, split, shown[name], self.options) for name, split in found.items()}

    def stream(self, source: Path) -> dict[str, Stream]:
        """The splits, read as they are used."""
        if _is_saved(source):
            return {name: Stream(split.to_iterable_dataset(), ()) for name, split in self.load(source).items()}
        return open_streams(source, **self._arguments(source))

    def load(self, source: Path) -> dict:
        """The splits as `datasets` loads them."""
        if _is_saved(source):
            return loaded(source, lambda: datasets.load_from_disk(str(source)))
        arguments = self._arguments(source)
        return loaded(source, lambda: datasets.load_dataset(**arguments))

    def _arguments(self, source: Path) -> dict:
        """What `datasets.load_dataset` is called with."""
        parquet, tar = (_shard_files(source, ending) for ending in ("parquet", "tar"))
        if parquet and tar:
            raise DataError(f"{parquet[0]} and {tar[0]} are shards of two kinds; give one of them as the dataset")
        if tar:
            files = _by_split(tar)
            kinds = loaded(source, lambda: _features_of_tar(files))
            return {"path": "webdataset", "data_files": files, "features": datasets.Features(kinds)}
        if parquet and not (source / "README.md").is_file():
            self._require_same_classes(parquet)
            return {"path": "parquet", "data_files": _by_split(parquet)}
        if parquet:  # of which the README may choose
            builder = loaded(source, lambda: {None: datasets.load_dataset_builder(str(source))})[None]
            chosen = [Path(file) for part in (builder.config.data_files or {}).values() for file in part]
            self._require_same_classes([file for file in chosen if file.is_file()])
        return {"path": str(source)}

    def _require_same_classes(self, files: list[Path]):
        """`datasets` reads the numbers of all files by the class names of the first.

        Raises:
            DataError: if another file numbers the classes of a label column otherwise.
        """
        seen: dict[str, tuple[Path, list[str]]] = {}
        for file in files:
            for name, kind in leaves(declared_features(file)):
                of_labels = name == self.options.label_column or name.lower().rpartition(".")[2] in LABELS
                if not of_labels or (classes := class_names(kind)) is None:
                    continue
                first, expected = seen.setdefault(name, (file, classes))
                if classes != expected:
                    different = sorted(set(classes) ^ set(expected))
                    how = f"only one has {', '.join(different[:5])}" if different else "in another order"
                    raise DataError(
                        f"{first} and {file}: column {name!r} has other classes ({how}), and numbers would be read by "
                        "those of the first; write both with the same classes, or the labels as text"
                    )


def _is_saved(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _shard_files(path: Path, ending: str) -> list[Path]:
    """The files of a kind in a folder and those in it; Parquet files only if the images are in them."""
    files = [path] if path.is_file() else sorted([*path.glob(f"*.{ending}"), *path.glob(f"*/*.{ending}")])
    files = [file for file in files if file.suffix == f".{ending}" and file.is_file() and file.name[0] != "."]
    return [file for file in files if ending == "tar" or embeds_images(file)]


def _by_split(files: list[Path]) -> dict[str, list[str]]:
    """The files by split, which their name or their folder tells; `train` where that of none does.

    Where some tell a split, the others are of splits that are called as they are.

    Raises:
        DataError: if a name tells two.
    """
    words_of: dict[Path, list[str]] = {}
    for file in files:
        words = split_words(file.stem)
        words_of[file] = words or [word for word in [file.parent.name.lower()] if split_of(word)]
        if len(set(map(split_of, words))) > 1:
            raise DataError(f"{file}: is it of {words[0]} or of {words[1]}? Rename it so that its name has one of them")
    if not any(words_of.values()):
        return {"train": list(map(str, files))}
    found: dict[str, list[str]] = {}
    for file, words in words_of.items():
        found.setdefault(words[0] if words else _own_name(file), []).append(str(file))
    return found


def _own_name(file: Path) -> str:
    """The name of a file, else of its folder, without the number of the shard, as `datasets` allows it for a split."""
    name = re.sub(r"[-_. ]?\d+(-of-\d+.*)?$", "", file.stem) or file.absolute().parent.name
    return re.sub(r"\W+", "_", name)


def _features_of_tar(files: dict[str, list[str]]) -> dict:
    """The types that `datasets` finds in the first examples; lists that are empty in all of these are of text.

    Labels may be followed by `unknown` ones, which need not occur in these examples.
    """
    found = next(iter(datasets.load_dataset("webdataset", data_files=files, streaming=True).values())).features

    def complete(kind):
        if isinstance(kind, dict):
            kinds = {name: complete(inner) for name, inner in kind.items()}
            lists = [name for name in kinds if name.lower() in LABEL_COLUMNS and isinstance(kinds[name], datasets.List)]
            return {UNKNOWN_COLUMN: kinds[lists[0]]} | kinds if lists else kinds
        if isinstance(kind, datasets.List):
            return datasets.List(complete(kind.feature))
        return datasets.Value("string") if kind == datasets.Value("null") else kind

    return complete(dict(found))
