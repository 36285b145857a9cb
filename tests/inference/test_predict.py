"""Tagging of many images in this process: forms of the output, and whose results a folder holds."""

import csv
import json
import os

import datasets
import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image
from torch.nn.modules.module import register_module_forward_hook

from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.data.load import load_split
from assocformer_hf.data.schema import DataError, label_names
from assocformer_hf.inference.predict import PredictOptions, predict
from assocformer_hf.option_values import OptionError
from assocformer_hf.output_folder import OutputError, OutputFolder
from tests.conftest import NAMES

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(create_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    create_model().save_pretrained(folder)
    create_image_processor(64).save_pretrained(folder)
    return folder


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(5):
        Image.fromarray(np.roll(PIXELS, 9 * i, axis=1)).save(folder / f"{i}.png")
    (folder / "5.png").write_bytes(b"no image")
    return folder


def options(model, images, output, **others) -> PredictOptions:
    return PredictOptions(str(model), [str(images)], output, num_workers=0, batch_size=2, shard_size=4, **others)


def test_the_suffix_gives_the_form(model, images, tmp_path, capsys):
    found = {}
    for suffix in ("csv", "json", "jsonl", "parquet"):
        path = tmp_path / f"out/tags.{suffix}"
        result = predict(options(model, images, path, threshold=0.45, top_k=2))
        assert (result.images, result.tagged) == (6, 5)
        assert [name for name, _ in result.unreadable] == [str(images / "5.png")]
        found[suffix] = path.read_text(encoding="utf-8") if suffix != "parquet" else pyarrow.parquet.read_table(path)
    assert "5.png: cannot be tagged (not an image" in capsys.readouterr().err
    rows = json.loads(found["json"])
    assert rows == [json.loads(line) for line in found["jsonl"].splitlines()]
    assert [row["file_name"] for row in rows] == [str(images / f"{i}.png") for i in range(5)]
    assert all(1 <= len(row["labels"]) == len(row["scores"]) <= 2 for row in rows)
    table = list(csv.DictReader(found["csv"].splitlines()))
    assert [row["labels"].split("|") for row in table] == [row["labels"] for row in rows]
    assert [row["is_guess"] == "true" for row in table] == [row["is_guess"] for row in rows]
    assert found["parquet"].column("labels").to_pylist() == [row["labels"] for row in rows]
    for row, scores in zip(rows, found["parquet"].column("scores").to_pylist(), strict=True):
        assert row["scores"] == pytest.approx(sorted(scores, reverse=True)[: len(row["scores"])])
    guesses = predict(options(model, images, tmp_path / "sure.json", threshold=1.0))
    assert guesses.tagged == 5
    rows = json.loads((tmp_path / "sure.json").read_text())
    assert all(row["is_guess"] and len(row["labels"]) == 1 and row["labels"][0] in NAMES for row in rows)


def test_a_folder_goes_on_and_keeps_out_other_images_processors_and_options(model, images, tmp_path, create_model):
    first = predict(options(model, images, tmp_path / "out"))
    assert (first.images, first.tagged) == (6, 5)
    shard = next((tmp_path / "out").glob("tags-*"))
    written = shard.stat().st_mtime_ns
    assert predict(options(model, images, tmp_path / "out")) == first
    assert shard.stat().st_mtime_ns == written

    with pytest.raises(DataError, match="results of another run, which differs in thresholds; choose another"):
        predict(options(model, images, tmp_path / "out", threshold=0.1))
    other = tmp_path / "other"
    create_model().save_pretrained(other)
    create_image_processor(64, [0.5, 0.5, 0.5], [0.2, 0.2, 0.2]).save_pretrained(other)
    with pytest.raises(DataError, match="results of another run, which differs in processor; choose another"):
        predict(options(other, images, tmp_path / "out"))
    create_image_processor(64).save_pretrained(other)
    # Other scores of these weights.
    config = json.loads((other / "config.json").read_text()) | {"pooling": "attention"}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="results of another run, which differs in model; choose another"):
        predict(options(other, images, tmp_path / "out"))
    Image.fromarray(PIXELS[::-1]).save(images / "3.png")  # the same name, another picture
    with pytest.raises(DataError, match="holds results of other inputs: the content of 1 of 4 is another now; choose"):
        predict(options(model, images, tmp_path / "out"))
    (images / "3.png").rename(images / "7.png")
    with pytest.raises(DataError, match="results of another run, which differs in images; choose another"):
        predict(options(model, images, tmp_path / "out"))


