"""How messages name several things, numbers of things, and errors."""

import pytest

from assocformer_hf.wording import counted, first_line, one_line, some


def test_several_things():
    assert some(["a", "b"], 2) == "a, b"
    assert some(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert [counted(count, "image") for count in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert counted(2, "copy", "copies") == "2 copies"


@pytest.mark.parametrize(
    ("error", "first", "all_of_it"),
    [(OSError("a\nb"), "a", "a b"), (OSError("\n a "), "a", "a"), (OSError(), "OSError", "OSError"),
     (TimeoutError("\n"), "TimeoutError", "TimeoutError")],
)  # fmt: skip
def test_an_error_says_something_even_where_it_has_no_message(error, first, all_of_it):
    assert (first_line(error), one_line(error)) == (first, all_of_it)
