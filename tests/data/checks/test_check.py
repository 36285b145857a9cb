"""The check of a dataset: every defect is found and named."""

import base64
import io
import re

import datasets
import numpy as np
import pytest
from PIL import Image

from assocformer_hf.data.checks.check import (
    REPAIRED,
    UNREADABLE,
    check_images,
    check_labels,
    cooccurrence,
    inspect_image,
)
from assocformer_hf.data.checks.source import check_source
from assocformer_hf.data.checks.text import brief_lines, text_report
from assocformer_hf.data.images.decoding import ImageError, decode_image
from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.schema import DataError, multilabel_features
from assocformer_hf.interpretation.association_map import conditional_cooccurrence
from assocformer_hf.pages.check_page import _matrix, _pairs, write_check_page
from assocformer_hf.training.images import augmented_for_check
from tests.conftest import OVERLAPS

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.roll(PIXELS, seed, axis=1))


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def bomb() -> bytes:
    """A PNG file of a few bytes whose header promises 400 million pixels."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()


def write_defects(folder) -> dict[str, str]:
    """Files with a defect each, by their name its kind."""
    whole = io.BytesIO()
    picture(1).save(whole, "JPEG", quality=95)
    (folder / "notes.jpg").write_bytes(b"these are no pixels")
    (folder / "half.jpg").write_bytes(whole.getvalue()[:1500])
    picture(1).save(whole := io.BytesIO(), "PNG")
    (folder / "part.png").write_bytes(whole.getvalue()[:600])
    (folder / "nothing.png").write_bytes(b"")
    (folder / "bomb.png").write_bytes(bomb())
    picture(2).save(folder / "moving.gif", save_all=True, append_images=[picture(3), picture(4)])
    picture(5).convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 20).save(folder / "scan.png")
    palette = picture(6).convert("P")
    palette.save(folder / "palette.png", transparency=palette.getpixel((0, 0)))
    Image.new("RGBA", (60, 40), (9, 99, 9, 254)).save(folder / "cutout.png")
    picture(7).save(folder / "phone.jpg", exif=rotated())
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("1", (10_000, 10_000)).save(folder / "poster.png")
    return {
        "notes.jpg": "no image", "half.jpg": "truncated", "part.png": "truncated", "nothing.png": "empty",
        "bomb.png": "huge",
        "moving.gif": "animated", "print.jpg": "CMYK", "scan.png": "16-bit", "palette.png": "transparent",
        "cutout.png": "transparent",
        "phone.jpg": "EXIF-rotated", "dot.png": "tiny", "poster.png": "large",
    }  # fmt: skip


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A folder with every defect, what they are, and the dataset."""
    folder = tmp_path_factory.mktemp("broken")
    for split in ("train", "validation"):
        (folder / split).mkdir()
    defects = write_defects(folder / "train")
    for i in range(20):
        picture(10 + i).convert("RGBA" if i else "RGB").save(folder / f"train/{i}.png")
    for i in range(20, 30):
        picture(10 + i).save(folder / f"validation/{i}.png")
    (folder / "validation/again.png").write_bytes((folder / "train/3.png").read_bytes())
    (folder / "train/twice.png").write_bytes((folder / "train/4.png").read_bytes())
    rows = ["file_name,cat,dog,kitten,thing,owl,$sign$"]
    rows += [f"{name},0,1,0,1,," for name in [*defects, "twice.png"]]
    rows += [f"{i}.png,{i % 2},0,{i % 2},1,0,{int(i < 3)}" for i in range(20)]
    (folder / "train/metadata.csv").write_text("\n".join(rows))
    rows = [rows[0], *(f"{i}.png,{i % 2},1,{i % 2},1,0,0" for i in range(20, 30)), "again.png,0,0,0,1,-1,0"]
    (folder / "validation/metadata.csv").write_text("\n".join(rows))
    return folder, defects, load_multilabel_dataset(folder)


