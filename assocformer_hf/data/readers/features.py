"""Splits that `datasets` holds: which of their columns are images and labels, whatever they are called."""

import logging

import datasets
from datasets.table import ConcatenationTable

from assocformer_hf.data.readers.classes import (
    LISTS,
    class_names,
    class_words,
    declared_labels,
    innermost,
    to_names,
    with_class_names,
)
from assocformer_hf.data.readers.label_cells import read_labels
from assocformer_hf.data.readers.labels import (
    UNKNOWN_COLUMN,
    find_column,
    flags_for_names,
    refuse_states_beside,
    table_labels,
    usual_label_columns,
)
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.readers.rows import IMAGE_COLUMNS
from assocformer_hf.data.readers.states import NotAnnotated, state_of
from assocformer_hf.data.readers.structures import (
    are_of_objects,
    distinct,
    leaves,
    lists_of_structures,
    object_classes,
    split_path,
    value_at,
    without_entry,
)
from assocformer_hf.data.schema import UNUSED_COLUMNS, DataError, LabelledImages, multilabel_features
from assocformer_hf.wording import some

logger = logging.getLogger(__name__)


def image_column(dataset, given: str | None, origin: str) -> str:
    """The column of images: the given one, else the only one of type Image, else one with a usual name.

    Raises:
        DataError: if there is none, or several of type Image may be meant.
    """
    features = dataset.features
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    found = given or (images[0] if len(images) == 1 else None)
    found = find_column(images if images and not given else list(features), found, IMAGE_COLUMNS, origin, "image")
    if found is None and images:
        raise DataError(
            f"{origin}: the columns {images[0]!r} and {images[1]!r} both hold images; choose one as image_column"
        )
    if found is None:
        raise DataError(
            f"{origin}: no column of images; name it as image_column; the columns are {', '.join(features)}"
        )
    return found


def images_only(dataset: datasets.Dataset, given: str | None, origin: str) -> datasets.Dataset:
    """A dataset reduced to its images, undecoded, in the column `image`."""
    column = image_column(dataset, given, origin)
    dataset = dataset.select_columns([column])
    if isinstance(dataset, datasets.Dataset):
        dataset = _without_empty_blocks(dataset.with_format(None))
    dataset = dataset if column == "image" else dataset.rename_column(column, "image")
    return dataset.cast_column("image", datasets.Image(decode=False))


def _without_empty_blocks(dataset: datasets.Dataset) -> datasets.Dataset:
    """The same, without the blocks of its table that lost all their columns: beside one `add_column` fails."""
    table = dataset.data
    if not isinstance(table, ConcatenationTable):
        return dataset
    blocks = [[block for block in row if block.num_columns] for row in table.blocks]
    table = ConcatenationTable.from_blocks(blocks)
    return datasets.Dataset(table, dataset.info, dataset.split, dataset._indices, dataset._fingerprint)


