"""Objects in memory: DataFrames, datasets, lists of dicts."""

from pathlib import Path

import datasets
import numpy as np
import pandas
import pytest
from PIL import Image

from assocformer_hf.data.load import load_images, load_multilabel_dataset
from assocformer_hf.data.schema import DataError, label_names, multilabel_features
from tests.data.readers.files import by_file, labels_by_file, picture


@pytest.fixture
def files(tmp_path):
    for i in range(4):
        picture(tmp_path / f"{i}.jpg")
    return [str(tmp_path / f"{i}.jpg") for i in range(4)]


EXPECTED = {"0.jpg": (["x"], []), "1.jpg": (["x", "y"], []), "2.jpg": ([], []), "3.jpg": (["y"], [])}
LISTS = [["x"], ["x", "y"], [], ["y"]]


def read(source, **options) -> dict:
    return by_file(load_multilabel_dataset(source, validation_share=0.25, **options))


def test_dataframes(files, tmp_path):
    assert read(pandas.DataFrame({"image": files, "labels": ["x", "x|y", None, "y"]})) == EXPECTED
    assert read(pandas.DataFrame({"image": files, "labels": LISTS}, index=[9, 8, 7, 6])) == EXPECTED
    columns = {"path": files, "x": [1, 1, 0, 0], "y": [False, True, False, True], "price": [0.5, 2.5, 7.0, 9.9]}
    assert read(pandas.DataFrame(columns)) == EXPECTED
    names = pandas.DataFrame({"file_name": ["0.jpg", "1.jpg", "2.jpg", "3.jpg"], "labels": ["x", "x,y", np.nan, "y"]})
    assert read(names, data_dir=tmp_path) == EXPECTED
    names.to_parquet(tmp_path / "names.parquet")
    stored = pandas.DataFrame({"file_name": files, "labels": LISTS})
    stored.to_parquet(tmp_path / "lists.parquet")
    assert read(pandas.read_parquet(tmp_path / "lists.parquet")) == EXPECTED  # lists come back as arrays


def test_rows_are_read_as_those_of_a_table(files, tmp_path):
    rows = pandas.DataFrame({"image": [files[0], *files[1:2] * 2, *files[2:]], "labels": ["x", "x", "y", None, "y"]})
    assert read(rows) == EXPECTED
    with pytest.raises(DataError, match=r"a DataFrame: row 2: .*0.jpg is in an earlier row too; keep one of them"):
        read(pandas.DataFrame({"image": [files[0]] * 2, "x": [1, 0]}))
    for folder in ("train", "valid"):
        picture(tmp_path / folder / "a.jpg")
    by_folder = pandas.DataFrame({"image": ["train/a.jpg", "valid/a.jpg"], "labels": ["x", "y"]})
    found = load_multilabel_dataset(by_folder, data_dir=tmp_path)
    assert {key: len(split) for key, split in found.items()} == {"train": 1, "validation": 1}
    for kind in (Path, lambda name: str(tmp_path / name), lambda name: tmp_path / name):
        again = load_multilabel_dataset(by_folder.assign(image=by_folder["image"].map(kind)), data_dir=tmp_path)
        assert {key: split["labels"] for key, split in again.items()} == {
            key: split["labels"] for key, split in found.items()
        }
    folds = {"train": by_folder.iloc[1:], "validation": by_folder.iloc[:1]}
    assert labels_by_file(load_multilabel_dataset(folds, data_dir=tmp_path)["validation"]) == {"a.jpg": (["x"], [])}


def test_lists_of_dicts_with_paths_or_images(files):
    rows = [{"image": file, "labels": labels} for file, labels in zip(files, LISTS, strict=True)]
    assert read(rows) == EXPECTED
    images = [{"image": Image.open(row["image"]), "labels": row["labels"]} for row in rows]
    splits = load_multilabel_dataset(images, validation_share=0.25)
    assert {key: len(split) for key, split in splits.items()} == {"train": 3, "validation": 1}
    assert splits["train"][0]["image"].size == (8, 8)
    assert (splits.summary.form, splits.summary.labels) == ("memory", 2)


