"""Tables with labels in any form: what is odd but clear is read, what is wrong is named."""

import csv
import json
import unicodedata

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from assocformer_hf.data.load import load_multilabel_dataset, load_split
from assocformer_hf.data.schema import DataError, label_names
from tests.data.readers.files import labels_by_file, picture


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(tmp_path / f"{i}.jpg")
    return tmp_path


def load(folder, text: str | bytes, name="metadata.csv", **options) -> list[set[str]]:
    """What a table of all images gives, in their order."""
    content = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(content)
    splits = load_multilabel_dataset(folder, validation_share=0.5, **options)
    names = label_names(splits["train"])
    found = {
        image["path"].rpartition("/")[2]: {names[label] for label in labels}
        for split in splits.values()
        for image, labels in zip(split.with_format("arrow")[:]["image"].to_pylist(), split["labels"], strict=True)
    }
    return [found[file] for file in sorted(found)]


EXPECTED = [{"cat"}, {"cat", "dog"}, set(), {"dog"}]
ROWS = "file_name,labels\n0.jpg,cat\n1.jpg,cat|dog\n2.jpg,\n3.jpg,dog\n"


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        ROWS.replace("\n", "\r\n"),
        ROWS + ",\n , \n",
        b"\xef\xbb\xbf" + ROWS.encode(),
        ROWS.replace("|", ";"),
        ROWS.replace("cat|dog", '"cat, dog"'),
        ROWS.replace(",", ";"),
        "sep=;\r\n" + ROWS.replace(",", ";"),
        "sep=!\n" + ROWS.replace(",", "!"),
        ROWS.replace("file_name,labels", "Image,Tags"),
        "file_name,labels\n0.jpg,['cat']\n1.jpg,\"['cat', 'dog']\"\n2.jpg,[]\n3.jpg,['dog']\n",
        'file_name,labels\n0.jpg,"[""cat""]"\n1.jpg,"[""cat"", ""dog""]"\n2.jpg,\n3.jpg,"[""dog""]"\n',
        "image,label\n0.jpg,cat\n1.jpg,dog\n1.jpg,cat\n2.jpg,\n3.jpg,dog\n3.jpg,dog\n",
        "file_name,author,cat,dog\n0.jpg,x,1,0\n1.jpg,y,1,1\n2.jpg,,0,0\n3.jpg,z,0,1\n",
        "file_name,cat,dog\n0.jpg,1.0,False\n1.jpg,True,1\n2.jpg,0,0\n3.jpg,0,1.0\n",
    ],
    ids=[
        "pipe", "windows", "empty-rows", "bom", "semicolon", "comma", "semicolons-separate",
        "said-in-the-first-line", "another-said-there", "other-names",
        "python-lists", "json-lists", "a-row-for-each-label", "columns", "columns-of-numbers",
    ],
)  # fmt: skip
def test_the_same_labels_in_many_forms(folder, text):
    assert load(folder, text) == EXPECTED


def test_a_category_beside_columns_of_labels_is_not_taken_for_the_labels(folder):
    text = "file_name,cat,dog,category\n0.jpg,1,0,in\n1.jpg,1,1,out\n2.jpg,0,0,in\n3.jpg,0,1,out\n"
    with pytest.raises(DataError, match="column 'category' may name the labels, or columns such as 'cat' and 'dog' be"):
        load(folder, text)
    assert load(folder, text, label_names=["cat", "dog"]) == EXPECTED
    assert load(folder, text, label_column="category") == [{"in"}, {"out"}, {"in"}, {"out"}]
    text = "file_name,tags,cat,dog\n0.jpg,,1,0\n1.jpg,,1,1\n2.jpg,,0,0\n3.jpg,,0,1\n"
    with pytest.raises(DataError, match="column 'tags', which is empty, may name the labels, or columns such as 'cat'"):
        load(folder, text)


def test_utf8_names_and_labels_that_contain_the_delimiter(folder):
    text = 'file_name,labels\n0.jpg,Müller\n1.jpg,"""a|b""|猫"\n2.jpg,猫\n3.jpg,Müller|猫\n'
    assert load(folder, text) == [{"Müller"}, {"a|b", "猫"}, {"猫"}, {"Müller", "猫"}]


