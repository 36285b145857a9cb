"""What a source's splits become, what is refused, and the summary of what was read."""

import json
import os
import shutil
import tarfile
from dataclasses import asdict

import datasets
import pytest
from PIL import Image

from assocformer_hf.data.identity import image_digests
from assocformer_hf.data.load import _refuse_folder, load_images, load_multilabel_dataset, load_split
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import DataError, label_names
from assocformer_hf.data.split_names import choose_splits
from assocformer_hf.training.arguments import training_arguments
from tests.data.readers.files import by_file, labels_by_file, picture


def write_tables(folder, **tables: str):
    """Tables by their names, each with rows of `file labels`; the images are drawn."""
    for name, rows in tables.items():
        lines = ["file_name,labels"]
        for row in rows.split():
            file, _, labels = row.partition(":")
            picture(folder / file)
            lines.append(f"{file},{labels}")
        (folder / name.replace("_csv", ".csv")).write_text("\n".join(lines))


@pytest.mark.parametrize("name", ["validation", "val", "test"])
def test_a_dataset_with_nothing_to_train_on_is_refused(tmp_path, name):
    write_tables(tmp_path, **{f"{name}_csv": "a.jpg:x b.jpg:y c.jpg:x d.jpg:y"})
    with pytest.raises(DataError, match=rf"no split to train on; it has '{name}'; choose one as train_split"):
        load_multilabel_dataset(tmp_path)
    splits = load_multilabel_dataset(tmp_path, train_split=name, validation_share=0.5)
    assert {key: len(split) for key, split in splits.items()} == {"train": 2, "validation": 2}
    assert len(load_split(tmp_path, name)) == 4


@pytest.mark.parametrize(
    ("names", "both", "option"),
    [
        (["Train", "train", "val"], "'Train' and 'train' both mean train", "train_split"),
        (["train_1", "train_2"], "'train_1' and 'train_2' both mean train", "train_split"),
        (["train", "training"], "'train' and 'training' both mean train", "train_split"),
        (["train", "trainval"], "'train' and 'trainval' both mean train", "train_split"),
        (["train", "val", "valid"], "'val' and 'valid' both mean validation", "eval_split"),
        (["train", "val", "test", "Test"], "'test' and 'Test' both mean test", "test_split"),
    ],
)
def test_splits_that_are_called_alike_are_refused(names, both, option):
    with pytest.raises(DataError, match=rf"the splits {both}; join them, or choose one as {option}"):
        choose_splits("photos", names, SourceOptions())
    assert choose_splits("photos", names, SourceOptions(**{option: names[-1]}))


def test_one_of_two_test_splits_is_chosen_by_an_option(tmp_path):
    for split in ("train", "val", "test1", "test2"):
        picture(tmp_path / split / f"{split}.jpg")
        (tmp_path / split / "metadata.csv").write_text(f"file_name,labels\n{split}.jpg,x\n")
    with pytest.raises(DataError, match="both mean test; join them, or choose one as test_split"):
        load_multilabel_dataset(tmp_path)
    *_, source, _ = training_arguments(dataset=str(tmp_path), test_split="test2")
    found = load_multilabel_dataset(tmp_path, **asdict(source))
    assert found.summary.splits == {
        "test1": "is not used", "test2": "is test", "train": "is train", "val": "is validation"
    }  # fmt: skip


def test_splits_of_voc_and_unusual_names():
    voc = ["test", "train", "trainval", "val"]
    usual = SourceOptions()
    assert choose_splits("voc", voc, usual) == {"train": "train", "validation": "val", "test": "test"}
    assert choose_splits("voc", ["trainval", "test"], usual) == {"train": "trainval", "test": "test"}
    assert choose_splits("x", ["data"], usual) == {"train": "data"}
    assert choose_splits("x", ["train2017", "val2017"], usual) == {"train": "train2017", "validation": "val2017"}
    own = SourceOptions(train_split="b", eval_split="a")
    assert choose_splits("x", ["a", "b"], own) == {"train": "b", "validation": "a"}
    with pytest.raises(DataError, match="some images have no split, others are in 'train'"):
        choose_splits("x", ["train", None], usual)
    with pytest.raises(DataError, match="no split 'c'; it has 'a' and 'b'"):
        choose_splits("x", ["a", "b"], SourceOptions(train_split="c"))


