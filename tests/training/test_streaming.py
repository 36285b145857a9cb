"""Training on a stream: every image once an epoch, shared by the processes, and the same run after it was stopped."""

import io
import tarfile

import pytest
import yaml
from accelerate import Accelerator
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook

from assocformer_hf import train
from assocformer_hf.data.images.dataset import MultiLabelCollator
from assocformer_hf.data.images.streaming import StreamedImages
from assocformer_hf.data.images.transforms import create_image_processor, evaluation_transform
from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.data.schema import DataError
from assocformer_hf.data.streams import shard_rows
from assocformer_hf.training.arguments import DataArguments, RecipeArguments
from assocformer_hf.training.loading import head_start_loader
from assocformer_hf.training.sampling import StreamOrder
from assocformer_hf.training.splits import load_streams
from tests.commands.commands import assert_same_run, run, training
from tests.commands.test_faults import kill, start, wait_for_checkpoints

ROWS = (9, 14, 4, 17)  # of the shards to train on
RECIPE = {
    "backbone": "tiny-cvt", "image_size": 32, "epochs": 1, "batch_size": 8, "ema_decay": 0.9, "report_to": "none",
    "streaming": True, "shuffle_buffer": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Parquet files with a dataset card, as `assocformer prepare` writes them and the Hub holds them."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "data").mkdir()
    splits = [{"split": name, "path": f"data/{name}-*"} for name in ("train", "validation")]
    card = {"configs": [{"config_name": "default", "data_files": splits}]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n")
    scenes, start = load_scenes("train", size=sum(ROWS)), 0
    for number, rows in enumerate(ROWS):
        scenes.select(range(start, start + rows)).to_parquet(folder / f"data/train-{number}.parquet")
        start += rows
    load_scenes("validation", size=12).to_parquet(folder / "data/validation-0.parquet")
    return folder


@pytest.fixture(scope="module")
def images(shards):
    streams = load_multilabel_dataset(shards, streaming=True)
    rows = shard_rows(streams["train"], streams.files["train"])
    assert rows == list(ROWS)
    return StreamedImages(streams["train"], streams.files["train"], rows, lambda image: image, buffer=10)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_image_is_read_once_an_epoch_in_another_order_each_time(images, processes):
    epochs = []
    for epoch in range(3):
        orders = [StreamOrder(images, 5, processes, process) for process in range(processes)]
        for order in orders:
            order.set_epoch(epoch)
        parts = [[index for index, _ in order] for order in orders]
        assert [len(part) for part in parts] == [len(order) for order in orders] == [sum(ROWS) // processes] * processes
        read = [index for part in parts for index in part]
        assert len(set(read)) == len(read)
        assert set(read) <= set(range(sum(ROWS)))
        epochs.append(read)
    assert len(set(map(tuple, epochs))) == 3
    assert len(orders[0]) * processes > sum(ROWS) - processes


@pytest.mark.parametrize("processes", [1, 2])
def test_the_order_can_be_entered_anywhere_and_gives_the_examples_of_the_indices(images, shards, processes):
    whole = load_multilabel_dataset(shards)["train"]
    for process in range(processes):
        order = StreamOrder(images, 5, processes, process)
        read = list(order)
        assert [example["labels"] for _, example in read] == [whole[index]["labels"] for index, _ in read]
        for passed in (0, 1, 9, 10, 11, len(read) - 1, len(read)):
            order.start = passed * processes
            assert [index for index, _ in order] == [index for index, _ in read[passed:]]
            assert len(order) == len(read) - passed


def test_the_head_starts_on_as_many_images_of_the_stream_as_memory_allows(shards, monkeypatch):
    streams = load_multilabel_dataset(shards, streaming=True)
    transform = evaluation_transform(create_image_processor(32))
    images = StreamedImages(streams["train"], streams.files["train"], ROWS, transform, buffer=10)
    recipe, loading = RecipeArguments(batch_size=4), {"collate_fn": MultiLabelCollator(20, with_index=True)}
    for most, expected in ((20_000, sum(ROWS)), (21, 21)):
        monkeypatch.setattr("assocformer_hf.training.loading.HEAD_START_IMAGES", most)
        loader = head_start_loader(images, recipe, Accelerator(cpu=True), loading)
        read = [index for batch in loader for index in batch["index"].tolist()]
        assert len(read) == len(set(read)) == expected


def test_a_shard_that_changed_is_named(images):
    changed = StreamedImages(images.dataset, images.files, [9, 15, 4, 17], images.transform, buffer=10)
    with pytest.raises(DataError, match="train-1.parquet: no longer has the 15 examples that were counted in it"):
        list(StreamOrder(changed))


def test_unreadable_images_are_replaced_by_readable_ones_of_their_batch(images):
    batch = list(StreamOrder(images))[:4]
    expected = [example["pixel_values"].tobytes() for example in images.__getitems__(batch)]
    broken = [(batch[2][0], batch[2][1] | {"image": {"bytes": b"no image", "path": None}})]
    with pytest.raises(ValueError, match=r"train-\d.parquet, example \d+: "):
        images.__getitems__(broken)
    skipping = StreamedImages(images.dataset, images.files, ROWS, images.transform, bad_images="skip")
    found = skipping.__getitems__([*batch[:2], *broken, batch[3]])
    assert [example["readable"] for example in found] == [True, True, False, True]
    assert [example["index"] for example in found] == [index for index, _ in batch]
    assert [one["pixel_values"].tobytes() for one in found] == [expected[i] for i in (0, 1, 3, 3)]
    with pytest.raises(DataError, match=r"none of 1 images can be read, .*train-\d.parquet, example"):
        skipping.__getitems__(broken)


def test_tar_shards_are_counted(tmp_path):
    for split, counts in (("train", (5, 11)), ("validation", (6,))):
        for number, count in enumerate(counts):
            with tarfile.open(tmp_path / f"{split}-{number}.tar", "w") as shard:
                for i in range(count):
                    Image.new("RGB", (32, 32), (40 * number, 9 * i, 0)).save(image := io.BytesIO(), "JPEG")
                    for ending, content in (("jpg", image.getvalue()), ("txt", b"cat, dog" if i % 2 else b"cat")):
                        member = tarfile.TarInfo(f"{i}.{ending}")
                        member.size = len(content)
                        shard.addfile(member, io.BytesIO(content))
    streams = load_multilabel_dataset(tmp_path, streaming=True, label_names=["cat", "dog"])
    rows = shard_rows(streams["train"], streams.files["train"])
    assert rows == [5, 11]
    images = StreamedImages(streams["train"], streams.files["train"], rows, lambda image: image.getpixel((0, 0))[0])
    found = images.__getitems__(list(StreamOrder(images)))
    assert sorted((one["index"], one["labels"]) for one in found) == [
        (i, [0, 1] if (i if i < 5 else i - 5) % 2 else [0]) for i in range(16)
    ]
    assert all(abs(one["pixel_values"] - 40 * (one["index"] >= 5)) < 8 for one in found)


class Stopped(Exception):
    """What ends a run as a kill would."""


def test_a_stream_is_trained_on_alike_whatever_loads_it_and_after_a_stop(shards, tmp_path):
    """Stopped in the middle of a block; what had been read ahead of the stop is not lost."""
    whole = train(shards, output_dir=tmp_path / "whole", num_workers=0, **RECIPE)
    assert whole.history[0]["images"] == 40
    assert whole.metrics["images"] == 12
    output, steps = tmp_path / "stopped", []

    def stop(*_):
        steps.append(len(steps) + 1)
        if len(steps) == 4:  # before its checkpoint
            raise Stopped

    hook = register_optimizer_step_post_hook(stop)
    with pytest.raises(Stopped):
        train(shards, output_dir=output, num_workers=1, checkpoint_every=1, **RECIPE)
    hook.remove()
    assert max(path.name for path in (output / "checkpoints").iterdir()) == "epoch-0000-batch-000003"
    train(shards, output_dir=output, num_workers=1, resume="last", **RECIPE)
    assert_same_run(output, tmp_path / "whole", epochs=1)


def test_what_cannot_be_trained_on_as_a_stream_says_so(tmp_path):
    with pytest.raises(DataError, match="scenes: is read from the disk and cannot be streamed; leave out streaming"):
        train("scenes", output_dir=tmp_path / "model", **RECIPE)
    load_scenes("train", size=4).save_to_disk(tmp_path / "saved")
    streams = load_multilabel_dataset(tmp_path / "saved", streaming=True)
    with pytest.raises(DataError, match="only Parquet and tar shards can be trained on as a stream"):
        shard_rows(streams["train"], streams.files["train"])
    load_scenes("train", size=4).to_parquet(tmp_path / "train-0.parquet")
    with pytest.raises(DataError, match="no validation split, and none can be held out of a stream"):
        train(tmp_path, output_dir=tmp_path / "model", **RECIPE)


def test_another_column_of_labels_is_not_taken_from_the_cache(tmp_path):
    for split in ("train", "validation"):
        rows = load_scenes("train", size=4).remove_columns("labels")
        rows = rows.add_column("first", ["cat"] * 4).add_column("second", ["dog"] * 4)
        rows.to_parquet(tmp_path / f"{split}-0.parquet")
    for column, label in (("first", 0), ("second", 1)):
        source = SourceOptions(label_column=column, label_names=["cat", "dog"])
        streams = load_streams(tmp_path, DataArguments(streaming=True), source)
        assert streams["validation"]["labels"][:] == [[label]] * 4


def test_a_teacher_of_a_stream_is_refused(shards, tmp_path):
    with pytest.raises(DataError, match="a teacher scores all images before the training: leave out streaming"):
        train(shards, output_dir=tmp_path / "model", teacher="any", **RECIPE)


@pytest.mark.slow
def test_two_processes_killed_on_a_stream_are_the_same_run(shards, tmp_path):
    def command(output):
        options = ["--streaming", "--shuffle_buffer", "10", "--batch_size", "4", "--checkpoint_every", "1"]
        words = training(shards, output, *options, "--resume", "auto", processes=2)
        for name in ("--data_dir", "--train_split", "--eval_split"):
            place = words.index(name)
            del words[place : place + 2]
        words[words.index("--dataset") + 1] = str(shards)
        return words

    run(command(tmp_path / "whole"))
    output, seen = tmp_path / "model", set()
    for _ in range(2):
        process = start(command(output))
        seen = wait_for_checkpoints(process, output, seen, count=2)
        kill(process)
    assert "resumed after epoch" in run(command(output)).stdout
    assert_same_run(output, tmp_path / "whole")
