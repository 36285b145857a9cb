"""Shards: whole or absent, and of one run only."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from assocformer_hf.data.result_shards import ShardFolder, write_bad_files
from assocformer_hf.data.schema import DataError
from assocformer_hf.output_folder import OutputFolder


def rows(shards, i):
    return pyarrow.table({"index": list(shards.ranges[i])})


def test_a_run_goes_on_where_it_was_stopped(tmp_path):
    shards = ShardFolder(OutputFolder(tmp_path / "out"), "tags", 10, 4)
    shards.start({"model": "a"})
    shards.write(1, rows(shards, 1), [("x.jpg", "broken")])
    again = ShardFolder(OutputFolder(tmp_path / "out"), "tags", 10, 4)
    again.start({"model": "a"})
    assert again.pending() == [0, 2]
    for i in again.pending():
        again.write(i, rows(again, i), [])
    assert again.finished() == (10, [("x.jpg", "broken")])
    write_bad_files(again.output, again.finished()[1])
    assert json.loads((tmp_path / "out/_bad_files.jsonl").read_text()) == {"file": "x.jpg", "reason": "broken"}
    assert pyarrow.parquet.read_table(tmp_path / "out").column("index").to_pylist() == list(range(10))


def test_the_results_of_another_run_are_not_mixed_in(tmp_path):
    ShardFolder(OutputFolder(tmp_path), "tags", 10, 4).start({"model": "a", "images": 10})
    with pytest.raises(DataError, match="results of another run, which differs in model; choose another"):
        ShardFolder(OutputFolder(tmp_path), "tags", 10, 4).start({"model": "b", "images": 10})
    (tmp_path / "_run.json").unlink()
    (tmp_path / "other.parquet").touch()
    with pytest.raises(DataError, match="holds Parquet files of something else"):
        ShardFolder(OutputFolder(tmp_path), "tags", 10, 4).start({"model": "a"})
