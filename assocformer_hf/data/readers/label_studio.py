"""Label Studio's JSON."""

import os
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from assocformer_hf.data.readers.files import image_file, is_image_name, read_json
from assocformer_hf.data.readers.reader import Match, Reader, Splits
from assocformer_hf.data.readers.rows import divided_by_folder
from assocformer_hf.data.schema import DataError, LabelledImages

# Kinds of results whose value has a list of labels under the name of the kind, besides those that end in `labels`;
# `taxonomy` has a list of paths of labels.
LABEL_KINDS = ("choices", "taxonomy")
# Kinds that say nothing about labels: texts, numbers, and shapes whose labels come as a result of their own.
OTHER_KINDS = (
    "textarea", "number", "rating", "datetime", "pairwise", "ranker", "relation", "rectangle", "polygon", "brush",
    "bitmask", "ellipse", "keypoint", "vector", "magicwand", "cube",
)  # fmt: skip
# Of JSON-MIN: keys whose text is a label, and those that Label Studio writes beside the data and the labels.
SHORT_KEYS = ("choice", "choices", "label", "labels", "tag", "tags", "class", "classes", "category", "categories")
OWN_KEYS = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "inner_id")


class Choice(NamedTuple):
    """A label that an annotator gave.

    Attributes:
        name: of the label.
        question: of which it is an answer; None for the label of a region.
        parents: above it in a taxonomy.
    """

    name: str
    question: str | None
    parents: tuple[str, ...]


class LabelStudioReader(Reader):
    """A Label Studio export, JSON or JSON-MIN: choices and the labels of regions.

    A label on which the annotators of an image disagree is unknown. Tasks that nobody has annotated are left out. The
    images are in `data_dir`, or in the folder of the file or `images` in it; of a URL or upload path the longest end
    counts that is a file there. Images in folders of splits are of these.
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
        parts = divided_by_folder(self._read_tasks(files[0]))
        return {split: lambda part=part: part for split, part in parts.items()}

    def _read_tasks(self, path: Path) -> LabelledImages:
        places = [self.data_dir] if self.data_dir else [path.parent.resolve(), path.parent.resolve() / "images"]
        found, open_tasks = LabelledImages(str(path)), 0
        tasks = read_json(path)
        for number, task in enumerate(tasks, 1):
            if not isinstance(task, dict):
                raise DataError(f"{path}: entry {number} is not a task")
        questions = _questions(tasks)
        origins = [f"{path}: task {task.get('id', number)}" for number, task in enumerate(tasks, 1)]
        answers = [list(_annotations(*each, questions)) for each in zip(tasks, origins, strict=True)]
        data = _data_keys(tasks, answers, questions)
        for entries in _entries_of_tasks(tasks):
            task, origin = tasks[entries[0]], origins[entries[0]]
            given = [{choice.name for choice in choices} for entry in entries for choices in answers[entry]]
            unclear = [] if any(given) else [key for key in _other_texts(task, questions) if key not in data]
            if unclear:
                raise DataError(
                    f"{origin}: no labels, but {task[unclear[0]]!r:.40} as {unclear[0]!r}, which may be a single "
                    "choice or data of the task; export as JSON, which tells them apart"
                )
            if given:
                agreed = set.intersection(*given)
                image = _image(task.get("data", task), places, origin)
                found.add(image, sorted(agreed), sorted(set.union(*given) - agreed))
            open_tasks += not given
        if not found.images:
            raise DataError(f"{path}: no task is annotated")
        _refuse_shared_names([choices for annotations in answers for choices in annotations], path)
        for key in sorted(data):
            found.left_out[f"the text {key!r}"] = "may be data of the tasks, such as a caption"
        if open_tasks:
            found.left_out[f"{open_tasks} tasks"] = "nobody has annotated them"
        return found


def _entries_of_tasks(tasks: list[dict]) -> list[list[int]]:
    """Which entries are of one task: JSON-MIN has one for each of its annotators, all with the task's id."""
    entries: dict[object, list[int]] = {}
    for number, task in enumerate(tasks):
        shared = "data" not in task and isinstance(task.get("id"), (int, str))
        entries.setdefault(("id", task["id"]) if shared else number, []).append(number)
    return list(entries.values())


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


def _questions(tasks: list[dict]) -> set[str]:
    """The keys of short tasks whose text is a label: those with a usual name, and those of several choices elsewhere.

    A single choice is text, several are a dictionary.
    """
    several = {
        key
        for task in tasks
        for key, value in task.items()
        for one in (value if isinstance(value, list) else [value])
        if isinstance(one, dict) and "choices" in one
    }
    return several.union(SHORT_KEYS)


