"""Optimizer and schedule of the paper's recipe."""

from torch import nn, optim


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    backbone_learning_rate: float | None = None,
    head_weight_decay: float | None = None,
) -> list[dict]:
    """The trainable parameters by how they are trained: weights decay, biases and other 1-d parameters do not.

    Args:
        model: the model; the parts with options of their own are its `backbone` and its `head`.
        weight_decay: of the weights.
        backbone_learning_rate: default: the optimizer's.
        head_weight_decay: of the head's weights; default: as all.
    """
    groups: dict[tuple[float | None, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = name.partition(".")[0]
            rate = backbone_learning_rate if part == "backbone" else None
            decay = head_weight_decay if part == "head" and head_weight_decay is not None else weight_decay
            groups.setdefault((rate, decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay} | ({} if rate is None else {"lr": rate})
        for (rate, decay), parameters in groups.items()
    ]


def create_optimizer(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    backbone_learning_rate: float | None = None,
    head_weight_decay: float | None = None,
) -> optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), without decay on 1-d parameters.

    Args:
        model: AssocFormer.
        learning_rate: of the head, and of all where the backbone has none of its own.
        weight_decay: of the weights.
        backbone_learning_rate: a lower one keeps what a pretrained backbone knows while the head starts from nothing.
        head_weight_decay: of the head's weights; default: as all.
    """
    groups = parameter_groups(model, weight_decay, backbone_learning_rate, head_weight_decay)
    return optim.AdamW(groups, lr=learning_rate, fused=True)


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
