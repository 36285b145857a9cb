"""How the heads of `benchmarks.photographs` are trained: several settings of one head at once, on the same batches."""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.func import functional_call, vmap

from assocformer_hf.model.losses import asymmetric_loss
from assocformer_hf.training.optimization import create_scheduler, parameter_groups
from benchmarks.photographs_features import Split
from benchmarks.photographs_heads import Linear


def forward_all(heads: Sequence[nn.Module], features: Tensor, batched: bool) -> tuple[Tensor, Tensor]:
    """Logits of all heads `(heads, batch, labels)` and the sum of their penalties.

    Args:
        heads: of one class, with the same options but for buffers.
        features: what they take.
        batched: whether to run them as one, which is faster for small heads without random numbers.
    """
    if not batched or len(heads) == 1:
        logits, penalties = zip(*[head(features) for head in heads], strict=True)
        return torch.stack(logits), torch.stack(penalties).sum()
    base = heads[0]
    parameters, buffers = (
        {name: torch.stack([getattr(head, get)(name) for head in heads]) for name, _ in getattr(base, names)()}
        for get, names in (("get_parameter", "named_parameters"), ("get_buffer", "named_buffers"))
    )

    def call(parameters: dict, buffers: dict) -> tuple[Tensor, Tensor]:
        return functional_call(base, (parameters, buffers), (features,))

    logits, penalties = vmap(call)(parameters, buffers)
    return logits, penalties.sum()


class Schedule(NamedTuple):
    """How long a head is trained, and how often it is looked at.

    Attributes:
        epochs: passes over the photographs.
        looks: how often validation is looked at, evenly over the second half; the best counts.
        batch: photographs in a step.
    """

    epochs: int
    looks: int = 4
    batch: int = 64


def inputs(split: Split, index: Tensor | slice, head: nn.Module) -> Tensor:
    """The features of some photographs that a head takes, in float32, on its device."""
    device = next(head.parameters()).device
    if not head.on_maps:
        return split.pooled[index].to(device)
    maps = split.maps[index.numpy() if isinstance(index, Tensor) else index]
    return torch.from_numpy(maps).to(device).float()


@torch.no_grad()
def predict(heads: Sequence[nn.Module], split: Split, batched: bool) -> np.ndarray:
    """Logits of all heads, `(heads, photographs, labels)`."""
    for head in heads:
        head.eval()
    blocks = [slice(start, start + 250) for start in range(0, len(split.labels), 250)]
    return np.concatenate(
        [forward_all(heads, inputs(split, block, heads[0]), batched)[0].cpu().numpy() for block in blocks], axis=1
    )


def mean_ap(logits: np.ndarray, split: Split) -> float:
    """mAP in percent, over the labels that a photograph of the split has."""
    targets = split.labels.numpy()
    present = targets.any(axis=0)
    return 100 * float(average_precision(logits[:, present], targets[:, present]).mean())


def train(
    heads: Sequence[nn.Module],
    rates: Sequence[float],
    decays: Sequence[float],
    split: Split,
    photographs: Tensor,
    validation: Split,
    schedule: Schedule,
    seed: int,
    batched: bool,
) -> list[list[float]]:
    """Trains heads side by side with the package's loss, weight decay groups and 1-cycle schedule.

    Every head ends with the weights of its best look at validation.

    Args:
        heads: of one class.
        rates: highest learning rate of each head.
        decays: weight decay of each head.
        split: the training split.
        photographs: which of its photographs to train on.
        validation: what decides which look was the best.
        schedule: how long.
        seed: of the order.
        batched: see `forward_all`.

    Returns:
        mAP on validation of each head by look.
    """
    groups = [
        group | {"lr": rate}
        for head, rate, decay in zip(heads, rates, decays, strict=True)
        for group in parameter_groups(head, decay)
    ]
    optimizer = optim.AdamW(groups, fused=True)
    steps = -(-len(photographs) // schedule.batch)
    scheduler = create_scheduler(optimizer, schedule.epochs * steps)
    looks = set(np.linspace(schedule.epochs / 2, schedule.epochs, schedule.looks).round().astype(int).tolist())
    order = torch.Generator().manual_seed(seed)
    curves, best = [[] for _ in heads], [{} for _ in heads]
    for epoch in range(1, schedule.epochs + 1):
        for head in heads:
            head.train()
        for index in photographs[torch.randperm(len(photographs), generator=order)].split(schedule.batch):
            logits, penalty = forward_all(heads, inputs(split, index, heads[0]), batched)
            labels = split.labels[index].repeat(len(heads), 1).to(logits.device)
            # The mean over all heads, times their number: each gets the gradient that it would get alone.
            loss = len(heads) * asymmetric_loss(logits.flatten(0, 1), labels, 0, 2) + penalty
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        if epoch not in looks:
            continue
        for head, curve, state, logits in zip(heads, curves, best, predict(heads, validation, batched), strict=True):
            curve.append(mean_ap(logits, validation))
            if curve[-1] == max(curve):
                state.update({name: value.clone() for name, value in head.state_dict().items()})
    for head, state in zip(heads, best, strict=True):
        head.load_state_dict(state)
    return curves


def average_precision(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """AP of each label, that of `multilabel_metrics` for scores without ties, ten times as fast; both `(n, labels)`.

    Each label needs an example.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    hits = np.take_along_axis(targets, order, axis=0)
    precision = hits.cumsum(0) / np.arange(1, len(hits) + 1)[:, None]
    return (precision * hits).sum(0) / hits.sum(0)


def logistic_regression(
    split: Split, photographs: Tensor, validation: Split, penalties: Sequence[float], steps: int = 200
) -> list[tuple[Linear, list[float]]]:
    """Linear layers at the optimum of the cross-entropy by L-BFGS, one for each L2 penalty.

    Args:
        split: the training split.
        photographs: which of its photographs to train on.
        validation: what the mAP is measured on.
        penalties: weights of half the squared norm of a label's weights, beside the mean cross-entropy; each layer
            starts from the one before.
        steps: iterations of L-BFGS at most.

    Returns:
        The layer and its mAP on validation, by penalty.
    """
    mean = split.pooled[photographs].mean(0)
    features, labels = split.pooled[photographs] - mean, split.labels[photographs]
    head = Linear(features.shape[1], labels.shape[1])
    nn.init.zeros_(head.linear.weight)
    # Centred features have the same optimum but for the bias, and L-BFGS is there in a fraction of the steps.
    found = []
    for penalty in penalties:
        optimizer = optim.LBFGS(
            head.parameters(), max_iter=steps, history_size=20, tolerance_change=1e-8, line_search_fn="strong_wolfe"
        )

        def loss(penalty: float = penalty, optimizer: optim.LBFGS = optimizer) -> Tensor:
            optimizer.zero_grad()
            entropy = nn.functional.binary_cross_entropy_with_logits(head(features)[0], labels) * labels.shape[1]
            value = entropy + penalty / 2 * head.linear.weight.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        fitted = copy.deepcopy(head)
        with torch.no_grad():
            fitted.linear.bias -= fitted.linear.weight @ mean
        found.append((fitted, [mean_ap(predict([fitted], validation, False)[0], validation)]))
    return found
