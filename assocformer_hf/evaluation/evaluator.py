"""Evaluation of one or several models in one pass over the images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import DistributedType, broadcast, parse_choice_from_env
from torch import Tensor, nn
from torch.utils.data import DataLoader

from assocformer_hf.data.schema import DataError
from assocformer_hf.data.summary import column_lengths
from assocformer_hf.device import prepare_device
from assocformer_hf.evaluation.bootstrap import bootstrap_metrics
from assocformer_hf.evaluation.metrics import multilabel_metrics
from assocformer_hf.evaluation.options import PRECISIONS
from assocformer_hf.evaluation.trained_model import NO_NUMBERS
from assocformer_hf.model.losses import association_sums
from assocformer_hf.option_values import OptionError, require
from assocformer_hf.progress import progress_bar


@dataclass
class Evaluation:
    """What the evaluation of a model gives.

    Attributes:
        metrics: those of `multilabel_metrics`.
        scores: probabilities, `(images, labels)`, float32.
        targets: multi-hot, `(images, labels)`: 1 present, 0 absent, -1 unknown.
        indices: which image of the dataset each row is, `(images,)`.
        unreadable: the images of the dataset that could not be read; they have no row.
        association: mean of A over the images, `(labels, labels)`; None where A is computed in tiles, and without an
            association module.
        association_mean: mean of all entries of A over all images; None without an association module.
        association_std: their standard deviation; None likewise.
        trained_on: how many of the images the model was trained on, as far as it is known; its numbers flatter it where
            there are any.
        scores_without: the probabilities that the same weights give with another A in place of each image's own, by
            its name: `"half"`, all of it ½, and `"mean"`, the mean over the images. Empty where A is computed in tiles,
            where the weights are spread over processes, and without an association module.
    """

    metrics: dict
    scores: np.ndarray
    targets: np.ndarray
    indices: np.ndarray
    unreadable: list[int]
    association: np.ndarray | None
    association_mean: float | None
    association_std: float | None
    trained_on: int = 0
    scores_without: dict[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def association_worth(self) -> dict[str, dict[str, float]] | None:
        """The mAP lost by the same weights with A replaced, see `scores_without`.

        Nothing is trained anew: what a model that was trained without A would reach is another question.

        Returns:
            For each of the two the `mAP` with it, the mAP `lost`, and the interval of the loss, `low` to `high`, by the
            paired bootstrap over the images (95%); None where it was not measured, and of a single image.
        """
        if len(self.scores) < 2:
            return None
        worth = {}
        for name, scores in self.scores_without.items():
            mean = multilabel_metrics(scores, self.targets)["mAP"]
            interval = bootstrap_metrics(self.scores, self.targets, compared=(scores, 0.5))["mAP"]
            low, high = np.round(interval, 6).tolist()
            worth[name] = {"mAP": mean, "lost": self.metrics["mAP"] - mean, "low": low, "high": high}
        return worth or None


class ScoresError(DataError):
    """Scores that are no numbers; the message says of how many images."""


def require_positives(dataset: datasets.Dataset) -> None:
    """Refuses a split without a single label, before the work for it.

    Raises:
        DataError: if no image has one: nothing can be measured then.
    """
    for batch in dataset.select_columns("labels").with_format("arrow").iter(4096):
        if (column_lengths(batch.column("labels")) > 0).any():
            return
    raise DataError(
        f"the split {dataset.split or 'validation'} has no image with a label, so that nothing can be measured on it; "
        "choose another"
    )


def start_accelerator(mixed_precision: str | None = None, **options) -> Accelerator:
    """Accelerate's, for a precision that the device has.

    Args:
        mixed_precision: `"no"`, `"fp16"`, `"bf16"` or `"fp8"`; default: what `accelerate config` or launch says.
        options: of [`Accelerator`].

    Raises:
        OptionError: if there is no such precision, or not on this device.
    """
    require({"mixed_precision": mixed_precision}, one_of={"mixed_precision": PRECISIONS})
    asked = mixed_precision or parse_choice_from_env("ACCELERATE_MIXED_PRECISION", "no")
    if is_initialized() and AcceleratorState().mixed_precision != asked:
        AcceleratorState._reset_state()  # an earlier run's, which would count here too; transformers' Trainer does so
    try:
        return Accelerator(mixed_precision=mixed_precision, **options)
    except ValueError as error:
        if "precision" not in str(error):
            raise
        raise OptionError(f"{error} Leave mixed_precision out, or set it to no") from error


def evaluate(
    models: Mapping[str, nn.Module],
    loader: DataLoader,
    accelerator: Accelerator,
    after_batch: Callable[[], None] = lambda: None,
) -> dict[str, Evaluation]:
    """Scores every image once with each of the models, over all processes.

    Args:
        models: AssocFormer models by name; they are left in evaluation mode.
        loader: of the batches of `MultiLabelCollator(num_labels, with_index=True)`, prepared by the accelerator.
        accelerator: gathers what the processes saw.
        after_batch: called after each batch on every process; it may raise to end the evaluation.

    Returns:
        For each name an [`Evaluation`], the same on every process.
    """
    prepare_device(accelerator.device, accelerator.mixed_precision)
    runs = {name: _Run(_ready(model, accelerator)) for name, model in models.items()}
    for batch in progress_bar(loader, accelerator.is_main_process, desc="evaluate", unit="batches"):
        for run in runs.values():
            run.add(batch, accelerator)
        after_batch()
    return {name: run.finish() for name, run in runs.items()}


def _ready(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model in evaluation mode, with the main process's buffers: batch norm keeps its own in every process."""
    model = accelerator.unwrap_model(model).eval()
    for buffer in model.buffers():
        broadcast(buffer)
    return model


