"""Tagging on Spark, with two workers on loopback of which one loses its executor."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.examples.cluster import MODEL, check_every_image_once, write_images


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def executors() -> list[int]:
    """Process ids of the running executors."""
    running = psutil.process_iter(["cmdline"])
    return [one.pid for one in running if any("CoarseGrainedExecutor" in word for word in one.info["cmdline"] or [])]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")
def test_every_image_is_tagged_once_though_an_executor_is_killed(tmp_path):
    pyspark = pytest.importorskip("pyspark", reason='pip install -e ".[spark]"')
    files = write_images(tmp_path / "images", 2000)
    output = tmp_path / "out"
    binaries = Path(pyspark.__file__).parent / "bin"
    environment = os.environ | {
        "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_WORKER_DIR": str(tmp_path / "work"), "SPARK_NO_DAEMONIZE": "1",
    }  # fmt: skip
    port = free_port()
    master = f"spark://127.0.0.1:{port}"
    package = "org.apache.spark.deploy"
    commands = [[f"{package}.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"]]
    commands += [[f"{package}.worker.Worker", "--cores", "1", "--memory", "2g", "--webui-port", "0", master]] * 2
    submit = [str(binaries / "spark-submit"), "--master", master, "--conf", "spark.executor.memory=1g"]
    submit += ["--conf", "spark.sql.files.openCostInBytes=2097152", "--conf", "spark.ui.enabled=false"]
    submit += [str(ROOT / "examples/spark_tagging.py"), str(MODEL), str(tmp_path / "images"), str(output)]
    log = tmp_path / "log"
    before = set(executors())
    with log.open("w") as file:
        options = {"env": environment, "stdout": file, "stderr": file}
        cluster = [subprocess.Popen([str(binaries / "spark-class"), *command], **options) for command in commands]
        try:
            process = subprocess.Popen(submit, **options)
            deadline = time.monotonic() + 400
            # A task that ended has its file aside until the whole job is committed.
            while not list(output.glob("_temporary/0/task_*/*.parquet")):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            running = sorted(set(executors()) - before)
            assert len(running) == 2
            os.kill(running[0], signal.SIGKILL)
            assert process.poll() is None, "it ended before the executor was killed"
            assert process.wait(500) == 0, log.read_text()
        finally:
            for one in reversed(cluster):
                one.terminate()
                one.wait(30)
    assert "ExecutorLostFailure" in log.read_text() or "Lost executor" in log.read_text()
    check_every_image_once(output, files)
