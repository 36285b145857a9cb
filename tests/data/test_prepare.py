"""A prepared dataset is one dataset, however often its writing was interrupted."""

import random
import sys
import time
from pathlib import Path

import datasets
import psutil
import pyarrow.parquet
import pytest
from PIL import Image

from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.prepare import write_prepared
from assocformer_hf.data.schema import DataError, multilabel_features
from assocformer_hf.data.split import iterative_stratification
from tests import forked
from tests.commands.commands import ENVIRONMENT
from tests.conftest import ROOT

COUNT = 40
LABELS = [[i % 2] for i in range(COUNT)]


@pytest.fixture
def files(tmp_path) -> list[str]:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(COUNT):
        Image.new("RGB", (70, 70), (6 * i, 0, 0)).save(folder / f"{i:02d}.png")
    return sorted(map(str, folder.iterdir()))


def prepare(
    files: list[str], output: Path, labels: list[list[int]] = LABELS, split_seed: int = 0, bad_images: str = "error"
) -> dict[str, int]:
    """Prepares images with the division that a dataset without a validation split gets."""
    whole = datasets.Dataset.from_dict({"image": files, "labels": labels}, multilabel_features(["cat", "dog"]))
    parts = iterative_stratification(labels, 2, 0.3, split_seed)
    splits = {key: whole.select(rows) for key, rows in zip(("train", "validation"), parts, strict=True)}
    return write_prepared(splits, output, "photos", shard_size=2, num_proc=1, bad_images=bad_images)


def content(output: Path) -> dict[str, list]:
    """What was written, file by file."""
    return {file.name: pyarrow.parquet.read_table(file).to_pylist() for file in sorted(output.rglob("*.parquet"))}


def test_what_was_prepared_without_images_that_cannot_be_read_is_read_again(files, tmp_path):
    Path(files[0]).write_bytes(b"junk")
    output = tmp_path / "out"
    counts = prepare(files, output, bad_images="skip")
    assert sum(counts.values()) == COUNT - 1
    assert (output / "_bad_files.jsonl").is_file()
    again = load_multilabel_dataset(output)
    assert {key: len(split) for key, split in again.items()} == counts


def test_another_split_other_labels_or_another_image_are_refused(files, tmp_path):
    output = tmp_path / "out"
    assert sum(prepare(files, output).values()) == COUNT
    before = content(output)
    next(output.rglob("train-*.parquet")).unlink()  # as if it had been killed before this one
    with pytest.raises(DataError, match="another run, which differs in images or labels; choose another folder"):
        prepare(files, output, split_seed=1)
    with pytest.raises(DataError, match="another run, which differs in images or labels; choose another folder"):
        prepare(files, output, [[1], *LABELS[1:]])
    first = Path(files[0]).read_bytes()
    Image.new("RGB", (70, 70), "white").save(files[0])
    with pytest.raises(DataError, match="another run, which differs in images or labels; choose another folder"):
        prepare(files, output)
    Path(files[0]).write_bytes(first)
    assert sum(prepare(files, output).values()) == COUNT
    assert content(output) == before


def test_a_split_without_images_is_refused(files, tmp_path):
    whole = datasets.Dataset.from_dict({"image": files, "labels": LABELS}, multilabel_features(["cat", "dog"]))
    with pytest.raises(DataError, match="the split validation has no image that can be read; leave it out, or give it"):
        write_prepared({"train": whole, "validation": whole.select([])}, tmp_path / "out", "photos", num_proc=1)
    assert not (tmp_path / "out").exists()
    for file in files[:4]:
        Path(file).write_bytes(b"broken")
    splits, options = {"train": whole, "validation": whole.select(range(4))}, {"shard_size": 2, "bad_images": "skip"}
    with pytest.raises(DataError, match="the split validation has no image that can be read"):
        write_prepared(splits, tmp_path / "out", "photos", num_proc=1, **options)
    splits["validation"] = whole.select(range(2, 6))
    rows = write_prepared(splits, tmp_path / "other", "photos", num_proc=1, **options)
    assert rows == {"train": COUNT - 4, "validation": 2}
    assert datasets.load_dataset(str(tmp_path / "other")).num_rows == rows  # of shards without any image, too


def test_a_preparation_killed_twice_writes_every_image_once(files, tmp_path):
    prepare(files, tmp_path / "expected")
    output = tmp_path / "out"
    script = f"from tests.data.test_prepare import *; prepare({files!r}, Path({str(output)!r}))"
    written = 0
    for _ in range(2):
        process = forked.start([sys.executable, "-c", script], ENVIRONMENT, ROOT)
        while len(list(output.glob("data/*.parquet"))) <= written:
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.01))
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
        assert not psutil.wait_procs(workers, timeout=10)[1]  # none is left behind
        written = len(list(output.glob("data/*.parquet")))
    prepare(files, output)
    assert content(output) == content(tmp_path / "expected")
