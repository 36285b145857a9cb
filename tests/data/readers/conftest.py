"""Images that a table may name."""

import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(tmp_path / f"{i}.jpg")
    return tmp_path
