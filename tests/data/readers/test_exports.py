"""Exports of annotation tools as the tools write them, with their odd cases."""

import json

import pytest
from PIL import Image

from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.schema import DataError, label_names


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def labels_by_file(split) -> dict:
    names = label_names(split)
    unknown = split["unknown"] if "unknown" in split.column_names else [[]] * len(split)
    files = [image["path"].rpartition("/")[2] for image in split.with_format("arrow")[:]["image"].to_pylist()]
    return {
        file: ([names[i] for i in row], [names[i] for i in others])
        for file, row, others in zip(files, split["labels"], unknown, strict=True)
    }


@pytest.fixture
def roboflow(tmp_path):
    """YOLO as Roboflow writes it: paths as seen from a folder below, names by number."""
    for split, name in (("train", "a.jpg"), ("train", "b.png"), ("valid", "c.jpg")):
        picture(tmp_path / split / "images" / name)
        (tmp_path / split / "labels").mkdir(exist_ok=True)
    (tmp_path / "train/labels/a.txt").write_text("1 0.5 0.5 1 1\r\n0 0.1 0.1 0.2 0.2\r\n1 0.2 0.2 0.1 0.1\r\n")
    (tmp_path / "valid/labels/c.txt").write_text("1 0.1 0.1 0.3 0.1 0.2 0.4\n")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: {0: Katze, 1: Hündin}\n")
    return tmp_path


def test_yolo_of_roboflow(roboflow):
    for source in (roboflow, roboflow / "data.yaml"):
        splits = load_multilabel_dataset(source)
        assert label_names(splits["train"]) == ["Katze", "Hündin"]
        assert labels_by_file(splits["train"]) == {"a.jpg": (["Katze", "Hündin"], []), "b.png": ([], [])}
        assert labels_by_file(splits["validation"]) == {"c.jpg": (["Hündin"], [])}


def test_wrong_yolo_is_named(roboflow):
    (roboflow / "valid/labels/c.txt").write_text("0 0 0 1 1\n2 0 0 1 1\n")
    with pytest.raises(DataError, match=r"valid/labels/c.txt: line 2: unknown class '2'; expected 0 to 1"):
        load_multilabel_dataset(roboflow)
    (roboflow / "data.yaml").write_text("train: ../elsewhere/images\nnames: [a]\n")
    with pytest.raises(DataError, match=r"data.yaml: ../elsewhere/images: no such folder below"):
        load_multilabel_dataset(roboflow)
    (roboflow / "data.yaml").write_text("names: [a]\n")
    with pytest.raises(DataError, match=r"data.yaml: names no images; expected an entry train"):
        load_multilabel_dataset(roboflow)


def test_coco_of_roboflow(tmp_path):
    for split in ("train", "valid", "test"):
        picture(tmp_path / split / "x.jpg")
        body = {"images": [{"id": 0, "file_name": "x.jpg"}], "categories": [{"id": 3, "name": "ship"}]}
        body["annotations"] = [{"id": 1, "image_id": 0, "category_id": 3}]
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(body))
    splits = load_multilabel_dataset(tmp_path)
    assert {name: labels_by_file(split) for name, split in splits.items()} == dict.fromkeys(
        ("train", "validation", "test"), {"x.jpg": (["ship"], [])}
    )
    body["categories"] = [{"id": 3, "name": "boat"}]
    (tmp_path / "valid/_annotations.coco.json").write_text(json.dumps(body))
    with pytest.raises(DataError, match=r"declare different labels \(only one has boat, ship\); give the label set"):
        load_multilabel_dataset(tmp_path)


def region(kind, *labels):
    return {"type": kind, "from_name": "x", "value": {"x": 1, "y": 2, kind: list(labels)}}


