"""Exports of annotation tools: YOLO folders, Label Studio's JSON and CVAT's XML for images."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import yaml
from PIL import Image

from assocformer_hf.data.schema import DataError, LabelledImages, image_file, read_text, require_files

SUFFIXES = frozenset(Image.registered_extensions())
YOLO_SPLITS = ("train", "val", "valid", "validation", "test")
# Keys of a Label Studio result whose value is a list of labels; `taxonomy` is a list of paths of labels.
LABEL_KEYS = (
    "choices", "labels", "rectanglelabels", "polygonlabels", "brushlabels", "ellipselabels", "keypointlabels",
    "taxonomy",
)  # fmt: skip
SHORT_KEYS = ("choice", "choices", "label", "labels", "tag", "tags", "class", "classes", "category", "categories")


def image_files(folder: Path) -> list[str]:
    """The paths of the image files in a folder and those below it, by their endings, sorted."""
    found = []
    for parent, _, names in os.walk(folder):
        found += [os.path.join(parent, name) for name in names if os.path.splitext(name)[1].lower() in SUFFIXES]
    return sorted(found)


def find_yolo(path: Path) -> Path | None:
    """The YAML file of a YOLO export: the path itself, or the one in the folder that has `names`."""
    files = [path] if path.is_file() else sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    for file in files:
        if file.suffix in (".yaml", ".yml"):
            content = _read_yaml(file)
            if isinstance(content, dict) and "names" in content:
                return file
    return None


def read_yolo(path: Path, data_dir: Path | None = None) -> dict[str, LabelledImages]:
    """A YOLO export: `data.yaml` with `names` and the splits, and a text file of boxes for each image.

    Only the class at the start of each line counts; an image without a text file has no label.

    Args:
        path: the YAML file.
        data_dir: the folder that its paths are relative to; default: its `path` entry, else its own folder.

    Raises:
        DataError: if a class is not in `names`, or a folder or image is missing.
    """
    content = _read_yaml(path)
    names = content["names"]
    names = [str(names[i]) for i in sorted(names)] if isinstance(names, dict) else [str(name) for name in names]
    own = path.parent.resolve()
    root = own / str(content.get("path") or "")
    root = Path(data_dir).resolve() if data_dir else root.resolve() if root.is_dir() else own
    splits = {}
    for split in (name for name in YOLO_SPLITS if content.get(name)):
        places = content[split] if isinstance(content[split], list) else [content[split]]
        source = LabelledImages(str(path), names=names)
        for image in (image for place in places for image in _yolo_images(root, str(place), path)):
            source.add(image, [names[i] for i in _yolo_classes(image, len(names))])
        require_files(source)
        splits[split] = source
    if not splits:
        raise DataError(f"{path}: names no images; expected an entry train, with val or test where they are apart")
    return splits


def _read_yaml(path: Path):
    try:
        return yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error


def _yolo_images(root: Path, place: str, origin: Path) -> list[str]:
    """The images of a folder, or those that a text file lists."""
    inside = place
    while inside.startswith("../") and not (root / inside).exists():
        inside = inside.removeprefix("../")  # Roboflow writes paths as seen from a folder below
    path = Path(image_file(root, inside, str(origin)))
    if path.is_dir():
        return image_files(path)
    if not path.is_file():
        raise DataError(f"{origin}: {place}: no such folder below {root}; give the export's folder as data_dir")
    return [image_file(root, line.strip(), str(path)) for line in read_text(path).splitlines() if line.strip()]


def _yolo_classes(image: str, count: int) -> list[int]:
    """The classes of an image, from the text file beside it or in `labels` where the image is in `images`."""
    head, separator, tail = image.rpartition("/images/")
    path = Path(f"{head}/labels/{tail}" if separator else image).with_suffix(".txt")
    if not path.is_file():
        return []
    classes = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            word = line.split()[0]
            if not (word.isdecimal() and int(word) < count):
                raise DataError(f"{path}: line {number}: unknown class {word!r}; expected 0 to {count - 1}")
            classes.append(int(word))
    return list(dict.fromkeys(classes))


def is_label_studio(content) -> bool:
    """Whether parsed JSON is a list of Label Studio tasks, full (`data`, `annotations`) or short (JSON-MIN)."""
    if not (isinstance(content, list) and content and all(isinstance(task, dict) for task in content)):
        return False
    return "data" in content[0] or {"annotator", "annotation_id", "lead_time"} & content[0].keys() != set()


def find_label_studio(path: Path) -> Path | None:
    """The JSON file of a Label Studio export: the path itself, or the one in the folder."""
    for file in [path] if path.is_file() else sorted(path.glob("*.json")):
        if file.suffix == ".json":
            try:
                if is_label_studio(json.loads(read_text(file))):
                    return file
            except json.JSONDecodeError:
                continue
    return None


def read_label_studio(path: Path, data_dir: Path | None = None) -> LabelledImages:
    """A Label Studio export, JSON or JSON-MIN: choices and the labels of regions.

    A label on which the annotators of an image disagree is unknown. Tasks that nobody has annotated are left out.

    Args:
        path: the JSON file.
        data_dir: the folder of the images; default: that of the file, or `images` in it. Of a URL or upload path the
            longest end counts that is a file there.

    Raises:
        DataError: if a task has no image, or its file is missing.
    """
    places = [Path(data_dir)] if data_dir else [path.parent, path.parent / "images"]
    places = [place.resolve() for place in places]
    found = LabelledImages(str(path))
    for task in json.loads(read_text(path)):
        origin = f"{path}: task {task.get('id')}"
        given = [set(_label_studio_labels(result)) for result in _label_studio_annotations(task)]
        if given:
            agreed = set.intersection(*given)
            image = _label_studio_image(task.get("data", task), places, origin)
            found.add(image, sorted(agreed), sorted(set.union(*given) - agreed))
    if not found.images:
        raise DataError(f"{path}: no task is annotated")
    require_files(found)
    return found


def _label_studio_annotations(task: dict) -> list:
    """What each annotator gave, as a list of results."""
    if "data" not in task:
        # Text is a label only where its key says so: others may be data, such as a caption.
        single = [{"choices": [task[key]]} for key in SHORT_KEYS if isinstance(task.get(key), str)]
        return [[*single, *task.values()]]
    done = task.get("annotations", task.get("completions", []))
    return [entry.get("result", []) for entry in done if not entry.get("was_cancelled")]


def _label_studio_labels(result) -> Iterator[str]:
    """All labels in a result, wherever they stand."""
    if isinstance(result, list):
        for entry in result:
            yield from _label_studio_labels(entry)
    elif isinstance(result, dict):
        for key, value in result.items():
            if key == "taxonomy" and isinstance(value, list):
                yield from (path[-1] for path in value)
            elif key in LABEL_KEYS and isinstance(value, list):
                yield from value
            else:
                yield from _label_studio_labels(value)


def _is_image(value) -> bool:
    return isinstance(value, str) and any(
        os.path.splitext(name)[1].lower() in SUFFIXES for name in _names_in_url(value)
    )


def _names_in_url(url: str) -> list[str]:
    """The path of a URL, and the one in its query `?d=` (local files)."""
    parts = urlsplit(url)
    return [name for name in (*parse_qs(parts.query).get("d", []), unquote(parts.path), url) if name]


def _label_studio_image(data: dict, places: list[Path], origin: str) -> str:
    url = next((value for value in data.values() if _is_image(value)), None)
    if url is None:
        raise DataError(f"{origin}: no image among {', '.join(data)}")
    name = next(name for name in _names_in_url(url) if os.path.splitext(name)[1].lower() in SUFFIXES)
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    tails = ["/".join(parts[i:]) for i in range(len(parts))]
    prefix, dash, uploaded = parts[-1].partition("-")  # uploads get a prefix of eight characters
    tails += [uploaded] if dash and len(prefix) == 8 else []
    candidates = [image_file(place, tail, origin) for tail in tails if ".." not in tail for place in places]
    if not candidates:
        raise DataError(f"{origin}: {name} leads out of the folder of the images")
    return next((path for path in candidates if os.path.isfile(path)), candidates[-1])


def find_cvat(path: Path) -> Path | None:
    """The XML file of an export "CVAT for images": the path itself, or `annotations.xml` in the folder."""
    file = path if path.is_file() else path / "annotations.xml"
    if file.suffix != ".xml" or not file.is_file():
        return None
    return file if _read_xml(file).tag == "annotations" else None


def read_cvat(path: Path, data_dir: Path | None = None) -> dict[str | None, LabelledImages]:
    """An export "CVAT for images 1.1": tags and the labels of shapes, by subset where there are any.

    Args:
        path: the XML file.
        data_dir: the folder of the images; default: that of the file, or `images` in it.

    Raises:
        DataError: if an image is missing, or a label is not declared in the head of the file.
    """
    root = _read_xml(path)
    names = [entry.text.strip() for entry in root.iterfind("./meta//labels/label/name") if entry.text]
    places = [Path(data_dir)] if data_dir else [path.parent / "images", path.parent]
    places = [place.resolve() for place in places if place.is_dir()]
    splits: dict[str | None, LabelledImages] = {}
    for image in root.iterfind("image"):
        name, subset = image.get("name", ""), image.get("subset")
        candidates = [
            image_file(place, tail, str(path))
            for tail in (f"{subset}/{name}" if subset else name, name)
            for place in places
        ]
        labels = dict.fromkeys(shape.get("label") for shape in image if shape.get("label"))
        source = splits.setdefault(subset, LabelledImages(str(path), names=names or None))
        source.add(next((path for path in candidates if os.path.isfile(path)), candidates[0]), labels)
    if not splits:
        raise DataError(f"{path}: no images")
    for source in splits.values():
        require_files(source)
    return splits


def _read_xml(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not valid XML ({error})") from error
