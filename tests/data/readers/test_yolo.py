"""YOLO folders, as tools write them."""

import pytest

from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.schema import DataError, label_names
from tests.data.readers.files import labels_by_file, picture


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


def test_yolo_of_another_machine(roboflow):
    lists = "train: /home/ann/birds/train.txt\nval: /home/ann/birds/valid/images\ntest: /home/ann/birds/test/images\n"
    (roboflow / "data.yaml").write_text(f"path: /home/ann/birds\n{lists}names: [Katze, Hündin]\n")
    (roboflow / "train.txt").write_text("/home/ann/birds/train/images/a.jpg\n/home/ann/birds/train/images/b.png\n")
    splits = load_multilabel_dataset(roboflow)
    assert labels_by_file(splits["train"]) == {"a.jpg": (["Katze", "Hündin"], []), "b.png": ([], [])}
    assert labels_by_file(splits["validation"]) == {"c.jpg": (["Hündin"], [])}
    (roboflow / "data.yaml").write_text(
        "train: C:\\birds\\train\\images\nval: C:\\birds\\valid\\images\nnames: [a, b]\n"
    )
    assert len(load_multilabel_dataset(roboflow)["validation"]) == 1


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


def test_the_form_can_be_chosen_where_two_fit(roboflow):
    (roboflow / "labels.csv").write_text("file_name,labels\ntrain/images/a.jpg,x\nvalid/images/c.jpg,y\n")
    with pytest.raises(DataError, match=r"reads as table \(.*\) and yolo \(data.yaml.*\); choose one as form"):
        load_multilabel_dataset(roboflow)
    by_table = load_multilabel_dataset(roboflow, validation_share=0.5, form="table")
    assert label_names(by_table["train"]) == ["x", "y"]
    assert label_names(load_multilabel_dataset(roboflow, form="yolo")["train"]) == ["Katze", "Hündin"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("{1: cat, 2: dog, 3: cow}", ["cat"]),
        ("{'3': cow, '10': ant, '1': cat}", ["cat"]),
        ("[bee, no, cow]", ["no"]),  # not false
    ],
)
def test_names_are_found_by_their_number(tmp_path, names, expected):
    picture(tmp_path / "images/train/a.jpg")
    picture(tmp_path / "images/val/b.jpg")
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/a.txt").write_text("1 0.5 0.5 1 1\n")
    (tmp_path / "data.yaml").write_text(f"names: {names}\ntrain: images/train\nval: images/val\n")
    assert labels_by_file(load_multilabel_dataset(tmp_path)["train"]) == {"a.jpg": (expected, [])}


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("names: {0: a, 0: b}", "a key is given twice"),
        ("names: {0: a, '00': b}", "two entries have the same number"),
        ("names: {a: 0, b: 1}", "'a' is not the number of a class"),
        ("names: [a, b]\nnc: 3", "nc is 3, but names has 2 entries"),
        ("names: a", "names must be a list of names"),
        ("names: {1: cat, 2: dog}", "unknown class '0'; expected 1, 2"),
    ],
)
def test_names_that_are_none_are_refused(roboflow, head, message):
    (roboflow / "data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\n{head}\n")
    with pytest.raises(DataError, match=message):
        load_multilabel_dataset(roboflow, form="yolo")


def test_labels_beside_images_below_a_folder_called_images(tmp_path):
    root = tmp_path / "images/project"
    for split, label in (("train", 1), ("val", 0)):
        picture(root / split / f"{split}.jpg")
        (root / split / f"{split}.txt").write_text(f"{label} 0.5 0.5 1 1\n")
    (root / "data.yaml").write_text("names: [a, b]\ntrain: train\nval: val\n")
    splits = load_multilabel_dataset(root)
    assert labels_by_file(splits["train"]) == {"train.jpg": (["b"], [])}
    assert labels_by_file(splits["validation"]) == {"val.jpg": (["a"], [])}


def test_labels_that_are_nowhere_or_in_two_places_are_refused(roboflow):
    (roboflow / "train/images/a.txt").write_text("0 0.5 0.5 1 1\n")
    with pytest.raises(DataError, match=r"a.jpg: has labels in both .*train/labels/a.txt and .*train/images/a.txt"):
        load_multilabel_dataset(roboflow)
    for file in roboflow.glob("*/*/*.txt"):
        file.unlink()
    message = r"none of 3 images has a file of labels; looked for .*train/labels/a.txt or .*train/images/a.txt"
    with pytest.raises(DataError, match=message):
        load_multilabel_dataset(roboflow)


def test_a_test_folder_that_is_missing_is_left_out_and_said(roboflow):
    content = (roboflow / "data.yaml").read_text()
    (roboflow / "data.yaml").write_text(content + "test: ../test/images\n")
    summary = load_multilabel_dataset(roboflow).summary
    assert summary.left_out == {"test: ../test/images": "no such folder"}
    assert "1 image without a file of labels" in summary.notes
    (roboflow / "data.yaml").write_text(content.replace("../valid", "../gone"))
    with pytest.raises(DataError, match=r"../gone/images: no such folder"):
        load_multilabel_dataset(roboflow)


def test_folders_of_images_that_are_links_are_entered(roboflow, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "more"
    picture(elsewhere / "d.jpg")
    (roboflow / "train/images/linked").symlink_to(elsewhere)
    (roboflow / "train/images/round").symlink_to(roboflow / "train/images")
    found = labels_by_file(load_multilabel_dataset(roboflow)["train"])
    assert sorted(found) == ["a.jpg", "b.png", "d.jpg"]
