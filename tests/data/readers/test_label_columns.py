"""Which columns of a table are labels, and what their cells say."""

import datasets
import pytest

from assocformer_hf.data.load import load_multilabel_dataset, load_split
from assocformer_hf.data.schema import DataError, label_names
from tests.data.readers.files import EXPECTED, load_table, picture

OF_CHOICES = (
    'id,choice,annotator\n0.jpg,1,cat,1\n1.jpg,2,"{""choices"":[""cat"",""dog""]}",1\n2.jpg,3,,1\n3.jpg,4,dog,1\n'
)


def of_columns(present: str, absent: str) -> str:
    """A table of a column for each label, the first with these words, the second with 1 and 0."""
    said = {True: present, False: absent}
    rows = [f'{i}.jpg,"{said["cat" in labels]}",{int("dog" in labels)}\n' for i, labels in enumerate(EXPECTED)]
    return "file_name,cat,dog\n" + "".join(rows)


@pytest.mark.parametrize(
    ("present", "absent"),
    [
        ("yes", "no"), ("Y", "n"), ("WAHR", "FALSCH"), ("VRAI", "FAUX"), ("VERDADERO", "FALSO"), ("Ja", "nein"),
        ("ИСТИНА", "ЛОЖЬ"), ("positive", "negative"), ("1.00", "0.00"), ("1,0", "0,0"), ("T", "F"),
    ],
)  # fmt: skip
def test_words_of_yes_and_no_are_states(folder, present, absent):
    assert load_table(folder, of_columns(present, absent)) == EXPECTED


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        ("nnse", False),  # directions
        (("in a field", "by a lake", "no", "at sea"), False),
        (("yes", "no", "no", "unsure"), None),
    ],
)
def test_columns_of_other_words_are_left_out_unless_most_are_states(folder, cells, read):
    text = "file_name,cat,where\n" + "".join(f"{i}.jpg,{i % 2},{cell}\n" for i, cell in enumerate(cells))
    if read is None:
        with pytest.raises(DataError, match="row 4, column 'where': 'unsure' is not 1, 0, -1 or nothing"):
            load_table(folder, text)
    else:
        assert load_table(folder, text) == [set(), {"cat"}, set(), {"cat"}]


@pytest.mark.parametrize(
    ("present", "absent", "message"),
    [
        ("x", "", "column 'cat' holds 'x', and an empty cell says that a label is unknown: write 1 and 0 if it is a"),
        ("cat", "", "column 'cat' holds 'cat', and an empty cell says that a label is unknown: write 1 and 0"),
        ("0.7", "0,1", "column 'cat' holds '0.7', '0,1', and a label is there or not: write 1 and 0 if it is a label"),
    ],
)
def test_marks_and_shares_are_refused(folder, present, absent, message):
    with pytest.raises(DataError, match=message):
        load_table(folder, of_columns(present, absent))
    alone = of_columns(present, absent).replace(",dog", ",other").replace(",1\n", ",7\n")
    with pytest.raises(DataError, match=message):
        load_table(folder, alone)
    assert load_table(folder, of_columns(present, absent), label_names=["dog"]) == [
        {*labels} - {"cat"} for labels in EXPECTED
    ]


def test_a_test_table_whose_columns_are_not_clear_is_one_without_labels(folder):
    (folder / "train.csv").write_text("file_name,cat\n0.jpg,1\n1.jpg,0\n2.jpg,1\n")
    (folder / "test.csv").write_text("file_name,sharpness\n3.jpg,0.4\n")
    splits = load_multilabel_dataset(folder, validation_share=0.4)
    assert splits.summary.left_out["test.csv"] == "a test table without labels"


def test_columns_that_hold_something_else_are_named_with_what_they_hold(folder):
    text = "file_name,cat,dog\n0.jpg,100,0\n1.jpg,100,100\n2.jpg,0,100\n"
    with pytest.raises(DataError, match="no labels; expected .*; 'cat' holds '100', '0'; 'dog' holds '0', '100'"):
        load_table(folder, text)


def test_a_label_without_a_column_names_the_way_out(folder):
    text = "file_name,red,yellow\n0.jpg,1,0\n1.jpg,0,1\n2.jpg,1,1\n"
    message = (
        "no column 'blue', which is in label_names, or a label that the model knows; found red, yellow: add the "
        "column, empty where nothing is known"
    )
    with pytest.raises(DataError, match=message):
        load_table(folder, text, label_names=["blue", "red"])
    filled = "file_name,red,blue\n0.jpg,1,\n1.jpg,0,\n2.jpg,1,\n"
    assert load_table(folder, filled, label_names=["blue", "red"]) == [{"red"}, set(), {"red"}]


def test_a_lone_column_that_seldom_is_a_label_is_asked_about(folder):
    text = "file_name,species,verified\n0.jpg,owl,1\n1.jpg,wren,0\n2.jpg,owl,1\n"
    message = (
        "no labels but verified, which seldom is one: give the column of labels as label_column, or verified as "
        "label_names where these are labels; 'species' holds 'owl', 'wren'"
    )
    with pytest.raises(DataError, match=message):
        load_table(folder, text)
    assert load_table(folder, text, label_column="species") == [{"owl"}, {"wren"}, {"owl"}]
    assert load_table(folder, text, label_names=["verified"]) == [{"verified"}, set(), {"verified"}]


def test_choices_of_label_studio(folder):
    assert load_table(folder, "image," + OF_CHOICES) == EXPECTED
    assert load_table(folder, "image," + OF_CHOICES.replace("choice,", "labels,")) == EXPECTED
    with pytest.raises(DataError, match="not valid JSON .*; give the JSON export of Label Studio"):
        load_table(folder, "image," + OF_CHOICES.replace("]}", "]"))


def test_texts_of_yes_and_no_in_memory_are_states(tmp_path):
    picture(tmp_path / "a.jpg")
    columns = {"image": [str(tmp_path / "a.jpg")] * 3, "cat": ["yes", "no", "no"], "dog": ["yes", "yes", None]}
    whole = load_split(datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image()), "all")
    assert label_names(whole) == ["cat", "dog"]
    assert (whole["labels"], whole["unknown"]) == ([[0, 1], [1], []], [[], [], [1]])