def test_images_that_were_mended_are_tagged_and_no_others(model, images, tmp_path):
    """An image that could not be read may be written anew, or its disk may come back: its shard alone is made again."""
    Image.fromarray(PIXELS).save(images / "6.png")
    out, relative = tmp_path / "out", os.path.relpath(images)
    first = predict(options(model, relative, out))
    assert (first.tagged, [name for name, _ in first.unreadable]) == (6, [f"{relative}/5.png"])
    broken = json.loads((out / "_bad_files.jsonl").read_text())
    assert broken["file"] == str(images / "5.png")
    times = [shard.stat().st_mtime_ns for shard in sorted(out.glob("tags-*"))]
    Image.fromarray(PIXELS[::-1]).save(images / "5.png")
    alone = predict(options(model, out / "_bad_files.jsonl", tmp_path / "mended"))
    assert (alone.images, alone.tagged) == (1, 1)
    mended = predict(options(model, relative, out))
    assert (mended.tagged, mended.unreadable) == (7, [])
    after = [shard.stat().st_mtime_ns for shard in sorted(out.glob("tags-*"))]
    assert [a == b for a, b in zip(times, after, strict=True)] == [True, False]
    assert (out / "_bad_files.jsonl").read_text() == ""
    whole = predict(options(model, relative, tmp_path / "whole"))
    assert whole == mended
    found, expected = (pyarrow.parquet.read_table(folder) for folder in (out, tmp_path / "whole"))
    assert found.to_pylist() == expected.to_pylist()


def test_a_damaged_shard_is_made_anew(model, images, tmp_path, caplog):
    out = tmp_path / "out"
    first = predict(options(model, images, out))
    shard, other = sorted(out.glob("tags-*"))
    content, time = shard.read_bytes(), other.stat().st_mtime_ns
    shard.write_bytes(content[:300])
    assert predict(options(model, images, out)) == first
    assert shard.read_bytes() == content
    assert other.stat().st_mtime_ns == time
    assert f"{shard}: damaged (" in caplog.text
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), shard)
    with pytest.raises(DataError, match="00000-of-00002.parquet: is not of this run; choose another folder"):
        predict(options(model, images, out))


def test_a_table_names_images_of_another_folder(model, images, tmp_path):
    table = tmp_path / "elsewhere/list.csv"
    table.parent.mkdir()
    table.write_text("file_name\n0.png\n1.png\n")
    with pytest.raises(DataError, match="or give the folder of the images as data_dir"):
        predict(options(model, table, tmp_path / "tags.csv"))
    assert predict(options(model, table, tmp_path / "tags.csv", data_dir=str(images))).tagged == 2


def test_embedded_images_are_told_apart_by_their_content(model, tmp_path):
    for name, shift in (("a", 0), ("b", 1)):
        pictures = [Image.fromarray(np.roll(PIXELS, 9 * i + shift, axis=1)) for i in range(3)]
        rows = datasets.Dataset.from_dict({"image": pictures}, features=datasets.Features(image=datasets.Image()))
        rows.to_parquet(tmp_path / f"{name}.parquet")
    assert predict(options(model, tmp_path / "a.parquet", tmp_path / "out")).tagged == 3
    with pytest.raises(DataError, match="holds results of other inputs: the content of 3 of 3 is another now"):
        predict(options(model, tmp_path / "b.parquet", tmp_path / "out"))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("batch_size", 0, "batch_size must be at least 1; got 0"), ("shard_size", 0, "shard_size must be at least 1"),
        ("num_workers", -1, "num_workers must be at least 0"), ("threshold", 1.1, "threshold must be from 0 to 1"),
        ("top_k", 0, "top_k must be at least 1"),
        ("mixed_precision", "half", "mixed_precision must be no, fp16 or bf16; got 'half'"),
        ("output", "tags.xlsx", "output must be a folder or end in .csv, .json, .jsonl, .parquet; got 'tags.xlsx'"),
    ],
)  # fmt: skip
def test_options_are_checked(model, images, option, value, message):
    with pytest.raises(OptionError, match=message):
        PredictOptions(str(model), [str(images)], **{option: value})


def test_a_file_of_others_is_refused_before_anything_is_tagged(model, images, tmp_path):
    (tmp_path / "mine.csv").write_text("my own")
    passes = []
    with register_module_forward_hook(lambda module, *_: passes.append(module)):
        with pytest.raises(OutputError, match="holds mine.csv, which this package did not write"):
            predict(options(model, images, tmp_path / "mine.csv"))
        assert passes == []
        predict(options(model, images, tmp_path / "tags.csv"))
        assert passes
    assert (tmp_path / "mine.csv").read_text() == "my own"


