"""Checkpoints of a run: written aside, forced to the disk and renamed, so that the last one is always whole."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from timm.utils import ModelEmaV3

STATE_FILE = "run.json"
EMA_FILE = "ema.safetensors"
FORMAT = "assocformer run 1"


class CheckpointError(ValueError):
    """A checkpoint that is missing, broken, cannot be written, or belongs to another run."""


@dataclass
class RunState:
    """What a run knows besides its weights.

    Attributes:
        epoch: epochs that are finished, evaluation included.
        batches: batches of the next epoch that each process has trained on.
        sums: for each process, what it summed up over these batches: see `Progress`.
        seconds: time spent on these batches.
        skipped_steps: optimizer steps of the whole run that were left out for gradients that were not finite.
        unreadable: names of images that could not be read and were replaced.
        best_mAP: best validation mAP so far, in [0, 1].
        history: one entry for each finished epoch.
        options: what the run was started with; a run that is resumed must have the same.
    """

    epoch: int = 0
    batches: int = 0
    sums: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0
    skipped_steps: int = 0
    unreadable: list[str] = field(default_factory=list)
    best_mAP: float = -1.0  # noqa: N815
    history: list[dict] = field(default_factory=list)
    options: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the checkpoint; names sort by time."""
        return f"epoch-{self.epoch:04d}" + (f"-batch-{self.batches:06d}" if self.batches else "")


def save_checkpoint(accelerator: Accelerator, ema: ModelEmaV3, state: RunState, folder: Path, keep: int = 2):
    """Writes a checkpoint into the folder and removes all but the newest ones. Called by every process.

    Raises:
        CheckpointError: if it cannot be written, as on a full disk; the earlier ones are left as they are.
    """
    aside, checkpoint = folder / "incomplete", folder / state.name
    if accelerator.is_main_process:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    accelerator.wait_for_everyone()
    with _clear_write_errors(aside, folder):
        accelerator.save_state(str(aside))
        if accelerator.is_main_process:
            save_model(ema.module, aside / EMA_FILE)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with _clear_write_errors(aside, folder):
            content = {"format": FORMAT, "files": _fingerprints(aside), "state": asdict(state)}
            (aside / STATE_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")
            _force_to_disk(aside)
            shutil.rmtree(checkpoint, ignore_errors=True)
            aside.rename(checkpoint)
            _sync(folder)
        for older in checkpoints(folder)[:-keep]:
            shutil.rmtree(older)


def load_checkpoint(
    accelerator: Accelerator, ema: ModelEmaV3, options: dict, folder: Path, which: str
) -> RunState | None:
    """Restores a checkpoint. Called by every process.

    Args:
        accelerator: has prepared the model, optimizer, scheduler and loaders of the run.
        ema: the moving average of the weights.
        options: what this run was started with.
        folder: where `save_checkpoint` wrote.
        which: `"last"`, the newest that is whole; `"auto"`, the same, or none where there is none yet; or a path.

    Returns:
        The state of the run; None where `"auto"` found no checkpoint.

    Raises:
        CheckpointError: if there is no such checkpoint, it is not whole, or the run it belongs to had other options.
    """
    found: list = [None, None]
    if accelerator.is_main_process:
        try:
            found[0] = _find(folder, which)
        except CheckpointError as error:
            found[1] = str(error)
    checkpoint, error = broadcast_object_list(found)
    if error is not None:
        raise CheckpointError(error)
    if checkpoint is None:
        return None
    state = RunState(**json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))["state"])
    for name in options | state.options:
        before, now = state.options.get(name), options.get(name)
        if before != now:
            raise CheckpointError(
                f"{checkpoint}: was trained with {name}={before}, not {now}; resume with the same options, "
                "or start anew in another --output_dir"
            )
    accelerator.load_state(str(checkpoint))
    load_model(ema.module, checkpoint / EMA_FILE)
    return state


def lock(folder: Path) -> FileLock:
    """Keeps other runs out of a folder, those too whose launcher was killed, until the process ends.

    Raises:
        CheckpointError: if another run is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = FileLock(folder / "lock")
    try:
        # The loader's workers outlive a killed run, and with it the lock, by up to five seconds.
        held.acquire(timeout=10)
    except Timeout as error:
        raise CheckpointError(f"{folder}: another run is at work here; stop it first") from error
    return held


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    return sorted(folder.glob("epoch-*"))


@contextmanager
def replaced_files(folder: Path) -> Iterator[Path]:
    """An empty folder to write files in, which take the place of those in `folder` once all of them are written.

    Raises:
        CheckpointError: if they cannot be written, as on a full disk; the files of before are left as they are.
    """
    aside = folder / "incomplete" / folder.name
    shutil.rmtree(aside.parent, ignore_errors=True)
    with _clear_write_errors(aside.parent, folder):
        aside.mkdir(parents=True)
        yield aside
        _force_to_disk(aside)
        for path in sorted(aside.iterdir()):
            path.replace(folder / path.name)
        _sync(folder)
        shutil.rmtree(aside.parent)


def _find(folder: Path, which: str) -> Path | None:
    if which not in ("last", "auto"):
        if problem := _problem(Path(which)):
            raise CheckpointError(f"{which}: {problem}; choose another checkpoint, or --resume auto")
        return Path(which)
    problems = []
    for checkpoint in reversed(checkpoints(folder)):
        problem = _problem(checkpoint)
        if problem is None:
            if problems:
                print(f"{'; '.join(problems)}; going back to {checkpoint}", flush=True)
            return checkpoint
        problems.append(f"{checkpoint}: {problem}")
    if problems:
        raise CheckpointError(f"no checkpoint is whole: {'; '.join(problems)}")
    if which == "last":
        raise CheckpointError(f"{folder}: no checkpoint to resume from; start without --resume")
    return None


def _problem(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        content = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            return f"{STATE_FILE} is of the format {content['format']!r}, not {FORMAT!r}"
        RunState(**content["state"])
        files = content["files"]
    except OSError as error:
        return f"not a checkpoint of this package ({STATE_FILE}: {error.strerror})"
    except (ValueError, KeyError, TypeError) as error:
        return f"not a checkpoint of this package ({STATE_FILE}: {error or type(error).__name__})"
    present = _fingerprints(checkpoint)
    for name, fingerprint in files.items():
        if name not in present:
            return f"{name} is missing"
        if present[name] != fingerprint:
            return f"{name} is not what was written"
    return None


def _fingerprints(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a checkpoint, by their path in it."""
    fingerprints = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != STATE_FILE:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
            fingerprints[path.relative_to(folder).as_posix()] = digest.hexdigest()
    return fingerprints


@contextmanager
def _clear_write_errors(aside: Path, folder: Path) -> Iterator[None]:
    """Removes what was written in vain, and says what is left."""
    try:
        yield
    # torch's writer raises RuntimeError, that of safetensors its own.
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
            raise
        shutil.rmtree(aside, ignore_errors=True)
        root = folder if folder.name == "checkpoints" else folder / "checkpoints"
        last = checkpoints(root)[-1:]
        raise CheckpointError(
            f"{folder}: cannot be written ({' '.join(str(error).split())}); "
            + (f"the last good checkpoint is {last[0]}" if last else "there is no checkpoint yet")
            + ": make room, then go on with --resume auto"
        ) from error


def _force_to_disk(folder: Path):
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path):
    if os.name == "nt" and path.is_dir():
        return  # Windows opens files only
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
