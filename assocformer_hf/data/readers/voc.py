"""PASCAL VOC from its official folder layout, and any other set in its format, read in place."""

from pathlib import Path
from xml.etree import ElementTree

import datasets

from assocformer_hf.data.schema import DataError, LabelledImages, image_file, read_text, require_files, to_dataset

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
    root = _find_root(Path(data_dir).resolve(), year)
    listing = root / "ImageSets/Main" / f"{split}.txt"
    if not listing.is_file():
        # Files such as `cat_train.txt` list one class each.
        found = sorted(path.stem for path in listing.parent.glob("*.txt") if "_" not in path.stem)
        raise DataError(f"{listing}: no such file; splits at hand: {', '.join(found) or 'none'}")
    found = _read_listed(root, listing, difficult)
    for i, row in enumerate(zip(found.labels, found.unknown, strict=True)):
        for name in (name for names in row for name in names if name not in VOC_LABELS):
            shown = f"{root.name}/Annotations/{Path(found.images[i]).stem}.xml"
            raise DataError(f"{shown}: unknown label {name!r}; expected one of {', '.join(VOC_LABELS)}")
    return to_dataset(found, list(VOC_LABELS), split, unknown=difficult == "unknown")


def find_voc(path: Path) -> dict[str | None, Path]:
    """What lists the images of each split: files of `ImageSets/Main`, else folders that hold XML files.

    Understands `VOC2007`, `VOCdevkit` and the folder around it, `Annotations` without `ImageSets`, and folders such as
    `train` and `valid` with the XML files beside their images.
    """
    if not path.is_dir():
        return {}
    roots = [path, *sorted(path.glob("VOC*")), *sorted(path.glob("VOCdevkit/VOC*"))]
    for root in roots:
        listings = [file for file in sorted(root.glob("ImageSets/Main/*.txt")) if "_" not in file.stem]
        if listings:
            return {file.stem: file for file in listings}
        if any(root.glob("Annotations/*.xml")):
            return {None: root / "Annotations"}
    found = {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir() and _holds_voc(folder)}
    return found or ({None: path} if _holds_voc(path) else {})


def read_voc(listing: Path, difficult: str = "unknown") -> LabelledImages:
    """The images of one entry of [`find_voc`], of any label set.

    Args:
        listing: a file of image names, or a folder of XML files.
        difficult: see [`load_voc`].

    Raises:
        DataError: as [`load_voc`].
    """
    if listing.is_file():
        return _read_listed(listing.parents[2].resolve(), listing, difficult)
    root = listing.parent.resolve() if listing.name == "Annotations" else listing.resolve()
    found = LabelledImages(str(listing))
    for path in sorted(listing.glob("*.xml")):
        tree = _parse(root, path)
        named = tree.findtext("filename", default="").strip()
        # The name inside is often that of before a file was renamed; the file beside is the one that is meant.
        beside = [f"{path.stem}{Path(named).suffix or '.jpg'}", named]
        folders = [root / name for name in ("JPEGImages", "images", "") if (root / name).is_dir()]
        places = [image_file(folder, name, str(path)) for name in beside if name for folder in folders]
        image = next((place for place in places if Path(place).is_file()), places[0])
        found.add(image, *_split_objects(tree, difficult))
    require_files(found)
    return found


def _read_listed(root: Path, listing: Path, difficult: str) -> LabelledImages:
    if difficult not in DIFFICULT:
        raise DataError(f"difficult must be one of {', '.join(DIFFICULT)}; got {difficult!r}")
    found = LabelledImages(str(listing))
    file_of = {path.stem: path.name for path in (root / "JPEGImages").glob("*.*")}
    for name in read_text(listing).split():
        image = image_file(root / "JPEGImages", file_of.get(name, f"{name}.jpg"), str(listing))
        found.add(image, *_split_objects(_parse(root, root / "Annotations" / f"{name}.xml"), difficult))
    require_files(found)
    return found


def _find_root(data_dir: Path, year: str) -> Path:
    """The folder `VOC{year}`."""
    places = [data_dir, data_dir / f"VOC{year}", data_dir / "VOCdevkit" / f"VOC{year}"]
    for place in places:
        if place.name == f"VOC{year}" and (place / "ImageSets").is_dir():
            return place
    raise DataError(f"{data_dir}: neither VOC{year} nor a folder that holds it or VOCdevkit; expected {places[-1]}")


def _holds_voc(folder: Path) -> bool:
    """Whether an XML file of the folder, the first, is in VOC's format."""
    for path in folder.glob("*.xml"):
        try:
            return ElementTree.parse(path).getroot().tag == "annotation"
        except ElementTree.ParseError:
            return False
    return False


def _parse(root: Path, path: Path) -> ElementTree.Element:
    shown = path.relative_to(root.parent)
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError as error:
        raise DataError(f"{shown}: missing; complete the download") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{shown}: not valid XML ({error}); download it again") from error


def _split_objects(tree: ElementTree.Element, difficult: str) -> tuple[list[str], list[str]]:
    """The labels of the objects that are present, and those that are unknown."""
    clear, hard = {}, {}
    for entry in tree.findall("object"):
        name = entry.findtext("name", default="").strip()
        (hard if entry.findtext("difficult", default="0").strip() == "1" else clear)[name] = None
    hard = [name for name in hard if name not in clear]
    if difficult == "positive":
        return [*clear, *hard], []
    return list(clear), hard if difficult == "unknown" else []
