"""Every form of dataset: what is written in it reads back identical."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.schema import label_names
from tests.data.readers.forms import (
    FORMS,
    WITH_UNKNOWN,
    Content,
    coco_content,
    metadata_delimited,
    metadata_json_lines,
    voc_xml_beside,
    webdataset,
)

# Of a tar file, `datasets` takes the name up to the first point, and XML does not keep control characters.
LETTERS = st.characters(
    categories=("L", "N", "Zs", "Po", "Ps", "Pe", "Sm", "Pd"), exclude_characters="[\u2028\u2029\x85"
)
NAMES = st.text(LETTERS, min_size=1, max_size=8).map(str.strip).filter(lambda n: n and n.lower() not in RESERVED)
RESERVED = ("file_name", "split", "unknown", "image", "nan")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(9):
        Image.new("RGB", (8, 8), (25 * i, 100, 0)).save(folder / f"{i:03d}.jpg")
    return sorted(folder.iterdir())


@st.composite
def tables(draw, with_unknown: bool):
    """A label set and a state of each label for nine images; every label is present or unknown somewhere."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique_by=str.lower))
    allowed = (0, 1, -1) if with_unknown else (0, 1)
    row = st.lists(st.sampled_from(allowed), min_size=len(names), max_size=len(names))
    return names, draw(st.lists(row, min_size=9, max_size=9))


def content(pictures, names, rows) -> Content:
    chosen = [{s: [n for n, state in zip(names, row, strict=True) if state == s] for s in (1, -1)} for row in rows]
    return Content(
        {"train": pictures[:5], "validation": pictures[5:]},
        {file.name: labels[1] for file, labels in zip(pictures, chosen, strict=True)},
        {file.name: labels[-1] for file, labels in zip(pictures, chosen, strict=True)},
        names,
    )


def named(dataset, column) -> list[list[str]]:
    names = label_names(dataset)
    return [[names[i] for i in row] for row in dataset[column]] if column in dataset.column_names else []


def read_back(folder: Path, table: Content, **options) -> dict[str, tuple[set[str], set[str]]]:
    """For each image file its labels and its unknown labels."""
    splits = load_multilabel_dataset(folder, **options)
    assert set(splits) == {"train", "validation"}
    name_of = {file.read_bytes(): file.name for files in table.images.values() for file in files}
    found = {}
    for split in splits.values():
        assert label_names(split) == table.names
        unknown = named(split, "unknown") or [[]] * len(split)
        for image, labels, others in zip(
            split.with_format("arrow")[:]["image"].to_pylist(), named(split, "labels"), unknown, strict=True
        ):
            name = name_of[image["bytes"]] if image["bytes"] else Path(image["path"]).name
            assert name not in found
            found[name] = (set(labels), set(others))
    return found


def check_round_trip(write, table: Content):
    # Not tmp_path: hypothesis runs many examples in one test.
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / "data"
        folder.mkdir()
        options = write(table, folder)
        written = ["train"] if options.pop("train_only", False) else list(table.images)
        found = read_back(folder, table, label_names=table.names, validation_share=0.4, **options)
    unknown = table.unknown if write in WITH_UNKNOWN else dict.fromkeys(table.unknown, ())
    files = [file.name for split in written for file in table.images[split]]
    assert found == {name: (set(table.labels[name]), set(unknown[name])) for name in files}


@pytest.mark.parametrize("write", FORMS, ids=lambda write: write.__name__)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_table_reads_back_identical(pictures, write, data):
    names, rows = data.draw(tables(write in WITH_UNKNOWN))
    check_round_trip(write, content(pictures, names, rows))


@pytest.mark.parametrize("write", FORMS, ids=lambda write: write.__name__)
def test_real_images_have_the_same_labels_in_every_form(coco_mini, tmp_path, write):
    table = coco_content(coco_mini)
    (tmp_path / "data").mkdir()
    options = write(table, tmp_path / "data")
    written = ["train"] if options.pop("train_only", False) else ["train", "validation"]
    # The forms that do not declare their labels give them sorted.
    found = read_back(tmp_path / "data", table, label_names=table.names, **options)
    files = [file.name for split in written for file in table.images[split]]
    assert found == {name: (set(table.labels[name]), set()) for name in files}


def test_labels_that_are_not_declared_are_collected(coco_mini, tmp_path):
    table = coco_content(coco_mini)
    table.names.sort()
    for write in (metadata_delimited, metadata_json_lines, voc_xml_beside, webdataset):
        folder = tmp_path / write.__name__
        folder.mkdir()
        read_back(folder, table, **write(table, folder))
