"""MS-COCO, read in place from its official folder layout."""

import json
from pathlib import Path

import datasets

from assocformer_hf.data.schema import DataError, multilabel_features


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
    content = _read_annotations(data_dir, source)
    categories = sorted(content["categories"], key=lambda category: category["id"])
    names = [category["name"] for category in categories]
    if len(set(names)) != len(names) or not names:
        raise DataError(f"{source}: categories must have names, and each another one; got {', '.join(names) or 'none'}")
    label_of = {category["id"]: label for label, category in enumerate(categories)}
    labels_of = {image["id"]: set() for image in content["images"]}
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
        labels_of[annotation["image_id"]].add(label_of[annotation["category_id"]])

    folder = data_dir / split
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; the images of the split {split} belong there")
    present = {path.name for path in folder.iterdir()}
    missing = [image["file_name"] for image in content["images"] if image["file_name"] not in present]
    if missing:
        raise DataError(
            f"{folder / missing[0]}: missing, with {len(missing) - 1} more of the {len(labels_of)} images that "
            f"{source.name} lists; complete the download"
        )
    kept = [image for image in content["images"] if keep_unlabelled or labels_of[image["id"]]]
    rows = {
        "image": [str(folder / image["file_name"]) for image in kept],
        "labels": [sorted(labels_of[image["id"]]) for image in kept],
    }
    return datasets.Dataset.from_dict(rows, features=multilabel_features(names), split=split)


def _read_annotations(data_dir: Path, source: Path) -> dict:
    if not source.is_file():
        if not data_dir.is_dir():
            raise DataError(f"{data_dir}: no such folder; give the one that holds `annotations` and the image folders")
        found = sorted(path.stem.removeprefix("instances_") for path in source.parent.glob("instances_*.json"))
        raise DataError(f"{source}: no such file; splits with annotations: {', '.join(found) or 'none'}")
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{source}: not valid JSON ({error}); download it again") from error
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in lists):
        raise DataError(f"{source}: not in COCO's format, which has the lists {', '.join(lists)}")
    return content