def test_the_label_set_tells_what_divides(folder):
    text = 'file_name,labels\n0.jpg,salt; pepper\n1.jpg,"salt; pepper,oil"\n2.jpg,oil\n3.jpg,\n'
    with pytest.raises(DataError, match=".*: ; and , both occur; say which one divides them as delimiter"):
        load(folder, text)
    expected = [{"salt; pepper"}, {"salt; pepper", "oil"}, {"oil"}, set()]
    assert load(folder, text, label_names=["oil", "salt; pepper"]) == expected
    assert load(folder, text, delimiter=",") == expected
    spaces = "file_name,labels\n0.jpg,haze primary\n1.jpg,clear\n2.jpg,primary\n3.jpg,\n"
    assert load(folder, spaces, label_names=["clear", "haze", "primary"])[0] == {"haze", "primary"}


def test_a_label_may_be_called_as_the_column_of_labels(folder):
    text = "file_name,labels\n0.jpg,labels\n1.jpg,\n2.jpg,labels\n3.jpg,\n"
    assert load(folder, text, label_names=["labels"]) == [{"labels"}, set(), {"labels"}, set()]
    states = "file_name,labels\n0.jpg,1\n1.jpg,0\n2.jpg,1\n3.jpg,0\n"
    assert load(folder, states, label_names=["labels"]) == [{"labels"}, set(), {"labels"}, set()]


def test_label_columns_may_have_separators_in_their_names(folder):
    text = 'file_name,"salt; pepper; oil","a|b"\n0.jpg,1,0\n1.jpg,0,1\n'
    assert load(folder, text) == [{"salt; pepper; oil"}, {"a|b"}]


def test_unknown_labels_of_columns_and_of_a_list(folder):
    (folder / "metadata.csv").write_text("file_name,cat,dog\n0.jpg,1,-1\n1.jpg,,1\n2.jpg,0,0\n3.jpg,1,1\n")
    columns = load_multilabel_dataset(folder, validation_share=0.5)
    (folder / "metadata.csv").write_text(
        "file_name,labels,unknown\n0.jpg,cat,dog\n1.jpg,dog,cat\n2.jpg,,\n3.jpg,cat|dog,\n"
    )
    lists = load_multilabel_dataset(folder, validation_share=0.5)
    for split in columns:
        assert columns[split].to_dict() == lists[split].to_dict()
    both = [*columns["train"]["unknown"], *columns["validation"]["unknown"]]
    assert sorted(both) == [[], [], [0], [1]]


@pytest.mark.parametrize("word", ["NA", "nan", "NULL", "None", " na "])
def test_states_that_are_not_known_may_be_words(folder, word):
    text = f"file_name,cat,dog\n0.jpg,1,{word}\n1.jpg,0,{word}\n2.jpg,{word},{word}\n3.jpg,1,1\n"
    (folder / "metadata.csv").write_text(text)
    whole = load_split(folder, "all")
    assert label_names(whole) == ["cat", "dog"]
    assert (whole["labels"][:], whole["unknown"][:]) == ([[0], [], [], [0, 1]], [[1], [1], [0, 1], []])
    assert load(folder, f"file_name,labels\n0.jpg,cat|{word.strip()}\n1.jpg,cat\n") == [{"cat", word.strip()}, {"cat"}]


def test_numbers_are_indices_into_the_label_set_or_states(folder):
    rows = [[0, 2], [1], [], [2]]
    lines = "".join(json.dumps({"file_name": f"{i}.jpg", "labels": row}) + "\n" for i, row in enumerate(rows))
    assert load(folder, lines, "metadata.jsonl", label_names=["a", "b", "c"]) == [{"a", "c"}, {"b"}, set(), {"c"}]
    assert load(folder, lines, "metadata.jsonl") == [{"0", "2"}, {"1"}, set(), {"2"}]
    (folder / "metadata.jsonl").unlink()
    rows = {"file_name": ["0.jpg", "1.jpg"], "labels": [[1, 0, 1], [0, 0, 1]]}
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "metadata.parquet")
    splits = load_multilabel_dataset(folder, label_names=["a", "b", "c"], validation_share=0.5)
    assert sorted([*splits["train"]["labels"], *splits["validation"]["labels"]]) == [[0, 2], [2]]


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.parquet"])
def test_numbers_that_are_the_labels_names_are_no_indices(folder, name):
    """The names of a model that was trained on numbers are in their order: 0, 1, 2, 10, 11."""
    rows = [[0], [2, 10], [11, 1], [10], [1, 0]]
    table = pyarrow.table({"file_name": [f"{i}.jpg" for i in range(len(rows))], "labels": rows})
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(table, folder / name)
    else:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    trained = load_split(folder, "all")
    names = label_names(trained)
    assert names == ["0", "1", "2", "10", "11"]
    for known in (names, [*names, "3"]):
        again = load_split(folder, "all", label_names=known)
        assert [[known[label] for label in row] for row in again["labels"]] == [
            [names[label] for label in row] for row in trained["labels"]
        ]
    with pytest.raises(DataError, match="unknown label '11'"):
        load_split(folder, "all", label_names=names[:-1])


