"""Objects in memory: DataFrames, datasets, and lists of dicts."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pandas
from PIL import Image

from assocformer_hf.data.readers.features import read_dataset
from assocformer_hf.data.readers.files import image_file
from assocformer_hf.data.readers.reader import Match, Reader, Splits
from assocformer_hf.data.readers.rows import Images, labelled_splits
from assocformer_hf.data.readers.states import is_empty
from assocformer_hf.data.schema import DataError
from assocformer_hf.wording import first_line


class MemoryReader(Reader):
    """A pandas DataFrame, a `Dataset`, a list of dicts, or a mapping of splits to these, such as a `DatasetDict`.

    Columns are as in tables. Images are paths, absolute or relative to `data_dir` (by default the working directory),
    or the images themselves: PIL images, arrays, bytes.
    """

    form = "memory"
    looks_for = "a DataFrame, a Dataset, a list of dicts, or a dict of splits of these"
    reads = (pandas.DataFrame, datasets.Dataset, list, tuple, Mapping)

    def matches(self, source) -> Match:
        return Match.SURE

    def read(self, source) -> Splits:
        parts = source if isinstance(source, Mapping) else {None: source}
        found: Splits = {}
        for name, part in parts.items():
            if name is not None and not isinstance(name, str):
                raise DataError(f"the split {name!r} of a {type(source).__name__} is not a name")
            shown = f"a {type(part).__name__}" + (f", split {name}" if name else "")
            if isinstance(part, datasets.Dataset) and any(
                isinstance(kind, datasets.Image) for kind in part.features.values()
            ):
                found[name] = partial(read_dataset, part, shown, self.options)
                continue
            features = part.features if isinstance(part, datasets.Dataset) else {}
            locate = partial(self._images, origin=shown)
            rows_of = labelled_splits(_columns(part, shown), features, shown, self.options, locate, name)
            for own, rows in rows_of.items():
                if (own or name) in found:
                    raise DataError(f"{shown}: has images of the split {own or name}, which there is too; join them")
                found[own or name] = lambda rows=rows: rows
        return found

    def _images(self, values: list, origin: str) -> tuple[Images, list[str], Path | None]:
        """Paths of files and the folder they are relative to, or a dataset that holds the images; nothing to note."""
        if all(isinstance(value, (str, os.PathLike)) for value in values):
            folder = self.data_dir or os.getcwd()
            # Objects come from the user's own program, unlike tables: their absolute paths may lead anywhere.
            paths = [os.fspath(value) for value in values]
            roots = [os.path.abspath(os.sep) if os.path.isabs(path) else folder for path in paths]
            paths = [
                image_file(Path(root), path, f"{origin}: row {i + 1}")
                for i, (root, path) in enumerate(zip(roots, paths, strict=True))
            ]
            return paths, [], None if all(map(os.path.isabs, values)) else Path(folder)
        kinds = (Image.Image, np.ndarray, bytes, dict)
        for i, value in enumerate(values):
            if not isinstance(value, kinds) or isinstance(value, dict) and not {"bytes", "path"} & value.keys():
                raise DataError(
                    f"{origin}: row {i + 1}: {value!r:.80} is not an image; give all as paths, or as images"
                )
            if (
                isinstance(value, np.ndarray)
                and value.dtype not in (np.uint8, np.bool_)
                and (value.dtype != np.uint16 or value.ndim != 2)
            ):
                raise DataError(f"{origin}: row {i + 1}: an array in {value.dtype}; give it in uint8, 0 to 255")
        features = datasets.Features({"image": datasets.Image(decode=False)})
        try:
            return datasets.Dataset.from_dict({"image": values}, features=features), [], None
        except (TypeError, ValueError, OSError) as error:
            raise DataError(f"{origin}: an image that cannot be stored ({first_line(error)})") from error


def _columns(part, origin: str) -> dict[str, list]:
    """The columns of a table in memory, each as long as the others."""
    if isinstance(part, pandas.DataFrame):
        columns = {name: part.iloc[:, i].tolist() for i, name in enumerate(part.columns)}
        if len(columns) < part.shape[1]:
            raise DataError(f"{origin}: two columns have the same name")
    elif isinstance(part, datasets.Dataset):
        columns = part.with_format(None)[:]
    elif isinstance(part, (list, tuple)) and all(isinstance(row, dict) for row in part):
        names = dict.fromkeys(name for row in part for name in row)
        columns = {name: [row.get(name) for row in part] for name in names}
    else:
        raise DataError(f"{origin}: expected a DataFrame, a Dataset or a list of dicts")
    if wrong := [name for name in columns if not isinstance(name, str)]:
        raise DataError(f"{origin}: the column {wrong[0]!r} has no name; columns must be called by text")
    return {name: [None if _is_missing(value) else value for value in values] for name, values in columns.items()}


def _is_missing(value) -> bool:
    return is_empty(value) or value is pandas.NA or value is pandas.NaT
