"""Generated trees of files: what comes out is the right table or an error of one line, never another table."""

import csv
import io
import json
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import pandas
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.schema import DataError
from tests.data.readers.files import by_file

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
JUNK = st.sampled_from([None, "", {}, 1.5, True, -7, ["x"], {"a": 1}, [[]], [None]])
FILES = ("a.jpg", "b.jpg", "ü c.jpg", "d.e.jpg")
LABELS = {"a.jpg": {"cat"}, "b.jpg": {"cat", "dog"}, "ü c.jpg": set(), "d.e.jpg": {"dog"}}


@contextmanager
def tree():
    """A folder with images; no reader opens them."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder).resolve() / "data"
        (folder / "images").mkdir(parents=True)
        for name in FILES:
            (folder / "images" / name).write_bytes(b"image")
        yield folder


def read(source, **options) -> dict[str, set[str]] | None:
    """The labels of each file; None after an error of one line."""
    try:
        splits = load_multilabel_dataset(source, validation_share=0.5, **options)
    except DataError as error:
        message = str(error)
    else:
        return {file: set(labels) for file, (labels, _) in by_file(splits).items()}
    assert len(message.splitlines()) == 1
    return None


def nodes(content, path=()) -> list[tuple]:
    """The places in nested lists and dicts."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path + (key,) for key, _ in inside] + [p for key, value in inside for p in nodes(value, path + (key,))]


def replaced(content, path: tuple, value):
    content = deepcopy(content)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content


