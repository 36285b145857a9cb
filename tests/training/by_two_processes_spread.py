"""Training with weights that are spread over two processes (FSDP2): stopped and resumed it is the same.

`test_processes.py` starts it with `accelerate launch` and `examples/accelerate/fsdp.yaml`. Accelerate spreads weights
over GPUs only; told in this process that it found some, it takes the same way over gloo.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from accelerate.state import DistributedType, PartialState

from assocformer_hf import AssocFormerForMultiLabel, train
from assocformer_hf.training.preemption import Preempted
from tests.commands.commands import assert_same_run

init = PartialState.__init__


def init_as_if_on_gpus(self, *args, **kwargs):
    init(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


PartialState.__init__ = init_as_if_on_gpus
backbone, data, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])


def run(name: str, **options):
    return train(
        "coco", data_dir=data, train_split="train", eval_split="val", backbone=backbone, image_size=64, epochs=2,
        batch_size=8, learning_rate=1e-3, ema_decay=0.9, max_grad_norm=1.0, num_workers=0, report_to="none",
        output_dir=str(folder / name), **options,
    )  # fmt: skip


def stop_when(condition):
    """Sends SIGTERM to the first process once its model is used in a way."""

    def look(module, _args):
        if isinstance(module, AssocFormerForMultiLabel) and PartialState().is_main_process and condition(module):
            os.kill(os.getpid(), signal.SIGTERM)
            hook.remove()

    hook = torch.nn.modules.module.register_module_forward_pre_hook(look)


whole = run("whole")
assert PartialState().num_processes == 2
for resume, place in ((None, lambda model: model.training), ("last", lambda model: not model.training)):
    stop_when(place)
    try:
        run("stopped", resume=resume)
        raise AssertionError("was not stopped")
    except Preempted:
        pass
run("stopped", resume="last")
if PartialState().is_main_process:
    assert_same_run(folder / "stopped", folder / "whole", epochs=2)
    assert whole.metrics["images"] == 37
    assert len(whole.history) == 2
    print("agreed")