def test_a_raw_file_of_the_same_name_is_not_what_a_table_means(folder):
    (folder / "raw").mkdir()
    for i in range(4):
        (folder / f"raw/{i}.CR2").write_bytes(b"of a camera")
    assert load(folder, ROWS.replace(".jpg", ""), "metadata.csv") == EXPECTED


def test_states_of_labels_with_numbers_as_names_are_states(folder):
    digits = [str(digit) for digit in range(10)]
    states = [[int(digit in present) for digit in digits] for present in ("3", "7", "29", "", "0123456789")]
    table = pyarrow.table({"file_name": [f"{i}.jpg" for i in range(5)], "labels": states})
    pyarrow.parquet.write_table(table, folder / "metadata.parquet")
    assert load_split(folder, "all", label_names=digits)["labels"][:] == [[3], [7], [2, 9], [], list(range(10))]
    table = pyarrow.table({"file_name": ["0.jpg", "1.jpg"], "labels": [[0, 1], [1, 0]]})
    pyarrow.parquet.write_table(table, folder / "metadata.parquet")
    with pytest.raises(DataError, match="lists of 2 numbers 1 and 0 can be states of the labels or their names"):
        load_split(folder, "all", label_names=["0", "1"])
    table = pyarrow.table({"file_name": ["0.jpg", "1.jpg"], "labels": [[1], []]})
    pyarrow.parquet.write_table(table, folder / "metadata.parquet")
    assert load_split(folder, "all", label_names=["1"])["labels"][:] == [[0], []]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("labels\ncat\n", {}, "metadata.csv: no column of images; expected one of file_name, image, "),
        ("file_name,author\n0.jpg,me\n", {}, "no labels; expected a column labels or label or tags, label_column, or"),
        (ROWS, {"label_column": "tags"}, "no column 'tags' for label_column; the columns are labels"),
        (ROWS, {"image_column": "photo"}, "no column 'photo' for image_column; the columns are file_name, labels"),
        (ROWS, {"label_names": ["cat"]}, r"metadata.csv: .*jpg: unknown label '.*dog'; expected one of cat"),
        ("file_name,cat,dog\n0.jpg,1,0\n", {"label_names": ["cat", "cow"]}, "no column 'cow', which is in label_names"),
        ("file_name,cat\n0.jpg,1\n1.jpg,0\n2.jpg,yes\n", {}, "row 3, column 'cat': 'yes' is not 1, 0, -1 or nothing"),
        ("file_name,cat\n0.jpg,1\n0.jpg,0\n", {}, "row 2: 0.jpg is in an earlier row too; keep one of them"),
        ("file_name,labels\n../0.jpg,cat\n", {}, "row 1: ../0.jpg leads out of .*; give the folder that holds all the"),
        ("file_name,labels\n/etc/passwd,cat\n", {}, "row 1: /etc/passwd leads out of"),
        ("file_name,labels\n,cat\n", {}, "row 1: an image without a file name"),
        ("file_name,labels\n7.jpg,cat\n8.jpg,cat\n", {}, "7.jpg: missing, with 1 more of the 2 images"),
        ("file_name,labels\n0.jpg,cat,dog\n", {}, "line 2 has 3 fields, the header 2; put values that contain ',' in"),
        ("file_name,labels\n0.jpg,\"cat\n", {}, "not valid CSV"),
        ("file_name,labels,labels\n0.jpg,a,b\n", {}, "two columns have the same name"),
        ("", {}, "an empty table; the first line must name the columns"),
        ("file_name,labels\n", {}, "metadata.csv: no rows"),
        (b"file_name,labels\n0.jpg,M\xfcller\n", {}, r"not in UTF-8 \(invalid start byte at byte 24\)"),
        ("file_name,labels\n0.jpg,[\"cat\"]\n1.jpg,dog\n", {}, "row 2: 'dog' is not a list, as other rows are"),
        ("file_name,labels\n0.jpg,[odd]\n1.jpg,dog\n", {}, r"row 1: '\[odd\]' begins like a list and is none"),
        ("file_name,labels\n0.jpg,cat\n1.jpg,\"cat\ndog\"\n", {}, r"row 2: labels 'cat\\ndog': a line break; put"),
        ("file_name,labels\n0.jpg,\"{\"\"cat\"\": 0, \"\"dog\"\": 1}\"\n", {}, "row 1: .* are a dictionary;"),
        ("file_name,label,present\n0.jpg,cat,1\n0.jpg,dog,0\n1.jpg,cat,0\n1.jpg,dog,1\n", {},
         "images have several rows, and column 'present' holds 1 and 0: it may say whether an image has the label"),
        ("image,LabelName,Confidence\n0.jpg,cat,1\n0.jpg,dog,1\n1.jpg,dog,0\n1.jpg,cat,1\n",
         {"label_column": "LabelName"}, "column 'Confidence' holds 1 and 0.*values='Confidence'"),
        ("file_name,labels\n0.jpg,\"['a', 'b']\"\n1.jpg,c\n", {"delimiter": ","}, "row 2: 'c' is not a list, as"),
        ("file_name,labels\n0.jpg,['a' 'b']\n1.jpg,['a']\n", {"delimiter": ","}, "has no comma between two labels"),
        ("file_name,labels\n0.jpg,\"{'cat': 1, 'dog': 0}\"\n", {}, "row 1: labels .* are a dictionary; write"),
        ("file_name,labels,unknown\n0.jpg,cat,0\n1.jpg,dog,1\n", {}, "column 'unknown' holds 1 and 0, where the"),
        (ROWS, {"form": "csv"}, "unknown form 'csv'; expected one of coco, cvat, hub, imagefolder, .*table, voc, yolo"),
        (ROWS, {"form": "yolo"}, "no dataset found; looked for data.yaml with names"),
        (ROWS, {"delimiter": ", "}, "delimiter must be a single character, such as | or a tab; got ', '"),
        (ROWS, {"delimiter": ""}, "delimiter must be a single character"),
        (ROWS, {"split_seed": -1}, "the seed of the split must be at least 0; got -1"),
        (ROWS, {"validation_share": 1.5}, "share of the validation split must be above 0 and below 1; got 1.5"),
    ],
)  # fmt: skip
def test_wrong_tables_are_named_with_the_way_out(folder, text, options, message):
    (folder / "metadata.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        load_multilabel_dataset(folder, **options)


@pytest.mark.parametrize(
    "column",
    [
        "class_id\n0.jpg,cat,0\n0.jpg,dog,1\n1.jpg,cat,0\n2.jpg,dog,1\n",
        "difficult\n0.jpg,cat,0\n0.jpg,dog,1\n1.jpg,cat,1\n2.jpg,dog,0\n",
        "indoor\n0.jpg,cat,0\n0.jpg,dog,0\n1.jpg,cat,1\n2.jpg,dog,1\n",
        "is_occluded\n0.jpg,cat,0\n0.jpg,dog,1\n1.jpg,cat,1\n2.jpg,dog,0\n",
        "sure\n0.jpg,cat,1\n0.jpg,dog,1\n1.jpg,cat,1\n2.jpg,dog,\n",
    ],
    ids=["number of the class", "flag of an object", "of the image", "with is", "never 0"],
)
def test_a_column_of_numbers_beside_several_rows_of_an_image_is_no_state(folder, column):
    assert load(folder, f"file_name,label,{column}") == [{"cat", "dog"}, {"cat"}, {"dog"}]


def test_labels_in_brackets_are_names_where_the_delimiter_is_given(folder):
    text = 'file_name,labels\n0.jpg,[odd]|cat\n1.jpg,cat\n2.jpg,"(a"\n'
    assert load(folder, text, delimiter="|") == [{"[odd]", "cat"}, {"cat"}, {"(a"}]
    assert load(folder, ROWS.replace("cat|dog", '"[""cat"", ""dog""]"').replace(",cat\n", ',"[""cat""]"\n')
                .replace(",dog\n", ',"[""dog""]"\n'), delimiter="|") == EXPECTED  # fmt: skip


def test_a_label_of_two_lines_is_read_with_and_without_the_label_set(folder):
    text = 'file_name,labels\n0.jpg,"cat|""a\nb"""\n1.jpg,cat\n2.jpg,"""a\nb"""\n'
    expected = [{"cat", "a\nb"}, {"cat"}, {"a\nb"}]
    assert load(folder, text) == load(folder, text, label_names=["cat", "a\nb"]) == expected
    assert load(folder, "file_name,labels\n0.jpg,caf\u2028b\n1.jpg,cat\n") == [{"caf\u2028b"}, {"cat"}]


def test_guesses_of_a_table_of_predictions_are_no_labels(folder):
    text = "file_name,labels,scores,is_guess\n0.jpg,cat,0.9,false\n1.jpg,cat,0.2,true\n2.jpg,dog,0.7,false\n"
    assert load(folder, text) == [{"cat"}, set(), {"dog"}]
    splits = load_multilabel_dataset(folder, validation_share=0.5)
    assert "1 image has no label, as is_guess says" in splits.summary.notes


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["cat"], "dog"], r"column 'labels': mixes list \(row 1\) and text \(row 2\); write all rows alike"),
        ([["cat"], [3]], r"mixes list of text \(row 1\) and list of whole number \(row 2\)"),
        ([["cat"], [None]], r"mixes list of text \(row 1\) and list of NoneType \(row 2\)"),
        ([0.5, 1.5], "row 1: float is no label; use names or whole numbers"),
    ],
)
def test_mixed_types_are_named(folder, labels, message):
    rows = "".join(json.dumps({"file_name": f"{i}.jpg", "labels": row}) + "\n" for i, row in enumerate(labels))
    (folder / "metadata.jsonl").write_text(rows)
    with pytest.raises(DataError, match=message):
        load_multilabel_dataset(folder)


