"""Any dataset as Parquet shards with the images in them and a dataset card: a folder ready for the Hub."""

import multiprocessing
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
from datasets.info import DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from assocformer_hf.data.checks.check import LabelCheck, check_labels
from assocformer_hf.data.identity import dataset_identity
from assocformer_hf.data.images.decoding import OR_SKIP, ImageError, decode_stored, stored_content
from assocformer_hf.data.readers.options import BAD_IMAGES
from assocformer_hf.data.result_shards import BAD_FILES, SHARDS, ShardFolder, write_bad_files
from assocformer_hf.data.schema import DataError
from assocformer_hf.option_values import require
from assocformer_hf.output_folder import OutputFolder
from assocformer_hf.progress import progress_bar
from assocformer_hf.wording import counted, shown

ROW_GROUP = 100
DATA = "data"
CARD_FILE = "README.md"
DATASET = "dataset"  # what the card is part of
CARD = """---
{metadata}
---

# {name}

Images with several labels each, from `{source}`, as Parquet files with the images in them.

{counts}

```python
from assocformer_hf import load_multilabel_dataset

dataset = load_multilabel_dataset("{name}")  # this folder, or its id on the Hub
```

`labels` are the labels that are present{unknown}. Images are stored as they were found.

{table}
"""


def write_prepared(
    splits: Mapping[str, datasets.Dataset],
    folder: str | Path,
    source: str,
    shard_size: int = 1000,
    num_proc: int = 2,
    bad_images: str = "error",
) -> dict[str, int]:
    """Writes `data/SPLIT-00000-of-00012.parquet` and `README.md`; called again after it was stopped, it goes on.

    Args:
        splits: of the schema of `multilabel_features`.
        folder: the folder; made where it is missing.
        source: what the card calls the origin.
        shard_size: images in a file.
        num_proc: processes that read and decode images, each a shard at a time.
        bad_images: `"error"` names the first image that cannot be read, `"skip"` leaves such images out and lists them
            in `_bad_files.jsonl`.

    Returns:
        The number of images written, by split.

    Raises:
        DataError: if an image cannot be read, a split has none that can, or the folder holds another dataset.
        OptionError: if an option has a value that it cannot have.
        OutputError: if files of others are in the way, or another job is at work in the folder.
    """
    require(
        {"bad_images": bad_images, "shard_size": shard_size, "num_proc": num_proc},
        at_least={"shard_size": 1, "num_proc": 1},
        one_of={"bad_images": BAD_IMAGES},
    )
    _refuse_empty({key: len(split) for key, split in splits.items()})
    output = OutputFolder(folder)
    parts = {key: ShardFolder(output, f"{DATA}/{key}", len(split), shard_size) for key, split in splits.items()}
    undecoded = {key: split.cast_column("image", datasets.Image(decode=False)) for key, split in splits.items()}
    run = {
        "source": source,
        "splits": {key: len(split) for key, split in splits.items()},
        "images or labels": {key: dataset_identity(split) for key, split in splits.items()},
        "features": {key: repr(split.features) for key, split in splits.items()},
        "shard_size": shard_size,
        "bad_images": bad_images,
    }
    with output.locked():
        output.refuse_foreign([CARD_FILE], DATASET)
        output.refuse_foreign([BAD_FILES], SHARDS)
        for part in parts.values():
            part.start(run)
        _write_shards(undecoded, parts, num_proc, bad_images)
        finished = {key: part.finished() for key, part in parts.items()}
        bad = [pair for _, found in finished.values() for pair in found]
        if bad:
            write_bad_files(output, bad)
        rows = {key: count for key, (count, _) in finished.items()}
        _refuse_empty(rows)
        card = _card(output.path, source, splits, rows)
        output.write(CARD_FILE, DATASET, lambda aside: aside.write_text(card, "utf-8"))
    return rows


def _refuse_empty(rows: Mapping[str, int]):
    """`datasets` loads no dataset that has a split without images."""
    if empty := [key for key, count in rows.items() if not count]:
        raise DataError(f"the split {empty[0]} has no image that can be read; leave it out, or give it some")


