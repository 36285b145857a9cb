"""PASCAL VOC from its official folder layout, and any other set in its format, read in place."""

import os
from functools import partial
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

import datasets

from assocformer_hf.data.readers.files import image_file, is_image_name, read_lines, read_xml, with_files
from assocformer_hf.data.readers.reader import Match, Reader, Splits
from assocformer_hf.data.schema import DataError, LabelledImages, to_dataset
from assocformer_hf.wording import counted

VOC_LABELS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
USUAL = (".jpg", ".png", ".jpeg", ".JPG", ".bmp", ".webp")  # endings that are looked for beside an XML file
DIFFICULT = ("unknown", "negative", "positive")


def load_voc(
    data_dir: str | Path, split: str, year: str = "2007", difficult: str = "unknown", bad_images: str = "error"
) -> datasets.Dataset:
    """The images of a split with the classes of the objects in them.

    Reads `ImageSets/Main/{split}.txt`, `Annotations` and `JPEGImages` of `VOC{year}`.

    Args:
        data_dir: `VOC{year}`, the folder `VOCdevkit` around it, or the one around that.
        split: such as `"trainval"` or `"test"`.
        year: such as `"2007"`.
        difficult: what a class is in an image all of whose objects of that class are marked difficult: `"unknown"` as
            in the official protocol (the dataset then has the column `unknown`), `"negative"` as in ML-GCN's code, or
            `"positive"`.
        bad_images: see [`load_multilabel_dataset`].

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
    return to_dataset(with_files(found, bad_images), list(VOC_LABELS), split, unknown=difficult == "unknown")


class VocReader(Reader):
    """XML files in VOC's format, of any label set: in VOC's layout, in `Annotations` alone, or beside their images."""

    form = "voc"
    looks_for = "ImageSets/Main, Annotations/*.xml or XML files in VOC's format beside the images"

    def matches(self, source: Path) -> Match:
        return Match.SURE if source.is_dir() and (_roots(source) or _beside(source)) else Match.NO

    def read(self, source: Path) -> Splits:
        roots = _roots(source)
        if len(roots) > 1:
            raise DataError(f"{roots[0]} and {roots[1]} both hold a dataset; give one of them as the dataset")
        layouts = [*map(_listings, roots), *_beside(source)]
        if len(layouts) > 1:
            first, second = (next(iter(listings.values())) for listings in layouts[:2])
            raise DataError(
                f"{first} and {second} hold annotations in two layouts; bring them into one, or move those of one away"
            )
        return {
            split: partial(read_voc, listing, folder=self.data_dir)
            for listings in layouts
            for split, listing in listings.items()
        }


def _roots(path: Path) -> list[Path]:
    """The folders in VOC's layout: the path, those called `VOC…` in it, or those in `VOCdevkit`."""
    places = [path, *sorted(path.glob("VOC*")), *sorted(path.glob("VOCdevkit/VOC*"))]
    return [place for place in places if _listings(place)]


def _listings(root: Path) -> dict[str | None, Path]:
    """What lists the images of each split of a folder in VOC's layout."""
    files = {file.stem: file for file in _files(root / "ImageSets/Main", "txt")}
    # Files such as `cat_train.txt` list the images of one class.
    splits = {name: file for name, file in files.items() if name.rpartition("_")[2] not in files or "_" not in name}
    return splits or ({None: root / "Annotations"} if _files(root / "Annotations", "xml") else {})


def _files(folder: Path, ending: str) -> list[Path]:
    """The files of a kind in a folder, without hidden ones, such as those that macOS writes beside others."""
    return [file for file in sorted(folder.glob(f"*.{ending}")) if file.name[0] != "."]


def _beside(path: Path) -> list[dict[str | None, Path]]:
    """The folders that hold XML files beside images, as each layout has them: the path itself, or those in it."""
    inside = [one for one in sorted(path.iterdir()) if one.is_dir() and one.name[0] != "." and _holds_voc(one)]
    layouts = [{None: path} if _holds_voc(path) else {}, {one.name: one for one in inside if one.name != "Annotations"}]
    return [folders for folders in layouts if folders]