def test_numbers_of_numpy_are_numbers(files):
    states = [[1, 0], [1, 1], [0, 0], [0, 1]]
    for kind in (np.int64, np.bool_):
        rows = [{"image": file, "x": kind(x), "y": kind(y)} for file, (x, y) in zip(files, states, strict=True)]
        assert read(rows) == EXPECTED
    gaps = [
        {"image": file, "x": np.float32(x), "y": y}
        for file, x, y in zip(files, (1, np.nan, 0, 0), (0, 1, 0, 1), strict=True)
    ]
    assert read(gaps)["1.jpg"] == (["y"], ["x"])
    ratings = [
        row | {"rating": np.float32(value)} for row, value in zip(gaps, (np.nan, 0.5, np.nan, np.nan), strict=True)
    ]
    assert read(ratings) == read(gaps)
    rows = [{"image": file, "labels": list(map(np.int64, (3, 4)))} for file in files]
    assert label_names(load_multilabel_dataset(rows, validation_share=0.25)["train"]) == ["3", "4"]


def test_floats_that_are_whole_numbers_are_numbers(files):
    gap = pandas.DataFrame({"image": files, "labels": [0, 1, None, 1]})
    assert gap["labels"].dtype == float
    expected = {"0.jpg": (["x"], []), "1.jpg": (["y"], []), "2.jpg": ([], []), "3.jpg": (["y"], [])}
    assert read(gap, label_names=["x", "y"]) == expected
    assert label_names(load_multilabel_dataset(gap, validation_share=0.25)["train"]) == ["0", "1"]
    states = [{"image": file, "labels": row} for file, row in zip(files, np.eye(4, 2), strict=True)]
    assert read(states, label_names=["x", "y"])["1.jpg"] == (["y"], [])
    with pytest.raises(DataError, match=r"mixes list of whole number \(row 1\) and list of float \(row 2\)"):
        read([*states[:1], {"image": files[1], "labels": [0.5, 1.0]}], label_names=["x", "y"])


@pytest.mark.parametrize("of_many", [datasets.List, datasets.LargeList])
def test_each_column_is_of_its_own_classes(files, of_many):
    """The unknown labels may be declared in another order, and long lists are lists."""
    kinds = [of_many(datasets.ClassLabel(names=list(names))) for names in ("zaq", "aqz")]
    features = datasets.Features({"image": datasets.Image(), "labels": kinds[0], "unknown": kinds[1]})
    rows = {"image": files, "labels": [[2]] * len(files), "unknown": [[0]] * len(files)}
    splits = load_multilabel_dataset(datasets.Dataset.from_dict(rows, features=features), validation_share=0.5)
    names = label_names(splits["train"])
    assert names == ["z", "a", "q"]
    assert [names[i] for row in splits["train"].remove_columns("image") for i in row["labels"] + row["unknown"]] == [
        "q", "a"
    ] * len(splits["train"])  # fmt: skip


@pytest.mark.parametrize("listed", [False, True])
def test_a_class_that_nobody_annotated_leaves_all_labels_unknown(files, tmp_path, listed):
    kind = datasets.ClassLabel(names=["b", "a"])
    classes = [[0], [-1], [1], [0]] if listed else [0, -1, 1, 0]
    rows = {"image": files, "label": classes}
    features = {"image": datasets.Value("string"), "label": datasets.List(kind) if listed else kind}
    paths = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    images = paths.cast_column("image", datasets.Image())
    hidden = images.select([1])
    for dataset in (paths, images):
        assert read(dataset) == {
            "0.jpg": (["b"], []), "1.jpg": ([], ["b", "a"]), "2.jpg": (["a"], []), "3.jpg": (["b"], [])
        }  # fmt: skip
        assert read(dataset, label_names=["a", "b", "c"])["1.jpg"] == ([], ["a", "b", "c"])
    splits = load_multilabel_dataset({"train": images, "validation": images.select([0, 2]), "test": hidden})
    assert (splits["test"]["labels"][:], splits["test"]["unknown"][:]) == ([[]], [[0, 1]])
    datasets.DatasetDict(train=images, validation=images).save_to_disk(tmp_path / "saved")
    stream = load_multilabel_dataset(tmp_path / "saved", streaming=True)["train"]
    assert [(row["labels"], row["unknown"]) for row in stream] == [([0], []), ([], [0, 1]), ([1], []), ([0], [])]


