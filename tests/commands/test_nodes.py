"""Two machines, here two launchers with folders of their own, of which one is killed and joins again."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pyarrow.parquet
import pytest

from tests.commands.commands import BINARIES, ENVIRONMENT, assert_same_run, run, training
from tests.commands.test_predict import write_images
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
MODEL = ROOT / "model_cards/assocformer-swin-tiny-scenes"
HEARTBEAT = "keep_alive_interval=1,keep_alive_max_attempt=3"  # seconds, and how often, until a machine counts as lost


class Nodes:
    """Two launchers that find each other on loopback.

    Args:
        folder: where each gets a working folder of its own.
        command: what their processes run, after `torchrun`'s own options.
    """

    def __init__(self, folder: Path, command: list[str]):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        self.launcher = [str(BINARIES / "torchrun"), "--nnodes", "2", "--nproc_per_node", "1", "--max_restarts", "5"]
        self.launcher += ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{port}", "--rdzv_id", "nodes"]
        self.folder, self.command = folder, command
        self.started = [self.start(number) for number in range(2)]

    def start(self, number: int) -> subprocess.Popen:
        folder = self.folder / f"node-{number}"
        folder.mkdir(exist_ok=True)
        # All is on one machine, so that each launcher would take itself for the host of the rendezvous.
        host = ["--rdzv_conf", f"is_host={int(number == 0)},{HEARTBEAT}"]
        # By default a launcher that has met others once tells its address to nobody who joins later.
        environment = ENVIRONMENT | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        with (folder / "log").open("a") as log:
            return subprocess.Popen(
                [*self.launcher, *host, *self.command], cwd=folder, env=environment, stdout=log, stderr=log
            )

    def log(self) -> str:
        return "".join((self.folder / f"node-{number}/log").read_text() for number in range(2))

    def wait_for(self, condition):
        """Waits until something is true while both run."""
        deadline = time.monotonic() + 300
        while not condition():
            assert all(process.poll() is None for process in self.started), self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def kill(self, number: int):
        """Kills a launcher with all that it started, as a machine that loses its power."""
        listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout
        parents = [tuple(map(int, line.split())) for line in listed.splitlines()]
        doomed = [self.started[number].pid]
        for pid in doomed:
            doomed += [child for child, parent in parents if parent == pid]
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
        self.started[number].wait()

    def lose_and_rejoin(self):
        self.kill(1)
        self.started[1] = self.start(1)

    def finish(self):
        try:
            for process in self.started:
                assert process.wait(400) == 0, self.log()
        finally:
            for number, process in enumerate(self.started):
                if process.poll() is None:
                    self.kill(number)


def test_tagging_goes_on_when_a_node_joins_again(tmp_path):
    names = write_images(tmp_path / "images", 1200)
    output = tmp_path / "shared/tags"
    command = ["-m", "assocformer_hf", "predict", "--model", str(MODEL), "--images", str(tmp_path / "images")]
    nodes = Nodes(tmp_path, [*command, "--output", str(output), "--shard_size", "20", "--num_workers", "1"])
    nodes.wait_for(lambda: len(list(output.glob("tags-*.parquet"))) >= 6)
    nodes.lose_and_rejoin()
    before = {path: path.stat().st_mtime_ns for path in output.glob("tags-*.parquet")}
    assert len(before) < 60
    nodes.finish()
    table = pyarrow.parquet.read_table(output)
    assert table.column("index").to_pylist() == [i for i in range(1200) if i % 100 != 7]
    bad = [json.loads(line)["file"] for line in (output / "_bad_files.jsonl").read_text().splitlines()]
    assert bad == [str(tmp_path / "images" / name) for i, name in enumerate(names) if i % 100 == 7]
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing was done twice


def test_training_is_the_same_run_when_a_node_joins_again(small_coco, tmp_path):
    run(training(small_coco, tmp_path / "whole", "--batch_size", "4", processes=2))
    output = tmp_path / "shared/model"
    _, *command = training(small_coco, output, "--batch_size", "4", "--resume", "auto", "--checkpoint_every", "1")
    nodes = Nodes(tmp_path, command)
    nodes.wait_for(lambda: list((output / "checkpoints").glob("epoch-0001*")))
    nodes.lose_and_rejoin()
    nodes.finish()
    assert nodes.log().count("resumed after epoch") >= 1
    assert_same_run(output, tmp_path / "whole")
