"""The training loop: the recipe of the paper over Accelerate."""

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, set_seed
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PreTrainedModel

from assocformer_hf.data.images import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.evaluator import Evaluation, evaluate
from assocformer_hf.training.arguments import RecipeArguments
from assocformer_hf.training.checkpoint import CheckpointError, RunState, load_checkpoint, save_checkpoint
from assocformer_hf.training.optimization import create_optimizer, create_scheduler


def create_accelerator(recipe: RecipeArguments) -> Accelerator:
    """The accelerator of a run; seeds every process alike, so that all of them build the same model."""
    set_seed(recipe.seed)
    return Accelerator(
        mixed_precision=recipe.mixed_precision,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        step_scheduler_with_optimizer=False,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=recipe.seed),
    )


def fit(
    model: PreTrainedModel,
    train_images: MultiLabelImages,
    eval_images: MultiLabelImages,
    recipe: RecipeArguments,
    accelerator: Accelerator,
    save_best: Callable[[PreTrainedModel, str, Evaluation, RunState], None],
    num_workers: int = 0,
    options: dict | None = None,
) -> RunState:
    """Trains a model, evaluating its raw and averaged weights after each epoch.

    Args:
        model: AssocFormer.
        train_images: images to train on.
        eval_images: images to evaluate on.
        recipe: the options of the run. Checkpoints go to `output_dir/checkpoints`.
        accelerator: from `create_accelerator`.
        save_best: called on the main process whenever raw or averaged weights reach a new best mAP, with the model that
            holds them, `"raw"` or `"ema"`, its evaluation, and the state of the run.
        num_workers: processes that load images, for each training process.
        options: what else the run depends on; it can only be resumed with the same.

    Returns:
        The state at the end, with the history of all epochs.

    Raises:
        DataError: if there are too few images for a batch, or one of them cannot be read.
        CheckpointError: if `output_dir` holds another run's work, or nothing to resume.
    """
    output_dir = Path(recipe.output_dir)
    check_output_dir(output_dir, recipe)
    collator = MultiLabelCollator(model.config.num_labels)
    if len(train_images) < recipe.batch_size * accelerator.num_processes:
        raise DataError(
            f"{len(train_images)} training images are fewer than one batch of {recipe.batch_size} "
            f"x {accelerator.num_processes} processes; use a smaller --batch_size"
        )
    train_loader, eval_loader = accelerator.prepare(
        DataLoader(
            train_images, recipe.batch_size, shuffle=True, drop_last=True, collate_fn=collator, num_workers=num_workers
        ),
        DataLoader(eval_images, 2 * recipe.batch_size, collate_fn=collator, num_workers=num_workers),
    )
    model.to(accelerator.device)
    ema = ModelEmaV3(model, decay=recipe.ema_decay)
    optimizer = create_optimizer(model, recipe.learning_rate, recipe.weight_decay)
    steps_per_epoch = -(-len(train_loader) // recipe.gradient_accumulation_steps)
    scheduler = create_scheduler(optimizer, recipe.learning_rate, recipe.epochs * steps_per_epoch, recipe.pct_start)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    set_seed(recipe.seed, device_specific=True)

    fixed = {name: value for name, value in asdict(recipe).items() if name not in ("output_dir", "resume", "overwrite")}
    state = RunState(options=fixed | (options or {}) | {"processes": accelerator.num_processes})
    if recipe.resume:
        state = load_checkpoint(accelerator, ema, state.options, output_dir / "checkpoints")
        accelerator.print(f"resumed after epoch {state.epoch} of {recipe.epochs}")

    for epoch in range(state.epoch, recipe.epochs):
        started = time.perf_counter()
        train_images.set_epoch(epoch)
        train_loader.set_epoch(epoch)
        progress = f"epoch {epoch + 1}/{recipe.epochs}"
        losses = train_one_epoch(model, ema, train_loader, optimizer, scheduler, accelerator, progress)
        evaluations = evaluate({"raw": model, "ema": ema.module}, eval_loader, accelerator)
        name, best = max(evaluations.items(), key=lambda item: item[1].metrics["mAP"])
        state.epoch = epoch + 1
        state.history.append(
            {"epoch": epoch + 1, **losses, "seconds": time.perf_counter() - started}
            | {key: _headline(evaluation) for key, evaluation in evaluations.items()}
        )
        if best.metrics["mAP"] > state.best_mAP:
            state.best_mAP = best.metrics["mAP"]
            if accelerator.is_main_process:
                save_best(accelerator.unwrap_model(model) if name == "raw" else ema.module, name, best, state)
        save_checkpoint(accelerator, ema, state, output_dir / "checkpoints")
        accelerator.print(log_line(state.history[-1], recipe.epochs, state.best_mAP))
    return state


def check_output_dir(output_dir: Path, recipe: RecipeArguments):
    """Keeps a new run from mixing with, or replacing, the work of an earlier one."""
    earlier = [name for name in ("checkpoints", "model.safetensors") if (output_dir / name).exists()]
    if recipe.resume or not earlier:
        return
    if not recipe.overwrite:
        raise CheckpointError(
            f"{output_dir}: holds {' and '.join(earlier)} of an earlier run; go on with --resume, replace it with "
            "--overwrite, or choose another --output_dir"
        )
    shutil.rmtree(output_dir / "checkpoints", ignore_errors=True)


def train_one_epoch(
    model: nn.Module,
    ema: ModelEmaV3,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    accelerator: Accelerator,
    description: str,
) -> dict[str, float]:
    """One pass over the training images.

    Returns:
        Means over the epoch and all processes of the loss (eq. 9), its two parts `asl` (eq. 8) and
        `association_penalty` (the norm of A, without its weight), and the last `learning_rate`.
    """
    model.train()
    weight = accelerator.unwrap_model(model).config.association_weight
    totals = torch.zeros(2, device=accelerator.device)
    bar = tqdm(loader, desc=description, leave=False, disable=None if accelerator.is_main_process else True)
    for batch in bar:
        with accelerator.accumulate(model):
            output = model(**batch)
            accelerator.backward(output.loss)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients and not optimizer.step_was_skipped:
            scheduler.step()
            ema.update(accelerator.unwrap_model(model))
        penalty = output.loss.new_zeros(()) if output.association_penalty is None else output.association_penalty
        totals += torch.stack([output.loss.detach(), penalty.detach()])
    loss, penalty = (accelerator.reduce(totals, "mean") / len(loader)).tolist()
    return {
        "loss": loss,
        "asl": loss - weight * penalty,
        "association_penalty": penalty,
        "learning_rate": scheduler.get_last_lr()[0],
    }


def log_line(entry: dict, epochs: int, best: float) -> str:
    """An epoch in one line for people; mAP in percent."""
    raw, ema = entry["raw"], entry["ema"]
    spread = ""
    if raw["association_mean"] is not None:
        spread = f"  A {raw['association_mean']:.3f} ± {raw['association_std']:.3f}"
    return (
        f"epoch {entry['epoch']:>3}/{epochs}  loss {entry['loss']:.4f} (ASL {entry['asl']:.4f}, "
        f"‖A‖ {entry['association_penalty']:.3f}){spread}  lr {entry['learning_rate']:.1e}  "
        f"mAP raw {100 * raw['mAP']:.2f} EMA {100 * ema['mAP']:.2f} best {100 * best:.2f}  {entry['seconds']:.1f} s"
    )


def _headline(evaluation: Evaluation) -> dict:
    """The numbers of an evaluation that the history keeps."""
    return {key: evaluation.metrics[key] for key in ("mAP", "CF1", "OF1")} | {
        "association_mean": evaluation.association_mean,
        "association_std": evaluation.association_std,
    }
