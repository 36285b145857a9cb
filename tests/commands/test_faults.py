"""What a run survives: kills, signals, full disks, numbers that go bad, broken images and dead workers."""

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests import forked
from tests.commands.commands import ENVIRONMENT, assert_same_run, final_state, kill, run, training
from tests.forked import Forked


def start(command: list[str], anew: bool = False) -> Forked | subprocess.Popen:
    return forked.start(command, ENVIRONMENT, anew=anew)


def wait_for_checkpoints(process: Forked | subprocess.Popen, output: Path, known: set[str], count: int = 1) -> set[str]:
    """Waits until a run has written so many new checkpoints; returns the names of all that were seen."""
    seen, deadline = set(known), time.monotonic() + 120
    while len(seen) < len(known) + count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        seen |= {path.name for path in (output / "checkpoints").glob("epoch-*")}
        time.sleep(0.005)
    return seen


@pytest.fixture(scope="module")
def trained_by_two(small_coco, tmp_path_factory):
    output = tmp_path_factory.mktemp("two") / "model"
    run(training(small_coco, output, "--batch_size", "4", processes=2))
    return output


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_killed_three_times_is_the_same_run(request, small_coco, tmp_path, processes):
    expected = request.getfixturevalue("trained")[0] if processes == 1 else request.getfixturevalue("trained_by_two")
    output, seen = tmp_path / "model", set()
    options = ("--resume", "auto", "--checkpoint_every", "1", "--batch_size", str(8 // processes))
    command = training(small_coco, output, *options, processes=processes)
    for _ in range(3):
        process = start(command)
        # Of 18 steps, with an end of an epoch after each sixth, so that the third kill still finds some left.
        seen = wait_for_checkpoints(process, output, seen, count=random.randint(1, 3))
        time.sleep(random.uniform(0, 0.02))
        assert process.poll() is None
        kill(process)
    assert "resumed after epoch" in run(command).stdout
    assert_same_run(output, expected)


def test_a_run_stopped_between_training_and_evaluation_goes_on_with_the_evaluation(small_coco, trained, tmp_path):
    output = tmp_path / "model"
    run(training(small_coco, output, "--checkpoint_every", "6", "--keep_checkpoints", "9"))  # the sixth ends an epoch
    for later in ("epoch-0002", "epoch-0002-batch-000006", "epoch-0003"):
        shutil.rmtree(output / "checkpoints" / later)
    assert "resumed after epoch 1 of 3 and 6 of 6 batches" in run(training(small_coco, output, "--resume")).stdout
    assert_same_run(output, trained[0])


def test_a_signal_stops_with_a_checkpoint_and_a_second_one_at_once(small_coco, trained, tmp_path):
    output = tmp_path / "model"
    command = training(small_coco, output, "--resume", "auto", "--checkpoint_every", "5")
    process = start(command)
    seen = wait_for_checkpoints(process, output, set())
    for member in [*psutil.Process(process.pid).children(recursive=True), process]:
        member.send_signal(signal.SIGTERM)  # some schedulers signal all of them
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "SIGTERM: stopping after this step" in errors
    assert "is where --resume goes on" in errors
    assert "Traceback" not in errors

    process = start(command)
    wait_for_checkpoints(process, output, seen | {path.name for path in (output / "checkpoints").iterdir()})
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 75)  # the first may have been served before the second came
    run(command)
    assert_same_run(output, trained[0])
    assert (output / "curves.png").stat().st_size > 10_000


def test_two_runs_keep_out_of_each_others_way(small_coco, tmp_path):
    output = tmp_path / "model"
    command = training(small_coco, output, "--checkpoint_every", "1", "--epochs", "50", "--resume", "auto")
    process = start(command)
    wait_for_checkpoints(process, output, set())
    second = run(command, check=False)
    kill(process)
    assert "another job is at work here" in second.stderr


@pytest.mark.parametrize("limit", [1_000_000, 8_000_000])  # met by the weights, of six times that, or the optimizer
def test_a_full_disk_leaves_the_last_checkpoint(small_coco, trained, tmp_path, limit):
    output = tmp_path / "model"
    process = start(training(small_coco, output, "--checkpoint_every", "1"))
    wait_for_checkpoints(process, output, set(), count=2)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "cannot be written" in line
    assert "the last good checkpoint is" in line
    assert "Traceback" not in errors
    assert not list((output / ".assocformer").glob("unfinished-*"))
    assert "resumed after epoch" in run(training(small_coco, output, "--resume")).stdout
    assert_same_run(output, trained[0])


def test_a_broken_checkpoint_is_named_and_the_one_before_taken(small_coco, trained, tmp_path):
    output = tmp_path / "model"
    shutil.copytree(trained[0], output)
    weights = output / "checkpoints/epoch-0003/ema.safetensors"
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)
    printed = run(training(small_coco, output, "--resume")).stdout
    assert "epoch-0003: ema.safetensors is not what was written; going back to" in printed
    assert "resumed after epoch 2 of 3" in printed
    assert_same_run(output, trained[0])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "run.json").unlink(), "not a checkpoint of this package (run.json: No such file"),
        (lambda folder: (folder / "run.json").write_text("{"), "not a checkpoint of this package (run.json: Expecting"),
        (lambda folder: (folder / "run.json").write_text('{"format": "x"}'), "run.json is of the format 'x', not"),
        (lambda folder: (folder / "optimizer.bin").unlink(), "optimizer.bin is missing"),
    ],
)
def test_a_foreign_checkpoint_is_refused_by_name(trained, tmp_path, break_it, message):
    from accelerate import Accelerator

    from assocformer_hf.training.checkpoint import CheckpointError, load_checkpoint

    folder = tmp_path / "epoch-0003"
    shutil.copytree(trained[0] / "checkpoints/epoch-0003", folder)
    break_it(folder)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(Accelerator(cpu=True), None, {}, tmp_path, str(folder))
    assert str(caught.value).startswith(f"{folder}: ")
    assert message in str(caught.value)


