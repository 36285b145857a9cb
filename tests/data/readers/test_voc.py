"""VOC's folder layout, with its odd cases."""

import pytest
from PIL import Image

from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import create_image_processor, evaluation_transform
from assocformer_hf.data.load import load_split
from assocformer_hf.data.readers.voc import VOC_LABELS, load_voc
from assocformer_hf.data.schema import DataError, label_names
from tests.data.readers.files import labels_by_file, picture

CAT, DOG, PERSON = (VOC_LABELS.index(name) for name in ("cat", "dog", "person"))


@pytest.fixture
def devkit(tmp_path):
    """VOCdevkit with three images: (name, difficult) of their objects."""
    root = tmp_path / "VOCdevkit/VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    images = {
        "000001": [("person", 0), ("person", 1), ("dog", "true")],  # the person is clear once, the dog never
        "000002": [("cat", 0), ("cat", 0)],
        "000003": [("dog", 1)],
    }
    for name, objects in images.items():
        Image.new("RGB", (12, 9)).save(root / f"JPEGImages/{name}.jpg")
        write_objects(root, name, objects)
    (root / "ImageSets/Main/trainval.txt").write_text("000001\n000002\n000003\n")
    (root / "ImageSets/Main/cat_trainval.txt").write_text("000001 -1\n000002  1\n")
    return tmp_path


def write_objects(root, name, objects):
    rows = "".join(f"<object><name>{n}</name><difficult>{d}</difficult></object>" for n, d in objects)
    (root / f"Annotations/{name}.xml").write_text(f"<annotation><filename>{name}.jpg</filename>{rows}</annotation>")


@pytest.mark.parametrize("inside", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_labels_and_unknown_labels(devkit, inside):
    dataset = load_voc(devkit / inside, "trainval")
    assert label_names(dataset) == list(VOC_LABELS)
    assert dataset["labels"] == [[PERSON], [CAT], []]
    assert dataset["unknown"] == [[DOG], [], [DOG]]
    assert dataset[0]["image"].size == (12, 9)


@pytest.mark.parametrize(("option", "expected"), [("negative", [PERSON]), ("positive", [DOG, PERSON])])
def test_difficult_objects_can_count_either_way(devkit, option, expected):
    dataset = load_voc(devkit, "trainval", difficult=option)
    assert dataset.column_names == ["image", "labels"]
    assert dataset[0]["labels"] == expected


def test_unknown_labels_reach_the_batch_as_minus_one(devkit):
    images = MultiLabelImages(load_voc(devkit, "trainval"), evaluation_transform(create_image_processor(8)))
    batch = MultiLabelCollator(20)([images[i] for i in range(3)])
    assert batch["pixel_values"].shape == (3, 3, 8, 8)
    assert batch["labels"][0, PERSON] == 1
    assert batch["labels"][0, DOG] == batch["labels"][2, DOG] == -1
    assert batch["labels"].eq(0).sum() == 60 - 4


def test_a_label_that_is_not_vocs_is_named(devkit):
    write_objects(devkit / "VOCdevkit/VOC2007", "000002", [("elephant", 0)])
    message = (
        r"^VOC2007/Annotations/000002.xml: unknown label 'elephant'; expected one of aeroplane, bicycle, .*tvmonitor$"
    )
    with pytest.raises(DataError, match=message):
        load_voc(devkit, "trainval")


def test_missing_and_malformed_files_are_named(devkit):
    root = devkit / "VOCdevkit/VOC2007"
    with pytest.raises(DataError, match=r"test.txt: no such file; splits at hand: trainval$"):
        load_voc(devkit, "test")
    with pytest.raises(DataError, match="neither VOC2012 nor a folder that holds it"):
        load_voc(devkit, "trainval", year="2012")
    with pytest.raises(DataError, match="difficult must be one of unknown, negative, positive; got 'maybe'"):
        load_voc(devkit, "trainval", difficult="maybe")
    (root / "Annotations/000003.xml").write_text("<annotation>")
    with pytest.raises(DataError, match="VOC2007/Annotations/000003.xml: not valid XML"):
        load_voc(devkit, "trainval")
    (root / "Annotations/000003.xml").unlink()
    with pytest.raises(DataError, match="VOC2007/Annotations/000003.xml: missing"):
        load_voc(devkit, "trainval")
    write_objects(root, "000003", [])
    (root / "JPEGImages/000002.jpg").unlink()
    with pytest.raises(DataError, match=r"JPEGImages/000002.jpg: missing; complete what .*trainval.txt lists"):
        load_voc(devkit, "trainval")


def test_images_may_lie_elsewhere(devkit, tmp_path_factory):
    root, other = devkit / "VOCdevkit/VOC2007", tmp_path_factory.mktemp("pictures")
    for image in (root / "JPEGImages").iterdir():
        image.rename(other / image.name)
    with pytest.raises(DataError, match="data_dir"):
        load_split(root, "all")
    assert len(load_split(root, "all", data_dir=other)) == 3


def test_names_of_another_machine_and_images_without_xml(tmp_path):
    for name in ("0.jpg", "1.png", "2.jpg"):
        picture(tmp_path / f"train/{name}")
    for stem, filename in (("0", r"C:\Users\me\0.jpg"), ("1", "/home/other/1")):
        write_xml(tmp_path / f"train/{stem}.xml", filename)
    split = load_split(tmp_path, "all")
    assert labels_by_file(split) == {"0.jpg": (["cat"], []), "1.png": (["cat"], [])}
    assert f"1 image in {tmp_path}/train, such as 2.jpg" in split.info.description


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ("{stem}.xml", "extra/{stem}.xml", "{folder} and {folder}/extra"),
        ("Annotations/{stem}.xml", "more/{stem}.xml", "{folder}/Annotations and {folder}/more"),
        ("Annotations/{stem}.xml", "{stem}.xml", "{folder}/Annotations and {folder}"),
    ],
)
def test_two_layouts_in_one_folder_are_refused(tmp_path, first, second, shown):
    for path in (first.format(stem="a"), first.format(stem="b"), second.format(stem="c")):
        picture((tmp_path / path.replace("Annotations", "JPEGImages")).with_suffix(".jpg"))
        (tmp_path / path).parent.mkdir(exist_ok=True)
        write_xml(tmp_path / path, f"{path[-5]}.jpg")
    with pytest.raises(DataError, match=f"^{shown.format(folder=tmp_path)} hold annotations in two layouts; bring "):
        load_split(tmp_path, "all")