def test_every_defect_is_found_and_named(broken):
    folder, defects, splits = broken
    found = check_images(splits)
    assert {k: {n.name.rpartition("/")[2] for n in names} for k, names in found.findings.items() if names} == {
        kind: {name for name, of in defects.items() if of == kind} for kind in defects.values()
    }
    assert found.unreadable() == 5
    assert found.images == 45
    inside = [[image.name.removeprefix(f"{folder}/") for image in group] for group in found.duplicates]
    assert sorted(len(group) for group in inside) == [2, 2]
    assert [[image.split for image in group] for group in found.across_splits()] == [["train", "validation"]]
    text = text_report(check_labels(splits), found)
    for name, kind in defects.items():
        (line,) = [line for line in text.splitlines() if line.lstrip().startswith(f"{kind} (")]
        assert f"train: {folder}/train/{name}" in line


def test_what_is_repaired_is_read_and_what_is_not_is_an_error(broken):
    folder, defects, _ = broken
    for name, kind in defects.items():
        if kind in UNREADABLE:
            with pytest.raises(ImageError, match=name):
                decode_image(folder / "train" / name)
        elif kind in REPAIRED:
            assert decode_image(folder / "train" / name).mode == "RGB"


def test_images_of_one_name_are_told_apart(tmp_path):
    """As in Parquet files made of a folder for each label."""
    images = [picture(i) for i in range(2)]
    files = [io.BytesIO() for _ in images]
    for image, file in zip(images, files, strict=True):
        image.save(file, "PNG")
    rows = [{"bytes": file.getvalue()[:end], "path": "001.png"} for file, end in zip(files, (300, None), strict=True)]
    features = multilabel_features(["cat"])
    split = datasets.Dataset.from_dict({"image": rows, "labels": [[0], []]}, features=features)
    found = check_images({"train": split}, num_workers=0)
    assert [*map(str, found.findings["truncated"])] == ["train: 001.png (image 0)"]


def test_an_unknown_label_is_neither_beside_another_nor_missing():
    features = multilabel_features(["a", "b"], unknown=True)
    rows = {"image": [picture(0)] * 4, "labels": [[0, 1], [0], [0], [0]], "unknown": [[], [], [1], [1]]}
    split = datasets.Dataset.from_dict(rows, features=features)
    together, annotated = cooccurrence(split)
    np.testing.assert_array_equal(together, [[4, 1], [1, 1]])
    np.testing.assert_array_equal(annotated, [[4, 2], [1, 1]])
    shares = conditional_cooccurrence(together, annotated)
    np.testing.assert_allclose(shares, [[1, 0.5], [1, 1]])
    assert _pairs(together, annotated, ["a", "b"]) == [{"label": "a", "other": "b", "both": 1, "share": 0.5}]
    plotted = _matrix((together, annotated), ["a", "b"], np.arange(2)).axes[0].images[0].get_array()
    assert (plotted[0, 1], plotted[1, 0]) == (0.5, 1)


def test_labels_are_counted_and_the_odd_ones_named(broken):
    _, _, splits = broken
    check = check_labels(splits, min_positives=11)
    assert check.positives["train"].tolist() == [10, 14, 10, 34, 0, 3]
    assert check.unknown["train"].tolist() == [0, 0, 0, 0, 14, 14]
    assert check.unknown["validation"].tolist() == [0, 0, 0, 0, 1, 0]
    assert check.findings() == {
        "fewer than 11 images in train": ["cat (10)", "kitten (10)", "owl (0)", "$sign$ (3)"],
        "no image in validation": ["owl", "$sign$"],
        "present in every image where it is known": ["thing"],
        "present in the same images": ["cat = kitten"],
    }
    lines = brief_lines(check)
    assert lines[0] == "check: fewer than 11 images in train, 4: cat (10), kitten (10), owl (0), $sign$ (3)"
    assert "of each label: cat 5 (33.3%), dog 10 (41.7%)" in lines[-1]


