"""Processes that were started together are one run, or none."""

import pytest
from accelerate import PartialState

from assocformer_hf.data.main_process import require_all_processes
from assocformer_hf.data.schema import DataError


def test_a_process_that_does_not_see_the_others_is_refused(monkeypatch):
    PartialState(cpu=True)
    require_all_processes()
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun sets it, once Accelerate has found no other process
    with pytest.raises(DataError, match="2 processes were started, but Accelerate sees 1 on this cpu: set ACCELERATE_"):
        require_all_processes()
