"""Every form of dataset: what is written in it reads back identical."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.schema import label_names
from tests.data.forms import FORMS, WITH_UNKNOWN, Content

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


def check_round_trip(write, table: Content):
    # Not tmp_path: hypothesis runs many examples in one test.
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / "data"
        folder.mkdir()
        options = write(table, folder)
        train_only = options.pop("train_only", False)
        splits = load_multilabel_dataset(folder, label_names=table.names, **options, **{"validation_share": 0.4})
        assert set(splits) == {"train", "validation"}
        found = {}
        for split in splits.values():
            assert label_names(split) == table.names
            unknown = named(split, "unknown") or [[]] * len(split)
            stored = split.with_format("arrow")[:]["image"].to_pylist()
            for image, labels, others in zip(stored, named(split, "labels"), unknown, strict=True):
                found[image["bytes"] or Path(image["path"]).name] = (set(labels), set(others))
        wanted = [file for split in table.images for file in table.images[split] if split == "train" or not train_only]
        by_content = {file.read_bytes(): file.name for file in wanted}
        found = {by_content.get(key, key): value for key, value in found.items()}
        assert found.keys() == {file.name for file in wanted}
        for file in wanted:
            unknown = table.unknown[file.name] if write in WITH_UNKNOWN else []
            assert found[file.name] == (set(table.labels[file.name]), set(unknown)), file.name
        for split, files in table.images.items():
            if not train_only:
                assert len(splits[split]) == len(files)


@pytest.mark.parametrize("write", FORMS, ids=lambda write: write.__name__)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_table_reads_back_identical(pictures, write, data):
    names, rows = data.draw(tables(write in WITH_UNKNOWN))
    check_round_trip(write, content(pictures, names, rows))
