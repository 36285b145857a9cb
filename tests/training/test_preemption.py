"""Workers of a loader outlive signals to the whole job, and end when their parent ends them."""

import multiprocessing
import signal
import subprocess
import sys
import time

import pytest

from assocformer_hf.training.preemption import leave_signals_to_the_main_process
from tests.forked import FORKS


def work(started):
    leave_signals_to_the_main_process(0)
    started.set()
    time.sleep(60)


@pytest.mark.parametrize("context", [multiprocessing.get_context("fork"), FORKS], ids=["fork", "forkserver"])
def test_a_worker_ends_when_its_parent_says_so_and_not_before(context):
    """A server that forks is the parent to the system, and not to Python: the default from Python 3.14 on."""
    started = context.Event()
    worker = context.Process(target=work, args=(started,), daemon=True)
    worker.start()
    assert started.wait(60)
    for number in (signal.SIGINT, signal.SIGTERM):
        script = f"import os; os.kill({worker.pid}, {int(number)})"
        subprocess.run([sys.executable, "-S", "-c", script], check=True)
    worker.join(0.5)
    assert worker.is_alive()
    worker.terminate()
    worker.join(30)
    assert worker.exitcode in (128 + signal.SIGTERM, -signal.SIGTERM)
