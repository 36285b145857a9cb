"""Checkpoints of a run: written aside, forced to the disk and renamed, so that the last one is always whole."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_model, save_model
from timm.utils import ModelEmaV3
from transformers.utils import SAFE_WEIGHTS_NAME

from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.output_folder import OutputFolder, fingerprint, sync, sync_tree
from assocformer_hf.saved_files import METRICS_FILE, read_metrics_file
from assocformer_hf.training.arguments import RecipeArguments
from assocformer_hf.training.curves import CURVES_FILE, HISTORY_FILE

CHECKPOINTS = "checkpoints"
STATE_FILE = "run.json"
EMA_FILE = "ema.safetensors"
FORMAT = "assocformer run 2"
# Neither weights nor metrics depend on these: a run may be resumed with others.
FREE_OPTIONS = {
    "output_dir", "resume", "overwrite", "checkpoint_every", "keep_checkpoints", "max_skipped_steps", "log_every",
    "report_to",
}  # fmt: skip

OF_READING = [option.name for option in fields(SourceOptions)]  # the options that say which images there are


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
        learning_rate: of the last optimizer step that was taken.
        skipped_in_a_row: optimizer steps that were left out since the last one that was taken.
        unreadable: names of images that could not be read and were replaced.
        best_mAP: best validation mAP so far, in [0, 1].
        best_asl: validation loss of the weights that reached `best_mAP`; the lowest, where several epochs reached it.
        history: one entry for each finished epoch.
        options: what the run was started with; a run that is resumed must have the same.
        images: identities of the images and labels, by what they are for; likewise.
    """

    epoch: int = 0
    batches: int = 0
    sums: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0
    learning_rate: float = 0.0
    skipped_in_a_row: int = 0
    unreadable: list[str] = field(default_factory=list)
    best_mAP: float = -1.0
    best_asl: float = 0.0
    history: list[dict] = field(default_factory=list)
    options: dict = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the checkpoint; names sort by time."""
        return f"epoch-{self.epoch:04d}" + (f"-batch-{self.batches:06d}" if self.batches else "")


def save_checkpoint(
    accelerator: Accelerator, ema: ModelEmaV3, state: RunState, output: OutputFolder, keep: int = 2
) -> None:
    """Writes a checkpoint and removes all but the newest ones. Called by every process.

    Later ones are of a training that was gone back from, and would be taken for where this one stands: they go too.

    Args:
        accelerator: has prepared what the checkpoint holds.
        ema: the moving average of the weights.
        state: of the run.
        output: the folder of the run; its checkpoints are in `checkpoints`.
        keep: how many checkpoints are left.

    Raises:
        CheckpointError: if files of others are where it shall be.
        OutputError: if it cannot be written, as on a full disk; the earlier ones are left as they are.
    """
    folder = output.path / CHECKPOINTS
    with ExitStack() as stack:
        aside = None
        if accelerator.is_main_process:
            aside = stack.enter_context(output.unfinished())
        aside = broadcast_object_list([aside])[0]
        accelerator.save_state(str(aside))
        if accelerator.is_main_process:
            save_model(ema.module, aside / EMA_FILE)
        accelerator.wait_for_everyone()
        if not accelerator.is_main_process:
            return
        content = {"format": FORMAT, "files": _fingerprints(aside), "state": asdict(state)}
        (aside / STATE_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")
        sync_tree(aside)
        folder.mkdir(exist_ok=True)
        checkpoint = folder / state.name
        if _is_ours(checkpoint):
            remove_checkpoint(checkpoint)
        if checkpoint.exists():
            raise in_the_way(checkpoint)
        aside.rename(checkpoint)
        sync(folder)
    there = checkpoints(folder)
    place = there.index(checkpoint) + 1
    if later := there[place:]:
        print(f"removed, as the training went on from before: {', '.join(path.name for path in later)}", flush=True)
    for old in later + there[:place][:-keep]:
        remove_checkpoint(old)


def in_the_way(checkpoint: Path) -> CheckpointError:
    """The error of a run that finds something of another program where its checkpoint shall be."""
    return CheckpointError(
        f"{checkpoint}: is in the way of a checkpoint, and holds files that this package did not write; move it away, "
        "then go on with --resume auto"
    )


def remove_checkpoint(checkpoint: Path) -> None:
    """Removes the files that `save_checkpoint` wrote, and the folder if it is empty then."""
    content = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    for name in [*content["files"], STATE_FILE]:
        (checkpoint / name).unlink(missing_ok=True)
    for folder in sorted((path for path in checkpoint.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    if not any(checkpoint.iterdir()):
        checkpoint.rmdir()


def load_checkpoint(
    accelerator: Accelerator, ema: ModelEmaV3, new: RunState, folder: Path, which: str
) -> RunState | None:
    """Restores a checkpoint. Called by every process.

    Args:
        accelerator: has prepared the model, optimizer, scheduler and loaders of the run.
        ema: the moving average of the weights.
        new: the state of this run at its start.
        folder: where `save_checkpoint` wrote.
        which: `"last"`, the newest that is whole; `"auto"`, the same, or none where there is none yet; or a path.

    Returns:
        The state of the run; None where `"auto"` found no checkpoint.

    Raises:
        CheckpointError: if there is no such checkpoint, it is not whole, or the run it belongs to had other options,
            images or labels.
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
    options = json.loads(json.dumps(new.options))  # as they were written: a tuple is a list there
    _require_same_options(checkpoint, state.options, options, OF_READING)  # which change the images, as others do not
    for purpose, identity in new.images.items():
        if state.images.get(purpose) != identity:
            raise CheckpointError(
                f"{checkpoint}: the images to {purpose}, or their labels, are not those of this run: one was added, "
                "removed or changed; restore them, or start anew in another --output"
            )
    _require_same_options(checkpoint, state.options, options, options | state.options)
    accelerator.load_state(str(checkpoint))
    load_model(ema.module, checkpoint / EMA_FILE)
    return state


