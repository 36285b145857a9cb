"""Data of one's own through the scripts: checked, trained on, evaluated, prepared for the Hub."""

import json
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.readers.coco import load_coco
from assocformer_hf.data.schema import label_names
from tests import forked
from tests.commands.commands import kill
from tests.conftest import ROOT
from tests.data.checks.test_check import bomb
from tests.data.readers.forms import FORMS, coco_content

ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


def run(script: str, *options, check: bool = True) -> subprocess.CompletedProcess:
    start = [str(ROOT / "examples" / script)] if script.endswith(".py") else ["-m", "assocformer_hf", script]
    command = [sys.executable, *start, *map(str, options)]
    done = forked.run(command, ENVIRONMENT)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def train(source: Path, output: Path, *options) -> str:
    tiny = ("--backbone", "tiny-cvt", "--image_size", 64, "--epochs", 1, "--batch_size", 8, "--num_workers", 1)
    return run("train.py", "--dataset", source, "--output_dir", output, *tiny, *options).stdout


def write_table(small_coco: Path, folder: Path) -> Path:
    """The training images of a small dataset beside a table, without a split; every fifth label is unknown."""
    folder.mkdir()
    images = load_coco(small_coco, "train")
    names = label_names(images)
    lines = [",".join(["file_name", *names])]
    for i, labels in enumerate(images["labels"]):
        (folder / f"{i}.jpg").symlink_to(small_coco / f"train/{i:04d}.jpg")
        cells = ["" if (i + k) % 5 == 0 and k not in labels else str(int(k in labels)) for k in range(len(names))]
        lines.append(",".join([f"{i}.jpg", *cells]))
    (folder / "metadata.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    return folder


def test_a_hundred_images_with_twelve_that_cannot_be_read_or_are_missing(tmp_path):
    """Training puts other images in their place, and the evaluation counts the 88."""
    pixels = np.random.default_rng(0)
    for split, count in (("train", 100), ("validation", 16)):
        folder = tmp_path / "photos" / split
        folder.mkdir(parents=True)
        rows = ["file_name,labels", *(f"{i}.jpg,{('cat', 'dog', 'cat|dog')[i % 3]}" for i in range(count))]
        (folder / "metadata.csv").write_text("\n".join(rows))
        for i in range(count):
            Image.fromarray(pixels.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    bad = [tmp_path / f"photos/train/{i}.jpg" for i in range(3, 100, 8)][:12]
    whole = bad[0].read_bytes()
    for path, content in zip(bad, [b"", b"no pixels", whole[:300], bomb()] * 3, strict=True):
        path.write_bytes(content)
    bad[-1].unlink()
    printed = train(tmp_path / "photos", tmp_path / "model", "--bad_images", "skip")
    assert 8 <= int(re.search(r"(\d+) images could not be read: ", printed)[1]) <= 12  # 4 of the 100 wait for an epoch
    again = ("--model", tmp_path / "model", "--dataset", tmp_path / "photos", "--split", "train")
    printed = run("evaluate", *again, "--bad_images", "skip", "--output", tmp_path / "again.json").stdout
    assert all(f"{path}: cannot be read as an image; left out" in printed for path in bad)
    assert json.loads((tmp_path / "again.json").read_text())["images"] == 88


def test_a_folder_with_a_table_trains_and_evaluates(small_coco, tmp_path):
    folder = write_table(small_coco, tmp_path / "photos")
    printed = train(folder, tmp_path / "model")
    held_out = int(re.search(r"(\d+) to evaluate on, 20 labels", printed)[1])
    assert 8 <= held_out <= 12
    assert f"check: in validation, {100 * held_out / 48:.1f}% of the images; of each label: aeroplane " in printed
    metrics = json.loads((tmp_path / "model/metrics.json").read_text())
    assert metrics["images"] == held_out
    assert (metrics["run"]["dataset"], metrics["run"]["eval_split"]) == ("photos", "validation")
    run("evaluate", "--model", tmp_path / "model", "--dataset", folder, "--output", tmp_path / "again.json")
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["mAP"] == pytest.approx(metrics["mAP"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("write", FORMS, ids=lambda write: write.__name__)
def test_real_images_train_in_every_form(coco_mini, tmp_path, write):
    (tmp_path / "data").mkdir()
    options = write(coco_content(coco_mini), tmp_path / "data")
    options.pop("train_only", None)
    pairs = [text for name, value in options.items() for text in (f"--{name}", value)]
    assert "saved in" in train(tmp_path / "data", tmp_path / "model", *pairs)


def test_check_names_what_is_wrong(small_coco, tmp_path):
    folder = write_table(small_coco, tmp_path / "photos")
    (folder / "7.jpg").unlink()
    (folder / "7.jpg").write_bytes((small_coco / "train/0007.jpg").read_bytes()[:300])
    done = run("check", "--dataset", folder, "--output", tmp_path / "page.html", check=False)
    assert done.returncode == 1
    assert "error: 1 of 48 images cannot be read" in done.stderr
    (line,) = [line for line in done.stdout.splitlines() if f"{folder.resolve()}/7.jpg" in line]
    assert line.lstrip().startswith("truncated (") or line.lstrip().startswith("no image (")
    assert "share in validation" in done.stdout
    assert (tmp_path / "page.html").stat().st_size > 20_000


def test_prepared_from_official_archives_and_read_back(small_coco, tmp_path):
    """COCO 2014 from archives over loopback, killed in between."""
    served = tmp_path / "served"
    served.mkdir()
    for split in ("train", "val"):
        with zipfile.ZipFile(served / f"{split}2014.zip", "w") as archive:
            for path in sorted((small_coco / split).iterdir()):
                archive.write(path, f"{split}2014/{path.name}")
    with zipfile.ZipFile(served / "annotations_trainval2014.zip", "w") as archive:
        for split in ("train", "val"):
            source = small_coco / f"annotations/instances_{split}.json"
            archive.write(source, f"annotations/instances_{split}2014.json")
    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(served)))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    out = tmp_path / "prepared"
    options = ["--dataset", "coco2014", "--data_dir", str(tmp_path / "coco"), "--output", str(out)]
    options += ["--mirror", f"http://127.0.0.1:{web.server_port}", "--shard_size", "5"]
    command = [sys.executable, "-m", "assocformer_hf", "prepare", *options]
    process = forked.start(command, ENVIRONMENT)
    deadline = time.monotonic() + 120
    while process.poll() is None and len(list(out.glob("data/*.parquet"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    kill(process)
    before = {path: path.stat().st_mtime_ns for path in out.glob("data/*.parquet")}
    done = run("prepare", *options)
    web.shutdown()
    web.server_close()
    assert "48 images in train, 37 images in validation" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(out.glob("data/train-*-of-00010.parquet"))) == 10

    original = load_coco(small_coco, "train")
    for prepared in (load_multilabel_dataset(out), datasets.load_dataset(str(out))):
        assert set(prepared) == {"train", "validation"}
        assert prepared["train"]["labels"] == original["labels"]
        assert label_names(prepared["train"]) == label_names(original)
        assert prepared["train"][3]["image"].tobytes() == original[3]["image"].tobytes()
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "multi-label-classification" in card
    assert "48 images in `train`, 37 images in `validation`, 20 labels." in card
