"""Streams: the same examples as from the disk, one after the other."""

import datasets
import pytest
import torch

from assocformer_hf import MultiLabelStream
from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import create_image_processor, evaluation_transform
from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import DataError, label_names


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Parquet shards with images in them: labels as classes in `train`, as columns of states in `columns`."""
    folder = tmp_path_factory.mktemp("stream")
    scenes = load_scenes("train", size=12)
    for part in range(3):
        shard = scenes.select(range(4 * part, 4 * part + 4))
        shard.to_parquet(folder / f"train-0000{part}-of-00003.parquet")
    load_scenes("validation", size=4).to_parquet(folder / "validation-00000-of-00001.parquet")
    return folder


def test_a_stream_gives_what_the_disk_gives(folder):
    stream = load_multilabel_dataset(folder, streaming=True)
    whole = load_multilabel_dataset(folder)
    assert list(stream) == ["train", "validation"]
    assert label_names(stream["train"]) == label_names(whole["train"])
    transform = evaluation_transform(create_image_processor(32))
    images = MultiLabelImages(whole["train"], transform)
    expected = MultiLabelCollator(20)([images[i] for i in range(12)])
    collator = MultiLabelCollator(20)
    for workers in (0, 2):
        loader = torch.utils.data.DataLoader(
            MultiLabelStream(stream["train"], transform), 2, collate_fn=collator, num_workers=workers
        )
        batches = list(loader)
        found = {key: torch.cat([batch[key] for batch in batches]) for key in expected}
        order = torch.argsort(found["pixel_values"].sum((1, 2, 3)))
        wanted = torch.argsort(expected["pixel_values"].sum((1, 2, 3)))
        for key in expected:
            torch.testing.assert_close(found[key][order], expected[key][wanted])


def test_columns_of_states_stream_with_their_unknown_labels(tmp_path):
    rows = {"image": load_scenes("train", size=2)["image"], "cat": [1, -1], "dog": [None, 1]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="a stream cannot be searched for its labels first; give them as label_names"):
        load_multilabel_dataset(tmp_path, streaming=True)
    stream = load_multilabel_dataset(tmp_path, streaming=True, label_names=["cat", "dog"])
    examples = list(stream["train"])
    assert [(example["labels"], example["unknown"]) for example in examples] == [([0], [1]), ([1], [0])]


def test_what_cannot_stream_says_so(tmp_path):
    (tmp_path / "a.csv").write_text("file_name,labels\n1.jpg,cat\n")
    message = "is read as table; only Hub datasets and a folder of `datasets`.*tar shards can be streamed"
    with pytest.raises(DataError, match=message):
        load_multilabel_dataset(tmp_path, streaming=True)
    with pytest.raises(DataError, match="is read as memory; only Hub datasets"):
        load_multilabel_dataset([{"file_name": "1.jpg", "labels": ["cat"]}], streaming=True)


def test_a_stream_is_of_the_form_that_is_asked_for(tmp_path):
    datasets.Dataset.from_dict({"image": load_scenes("train", size=1)["image"], "labels": [["cat"]]}).to_parquet(
        tmp_path / "train.parquet"
    )
    with pytest.raises(DataError, match="cocoa"):
        load_multilabel_dataset(tmp_path, streaming=True, form="cocoa")
