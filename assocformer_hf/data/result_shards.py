"""Results for many inputs as Parquet shards: each is there whole or not at all, so that a killed run can go on."""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from assocformer_hf.data.schema import DataError
from assocformer_hf.output_folder import OutputFolder, sync
from assocformer_hf.wording import first_line, some

logger = logging.getLogger(__name__)

RUN_FILE = "_run.json"
BAD_FILES = "_bad_files.jsonl"
SHARDS = "shards"


@dataclass
class _Shard:
    """What the file of a shard says of itself.

    Attributes:
        rows: how many it has.
        bad: name and reason of each input without a row.
        digests: of the inputs, in hexadecimal; empty where none were given.
        unread: the positions of the inputs without a row.
    """

    rows: int
    bad: list[tuple[str, str]]
    digests: list[str]
    unread: set[int]


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
        digests: numbers that tell the contents of the inputs apart, `(inputs,)`. With them a shard has a row for each
            input that could be read, with a column `index`, and is only taken for done if these are still the same.
    """

    def __init__(
        self, output: OutputFolder, prefix: str, inputs: int, shard_size: int, digests: np.ndarray | None = None
    ):
        self.output, self.prefix, self.digests = output, prefix, digests
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
                    f"{file.parent}: holds results of another run, which differs in {some(different, 5)}; choose "
                    "another folder, or remove it"
                )
        elif any(file.parent.glob("*.parquet")):
            raise DataError(f"{file.parent}: holds Parquet files of something else; choose another folder")
        else:
            content = json.dumps(run, indent=1, ensure_ascii=False)
            self.output.write(name, SHARDS, lambda aside: aside.write_text(content, "utf-8"))

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.output.path / f"{self.prefix}-{shard:05d}-of-{len(self.ranges):05d}.parquet"

    def pending(self, can_be_read: Callable[[str, str], bool] = lambda name, reason: False) -> list[int]:
        """The shards that are not written yet or damaged, and those with inputs that were mended since.

        Args:
            can_be_read: whether an input can be read now, by its name and the reason why it could not.

        Raises:
            DataError: if a shard has rows of inputs that are others now.
        """
        return [shard for shard in range(len(self.ranges)) if self._is_pending(shard, can_be_read)]

    def _is_pending(self, shard: int, can_be_read: Callable[[str, str], bool]) -> bool:
        found = self._read(shard)
        if found is None:
            return True
        pairs = zip(self._digests(shard), found.digests, strict=True)
        changed = {i for i, (now, then) in enumerate(pairs) if now != then}
        if others := changed - found.unread:
            raise DataError(
                f"{self.path(shard)}: holds results of other inputs: the content of {len(others)} of {found.rows} "
                "is another now; choose another folder, or remove it"
            )
        return bool(changed) or any(can_be_read(name, reason) for name, reason in found.bad)

    def _digests(self, shard: int) -> list[str]:
        part = self.ranges[shard]
        return [] if self.digests is None else [f"{int(one):016x}" for one in self.digests[part.start : part.stop]]

    def _read(self, shard: int) -> _Shard | None:
        """What a shard says of itself; None for one that is not there, or damaged."""
        path = self.path(shard)
        try:
            with path.open("rb") as content:
                file = pyarrow.parquet.ParquetFile(content)
                rows, metadata = file.metadata.num_rows, file.schema_arrow.metadata or {}
        except FileNotFoundError:
            return None
        except (OSError, pyarrow.ArrowException) as error:
            logger.warning("%s: damaged (%s), and made anew", path, first_line(error))
            return None
        if b"bad_files" not in metadata or (self.digests is not None and b"inputs" not in metadata):
            raise DataError(f"{path}: is not of this run; choose another folder, or remove it")
        bad = [(name, reason) for name, reason in json.loads(metadata[b"bad_files"])]
        inputs = json.loads(metadata.get(b"inputs", b"{}"))
        return _Shard(rows, bad, inputs.get("digests", []), set(inputs.get("unread", [])))

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
        if self.digests is not None:
            rows, part = set(table.column("index").to_pylist()), self.ranges[shard]
            inputs = {"digests": self._digests(shard), "unread": [i - part.start for i in part if i not in rows]}
            metadata |= {b"inputs": json.dumps(inputs).encode()}
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
        """The number of rows in all shards, and name and reason of the inputs without one.

        Raises:
            DataError: if a shard is not there, or damaged.
        """
        rows, bad = 0, []
        for shard in range(len(self.ranges)):
            found = self._read(shard)
            if found is None:
                raise DataError(f"{self.path(shard)}: cannot be read after it was written; start again")
            rows += found.rows
            bad += found.bad
        return rows, bad


def write_bad_files(output: OutputFolder, bad: Sequence[tuple[str, str]]) -> None:
    """Writes names and reasons as JSON Lines: a table of files, whose paths are absolute, so that it can be read."""
    rows = [{"file": os.path.abspath(name) if os.path.isfile(name) else name, "reason": why} for name, why in bad]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    output.write(BAD_FILES, SHARDS, lambda aside: aside.write_text(lines, "utf-8"))