@pytest.mark.parametrize("names", [["no", "yes"], ["0", "1"], ["True", "False"]])
def test_lists_of_classes_that_say_whether_each_label_is_there_need_the_names_of_the_labels(files, names):
    kind = datasets.List(datasets.ClassLabel(names=names))
    no, yes = (0, 1) if names[0] in ("no", "0") else (1, 0)
    rows = {"image": files, "labels": [[yes, no, no], [yes, yes, no], [no] * 3, [no, yes, no]]}
    paths = datasets.Dataset.from_dict(rows, datasets.Features({"image": datasets.Value("string"), "labels": kind}))
    for dataset in (paths, paths.cast_column("image", datasets.Image())):
        with pytest.raises(
            DataError, match="'labels': lists of 3 numbers that are all 1 or 0: give the names of the 3"
        ):
            read(dataset)
        assert read(dataset, label_names=["x", "y", "z"]) == EXPECTED
    with pytest.raises(DataError, match="'labels': lists of 3 numbers that are all 1 or 0"):
        read(datasets.Dataset.from_dict(rows | {"labels": [[yes, -1, no], [no, no, yes]] * 2}, features=paths.features))
    alone = datasets.Dataset.from_dict(rows | {"labels": [[yes], [no], [yes], [no]]}, features=paths.features)
    assert read(alone)["0.jpg"] == ([names[yes]], [])
    of_objects = [{"label": datasets.ClassLabel(names=names)}]
    features = datasets.Features({"image": datasets.Image(), "objects": of_objects})
    rows = {"image": files, "objects": [[{"label": 0}, {"label": 0}], [{"label": 1}, {"label": 0}]] * 2}
    assert read(datasets.Dataset.from_dict(rows, features=features))["0.jpg"] == ([names[0]], [])


def test_a_category_beside_columns_of_labels_is_asked_about_in_a_dataset_too(files, tmp_path):
    columns = {"image": files, "x": [1, 1, 0, 0], "y": [False, True, False, True], "category": ["in", "out"] * 2}
    dataset = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    with pytest.raises(DataError, match="column 'category' may name the labels, or columns such as 'x' and 'y' be"):
        read(dataset)
    assert read(dataset, label_names=["x", "y"]) == EXPECTED
    assert read(dataset, label_column="category")["3.jpg"] == (["out"], [])
    with pytest.raises(DataError, match="'tag' and 'y' both hold 1 and 0: give 'tag' as label_column"):
        read(dataset.remove_columns("category").rename_column("x", "tag"))
    flags = datasets.Dataset.from_dict(columns | {"is_valid": [True, False] * 2, "difficult": [0, 1] * 2})
    flags = flags.remove_columns(["x", "y"]).cast_column("image", datasets.Image())
    assert read(flags)["3.jpg"] == (["out"], [])  # flags that are hardly labels
    many = dataset.remove_columns("category").add_column("categories", [["a"], ["a", "b"], ["b"], ["a"]])
    assert read(many)["1.jpg"] == (["a", "b"], [])  # lists are labels
    assert read(dataset, label_names=["in", "out"])["0.jpg"] == (["in"], [])
    declared = dataset.cast_column("category", datasets.ClassLabel(names=["in", "out"]))
    declared = declared.cast_column("x", datasets.Value("bool")).cast_column("y", datasets.Value("large_string"))
    with pytest.raises(DataError, match="column 'category' may name the labels, or columns such as 'x' and 'y' be"):
        read(declared)
    declared = declared.remove_columns("y").add_column("y", [False, True, False, True])
    datasets.DatasetDict(train=declared, validation=declared).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="column 'category' may name the labels, or columns such as 'x' and 'y' be"):
        load_multilabel_dataset(tmp_path / "saved", streaming=True)
    kind = datasets.ClassLabel(names=["no", "yes"])
    assert read(dataset.remove_columns("category").rename_column("x", "tag").cast_column("tag", kind))["0.jpg"] == (
        ["yes"], [],
    )  # fmt: skip


