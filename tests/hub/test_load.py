"""Endpoint handler and Space under load answer every request, and their memory stays."""

import pytest

from benchmarks.serving import handler_under_load, space_under_load

MAX_GROWTH = 30  # MiB


@pytest.mark.slow
def test_the_handler_under_load():
    measured = handler_under_load()
    assert measured["MiB_after"] - measured["MiB_before"] < MAX_GROWTH


@pytest.mark.slow
def test_the_space_under_load(tmp_path):
    measured = space_under_load(tmp_path)
    assert measured["MiB_after"] - measured["MiB_before"] < MAX_GROWTH
