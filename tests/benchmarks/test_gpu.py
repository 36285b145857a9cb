"""The GPU benchmark, tried on what is at hand."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# The machine that runs it need not have these.
WITHOUT = """
import runpy, sys
sys.modules.update(datasets=None, evaluate=None)
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


@pytest.mark.slow
def test_the_script_checks_and_measures_without_datasets(tmp_path):
    command = [sys.executable, "-c", WITHOUT, "--tiny", "--modes", "eager", "channels_last", "--output", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "correct: head, tiles and models agree" in done.stdout
    files = [tmp_path / f"gpu_models_{mode}.json" for mode in ("eager", "channels_last")]
    rows = [row for file in files for row in json.loads(file.read_text())["rows"]]
    assert len(rows) == 8
    assert all(row["images_per_second"] > 0 and row["peak_GiB"] > 0 for row in rows)