@pytest.mark.parametrize(
    "names", [["male", "female"], ["yes", "no"], ["Absent", "Present"], ["0", "-1", "1"], ["false", "true"]]
)
def test_classes_that_say_whether_a_label_is_there_are_read_by_their_names(files, tmp_path, names):
    kind = datasets.ClassLabel(names=names)
    features = datasets.Features({"image": datasets.Image(), "x": kind, "y": kind})
    classes = [i % len(names) for i in range(4)]
    rows = {"image": files, "x": classes, "y": classes[::-1]}
    dataset = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(train=dataset, validation=dataset).save_to_disk(tmp_path / "saved")

    def first() -> dict:
        streamed = load_multilabel_dataset(tmp_path / "saved", streaming=True, label_names=["x", "y"])
        return next(iter(streamed["train"]))

    if "male" in names:
        with pytest.raises(DataError, match="no labels; expected a column labels"):
            read(dataset)
        with pytest.raises(DataError, match="column 'x': 'male' is not 1, 0, -1 or nothing"):
            first()
        return
    expected = {f"{i}.jpg": ([], []) for i in range(4)}
    for label in ("x", "y"):
        for i, place in enumerate(rows[label]):
            if names[place] not in ("0", "false", "no", "Absent"):
                expected[f"{i}.jpg"][names[place] == "-1"].append(label)
    assert read(dataset) == expected
    assert (first()["labels"], first()["unknown"]) == tuple(
        [["x", "y"].index(n) for n in part] for part in expected["0.jpg"]
    )


def test_flags_in_the_place_of_unknown_labels_are_named(files, tmp_path):
    kinds = {"image": datasets.Image(), "labels": datasets.List(datasets.ClassLabel(names=["x", "y"]))}
    for flag in ("bool", "int64"):
        features = datasets.Features(kinds | {"unknown": datasets.Value(flag)})
        rows = {"image": files, "labels": [[0], [1], [], [0, 1]], "unknown": [0, 1, 0, 1]}
        dataset = datasets.Dataset.from_dict(rows, features=features)
        with pytest.raises(DataError, match="column 'unknown' holds 1 and 0, where the names of the labels"):
            read(dataset)
        datasets.DatasetDict(train=dataset, validation=dataset).save_to_disk(tmp_path / flag)
        with pytest.raises(DataError, match="column 'unknown' holds 1 and 0, where the names of the labels"):
            load_multilabel_dataset(tmp_path / flag, streaming=True)
    table = pandas.DataFrame({"image": files, "labels": ["x", "y", "x", "y"], "unknown": [0, 1, 0, 0]})
    with pytest.raises(DataError, match="column 'unknown' holds 1 and 0, where the names of the labels"):
        read(table, label_names=["x", "y"])
    numbers = pandas.DataFrame({"image": files, "labels": ["2", "3", "2|3", "2"], "unknown": ["1", "1", "", ""]})
    assert read(numbers, label_names=["1", "2", "3"])["0.jpg"] == (["2"], ["1"])


