"""Reading once for all processes of a run."""

import os
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from assocformer_hf.data.schema import DataError

Read = TypeVar("Read")
CALM_SECONDS = 0.02
# The numbers of processes that torchrun and MPI leave in the environment.
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def from_main_process(read: Callable[[], Read]) -> Read:
    """What the main process reads, in every process: the others get its result, and all have the same.

    Tables travel as Arrow data; splits that `datasets` keeps in its cache as the paths of its files.

    Raises:
        DataError: in every process, if the main process raises it; in the others too if it raises something else, so
            that none waits for a main process that is gone.
    """
    state = PartialState()
    if state.num_processes == 1:
        return read()
    outcome: list = [None, None]
    try:
        if state.is_main_process:
            outcome[0] = read()
    except Exception as error:
        broadcast_object_list([None, str(error) or type(error).__name__])
        raise
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise DataError(outcome[1])
    return outcome[0]


def require_all_processes() -> None:
    """Refuses to be one of several runs where one was wanted, and makes forks safe beside the other processes.

    Raises:
        DataError: if the launcher started more processes than Accelerate sees, or fewer than it was asked for.
    """
    started, state = int(os.environ.get("WORLD_SIZE", "1")), PartialState()
    if started > state.num_processes:
        if torch.distributed.is_initialized():  # who goes first would leave the others an error of the connection
            torch.distributed.barrier()
        raise DataError(
            f"{started} processes were started, but Accelerate sees {state.num_processes} on this "
            f"{state.device.type}: set ACCELERATE_USE_CPU=true to use CPUs"
        )
    # `accelerate launch` names the address that processes meet at, and on CPUs starts but one of them.
    launched = {"ACCELERATE_DYNAMO_BACKEND", "MASTER_ADDR"} <= os.environ.keys()
    if state.num_processes == 1 and launched and not any(name in os.environ for name in SIZES):
        raise DataError(
            "accelerate launch started one process where several were asked for; on CPUs write ACCELERATE_USE_CPU=true "
            "torchrun --nproc_per_node 2 -m assocformer_hf and the verb, or, for one process, --num_processes 1 "
            "without MASTER_ADDR in the environment"
        )
    if state.num_processes > 1:
        _wait_before_forks()


@cache
def _wait_before_forks():
    """Lets the threads of the process group come to rest before a loader forks its workers.

    After a collective operation they free tensors, for which they enter Python. Before Python 3.12, a fork in the
    middle of that leaves the new process a lock that nobody opens: it never starts, and the run waits for it for ever.
    """
    if sys.version_info < (3, 12) and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=partial(time.sleep, CALM_SECONDS))
