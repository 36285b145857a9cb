"""Tables with labels in any form: what is odd but clear is read, what is wrong is named."""

import csv
import json

import pyarrow
import pyarrow.parquet
import pytest

from assocformer_hf.data.load import load_multilabel_dataset, load_split
from assocformer_hf.data.schema import DataError, label_names
from tests.data.readers.files import EXPECTED, ROWS, labels_by_file, load_table, picture


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
    assert load_table(folder, text) == EXPECTED


def test_a_category_beside_columns_of_labels_is_not_taken_for_the_labels(folder):
    text = "file_name,cat,dog,category\n0.jpg,1,0,in\n1.jpg,1,1,out\n2.jpg,0,0,in\n3.jpg,0,1,out\n"
    with pytest.raises(DataError, match="column 'category' may name the labels, or columns such as 'cat' and 'dog' be"):
        load_table(folder, text)
    assert load_table(folder, text, label_names=["cat", "dog"]) == EXPECTED
    assert load_table(folder, text, label_column="category") == [{"in"}, {"out"}, {"in"}, {"out"}]
    text = "file_name,tags,cat,dog\n0.jpg,,1,0\n1.jpg,,1,1\n2.jpg,,0,0\n3.jpg,,0,1\n"
    with pytest.raises(DataError, match="column 'tags', which is empty, may name the labels, or columns such as 'cat'"):
        load_table(folder, text)


def test_utf8_names_and_labels_that_contain_the_delimiter(folder):
    text = 'file_name,labels\n0.jpg,Müller\n1.jpg,"""a|b""|猫"\n2.jpg,猫\n3.jpg,Müller|猫\n'
    assert load_table(folder, text) == [{"Müller"}, {"a|b", "猫"}, {"猫"}, {"Müller", "猫"}]


def test_the_label_set_tells_what_divides(folder):
    text = 'file_name,labels\n0.jpg,salt; pepper\n1.jpg,"salt; pepper,oil"\n2.jpg,oil\n3.jpg,\n'
    with pytest.raises(DataError, match=".*: ; and , both occur; say which one divides them as delimiter"):
        load_table(folder, text)
    expected = [{"salt; pepper"}, {"salt; pepper", "oil"}, {"oil"}, set()]
    assert load_table(folder, text, label_names=["oil", "salt; pepper"]) == expected
    assert load_table(folder, text, delimiter=",") == expected
    spaces = "file_name,labels\n0.jpg,haze primary\n1.jpg,clear\n2.jpg,primary\n3.jpg,\n"
    assert load_table(folder, spaces, label_names=["clear", "haze", "primary"])[0] == {"haze", "primary"}


def test_a_label_may_be_called_as_the_column_of_labels(folder):
    text = "file_name,labels\n0.jpg,labels\n1.jpg,\n2.jpg,labels\n3.jpg,\n"
    assert load_table(folder, text, label_names=["labels"]) == [{"labels"}, set(), {"labels"}, set()]
    states = "file_name,labels\n0.jpg,1\n1.jpg,0\n2.jpg,1\n3.jpg,0\n"
    assert load_table(folder, states, label_names=["labels"]) == [{"labels"}, set(), {"labels"}, set()]


def test_label_columns_may_have_separators_in_their_names(folder):
    text = 'file_name,"salt; pepper; oil","a|b"\n0.jpg,1,0\n1.jpg,0,1\n'
    assert load_table(folder, text) == [{"salt; pepper; oil"}, {"a|b"}]


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
    assert load_table(folder, f"file_name,labels\n0.jpg,cat|{word.strip()}\n1.jpg,cat\n") == [
        {"cat", word.strip()},
        {"cat"},
    ]


def test_numbers_are_indices_into_the_label_set_or_states(folder):
    rows = [[0, 2], [1], [], [2]]
    lines = "".join(json.dumps({"file_name": f"{i}.jpg", "labels": row}) + "\n" for i, row in enumerate(rows))
    assert load_table(folder, lines, "metadata.jsonl", label_names=["a", "b", "c"]) == [{"a", "c"}, {"b"}, set(), {"c"}]
    assert load_table(folder, lines, "metadata.jsonl") == [{"0", "2"}, {"1"}, set(), {"2"}]
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
        ("file_name,cat\n0.jpg,1\n1.jpg,0\n2.jpg,so\n", {}, "row 3, column 'cat': 'so' is not 1, 0, -1 or nothing"),
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
    assert load_table(folder, f"file_name,label,{column}") == [{"cat", "dog"}, {"cat"}, {"dog"}]


