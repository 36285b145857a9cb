"""What splits are usually called, and which of a dataset's own splits is which of ours."""

import re
from collections.abc import Iterable

from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.schema import DataError

SPLIT_NAMES = {
    "train": ("train", "training", "trainval"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
OPTIONS = {"train": "train_split", "validation": "eval_split", "test": "test_split"}


def split_of(name: str | None) -> str | None:
    """`train`, `validation` or `test` for what is usually called so, in any case, with or without a number or year."""
    plain = re.sub(r"[-_ ]?\d+$", "", (name or "").strip().lower())
    return next((key for key, names in SPLIT_NAMES.items() if plain in names), None)


def split_words(name: str) -> list[str]:
    """The words in the name of a file or folder that splits are usually called, as in `train_images` or `test-0001`."""
    return [word for word in re.split(r"[-_. ]", name.lower()) if split_of(word)]


def choose_splits(
    source: str,
    names: Iterable[str | None],
    options: SourceOptions,
    needs_train: bool = True,
) -> dict[str, str | None]:
    """The dataset's own names of its splits by ours.

    Of VOC's `train`, `val` and `trainval`, the last is the union of the others and is not used. A dataset with one
    split that is not called as those for evaluation are is trained on.

    Args:
        source: what errors call the dataset.
        names: its own names; None for images that belong to no split.
        options: `train_split`, `eval_split` and `test_split` are the own names of splits that their names do not tell.
        needs_train: whether it is an error if there is nothing to train on.

    Raises:
        DataError: if a given split is not there, two splits are called alike, some images have no split while others
            do, or nothing is there to train on.
    """
    names = list(names)
    shown = " and ".join(repr(name) for name in names if name is not None)
    if None in names and len(names) > 1:
        raise DataError(f"{source}: some images have no split, others are in {shown}; give every image its split")
    given = {key: getattr(options, option) for key, option in OPTIONS.items()}
    chosen = {key: name for key, name in given.items() if name is not None}
    for name in chosen.values():
        if name not in names:
            raise DataError(f"{source}: no split {name!r}; it has {shown or 'one without a name'}")
    for key in SPLIT_NAMES.keys() - chosen.keys():
        usual = [name for name in names if split_of(name) == key and name not in given.values()]
        if len(usual) > 1 and any(split_of(name) == "validation" for name in names):
            usual = [name for name in usual if not name.lower().startswith("trainval")]
        if len(usual) > 1:
            both = " and ".join(map(repr, usual))
            raise DataError(f"{source}: the splits {both} both mean {key}; join them, or choose one as {OPTIONS[key]}")
        if usual:
            chosen[key] = usual[0]
    if "train" not in chosen and len(names) == 1 and names[0] not in chosen.values():
        chosen["train"] = names[0]
    if "train" not in chosen and needs_train:
        raise DataError(f"{source}: no split to train on; it has {shown}; choose one as train_split")
    return {key: chosen[key] for key in SPLIT_NAMES if key in chosen}
