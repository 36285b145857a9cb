"""MS-COCO from its official folder layout, and any other set in its format, read in place."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import datasets

from assocformer_hf.data.readers.files import LOOKED_AT, image_file, read_json, with_files, without_foreign_root
from assocformer_hf.data.readers.reader import Match, Reader, Splits
from assocformer_hf.data.readers.rows import divided_by_folder
from assocformer_hf.data.schema import DataError, LabelledImages, label_set, to_dataset
from assocformer_hf.data.split_names import split_of

LISTS = ("images", "annotations", "categories")
ROOT = "the supercategory of all others, which no annotation has"  # why `left_out` has a category


def load_coco(
    data_dir: str | Path, split: str, keep_unlabelled: bool = True, bad_images: str = "error"
) -> datasets.Dataset:
    """The images of a split with the categories that are annotated in them.

    Reads `annotations/instances_{split}.json` and the images in the folder `{split}`. Categories are ordered by their
    id; crowd regions count as any object.

    Args:
        data_dir: the folder that holds `annotations` and the image folders.
        split: such as `"train2014"` or `"val2017"`.
        keep_unlabelled: whether to keep the images without any annotation.
        bad_images: see [`load_multilabel_dataset`].

    Returns:
        A dataset of the schema of `multilabel_features`; its images are read from their files when they are used.

    Raises:
        DataError: if a folder or file is missing, or an annotation refers to an image or category that is not listed.
    """
    data_dir = Path(data_dir).resolve()
    source = data_dir / "annotations" / f"instances_{split}.json"
    _require_annotations(data_dir, source)
    if not (data_dir / split).is_dir() and source.is_file():
        raise DataError(f"{data_dir / split}: no such folder; the images of the split {split} belong there")
    found = read_coco(source, data_dir / split)
    if not keep_unlabelled:
        labelled = [i for i, labels in enumerate(found.labels) if labels]
        found.images, found.labels = ([column[i] for i in labelled] for column in (found.images, found.labels))
    return to_dataset(with_files(found, bad_images), label_set([found]), split, unknown=False)


class CocoReader(Reader):
    """JSON files in COCO's format, of any label set: in COCO's or Roboflow's layout, or alone.

    Where one file's name tells no split, the split folders that its images lie in do.
    """

    form = "coco"
    looks_for = "annotations/*.json, _annotations.coco.json or a JSON file in COCO's format"

    def matches(self, source: Path) -> Match:
        return Match.SURE if find_coco(source) else Match.NO

    def read(self, source: Path) -> Splits:
        layouts = find_coco(source)
        if len(layouts) > 1:
            first, second = (next(iter(files.values())) for files in layouts[:2])
            raise DataError(
                f"{first} and {second} list images in two layouts; bring them into one, or give one as the dataset"
            )
        found = layouts[0] if layouts else {}
        others = {*source.glob("annotations/*.json")} - {*found.values()} if source.is_dir() else ()
        self.left_out |= {file.name: "annotations of another kind" for file in sorted(others) if file.name[0] != "."}
        name = next(iter(found), None)
        if len(found) == 1 and not split_of(name):
            parts = divided_by_folder(read_coco(found[name], self.data_dir), name)
            return {split: lambda part=part: part for split, part in parts.items()}
        return {split: partial(read_coco, file, self.data_dir) for split, file in found.items()}


def read_coco(source: Path, folder: Path | None = None) -> LabelledImages:
    """The images of a JSON file in COCO's format, of any label set.

    Args:
        source: the file.
        folder: the folder of the images; default: the first of the usual places that has the first image.

    Raises:
        DataError: as [`load_coco`].
    """
    content = _parse(source)
    label_of = _by_id(content["categories"], "category", "name", source)
    file_of = _by_id(content["images"], "image", "file_name", source)
    label_of = dict(sorted(label_of.items(), key=lambda entry: (isinstance(entry[0], str), entry[0])))
    label_of, root = _without_root(label_of, content)
    _refuse_twins(label_of, source)
    found = LabelledImages(str(source), names=list(label_of.values()))
    found.left_out |= dict.fromkeys(root, ROOT)
    label_set([found])
    labels_of = {number: {} for number in file_of}
    for annotation in content["annotations"]:
        if not isinstance(annotation, dict):
            raise DataError(f"{source}: an annotation that is not an object with image_id and category_id")
        shown, image, category = (annotation.get(key) for key in ("id", "image_id", "category_id"))
        if not _is_id(image) or image not in labels_of:
            way = "restore the image's entry or remove the annotation"
            if _is_id(image) and any(str(image) == str(number) for number in labels_of):
                way = "there its id is a number and here text, or the other way round: write both alike"
            raise DataError(
                f"{source}: annotation {shown} is of image {image!r}, which is not in the list of images; {way}"
            )
        if not _is_id(category) or category not in label_of:
            raise DataError(
                f"{source}: annotation {shown} has the category {category}, which is not in the list of categories "
                f"(ids {', '.join(map(str, label_of))})"
            )
        labels_of[image][label_of[category]] = None
    given = list(file_of.values())
    folder, names = _locate(source, folder, given)
    if names is not given:
        found.notes.append(f"paths of another machine are read below {folder}, such as {names[0]}")
    for number, name in zip(file_of, names, strict=True):
        found.add(image_file(folder, name, str(source)), labels_of[number])
    return found


def _without_root(label_of: dict[int | str, str], content: dict) -> tuple[dict[int | str, str], list[str]]:
    """The categories without the one that all others are below and no annotation has, and what that is called.

    Roboflow writes one, with the name of the project. Others that have some below them may be annotated elsewhere.
    """
    used = [annotation.get("category_id") for annotation in content["annotations"] if isinstance(annotation, dict)]
    above = {entry["id"]: entry.get("supercategory") for entry in content["categories"]}
    for number, name in label_of.items():
        others = [head for other, head in above.items() if other != number]
        if others and number not in used and all(head == name for head in others):
            rest = {other: label for other, label in label_of.items() if other != number}
            return rest, [f"category {name!r} of the id {number}"]
    return label_of, []


def _refuse_twins(label_of: dict[int | str, str], source: Path):
    """Raises DataError where two categories have the same name."""
    number_of: dict[str, int | str] = {}
    for number, name in label_of.items():
        if number_of.setdefault(name, number) != number:
            raise DataError(
                f"{source}: the categories {number_of[name]} and {number} are both called {name!r}; rename one"
            )


def _by_id(entries: list, what: str, key: str, source: Path) -> dict[int | str, str]:
    """What a list of COCO names, by the ids."""
    found = {}
    for entry in entries:
        number, name = (entry.get("id"), entry.get(key)) if isinstance(entry, dict) else (None, None)
        if not _is_id(number) or not isinstance(name, str):
            raise DataError(f"{source}: an entry of {what}s without an id or {key}: {entry!r:.80}")
        if number in found:
            raise DataError(
                f"{source}: the {what} id {number} is given to both {found[number]} and {name}; give each its own"
            )
        found[number] = name
    return found


def _is_id(value) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def find_coco(path: Path) -> list[dict[str | None, Path]]:
    """The annotation files in COCO's format by split, as each layout has them: COCO's, Roboflow's, and files alone.

    Beside COCO's `instances_SPLIT.json` other kinds of annotations are usual; only files that are called as a split
    are of a layout of their own.
    """
    if path.is_file():
        return [{None: path}] if path.suffix == ".json" and _is_coco(path) else []
    files = sorted(path.glob("annotations/*.json"))
    instances = {file.stem.removeprefix("instances_"): file for file in files if file.stem.startswith("instances_")}
    plain = {file.stem: file for file in files if (not instances or split_of(file.stem)) and _is_coco(file)}
    roboflow = {file.parent.name: file for file in sorted(path.glob("*/_annotations.coco.json"))}
    alone = [file for file in sorted(path.glob("*.json")) if _is_coco(file)]
    single = {file.stem if len(alone) > 1 else None: file for file in alone}
    return [found for found in (instances, plain, roboflow, single) if found]


def _is_coco(path: Path) -> bool:
    try:
        return has_lists(read_json(path))
    except DataError:
        return False


def has_lists(content) -> bool:
    """Whether parsed JSON has COCO's three lists."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in LISTS)


