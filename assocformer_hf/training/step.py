"""One epoch of optimizer steps, each with a look at whether its numbers are sound."""

import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast, gather_object
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from assocformer_hf.model.modeling_assocformer import AssocFormerOutput
from assocformer_hf.progress import progress_bar
from assocformer_hf.training.arguments import RecipeArguments
from assocformer_hf.training.mixing import Mixing
from assocformer_hf.training.sampling import derived_seed

SUMS = 5  # loss, norm of A, batches where both are finite, images that were replaced, steps that were left out


class TrainingError(ValueError):
    """A run that cannot go on, as its gradients stay infinite or NaN."""


@dataclass
class Progress:
    """Where a process stands in an epoch.

    Attributes:
        epoch: epochs that are finished.
        batches: batches of this epoch that are done.
        total: batches of the whole epoch.
        sums: over the batches that are done, `(SUMS,)`.
        learning_rate: of the last optimizer step that was taken.
        unreadable: the images of the dataset that could not be read and were replaced.
    """

    epoch: int
    batches: int
    total: int
    sums: Tensor
    learning_rate: float = 0.0
    unreadable: set[int] = field(default_factory=set)


def train_one_epoch(
    model: nn.Module,
    ema: ModelEmaV3,
    loader: DataLoader,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    accelerator: Accelerator,
    recipe: RecipeArguments,
    progress: Progress,
    guard: "GradientGuard",
    after_step: Callable[[int], None] = lambda step: None,
    scale: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, float]:
    """One pass over the training images, or over those that are left of it.

    Args:
        model: prepared by the accelerator, as are the loader and the schedule.
        ema: moving average of the weights.
        loader: of the batches that `progress` has not seen.
        scheduler: advances with every optimizer step.
        accelerator: devices, precision, processes and accumulation.
        recipe: the options of the run.
        progress: where the epoch stands; kept up to date.
        guard: of the run; it takes the optimizer's steps.
        after_step: called with the number of each optimizer step of the epoch, once the step is done.
        scale: the loader's images to the model's input, on the device.

    Returns:
        Means over the epoch and all processes of the loss (eq. 9), its two parts `asl` (eq. 8) and
        `association_penalty` (the norm of A, without its weight), the `learning_rate` of the last step, and the
        numbers of `replaced_images` and of `skipped_steps`.

    Raises:
        TrainingError: if the gradients of more than `recipe.max_skipped_steps` steps in a row are not finite.
    """
    model.train()
    if recipe.frozen_batch_norm:
        for norm in batch_norms(model):
            norm.eval()
    scale = scale or nn.Identity()
    mix = Mixing(recipe.mixup, recipe.cutmix, recipe.label_smoothing)
    guard.start_epoch()
    images = recipe.batch_size * accelerator.num_processes
    window = accelerator.gradient_accumulation_steps
    steps = -(-progress.total // window)
    bar = progress_bar(
        shown=accelerator.is_main_process,
        desc=f"epoch {progress.epoch + 1}/{recipe.epochs}",
        total=progress.total * images,
        initial=progress.batches * images,
        unit="images",
    )
    for batch in loader:
        # So that a step draws the same, whatever was drawn before it in this process.
        torch.manual_seed(derived_seed(recipe.seed, progress.epoch, progress.batches, accelerator.process_index))
        with accelerator.accumulate(model):
            pixel_values, labels = mix(scale(batch["pixel_values"]), batch["labels"])
            output = model(pixel_values, labels=labels)
            # Accelerate divides by the whole window; the last one of an epoch may have fewer batches.
            batches = min(window, progress.total - progress.batches // window * window)
            accelerator.backward(output.loss * (window / batches))
            guard.seen.append((batch["index"], output.logits.detach()))
            progress.batches += 1
            _add_to_sums(progress, output, batch)
            applied = guard.step() if accelerator.sync_gradients else None
        bar.update(images)
        if applied is None:
            continue
        step = -(-progress.batches // window)
        rate = scheduler.get_last_lr()[0]
        if applied:
            progress.learning_rate = rate
            scheduler.step()
            ema.update(WholeTensors(accelerator.unwrap_model(model)))
        else:
            progress.sums[4] += 1
            guard.raise_if_it_persists(step, rate, loader)
        if step % recipe.log_every == 0:
            values = {"loss": output.loss.item(), "learning_rate": rate}
            values["gradient_norm"] = guard.norm.item()
            accelerator.log({f"train/{k}": v for k, v in values.items()}, step=progress.epoch * steps + step)
            bar.set_postfix(loss=f"{values['loss']:.4f}", GiB=f"{peak_memory(accelerator.device):.1f}", refresh=False)
        after_step(step)
    bar.close()
    loss, penalty, finite, replaced, skipped = accelerator.reduce(progress.sums, "sum").tolist()
    loss, penalty = loss / max(finite, 1), penalty / max(finite, 1)
    return {
        "loss": loss,
        "asl": loss - accelerator.unwrap_model(model).config.association_weight * penalty,
        "association_penalty": penalty,
        "learning_rate": progress.learning_rate,
        "replaced_images": int(replaced),
        "skipped_steps": int(skipped) // accelerator.num_processes,
    }


class GradientGuard:
    """Takes the optimizer steps whose gradients are finite, and leaves out the others.

    Gradients are the same on all processes, so that all of them decide alike.

    Args:
        model: prepared by the accelerator, as is the optimizer.
        optimizer: of the model's weights.
        accelerator: clips, and knows how the weights are spread.
        recipe: the options of the run.

    Attributes:
        in_a_row: steps that were left out since the last one that was taken.
        seen: indices and logits of the batches since the last step.
        norm: the gradients' norm at the last step.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator, recipe: RecipeArguments
    ):
        self.model, self.optimizer, self.accelerator, self.recipe = model, optimizer, accelerator, recipe
        # Accelerate knows the weights of a model that is spread (FSDP) by this list, in this order.
        self.parameters = list(model.parameters())
        self.in_a_row = 0
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.last_seen = self.seen

    def start_epoch(self) -> None:
        """Looks at the statistics of batch norm anew: an evaluation, or a checkpoint, may have set them."""
        # The forward pass has already changed these when it turns out that the step is to be left out.
        self.statistics = [buffer for norm in batch_norms(self.model) for buffer in norm.buffers()]
        self.statistics_before = [buffer.clone() for buffer in self.statistics]

    def step(self) -> bool:
        """Clips the gradients and takes a step if they are finite; says whether it did."""
        limit = self.recipe.max_grad_norm or float("inf")
        norm = self.accelerator.clip_grad_norm_(self.parameters, limit)
        self.norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        finite = bool(self.norm.isfinite())
        # The scaler of float16 skips by itself, and lowers its scale.
        if finite or self.accelerator.scaler is not None:
            self.optimizer.step()
        self.optimizer.zero_grad()
        applied = finite and not self.optimizer.step_was_skipped
        if self.statistics:
            self._settle_statistics(applied)
        self.in_a_row = 0 if applied else self.in_a_row + 1
        self.last_seen, self.seen = self.seen, []
        return applied

    def _settle_statistics(self, applied: bool):
        """Keeps what the forward passes made of the statistics of batch norm, or takes it back."""
        if not applied:
            torch._foreach_copy_(self.statistics, self.statistics_before)
            return
        if self.accelerator.distributed_type == DistributedType.FSDP:
            # As under DDP, those of the main process count: they are what a checkpoint holds.
            means = [buffer for buffer in self.statistics if buffer.is_floating_point()]
            flat = broadcast(torch.cat([mean.flatten() for mean in means]))
            torch._foreach_copy_(means, flat.split([mean.numel() for mean in means]))
        torch._foreach_copy_(self.statistics_before, self.statistics)

    def raise_if_it_persists(self, step: int, learning_rate: float, loader: DataLoader) -> None:
        """Ends the run if too many steps in a row were left out, naming the images of the last one."""
        if self.in_a_row <= self.recipe.max_skipped_steps:
            return
        at_fault = [index[~logits.isfinite().all(1)] for index, logits in self.last_seen]
        suspects = gather_object(torch.cat(at_fault).tolist())
        if not suspects:
            suspects = gather_object(torch.cat([index for index, _ in self.last_seen]).tolist())
        names = [loader.dataset.name(index) for index in suspects[:8]]
        raise TrainingError(
            f"step {step} of the epoch: the gradients are not finite, as in the {self.in_a_row - 1} steps before "
            f"(learning rate {learning_rate:.2e}; images {', '.join(names)}{', …' if len(suspects) > 8 else ''})"
        )


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The layers of a model that have statistics of the images they saw."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


class WholeTensors:
    """A model's weights, put together where they are spread over processes."""

    def __init__(self, model: nn.Module):
        self.model = model

    def state_dict(self) -> dict[str, Tensor]:
        """All weights by name, whole on every process."""
        weights = self.model.state_dict()
        return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in weights.items()}


def whole_model(model: nn.Module, plain: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model with all of its weights; where they are spread, in a copy of `plain`. Called by every process."""
    if accelerator.distributed_type != DistributedType.FSDP:
        return accelerator.unwrap_model(model)
    whole = deepcopy(plain)
    whole.load_state_dict(WholeTensors(accelerator.unwrap_model(model)).state_dict())
    return whole


def peak_memory(device: torch.device) -> float:
    """The most memory that was in use so far, in GiB: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 2**30
    import resource  # Windows has none

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _add_to_sums(progress: Progress, output: AssocFormerOutput, batch: dict[str, Tensor]):
    loss, penalty = output.loss.detach(), output.association_penalty
    penalty = torch.zeros_like(loss) if penalty is None else penalty.detach()
    values = torch.stack([loss, penalty, torch.ones_like(loss)])
    progress.sums[:3] += torch.where(values.isfinite().all(), values, 0)
    unreadable = ~batch["readable"]
    if unreadable.any():
        progress.sums[3] += unreadable.sum()
        progress.unreadable |= set(batch["index"][unreadable].tolist())