def test_xml_in_folders_further_below_is_told(tmp_path):
    for path in ("Annotations/a.xml", "Annotations/b.xml", "Annotations/sub/c.xml"):
        picture((tmp_path / path.replace("Annotations", "JPEGImages")).with_suffix(".jpg"))
        (tmp_path / path).parent.mkdir(exist_ok=True)
        write_xml(tmp_path / path, f"{path[-5]}.jpg")
    split = load_split(tmp_path, "all")
    assert len(split) == 2
    assert f"1 XML file in {tmp_path}/Annotations/sub (a folder below the one that is read)" in split.info.description


def test_the_file_beside_comes_before_the_one_that_is_named_inside(tmp_path):
    """As where an image was converted, or augmented: the name inside is then that of another one."""
    labels = {"0.jpg": "cat", "0_aug.png": "dog", "1.png": "fox", "other.jpg": "cow"}
    for image, label in labels.items():
        picture(tmp_path / f"train/{image}")
        stem, _, _ = image.partition(".")
        filename = {"0_aug": "0.jpg", "1": "other.jpg"}.get(stem, image)
        write_xml(tmp_path / f"train/{stem}.xml", filename, label)
    assert labels_by_file(load_split(tmp_path, "all")) == {name: ([label], []) for name, label in labels.items()}


def test_hidden_files_of_macos_are_passed_over(devkit, tmp_path):
    root = devkit / "VOCdevkit/VOC2007"
    for path in ("ImageSets/Main/trainval.txt", "Annotations/000001.xml"):
        (root / path).with_name(f"._{(root / path).name}").write_bytes(b"\0\5\x16\7")
    assert len(load_split(root, "all")) == 3
    for name in ("0.jpg", "1.jpg"):
        picture(tmp_path / f"photos/train/{name}")
        write_xml(tmp_path / f"photos/train/{name[0]}.xml", name)
        (tmp_path / f"photos/train/._{name[0]}.xml").write_bytes(b"\0\5\x16\7")
    assert labels_by_file(load_split(tmp_path / "photos", "all")) == {"0.jpg": (["cat"], []), "1.jpg": (["cat"], [])}


def test_an_object_without_a_name_is_named_by_its_file(devkit, tmp_path):
    write_objects(devkit / "VOCdevkit/VOC2007", "000002", [(" ", 0)])
    with pytest.raises(DataError, match="Annotations/000002.xml: an object without a name; give it the name of its"):
        load_voc(devkit, "trainval")
    picture(tmp_path / "photos/0.jpg")
    write_xml(tmp_path / "photos/0.xml", "0.jpg", label="")
    with pytest.raises(DataError, match="photos/0.xml: an object without a name"):
        load_split(tmp_path / "photos", "all")


def write_xml(path, filename, label="cat"):
    objects = f"<object><name>{label}</name></object>"
    path.write_text(f"<annotation><filename>{filename}</filename>{objects}</annotation>")


@pytest.mark.parametrize("line", ["1.jpg", "1 1", "1.jpg -1"])
def test_a_list_of_names_with_endings_or_flags_is_named(tmp_path, line):
    picture(tmp_path / "JPEGImages/1.jpg")
    for name in ("Annotations", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "Annotations/1.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    (tmp_path / "ImageSets/Main/train.txt").write_text(line + "\n")
    with pytest.raises(
        DataError, match=rf"Main/train.txt: '{line}': a line is the name of an image without its ending"
    ):
        load_split(tmp_path, "all")
