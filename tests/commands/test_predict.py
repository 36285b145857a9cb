"""Tagging as users run it: a table for a few images, shards for many, also when it is killed."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from assocformer_hf import AssocFormerForMultiLabel, AssocFormerImageProcessor
from assocformer_hf.data.images.transforms import create_image_processor
from tests import forked
from tests.commands.commands import kill
from tests.conftest import NAMES

BINARIES = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
VERB = ("-m", "assocformer_hf", "predict")


@pytest.fixture(scope="module")
def model(create_model, tmp_path_factory) -> Path:
    """A folder with random weights."""
    folder = tmp_path_factory.mktemp("model")
    create_model().save_pretrained(folder)
    create_image_processor(64).save_pretrained(folder)
    return folder


def write_images(folder: Path, count: int) -> list[str]:
    """JPEG files, of which every hundredth is broken, in folders of a hundred."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (60, 90, 3), dtype=np.uint8)
    for i in range(count):
        path = folder / f"{i // 100:03d}/{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i % 100 == 7:
            path.write_bytes(b"no image")
        else:
            Image.fromarray(np.roll(pixels, i, axis=(0, 1))).save(path)
    return [f"{i // 100:03d}/{i:05d}.jpg" for i in range(count)]


def tagging(model: Path, images: Path, output: Path, shard_size: int) -> list[str]:
    command = [*VERB, "--model", str(model), "--images", str(images), "--output", str(output)]
    return [*command, "--shard_size", str(shard_size), "--num_workers", "1", "--batch_size", "16"]


def kill_when(command: list[str], output: Path, shards: int):
    """Starts a command, and kills all of its processes once there are so many shards."""
    process = forked.start(command, ENVIRONMENT)
    deadline = time.monotonic() + 300
    while len(list(output.glob("tags-*.parquet"))) < shards:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    kill(process)


def check_output(model: Path, images: Path, output: Path, names: list[str]):
    table = pyarrow.parquet.read_table(output)
    good = [i for i in range(len(names)) if i % 100 != 7]
    assert table.column("index").to_pylist() == good
    assert table.column("file").to_pylist() == [str(images / names[i]) for i in good]
    bad = [json.loads(line) for line in (output / "_bad_files.jsonl").read_text().splitlines()]
    assert [row["file"] for row in bad] == [str(images / name) for i, name in enumerate(names) if i % 100 == 7]
    assert all(row["reason"] for row in bad)
    assert [path.name for path in output.glob(".*")] == [".assocformer"]
    assert not list((output / ".assocformer").glob("unfinished-*"))
    network, processor = (
        AssocFormerForMultiLabel.from_pretrained(model).eval(),
        AssocFormerImageProcessor.from_pretrained(model),
    )
    chosen = table.take(list(range(0, len(table), len(table) // 7))).to_pylist()
    for row in chosen:
        inputs = processor(Image.open(row["file"]), return_tensors="pt")
        with torch.inference_mode():
            scores = network(**inputs).logits.sigmoid()[0]
        torch.testing.assert_close(torch.tensor(row["scores"]), scores, atol=1e-5, rtol=0)
        above = {name for name, score in zip(NAMES, row["scores"], strict=True) if score >= 0.5}
        assert row["is_guess"] == (not above)
        assert set(row["labels"]) == (above or {NAMES[int(np.argmax(row["scores"]))]})


def test_a_table_for_a_few_images_and_a_broken_one_is_named(model, tmp_path):
    names = write_images(tmp_path, 9)
    command = [sys.executable, *VERB, "--model", str(model), "--images", str(tmp_path), "--threshold", "0.01"]
    done = forked.run(command, ENVIRONMENT)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [file for file, _ in lines] == [str(tmp_path / name) for name in names if "00007" not in name]
    assert all(tags.count(", ") == 3 and "cat 0." in tags for _, tags in lines)
    assert done.returncode == 2
    assert "00007.jpg: cannot be tagged (not an image, or of a format other than JPEG" in done.stderr
    assert "error: 1 of 9 files could not be tagged" in done.stderr


def test_a_killed_run_goes_on_and_every_image_is_tagged_once(model, tmp_path):
    names = write_images(tmp_path / "images", 300)
    command = [sys.executable, *tagging(model, tmp_path / "images", tmp_path / "out", 10)]
    kill_when(command, tmp_path / "out", 3)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("tags-*.parquet")}
    assert 3 <= len(before) < 30
    done = forked.run(command, ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert "297 of 300 images tagged" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    check_output(model, tmp_path / "images", tmp_path / "out", names)


@pytest.mark.slow
def test_twenty_thousand_images_by_two_processes_with_two_kills(model, tmp_path):
    names = write_images(tmp_path / "images", 20_000)
    launcher = [str(BINARIES / "torchrun"), "--nproc_per_node", "2"]
    command = [*launcher, *tagging(model, tmp_path / "images", tmp_path / "out", 256)]
    for shards in (20, 50):
        kill_when(command, tmp_path / "out", shards)
        print(f"killed at {len(list((tmp_path / 'out').glob('tags-*.parquet')))} of 79 shards")
    done = forked.run(command, ENVIRONMENT, timeout=600)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    check_output(model, tmp_path / "images", tmp_path / "out", names)