def test_two_tables_of_one_split_are_refused(tmp_path):
    write_tables(tmp_path, train_csv="a.jpg:x b.jpg:y", val_csv="c.jpg:x")
    (tmp_path / "train.jsonl").write_text('{"file_name": "a.jpg", "labels": ["y"]}\n')
    with pytest.raises(DataError, match=r"train.csv and .*train.jsonl both list images of train; keep one"):
        load_multilabel_dataset(tmp_path)
    (tmp_path / "train.jsonl").rename(tmp_path / "training.jsonl")
    with pytest.raises(DataError, match="'train' and 'training' both mean train"):
        load_multilabel_dataset(tmp_path)
    (tmp_path / "training.jsonl").rename(tmp_path / "metadata.jsonl")
    with pytest.raises(DataError, match=r"metadata.jsonl and .*train.csv both list images; give one of them"):
        load_multilabel_dataset(tmp_path)


def test_shards_of_one_split_are_one_split(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "tags": datasets.List(datasets.Value("string"))})
    for i in range(3):
        rows = {"image": [Image.new("RGB", (8, 8), (40 * i, 0, 0))], "tags": [["x", "y"][: i + 1]]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"train-{i:05d}-of-00003.parquet")
    splits = load_multilabel_dataset(tmp_path, validation_share=0.34)
    assert {key: len(split) for key, split in splits.items()} == {"train": 2, "validation": 1}


@pytest.mark.parametrize("form", ["names", "folders", "tar"])
def test_shards_whose_names_tell_no_split_are_not_trained_on_with_those_of_train(tmp_path, form):
    path = {
        "names": "data/{name}-00000-of-00001.parquet", "folders": "{name}/0.parquet", "tar": "{name}-0000.tar"
    }[form]  # fmt: skip
    splits = ("train", "validation", "testA", "hold-out")
    for i, split in enumerate(splits):
        shard = tmp_path / "photos" / path.format(name=split)
        shard.parent.mkdir(parents=True, exist_ok=True)
        picture(tmp_path / f"{i}.jpg")
        if form == "tar":
            (tmp_path / "labels.json").write_text('{"labels": ["x"]}')
            with tarfile.open(shard, "w") as tar:
                tar.add(tmp_path / f"{i}.jpg", f"{i}.jpg")
                tar.add(tmp_path / "labels.json", f"{i}.json")
        else:
            rows = datasets.Dataset.from_dict({"image": [str(tmp_path / f"{i}.jpg")], "labels": [["x"]]})
            rows.cast_column("image", datasets.Image()).to_parquet(shard)
    found = load_multilabel_dataset(tmp_path / "photos")
    assert {key: len(split) for key, split in found.items()} == {"train": 1, "validation": 1}
    assert found.summary.splits == {
        "train": "is train", "validation": "is validation", "testA": "is not used", "hold_out": "is not used"
    }  # fmt: skip
    assert len(load_split(tmp_path / "photos", "hold_out")) == 1
    streams = load_multilabel_dataset(tmp_path / "photos", streaming=True, label_names=["x"])
    assert {key: len(list(stream)) for key, stream in streams.items()} == {"train": 1, "validation": 1}
    (tmp_path / "photos" / path.format(name="train")).unlink()
    with pytest.raises(DataError, match=r"no split to train on; it has .*'testA'.*; choose one as train_split"):
        load_multilabel_dataset(tmp_path / "photos")


