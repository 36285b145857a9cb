"""Where the images of a table lie, and the splits that their folders tell."""

import unicodedata

import pytest

from assocformer_hf.data.load import load_multilabel_dataset, load_split
from assocformer_hf.data.schema import DataError
from tests.data.readers.files import EXPECTED, ROWS, labels_by_file, load_table, picture

NAMES = ("a/0.jpg", "b/0.jpg", "b/1.jpg")


def test_a_raw_file_of_the_same_name_is_not_what_a_table_means(folder):
    (folder / "raw").mkdir()
    for i in range(4):
        (folder / f"raw/{i}.CR2").write_bytes(b"of a camera")
    assert load_table(folder, ROWS.replace(".jpg", ""), "metadata.csv") == EXPECTED


def test_images_may_lie_in_a_folder_of_their_own(folder, tmp_path_factory):
    table = tmp_path_factory.mktemp("elsewhere") / "labels.csv"
    table.write_text(ROWS.replace("0.jpg", str(folder / "0.jpg")))
    with pytest.raises(DataError, match="leads out of"):
        load_multilabel_dataset(table)
    splits = load_multilabel_dataset(table, folder, validation_share=0.5)
    assert {name: len(split) for name, split in splits.items()} == {"train": 2, "validation": 2}
    assert f"images below {folder}" in splits.summary.notes


def test_roboflow_classes_in_folders_of_splits(tmp_path):
    for split, rows in (("train", "a.jpg, 1, 0\nb.jpg, 1, 1\n"), ("valid", "c.jpg, 0, 1\n"), ("test", "d.jpg, 0, 0\n")):
        for line in rows.splitlines():
            picture(tmp_path / split / line.partition(",")[0])
        (tmp_path / split / "_classes.csv").write_text("filename, cat, dog\n" + rows)
    splits = load_multilabel_dataset(tmp_path)
    assert {key: labels_by_file(split) for key, split in splits.items()} == {
        "train": {"a.jpg": (["cat"], []), "b.jpg": (["cat", "dog"], [])},
        "validation": {"c.jpg": (["dog"], [])},
        "test": {"d.jpg": ([], [])},
    }


def test_fastai(tmp_path):
    for i in range(3):
        picture(tmp_path / f"train/{i}.jpg")
    (tmp_path / "train.csv").write_text(
        "fname,labels,is_valid\n0.jpg,car,True\n1.jpg,horse person,False\n2.jpg,car,False\n"
    )
    splits = load_multilabel_dataset(tmp_path, delimiter=" ")
    assert labels_by_file(splits["train"]) == {"1.jpg": (["horse", "person"], []), "2.jpg": (["car"], [])}
    assert labels_by_file(splits["validation"]) == {"0.jpg": (["car"], [])}
    assert splits.summary.columns == {"image": "fname", "labels": "labels", "split": "is_valid"}


def test_kaggle_names_without_endings(tmp_path):
    for i in range(4):
        picture(tmp_path / f"train-jpg/train_{i}.jpg")
        picture(tmp_path / f"test-jpg/test_{i}.jpg")
    rows = "".join(f"train_{i},{'haze' if i % 2 else 'clear primary'}\n" for i in range(4))
    (tmp_path / "train.csv").write_text("image_name,tags\n" + rows)
    (tmp_path / "sample_submission.csv").write_text("image_name,tags\ntest_0,clear\n")
    splits = load_multilabel_dataset(tmp_path, validation_share=0.5, delimiter=" ")
    found = labels_by_file(splits["train"]) | labels_by_file(splits["validation"])
    assert found["train_2.jpg"] == (["clear", "primary"], [])
    assert "images found by their names in train-jpg" in splits.summary.notes
    assert splits.summary.left_out == {"sample_submission.csv": "a table of another name"}
    picture(tmp_path / "copy/train_2.jpg")
    with pytest.raises(
        DataError, match="train_2 can be .*copy/train_2.jpg and .*train-jpg/train_2.jpg; give the folder"
    ):
        load_multilabel_dataset(tmp_path, delimiter=" ")
    assert load_multilabel_dataset(tmp_path, tmp_path / "train-jpg", delimiter=" ", validation_share=0.5)


def test_absolute_paths(folder, tmp_path_factory):
    table = tmp_path_factory.mktemp("table") / "labels.csv"
    table.write_text("".join(["path,labels\n", *(f"{folder / f'{i}.jpg'},{'xy'[i % 2]}\n" for i in range(4))]))
    splits = load_multilabel_dataset(table, validation_share=0.5)
    assert sum(map(len, splits.values())) == 4
    assert f"images lie where their absolute paths say: {folder}" in splits.summary.notes