def test_images_may_lie_in_a_folder_of_their_own(folder, tmp_path_factory):
    table = tmp_path_factory.mktemp("elsewhere") / "labels.csv"
    table.write_text(ROWS.replace("0.jpg", str(folder / "0.jpg")))
    with pytest.raises(DataError, match="leads out of"):
        load_multilabel_dataset(table)
    splits = load_multilabel_dataset(table, folder, validation_share=0.5)
    assert {name: len(split) for name, split in splits.items()} == {"train": 2, "validation": 2}


def test_what_is_no_dataset_says_what_was_looked_for(tmp_path):
    with pytest.raises(
        DataError, match=r"no dataset found; looked for annotations/.*a folder of `datasets`.*ImageSets/Main.*data.yaml"
    ):
        load_multilabel_dataset(tmp_path)
    with pytest.raises(DataError, match="nowhere/at/all: no such file or folder"):
        load_multilabel_dataset("nowhere/at/all")
    with pytest.raises(DataError, match="owner/dataset: no such file or folder here, and cannot be loaded"):
        load_multilabel_dataset("owner/dataset")


def test_lists_of_two_states_are_no_indices(folder):
    rows = [[1, 0], [0, 1], [1, 0], [0, 1]]
    lines = "".join(json.dumps({"file_name": f"{i}.jpg", "labels": row}) + "\n" for i, row in enumerate(rows))
    assert load(folder, lines, "metadata.jsonl", label_names=["a", "b"]) == [{"a"}, {"b"}, {"a"}, {"b"}]
    with pytest.raises(DataError, match="lists of 2 numbers that are all 1 or 0: give the names of the 2 labels"):
        load_multilabel_dataset(folder)
    (folder / "metadata.jsonl").write_text('{"file_name": "0.jpg", "labels": [0]}\n{"file_name": "1.jpg"}\n')
    with pytest.raises(DataError, match="lists of 1 numbers 1 and 0 can be states of the labels or their indices"):
        load_multilabel_dataset(folder, label_names=["a"])


