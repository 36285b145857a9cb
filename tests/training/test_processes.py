"""Several processes see, and give, what one does."""

import subprocess
from pathlib import Path

from tests.conftest import ROOT
from tests.examples.commands import BINARIES, ENVIRONMENT


def test_two_processes_evaluate_every_image_once_and_average_spread_weights():
    script = Path(__file__).with_name("by_two_processes.py")
    command = [str(BINARIES / "torchrun"), "--nproc_per_node", "2", str(script)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "agreed" in done.stdout
