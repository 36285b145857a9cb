"""The check of how a dataset was read, and of images that look alike."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageFilter

from assocformer_hf.data.checks.check import check_images, check_labels, similar_across
from assocformer_hf.data.checks.source import check_names, check_source, divided_by_spaces, similar_names
from assocformer_hf.data.checks.text import source_lines, text_report
from assocformer_hf.data.load import load_multilabel_dataset
from tests import forked
from tests.data.readers.files import picture


def photo(seed: int) -> Image.Image:
    """Smooth patches, as photographs have them."""
    grid = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize((120, 120), Image.Resampling.BICUBIC)


def test_images_and_columns_that_are_not_used_are_named(tmp_path):
    for name in ("0.jpg", "1.jpg", "2.jpg", "old/3.jpg", "old/4.jpg"):
        picture(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,cat,fold,price\n0.jpg,1,0,2.5\n1.jpg,0,1,3.5\n")
    splits = load_multilabel_dataset(tmp_path, validation_share=0.5)
    check = check_source(tmp_path, splits, splits.summary)
    assert (check.unused_folders, check.unused_images) == (["old"], ["2.jpg"])
    assert (check.doubtful_labels, check.ignored_columns) == (["fold"], ["'price'"])
    assert source_lines(check) == [
        "What was read, and what was not",
        "  folders whose images no split has, 1: old",
        "  images that no split has, 1: 2.jpg",
        "  columns that were not read, 1: 'price'",
        "  labels that may be columns of something else, or stand for no label, 1: fold",
    ]
    (tmp_path / "metadata.csv").write_text("file_name,cat\n0.jpg,1\n1.jpg,0\n2.jpg,0\nold/3.jpg,1\nold/4.jpg,0\n")
    splits = load_multilabel_dataset(tmp_path, validation_share=0.5)
    assert not check_source(tmp_path, splits, splits.summary).findings()


def test_labels_that_stand_for_nothing_are_named():
    assert check_names(["cat", "NaN", "n/a", "cannot"]).doubtful_labels == ["NaN", "n/a"]


def test_names_that_may_mean_the_same():
    names = [
        "Person",
        "person",
        "persn",
        "cat",
        "car",
        "dog",
        "Dogs",
        "traffic light",
        "traffic-light",
        "house 1",
        "house 2",
        "\ud504",
        "\u1111\u1173",
    ]
    assert similar_names(names) == [
        ["Dogs", "dog"], ["Person", "persn", "person"], ["traffic light", "traffic-light"], ["\u1111\u1173", "\ud504"],
    ]  # fmt: skip


def test_labels_that_are_divided_by_spaces():
    assert divided_by_spaces(["clear primary", "haze primary", "clear", "haze water", "water"]) == [
        "clear primary", "haze primary", "haze water",
    ]  # fmt: skip
    assert not divided_by_spaces(["traffic light", "fire hydrant", "stop sign", "teddy bear", "cell phone"])


@pytest.fixture
def alike(tmp_path):
    """Eight photographs; one of them stands in the other split too, smaller, compressed and a little blurred."""
    for split, seeds in (("train", range(6)), ("validation", range(6, 8))):
        (tmp_path / split).mkdir()
        for seed in seeds:
            photo(seed).save(tmp_path / split / f"{seed}.png")
    photo(2).resize((90, 90)).filter(ImageFilter.GaussianBlur(1)).save(tmp_path / "validation/copy.jpg", quality=60)
    Image.new("RGB", (9, 9)).save(tmp_path / "train/black.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "validation/black.png")
    for split in ("train", "validation"):
        rows = "".join(f"{file.name},{'xy'[i % 2]}\n" for i, file in enumerate(sorted((tmp_path / split).iterdir())))
        (tmp_path / split / "metadata.csv").write_text("file_name,labels\n" + rows)
    return tmp_path


def test_images_of_two_splits_that_look_alike(alike):
    splits = load_multilabel_dataset(alike)
    found = check_images(splits, num_workers=0)
    ((first, second),) = found.similar
    assert str(first) == f"train: {alike}/train/2.png"
    assert str(second) == f"validation: {alike}/validation/copy.jpg"
    assert not found.unreadable() + len(found.across_splits())
    assert "Images of two splits that look alike, 1" in text_report(check_labels(splits), found)


def test_each_image_that_looks_like_one_of_an_earlier_split_is_named_once():
    generator = np.random.default_rng(0)
    scenes = generator.integers(0, 256, (40, 16), dtype=np.uint8)
    frames = np.repeat(scenes, 8, axis=0) ^ (1 << generator.integers(0, 8, (320, 16))) * (
        generator.random((320, 16)) < 0.1
    )
    frames, splits = frames.astype(np.uint8), generator.integers(0, 3, 320)
    expected = {}
    for j in range(320):
        bits = np.unpackbits(frames ^ frames[j], axis=1).sum(1)
        if near := [(bits[i], i) for i in range(320) if splits[i] < splits[j] and bits[i] <= 5]:
            expected[j] = min(near)[1]
    assert similar_across(frames, splits) == [(i, j) for j, i in expected.items()]
    assert 100 < len(expected) < 250
    video = frames[np.zeros(20000, int)]
    assert similar_across(video, np.zeros(20000, int)) == []
    assert similar_across(frames[:0], splits[:0]) == []


def test_the_same_file_in_two_splits_ends_with_one(alike):
    (alike / "validation/copy.jpg").write_bytes((alike / "train/2.png").read_bytes())
    command = [sys.executable, "-m", "assocformer_hf", "check", "--dataset", str(alike), "--num_workers", "0"]
    done = forked.run([*command, "--output", str(alike / "x.html")])
    assert done.returncode == 1
    assert done.stderr.strip().endswith("error: 1 file is in several splits (named above)")
    (alike / "train/1.png").unlink()
    (alike / "train/3.png").unlink()
    done = forked.run([*command, "--output", str(alike / "x.html")])
    assert done.returncode == 1
    assert f"missing (file is missing), 2: train: {alike}/train/1.png, train: {alike}/train/3.png" in done.stdout
    assert "error: 2 of 11 images cannot be read and 1 file is in several splits (named above)" in done.stderr
