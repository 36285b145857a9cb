"""How the tests run the scripts: as users do, in processes of their own, on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from tests import forked
from tests.conftest import ROOT

BINARIES = Path(sys.executable).parent
ENVIRONMENT = os.environ | {
    "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
}  # fmt: skip


def training(data: Path, output: Path, *options: str, processes: int = 1, launcher: tuple[str, ...] = ()) -> list[str]:
    """A command that trains a tiny CvT for three epochs."""
    if processes > 1:
        launcher = (str(BINARIES / "torchrun"), "--nproc_per_node", str(processes))
    values = {
        "dataset": "coco", "data_dir": data, "train_split": "train", "eval_split": "val", "backbone": "tiny-cvt",
        "image_size": 64, "epochs": 3, "batch_size": 8, "learning_rate": 1e-3, "ema_decay": 0.9, "num_workers": 1,
        "report_to": "none", "output_dir": output,
    }  # fmt: skip
    pairs = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    return [*(launcher or (sys.executable,)), str(ROOT / "examples/train.py"), *pairs, *options]


def run(command: list[str], check: bool = True) -> subprocess.CompletedProcess:
    done = forked.run(command, ENVIRONMENT)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def kill(process: forked.Forked | subprocess.Popen):
    """Kills a run with all of its processes; torchrun puts each into a group of its own."""
    for member in [*psutil.Process(process.pid).children(recursive=True), process]:
        member.kill()
    process.communicate()


def final_state(output: Path, epochs: int = 3) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """The weights and the history that the last checkpoint of a run holds."""
    checkpoint = output / f"checkpoints/epoch-{epochs:04d}"
    spread = checkpoint / "pytorch_model_fsdp_0"
    if spread.is_dir():
        with TemporaryDirectory() as folder:
            dcp_to_torch_save(spread, Path(folder) / "model.bin")
            weights = torch.load(Path(folder) / "model.bin")["model"]
    else:
        weights = load_file(checkpoint / "model.safetensors")
    weights |= {f"ema.{name}": value for name, value in load_file(checkpoint / "ema.safetensors").items()}
    return weights, json.loads((checkpoint / "run.json").read_text())["state"]["history"]


def assert_same_run(one: Path, other: Path, epochs: int = 3):
    """Two runs ended with the same weights, bit for bit, and had the same history, times aside."""
    (weights, history), (expected, expected_history) = final_state(one, epochs), final_state(other, epochs)
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(weights[name], value), name
    times = dict.fromkeys(("seconds", "images_per_second", "peak_memory_GiB"))
    assert [entry | times for entry in history] == [entry | times for entry in expected_history]
