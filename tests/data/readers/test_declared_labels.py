"""Labels that a source does not declare are unknown for its images, not absent."""

import json

import datasets
import pytest

from assocformer_hf.data.load import load_multilabel_dataset, load_split
from assocformer_hf.data.schema import DataError, label_names
from tests.data.readers.files import labels_by_file, picture

NAMES = ["red", "green", "blue"]


def write_coco(folder, *declared: str):
    """Two images of which the first is red, in a file that declares some labels, the first of them red."""
    for name in ("a.jpg", "b.jpg"):
        picture(folder / name)
    body = {
        "images": [{"id": 0, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(declared)],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 0}],
    }
    (folder / "_annotations.coco.json").write_text(json.dumps(body))
    return folder


def write_yolo(folder):
    for name, line in (("a", "0 .5 .5 .1 .1"), ("b", "")):
        picture(folder / f"images/{name}.jpg")
        (folder / "labels").mkdir(exist_ok=True)
        (folder / f"labels/{name}.txt").write_text(line)
    (folder / "data.yaml").write_text("names: [red]\ntrain: images\n")
    return folder


def write_cvat(folder):
    for name in ("a.jpg", "b.jpg"):
        picture(folder / "images" / name)
    meta = "<meta><task><labels><label><name>red</name></label></labels></task></meta>"
    images = '<image id="0" name="a.jpg"><tag label="red"/></image><image id="1" name="b.jpg"/>'
    (folder / "annotations.xml").write_text(f"<annotations>{meta}{images}</annotations>")
    return folder


def write_classes(folder, classes=("red",), rows=((0,), ()), name="train.parquet"):
    """The two images in a Parquet file whose label column has classes."""
    for file in ("a.jpg", "b.jpg"):
        picture(folder / file)
    kinds = {"image": datasets.Image(), "labels": datasets.List(datasets.ClassLabel(names=list(classes)))}
    columns = {"image": [str(folder / "a.jpg"), str(folder / "b.jpg")], "labels": list(map(list, rows))}
    datasets.Dataset.from_dict(columns, features=datasets.Features(kinds)).to_parquet(folder / name)
    return folder / name


@pytest.mark.parametrize("write", [lambda folder: write_coco(folder, "red"), write_yolo, write_cvat, write_classes])
def test_labels_that_are_not_declared_are_unknown(tmp_path, write):
    source = write(tmp_path)
    whole = load_split(source, "all", label_names=NAMES)
    assert (whole["labels"], whole["unknown"]) == ([[0], []], [[1, 2], [1, 2]])
    assert "green, blue: not declared by" in whole.info.description
    assert "unknown" not in load_split(source, "all").column_names


def test_each_split_declares_for_itself(tmp_path):
    write_coco(tmp_path / "train", "red", "green")
    write_coco(tmp_path / "valid", "red")
    splits = load_multilabel_dataset(tmp_path, label_names=["red", "green"])
    assert labels_by_file(splits["train"]) == {"a.jpg": (["red"], []), "b.jpg": ([], [])}
    assert labels_by_file(splits["validation"]) == {"a.jpg": (["red"], ["green"]), "b.jpg": ([], ["green"])}
    assert f"green: not declared by {tmp_path / 'valid'}/_annotations.coco.json, unknown there" in splits.summary.notes


def test_a_source_that_declares_none_of_the_labels_is_refused(tmp_path):
    write_coco(tmp_path, "yellow", "white")
    (tmp_path / "_annotations.coco.json").write_text(
        (tmp_path / "_annotations.coco.json").read_text().replace('"category_id": 0', '"category_id": 1')
    )
    with pytest.raises(DataError, match=r"coco.json: .*a.jpg: unknown label 'white'; expected one of yellow, red; ren"):
        load_split(tmp_path, "all", label_names=["yellow", "red"])
    body = json.loads((tmp_path / "_annotations.coco.json").read_text())
    (tmp_path / "_annotations.coco.json").write_text(json.dumps(body | {"annotations": []}))
    with pytest.raises(DataError, match="declares none of the labels red, green; it declares yellow, white: rename"):
        load_split(tmp_path, "all", label_names=["red", "green"])


def test_classes_that_say_yes_and_no_of_each_label_declare_none(tmp_path):
    source = write_classes(tmp_path, ("no", "yes"), [(1, 0, 0), (0, 0, 1)])
    whole = load_split(source, "all", label_names=NAMES)
    assert label_names(whole) == NAMES
    assert whole["labels"] == [[0], [2]]
    assert "unknown" not in whole.column_names


def test_a_stream_knows_what_its_classes_declare(tmp_path, caplog):
    source = write_classes(tmp_path, ("red", "blue"))
    stream = load_multilabel_dataset(source, streaming=True, label_names=NAMES)["train"]
    assert [(one["labels"], one["unknown"]) for one in stream] == [([0], [1]), ([], [1])]
    assert "not declared there, and unknown: green" in caplog.text
