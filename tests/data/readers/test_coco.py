"""COCO's folder layout, with its odd cases."""

import json

import pytest
from PIL import Image

from assocformer_hf.data.load import load_multilabel_dataset, load_split
from assocformer_hf.data.readers.coco import load_coco
from assocformer_hf.data.schema import DataError, label_names
from tests.data.readers.files import labels_by_file, picture


@pytest.fixture
def folder(tmp_path):
    """Four images; the category ids have gaps and are not in order."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    for i in (1, 2, 3, 9):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / f"val2017/{i:012d}.jpg")
    write(
        tmp_path,
        images=[{"id": i, "file_name": f"{i:012d}.jpg"} for i in (9, 1, 2, 3)],
        annotations=[
            {"id": 1, "image_id": 1, "category_id": 90, "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 90, "iscrowd": 0},  # the same category twice
            {"id": 3, "image_id": 1, "category_id": 3, "iscrowd": 0},
            {"id": 4, "image_id": 2, "category_id": 17, "iscrowd": 1},  # a crowd counts
            {"id": 5, "image_id": 9, "category_id": 17, "iscrowd": 0},
        ],
        categories=[{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}, {"id": 17, "name": "cat"}],
    )
    return tmp_path


def write(folder, **content):
    path = folder / "annotations/instances_val2017.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | content))


def test_labels_are_ordered_by_category_id(folder):
    dataset = load_coco(folder, "val2017")
    assert label_names(dataset) == ["car", "cat", "toothbrush"]
    assert dataset["labels"] == [[1], [0, 2], [1], []]
    assert dataset.column_names == ["image", "labels"]
    assert str(dataset.split) == "val2017"
    assert dataset[1]["image"].getpixel((0, 0))[0] == pytest.approx(20, abs=3)


def test_images_without_annotations_are_kept_or_dropped(folder):
    assert len(load_coco(folder, "val2017")) == 4
    assert load_coco(folder, "val2017", keep_unlabelled=False)["labels"] == [[1], [0, 2], [1]]


def test_missing_images_are_named_and_counted(folder):
    (folder / "val2017/000000000002.jpg").unlink()
    (folder / "val2017/000000000003.jpg").unlink()
    with pytest.raises(DataError, match=r"val2017/000000000002.jpg: missing, with 1 more of the 4 images"):
        load_coco(folder, "val2017")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"annotations": [{"id": 7, "image_id": 555, "category_id": 3}]},
            r"instances_val2017.json: annotation 7 is of image 555, which is not in the list of images",
        ),
        (
            {"annotations": [{"id": 8, "image_id": 1, "category_id": 4}]},
            r"annotation 8 has the category 4, which is not in the list of categories \(ids 3, 17, 90\)",
        ),
        ({"categories": []}, "the names of labels must not be empty, and each only once; got none"),
        (
            {"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]},
            "the categories 1 and 2 are both called 'a'; rename one",
        ),
        (
            {"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 7, "file_name": "b.jpg"}]},
            r"instances_val2017.json: the image id 7 is given to both a.jpg and b.jpg; give each its own",
        ),
        ({"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]}, "category id 3 is given to both a and b"),
        ({"images": [{"id": 1, "file_name": 5}]}, "an entry of images without an id or file_name"),
        ({"images": None}, "not in COCO's format, which has the lists images, annotations, categories"),
    ],
)
def test_inconsistent_annotations_are_named(folder, content, message):
    write(folder, **content)
    with pytest.raises(DataError, match=message):
        load_coco(folder, "val2017")


def test_missing_files_are_named_with_the_way_out(folder):
    with pytest.raises(DataError, match=r"instances_train2017.json: no such file; splits with annotations: val2017"):
        load_coco(folder, "train2017")
    with pytest.raises(DataError, match=r"nowhere: no such folder; give the one that holds `annotations`"):
        load_coco(folder / "nowhere", "val2017")
    (folder / "annotations/instances_val2017.json").write_text('{"images": [')
    with pytest.raises(DataError, match=r"instances_val2017.json: not valid JSON"):
        load_coco(folder, "val2017")
    (folder / "annotations/instances_val2017.json").write_text(f'{{"images": [{"9" * 5000}]}}')
    with pytest.raises(DataError, match=r"instances_val2017.json: not valid JSON .*4300 digits"):
        load_coco(folder, "val2017")


def test_a_missing_image_folder_is_named(folder):
    (folder / "annotations/instances_val2014.json").write_text(
        (folder / "annotations/instances_val2017.json").read_text()
    )
    with pytest.raises(DataError, match=r"val2014: no such folder; the images of the split val2014 belong there"):
        load_coco(folder, "val2014")


def test_real_coco_images(coco_mini):
    train, validation = load_coco(coco_mini, "train2017"), load_coco(coco_mini, "val2017")
    assert (len(train), len(validation)) == (80, 79)
    names = label_names(train)
    assert len(names) == 80
    assert (names[0], names[-1]) == ("person", "toothbrush")
    assert {label for labels in train["labels"] for label in labels} == set(range(80))
    assert min(train[0]["image"].size) > 100


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


@pytest.mark.parametrize("root", ["objects", "cat"])
def test_the_category_above_all_others_is_no_label(tmp_path, root):
    """As Roboflow writes it, also with the name of one of them."""
    picture(tmp_path / "x.jpg")
    below = [{"id": i, "name": name, "supercategory": root} for i, name in ((1, "cat"), (2, "dog"))]
    body = {"images": [{"id": 0, "file_name": "x.jpg"}], "annotations": [{"id": 1, "image_id": 0, "category_id": 2}]}
    body["categories"] = [{"id": 0, "name": root, "supercategory": "none"}, *below]
    (tmp_path / "all.json").write_text(json.dumps(body))
    whole = load_split(tmp_path, "all")
    assert label_names(whole) == ["cat", "dog"]
    assert f"category '{root}' of the id 0 (the supercategory of all others, which no ann" in whole.info.description
    body["annotations"].append({"id": 2, "image_id": 0, "category_id": 0})
    (tmp_path / "all.json").write_text(json.dumps(body))
    if root == "objects":
        assert label_names(load_split(tmp_path, "all")) == ["objects", "cat", "dog"]
    else:
        with pytest.raises(DataError, match="the categories 0 and 1 are both called 'cat'; rename one"):
            load_split(tmp_path, "all")


def write_layouts(folder, *paths) -> None:
    """Files in COCO's format, each of an image of its own beside the JSON or in the folder of its split."""
    for i, path in enumerate(paths):
        picture(folder / f"images/{i}.jpg")
        body = {"images": [{"id": 0, "file_name": f"{i}.jpg"}], "categories": [{"id": 3, "name": "ship"}]}
        body["annotations"] = [{"id": 1, "image_id": 0, "category_id": 3}]
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        (
            ("annotations/instances_train.json", "annotations/instances_val.json", "annotations/test.json"),
            "annotations/instances_train.json and {}/annotations/test.json",
        ),
        (
            ("train/_annotations.coco.json", "valid/_annotations.coco.json", "all.json"),
            "train/_annotations.coco.json and {}/all.json",
        ),
        (("annotations/train.json", "all.json"), "annotations/train.json and {}/all.json"),
    ],
)
def test_two_layouts_in_one_folder_are_refused(tmp_path, paths, shown):
    write_layouts(tmp_path, *paths)
    shown = f"{tmp_path}/{shown.format(tmp_path)}"
    with pytest.raises(DataError, match=f"^{shown} list images in two layouts; bring them into one, or give one"):
        load_multilabel_dataset(tmp_path)


