"""Tables with labels in any form: what is odd but clear is read, what is wrong is named."""

import json

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.schema import DataError, label_names


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
        b"\xef\xbb\xbf" + ROWS.encode(),
        ROWS.replace("|", ";"),
        ROWS.replace("cat|dog", '"cat, dog"'),
        ROWS.replace(",", ";"),
        ROWS.replace("file_name,labels", "Image,Tags"),
        "file_name,labels\n0.jpg,['cat']\n1.jpg,\"['cat', 'dog']\"\n2.jpg,[]\n3.jpg,['dog']\n",
        'file_name,labels\n0.jpg,"[""cat""]"\n1.jpg,"[""cat"", ""dog""]"\n2.jpg,\n3.jpg,"[""dog""]"\n',
        "image,label\n0.jpg,cat\n1.jpg,dog\n1.jpg,cat\n2.jpg,\n3.jpg,dog\n3.jpg,dog\n",
        "file_name,author,cat,dog\n0.jpg,x,1,0\n1.jpg,y,1,1\n2.jpg,,0,0\n3.jpg,z,0,1\n",
        "file_name,cat,dog\n0.jpg,1.0,False\n1.jpg,True,1\n2.jpg,0,0\n3.jpg,0,1.0\n",
    ],
    ids=[
        "pipe", "windows", "bom", "semicolon", "comma", "semicolons-separate", "other-names", "python-lists",
        "json-lists", "a-row-for-each-label", "columns", "columns-of-numbers",
    ],
)  # fmt: skip
def test_the_same_labels_in_many_forms(folder, text):
    assert load(folder, text) == EXPECTED


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


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("labels\ncat\n", {}, "metadata.csv: no column with the image files; expected one of file_name, image, "),
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
        ("file_name,labels\n", {}, "metadata.csv: a table without rows"),
        (b"file_name,labels\n0.jpg,M\xfcller\n", {}, r"not in UTF-8 \(invalid start byte at byte 24\)"),
        ("file_name,labels\n0.jpg,[\"cat\"]\n1.jpg,dog\n", {}, "row 2: 'dog' is not a list, as other rows are"),
        (ROWS, {"form": "csv"}, "unknown form 'csv'; expected one of coco, cvat, hub, imagefolder, .*table, voc, yolo"),
        (ROWS, {"form": "yolo"}, "no dataset found; looked for data.yaml with names"),
        (ROWS, {"validation_share": 1.5}, "share of the validation split must be above 0 and below 1; got 1.5"),
    ],
)  # fmt: skip
def test_wrong_tables_are_named_with_the_way_out(folder, text, options, message):
    (folder / "metadata.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        load_multilabel_dataset(folder, **options)


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
    with pytest.raises(DataError, match="owner/dataset: cannot be loaded as a dataset"):
        load_multilabel_dataset("owner/dataset")
