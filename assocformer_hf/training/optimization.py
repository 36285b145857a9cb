"""Optimizer and schedule of the paper's recipe."""

from torch import nn, optim


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """The trainable parameters in two groups: weights, which decay, and biases and other 1-d ones, which do not."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]


def create_optimizer(model: nn.Module, learning_rate: float, weight_decay: float) -> optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), without decay on 1-d parameters."""
    return optim.AdamW(parameter_groups(model, weight_decay), lr=learning_rate, fused=True)


def create_scheduler(
    optimizer: optim.Optimizer, learning_rate: float, total_steps: int, pct_start: float = 0.2
) -> optim.lr_scheduler.LRScheduler:
    """The 1-cycle policy (Smith & Topin 2019): up to `learning_rate` in `pct_start` of the steps, then down to 0."""
    return optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=total_steps, pct_start=pct_start)
