"""On a CPU freed memory serves the next tensors, and a precision that it lacks is named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked

MODEL = Path(__file__).parent.parent / "model_cards/assocformer-efficientnet-lite0-mirflickr"
AFTER = """
import resource
import torch
from accelerate import Accelerator
from assocformer_hf import Tagger
from assocformer_hf.evaluation.evaluator import evaluate
from assocformer_hf.training.machine import share_cores

{first}
for _ in range(20):  # until the places between other memory are there
    torch.ones(64 << 20, dtype=torch.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(64 << 20, dtype=torch.uint8)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
@pytest.mark.parametrize(
    "first",
    ["share_cores(Accelerator(cpu=True))", "evaluate({}, [], Accelerator(cpu=True))", f"Tagger({str(MODEL)!r})"],
)
def test_freed_memory_is_used_again(first):
    # In a process of its own: what a process has settled holds for the rest of it.
    child = subprocess.run(
        [sys.executable, "-c", AFTER.format(first=first)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(child.stdout.split()[-1]) < 2 * (64 << 20)  # of 20 times as many


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_glibc_is_left_alone_where_its_own_variables_say_what_to_do():
    child = subprocess.run(
        [sys.executable, "-c", AFTER.format(first="share_cores(Accelerator(cpu=True))")],
        env=os.environ | {"MALLOC_TRIM_THRESHOLD_": "131072"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(child.stdout.split()[-1]) >= 20 * (64 << 20)


def _cpu_flags() -> set[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists() or not _cpu_flags(), reason="Linux on x86 lists what it can do")
def test_a_precision_that_is_slow_on_the_cpu_is_named_once():
    needs = {"bf16": {"avx512bw", "avx_ne_convert"}, "fp16": {"avx512_fp16", "avx_ne_convert"}, "no": {"fpu"}}
    use = f"""
from assocformer_hf import Tagger
for precision in {[*needs, *needs]}:
    Tagger({str(MODEL)!r}, mixed_precision=precision)
"""
    done = forked.run([sys.executable, "-c", use])
    assert done.returncode == 0, done.stderr
    said = {
        precision: done.stderr.count(f"mixed precision {precision}: torch has no fast kernels") for precision in needs
    }
    assert said == {precision: not flags & _cpu_flags() for precision, flags in needs.items()}