def test_numbers_that_stay_bad_end_the_run(small_coco, tmp_path):
    options = ("--learning_rate", "1e30", "--max_skipped_steps", "3", "--checkpoint_every", "1")
    done = run(training(small_coco, tmp_path / "model", *options), check=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "the gradients are not finite, as in the 3 steps before (learning rate" in line
    assert "/train/00" in line  # images by their files
    assert "the last good checkpoint is" in line
    assert "Traceback" not in done.stderr


def test_two_processes_replace_bad_images_in_training_and_evaluate_every_other_once(small_coco, tmp_path):
    """One process finds the same in what they trained."""
    data = tmp_path / "coco"
    shutil.copytree(small_coco, data)
    broken = [data / f"train/{i:04d}.jpg" for i in (3, 4, 40)] + [data / f"val/{i:04d}.jpg" for i in (0, 36)]
    for path in broken:
        path.write_bytes(path.read_bytes()[:300])
    output = tmp_path / "model"
    both = forked.both(training(data, output, "--bad_images", "skip", "--epochs", "2"), ENVIRONMENT)
    assert [done.returncode for done in both] == [0, 0], both
    printed = both[0].stdout + both[1].stdout
    assert "5 images could not be read: " in printed
    assert all(printed.count(path.name) >= 2 for path in broken)  # when it was met, and at the end
    history = json.loads((output / "checkpoints/epoch-0002/run.json").read_text())["state"]["history"]
    assert [(entry["images"], entry["replaced_images"]) for entry in history] == [(45, 3), (45, 3)]
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["images"] == 35
    command = [sys.executable, "-m", "assocformer_hf", "evaluate", "--model", str(output), "--dataset", "coco"]
    command += ["--data_dir", str(data), "--split", "val", "--bad_images", "skip"]
    run([*command, "--output", str(tmp_path / "metrics.json")])
    single = json.loads((tmp_path / "metrics.json").read_text())
    for key in ("images", "mAP", "CP", "CR", "CF1", "OP", "OR", "OF1"):
        assert metrics[key] == pytest.approx(single[key], abs=1e-6)
    assert metrics["association"]["mean"] == pytest.approx(single["association"]["mean"], abs=1e-6)
    assert metrics["association"]["std"] == pytest.approx(single["association"]["std"], abs=1e-5)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_dead_worker_ends_the_run(small_coco, tmp_path, processes):
    """One process: of its loader. Two processes: one of them."""
    output = tmp_path / "model"
    command = training(small_coco, output, "--checkpoint_every", "1", "--epochs", "50", processes=processes)
    process = start(command, anew=True)  # a fork hears of its workers' ends in another way
    wait_for_checkpoints(process, output, set())
    children = []
    while not children:
        children = [
            child for child in psutil.Process(process.pid).children() if "train.py" in " ".join(child.cmdline())
        ]
    children[-1].kill()
    killed = time.monotonic()
    _, errors = process.communicate(timeout=90)
    assert time.monotonic() - killed < 60
    assert process.returncode != 0
    assert ("killed by signal" if processes == 1 else "Signal 9 (SIGKILL)") in errors


def test_the_run_leaves_curves_and_trackers(trained):
    output, printed = trained
    rows = (output / "history.csv").read_text().splitlines()
    assert len(rows) == 4
    assert {"loss", "learning_rate", "raw_mAP", "ema_mAP", "ema_CF1", "ema_OF1"} <= set(rows[0].split(","))
    assert (output / "curves.png").stat().st_size > 10_000
    assert list((output / "logs").rglob("events.out.tfevents.*"))
    assert "img/s" in printed
    assert len(final_state(output)[1]) == 3