def test_the_page_is_whole_in_itself(broken, tmp_path):
    folder, defects, splits = broken
    labels = check_labels(splits)
    batch = augmented_for_check(splits["train"], str(folder))
    (folder / "train/left.png").write_bytes((folder / "train/1.png").read_bytes())
    read = check_source(folder, splits, splits.summary)
    (folder / "train/left.png").unlink()
    write_check_page("<broken>", labels, check_images(splits), splits, tmp_path / "page.html", *batch, read)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>&lt;broken&gt;</h1>" in page
    assert all(f"{folder}/train/{name}" in page for name in defects)
    assert page.count("data:image/jpeg") >= 24  # photographs first
    plots = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert [Image.open(io.BytesIO(base64.b64decode(plot))).width > 400 for plot in plots] == [True, True]
    assert "http" not in re.sub(r'src="[^"]+"', "", page)
    assert "<summary>images that no split has: 1</summary><ul><li>train/left.png</li></ul>" in page
    assert "the recipe photographs makes them 224×224 pixels, mirrors 50% of them" in page


def test_the_page_shows_a_batch_and_pairs_of_labels_on_every_screen(broken, browser, tmp_path):
    folder, _, splits = broken
    batch, augmentation = augmented_for_check(splits["train"], str(folder))
    write_check_page(
        "broken", check_labels(splits), check_images(splits), splits, tmp_path / "page.html", batch, augmentation
    )
    for width, scheme in ((1280, "light"), (390, "dark")):
        view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        view.goto((tmp_path / "page.html").as_uri())
        assert view.locator("#batch img").count() == 12
        assert view.evaluate(OVERLAPS) == []
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        assert view.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        table = view.locator("#label-pairs")
        view.locator("[data-table=label-pairs]").fill("kitten")
        shown = table.locator("tbody tr:not([hidden])")
        assert [row.split() for row in shown.all_inner_texts()][0] == ["cat", "kitten", "10", "100.0%"]
        assert all("kitten" in row for row in shown.all_inner_texts())
        view.close()


@pytest.mark.parametrize(("highest", "is_dark"), [(1023, True), (4095, True), (4096, False), (65535, False)])
def test_pictures_of_10_or_12_bits_in_16_are_named(highest, is_dark):
    values = np.linspace(0, highest, 400).astype(np.uint16).reshape(20, 20)
    for form in ("PNG", "TIFF"):
        Image.fromarray(values).save(stored := io.BytesIO(), form)
        kinds, _ = inspect_image(stored.getvalue())
        assert kinds == ["16-bit"] + ["dark 16-bit"] * is_dark


def test_images_none_of_which_can_be_read_have_a_page_too(tmp_path):
    for i in range(6):
        (tmp_path / f"{i}.jpg").write_bytes(b"no image")
    (tmp_path / "t.csv").write_text("file_name,labels\n" + "".join(f"{i}.jpg,{'xy'[i % 2]}\n" for i in range(6)))
    splits = load_multilabel_dataset(tmp_path)
    batch = augmented_for_check(splits["train"], str(tmp_path))
    write_check_page("none", check_labels(splits), check_images(splits, 0), splits, tmp_path / "page.html", *batch)
    assert f"train: {tmp_path}/0.jpg" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_labels_that_nothing_can_be_learned_from_are_refused_before_training():
    features = multilabel_features(["x", "y"], unknown=True)
    for labels, unknown, message in (
        ([[0], [1], [0]], [[1], [0], [1]], "every label is present in every .* as −1 and empty cells count as unknown"),
        ([[], [], []], [[], [], []], "no training image has a label"),
    ):
        rows = {"image": [picture(0)] * 3, "labels": labels, "unknown": unknown}
        split = datasets.Dataset.from_dict(rows, features=features)
        with pytest.raises(DataError, match=message):
            check_labels({"train": split}).require_learnable()
    rows["labels"], rows["unknown"] = [[0], [1], [0]], [[], [0], [1]]
    check_labels({"train": datasets.Dataset.from_dict(rows, features=features)}).require_learnable()
