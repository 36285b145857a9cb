"""YOLO folders: `data.yaml` with the names of the classes, and a text file of boxes for each image."""

from collections.abc import Iterator
from pathlib import Path

from assocformer_hf.data.readers.files import image_file, image_files, read_lines, read_yaml, without_foreign_root
from assocformer_hf.data.readers.reader import Match, Reader, Splits
from assocformer_hf.data.schema import DataError, LabelledImages
from assocformer_hf.wording import counted

SPLITS = ("train", "val", "valid", "validation", "test")


class YoloReader(Reader):
    """A YOLO export: `data.yaml` with `names` and the splits, and a text file of boxes for each image.

    Only the class at the start of each line counts; an image without a text file has no label. A `test` folder that
    is not there is left out, as exports without a test split name one too.
    """

    form = "yolo"
    looks_for = "data.yaml with names"

    def matches(self, source: Path) -> Match:
        return Match.SURE if self._files(source) else Match.NO

    def read(self, source: Path) -> Splits:
        files = self._files(source)
        if not files:
            raise DataError(f"{source}: no YAML file with names")
        if len(files) > 1:
            raise DataError(f"{files[0]} and {files[1].name} both have names; give one of them as the dataset")
        (path,) = files
        content = read_yaml(path)
        names = class_names(content, path)
        root = self._root(path, content.get("path"))
        found = {}
        for split, places in _places(content, path, root).items():
            if split == "test" and not any((root / _inside(root, place)).exists() for place in places):
                self.left_out[f"test: {', '.join(places)}"] = "no such folder"
                continue
            found[split] = _read_split(path, root, places, names)
        if not found:
            raise DataError(f"{path}: names no images; expected an entry train, with val or test where they are apart")
        images = [image for part in found.values() for image in part.images]
        if images and not any(_label_file(root, image) for image in images):
            looked = " or ".join(str(place) for place in _label_places(root, images[0]))
            raise DataError(f"{path}: none of {len(images)} images has a file of labels; looked for {looked}")
        return {split: lambda part=part: part for split, part in found.items()}

    def _files(self, source: Path) -> list[Path]:
        """The YAML files with `names`: the path itself, or those in the folder."""
        files = [source] if source.is_file() else sorted([*source.glob("*.yaml"), *source.glob("*.yml")])
        return [file for file in files if file.suffix in (".yaml", ".yml") and _has_names(file)]

    def _root(self, path: Path, entry) -> Path:
        """The folder that the paths are relative to: `data_dir`, else the entry `path`, else that of the file."""
        own = path.parent.resolve()
        if self.data_dir:
            return self.data_dir
        root = own / entry if isinstance(entry, str) and "\0" not in entry else own
        return root.resolve() if root.is_dir() else own


def _has_names(path: Path) -> bool:
    try:
        content = read_yaml(path)
    except DataError:
        return path.stem == "data"  # reading it says what is wrong
    return isinstance(content, dict) and "names" in content


def class_names(content: dict, path: Path) -> dict[int, str]:
    """The names by class number, of a list or of a mapping whose keys are the numbers.

    Raises:
        DataError: if they are something else, or `nc` is another number of them.
    """
    names = content["names"]
    items = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    entries = list(items)
    if not entries or not all(isinstance(name, str) for _, name in entries):
        raise DataError(f"{path}: names must be a list of names, or names by their numbers")
    if wrong := [key for key, _ in entries if not str(key).isdecimal()]:
        raise DataError(f"{path}: names: {wrong[0]!r} is not the number of a class, such as 0")
    found = {int(key): name for key, name in sorted(entries, key=lambda entry: int(entry[0]))}
    if len(found) < len(entries):
        raise DataError(f"{path}: names: two entries have the same number")
    if content.get("nc", str(len(found))) != str(len(found)):
        raise DataError(f"{path}: nc is {content['nc']}, but names has {len(found)} entries; correct one of them")
    return found


def _places(content: dict, path: Path, root: Path) -> dict[str, list[str]]:
    """The folders and lists of images by split, those of another machine as seen from the root."""
    places_of = {}
    for split in (key for key in SPLITS if content.get(key)):
        places_of[split] = content[split] if isinstance(content[split], list) else [content[split]]
        if wrong := [place for place in places_of[split] if not isinstance(place, str)]:
            raise DataError(f"{path}: {split}: {wrong[0]!r} is not the name of a folder or file")
    given = [place for places in places_of.values() for place in places]
    here = dict(zip(given, without_foreign_root(given, root), strict=True))
    return {split: [here[place] for place in places] for split, places in places_of.items()}


def _read_split(path: Path, root: Path, places: list[str], names: dict[int, str]) -> LabelledImages:
    found = LabelledImages(str(path), names=list(names.values()))
    image_of: dict[Path, str] = {}
    for place in places:
        for image in _images(root, place, path):
            labels = _label_file(root, image)
            if labels is not None and image_of.setdefault(labels, image) != image:
                raise DataError(f"{labels}: the labels of both {image_of[labels]} and {image}; rename one of them")
            found.add(image, [names[i] for i in _classes(labels, names)] if labels else [])
    if count := len(found.images) - len(image_of):
        found.notes.append(f"{counted(count, 'image')} without a file of labels")
    return found


def _inside(root: Path, place: str) -> str:
    """The place as seen from the root: Roboflow writes paths as seen from a folder below."""
    while place.startswith("../") and "\0" not in place and not (root / place).exists():
        place = place.removeprefix("../")
    return place


def _images(root: Path, place: str, origin: Path) -> list[str]:
    """The images of a folder, or those that a text file lists."""
    path = Path(image_file(root, _inside(root, place), str(origin)))
    if path.is_dir():
        return image_files(path)
    if not path.is_file():
        raise DataError(f"{origin}: {place}: no such folder below {root}; give the export's folder as data_dir")
    return [image_file(root, line, str(path)) for line in without_foreign_root(read_lines(path), root)]


def _label_places(root: Path, image: str) -> Iterator[Path]:
    """Where the labels of an image may be: in `labels` in place of a folder `images` below the root, or beside it."""
    parts = Path(image).relative_to(root).parts
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == "images":
            yield root.joinpath(*parts[:i], "labels", *parts[i + 1 :]).with_suffix(".txt")
            break
    yield Path(image).with_suffix(".txt")


def _label_file(root: Path, image: str) -> Path | None:
    found = [path for path in _label_places(root, image) if path.is_file()]
    if len(found) > 1:
        raise DataError(f"{image}: has labels in both {found[0]} and {found[1]}; remove one of them")
    return found[0] if found else None


def _classes(path: Path, names: dict[int, str]) -> list[int]:
    classes = {}
    for number, line in enumerate(read_lines(path), 1):
        word = line.split()[0]
        if not (word.isdecimal() and int(word) in names):
            expected = (
                f"0 to {len(names) - 1}" if list(names) == list(range(len(names))) else ", ".join(map(str, names))
            )
            raise DataError(f"{path}: line {number}: unknown class {word!r}; expected {expected}")
        classes[int(word)] = None
    return list(classes)
