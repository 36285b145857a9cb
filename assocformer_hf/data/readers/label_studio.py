"""Label Studio's JSON."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from assocformer_hf.data.readers.files import image_file, is_image_name, read_json, require_files
from assocformer_hf.data.readers.reader import Match, Reader, Splits
from assocformer_hf.data.schema import DataError, LabelledImages

# Kinds of results whose value has a list of labels under the name of the kind, besides those that end in `labels`;
# `taxonomy` has a list of paths of labels.
LABEL_KINDS = ("choices", "taxonomy")
# Kinds that say nothing about labels: texts, numbers, and shapes whose labels come as a result of their own.
OTHER_KINDS = (
    "textarea", "number", "rating", "datetime", "pairwise", "ranker", "relation", "rectangle", "polygon", "brush",
    "bitmask", "ellipse", "keypoint", "vector", "magicwand", "cube",
)  # fmt: skip
SHORT_KEYS = ("choice", "choices", "label", "labels", "tag", "tags", "class", "classes", "category", "categories")


class LabelStudioReader(Reader):
    """A Label Studio export, JSON or JSON-MIN: choices and the labels of regions.

    A label on which the annotators of an image disagree is unknown. Tasks that nobody has annotated are left out. The
    images are in `data_dir`, or in the folder of the file or `images` in it; of a URL or upload path the longest end
    counts that is a file there.
    """

    form = "label_studio"
    looks_for = "a JSON file of Label Studio tasks"

    def matches(self, source: Path) -> Match:
        return Match.SURE if _files(source) else Match.NO

    def read(self, source: Path) -> Splits:
        files = _files(source)
        if len(files) != 1:
            raise DataError(
                f"{files[0]} and {files[1].name} both hold tasks; give one of them as the dataset"
                if files
                else f"{source}: no JSON file of Label Studio tasks"
            )
        return {None: lambda: self._read_tasks(files[0])}

    def _read_tasks(self, path: Path) -> LabelledImages:
        places = [self.data_dir] if self.data_dir else [path.parent.resolve(), path.parent.resolve() / "images"]
        found, open_tasks = LabelledImages(str(path)), 0
        for number, task in enumerate(read_json(path), 1):
            if not isinstance(task, dict):
                raise DataError(f"{path}: entry {number} is not a task")
            origin = f"{path}: task {task.get('id', number)}"
            given = [set(labels) for labels in _annotations(task, origin)]
            if given:
                agreed = set.intersection(*given)
                image = _image(task.get("data", task), places, origin)
                found.add(image, sorted(agreed), sorted(set.union(*given) - agreed))
            open_tasks += not given
        if not found.images:
            raise DataError(f"{path}: no task is annotated")
        require_files(found)
        if open_tasks:
            found.left_out[f"{open_tasks} tasks"] = "nobody has annotated them"
        return found


def _files(source: Path) -> list[Path]:
    """The JSON files of tasks: the path itself, or those in the folder."""
    files = [source] if source.is_file() else sorted(source.glob("*.json"))
    return [file for file in files if file.suffix == ".json" and _holds_tasks(file)]


def _holds_tasks(path: Path) -> bool:
    """Whether JSON is a list of tasks, full (`data`, `annotations`) or short (JSON-MIN)."""
    try:
        content = read_json(path)
    except DataError:
        return False
    if not (isinstance(content, list) and content and isinstance(content[0], dict)):
        return False
    return "data" in content[0] or bool({"annotator", "annotation_id", "lead_time"} & content[0].keys())


def _annotations(task: dict, origin: str) -> Iterator[list[str]]:
    """The labels that each annotator gave."""
    if "data" not in task:
        # Text is a label only where its key says so: others may be data, such as a caption.
        single = [task[key] for key in SHORT_KEYS if isinstance(task.get(key), str)]
        yield [*single, *(label for value in task.values() for label in _short_labels(value, origin))]
        return
    done = task.get("annotations", task.get("completions")) or []
    if not isinstance(done, list) or not all(isinstance(entry, dict) for entry in done):
        raise DataError(f"{origin}: its annotations are not a list of annotations")
    for entry in done:
        if not entry.get("was_cancelled"):
            results = entry.get("result") or []
            if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
                raise DataError(f"{origin}: the result of an annotation is not a list of regions")
            yield [label for result in results for label in _result_labels(result, origin)]


def _result_labels(result: dict, origin: str) -> list[str]:
    """The labels of one choice or region."""
    kind, value = result.get("type"), result.get("value")
    if isinstance(kind, str) and (kind in LABEL_KINDS or kind.lower().endswith("labels")):
        if not isinstance(value, dict):
            raise DataError(f"{origin}: a result of kind {kind!r} without a value")
        return _names(value.get(kind, []), kind, origin)
    if kind not in OTHER_KINDS:
        raise DataError(f"{origin}: a result of an unknown kind, {kind!r}: cannot say whether it has labels; remove it")
    return []


def _short_labels(value, origin: str) -> Iterator[str]:
    """The labels in an entry of a short task: choices, or a list of regions."""
    for region in value if isinstance(value, list) else [value]:
        if isinstance(region, dict):
            kinds = [kind for kind in region if kind in LABEL_KINDS or kind.lower().endswith("labels")]
            for kind in kinds:
                yield from _names(region[kind], kind, origin)
            if isinstance(value, list) and not kinds:
                shown = ", ".join(map(str, region))
                raise DataError(f"{origin}: a region of an unknown kind ({shown}): cannot say whether it has labels")


def _names(labels, kind: str, origin: str) -> list[str]:
    if kind == "taxonomy" and isinstance(labels, list):
        labels = [path[-1] if isinstance(path, list) and path else path for path in labels]
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{origin}: {kind} is not a list of names")
    return labels


def _image(data, places: list[Path], origin: str) -> str:
    values = data.values() if isinstance(data, dict) else []
    urls = [value for value in values if isinstance(value, str) and any(map(is_image_name, _names_in_url(value)))]
    if not urls:
        raise DataError(
            f"{origin}: no image among {', '.join(map(str, data)) if isinstance(data, dict) else repr(data)}"
        )
    if len(set(urls)) > 1:
        raise DataError(f"{origin}: two images, {urls[0]} and {urls[1]}; a task must have one")
    name = next(name for name in _names_in_url(urls[0]) if is_image_name(name))
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    tails = ["/".join(parts[i:]) for i in range(len(parts))]
    prefix, dash, uploaded = parts[-1].partition("-")  # uploads get a prefix of eight characters
    tails += [uploaded] if dash and uploaded and len(prefix) == 8 else []
    candidates = [image_file(place, tail, origin) for tail in tails if ".." not in tail for place in places]
    if not candidates:
        raise DataError(f"{origin}: {name} leads out of the folder of the images")
    return next((path for path in candidates if os.path.isfile(path)), candidates[-1])


def _names_in_url(url: str) -> list[str]:
    """The path of a URL, and the one in its query `?d=` (local files)."""
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL after all
        return [url]
    return [name for name in (*parse_qs(parts.query).get("d", []), unquote(parts.path), url) if name]