@pytest.mark.parametrize("output", ["tags.csv", "tags"])
def test_a_run_that_tags_nothing_is_an_error_and_leaves_what_was_there(create_model, model, images, tmp_path, output):
    broken = create_model()
    broken.head.embedding.weight.data[0, 0] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    create_image_processor(64).save_pretrained(tmp_path / "broken")
    before = None
    if output == "tags.csv":
        predict(options(model, images, tmp_path / output))
        before = (tmp_path / output).read_bytes()
    with pytest.raises(
        DataError, match=r"none of 6 images could be tagged; the first, .*: the model gives scores that"
    ):
        predict(options(tmp_path / "broken", images, tmp_path / output))
    assert before is None or (tmp_path / output).read_bytes() == before


def test_pictures_that_the_package_wrote_are_not_tagged(model, images, tmp_path):
    (images / "5.png").unlink()
    with OutputFolder(images).replacing("explanations") as folder:
        Image.fromarray(PIXELS).save(folder / "0000_0.png")
    with OutputFolder(images / "model").replacing("samples") as folder:
        (folder / "samples").mkdir()
        Image.fromarray(PIXELS).save(folder / "samples/1.png")
        Image.fromarray(PIXELS).save(folder / "predictions.jpg")  # their picture with labels
    found = predict(options(model, images, tmp_path / "tags.csv"))
    assert (found.images, found.tagged) == (6, 6)
    assert "0000_0.png" not in (tmp_path / "tags.csv").read_text()
    Image.fromarray(PIXELS[::-1]).save(images / "0000_0.png")  # the user's own by that name
    assert predict(options(model, images, tmp_path / "tags.csv")).images == 7


@pytest.mark.parametrize(
    ("source", "way"),
    [("photos/*.jpg", "leave out the quotes"), ("https://example.org/a.jpg?size=1", "URLs are not opened")],
)
def test_what_is_no_file_is_named_with_the_way_out(model, tmp_path, source, way):
    with pytest.raises(DataError, match=f"no such file or folder; {way}"):
        predict(PredictOptions(str(model), [source], tmp_path / "tags.csv"))


def test_labels_that_hold_the_separator_are_read_again(create_model, images, tmp_path):
    labels = {0: "a|b", 1: "@c", 2: 'd "e"', 3: "f, g"}
    create_model(id2label=labels).save_pretrained(tmp_path / "odd")
    create_image_processor(64).save_pretrained(tmp_path / "odd")
    predict(options(tmp_path / "odd", images, tmp_path / "tags.csv", threshold=0.0))
    again = load_split(tmp_path / "tags.csv", "all", delimiter="|")
    assert sorted(label_names(again)) == sorted(labels.values())
    for label in (*labels.values(), '"h" i', "j\nk"):  # alone, so that nothing else tells what divides
        create_model(id2label={0: label}).save_pretrained(tmp_path / "odd")
        predict(options(tmp_path / "odd", images, tmp_path / "one.csv", threshold=0.0))
        assert label_names(load_split(tmp_path / "one.csv", "all")) == [label]


def test_names_of_files_and_labels_harm_nobody(create_model, images, tmp_path):
    """A spreadsheet runs no label as a formula, and a name that is no text is said in one line."""
    create_model(id2label={0: "=1+1", 1: "dog", 2: "sofa", 3: "cat"}).save_pretrained(tmp_path / "formula")
    create_image_processor(64).save_pretrained(tmp_path / "formula")
    predict(options(tmp_path / "formula", images, tmp_path / "tags.csv", threshold=0.0, top_k=4))
    for row in csv.DictReader((tmp_path / "tags.csv").read_text(encoding="utf-8").splitlines()):
        assert "=1+1" in row["labels"]
        assert not row["labels"].startswith("=")
    (images / "0.png").rename(images / "caf\udce9.png")
    with pytest.raises(DataError, match="not in UTF-8|rename"):
        predict(options(tmp_path / "formula", images, tmp_path / "again.csv"))


def test_a_row_without_an_image_is_named_and_the_others_tagged(model, images, tmp_path):
    paths = sorted(str(path) for path in images.glob("*.png"))[:2]
    rows = datasets.Dataset.from_dict({"image": [paths[0], None, paths[1]]}).cast_column("image", datasets.Image())
    rows.to_parquet(tmp_path / "rows.parquet")
    done = predict(PredictOptions(model, [str(tmp_path / "rows.parquet")], output=tmp_path / "tags.csv", num_workers=0))
    assert (done.images, done.tagged, done.unreadable) == (3, 2, [("image 1 of the dataset", "no image")])