def _locate(source: Path, folder: Path | None, names: Sequence[str]) -> tuple[Path, Sequence[str]]:
    """The folder of the images, the first of the usual places that has some of them, and their names in it."""
    split = source.stem.removeprefix("instances_")
    root = source.parent.parent if source.parent.name == "annotations" else source.parent
    places = (
        [root / split, root / "images" / split, root / "images", root, source.parent] if folder is None else [folder]
    )
    for place in places:
        local = without_foreign_root(names, place)
        looked_at = [name for name in local[:LOOKED_AT] if "\0" not in name]
        if any(os.path.isfile(place / shown) for name in looked_at for shown in (name, unquote(name))):
            return place.resolve(), local
    return next((place for place in places if place.is_dir()), places[0]).resolve(), names


def _require_annotations(data_dir: Path, source: Path):
    if not source.is_file():
        if not data_dir.is_dir():
            raise DataError(f"{data_dir}: no such folder; give the one that holds `annotations` and the image folders")
        found = sorted(path.stem.removeprefix("instances_") for path in source.parent.glob("instances_*.json"))
        raise DataError(f"{source}: no such file; splits with annotations: {', '.join(found) or 'none'}")


def _parse(source: Path) -> dict:
    content = read_json(source)
    if not has_lists(content):
        raise DataError(f"{source}: not in COCO's format, which has the lists {', '.join(LISTS)}")
    return content