@pytest.mark.parametrize("path", ["all.json", "annotations/instances_default.json"])
def test_the_images_of_one_file_are_of_the_splits_whose_folders_they_lie_in(tmp_path, path):
    names = [f"{split}/{split}{i}.jpg" for split in ("train", "val") for i in range(2)]
    for name in names:
        picture(tmp_path / "images" / name)
    body = {"images": [{"id": i, "file_name": name} for i, name in enumerate(names)], "annotations": []}
    body["categories"] = [{"id": 3, "name": "ship"}]
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(json.dumps(body))
    splits = load_multilabel_dataset(tmp_path)
    assert {key: list(labels_by_file(split)) for key, split in splits.items()} == {
        "train": ["train0.jpg", "train1.jpg"],
        "validation": ["val0.jpg", "val1.jpg"],
    }
    picture(tmp_path / "images/other.jpg")
    body["images"].append({"id": 9, "file_name": "other.jpg"})
    (tmp_path / path).write_text(json.dumps(body))
    with pytest.raises(DataError, match=r"folders of splits \(train, val\) and others do not, such as other.jpg; put"):
        load_multilabel_dataset(tmp_path)


def test_other_kinds_of_annotations_beside_those_of_instances_are_told(tmp_path):
    write_layouts(tmp_path, *(f"annotations/{name}.json" for name in ("instances_train2017", "instances_val2017")))
    others = ("person_keypoints_train2017.json", "captions_train2017.json", "image_info_test2017.json")
    for name in others:
        (tmp_path / "annotations" / name).write_bytes((tmp_path / "annotations/instances_train2017.json").read_bytes())
    splits = load_multilabel_dataset(tmp_path)
    assert {key: list(labels_by_file(split)) for key, split in splits.items()} == {
        "train": ["0.jpg"],
        "validation": ["1.jpg"],
    }
    assert splits.summary.left_out == dict.fromkeys(others, "annotations of another kind")


def test_absolute_paths_of_another_machine_are_found(folder):
    path = folder / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["file_name"] = f"/content/coco/val2017/{image['file_name']}"
    path.write_text(json.dumps(content))
    for options in ({}, {"data_dir": folder / "val2017"}):
        images = load_multilabel_dataset(folder, train_split="val2017", validation_share=0.25, **options)
        assert sum(map(len, images.values())) == 4
    (folder / "val2017/000000000009.jpg").unlink()  # the first of the list
    images = load_multilabel_dataset(folder, train_split="val2017", validation_share=0.25, bad_images="skip")
    assert sum(map(len, images.values())) == 4


def test_names_as_in_a_url_are_found(tmp_path):
    """As Label Studio's COCO export has them."""
    body = {"images": [], "categories": [{"id": 0, "name": "cat"}], "annotations": []}
    for i in range(3):
        picture(tmp_path / f"images/my pic {i}.jpg")
        body["images"].append({"id": i, "file_name": f"images/my%20pic%20{i}.jpg"})
    (tmp_path / "result.json").write_text(json.dumps(body))
    whole = load_split(tmp_path, "all")
    assert list(labels_by_file(whole)) == ["my pic 0.jpg", "my pic 1.jpg", "my pic 2.jpg"]
    assert "3 of 3 files are called otherwise, in case, spaces or encoding" in whole.info.description
    body["images"] = [{"id": i, "file_name": f"{i}.jpg"} for i in range(3)]
    (tmp_path / "result.json").write_text(json.dumps(body))
    with pytest.raises(DataError, match=rf"^{tmp_path}/images/0.jpg: missing, with 2 more of the 3 images"):
        load_split(tmp_path, "all")