@pytest.mark.parametrize("names", [["tench, Tinca tinca", "goldfish"], ["a|b;c", "[d]"], ['5" pipe', 'a "b", c']])
def test_classes_are_not_divided_whatever_their_names(files, tmp_path, names):
    rows = {"file_name": [Path(file).name for file in files], "label": [0, 1, None, 1]}
    kinds = {"file_name": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
    table.to_parquet(tmp_path / "metadata.parquet")
    first, second = [names[0]], [names[1]]
    expected = {"0.jpg": (first, []), "1.jpg": (second, []), "2.jpg": ([], []), "3.jpg": (second, [])}
    for options in ({}, {"label_names": names[::-1]}, {"delimiter": " "}):
        assert read(tmp_path, **options) == read(table, data_dir=tmp_path, **options) == expected


def test_two_columns_of_labels_in_structures_are_asked_about(files, tmp_path):
    rows = {
        "image": files,
        "objects": [{"category": ["x"]}, {"category": ["x", "y"]}, {"category": []}, {"category": ["y"]}],
        "scenes": [{"label": ["in"]}, {"label": ["out"]}] * 2,
    }
    both = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    beside = both.remove_columns("scenes").add_column("tags", [["in"], ["out"]] * 2)
    for dataset, other in ((both, "scenes.label"), (beside, "tags")):
        with pytest.raises(DataError, match="columns '.*' and '.*' may both be the label column; choose one") as error:
            read(dataset)
        assert "'objects.category'" in str(error.value)
        assert f"'{other}'" in str(error.value)
        assert read(dataset, label_column="objects.category") == EXPECTED
        assert read(dataset, label_column=other)["3.jpg"] == (["out"], [])
        folder = tmp_path / other
        datasets.DatasetDict(train=dataset, validation=dataset).save_to_disk(folder)
        with pytest.raises(DataError, match="may both be the label column"):
            load_multilabel_dataset(folder, streaming=True, label_names=["in", "out"])
    assert read(both.remove_columns("scenes")) == EXPECTED


def test_numbers_of_two_objects_are_no_states_of_two_labels(files, tmp_path):
    classes = [[0, 0], [0, 1], [1, 1], [1, 1]]
    rows = {"image": files, "objects": [{"bbox": [[0, 0, 4, 4]] * 2, "category": row} for row in classes]}
    dataset = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    expected = {"0.jpg": (["x"], []), "1.jpg": (["x", "y"], []), "2.jpg": (["y"], []), "3.jpg": (["y"], [])}
    assert read(dataset, label_names=["x", "y"]) == expected
    datasets.DatasetDict(train=dataset, validation=dataset).save_to_disk(tmp_path / "saved")
    stream = load_multilabel_dataset(tmp_path / "saved", streaming=True, label_names=["x", "y"])["train"]
    assert [row["labels"] for row in stream] == [[0], [0, 1], [1], [1]]


def test_classes_of_objects_are_no_columns_of_labels(files):
    kind = [{"flag": datasets.ClassLabel(names=["0", "1"])}]
    features = datasets.Features({"image": datasets.Image(), "x": datasets.Value("int64"), "objects": kind})
    rows = {"image": files, "x": [1, 0, 1, 0], "objects": [[{"flag": 1}, {"flag": 0}]] * 4}
    assert read(datasets.Dataset.from_dict(rows, features=features))["0.jpg"] == (["x"], [])


def test_of_several_columns_of_images_that_with_a_usual_name_counts(files, tmp_path):
    columns = {"mask": files[::-1], "image": files, "labels": LISTS}
    dataset = datasets.Dataset.from_dict(columns)
    for name in ("mask", "image"):
        dataset = dataset.cast_column(name, datasets.Image())
    assert read(dataset) == EXPECTED
    assert [Path(row["path"]).name for row in load_images_of(dataset, tmp_path)] == [f"{i}.jpg" for i in range(4)]
    with pytest.raises(DataError, match="the columns 'mask' and 'view' both hold images; choose one as image_column"):
        read(dataset.rename_column("image", "view"))
    assert read(dataset.rename_column("image", "view"), image_column="view") == EXPECTED


def load_images_of(dataset: datasets.Dataset, folder: Path) -> list[dict]:
    dataset.save_to_disk(folder / "saved")
    return load_images(folder / "saved")["image"][:]


def test_copies_of_an_image_with_other_labels_are_told(files):
    rows = [{"image": Image.open(file), "labels": label} for file in files[:2] for label in ("x", "y")]
    for shade, row in enumerate(rows):
        row["image"] = Image.new("RGB", (8, 8), (90 * (shade // 2), 0, 0))
    notes = load_multilabel_dataset(rows, validation_share=0.5).summary.notes
    assert (
        "2 images are copies of another, in the same split; 2 of them have other labels there: give each image"
        in notes[-1]
    )
    rows[1]["labels"] = rows[3]["labels"] = "x"
    assert load_multilabel_dataset(rows, validation_share=0.5).summary.notes[-1].endswith("in the same split")


def test_labels_may_be_sets(files):
    rows = [{"image": file, "labels": {"a", "b"} if i else frozenset("a")} for i, file in enumerate(files)]
    assert read(rows) == {f"{i}.jpg": (["a", "b"] if i else ["a"], []) for i in range(4)}


def test_datasets_and_dicts_of_splits(files):
    part = datasets.Dataset.from_dict({"image": files, "labels": LISTS})
    assert read(part) == EXPECTED
    assert read(part.cast_column("image", datasets.Image())) == EXPECTED
    splits = {"train": part.select([0, 1]), "val": part.select([2]), "test": part.select([3])}
    for source in (splits, datasets.DatasetDict(splits)):
        found = load_multilabel_dataset(source)
        assert {key: len(split) for key, split in found.items()} == {"train": 2, "validation": 1, "test": 1}
    again = load_multilabel_dataset(found)
    assert label_names(again["test"]) == ["x", "y"]
    assert again["train"]["labels"] == found["train"]["labels"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "a list: no column of images"),
        (7, "a int: no dataset found; looked for"),
        ([1, 2], "a list: expected a DataFrame, a Dataset or a list of dicts"),
        (
            [{"labels": ["x"]}],
            "a list: no column of images; expected one of file_name, .*, or image_column; the columns are labels",
        ),
        ([{"image": 5, "labels": ["x"]}], "a list: row 1: 5 is not an image"),
        ([{"image": "gone.jpg", "labels": ["x"]}], "gone.jpg: missing; complete what"),
        (
            [{"image": np.ones((8, 8, 3), np.uint16), "labels": ["x"]}],
            "a list: row 1: an array in uint16; give it in uint8",
        ),
        ([{"image": np.full((8, 8), 300), "labels": ["x"]}], "a list: row 1: an array in int64; give it in uint8"),
        ([{"image": "a.jpg"}], "a list: no labels; expected a column labels"),
        ({3: []}, "the split 3 of a dict is not a name"),
        ({}, "a dict: no images"),
        (pandas.DataFrame([["a.jpg", "x"]]), "the column 0 has no name"),
    ],
)
def test_what_is_no_dataset_is_named(source, message):
    with pytest.raises(DataError, match=message):
        load_multilabel_dataset(source)


@pytest.mark.parametrize("chosen", [range(8), [7, 2, 5, 0, 1, 6]], ids=["contiguous", "in another order"])
def test_what_was_read_from_shards_is_read_again(tmp_path, chosen):
    """Its images lie on the disk, and the labels in memory."""
    folder = tmp_path / "shards"
    folder.mkdir()
    pictures = [datasets.Image().encode_example(Image.new("RGB", (8, 8), (20 * i, 0, 0))) for i in range(10)]
    rows = {"image": pictures, "labels": [[i % 2] for i in range(10)]}
    features = multilabel_features(["x", "y"]) | {"image": datasets.Image()}
    for split in ("train", "validation"):
        datasets.Dataset.from_dict(rows, datasets.Features(features)).to_parquet(folder / f"{split}-0.parquet")
    whole = load_multilabel_dataset(folder)["train"]
    part = whole.select(chosen)
    again = load_multilabel_dataset({"train": part, "validation": part})
    for split in again.values():
        assert split["labels"] == part["labels"]
        assert [image.getpixel((4, 4)) for image in split["image"]] == [
            image.getpixel((4, 4)) for image in part["image"]
        ]


def test_lists_of_true_and_false_say_which_labels_are_there(files):
    rows = [{"image": file, "labels": [i % 2 == 0, True]} for i, file in enumerate(files)]
    found = read(rows, label_names=["x", "y"])
    assert [labels for labels, _ in found.values()] == [["x", "y"] if i % 2 == 0 else ["y"] for i in range(len(files))]
    for names, count in ((["x"], 1), (None, 0)):
        with pytest.raises(DataError, match=f"row 1: 2 times true or false, and label_names has {count}: give each"):
            read(rows, label_names=names)