def _write_shards(
    undecoded: dict[str, datasets.Dataset], parts: dict[str, ShardFolder], num_proc: int, bad_images: str
):
    """Writes the shards that are not there yet, in several processes."""
    with ProcessPoolExecutor(num_proc, initializer=_begin, initargs=(undecoded, parts, bad_images)) as pool:
        jobs = {
            pool.submit(_write_shard, key, shard): len(part.ranges[shard])
            for key, part in parts.items()
            for shard in part.pending()
        }
        with progress_bar(total=sum(jobs.values()), desc="prepare", unit="images") as bar:
            try:
                for job in as_completed(jobs):
                    job.result()
                    bar.update(jobs[job])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


_work: dict = {}  # what a process of the pool works on


def _begin(splits: dict[str, datasets.Dataset], parts: dict[str, ShardFolder], bad_images: str):
    _work.update(splits=splits, parts=parts, bad_images=bad_images)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent():
    """A process of the pool would wait for work forever where its parent was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _write_shard(key: str, shard: int):
    dataset, part = _work["splits"][key], _work["parts"][key]
    rows, bad = [], []
    for index in part.ranges[shard]:
        row = dataset[index]
        stored = row["image"]
        name = (stored or {}).get("path") or f"image {index} of {key}"
        try:
            decode_stored(stored, index)
        except ImageError as error:
            if _work["bad_images"] == "error":
                raise ImageError(f"{error}{OR_SKIP}") from error
            bad.append((name, error.reason))
            continue
        content = stored_content(stored, name)
        content = content if isinstance(content, bytes) else Path(content).read_bytes()
        rows.append(row | {"image": {"bytes": content, "path": Path(name).name}})
    schema = dataset.cast_column("image", datasets.Image()).features.arrow_schema
    part.write(shard, pyarrow.Table.from_pylist(rows, schema), bad, ROW_GROUP)


def _card(folder: Path, source: str, splits: Mapping[str, datasets.Dataset], rows: dict[str, int]) -> str:
    data = DatasetCardData(task_categories=["image-classification"], tags=["multi-label-classification"])
    sizes = {key: sum(file.stat().st_size for file in (folder / DATA).glob(f"{key}-*.parquet")) for key in rows}
    info = datasets.DatasetInfo(
        features=splits["train"].features,
        splits=SplitDict(
            {key: SplitInfo(key, num_bytes=sizes[key], num_examples=count) for key, count in rows.items()}
        ),
        download_size=sum(sizes.values()),
        dataset_size=sum(sizes.values()),
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    files = [{"split": key, "path": f"data/{key}-*.parquet"} for key in rows]
    MetadataConfigs({"default": {"data_files": files}}).to_dataset_card_data(data)
    check = check_labels({key: _written_labels(folder, key, split.features) for key, split in splits.items()})
    counts = [f"{counted(count, 'image')} in `{key}`" for key, count in rows.items()]
    return CARD.format(
        metadata=data.to_yaml(),
        name=shown(folder.name),
        source=source,
        counts=", ".join([*counts, counted(len(check.names), "label")]) + ".",
        unknown=", `unknown` those that nobody annotated" if "unknown" in splits["train"].features else "",
        table=_label_table(check),
    )


def _written_labels(folder: Path, key: str, features: datasets.Features) -> datasets.Dataset:
    """The labels of the images that were written."""
    columns = [name for name in ("labels", "unknown") if name in features]
    files = sorted((folder / DATA).glob(f"{key}-*.parquet"))
    tables = []
    for file in files:
        with file.open("rb") as content:  # pyarrow takes no paths that are not UTF-8
            tables.append(pyarrow.parquet.read_table(content, columns=columns))
    table = pyarrow.concat_tables(tables)
    kept = datasets.Features({name: features[name] for name in columns})
    return datasets.Dataset.from_dict(table.to_pydict(), features=kept)


def _label_table(check: LabelCheck) -> str:
    lines = ["| label | " + " | ".join(check.positives) + " |", "|---" * (1 + len(check.positives)) + "|"]
    for i, name in enumerate(check.names):
        lines.append(
            f"| {name.replace('|', '&#124;')} | " + " | ".join(str(c[i]) for c in check.positives.values()) + " |"
        )
    return "\n".join(lines)
