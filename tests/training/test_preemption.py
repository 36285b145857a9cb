"""What a signal ends, and what it leaves: workers of a loader outlive those to the whole job."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from assocformer_hf.training.preemption import (
    Preempted,
    leave_signals_to_the_main_process,
    stops_before_the_first_step,
)
from tests.forked import FORKS


def sleep(started):
    started.set()
    time.sleep(60)


def work(started):
    leave_signals_to_the_main_process(0)
    sleep(started)


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_the_first_step_a_signal_ends_the_run_alone(number):
    before = signal.getsignal(number)
    fork = multiprocessing.get_context("fork")
    started = fork.Event()
    with stops_before_the_first_step():
        child = fork.Process(target=sleep, args=(started,), daemon=True)
        child.start()
        assert started.wait(60)
        os.kill(child.pid, number)
        child.join(30)
        assert child.exitcode == -number  # as if nothing had been caught
        with pytest.raises(Preempted, match=f"{number.name}: stopped before the first step"):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