def test_an_image_in_two_splits_is_refused(tmp_path):
    write_tables(tmp_path, train_csv="a.jpg:x b.jpg:y", val_csv="b.jpg:y c.jpg:x")
    with pytest.raises(DataError, match=r"b.jpg is in both train and val: evaluation would not be on unseen images"):
        load_multilabel_dataset(tmp_path)
    same = load_multilabel_dataset(tmp_path, train_split="train", eval_split="train")
    assert same["train"]["labels"] == same["validation"]["labels"]  # learning by heart is asked for by name
    assert same.summary.splits == {"train": "is train and validation", "val": "is not used"}


def test_split_and_unknown_columns_with_a_capital_count(tmp_path):
    for name in "abcd":
        picture(tmp_path / f"{name}.jpg")
    rows = "a.jpg,x,y,Train\nb.jpg,y,,Train\nc.jpg,x,,Val\nd.jpg,,x,Test\n"
    (tmp_path / "labels.csv").write_text("File_Name,Labels,Unknown,Split\n" + rows)
    splits = load_multilabel_dataset(tmp_path)
    assert {key: labels_by_file(split) for key, split in splits.items()} == {
        "train": {"a.jpg": (["x"], ["y"]), "b.jpg": (["y"], [])},
        "validation": {"c.jpg": (["x"], [])},
        "test": {"d.jpg": ([], ["x"])},
    }
    (tmp_path / "labels.csv").write_text("file_name,labels,split,Split\na.jpg,x,train,test\n")
    with pytest.raises(DataError, match="columns 'split' and 'Split' may both be the split column"):
        load_multilabel_dataset(tmp_path)


def test_a_stray_tar_file_changes_nothing(tmp_path):
    write_tables(tmp_path, metadata_csv="a.jpg:x b.jpg:y")
    with tarfile.open(tmp_path / "backup-2024.tar", "w") as tar:
        tar.add(tmp_path / "a.jpg", "a.jpg")
    with pytest.raises(DataError, match=r"reads as shards \(.*\) and table \(.*\); choose one as form"):
        load_multilabel_dataset(tmp_path)
    (tmp_path / "backup-2024.tar").rename(tmp_path / "backup.tar")
    assert sorted(by_file(load_multilabel_dataset(tmp_path, validation_share=0.5))) == ["a.jpg", "b.jpg"]


def test_a_dataset_of_one_split_can_be_evaluated_whole(tmp_path):
    write_tables(tmp_path, metadata_csv="a.jpg:x b.jpg:y c.jpg:x d.jpg:y")
    options = {"validation_share": 0.25}
    parts = {split: len(load_split(tmp_path, split, **options)) for split in ("train", "validation", "all")}
    assert parts == {"train": 3, "validation": 1, "all": 4}
    write_tables(tmp_path, metadata_csv="train/a.jpg:x test/b.jpg:y test/c.jpg:x")
    assert {split: len(load_split(tmp_path, split)) for split in ("test", "all")} == {"test": 2, "all": 3}
    with pytest.raises(DataError, match="no split 'dev'; it has train, test, or all for every image"):
        load_split(tmp_path, "dev")


def test_the_summary_says_what_was_read(tmp_path):
    for i in range(5):
        picture(tmp_path / f"{i}.jpg")
    rows = "0.jpg,x,,7\n1.jpg,x|y,,8\n2.jpg,,y,9\n3.jpg,y,,7\n"
    (tmp_path / "train.csv").write_text("file_name,tags,unknown,price\n" + rows)
    (tmp_path / "old.csv").write_text("nothing\n")
    splits = load_multilabel_dataset(tmp_path, validation_share=0.25)
    summary = splits.summary
    assert (summary.form, summary.files) == ("table", [str(tmp_path / "train.csv")])
    assert summary.columns == {"image": "file_name", "labels": "tags", "unknown": "unknown"}
    assert (summary.images, summary.labels) == ({"train": 3, "validation": 1}, 2)
    assert (summary.unlabelled, summary.unknown) == (1, 1)
    assert summary.splits == {"train": "is train"}
    assert summary.left_out == {"old.csv": "a table of another name", "'price'": "columns that are not used"}
    assert str(summary) == (
        f"{tmp_path}: table, {tmp_path / 'train.csv'}\n"
        "  columns: file_name = image, tags = labels, unknown = unknown\n"
        "  images: 3 train, 1 validation; 2 labels; 1 image without a label; 1 unknown label\n"
        "  splits: train is train\n"
        "  no validation split: 1 of 4 images of train are held out by iterative stratification, seed 0\n"
        "  left out: old.csv (a table of another name)\n"
        "  left out: 'price' (columns that are not used)"
    )
    assert load_split(tmp_path, "train", validation_share=0.25).info.description == str(summary)


