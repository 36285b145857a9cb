"""Two processes read a dataset once, and end together where it cannot be read."""

import subprocess
import sys

import pyarrow.parquet
import pytest
from PIL import Image

from assocformer_hf.data.images.transforms import create_image_processor
from tests import forked
from tests.commands.commands import ENVIRONMENT
from tests.conftest import ROOT

READ = """
import shutil
import sys
import time
from pathlib import Path
from accelerate import PartialState
from assocformer_hf.commands.running import one_line_errors
from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.main_process import from_main_process
from assocformer_hf.inference import predict
state = PartialState(cpu=True)
def read(error=None):
    assert state.is_main_process
    if error:
        raise error
    return {"images": 37}
print(from_main_process(read))
for error in (OSError("the disk is gone"), KeyError("column")):
    try:
        from_main_process(lambda: read(error))
    except Exception as raised:
        print(type(raised).__name__, raised)

# A file arrives once the first process has listed the folder, and before the second one could have.
folder, model, tagged = map(Path, sys.argv[2:])
arrived, list_images = folder / "0-arrived.jpg", predict.load_images
def arriving(*args):
    while not state.is_main_process and not arrived.exists():
        time.sleep(0.01)
    listed = list_images(*args)
    shutil.copy(folder / "1.jpg", arrived)
    return listed
predict.load_images = arriving
predict.predict(predict.PredictOptions(model=str(model), images=[folder], output=tagged, shard_size=2, num_workers=0))

with one_line_errors():
    from_main_process(lambda: load_multilabel_dataset(sys.argv[1]))
"""


FORKS = """
import os, sys, time
import torch
from accelerate import PartialState
from assocformer_hf.data.main_process import require_all_processes
state = PartialState(cpu=True)
require_all_processes()
for number in range(int(sys.argv[1])):
    for _ in range(6):
        torch.distributed.broadcast(torch.ones(8), 0)
    pid, deadline = os.fork(), time.monotonic() + 30
    if pid == 0:
        os._exit(0)
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            sys.exit(f"fork {number} never started")
        time.sleep(0.001)
"""


def both(*words: str) -> list[subprocess.CompletedProcess]:
    """What two processes that see each other printed, and how they ended."""
    return forked.both([sys.executable, *words], ENVIRONMENT, ROOT)


def assert_named_in_one_line(missing: str, done: subprocess.CompletedProcess):
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert missing in line
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_both_get_what_the_main_process_read_and_neither_waits_for_one_that_failed(create_model, tmp_path):
    missing, folder, model, tagged = (tmp_path / name for name in ("missing", "images", "model", "tags"))
    folder.mkdir()
    for i in range(1, 6):
        Image.new("RGB", (64, 64), (40 * i, 0, 0)).save(folder / f"{i}.jpg")
    create_model("tiny-cvt").save_pretrained(model)
    create_image_processor(64).save_pretrained(model)
    main, other = both("-c", READ, *map(str, (missing, folder, model, tagged)))
    assert main.stdout.splitlines() == [
        "{'images': 37}", "OSError the disk is gone", "KeyError 'column'", f"5 of 5 images tagged: {tagged}",
    ], main.stderr  # fmt: skip
    assert pyarrow.parquet.read_table(tagged).column("file").to_pylist() == [
        str(folder / f"{i}.jpg") for i in range(1, 6)
    ]
    assert other.stdout.splitlines() == ["{'images': 37}", "DataError the disk is gone", "DataError 'column'"], (
        other.stderr
    )
    for done in (main, other):
        assert_named_in_one_line(str(missing), done)


def test_one_process_in_the_place_of_several_is_refused():
    """As `accelerate launch --cpu --num_processes 2` starts it."""
    script = "from assocformer_hf.data.main_process import require_all_processes as check; check(); print('one')"
    launched = {"ACCELERATE_USE_CPU": "true", "ACCELERATE_DYNAMO_BACKEND": "NO"}
    for environment, expected in (
        (launched, "one"),
        (launched | {"MASTER_ADDR": "127.0.0.1"}, "accelerate launch started one process where several were asked for"),
        ({"MASTER_ADDR": "127.0.0.1"}, "one"),  # of a cluster, whose launcher is another
    ):
        done = forked.run([sys.executable, "-c", script], ENVIRONMENT | environment, ROOT)
        assert expected in done.stdout + done.stderr


@pytest.mark.slow
def test_a_process_forked_right_after_the_others_were_heard_starts():
    """Without the wait about one in a few hundred never did, on Python 3.11."""
    for done in both("-c", FORKS, "500"):
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_dataset_that_cannot_be_read_ends_training_and_evaluation_in_one_line_each(tmp_path):
    missing, model = str(tmp_path / "missing"), str(ROOT / "model_cards/assocformer-swin-tiny-scenes")
    for verb in (["train", "--backbone", "tiny-cvt", "--output_dir", str(tmp_path)], ["evaluate", "--model", model]):
        for done in both("-m", "assocformer_hf", *verb, "--dataset", missing):
            assert_named_in_one_line(missing, done)