class _Run:
    """One model's scores, targets and moments of A, gathered batch by batch."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.scores: list[np.ndarray] = []
        self.targets: list[np.ndarray] = []
        self.indices: list[np.ndarray] = []
        self.unreadable: list[int] = []
        self.sums: list[np.ndarray] = []
        self.association: Tensor | None = None
        self.whole = model.config.fusion != "linear" and not model.head.association.tiled
        # What A is worth: of each image what another A would be read with, and the rest of its logits.
        self.readings: list[Tensor] = []
        self.rest: list[Tensor] = []

    @torch.no_grad()  # under FSDP, inference mode would leave weights behind that cannot be trained
    def add(self, batch: Mapping[str, Tensor], accelerator: Accelerator):
        with accelerator.autocast():
            output = self.model(batch["pixel_values"], output_association=self.whole, output_features=self.whole)
        gathered = {
            "scores": output.logits.sigmoid(),
            "targets": batch["labels"],
            "indices": batch["index"],
            "readable": batch["readable"].byte(),
        }
        if self.whole:
            gathered |= {"association": output.association, "sums": association_sums(output.association)}
            if accelerator.distributed_type != DistributedType.FSDP:
                head = self.model.head
                gathered["readings"] = head.association.readings(output.features.float())
                gathered["rest"] = output.logits - head.fusion_weights[0] * output.association_logits
        elif output.association_sums is not None:
            gathered["sums"] = output.association_sums
        gathered = accelerator.gather_for_metrics(gathered)
        readable = gathered.pop("readable").bool()
        if not readable.all():
            self.unreadable += gathered["indices"][~readable].tolist()
            gathered = {name: values[readable] for name, values in gathered.items()}
        self.indices.append(gathered["indices"].cpu().numpy())
        self.scores.append(gathered["scores"].float().cpu().numpy())
        self.targets.append(gathered["targets"].cpu().numpy().astype(np.int8))
        if "sums" in gathered:
            self.sums.append(gathered["sums"].double().cpu().numpy())
        if self.whole:
            total = gathered["association"].sum(0, dtype=torch.float64).cpu()
            self.association = total if self.association is None else self.association + total
        if "readings" in gathered:
            self.readings.append(gathered["readings"].float().cpu())
            self.rest.append(gathered["rest"].float().cpu())

    def finish(self) -> Evaluation:
        scores, targets = np.concatenate(self.scores), np.concatenate(self.targets)
        if broken := int((~np.isfinite(scores)).any(1).sum()):
            raise ScoresError(
                f"{NO_NUMBERS} for {broken} of {len(scores)} images: its weights are broken, or half precision "
                "overflows"
            )
        if not (targets == 1).any():
            raise DataError(
                f"no image with a label is left to measure on: {len(self.unreadable)} of "
                f"{len(self.unreadable) + len(scores)} images cannot be read; mend them, or choose others"
            )
        config = self.model.config
        association = None if self.association is None else self.association / len(scores)
        mean = std = None
        if self.sums:
            mean, mean_square = np.concatenate(self.sums).mean(0) / config.num_labels**2
            mean, std = float(mean), float(max(mean_square - mean**2, 0) ** 0.5)
        return Evaluation(
            metrics=multilabel_metrics(scores, targets, config.thresholds),
            scores=scores,
            targets=targets,
            indices=np.concatenate(self.indices),
            unreadable=self.unreadable,
            association=None if association is None else association.numpy(),
            association_mean=mean,
            association_std=std,
            scores_without=self._scores_without(association) if self.readings else {},
        )

    @torch.no_grad()
    def _scores_without(self, mean: Tensor) -> dict[str, np.ndarray]:
        head, others = self.model.head, {"half": torch.full_like(mean, 0.5), "mean": mean}
        device, alpha = next(head.parameters()).device, head.fusion_weights[0]
        scores: dict[str, list[np.ndarray]] = {name: [] for name in others}
        for readings, rest in zip(self.readings, self.rest, strict=True):  # a batch at a time on the device
            readings = readings.to(device)
            for name, other in others.items():
                evidence = head.association.read(readings, other.to(readings)).cpu()
                scores[name].append((rest + alpha * evidence).sigmoid().numpy())
        return {name: np.concatenate(parts) for name, parts in scores.items()}