def test_a_column_that_may_name_labels_or_be_one_is_refused(folder):
    text = "file_name,tag,dog\n0.jpg,1,0\n1.jpg,0,1\n2.jpg,0,0\n3.jpg,1,1\n"
    with pytest.raises(DataError, match="'tag' and 'dog' both hold 1 and 0: give 'tag' as label_column"):
        load(folder, text)
    assert load(folder, text, label_names=["tag", "dog"]) == [{"tag"}, {"dog"}, set(), {"tag", "dog"}]
    assert load(folder, text, label_column="tag") == [{"1"}, {"0"}, {"0"}, {"1"}]
    with pytest.raises(DataError, match="'labels' and 'tags' may both be the label column; choose one as label_column"):
        load(folder, "file_name,labels,tags\n0.jpg,a,b\n")


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


def test_line_separators_of_unicode_do_not_end_a_row(folder):
    lines = '{"file_name": "0.jpg", "labels": ["a\u2028b"]}\n{"file_name": "1.jpg", "labels": ["c\x85d"]}\n'
    assert load(folder, lines, "metadata.jsonl") == [{"a\u2028b"}, {"c\x85d"}]


def test_lists_as_numpy_prints_them_are_no_lists(folder):
    """Python takes texts without a comma between them for one."""
    text = "file_name,labels\n0.jpg,['cat']\n1.jpg,['cat' 'dog']\n2.jpg,[]\n3.jpg,['dog']\n"
    with pytest.raises(DataError, match="row 2: .* has no comma between two labels"):
        load(folder, text)


