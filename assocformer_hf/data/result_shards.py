"""Results for many inputs as Parquet shards: each is there whole or not at all, so that a killed run can go on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from assocformer_hf.data.schema import DataError
from assocformer_hf.output_folder import OutputFolder, sync

RUN_FILE = "_run.json"
BAD_FILES = "_bad_files.jsonl"
SHARDS = "shards"


class ShardFolder:
    """A folder of Parquet shards, each with the results for a fixed range of the inputs.

    A shard is written aside and renamed. Which inputs it covers does not depend on what was written before or on the
    number of processes, so that every input is in exactly one shard however often a run is stopped.

    Args:
        output: the folder.
        prefix: what the names of the shards begin with: `prefix-00000-of-00012.parquet`; it may name a folder
            below.
        inputs: number of inputs.
        shard_size: inputs that a shard covers.
    """

    def __init__(self, output: OutputFolder, prefix: str, inputs: int, shard_size: int):
        self.output, self.prefix = output, prefix
        self.ranges = [range(start, min(start + shard_size, inputs)) for start in range(0, inputs, shard_size)]

    def start(self, run: Mapping) -> None:
        """Claims the folder for a run, which is new or the one that was started there.

        Called by one process, which holds the lock of the folder.

        Args:
            run: what the results depend on, ready for JSON.

        Raises:
            DataError: if the folder holds the results of another run.
            OutputError: if files of others are in the way.
        """
        name = (Path(self.prefix).parent / RUN_FILE).as_posix()
        file = self.output.path / name
        run = json.loads(json.dumps(run))
        if name in self.output.owned() and file.is_file():
            self.output.refuse_foreign([name], SHARDS)
            before = json.loads(file.read_text(encoding="utf-8"))
            different = [key for key in run if before.get(key) != run[key]]
            if different:
                raise DataError(
                    f"{file.parent}: holds results of a run with another {' and '.join(different)}; choose another "
                    "folder, or remove it"
                )
        elif any(file.parent.glob("*.parquet")):
            raise DataError(f"{file.parent}: holds Parquet files of something else; choose another folder")
        else:
            content = json.dumps(run, indent=1, ensure_ascii=False)
            self.output.write(name, SHARDS, lambda aside: aside.write_text(content, "utf-8"))

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.output.path / f"{self.prefix}-{shard:05d}-of-{len(self.ranges):05d}.parquet"

    def pending(self) -> list[int]:
        """The shards that are not written yet."""
        return [shard for shard in range(len(self.ranges)) if not self.path(shard).is_file()]

    def write(
        self, shard: int, table: pyarrow.Table, bad: Sequence[tuple[str, str]], row_group_size: int | None = None
    ) -> None:
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
        path = self.path(shard)
        # The folder's list of files is the main process's; a shard tells by its name and its run's file whose it is.
        with self.output.unfinished() as aside:
            with (
                (aside / path.name).open("wb") as file,  # pyarrow takes no paths that are not UTF-8
                pyarrow.parquet.ParquetWriter(file, table.schema) as writer,
            ):
                if len(table):  # `datasets` reads a file without row groups, and not an empty row group
                    writer.write_table(table, row_group_size)
            sync(aside / path.name)
            (aside / path.name).rename(path)

    def finished(self) -> tuple[int, list[tuple[str, str]]]:
        """The number of rows in all shards, and name and reason of the inputs without one."""
        rows, bad = 0, []
        for shard in range(len(self.ranges)):
            with self.path(shard).open("rb") as content:
                file = pyarrow.parquet.ParquetFile(content)
                rows += file.metadata.num_rows
                bad += [tuple(pair) for pair in json.loads(file.schema_arrow.metadata[b"bad_files"])]
        return rows, bad


def write_bad_files(output: OutputFolder, bad: Sequence[tuple[str, str]]) -> None:
    """Writes names and reasons as JSON Lines."""
    lines = "".join(json.dumps({"file": name, "reason": why}, ensure_ascii=False) + "\n" for name, why in bad)
    output.write(BAD_FILES, SHARDS, lambda aside: aside.write_text(lines, "utf-8"))