def test_copies_of_an_image_are_not_divided(tmp_path):
    names = [f"{place}/{i}.jpg" for place in "ab" for i in range(20)]
    for name in names:
        picture(tmp_path / name, of=name[2:])
    labels = [f"{name},{'xy'[int(name[2:-4]) % 2]}" for name in names]
    (tmp_path / "train.csv").write_text("\n".join(["file_name,labels", *labels]) + "\n")
    splits = load_multilabel_dataset(tmp_path)
    shown = [{image["path"][-6:].strip("ab/") for image in split.with_format("arrow")[:]["image"].to_pylist()}
             for split in splits.values()]  # fmt: skip
    assert [len(split) for split in splits.values()] == [32, 8]
    assert list(map(len, shown)) == [16, 4]
    assert "20 images are copies of another" in str(splits.summary)


def test_three_copies_of_each_image_are_not_divided(tmp_path):
    for i in range(20):
        for copy in "abc":
            picture(tmp_path / f"{copy}{i}.png", of=str(i))
    lines = [f"{path.name},{'xy'[int(path.stem[1:]) % 2]}" for path in sorted(tmp_path.glob("*.png"))]
    (tmp_path / "train.csv").write_text("\n".join(["file_name,labels", *lines]))
    train, validation = (image_digests(split) for split in load_multilabel_dataset(tmp_path).values())
    assert (len(train), len(validation)) == (48, 12)
    assert not set(train.tolist()) & set(validation.tolist())


def test_images_that_are_all_alike_are_divided(tmp_path):
    for i in range(4):
        picture(tmp_path / f"{i}.jpg", of="nothing")
    (tmp_path / "train.csv").write_text("file_name,labels\n0.jpg,x\n1.jpg,y\n2.jpg,x\n3.jpg,y\n")
    assert [len(split) for split in load_multilabel_dataset(tmp_path, validation_share=0.5).values()] == [2, 2]


def test_the_splits_keep_their_names_and_label_set(tmp_path):
    write_tables(tmp_path, train_csv="a.jpg:x b.jpg:y c.jpg:z", val_csv="d.jpg:x")
    splits = load_multilabel_dataset(tmp_path)
    assert [str(split.split) for split in splits.values()] == ["train", "validation"]
    assert label_names(splits["validation"]) == label_names(load_split(tmp_path, "validation")) == ["x", "y", "z"]


def test_every_image_is_of_all_splits_and_once(tmp_path):
    write_tables(tmp_path, metadata_csv="train/a.jpg:x val/b.jpg:y extra/c.jpg:x")
    table = (tmp_path / "metadata.csv").read_text().splitlines()
    splits = ["split", "train", "val", "extra"]
    (tmp_path / "metadata.csv").write_text(
        "\n".join(f"{row},{split}" for row, split in zip(table, splits, strict=True))
    )
    assert sorted(labels_by_file(load_split(tmp_path, "all"))) == ["a.jpg", "b.jpg", "c.jpg"]
    assert list(labels_by_file(load_split(tmp_path, "train", train_split="extra"))) == ["c.jpg"]