def coco() -> tuple[str, object]:
    names = ["cat", "dog"]
    pairs = [(i, names.index(label)) for i, file in enumerate(FILES) for label in sorted(LABELS[file])]
    body = {
        "images": [{"id": i, "file_name": file} for i, file in enumerate(FILES)],
        "annotations": [{"id": k, "image_id": i, "category_id": c} for k, (i, c) in enumerate(pairs)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
    }
    return "labels.json", body


def label_studio() -> tuple[str, object]:
    def task(i: int, file: str):
        result = [{"type": "choices", "value": {"choices": [label]}} for label in sorted(LABELS[file])]
        return {"id": i, "data": {"image": f"/data/{file}"}, "annotations": [{"result": result}]}

    return "tasks.json", [task(i, file) for i, file in enumerate(FILES)]


def label_studio_short() -> tuple[str, object]:
    rows = [{"image": f, "choice": {"choices": sorted(LABELS[f])}, "annotator": 1, "id": 2} for f in FILES]
    return "tasks.json", rows


def json_lines() -> tuple[str, object]:
    return "metadata.jsonl", [{"file_name": f"images/{f}", "labels": sorted(LABELS[f])} for f in FILES]


def written(name: str, content) -> str:
    return "".join(json.dumps(row) + "\n" for row in content) if name.endswith(".jsonl") else json.dumps(content)


@pytest.mark.parametrize("form", [coco, label_studio, label_studio_short, json_lines], ids=lambda form: form.__name__)
@QUICK
@given(data=st.data())
def test_wrong_types_anywhere_in_json(form: Callable, data):
    """One value in the file is of a wrong type: its entry is unused or the file is refused; no label is lost."""
    name, content = form()
    path = data.draw(st.sampled_from(nodes(content)))
    junk = data.draw(JUNK)
    with tree() as folder:
        (folder / name).write_text(written(name, replaced(content, path, junk)), encoding="utf-8")
        found = read(folder)
    if found is not None:
        # What is left out as a whole, such as a task whose annotations are none, must not come with other labels.
        maybe = {file for file in LABELS if is_list_of(content, path, file)}
        allowed = {file: (labels, set()) if file in maybe else (labels,) for file, labels in LABELS.items()}
        assert found.keys() <= LABELS.keys()
        assert all(labels in allowed[file] for file, labels in found.items()), (path, junk, found)
        if form in (coco, json_lines):
            assert found.keys() == LABELS.keys()


def is_list_of(content, path: tuple, file: str) -> bool:
    """Whether the place is a row's own list of labels, which may be nothing."""
    place = content
    for key in path:
        place = place[key]
    return isinstance(place, list) and file in json.dumps(content[path[0]], ensure_ascii=False) if path else False


SPELLINGS = {"train": ("train", "Train", "training", "TRAIN"), "validation": ("val", "valid", "Validation", "dev")}


@st.composite
def tables(draw):
    """A table in some notation with the labels of each row and its split, maybe with collisions and missing parts."""
    rows = [{"file": draw(st.sampled_from(FILES)), "labels": draw(st.sets(st.sampled_from(["cat", "dog", "a b"])))}
            for _ in range(draw(st.integers(2, 6)))]  # fmt: skip
    for row in rows:
        row["split"] = draw(st.sampled_from(SPELLINGS[draw(st.sampled_from(["train", "validation"]))]))
    header = draw(
        st.sampled_from([("file_name", "labels", "split"), ("Image", "Tags", "Split"), ("path", "label", "set")])
    )
    if draw(st.booleans()):
        rows[0]["file"] = draw(st.sampled_from(["gone.jpg", "../x.jpg", "", " ", "a.jpg\0", "images"]))
    return header, rows, draw(st.sampled_from("|;,")), draw(st.sampled_from([",", ";", "\t"]))


@QUICK
@given(table=tables())
def test_tables_with_collisions(table):
    header, rows, delimiter, separator = table
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    writer.writerow(header)
    for row in rows:
        writer.writerow([row["file"], delimiter.join(sorted(row["labels"])), row["split"]])
    with tree() as folder:
        (folder / "images/table.csv").write_text(text.getvalue(), encoding="utf-8")
        found = read(folder / "images/table.csv", delimiter=delimiter)
    if found is not None:
        assert found == {row["file"]: union(rows, row["file"]) for row in rows}


def union(rows: list[dict], file: str) -> set[str]:
    return set().union(*(row["labels"] for row in rows if row["file"] == file))


NUMBERS = st.one_of(st.integers(0, 4), st.sampled_from(["0", "1", "x", " 2"]))


@QUICK
@given(
    names=st.dictionaries(NUMBERS, st.one_of(st.sampled_from(["cat", "dog", "no", "1"]), JUNK), max_size=4),
    classes=st.lists(st.sampled_from(["0", "1", "2", "3", "-1", "x", "1.0", "²"]), max_size=3),
    beside=st.booleans(), parent=st.sampled_from(["data", "images", "labels"]),
)  # fmt: skip
def test_yolo_with_any_names_and_classes(names, classes, beside, parent):
    with tree() as folder:
        root = folder / parent
        place = root / "images/train"
        place.mkdir(parents=True, exist_ok=True)
        for file in ("a.jpg", "b.jpg"):
            (place / file).write_bytes(b"image")
        labels = place if beside else root / "labels/train"
        labels.mkdir(parents=True, exist_ok=True)
        (labels / "a.txt").write_text("".join(f"{c} 0 0 1 1\n" for c in classes), encoding="utf-8")
        (root / "data.yaml").write_text(yaml.safe_dump({"names": names, "train": "images/train"}), encoding="utf-8")
        found = read(root / "data.yaml")
    if found is not None:
        as_text = yaml.load(yaml.safe_dump(names), yaml.BaseLoader)  # none is null there, and true is true
        by_number = {int(key): value for key, value in as_text.items()}
        assert found == {"a.jpg": {by_number[int(c)] for c in classes}, "b.jpg": set()}


CONTENTS = (
    b"", b"\xff\xfe\x00", b"{", b"[]", b"[[[[", b"{}", b"null",
    b"file_name,labels\nimages/a.jpg,cat\nimages/b.jpg,dog\n",
    b'"a\nb', b"names: [cat]\ntrain: images\n", b"names: &a [*a]\n", b"!!python/object:os.system x", b"<annotations/>",
    b"<annotation><object/></annotation>", b"<annotations><image/></annotations>", b"<a", b"PAR1PAR1", b"a\n",
    b'<?xml version="1.0" encoding="utf-7"?><annotations/>', b'{"images": [], "annotations": [], "categories": []}',
    b'[{"data": null}]', b'{"splits": ["train"]}', b'{"file_name": "images/a.jpg", "labels": {"x": 1}}',
)  # fmt: skip
PLACES = (
    "metadata.csv", "metadata.jsonl", "train.csv", "Train.csv", "val.tsv", "x.parquet", "train.parquet", "data.yaml",
    "b.yml", "annotations.xml", "a.xml", "annotations/instances_train.json", "annotations/x.json", "x.json", "y.json",
    "train/_classes.csv", "train/metadata.csv", "ImageSets/Main/train.txt", "Annotations/a.xml", "train-0.tar",
    "b.tar", "images/a.xml", "train/cat/a.jpg", "train/dog/b.jpg", "state.json", "dataset_dict.json", "labels/a.txt",
    "é\x01.csv",
)  # fmt: skip


@settings(QUICK, max_examples=80)
@given(files=st.dictionaries(st.sampled_from(PLACES), st.sampled_from(CONTENTS), min_size=1, max_size=4))
@example(files={"dataset_dict.json": b"{}"})
def test_any_tree_is_read_or_refused(files):
    with tree() as folder:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        read(folder)
        for name in files:
            read(folder / name)


CELLS = st.sampled_from(["cat", "a.jpg", b"x", 0, 1, float("nan"), 10**30])


@QUICK
@given(
    columns=st.dictionaries(
        st.sampled_from(["image", "labels", "tags", "split", "unknown", "cat", "is_valid", 3]),
        st.lists(st.one_of(JUNK, CELLS), min_size=2, max_size=2),
    ),
    frame=st.booleans(),
)  # fmt: skip
def test_any_rows_in_memory_are_read_or_refused(columns, frame):
    rows = [{key: values[i] for key, values in columns.items()} for i in range(2)]
    with tree() as folder:
        read(pandas.DataFrame(columns) if frame else rows, data_dir=folder / "images")
