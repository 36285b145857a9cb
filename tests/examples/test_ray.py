"""Tagging on Ray, with two machines on loopback of which one is lost."""

import os
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.examples.cluster import MODEL, check_every_image_once, write_images


@pytest.mark.slow
def test_every_image_is_tagged_once_though_a_worker_is_lost(tmp_path):
    pytest.importorskip("ray", reason='pip install -e ".[ray]"')
    from ray.cluster_utils import Cluster

    files = write_images(tmp_path / "images", 2000)
    output = tmp_path / "out"
    # The head only leads; what runs on the lost machine is lost with its memory.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        lost, _ = (cluster.add_node(num_cpus=2) for _ in range(2))
        cluster.wait_for_nodes()
        command = [
            sys.executable,
            str(ROOT / "examples/ray_tagging.py"),
            str(MODEL),
            str(tmp_path / "images"),
            str(output),
        ]
        environment = os.environ | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        log = tmp_path / "log"
        with log.open("w") as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        deadline = time.monotonic() + 400
        while not list(output.glob("*.parquet")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        cluster.remove_node(lost, allow_graceful=False)
        assert process.poll() is None, "it ended before the machine was lost"
        assert process.wait(500) == 0, log.read_text()
    finally:
        cluster.shutdown()
    check_every_image_once(output, files)
