"""Labels in a cell of text."""

import pytest

from assocformer_hf.data.readers.label_cells import divide, find_delimiter
from assocformer_hf.data.schema import DataError


@pytest.mark.parametrize(
    ("cells", "delimiter"),
    [(['"a,b"|c', "c"], "|"), (['"a;b"|"c, d"'], "|"), (['5" pipe|6" pipe', "x"], "|"), (['"a|b"'], None),
     (["a"], None), (['"a" b|c'], "|")],
)  # fmt: skip
def test_what_divides_stands_outside_of_quoted_labels(cells, delimiter):
    assert find_delimiter(cells) == delimiter


def test_several_delimiters_outside_of_quotes_are_refused():
    with pytest.raises(DataError, match=r"\| and , both occur"):
        find_delimiter(["a|b", "c,d"])


def test_a_line_break_belongs_to_a_quoted_label_alone():
    assert divide('"a\nb"|c', "|") == ["a\nb", "c"]
    for cell in ("cat|dog\nbird", "cat\ndog"):
        with pytest.raises(DataError, match="a line break; put a label with one in double quotes"):
            divide(cell, "|")
