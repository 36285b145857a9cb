"""What the tests on clusters share: a model, images of which one is broken, and what must come out."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet
from PIL import Image

from assocformer_hf import Tagger
from tests.conftest import ROOT

MODEL = ROOT / "model_cards/assocformer-swin-tiny-scenes"
BROKEN = 7


def write_images(folder: Path, count: int) -> list[Path]:
    """The model's samples, shifted."""
    folder.mkdir()
    samples = [np.asarray(Image.open(MODEL / f"samples/{i}.jpg").convert("RGB")) for i in (1, 2, 3)]
    for i in range(count):
        Image.fromarray(np.roll(samples[i % 3], i, axis=1)).save(folder / f"{i:05d}.jpg")
    (folder / f"{BROKEN:05d}.jpg").write_bytes(b"no image")
    return sorted(folder.iterdir())


def check_every_image_once(output: Path, files: Iterable[Path]):
    """The shards have each file in one row, the broken one with its reason, the others with the labels of `Tagger`."""
    rows = [row for path in output.glob("*.parquet") for row in pyarrow.parquet.read_table(path).to_pylist()]
    found = {Path(row["file"].removeprefix("file:")): row for row in rows}
    assert len(rows) == len(found)
    assert sorted(found) == sorted(files)
    assert [path for path, row in found.items() if row["error"]] == [path for path in files if path.stat().st_size < 99]
    chosen = list(files)[:12]
    for path, expected in zip(chosen, Tagger(MODEL)(chosen), strict=True):
        assert (found[path]["labels"], found[path]["is_guess"]) == (expected.labels, expected.is_guess)
        np.testing.assert_allclose(found[path]["scores"], expected.scores, atol=1e-5)