def test_a_missing_image_is_not_its_namesake_of_another_split(tmp_path):
    for name in ("train/0.jpg", "train/1.jpg", "test/0.jpg", "test/1.jpg", "test/2.jpg"):
        picture(tmp_path / name)
    (tmp_path / "train.csv").write_text("id,cat,dog\n0,1,0\n1,0,1\n2,1,1\n")
    with pytest.raises(DataError, match="2: missing; complete"):
        load_split(tmp_path, "all")
    (tmp_path / "train_more").mkdir()
    (tmp_path / "train/1.jpg").rename(tmp_path / "train_more/1.jpg")
    picture(tmp_path / "train/2.jpg")
    paths = [image["path"] for image in load_split(tmp_path, "all").with_format("arrow")[:]["image"].to_pylist()]
    assert paths == [str(tmp_path / name) for name in ("train/0.jpg", "train_more/1.jpg", "train/2.jpg")]


def test_a_missing_image_is_not_that_of_the_folder_of_another_split(tmp_path):
    for name in ("train_images/a.jpg", "train_images/b.jpg", "test_images/c.jpg"):
        picture(tmp_path / name)
    (tmp_path / "train.csv").write_text("file_name,labels\na.jpg,x\nb.jpg,y\nc.jpg,x\n")
    with pytest.raises(DataError, match="/c.jpg: missing; complete"):
        load_split(tmp_path, "all")
    picture(tmp_path / "test_images/b.jpg")
    (tmp_path / "train.csv").write_text("file_name,labels\na.jpg,x\nb.jpg,y\n")
    paths = [image["path"] for image in load_split(tmp_path, "all").with_format("arrow")[:]["image"].to_pylist()]
    assert paths == [str(tmp_path / name) for name in ("train_images/a.jpg", "train_images/b.jpg")]


def test_the_images_of_a_table_may_all_lie_in_the_folder_of_another_split(tmp_path):
    """As where a part of `train` was set aside, or `trainval` joins two."""
    for name in ("train/a.jpg", "train/b.jpg", "val/c.jpg"):
        picture(tmp_path / name)
    (tmp_path / "train.csv").write_text("file_name,labels\na.jpg,x\n")
    (tmp_path / "test.csv").write_text("file_name,labels\nb.jpg,x\n")
    found = load_multilabel_dataset(tmp_path, eval_split="test")
    assert {key: list(labels_by_file(split)) for key, split in found.items()} == {
        "train": ["a.jpg"],
        "validation": ["b.jpg"],
    }
    (tmp_path / "train.csv").unlink()
    (tmp_path / "trainval.csv").write_text("file_name,labels\na.jpg,x\nc.jpg,y\n")
    assert list(labels_by_file(load_split(tmp_path, "trainval"))) == ["a.jpg", "c.jpg"]


def test_files_whose_names_differ_in_case_or_encoding_are_found_and_said(tmp_path):
    """As tables of Windows and of macOS have them: a file of the very name comes first, and two that fit are none."""
    for name in ("A.JPG", "b.jpg", "B.jpg", unicodedata.normalize("NFD", "é.jpg"), "c.jpg", "C.JPG"):
        picture(tmp_path / name)
    (tmp_path / "t.csv").write_text("file_name,labels\na.jpg ,x\nb.jpg,x\nB.jpg,y\nÉ.jpg,y\n")
    split = load_split(tmp_path, "all")
    assert list(labels_by_file(split).values()) == [([name], []) for name in "xxyy"]
    assert list(labels_by_file(split)) == ["A.JPG", "b.jpg", "B.jpg", unicodedata.normalize("NFD", "é.jpg")]
    assert f"2 of 4 files are called otherwise, in case, spaces or encoding, such as {tmp_path}/A.JPG for a.jpg " in (
        split.info.description
    )
    (tmp_path / "t.csv").write_text("file_name,labels\na.jpg,x\nc.JPG,x\n")
    with pytest.raises(DataError, match=r"c.JPG: missing; complete what .*t.csv lists.*option bad_images: skip"):
        load_split(tmp_path, "all")
    (tmp_path / "t.csv").write_text("file_name,labels\nA.JPG,x\na.jpg,x\n")
    with pytest.raises(
        DataError, match=r"a.jpg: missing \(.*A.JPG is listed too: are the two one image[?]\); complete"
    ):
        load_split(tmp_path, "all")


def test_missing_files_are_kept_for_what_skips_them_unless_all_are_missing(tmp_path):
    picture(tmp_path / "a.jpg")
    (tmp_path / "t.csv").write_text("file_name,labels\na.jpg,x\nb.jpg,y\n")
    split = load_split(tmp_path, "all", bad_images="skip")
    assert labels_by_file(split) == {"a.jpg": (["x"], []), "b.jpg": (["y"], [])}
    assert f"missing: 1 of the 2 images of {tmp_path}/t.csv, such as {tmp_path}/b.jpg" in split.info.description
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(DataError, match="a.jpg: missing, with 1 more of the 2 images"):
        load_split(tmp_path, "all", bad_images="skip")


