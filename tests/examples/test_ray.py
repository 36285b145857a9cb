"""Tagging on Ray, with two machines on loopback of which one is lost."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.conftest import ROOT
from tests.examples.cluster import MODEL, check_every_image_once, write_images

# A cluster of loopback keeps to itself and leaves no token in the home folder. On a busy machine it starts all the
# same, and its workers get their share: at Ray's niceness of 15 they take minutes to load the model.
SETTINGS = {
    "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1",
    "RAY_raylet_start_wait_time_s": "300", "RAY_gcs_server_request_timeout_seconds": "300", "HF_HUB_OFFLINE": "1",
}  # fmt: skip


def taggers(node) -> int:
    """How many actors with a `Tagger` run on a machine."""
    (raylet,) = node.all_processes["raylet"]
    workers = psutil.Process(raylet.process.pid).children()
    return sum("MapWorker" in "".join(worker.cmdline()) for worker in workers)


@pytest.mark.slow
def test_every_image_is_tagged_once_though_a_machine_is_lost(tmp_path, monkeypatch):
    pytest.importorskip("ray.data", reason='pip install -e ".[ray]"')
    for name, value in (SETTINGS | {"PYTHONPATH": str(ROOT)}).items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    files = write_images(tmp_path / "images", 1000)
    output = tmp_path / "out"
    log = tmp_path / "log"
    # On loopback, but not by the address that Ray's clients replace by the machine's own. The head only leads.
    options = {"node_ip_address": "127.0.0.2", "include_dashboard": False, "object_store_memory": 200 * 2**20}
    process = None
    handler = signal.getsignal(signal.SIGTERM)  # which the cluster replaces
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **options})
    try:
        machines = [cluster.add_node(num_cpus=2, **options) for _ in range(2)]
        cluster.wait_for_nodes()
        command = [sys.executable, str(ROOT / "examples/ray_tagging.py"), str(MODEL), str(files[0].parent), str(output)]
        with log.open("w") as file:
            environment = os.environ | {"RAY_ADDRESS": cluster.address}
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        deadline = time.monotonic() + 400
        while not list(output.glob("*.parquet")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        lost = max(machines, key=taggers)
        assert taggers(lost)
        cluster.remove_node(lost, allow_graceful=False)
        assert process.poll() is None, "it ended before the machine was lost"
        assert process.wait(500) == 0, log.read_text()
    finally:
        if process is not None:
            process.kill()
        cluster.shutdown()
        signal.signal(signal.SIGTERM, handler)
    check_every_image_once(output, files)