@pytest.mark.parametrize("names", [["a", "b", "c"], ["a", "b", "c", "d", "e"]])
def test_states_of_another_number_of_labels_are_no_indices(folder, names):
    rows = [[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    lines = "".join(json.dumps({"file_name": f"{i}.jpg", "labels": row}) + "\n" for i, row in enumerate(rows))
    message = f"4 numbers in each row that are all 1 or 0, and label_names has {len(names)}: give the names of the 4"
    with pytest.raises(DataError, match=message):
        load(folder, lines, "metadata.jsonl", label_names=names)
    (folder / "metadata.jsonl").unlink()
    text = "file_name,labels\n" + "".join(f'{i}.jpg,"{",".join(map(str, row))}"\n' for i, row in enumerate(rows))
    with pytest.raises(DataError, match="4 numbers in each row that are all 1 or 0: give the names of the 4 labels"):
        load(folder, text)
    cells = [json.dumps(list(map(str, row))).replace('"', '""') for row in rows]
    text = "file_name,labels\n" + "".join(f'{i}.jpg,"{cell}"\n' for i, cell in enumerate(cells))
    with pytest.raises(DataError, match="4 numbers in each row that are all 1 or 0: give the names of the 4 labels"):
        load(folder, text)


def test_tuples_and_sets_as_text_are_lists_and_parentheses_part_of_a_label(folder):
    text = "file_name,labels\n0.jpg,\"('cat',)\"\n1.jpg,\"{'cat', 'dog'}\"\n2.jpg,()\n3.jpg,\"['dog']\"\n"
    assert load(folder, text) == EXPECTED
    text = "file_name,labels\n0.jpg,(cat)\n1.jpg,(cat)|{dog}\n2.jpg,\n3.jpg,{dog}\n"
    assert load(folder, text) == [{"(cat)"}, {"(cat)", "{dog}"}, set(), {"{dog}"}]


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


def test_missing_files_are_kept_for_what_skips_them_unless_all_are_missing(tmp_path):
    picture(tmp_path / "a.jpg")
    (tmp_path / "t.csv").write_text("file_name,labels\na.jpg,x\nb.jpg,y\n")
    split = load_split(tmp_path, "all", bad_images="skip")
    assert labels_by_file(split) == {"a.jpg": (["x"], []), "b.jpg": (["y"], [])}
    assert f"missing: 1 of the 2 images of {tmp_path}/t.csv, such as {tmp_path}/b.jpg" in split.info.description
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(DataError, match="a.jpg: missing, with 1 more of the 2 images"):
        load_split(tmp_path, "all", bad_images="skip")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('file_name, labels\n0.jpg, "a,b"\n1.jpg, b\n', [{"a", "b"}, {"b"}]),  # a space before the quote
        ("file_name,labels,,\n0.jpg,a,,\n1.jpg,b,,\n", [{"a"}, {"b"}]),  # columns that hold nothing
    ],
)
def test_what_programs_write_by_the_way_changes_nothing(folder, text, expected):
    assert load(folder, text) == expected


