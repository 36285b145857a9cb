"""Results for many inputs as Parquet shards: each is there whole or not at all, so that a killed run can go on."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from assocformer_hf.data.schema import DataError

RUN_FILE = "_run.json"


class ShardFolder:
    """A folder of Parquet shards, each with the results for a fixed range of the inputs.

    A shard is written aside and renamed. Which inputs it covers does not depend on what was written before or on the
    number of processes, so that every input is in exactly one shard however often a run is stopped.

    Args:
        folder: the folder; made where it is missing.
        prefix: what the names of the shards begin with: `prefix-00000-of-00012.parquet`.
        inputs: number of inputs.
        shard_size: inputs that a shard covers.
    """

    def __init__(self, folder: Path, prefix: str, inputs: int, shard_size: int):
        self.folder, self.prefix = Path(folder), prefix
        self.ranges = [range(start, min(start + shard_size, inputs)) for start in range(0, inputs, shard_size)]

    def start(self, run: Mapping):
        """Claims the folder for a run, which is new or the one that was started there. Called by one process.

        Args:
            run: what the results depend on, ready for JSON.

        Raises:
            DataError: if the folder holds the results of another run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / RUN_FILE
        run = json.loads(json.dumps(run))
        if file.is_file():
            before = json.loads(file.read_text(encoding="utf-8"))
            different = [key for key in run if before.get(key) != run[key]]
            if different:
                raise DataError(
                    f"{self.folder}: holds results of a run with another {' and '.join(different)}; choose another "
                    "folder, or remove it"
                )
        elif any(self.folder.glob("*.parquet")):
            raise DataError(f"{self.folder}: holds Parquet files of something else; choose another folder")
        for left in self.folder.glob(f".{self.prefix}-*"):
            left.unlink()
        write_aside(file, lambda aside: aside.write_text(json.dumps(run, indent=1, ensure_ascii=False), "utf-8"))

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{self.prefix}-{shard:05d}-of-{len(self.ranges):05d}.parquet"

    def pending(self) -> list[int]:
        """The shards that are not written yet."""
        return [shard for shard in range(len(self.ranges)) if not self.path(shard).is_file()]

    def write(
        self, shard: int, table: pyarrow.Table, bad: Sequence[tuple[str, str]], row_group_size: int | None = None
    ):
        """Writes a shard.

        Args:
            shard: its number.
            table: its rows.
            bad: name and reason of each input of its range that has no row; kept in the file itself, so that rows and
                reasons appear at the same moment.
            row_group_size: rows that a reader has to take together; default: pyarrow's.
        """
        metadata = (table.schema.metadata or {}) | {b"bad_files": json.dumps(bad).encode()}
        table = table.replace_schema_metadata(metadata)
        write_aside(self.path(shard), lambda aside: pyarrow.parquet.write_table(table, aside, row_group_size))

    def finished(self) -> tuple[int, list[tuple[str, str]]]:
        """The number of rows in all shards, and name and reason of the inputs without one."""
        rows, bad = 0, []
        for shard in range(len(self.ranges)):
            file = pyarrow.parquet.ParquetFile(self.path(shard))
            rows += file.metadata.num_rows
            bad += [tuple(pair) for pair in json.loads(file.schema_arrow.metadata[b"bad_files"])]
        return rows, bad


def write_bad_files(path: Path, bad: Sequence[tuple[str, str]]):
    """Writes names and reasons as JSON Lines."""
    lines = "".join(json.dumps({"file": name, "reason": why}, ensure_ascii=False) + "\n" for name, why in bad)
    write_aside(path, lambda aside: aside.write_text(lines, "utf-8"))


def write_aside(path: Path, write):
    """Writes a file under a hidden name beside it and renames it once it is on the disk."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    write(aside)
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.rename(path)