def test_classes_keep_their_names_where_the_images_are_paths(tmp_path):
    classes = datasets.List(datasets.ClassLabel(names=["zebra", "ant", "bee"]))
    features = datasets.Features({"file_name": datasets.Value("string"), "labels": classes})
    rows = {"file_name": [str(picture(tmp_path / f"{i}.jpg") or tmp_path / f"{i}.jpg") for i in range(4)]}
    held = datasets.Dataset.from_dict(rows | {"labels": [[0], [1], [0, 1], []]}, features=features)
    held.to_parquet(tmp_path / "metadata.parquet")
    for source in (held, tmp_path):
        splits = load_multilabel_dataset(source, validation_share=0.5)
        assert label_names(splits["train"]) == ["zebra", "ant", "bee"]
        found = labels_by_file(splits["train"]) | labels_by_file(splits["validation"])
        assert {name: labels for name, (labels, _) in found.items()} == {
            "0.jpg": ["zebra"], "1.jpg": ["ant"], "2.jpg": ["zebra", "ant"], "3.jpg": [],
        }  # fmt: skip


def test_a_test_table_without_labels_is_left_out(tmp_path):
    """As Kaggle's."""
    write_tables(tmp_path, train_csv="a.jpg:x b.jpg:y")
    picture(tmp_path / "c.jpg")
    (tmp_path / "test.csv").write_text("file_name\nc.jpg\n")
    splits = load_multilabel_dataset(tmp_path, validation_share=0.5)
    assert splits.keys() == {"train", "validation"}
    assert "left out: test.csv (a test table without labels)" in str(splits.summary)


def test_image_files_beside_shards_are_not_passed_over(tmp_path):
    picture(tmp_path / "a.jpg")
    with tarfile.open(tmp_path / "batch1.tar", "w") as tar:
        tar.add(tmp_path / "a.jpg", "b.jpg")
    with pytest.raises(DataError, match="holds shards, and image files such as a.jpg"):
        load_images([tmp_path])