@pytest.mark.parametrize("root", ["/home/other/photos", r"C:\Users\me\photos", "/content"])
def test_absolute_paths_of_another_machine_are_found_below_the_folder(tmp_path, root):
    for name in NAMES:
        picture(tmp_path / name)
    mark = "\\" if ":" in root else "/"
    rows = [f"{root}{mark}{name.replace('/', mark)},{name[0]}" for name in NAMES]
    (tmp_path / "t.csv").write_text("\n".join(["file_name,labels", *rows]))
    for options in ({}, {"data_dir": tmp_path}):
        split = load_split(tmp_path, "all", **options)
        found = [image["path"] for image in split.with_format("arrow")[:]["image"].to_pylist()]
        assert found == [str(tmp_path / name) for name in NAMES]
        assert split["labels"][:] == [[0], [1], [1]]
        assert f"paths of another machine are read below {tmp_path}, such as " in split.info.description


def test_folders_of_splits_of_another_machine_are_those_of_splits(tmp_path):
    for name in ("train/0.jpg", "train/1.jpg", "val/2.jpg"):
        picture(tmp_path / f"images/{name}")
    rows = [f"/home/other/{name},{'xy'[i % 2]}" for i, name in enumerate(("train/0.jpg", "train/1.jpg", "val/2.jpg"))]
    (tmp_path / "images/t.csv").write_text("\n".join(["file_name,labels", *rows]))
    splits = load_multilabel_dataset(tmp_path / "images")
    assert {key: list(labels_by_file(split)) for key, split in splits.items()} == {
        "train": ["0.jpg", "1.jpg"],
        "validation": ["2.jpg"],
    }


def test_folders_of_splits_and_of_none_are_refused(tmp_path):
    for name in ("train/0.jpg", "val/1.jpg", "extra/2.jpg"):
        picture(tmp_path / name)
    (tmp_path / "t.csv").write_text("file_name,labels\ntrain/0.jpg,x\nval/1.jpg,y\nextra/2.jpg,x\n")
    with pytest.raises(DataError, match=r"folders of splits \(train, val\) and others do not, such as extra/2.jpg"):
        load_multilabel_dataset(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "{split}/{name}", "./{split}/{name}", r".\{split}\{name}", "{folder}/{split}/{name}", "{name}",
        "more/../{split}/{name}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("above", ["", "images/"])
def test_folders_of_splits_count_however_the_table_writes_the_paths(tmp_path, path, above):
    rows = ["file_name,labels"]
    for split in ("train", "val"):
        for i in range(2):
            picture(tmp_path / f"{above}{split}/{split}{i}.jpg")
            written = path.format(split=above + split, name=f"{split}{i}.jpg", folder=tmp_path)
            rows.append(f"{written},{'xy'[i]}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    splits = load_multilabel_dataset(tmp_path)
    assert {key: list(labels_by_file(split)) for key, split in splits.items()} == {
        "train": ["train0.jpg", "train1.jpg"],
        "validation": ["val0.jpg", "val1.jpg"],
    }


def test_images_that_no_folder_of_a_split_has_are_not_trained_on_with_those_of_test(tmp_path):
    for name in ("train/0.jpg", "test/1.jpg", "2.jpg"):
        picture(tmp_path / name)
    (tmp_path / "t.csv").write_text("file_name,labels\ntrain/0.jpg,x\ntest/1.jpg,y\n2.jpg,x\n")
    with pytest.raises(DataError, match=r"folders of splits \(test, train\) and others do not, such as 2.jpg; put"):
        load_multilabel_dataset(tmp_path)
    (tmp_path / "t.csv").write_text("file_name,labels\n0.jpg,x\n1.jpg,y\n3.jpg,x\n")
    with pytest.raises(DataError, match=r"others do not, such as 3.jpg, which is missing; put each into"):
        load_multilabel_dataset(tmp_path)


def test_absolute_paths_through_a_link_are_those_of_the_folder(folder):
    link = folder.parent / "link"
    link.symlink_to(folder)
    rows = "".join(f"{link}/{i}.jpg,{'ab'[i % 2]}\n" for i in range(4))
    assert load_table(folder, "file_name,labels\n" + rows, data_dir=link) == [{"a"}, {"b"}, {"a"}, {"b"}]
    with pytest.raises(DataError, match="leads out of"):
        load_table(folder, f"file_name,labels\n{link}/../5.jpg,a\n{rows}", data_dir=link)
