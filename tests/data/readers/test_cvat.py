"""CVAT's exports, with their odd cases."""

import pytest

from assocformer_hf.data.load import load_multilabel_dataset, load_split
from assocformer_hf.data.schema import DataError, label_names
from tests.data.readers.files import labels_by_file, picture


def test_cvat_shapes_of_a_task_and_missing_images(tmp_path):
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "images/deep/b.png")
    label = "<meta><task><labels><label><name>cat </name></label><label><name>dog</name></label></labels></task></meta>"
    shapes = '<box label="dog" xtl="1"/><polygon label="cat " points="1,2"/><box label="dog"/>'
    images = f'<image id="0" name="a.png">{shapes}</image><image id="1" name="deep/b.png"/>'
    xml = tmp_path / "annotations.xml"
    xml.write_text(f"<annotations><version>1.1</version>{label}{images}</annotations>")
    splits = load_multilabel_dataset(tmp_path, validation_share=0.5)
    found = labels_by_file(splits["train"]) | labels_by_file(splits["validation"])
    assert label_names(splits["train"]) == ["cat", "dog"]
    assert found == {"a.png": (["cat", "dog"], []), "b.png": ([], [])}
    (tmp_path / "images/a.png").unlink()
    with pytest.raises(DataError, match=r"images/a.png: missing; complete"):
        load_multilabel_dataset(tmp_path)
    xml.write_text(xml.read_text().replace('name="a.png"', 'name="../../a.png"'))
    with pytest.raises(DataError, match=r"annotations.xml: ../../a.png leads out of"):
        load_multilabel_dataset(tmp_path)


def test_without_subsets_folders_of_splits_count(tmp_path):
    names = ("train/a.png", "train/b.png", "val/c.png")
    for name in names:
        picture(tmp_path / "images" / name)
    images = "".join(f'<image id="{i}" name="{name}"><tag label="cat"/></image>' for i, name in enumerate(names))
    (tmp_path / "annotations.xml").write_text(f"<annotations>{images}</annotations>")
    splits = load_multilabel_dataset(tmp_path)
    assert {key: list(labels_by_file(split)) for key, split in splits.items()} == {
        "train": ["a.png", "b.png"],
        "validation": ["c.png"],
    }


def test_the_points_of_a_skeleton_are_no_labels(tmp_path):
    picture(tmp_path / "a.png")
    point = "<label><name>elbow</name><parent>person</parent></label>"
    labels = f"<meta><job><labels><label><name>person</name></label>{point}</labels></job></meta>"
    image = '<image id="0" name="a.png"><skeleton label="person"><points label="elbow"/></skeleton></image>'
    (tmp_path / "annotations.xml").write_text(f"<annotations>{labels}{image}</annotations>")
    assert label_names(load_split(tmp_path, "all")) == ["person"]


@pytest.mark.parametrize("root", ["C:\\photos\\", "/home/ann/photos/"])
def test_paths_of_another_machine_are_found(tmp_path, root):
    for name in ("a.png", "b.png"):
        picture(tmp_path / "images" / name)
    images = "".join(f'<image id="{i}" name="{root}{i}.png"><tag label="cat"/></image>' for i in "ab")
    (tmp_path / "annotations.xml").write_text(f"<annotations>{images}</annotations>")
    whole = load_split(tmp_path, "all")
    assert list(labels_by_file(whole)) == ["a.png", "b.png"]
    assert f"paths of another machine are read below {tmp_path}/images, such as a.png" in whole.info.description