def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    """Here one whose path is longer than the system takes; a right that lacks or a disk that fails ends likewise."""
    picture(tmp_path / "a.jpg")
    (tmp_path / "lost+found").mkdir()
    assert load_images(tmp_path)[0]["image"]["path"] == str(tmp_path / "a.jpg")
    above = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=above)
        inner = os.open("x" * 250, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = inner
    os.close(above)
    with pytest.raises(
        DataError, match="xxx: cannot be listed .File name too long., and may hold images: make it readable"
    ):
        load_images(tmp_path)
    shutil.rmtree(tmp_path / ("x" * 250))


def test_options_of_other_datasets_are_not_passed_over_by_a_benchmark():
    with pytest.raises(DataError, match="scenes: is read by its own protocol; label_names is for other datasets"):
        load_multilabel_dataset("scenes", label_names=["cat"])


def test_unknown_labels_of_tar_shards_may_come_late_and_a_stream_knows_them(tmp_path):
    picture(tmp_path / "a.jpg")
    with tarfile.open(tmp_path / "train-0000.tar", "w") as tar:
        for i in range(8):
            labels = {"labels": ["cat"], **({"unknown": ["bird"]} if i > 6 else {})}
            (tmp_path / "labels.json").write_text(json.dumps(labels))
            tar.add(tmp_path / "a.jpg", f"{i}.jpg")
            tar.add(tmp_path / "labels.json", f"{i}.json")
    read = load_split(tmp_path / "train-0000.tar", "all")
    assert label_names(read) == ["bird", "cat"]
    assert [len(row) for row in read["unknown"]] == [0] * 7 + [1]
    stream = load_multilabel_dataset(tmp_path / "train-0000.tar", streaming=True, label_names=["bird", "cat"])["train"]
    assert [example["unknown"] for example in stream] == [[]] * 7 + [[0]]


def test_samples_of_tar_shards_without_labels_are_counted(tmp_path):
    picture(tmp_path / "a.jpg")
    (tmp_path / "labels.json").write_text('{"labels": ["cat"]}')
    (tmp_path / "other.json").write_text('{"tags": ["cat"]}')
    with tarfile.open(tmp_path / "train-0000.tar", "w") as tar:
        for i in range(12):
            tar.add(tmp_path / "a.jpg", f"{i}.jpg")
            if i != 8:
                tar.add(tmp_path / ("other.json" if i == 9 else "labels.json"), f"{i}.json")
    read = load_split(tmp_path / "train-0000.tar", "all")
    assert [len(row) for row in read["labels"]] == [1] * 8 + [0, 0] + [1] * 2
    assert "2 images without json.labels, and so without any label" in read.info.description


def test_names_of_samples_may_have_dots(tmp_path):
    picture(tmp_path / "a.jpg")
    (tmp_path / "labels.json").write_text('{"labels": ["cat"]}')
    with tarfile.open(tmp_path / "train-0000.tar", "w") as tar:
        for i in range(8):
            tar.add(tmp_path / "a.jpg", f"im{i}.0.jpg")
            tar.add(tmp_path / "labels.json", f"im{i}.0.json")
    assert label_names(load_split(tmp_path / "train-0000.tar", "all")) == ["cat"]
    stream = load_multilabel_dataset(tmp_path / "train-0000.tar", streaming=True, label_names=["cat"])["train"]
    assert [example["labels"] for example in stream] == [[0]] * 8


def test_a_stream_of_numbers_that_can_be_read_in_two_ways_is_refused(tmp_path):
    picture(tmp_path / "a.jpg")
    rows = {"image": [str(tmp_path / "a.jpg")] * 4, "labels": [[0], [1], [0, 1], []]}
    held = datasets.Dataset.from_dict(rows | {"Unknown": [[1], [], [], [0]]}).cast_column("image", datasets.Image())
    held.to_parquet(tmp_path / "train.parquet")
    options = {"streaming": True, "label_names": ["a", "b"]}
    with pytest.raises(DataError, match="numbers of 2 labels can be their indices or 1 and 0 for each"):
        load_multilabel_dataset(tmp_path / "train.parquet", **options)
    options["label_names"] = ["a", "b", "c"]
    stream = load_multilabel_dataset(tmp_path / "train.parquet", **options)["train"]
    assert [(one["labels"], one["unknown"]) for one in stream] == [([0], [1]), ([1], []), ([0, 1], []), ([], [0])]


def test_shards_that_number_their_classes_differently_are_refused(tmp_path):
    """`datasets` would read the numbers of all by the names of the first."""
    for name, classes in (("train", ["cat", "dog"]), ("validation", ["dog", "cat"])):
        kinds = {"image": datasets.Image(), "labels": datasets.List(datasets.ClassLabel(names=classes))}
        rows = {"image": [Image.new("RGB", (8, 8))], "labels": [[classes.index("cat")]]}
        datasets.Dataset.from_dict(rows, datasets.Features(kinds)).to_parquet(tmp_path / f"{name}.parquet")
    for options in ({}, {"label_names": ["cat", "dog"]}, {"streaming": True}):
        with pytest.raises(DataError, match=r"train.parquet and .*validation.parquet: column .* \(in another order\)"):
            load_multilabel_dataset(tmp_path, **options)
    assert load_split(tmp_path / "validation.parquet", "all")["labels"][:] == [[1]]
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files: validation.parquet\n---\n"
    )
    assert load_split(tmp_path, "all")["labels"][:] == [[1]]