def read_dataset(dataset: datasets.Dataset, origin: str, options: SourceOptions) -> LabelledImages:
    """Images and labels of a dataset with any usual column names.

    Args:
        dataset: one split.
        origin: what errors call it.
        options: the columns, where they are not the only one of type Image and that with a usual name (with dots into
            structures: `objects.category`), or one column for each label; the label set, where it is not that of the
            column's ClassLabel or what occurs.

    Raises:
        DataError: if a column is missing or malformed.
    """
    image = image_column(dataset, options.image_column, origin)
    flat = {name: kind for name, kind in leaves(dataset.features) if name != image}
    found = _label_column(flat, options, origin)
    if found and _is_doubtful(found, flat, options):
        scalars = [name for name in flat if name in dataset.features and _may_hold_states(flat[name])]
        columns = dataset.with_format(None).select_columns(scalars)[:] if scalars else {}
        refuse_states_beside(found, columns, [name for name in scalars if name != found], origin)
    chosen = {name: name for name in flat}
    if found:
        unknown = _unknown_column(flat, found, origin)
        chosen = {found: found} | ({unknown: UNKNOWN_COLUMN} if unknown else {})
    columns = {}
    for name, key in chosen.items():
        top, path = split_path(name, dataset.features)
        columns[key] = [value_at(row, path) for row in dataset.with_format(None).select_columns([top])[:][top]]
    declared = class_names(flat[found]) if found else None
    notes = without_entry(columns, found, dataset.features) if found else []
    if found:
        for name, key in chosen.items():
            if own := class_names(flat[name]) or declared:
                cells = columns[key] if name in dataset.features else list(map(distinct, columns[key]))
                columns[key] = to_names(cells, own, f"{origin}: column {name!r}")
            elif are_of_objects(name, flat, lists_of_structures(dataset.features)):
                columns[key] = object_classes(columns[key], options.label_names, f"{origin}: column {name!r}")
    else:
        of_images = {name: kind for name, kind in flat.items() if name in dataset.features}  # not of their objects
        columns = with_class_names(columns, of_images, origin, class_words)
    labels = table_labels(columns, origin, list(columns), found, options.delimiter, options.label_names)
    present, unknown = list(labels.present), list(labels.unknown)
    names = declared_labels(flat[found], options.label_names) if found else labels.names
    read = LabelledImages(origin, images_only(dataset, image, origin), present, unknown, names)
    read.columns = {"image": image} | labels.columns
    read.notes += notes
    ignored = [name for name in flat if name not in chosen] + labels.ignored
    read.left_out |= dict.fromkeys(map(repr, ignored), UNUSED_COLUMNS)
    return read


def _label_column(flat: dict, options: SourceOptions, origin: str) -> str | None:
    """The column of labels, which may stand in a structure; None if every label has one of its own."""
    if options.label_names and options.label_column is None and set(options.label_names) <= flat.keys():
        return None
    usual = usual_label_columns(flat)
    found = find_column(list(flat), options.label_column, usual, origin, "label", alternatives=False)
    return found or find_column(list(flat), None, ("cls", "txt"), origin, "label")


def _unknown_column(flat: dict, found: str, origin: str) -> str | None:
    """The column of unknown labels that stands beside that of the labels, in the same structure.

    Raises:
        DataError: if it holds flags in the place of labels.
    """
    beside = found.rpartition(".")[0]
    names = {name.rpartition(".")[2]: name for name in flat if name.rpartition(".")[0] == beside and name != found}
    column = find_column(list(names), None, (UNKNOWN_COLUMN,), origin, UNKNOWN_COLUMN, alternatives=False)
    if column is None:
        return None
    kind, numbers = flat[names[column]], ("int", "uint", "float") if isinstance(flat[found], LISTS) else ()
    if isinstance(kind, datasets.Value) and kind.dtype.startswith(("bool", *numbers)):
        raise flags_for_names(names[column], origin)
    return names[column]


def _is_doubtful(found: str, flat: dict, options: SourceOptions) -> bool:
    """Whether the column of labels was taken for its name alone: nobody chose it, and it is no list of labels."""
    chosen = options.label_column is not None or options.label_names is not None
    return not chosen and "." not in found and isinstance(flat[found], (datasets.Value, datasets.ClassLabel))


def _may_hold_states(kind) -> bool:
    """Whether a column of this type may say of each image whether it has a label."""
    types = ("bool", "int", "uint", "float", "string", "large_string")
    return isinstance(kind, datasets.Value) and kind.dtype.startswith(types)


def _is_of_numbers(kind) -> bool:
    kind = innermost(kind)
    return isinstance(kind, datasets.Value) and kind.dtype.startswith(("int", "uint", "float"))


