"""Optimizer and schedule of the paper's recipe."""

from collections.abc import Mapping

from torch import nn, optim


def parameter_groups(model: nn.Module, weight_decay: float, rates: Mapping[str, float] | None = None) -> list[dict]:
    """The trainable parameters in groups: weights, which decay, and biases and other 1-d ones, which do not.

    Args:
        model: the model.
        weight_decay: of the weights.
        rates: learning rates by the beginning of the parameters' names, `""` for all others.
    """
    rates = rates or {"": None}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {
        (start, decays): [] for start in rates for decays in (True, False)
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            start = max((start for start in rates if name.startswith(start)), key=len)
            groups[start, parameter.ndim > 1].append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay if decays else 0.0}
        | ({} if rates[start] is None else {"lr": rates[start]})
        for (start, decays), parameters in groups.items()
    ]


def create_optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float, backbone_learning_rate: float | None = None
) -> optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), without decay on 1-d parameters.

    Args:
        model: AssocFormer.
        learning_rate: of the head, and of all where the backbone has none of its own.
        weight_decay: of the weights.
        backbone_learning_rate: a lower one keeps what a pretrained backbone knows while the head starts from nothing.
    """
    rates = None if backbone_learning_rate is None else {"": learning_rate, "backbone.": backbone_learning_rate}
    return optim.AdamW(parameter_groups(model, weight_decay, rates), lr=learning_rate, fused=True)


def create_scheduler(
    optimizer: optim.Optimizer, total_steps: int, pct_start: float = 0.2
) -> optim.lr_scheduler.LRScheduler:
    """The 1-cycle policy (Smith & Topin 2019): up to each group's rate in `pct_start` of the steps, then down to 0."""
    highest = [group["lr"] for group in optimizer.param_groups]
    total_steps = max(total_steps, 2)
    # PyTorch divides by the steps of each phase: the way up is left out where it has none, the way down has one.
    up = min(pct_start * total_steps, total_steps - 1)
    pct_start = (up if up > 1 else 1 - 1e-6) / total_steps
    return optim.lr_scheduler.OneCycleLR(optimizer, max_lr=highest, total_steps=total_steps, pct_start=pct_start)