def test_shards_may_differ_in_columns_that_are_no_labels(tmp_path):
    for name, classes in (("train", ["web"]), ("validation", ["book", "web"])):
        kinds = {"image": datasets.Image(), "tags": datasets.List(datasets.Value("string"))}
        kinds |= {"source": datasets.ClassLabel(names=classes)}
        rows = {"image": [Image.new("RGB", (8, 8))], "tags": [["cat"]], "source": [0]}
        if name == "train":
            kinds, rows = kinds | {"id": datasets.Value("int8")}, rows | {"id": [1]}
        datasets.Dataset.from_dict(rows, datasets.Features(kinds)).to_parquet(tmp_path / f"{name}.parquet")
    splits = load_multilabel_dataset(tmp_path)
    assert [(len(split), label_names(split)) for split in splits.values()] == [(1, ["cat"])] * 2


def test_a_stream_refuses_states_and_takes_the_classes_of_several_objects(tmp_path):
    picture(tmp_path / "a.jpg")
    flat = {"labels": [[0, 0], [0, 1, 0, 1], [1, 0, 0, 0]]}
    nested = {"objects": [{"category": [0, 0, 1]}, {"category": [1, 1]}]}
    for name, labels in (("flat", flat), ("nested", nested)):
        (values,) = labels.values()
        rows = datasets.Dataset.from_dict({"image": [str(tmp_path / "a.jpg")] * len(values)} | labels)
        rows.cast_column("image", datasets.Image()).to_parquet(tmp_path / f"{name}.parquet")
    options = {"streaming": True, "label_names": ["a", "b", "c"]}
    rows = iter(load_multilabel_dataset(tmp_path / "flat.parquet", **options)["train"])
    assert next(rows)["labels"] == [0]
    with pytest.raises(DataError, match="4 numbers in each row that are all 1 or 0, and label_names has 3"):
        next(rows)
    stream = load_multilabel_dataset(tmp_path / "nested.parquet", **options)["train"]
    assert [one["labels"] for one in stream] == [[0, 1], [1]]


def test_a_copy_of_a_hub_dataset_with_several_configurations_says_how_to_choose(tmp_path):
    folder, configurations = tmp_path / "copy", []
    for name, count in (("full", 4), ("small", 2)):
        (folder / name).mkdir(parents=True)
        load_scenes("train", size=count).to_parquet(folder / f"{name}/train-00000-of-00001.parquet")
        configurations.append({"config_name": name, "data_files": f"{name}/*.parquet"})
    (folder / "README.md").write_text(f"---\nconfigs: {configurations}\n---\n")
    for streaming in (False, True):
        with pytest.raises(DataError, match=r"copy: has the configurations full, small; write .*copy:full$"):
            load_multilabel_dataset(folder, streaming=streaming)
        with pytest.raises(DataError, match=r"copy:large: cannot be loaded as a dataset \(BuilderConfig 'large' not"):
            load_multilabel_dataset(f"{folder}:large", streaming=streaming)
    assert len(load_split(f"{folder}:small", "all")) == 2
    stream = load_multilabel_dataset(f"{folder}:full", streaming=True)
    assert len(list(stream["train"])) == 4


def test_names_that_only_look_alike_are_refused(tmp_path):
    """As folders that came from a Mac, whose letters and accents are apart."""
    for split, name in (("train", "caf\u00e9"), ("validation", "cafe\u0301")):
        picture(tmp_path / split / name / f"{split}.jpg")
    with pytest.raises(DataError, match=r"'cafe\\u0301' and 'caf\\xe9' mean the same, .* write them alike"):
        load_multilabel_dataset(tmp_path)


def test_a_folder_that_is_called_as_the_drawings_is_not_passed_over(tmp_path):
    _refuse_folder(str(tmp_path / "scenes"))
    (tmp_path / "scenes").mkdir()
    with pytest.raises(
        DataError, match=r"scenes: the pictures that the package draws, and a folder here too; write \./"
    ):
        _refuse_folder(str(tmp_path / "scenes"))


def test_a_folder_is_not_passed_over_for_drawn_scenes(tmp_path):
    with pytest.raises(DataError, match="scenes: .* are in no folder: leave out data_dir, or give .* as the dataset"):
        load_multilabel_dataset("scenes", tmp_path)
