"""Evaluation of one or several models in one pass over the images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from assocformer_hf.evaluation.metrics import multilabel_metrics


@dataclass
class Evaluation:
    """What the evaluation of a model gives.

    Attributes:
        metrics: those of `multilabel_metrics`.
        scores: probabilities, `(images, labels)`, float32.
        targets: multi-hot, `(images, labels)`: 1 present, 0 absent, -1 unknown.
        association: mean of A over the images, `(labels, labels)`; None without an association module.
        association_std: standard deviation of all entries of A over all images; None likewise.
    """

    metrics: dict
    scores: np.ndarray
    targets: np.ndarray
    association: np.ndarray | None
    association_std: float | None


def evaluate(models: Mapping[str, nn.Module], loader: DataLoader, accelerator: Accelerator) -> dict[str, Evaluation]:
    """Scores every image once with each of the models, over all processes.

    Args:
        models: AssocFormer models by name; they are left in evaluation mode.
        loader: of batches of `pixel_values` and multi-hot `labels`, prepared by the accelerator.
        accelerator: gathers what the processes saw.

    Returns:
        For each name an [`Evaluation`], the same on every process.
    """
    runs = {name: _Run(_ready(model, accelerator)) for name, model in models.items()}
    for batch in tqdm(loader, desc="evaluate", leave=False, disable=None if accelerator.is_main_process else True):
        for run in runs.values():
            run.add(batch, accelerator)
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
        self.association_sum: Tensor | None = None
        self.association_squares = 0.0

    @torch.inference_mode()
    def add(self, batch: Mapping[str, Tensor], accelerator: Accelerator):
        with accelerator.autocast():
            output = self.model(batch["pixel_values"], output_association=True)
        gathered = [output.logits.sigmoid(), batch["labels"]]
        if output.association is not None:
            gathered += [output.association, output.association.square().mean((1, 2))]
        scores, targets, *association = accelerator.gather_for_metrics(tuple(gathered))
        self.scores.append(scores.float().cpu().numpy())
        self.targets.append(targets.cpu().numpy().astype(np.int8))
        if association:
            total = association[0].sum(0, dtype=torch.float64).cpu()
            self.association_sum = total if self.association_sum is None else self.association_sum + total
            self.association_squares += association[1].sum().item()

    def finish(self) -> Evaluation:
        scores, targets = np.concatenate(self.scores), np.concatenate(self.targets)
        association = std = None
        if self.association_sum is not None:
            association = (self.association_sum / len(scores)).numpy()
            variance = self.association_squares / len(scores) - association.mean() ** 2
            std = float(max(variance, 0) ** 0.5)
        thresholds = self.model.config.label_thresholds or self.model.config.threshold
        return Evaluation(multilabel_metrics(scores, targets, thresholds), scores, targets, association, std)