def read_voc(listing: Path, difficult: str = "unknown", folder: str | Path | None = None) -> LabelledImages:
    """The images that a file or folder lists, of any label set.

    Args:
        listing: a file of image names, or a folder of XML files.
        difficult: see [`load_voc`].
        folder: of the images, where they do not lie where VOC has them, nor beside the XML files.

    Raises:
        DataError: as [`load_voc`].
    """
    if listing.is_file():
        return _read_listed(listing.parents[2].resolve(), listing, difficult, folder)
    root = listing.parent.resolve() if listing.name == "Annotations" else listing.resolve()
    found = LabelledImages(str(listing))
    for path in _files(listing, "xml"):
        tree = _parse(path)
        named = tree.findtext("filename", default="").strip()
        # The name inside is often that of before a file was renamed; the file beside is the one that is meant.
        named = PureWindowsPath(named).name  # the folder is often one of another machine
        beside = [f"{path.stem}{Path(named).suffix or '.jpg'}", *(f"{path.stem}{one}" for one in USUAL), named]
        folders = [root / name for name in ("JPEGImages", "images", "") if (root / name).is_dir()]
        folders = folders if folder is None else [Path(folder).resolve()]
        places = [image_file(folder, name, str(path)) for name in beside if name for folder in folders]
        image = next((place for place in places if Path(place).is_file()), places[0])
        found.add(image, *_split_objects(tree, difficult, path))
    for below in sorted({path.parent for path in listing.rglob("*.xml")} - {listing}):
        if _holds_voc(below):
            files = counted(len(_files(below, "xml")), "XML file")
            found.left_out[f"{files} in {below}"] = "a folder below the one that is read"
    listed = {os.path.splitext(os.path.basename(image))[0] for image in found.images}
    for place in {os.path.dirname(image) for image in found.images}:
        others = [name for name in os.listdir(place) if is_image_name(name)] if os.path.isdir(place) else []
        if without := [name for name in others if os.path.splitext(name)[0] not in listed]:
            found.left_out[f"{counted(len(without), 'image')} in {place}, such as {without[0]}"] = "no XML file"
    return found


def _read_listed(root: Path, listing: Path, difficult: str, folder: str | Path | None = None) -> LabelledImages:
    if difficult not in DIFFICULT:
        raise DataError(f"difficult must be one of {', '.join(DIFFICULT)}; got {difficult!r}")
    found = LabelledImages(str(listing))
    file_of: dict[str, str] = {}
    images = root / "JPEGImages" if folder is None else Path(folder).resolve()
    for path in images.glob("*.*"):
        if file_of.setdefault(path.stem, path.name) != path.name:
            raise DataError(f"{path}: {file_of[path.stem]} has the same name; their annotations cannot be told apart")
    for name in read_lines(listing):
        image = image_file(images, file_of.get(name, f"{name}.jpg"), str(listing))
        annotation = root / "Annotations" / f"{name}.xml"
        if not annotation.is_file() and (root / "Annotations" / f"{Path(name.split()[0]).stem}.xml").is_file():
            raise DataError(f"{listing}: {name!r}: a line is the name of an image without its ending, and nothing else")
        found.add(image, *_split_objects(_parse(annotation), difficult, annotation))
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
    for path in _files(folder, "xml"):
        try:
            return read_xml(path).tag == "annotation"
        except DataError:
            return False
    return False


def _parse(path: Path) -> ElementTree.Element:
    if not path.is_file():
        raise DataError(f"{'/'.join(path.parts[-3:])}: missing; complete the download")
    tree = read_xml(path)
    if tree.tag != "annotation":
        raise DataError(f"{path}: not in VOC's format: its root is {tree.tag!r}, not 'annotation'")
    return tree


def _split_objects(tree: ElementTree.Element, difficult: str, path: Path) -> tuple[list[str], list[str]]:
    """The labels of the objects that are present, and those that are unknown."""
    clear: dict[str, None] = {}
    difficult_ones: dict[str, None] = {}
    for entry in tree.findall("object"):
        name = entry.findtext("name", default="").strip()
        if not name:
            raise DataError(f"{path}: an object without a name; give it the name of its class, or remove it")
        is_difficult = entry.findtext("difficult", default="0").strip().lower() in ("1", "true")
        (difficult_ones if is_difficult else clear)[name] = None
    hard = [name for name in difficult_ones if name not in clear]
    if difficult == "positive":
        return [*clear, *hard], []
    return list(clear), hard if difficult == "unknown" else []