def test_tables_of_a_training_beside_the_images_are_passed_over(folder):
    (folder / "labels.csv").write_text("file_name,labels\n0.jpg,a\n1.jpg,b\n")
    (folder / "history.csv").write_text("epoch,loss\n1,0.5\n")
    split = load_split(folder, "all")
    assert len(split) == 2
    assert "history.csv" in split.info.description


@pytest.mark.parametrize(
    "types",
    [
        {"info": {"features": {"labels": {"_type": "Newer", "dtype": "string"}}}},
        {"info": {"features": [1]}},
        {"info": 1},
    ],
)
def test_types_that_this_datasets_does_not_know_are_named(folder, types):
    table = pyarrow.table({"file_name": ["0.jpg", "1.jpg"], "labels": ["x", "y"]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(types)})
    pyarrow.parquet.write_table(table, folder / "metadata.parquet")
    with pytest.raises(
        DataError, match=r"metadata.parquet: the types of its columns.* are unknown to .*update datasets"
    ):
        load_split(folder, "all")


def test_whole_numbers_that_are_too_long_are_named(folder):
    (folder / "metadata.jsonl").write_text(f'{{"file_name": "0.jpg", "labels": [{"9" * 5000}]}}\n')
    with pytest.raises(DataError, match="metadata.jsonl: line 1 is not valid JSON .*4300 digits"):
        load_split(folder, "all")


@pytest.mark.parametrize("columns", ["file_name,mask,labels", "mask,labels,file_name"])
def test_a_cell_may_be_long(folder, columns):
    """As masks are that are written as lengths of runs; the limit of `csv` is that of the whole process."""
    limit = csv.field_size_limit()
    row = columns.replace("mask", "1 2 " * 50_000)
    rows = [
        row.replace("file_name", f"{i}.jpg").replace("labels", cell)
        for i, cell in enumerate(("cat", "cat|dog", "", "dog"))
    ]
    assert load(folder, "\n".join([columns, *rows])) == EXPECTED
    assert csv.field_size_limit() == limit


def test_the_list_of_what_could_not_be_tagged_is_no_table_of_images(folder, tmp_path_factory):
    """As `predict` writes it beside its shards."""
    tags = tmp_path_factory.mktemp("tags")
    table = pyarrow.table({"file": [str(folder / f"{i}.jpg") for i in range(2)], "labels": [["a"], ["b"]]})
    pyarrow.parquet.write_table(table, tags / "tags-00000-of-00001.parquet")
    (tags / "_bad_files.jsonl").write_text(json.dumps({"file": str(folder / "5.jpg"), "reason": "no image"}) + "\n")
    assert labels_by_file(load_split(tags, "all")) == {"0.jpg": (["a"], []), "1.jpg": (["b"], [])}


NAMES = ("a/0.jpg", "b/0.jpg", "b/1.jpg")


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


def test_a_number_with_and_without_its_zero_is_not_two_labels(tmp_path):
    """As pandas writes a column with a gap; each table alone is read as it is."""
    for i in range(3):
        picture(tmp_path / f"{i}.jpg")
    (tmp_path / "train.csv").write_text("file_name,label\n0.jpg,1\n1.jpg,2\n")
    (tmp_path / "val.csv").write_text("file_name,label\n2.jpg,1.0\n")
    with pytest.raises(
        DataError, match="the labels '1' and '1.0' mean the same, and differ .* in a .0 behind a number"
    ):
        load_multilabel_dataset(tmp_path)


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
    assert load(folder, "file_name,labels\n" + rows, data_dir=link) == [{"a"}, {"b"}, {"a"}, {"b"}]
    with pytest.raises(DataError, match="leads out of"):
        load(folder, f"file_name,labels\n{link}/../5.jpg,a\n{rows}", data_dir=link)