def stream_dataset(dataset: datasets.IterableDataset, origin: str, options: SourceOptions) -> datasets.IterableDataset:
    """The same of a stream, example by example, in the schema of `multilabel_features`.

    The label set must be given or stand in the features, and a delimiter that is not a comma must be given: a stream
    cannot be read to the end first. Each example has `unknown` where the stream has that column, one for each label, or
    classes, which may be -1.

    Raises:
        DataError: as [`read_dataset`], and if the label set is neither given nor in the features.
    """
    if dataset.features is None:
        dataset = dataset.cast(datasets.Dataset.from_list(list(dataset.take(1))).features)
    image = image_column(dataset, options.image_column, origin)
    flat = {name: kind for name, kind in leaves(dataset.features) if name != image}
    found, names = _label_column(flat, options, origin), options.label_names
    by_column = found is None and bool(names) and set(names) <= flat.keys()
    declared = class_names(flat[found]) if found else None
    label_names = list(names or declared or ())
    if not label_names:
        raise DataError(f"{origin}: a stream cannot be searched for its labels first; give them as label_names")
    if not by_column and found is None:
        raise DataError(f"{origin}: no labels; name their column as label_column; the columns are {', '.join(flat)}")
    lists = lists_of_structures(dataset.features)
    of_objects = {name for name in flat if are_of_objects(name, flat, lists)}
    if found and not declared and found not in of_objects and len(label_names) <= 2 and _is_of_numbers(flat[found]):
        raise DataError(
            f"{origin}: numbers of {len(label_names)} labels can be their indices or 1 and 0 for each, and a stream is "
            "not read to its end first: write names, or read it without streaming"
        )
    if found and _is_doubtful(found, flat, options):  # its values are not read first: true and false alone are certain
        flags = [name for name in flat if dataset.features.get(name) == datasets.Value("bool")]
        refuse_states_beside(found, {name: [True] for name in flags}, flags, origin)
    index = {name: i for i, name in enumerate(label_names)}
    unknown_column = _unknown_column(flat, found, origin) if found else None
    unknown = by_column or unknown_column is not None or declared is not None
    own_names = declared_labels(flat[found], names) if found else None
    undeclared = {index[name] for name in label_names if own_names is not None and name not in own_names}
    if undeclared:
        logger.warning(
            "%s: not declared there, and unknown: %s", origin, some([label_names[i] for i in sorted(undeclared)], 5)
        )

    def cell(example: dict, column: str):
        first, path = split_path(column, example)
        value = value_at(example[first], path)
        value = distinct(value) if path else value
        where = f"{origin}: column {column!r}"
        if own := class_names(flat[column]) or declared:
            return to_names([value], own, where)[0]
        return object_classes([value], label_names, where)[0] if column in of_objects else value

    def indices(value, column: str) -> list[int]:
        (row,) = read_labels([value], f"{origin}: column {column!r}", options.delimiter or ",", label_names)
        if not index.keys() >= set(row):
            raise DataError(f"{origin}: unknown label in {row}; expected one of {', '.join(label_names)}")
        return sorted({index[name] for name in row})

    # By a column of classes, the words of each; an index below 0 is unknown anyhow.
    words = {
        name: dict(enumerate(class_words(flat[name])))
        for name in (label_names if by_column else ())
        if isinstance(flat[name], datasets.ClassLabel)
    }

    def convert(example: dict) -> dict:
        if by_column:
            values = [words[n].get(example[n], example[n]) if n in words else example[n] for n in label_names]
            states = [state_of(value) for value in values]
            if None in states:
                wrong = states.index(None)
                raise DataError(
                    f"{origin}: column {label_names[wrong]!r}: {values[wrong]!r} is not 1, 0, -1 or nothing"
                )
            row = {"labels": [i for i, state in enumerate(states) if state == 1]}
            row["unknown"] = [i for i, state in enumerate(states) if state == -1]
        else:
            value = cell(example, found)
            row = {"labels": indices(value, found)}
            if isinstance(value, NotAnnotated):
                row["unknown"] = [*index.values()]
            elif unknown:
                beside = indices(cell(example, unknown_column), unknown_column) if unknown_column else []
                row["unknown"] = sorted({*beside, *undeclared}.difference(row["labels"]))
        return {"image": example[image], **row}

    features = multilabel_features(label_names, unknown)
    others = [name for name in dataset.features if name not in features]
    undecoded = dataset.cast_column(image, datasets.Image(decode=False))
    return undecoded.map(convert, remove_columns=others, features=features)