def _data_keys(tasks: list[dict], answers: list[list[list[Choice]]], questions: set[str]) -> set[str]:
    """The keys of short tasks whose text is taken for data of the task: those that tasks with labels have too."""
    labelled = [task for task, annotations in zip(tasks, answers, strict=True) if any(annotations)]
    return {key for task in labelled for key in _other_texts(task, questions)}


def _other_texts(task: dict, questions: set[str]) -> Iterator[str]:
    """The keys of a short task whose text may be data of the task or a single choice."""
    for key, value in () if "data" in task else task.items():
        texts = value if isinstance(value, list) else [value]
        is_text = bool(texts) and all(isinstance(one, str) and one and not _is_image(one) for one in texts)
        if is_text and key not in questions.union(OWN_KEYS):
            yield key


def _annotations(task: dict, origin: str, questions: set[str]) -> Iterator[list[Choice]]:
    """The labels that each annotator gave.

    Args:
        task: full or short.
        origin: what errors call it.
        questions: see [`_questions`].
    """
    if "data" not in task:
        yield [choice for key, value in task.items() for choice in _short_labels(value, key, questions, origin)]
        return
    done = task.get("annotations", task.get("completions")) or []
    if not isinstance(done, list) or not all(isinstance(entry, dict) for entry in done):
        raise DataError(f"{origin}: its annotations are not a list of annotations")
    for entry in done:
        if not entry.get("was_cancelled"):
            results = entry.get("result") or []
            if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
                raise DataError(f"{origin}: the result of an annotation is not a list of regions")
            yield [choice for result in results for choice in _result_labels(result, origin)]


def _refuse_shared_names(annotations: list[list[Choice]], path: Path):
    """One name of two questions that are asked together, or of two places in a taxonomy, would become one label.

    Raises:
        DataError: naming it.
    """
    sources, together = defaultdict(set), set()
    for choices in annotations:
        answered = [choice for choice in choices if choice.question is not None]
        together |= set(combinations(sorted({choice.question for choice in answered}), 2))
        for choice in answered:
            sources[choice.name].add((choice.question, choice.parents))
    for name, places in sources.items():
        for first, second in combinations(sorted(places), 2):
            if first[0] == second[0] or (first[0], second[0]) in together:
                shown = [" / ".join([question, *parents]) for question, parents in (first, second)]
                raise DataError(
                    f"{path}: {name!r} is a choice of {shown[0]!r} and of {shown[1]!r}, and would become one label; "
                    "give them different names, or leave one of the two out of the export"
                )


def _result_labels(result: dict, origin: str) -> list[Choice]:
    """The labels of one choice or region."""
    kind, value = result.get("type"), result.get("value")
    if isinstance(kind, str) and (kind in LABEL_KINDS or kind.lower().endswith("labels")):
        if not isinstance(value, dict):
            raise DataError(f"{origin}: a result of kind {kind!r} without a value")
        return _choices(value.get(kind, []), kind, str(result.get("from_name")), origin)
    if kind not in OTHER_KINDS:
        raise DataError(f"{origin}: a result of an unknown kind, {kind!r}: cannot say whether it has labels; remove it")
    return []


def _short_labels(value, key: str, questions: set[str], origin: str) -> Iterator[Choice]:
    """The labels in an entry of a short task: choices, or a list of regions."""
    for region in value if isinstance(value, list) else [value]:
        if isinstance(region, str) and key in questions:
            yield Choice(region, key, ())
        if isinstance(region, dict):
            kinds = [kind for kind in region if kind in LABEL_KINDS or kind.lower().endswith("labels")]
            for kind in kinds:
                yield from _choices(region[kind], kind, key, origin)
            if isinstance(value, list) and not kinds:
                shown = ", ".join(map(str, region))
                raise DataError(f"{origin}: a region of an unknown kind ({shown}): cannot say whether it has labels")


def _choices(given, kind: str, question: str, origin: str) -> list[Choice]:
    """The labels of a kind; of a path in a taxonomy, its end."""
    entries = given if isinstance(given, list) else [None]
    paths = [entry if isinstance(entry, list) and kind == "taxonomy" else [entry] for entry in entries]
    if not all(path and isinstance(path[-1], str) for path in paths):
        raise DataError(f"{origin}: {kind} is not a list of names")
    asked = question if kind in LABEL_KINDS else None
    return [Choice(path[-1], asked, tuple(map(str, path[:-1]))) for path in paths]


def _image(data, places: list[Path], origin: str) -> str:
    values = data.values() if isinstance(data, dict) else []
    urls = [value for value in values if isinstance(value, str) and _is_image(value)]
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


def _is_image(url: str) -> bool:
    return any(map(is_image_name, _names_in_url(url)))


def _names_in_url(url: str) -> list[str]:
    """The path of a URL, and the one in its query `?d=` (local files)."""
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL after all
        return [url]
    return [name for name in (*parse_qs(parts.query).get("d", []), unquote(parts.path), url) if name]