def _require_same_options(checkpoint: Path, before: Mapping, now: Mapping, names: Iterable[str]):
    """Raises CheckpointError where an option of a checkpoint's run is another one now."""
    for name in names:
        if before.get(name) != now.get(name):
            raise CheckpointError(
                f"{checkpoint}: was trained with {name}={before.get(name)}, not {now.get(name)}; resume with the same "
                "options, or start anew in another --output"
            )


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints that this package wrote in a folder, oldest first; others are passed over."""
    return sorted((path for path in folder.glob("epoch-*") if _is_ours(path)), key=_progress)


def _progress(checkpoint: Path) -> tuple[list[int], str]:
    """What checkpoints are sorted by: epoch and batch as numbers, however many digits they have."""
    return [int(number) for number in re.findall(r"\d+", checkpoint.name)], checkpoint.name


def _is_ours(checkpoint: Path) -> bool:
    try:
        content = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        return str(content["format"]).startswith("assocformer run") and isinstance(content["files"], dict)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _find(folder: Path, which: str) -> Path | None:
    if which not in ("last", "auto"):
        return whole_checkpoint(which)
    problems = []
    for checkpoint in sorted(folder.glob("epoch-*"), key=_progress, reverse=True):
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


def whole_checkpoint(path: str | Path) -> Path:
    """A checkpoint that can be resumed.

    Raises:
        CheckpointError: if there is none, or something of it is missing or changed.
    """
    if problem := _problem(Path(path)):
        raise CheckpointError(f"{path}: {problem}; choose another checkpoint, or --resume auto")
    return Path(path)


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
    for name, written in files.items():
        if name not in present:
            return f"{name} is missing"
        if present[name] != written:
            return f"{name} is not what was written"
    return None


def _fingerprints(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a checkpoint, by their path in it."""
    return {
        path.relative_to(folder).as_posix(): fingerprint(path)["sha256"]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != STATE_FILE
    }


def check_output_folder(
    output: OutputFolder, recipe: RecipeArguments, saves: Sequence[str], options: dict | None = None
) -> bool:
    """Keeps a new run from mixing with, or replacing, the work of an earlier one, or files of others.

    Args:
        output: the folder.
        recipe: the options of the run.
        saves: names of the files that the run writes into the folder.
        options: of the run, as its state holds them; None where they are not known yet.

    Returns:
        Whether the run goes on with the one whose work is in the folder.

    Raises:
        CheckpointError: if there is an earlier run, and none is resumed or shall be replaced, or if the checkpoints of
            another program would be in the way of a new run's.
        OutputError: if files of others would be replaced.
    """
    found = checkpoints(output.path / CHECKPOINTS)
    earlier = [CHECKPOINTS] if found else []
    resumed = bool(recipe.resume and (earlier or recipe.resume != "auto"))
    if recipe.resume not in (None, "auto", "last"):
        whole_checkpoint(recipe.resume)
        # One of another folder starts a run here, which is no more to mix with an earlier one than any other.
        resumed = Path(recipe.resume).resolve().parent == (output.path / CHECKPOINTS).resolve()
    restarts = recipe.resume == "auto" and not found and (options is None or _made_by_its_first_epoch(output, options))
    if not restarts:
        earlier += [name for name in (SAFE_WEIGHTS_NAME,) if name in output.owned()]
    if earlier and not resumed and not recipe.overwrite:
        raise CheckpointError(
            f"{output}: holds {' and '.join(earlier)} of an earlier run; go on with --resume, replace it with "
            "--overwrite, or choose another --output"
        )
    output.refuse_foreign([*saves, HISTORY_FILE, CURVES_FILE], "model")
    if not resumed:
        for other in sorted(set((output.path / CHECKPOINTS).glob("epoch-*")) - set(found)):
            raise in_the_way(other)
    return resumed


def _made_by_its_first_epoch(output: OutputFolder, options: dict) -> bool:
    """Whether the model in a folder is that of the first epoch of a run with these options, which makes it again.

    So it is where a run was killed after it had saved its first model, and before it had written a checkpoint.
    """
    file = output.path / METRICS_FILE
    if METRICS_FILE not in output.owned() or not file.is_file():
        return False
    run = read_metrics_file(file)["run"]
    return run["epoch"] == 1 and run["options"] == json.loads(json.dumps(options))
