"""Being asked to stop: by a scheduler that takes the machine back, or by Ctrl-C."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

import torch
from accelerate import Accelerator

PREEMPTED_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: "try again later"


class Preempted(Exception):
    """The run was asked to stop, has written a checkpoint if it had begun, and can go on or start anew."""


@contextmanager
def _received_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Hands SIGTERM and SIGINT to a function for a while.

    Outside of the main thread, as in a web application, signals are not this run's.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class StopRequest:
    """The first SIGTERM or SIGINT that comes while `catching`; a second one ends the process at once."""

    def __init__(self):
        self.received: int | None = None

    def catching(self) -> AbstractContextManager[None]:
        """Within it the signals are this request's."""
        return _received_by(self._receive)

    def _receive(self, number: int, _frame):
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number
        name = signal.Signals(number).name
        print(f"{name}: stopping after this step; once more to stop at once", file=sys.stderr, flush=True)

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked to stop; the same answer on all of them. Called by every process."""
        if accelerator.num_processes == 1:
            return self.received is not None
        asked = torch.tensor(float(self.received is not None), device=accelerator.device)
        return bool(accelerator.reduce(asked, "sum") > 0)


@contextmanager
def stops_before_the_first_step() -> Iterator[None]:
    """Ends what comes before the training at a SIGTERM or SIGINT, when there is nothing yet to write a checkpoint of.

    Raises:
        Preempted: then.
    """
    process = os.getpid()

    def stop(number: int, _frame):
        if os.getpid() != process:  # one that was forked since, as for reading: it ends as it would without this
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise Preempted(f"{signal.Signals(number).name}: stopped before the first step; the same command starts anew")

    with _received_by(stop):
        yield


def leave_signals_to_the_main_process(_worker: int) -> None:
    """For `worker_init_fn` of a loader: Ctrl-C and some schedulers signal every process of a job.

    A loader's worker goes on then, until its parent, which needs it for the step at hand, ends it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_parent_says_so, daemon=True).start()


def _end_when_the_parent_says_so():
    # Not of `os.getppid`: where processes are forked by a server, that is the server.
    parent = multiprocessing.parent_process().pid
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(128 + signal.SIGTERM)
