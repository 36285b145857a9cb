"""A folder of images for each label."""

import pytest

from assocformer_hf.data.checks.source import check_source
from assocformer_hf.data.images.decoding import ImageError, decode_stored
from assocformer_hf.data.load import load_images, load_multilabel_dataset
from assocformer_hf.data.schema import DataError, label_names
from tests.data.readers.files import by_file, labels_by_file, picture


def test_a_folder_for_each_label(tmp_path):
    for name in ("cat/1.jpg", "cat/2.png", "dog/3.jpg", "dog/4.jpg", ".git/5.jpg"):
        picture(tmp_path / name)
    splits = load_multilabel_dataset(tmp_path, validation_share=0.5)
    assert by_file(splits) == {
        "1.jpg": (["cat"], []), "2.png": (["cat"], []), "3.jpg": (["dog"], []), "4.jpg": (["dog"], []),
    }  # fmt: skip
    assert splits.summary.form == "imagefolder"


def test_folders_of_the_file_system_are_no_labels(tmp_path):
    for name in ("cat/1.jpg", "dog/2.jpg", "lost+found/3.jpg"):
        picture(tmp_path / name)
    splits = load_multilabel_dataset(tmp_path, validation_share=0.5)
    assert label_names(splits["train"]) == ["cat", "dog"]
    assert sum(map(len, splits.values())) == 2


def test_an_image_in_the_folders_of_several_labels_has_all_of_them(tmp_path):
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "fox/4.jpg"):
        picture(tmp_path / name)
    for name in ("dog/1.jpg", "fox/other.jpg"):
        picture(tmp_path / name, of=str(tmp_path / "cat/1.jpg"))
    (tmp_path / "fox/3.jpg").symlink_to(tmp_path / "dog/3.jpg")
    for name in ("cat/blank.jpg", "cat/blank2.jpg", "dog/blank.jpg"):
        picture(tmp_path / name, of="nothing")
    splits = load_multilabel_dataset(tmp_path, validation_share=0.3)
    assert by_file(splits) == {
        "1.jpg": (["cat", "dog", "fox"], []), "2.jpg": (["cat"], []), "3.jpg": (["dog", "fox"], []),
        "4.jpg": (["fox"], []), "blank.jpg": (["cat", "dog"], []),
    }  # fmt: skip
    assert sum(map(len, splits.values())) == 5
    note = "3 images with the labels of all the folders that a copy lies in, 1 of them more than once in one"
    assert note in splits.summary.notes
    assert set(splits.summary.left_out) == {
        str(tmp_path / name) for name in ("dog/1.jpg", "fox/other.jpg", "fox/3.jpg", "cat/blank2.jpg", "dog/blank.jpg")
    }
    assert not check_source(tmp_path, splits, splits.summary).unused_images


@pytest.mark.parametrize("names", [("train", "validation"), ("Training", "val"), ("train", "dev"), ("TRAIN", "Valid")])
def test_a_folder_for_each_split_and_label(tmp_path, names):
    for split in names:
        for label in ("cat", "dog"):
            picture(tmp_path / split / label / f"{split}-{label}.jpg")
    splits = load_multilabel_dataset(tmp_path)
    assert list(splits) == ["train", "validation"]
    assert set(labels_by_file(splits["train"])) == {f"{names[0]}-cat.jpg", f"{names[0]}-dog.jpg"}


def test_folders_of_splits_without_folders_of_labels_are_told(tmp_path):
    for name in ("train/cat/1.jpg", "train/cat/2.jpg", "train/dog/3.jpg", "train/dog/4.jpg", "val/5.jpg", "test/6.jpg"):
        picture(tmp_path / name)
    splits = load_multilabel_dataset(tmp_path, validation_share=0.5)
    assert {key: len(split) for key, split in splits.items()} == {"train": 2, "validation": 2}
    assert splits.summary.left_out == {
        str(tmp_path / name): "images without folders of labels" for name in ("test", "val")
    }


def test_photographs_that_cannot_be_read_are_named_not_passed_over(tmp_path):
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/3.jpg"):
        picture(tmp_path / name)
    for name in ("dog/4.HEIC", "fox/5.heic", "fox/6.cr2", "cat/1.cr2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"of a camera")
    splits = load_multilabel_dataset(tmp_path, validation_share=0.34)
    assert label_names(splits["train"]) == ["cat", "dog", "fox"]
    assert len(load_images([tmp_path])) == 6  # cat/1.cr2 is there as JPEG too
    with pytest.raises(ImageError, match="5.heic: cannot be read as an image"):
        decode_stored({"path": str(tmp_path / "fox/5.heic"), "bytes": None}, 0)


@pytest.mark.parametrize("split", ["", "train/"])
def test_files_that_are_no_images_are_told(tmp_path, split):
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "dog/4.jpg"):
        picture(tmp_path / split / name)
    for name in ("cat/notes.txt", "cat/clip.mp4", "cat/.DS_Store", "fish/a.pdf", "empty/.keep"):
        (tmp_path / split / name).parent.mkdir(exist_ok=True)
        (tmp_path / split / name).write_text("no image")
    splits = load_multilabel_dataset(tmp_path, validation_share=0.5)
    folder = tmp_path / split
    assert splits.summary.left_out == {
        f"2 files in {folder / 'cat'}, such as clip.mp4": "no images",
        f"1 file in {folder / 'fish'}, such as a.pdf": "a folder without images",
    }
    for name in ("dog/5", "fish/6"):
        picture(folder / "5.png")
        (folder / "5.png").rename(folder / name)
        with pytest.raises(DataError, match=rf"{name}: an image whose name has no ending; rename it to {name[-1]}.jpg"):
            load_multilabel_dataset(tmp_path)
        (folder / name).unlink()


def test_what_may_be_read_in_two_ways_is_refused(tmp_path):
    for name in ("cat/1.jpg", "dog/2.jpg", "dog/poodle/3.jpg"):
        picture(tmp_path / name)
    with pytest.raises(DataError, match="3.jpg: is its label dog or poodle"):
        load_multilabel_dataset(tmp_path)
    (tmp_path / "dog/poodle/3.jpg").rename(tmp_path / "3.jpg")
    with pytest.raises(DataError, match="3.jpg: beside the folders of labels; move it into one"):
        load_multilabel_dataset(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "3.jpg").rename(tmp_path / "train/3.jpg")
    with pytest.raises(DataError, match="are train and cat labels or splits[?] Rename the folder of a label"):
        load_multilabel_dataset(tmp_path)


def test_pictures_beside_the_folders_of_splits_are_named(tmp_path):
    for name in ("train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg", "val/dog/4.jpg", "5.jpg"):
        picture(tmp_path / name)
    splits = load_multilabel_dataset(tmp_path)
    assert f"left out: {tmp_path / '5.jpg'} (beside the folders of splits)" in str(splits.summary)


def test_folders_of_other_forms_are_no_labels(tmp_path):
    for name in ("images/1.jpg", "masks/1.jpg"):
        picture(tmp_path / name)
    with pytest.raises(DataError, match="no dataset found"):
        load_multilabel_dataset(tmp_path)


def test_a_table_comes_before_folders(tmp_path):
    for name in ("cat/1.jpg", "dog/2.jpg"):
        picture(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,labels\ncat/1.jpg,x\ndog/2.jpg,y\n")
    assert label_names(load_multilabel_dataset(tmp_path, validation_share=0.5)["train"]) == ["x", "y"]
