"""PASCAL VOC, read in place from its official folder layout."""

from pathlib import Path
from xml.etree import ElementTree

import datasets

from assocformer_hf.data.schema import DataError, multilabel_features

VOC_LABELS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
DIFFICULT = ("unknown", "negative", "positive")


def load_voc(data_dir: str | Path, split: str, year: str = "2007", difficult: str = "unknown") -> datasets.Dataset:
    """The images of a split with the classes of the objects in them.

    Reads `ImageSets/Main/{split}.txt`, `Annotations` and `JPEGImages` of `VOC{year}`.

    Args:
        data_dir: `VOC{year}`, the folder `VOCdevkit` around it, or the one around that.
        split: such as `"trainval"` or `"test"`.
        year: such as `"2007"`.
        difficult: what a class is in an image all of whose objects of that class are marked difficult: `"unknown"` as
            in the official protocol (the dataset then has the column `unknown`), `"negative"` as in ML-GCN's code, or
            `"positive"`.

    Returns:
        A dataset of the schema of `multilabel_features`; its images are read from their files when they are used.

    Raises:
        DataError: if a folder or file is missing or malformed, or an object has a class that is not VOC's.
    """
    if difficult not in DIFFICULT:
        raise DataError(f"difficult must be one of {', '.join(DIFFICULT)}; got {difficult!r}")
    root = _find_root(Path(data_dir).resolve(), year)
    listing = root / "ImageSets/Main" / f"{split}.txt"
    if not listing.is_file():
        # Files such as `cat_train.txt` list one class each.
        found = sorted(path.stem for path in listing.parent.glob("*.txt") if "_" not in path.stem)
        raise DataError(f"{listing}: no such file; splits at hand: {', '.join(found) or 'none'}")
    present_files = {path.name for path in (root / "JPEGImages").glob("*.jpg")}
    rows = {"image": [], "labels": [], "unknown": []}
    for name in listing.read_text(encoding="utf-8").split():
        image = root / "JPEGImages" / f"{name}.jpg"
        if image.name not in present_files:
            raise DataError(f"{image}: missing, but listed in {listing.name}; complete the download")
        clear, only_difficult = _read_objects(root, root / "Annotations" / f"{name}.xml")
        rows["image"].append(str(image))
        rows["labels"].append(sorted(clear | only_difficult if difficult == "positive" else clear))
        rows["unknown"].append(sorted(only_difficult))
    if difficult != "unknown":
        del rows["unknown"]
    features = multilabel_features(list(VOC_LABELS), unknown=difficult == "unknown")
    return datasets.Dataset.from_dict(rows, features=features, split=split)


def _find_root(data_dir: Path, year: str) -> Path:
    """The folder `VOC{year}`."""
    places = [data_dir, data_dir / f"VOC{year}", data_dir / "VOCdevkit" / f"VOC{year}"]
    for place in places:
        if place.name == f"VOC{year}" and (place / "ImageSets").is_dir():
            return place
    raise DataError(f"{data_dir}: neither VOC{year} nor a folder that holds it or VOCdevkit; expected {places[-1]}")


def _read_objects(root: Path, path: Path) -> tuple[set[int], set[int]]:
    """The labels with an object that is not difficult, and those with difficult objects only."""
    shown = path.relative_to(root.parent)
    try:
        objects = ElementTree.parse(path).getroot().findall("object")
    except FileNotFoundError as error:
        raise DataError(f"{shown}: missing; complete the download") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{shown}: not valid XML ({error}); download it again") from error
    clear, difficult = set(), set()
    for entry in objects:
        name = entry.findtext("name", default="").strip()
        if name not in VOC_LABELS:
            raise DataError(f"{shown}: unknown label {name!r}; expected one of {', '.join(VOC_LABELS)}")
        (difficult if entry.findtext("difficult", default="0").strip() == "1" else clear).add(VOC_LABELS.index(name))
    return clear, difficult - clear