def test_labels_in_brackets_are_names_where_the_delimiter_is_given(folder):
    text = 'file_name,labels\n0.jpg,[odd]|cat\n1.jpg,cat\n2.jpg,"(a"\n'
    assert load_table(folder, text, delimiter="|") == [{"[odd]", "cat"}, {"cat"}, {"(a"}]
    assert load_table(folder, ROWS.replace("cat|dog", '"[""cat"", ""dog""]"').replace(",cat\n", ',"[""cat""]"\n')
                .replace(",dog\n", ',"[""dog""]"\n'), delimiter="|") == EXPECTED  # fmt: skip


def test_a_label_of_two_lines_is_read_with_and_without_the_label_set(folder):
    text = 'file_name,labels\n0.jpg,"cat|""a\nb"""\n1.jpg,cat\n2.jpg,"""a\nb"""\n'
    expected = [{"cat", "a\nb"}, {"cat"}, {"a\nb"}]
    assert load_table(folder, text) == load_table(folder, text, label_names=["cat", "a\nb"]) == expected
    assert load_table(folder, "file_name,labels\n0.jpg,caf\u2028b\n1.jpg,cat\n") == [{"caf\u2028b"}, {"cat"}]


def test_guesses_of_a_table_of_predictions_are_no_labels(folder):
    text = "file_name,labels,scores,is_guess\n0.jpg,cat,0.9,false\n1.jpg,cat,0.2,true\n2.jpg,dog,0.7,false\n"
    assert load_table(folder, text) == [{"cat"}, set(), {"dog"}]
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
    assert load_table(folder, lines, "metadata.jsonl", label_names=["a", "b"]) == [{"a"}, {"b"}, {"a"}, {"b"}]
    with pytest.raises(DataError, match="lists of 2 numbers that are all 1 or 0: give the names of the 2 labels"):
        load_multilabel_dataset(folder)
    (folder / "metadata.jsonl").write_text('{"file_name": "0.jpg", "labels": [0]}\n{"file_name": "1.jpg"}\n')
    with pytest.raises(DataError, match="lists of 1 numbers 1 and 0 can be states of the labels or their indices"):
        load_multilabel_dataset(folder, label_names=["a"])


def test_classes_of_objects_in_structures_are_labels(folder):
    """Two objects of two classes are no states of the classes."""
    classes = [[0, 1], [1, 1], [0, 0], [1, 0]]
    rows = [{"bbox": [[0, 0, 4, 4]] * 2, "categories": row, "iscrowd": [0, 1]} for row in classes]
    expected = [{"cat", "dog"}, {"dog"}, {"cat"}, {"cat", "dog"}]
    of_each = [[{"category": label, "occluded": 0} for label in row] for row in classes]
    for objects in (rows, of_each):
        table = [{"file_name": f"{i}.jpg", "objects": own, "indoor": i % 2} for i, own in enumerate(objects)]
        lines = "".join(json.dumps(row) + "\n" for row in table)
        assert load_table(folder, lines, "metadata.jsonl", label_names=["cat", "dog"]) == expected
        numbers = [{{"cat": "0", "dog": "1"}[name] for name in row} for row in expected]
        column = "objects.categories" if objects is rows else "objects.category"
        assert load_table(folder, lines, "metadata.jsonl", label_column=column) == numbers
        (folder / "metadata.jsonl").unlink()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), folder / "metadata.parquet")
        whole = load_split(folder, "all", label_names=["cat", "dog"])
        assert [{label_names(whole)[i] for i in row} for row in whole["labels"][:]] == expected
        (folder / "metadata.parquet").unlink()
    lines = '{"file_name": "0.jpg", "objects": {"label": ["cat"], "bbox": [[0, 0, 4, 4]]}}\n{"file_name": "1.jpg"}\n'
    assert load_table(folder, lines, "metadata.jsonl") == [{"cat"}, set()]
    summary = load_multilabel_dataset(folder, validation_share=0.5).summary
    assert "1 image without objects.label, and so without any label" in summary.notes
    with pytest.raises(DataError, match="column 'objects.label': row 1: label 2, but there are 2"):
        load_table(folder, lines.replace('"cat"', "2"), "metadata.jsonl", label_names=["cat", "dog"])
    with pytest.raises(DataError, match="'tags' and 'objects.label' may both be the label column; choose one"):
        load_table(folder, lines.replace('"1.jpg"', '"1.jpg", "tags": ["dog"]'), "metadata.jsonl")


def test_columns_with_spaces_in_their_usual_names_are_found(folder):
    assert load_table(folder, "File Name;Labels\n0.jpg;cat|dog\n1.jpg;cat\n") == [{"cat", "dog"}, {"cat"}]
    with pytest.raises(DataError, match="'File Name' and 'file_name' may both be the image column"):
        load_table(folder, "File Name,file_name,labels\n0.jpg,0.jpg,cat\n")


