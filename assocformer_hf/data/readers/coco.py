"""MS-COCO from its official folder layout, and any other set in its format, read in place."""

import json
from pathlib import Path

import datasets

from assocformer_hf.data.schema import (
    DataError,
    LabelledImages,
    image_file,
    label_set,
    read_text,
    require_files,
    to_dataset,
)

LISTS = ("images", "annotations", "categories")


def load_coco(data_dir: str | Path, split: str, keep_unlabelled: bool = True) -> datasets.Dataset:
    """The images of a split with the categories that are annotated in them.

    Reads `annotations/instances_{split}.json` and the images in the folder `{split}`. Categories are ordered by their
    id; crowd regions count as any object.

    Args:
        data_dir: the folder that holds `annotations` and the image folders.
        split: such as `"train2014"` or `"val2017"`.
        keep_unlabelled: whether to keep the images without any annotation.

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
    return to_dataset(found, label_set([found]), split, unknown=False)


def read_coco(source: Path, folder: Path | None = None) -> LabelledImages:
    """The images of a JSON file in COCO's format, of any label set.

    Args:
        source: the file.
        folder: the folder of the images; default: the first of the usual places that has the first image.

    Raises:
        DataError: as [`load_coco`].
    """
    content = _parse(source)
    categories = sorted(content["categories"], key=lambda category: category["id"])
    found = LabelledImages(str(source), names=[category["name"] for category in categories])
    label_set([found])
    label_of = {category["id"]: category["name"] for category in categories}
    labels_of = {image["id"]: {} for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in labels_of:
            raise DataError(
                f"{source}: annotation {annotation.get('id')} is of image {annotation['image_id']}, which is not in "
                "the list of images; restore the image's entry or remove the annotation"
            )
        if annotation["category_id"] not in label_of:
            raise DataError(
                f"{source}: annotation {annotation.get('id')} has the category {annotation['category_id']}, which is "
                f"not in the list of categories (ids {', '.join(map(str, label_of))})"
            )
        labels_of[annotation["image_id"]][label_of[annotation["category_id"]]] = None
    folder = folder or _image_folder(source, content["images"])
    for image in content["images"]:
        found.add(image_file(folder, image["file_name"], str(source)), labels_of[image["id"]])
    require_files(found)
    return found


def find_coco(path: Path) -> dict[str | None, Path]:
    """The annotation files in COCO's format by split: of a folder in COCO's or Roboflow's layout, or one file."""
    if path.is_file():
        return {None: path} if path.suffix == ".json" and _is_coco(path) else {}
    files = sorted(path.glob("annotations/*.json"))
    instances = {file.stem.removeprefix("instances_"): file for file in files if file.stem.startswith("instances_")}
    if instances:
        return instances
    if files:
        return {file.stem: file for file in files if _is_coco(file)}
    roboflow = {file.parent.name: file for file in sorted(path.glob("*/_annotations.coco.json"))}
    alone = [file for file in sorted(path.glob("*.json")) if _is_coco(file)]
    return roboflow or {file.stem if len(alone) > 1 else None: file for file in alone}


def _is_coco(path: Path) -> bool:
    try:
        return is_coco(json.loads(read_text(path)))
    except (json.JSONDecodeError, DataError):
        return False


def is_coco(content) -> bool:
    """Whether parsed JSON has COCO's three lists."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in LISTS)


def _image_folder(source: Path, images: list[dict]) -> Path:
    split = source.stem.removeprefix("instances_")
    root = source.parent.parent if source.parent.name == "annotations" else source.parent
    places = [root / split, root / "images" / split, root / "images", root, source.parent]
    if images:
        places = [place for place in places if (place / images[0]["file_name"]).is_file()] or places
    return places[0].resolve()


def _require_annotations(data_dir: Path, source: Path):
    if not source.is_file():
        if not data_dir.is_dir():
            raise DataError(f"{data_dir}: no such folder; give the one that holds `annotations` and the image folders")
        found = sorted(path.stem.removeprefix("instances_") for path in source.parent.glob("instances_*.json"))
        raise DataError(f"{source}: no such file; splits with annotations: {', '.join(found) or 'none'}")


def _parse(source: Path) -> dict:
    try:
        content = json.loads(read_text(source))
    except json.JSONDecodeError as error:
        raise DataError(f"{source}: not valid JSON ({error}); download it again") from error
    if not is_coco(content):
        raise DataError(f"{source}: not in COCO's format, which has the lists {', '.join(LISTS)}")
    return content
