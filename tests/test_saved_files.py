"""Names of saved models on the Hub."""

import pytest

from assocformer_hf.saved_files import is_hub_id


@pytest.mark.parametrize(
    ("text", "with_owner", "without"),
    [("owner/name", True, True), ("my-org/a.b_c", True, True), ("name", False, True), ("a/b/c", False, False),
     ("../name", False, False), ("/name", False, False), ("owner/", False, False), ("", False, False),
     ("a b/c", False, False)],
)  # fmt: skip
def test_an_id_is_told_from_a_path(text, with_owner, without):
    assert (is_hub_id(text), is_hub_id(text, owner=False)) == (with_owner, without)