def test_a_column_that_may_name_labels_or_be_one_is_refused(folder):
    text = "file_name,tag,dog\n0.jpg,1,0\n1.jpg,0,1\n2.jpg,0,0\n3.jpg,1,1\n"
    with pytest.raises(DataError, match="'tag' and 'dog' both hold 1 and 0: give 'tag' as label_column"):
        load_table(folder, text)
    assert load_table(folder, text, label_names=["tag", "dog"]) == [{"tag"}, {"dog"}, set(), {"tag", "dog"}]
    assert load_table(folder, text, label_column="tag") == [{"1"}, {"0"}, {"0"}, {"1"}]
    with pytest.raises(DataError, match="'labels' and 'tags' may both be the label column; choose one as label_column"):
        load_table(folder, "file_name,labels,tags\n0.jpg,a,b\n")


def test_line_separators_of_unicode_do_not_end_a_row(folder):
    lines = '{"file_name": "0.jpg", "labels": ["a\u2028b"]}\n{"file_name": "1.jpg", "labels": ["c\x85d"]}\n'
    assert load_table(folder, lines, "metadata.jsonl") == [{"a\u2028b"}, {"c\x85d"}]


def test_lists_as_numpy_prints_them_are_no_lists(folder):
    """Python takes texts without a comma between them for one."""
    text = "file_name,labels\n0.jpg,['cat']\n1.jpg,['cat' 'dog']\n2.jpg,[]\n3.jpg,['dog']\n"
    with pytest.raises(DataError, match="row 2: .* has no comma between two labels"):
        load_table(folder, text)


@pytest.mark.parametrize("names", [["a", "b", "c"], ["a", "b", "c", "d", "e"]])
def test_states_of_another_number_of_labels_are_no_indices(folder, names):
    rows = [[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    lines = "".join(json.dumps({"file_name": f"{i}.jpg", "labels": row}) + "\n" for i, row in enumerate(rows))
    message = f"4 numbers in each row that are all 1 or 0, and label_names has {len(names)}: give the names of the 4"
    with pytest.raises(DataError, match=message):
        load_table(folder, lines, "metadata.jsonl", label_names=names)
    (folder / "metadata.jsonl").unlink()
    text = "file_name,labels\n" + "".join(f'{i}.jpg,"{",".join(map(str, row))}"\n' for i, row in enumerate(rows))
    with pytest.raises(DataError, match="4 numbers in each row that are all 1 or 0: give the names of the 4 labels"):
        load_table(folder, text)
    cells = [json.dumps(list(map(str, row))).replace('"', '""') for row in rows]
    text = "file_name,labels\n" + "".join(f'{i}.jpg,"{cell}"\n' for i, cell in enumerate(cells))
    with pytest.raises(DataError, match="4 numbers in each row that are all 1 or 0: give the names of the 4 labels"):
        load_table(folder, text)


def test_tuples_and_sets_as_text_are_lists_and_parentheses_part_of_a_label(folder):
    text = "file_name,labels\n0.jpg,\"('cat',)\"\n1.jpg,\"{'cat', 'dog'}\"\n2.jpg,()\n3.jpg,\"['dog']\"\n"
    assert load_table(folder, text) == EXPECTED
    text = "file_name,labels\n0.jpg,(cat)\n1.jpg,(cat)|{dog}\n2.jpg,\n3.jpg,{dog}\n"
    assert load_table(folder, text) == [{"(cat)"}, {"(cat)", "{dog}"}, set(), {"{dog}"}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('file_name, labels\n0.jpg, "a,b"\n1.jpg, b\n', [{"a", "b"}, {"b"}]),  # a space before the quote
        ("file_name,labels,,\n0.jpg,a,,\n1.jpg,b,,\n", [{"a"}, {"b"}]),  # columns that hold nothing
    ],
)
def test_what_programs_write_by_the_way_changes_nothing(folder, text, expected):
    assert load_table(folder, text) == expected


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
    assert load_table(folder, "\n".join([columns, *rows])) == EXPECTED
    assert csv.field_size_limit() == limit


def test_the_list_of_what_could_not_be_tagged_is_no_table_of_images(folder, tmp_path_factory):
    """As `predict` writes it beside its shards."""
    tags = tmp_path_factory.mktemp("tags")
    table = pyarrow.table({"file": [str(folder / f"{i}.jpg") for i in range(2)], "labels": [["a"], ["b"]]})
    pyarrow.parquet.write_table(table, tags / "tags-00000-of-00001.parquet")
    (tags / "_bad_files.jsonl").write_text(json.dumps({"file": str(folder / "5.jpg"), "reason": "no image"}) + "\n")
    assert labels_by_file(load_split(tags, "all")) == {"0.jpg": (["a"], []), "1.jpg": (["b"], [])}


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
