"""Being asked to stop: by a scheduler that takes the machine back, or by Ctrl-C."""

import multiprocessing
import os
import signal
import sys
import threading

import torch
from accelerate import Accelerator

PREEMPTED_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: "try again later"


class Preempted(Exception):
    """The run was asked to stop, has written a checkpoint, and can be resumed."""


class StopRequest:
    """Catches the first SIGTERM or SIGINT while it is entered; a second one ends the process at once.

    Outside of the main thread, as in a web application, signals are not this run's.
    """

    def __init__(self):
        self.received: int | None = None
        self.handlers = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (signal.SIGTERM, signal.SIGINT):
            self.handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_):
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

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


def leave_signals_to_the_main_process(_worker: int):
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