def test_label_studio_with_regions_disagreement_and_local_files(tmp_path):
    for name in ("one.jpg", "two.jpg", "three.jpg", "four.jpg", "sub/five.jpg"):
        picture(tmp_path / "images" / name)
    tasks = [
        ("/data/upload/7/0a1b2c3d-one.jpg", [[region("rectanglelabels", "car"), region("choices", "day", "wet")]]),
        ("/data/local-files/?d=somewhere/two.jpg", [[region("choices", "day")], [region("choices", "night")]]),
        ("s3://bucket/path/three.jpg", [[region("taxonomy", ["place", "road"], ["place", "city"])]]),
        ("http://host/four.jpg", []),
        ("http://host/sub/five.jpg?token=1", [[{"type": "textarea", "value": {"text": ["a remark"]}}]]),
    ]
    content = [
        {"id": i, "data": {"text": "a caption", "image": url}, "annotations": [{"result": r} for r in results]}
        for i, (url, results) in enumerate(tasks)
    ]
    content[1]["annotations"].append({"was_cancelled": True, "result": [region("choices", "wet")]})
    (tmp_path / "export.json").write_text(json.dumps(content))
    splits = load_multilabel_dataset(tmp_path, validation_share=0.25)
    found = labels_by_file(splits["train"]) | labels_by_file(splits["validation"])
    assert found == {
        "one.jpg": (["car", "day", "wet"], []),
        "two.jpg": ([], ["day", "night"]),
        "three.jpg": (["city", "road"], []),
        "five.jpg": ([], []),
    }


def test_label_studio_in_its_short_form(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        picture(tmp_path / name)
    rows = [
        {"image": "/data/upload/1/a.jpg", "id": 1, "choice": "cat", "caption": "no label", "annotator": 1},
        {"image": "/data/upload/1/b.jpg", "id": 2, "choice": {"choices": ["cat", "dog"]}, "annotator": 1},
        {"image": "/data/upload/1/c.jpg", "id": 3, "label": [{"rectanglelabels": ["dog"], "x": 1}], "annotator": 1},
    ]
    (tmp_path / "min.json").write_text(json.dumps(rows))
    splits = load_multilabel_dataset(tmp_path / "min.json", validation_share=0.34)
    found = labels_by_file(splits["train"]) | labels_by_file(splits["validation"])
    assert found == {"a.jpg": (["cat"], []), "b.jpg": (["cat", "dog"], []), "c.jpg": (["dog"], [])}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/data/upload/1/gone.jpg", r"gone.jpg: missing, with 0 more of the 1 images that .*export.json lists"),
        ("../../secret.jpg", r"secret.jpg: missing"),
        ("no image", r"export.json: task 5: no image among image"),
    ],
)
def test_label_studio_images_that_are_not_there(tmp_path, url, message):
    task = {"id": 5, "data": {"image": url}, "annotations": [{"result": [region("choices", "cat")]}]}
    (tmp_path / "inside").mkdir()
    picture(tmp_path / "secret.jpg")
    (tmp_path / "inside/export.json").write_text(json.dumps([task]))
    with pytest.raises(DataError, match=message):
        load_multilabel_dataset(tmp_path / "inside")


def test_cvat_shapes_of_a_task_and_missing_images(tmp_path):
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "images/deep/b.png")
    label = "<meta><task><labels><label><name>cat</name></label><label><name>dog</name></label></labels></task></meta>"
    shapes = '<box label="dog" xtl="1"/><polygon label="cat" points="1,2"/><box label="dog"/>'
    images = f'<image id="0" name="a.png">{shapes}</image><image id="1" name="deep/b.png"/>'
    xml = tmp_path / "annotations.xml"
    xml.write_text(f"<annotations><version>1.1</version>{label}{images}</annotations>")
    splits = load_multilabel_dataset(tmp_path, validation_share=0.5)
    found = labels_by_file(splits["train"]) | labels_by_file(splits["validation"])
    assert label_names(splits["train"]) == ["cat", "dog"]
    assert found == {"a.png": (["cat", "dog"], []), "b.png": ([], [])}
    (tmp_path / "images/a.png").unlink()
    with pytest.raises(DataError, match=r"images/a.png: missing, with 0 more of the 2 images"):
        load_multilabel_dataset(tmp_path)
    xml.write_text(xml.read_text().replace('name="a.png"', 'name="../../a.png"'))
    with pytest.raises(DataError, match=r"annotations.xml: ../../a.png leads out of"):
        load_multilabel_dataset(tmp_path)


def test_the_form_can_be_chosen_where_two_fit(roboflow):
    (roboflow / "labels.csv").write_text("file_name,labels\ntrain/images/a.jpg,x\nvalid/images/c.jpg,y\n")
    with pytest.raises(DataError, match=r"reads as table \(.*\) and yolo \(data.yaml.*\); choose one as form"):
        load_multilabel_dataset(roboflow)
    by_table = load_multilabel_dataset(roboflow, validation_share=0.5, form="table")
    assert label_names(by_table["train"]) == ["x", "y"]
    assert label_names(load_multilabel_dataset(roboflow, form="yolo")["train"]) == ["Katze", "Hündin"]
