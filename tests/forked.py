"""Commands in processes of their own that do not import torch anew: one process has imported it, and forks.

Each takes a few seconds less so, and the suite starts more than a hundred. What a command changes in its process stays
in it, as in any other. Launchers such as torchrun, and tests of what an import does, start processes from nothing.
"""

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.forked_imports"])


class Forked:
    """`python WORDS` as a process, with the methods of `subprocess.Popen` that the tests use.

    Args:
        words: a script, `-m MODULE` or `-c CODE`, and its arguments.
        env: the environment; what libraries read when they are imported is that of the tests.
        cwd: the working directory.
    """

    def __init__(self, words: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None):
        self.args = [str(word) for word in words]
        self._folder = tempfile.TemporaryDirectory()
        self._printed = [Path(self._folder.name, name) for name in ("out", "err")]
        for file in self._printed:
            file.touch()
        environment = dict(os.environ if env is None else env)
        workers = multiprocessing.get_start_method()
        arguments = (self.args, environment, str(cwd or os.getcwd()), *self._printed, workers)
        self._process = FORKS.Process(target=_become, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """As of `subprocess.Popen`: less than 0 after a signal."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code of a process that has ended."""
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What the process printed and its errors, once it has ended."""
        self._process.join(timeout)
        if self._process.is_alive():
            raise subprocess.TimeoutExpired(self.args, timeout, *self._texts())
        return self._texts()

    def send_signal(self, number: int):
        """Sends a signal to the process."""
        os.kill(self.pid, number)

    def kill(self):
        """Ends the process at once."""
        self._process.kill()

    def _texts(self) -> tuple[str, str]:
        out, err = (file.read_bytes().decode("utf-8", "backslashreplace") for file in self._printed)
        return out, err


def start(
    command: Sequence, env: Mapping[str, str] | None = None, cwd: Path | None = None, anew: bool = False
) -> Forked | subprocess.Popen:
    """Starts a command; one of this Python as a fork, unless it shall start anew."""
    if command[0] == sys.executable and not anew:
        return Forked(command[1:], env, cwd)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([str(word) for word in command], env=env, cwd=cwd, text=True, **pipes)


def run(
    command: Sequence, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 240
) -> subprocess.CompletedProcess:
    """Runs a command to its end; of one that takes too long, the error shows where its processes stood."""
    process = start(command, env, cwd)
    try:
        out, err = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        for member in [*psutil.Process(process.pid).children(recursive=True), process]:
            member.send_signal(signal.SIGABRT)  # which `faulthandler` answers with a traceback
        out, err = process.communicate(timeout=20)
        raise AssertionError(f"not done after {timeout} s: {out}\n{err}") from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def both(
    command: Sequence, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 240
) -> list[subprocess.CompletedProcess]:
    """Runs a command in two processes that see each other, as a launcher sets them up, and waits for both."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    meeting = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment = {**(os.environ if env is None else env), **meeting}
    started = [start(command, environment | {"RANK": rank, "LOCAL_RANK": rank}, cwd) for rank in ("0", "1")]
    try:
        printed = [process.communicate(timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    return [
        subprocess.CompletedProcess(command, process.returncode, *texts)
        for process, texts in zip(started, printed, strict=True)
    ]


def _become(words: list[str], environment: dict[str, str], folder: str, out: Path, err: Path, workers: str):
    """Makes this process the command, which starts workers as any other does."""
    multiprocessing.set_start_method(workers, force=True)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, name in ((1, out), (2, err)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), number)
    script = words[0] not in ("-m", "-c")
    sys.argv = words if script else words[1:]
    sys.path.insert(0, str(Path(words[0]).parent) if script else folder)
    if script:
        runpy.run_path(words[0], run_name="__main__")
    elif words[0] == "-m":
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
