"""The folder of MIRFLICKR is what the collection's archives say."""

import pytest
from PIL import Image

from assocformer_hf.data.load import load_multilabel_dataset
from benchmarks.mirflickr import SIDE, write_mirflickr

NUMBERS = (1, 2, 15_000, 15_001, 20_000, 20_001)
TOPICS = {"clouds": (1, 15_000, 15_001, 20_001), "plant_life": (1, 20_000), "clouds_r1": (1,)}


@pytest.fixture
def archives(tmp_path):
    images, annotations = tmp_path / "mirflickr", tmp_path / "annotations"
    images.mkdir()
    annotations.mkdir()
    for i, number in enumerate(NUMBERS):
        Image.new("RGB", (200, 150), (40 * i, 0, 0)).save(images / f"im{number}.jpg")
    for topic, numbers in TOPICS.items():
        (annotations / f"{topic}.txt").write_text("".join(f"{number}\r\n" for number in numbers))
    (annotations / "README.txt").write_text("Annotations of 25000 images")
    return images, annotations


def test_splits_and_topics(archives, tmp_path):
    assert write_mirflickr(*archives, tmp_path / "data") == 6
    splits = load_multilabel_dataset(tmp_path / "data")
    names = splits["train"].features["labels"].feature.names
    assert names == ["clouds", "plant_life"]
    found = {name: [[names[i] for i in labels] for labels in split["labels"]] for name, split in splits.items()}
    assert found == {
        "train": [["clouds", "plant_life"], [], ["clouds"]],
        "validation": [["clouds"], ["plant_life"]],
        "test": [["clouds"]],
    }
    assert splits["test"][0]["image"].size == (SIDE, SIDE)


def test_what_does_not_fit_is_named_and_nothing_written(archives, tmp_path):
    images, annotations = archives
    (images / "im2.jpg").unlink()
    (annotations / "sea.txt").write_text("2\n")
    with pytest.raises(ValueError, match=r"no im2\.jpg, which sea\.txt names"):
        write_mirflickr(images, annotations, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    (annotations / "sea.txt").write_text("two\n")
    with pytest.raises(ValueError, match="'two' is not the number of a photograph"):
        write_mirflickr(images, annotations, tmp_path / "data")
    (annotations / "sea.txt").unlink()
    (tmp_path / "data").mkdir()
    with pytest.raises(FileExistsError):
        write_mirflickr(images, annotations, tmp_path / "data")
