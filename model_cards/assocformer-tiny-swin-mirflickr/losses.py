"""The training loss: the asymmetric loss of eq. 8 and the norms of A of eq. 9."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def asymmetric_loss(
    logits: Tensor, labels: Tensor, gamma_pos: float = 0, gamma_neg: float = 2, clip: float = 0
) -> Tensor:
    """Asymmetric loss of eq. 8, the mean over the known labels of each image, then over the images.

    Computed in float32 (float64 for float64 logits), finite for every finite logit. A label between 0 and 1 mixes the
    branches of eq. 8, `y * loss(present) + (1 - y) * loss(absent)`: mixup, label smoothing and distillation work.

    Args:
        logits: `(batch, labels)`, before the sigmoid, of any floating dtype.
        labels: `(batch, labels)`: 1 present, 0 absent, in between the share of both, -1 unknown; an unknown label has
            no part in loss and gradient, and an image without known labels counts as a loss of 0.
        gamma_pos: focusing exponent of the present labels.
        gamma_neg: focusing exponent of the absent labels.
        clip: probability margin of the ASL paper, in [0, 1): absent labels below it have no loss. Eq. 8 has none.

    Returns:
        A scalar, at least 0. NaN where labels on another device than the CPU are none of the values above: to look at
        them there would hold up every step ([`check_label_values`] does).

    Raises:
        ValueError: if the shapes differ, or labels on the CPU are none of the values above.

    Source: eq. 8; Ridnik et al., Asymmetric Loss for Multi-Label Classification, ICCV 2021.
    """
    if not isinstance(labels, Tensor) or labels.shape != logits.shape:
        got = tuple(labels.shape) if isinstance(labels, Tensor) else f"a {type(labels).__name__}"
        raise ValueError(
            f"labels must be a multi-hot tensor with the shape of the logits (batch, labels) = {tuple(logits.shape)}, "
            f"got {got}"
        )
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        check_label_values(labels)
    return _AsymmetricLoss.apply(logits, labels, gamma_pos, gamma_neg, clip)


def check_label_values(labels: Tensor) -> None:
    """Refuses labels `(batch, labels)` that are neither in [0, 1] nor -1; waits for the device that they are on.

    Raises:
        ValueError: with the first such value and its place.
    """
    wrong = ~_valid(labels)
    if wrong.any():
        image, label = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"labels must be between 0 (absent) and 1 (present), or -1 (unknown); label {label} of image {image} of "
            f"the batch is {labels[image, label].item():g}"
        )


def _valid(labels: Tensor) -> Tensor:
    return (labels >= 0) & (labels <= 1) | (labels == -1)


class _AsymmetricLoss(torch.autograd.Function):
    """Saves the logits and the labels only; the gradient is in closed form.

    With x = -logit for a present label and x = logit for an absent one, q = sigmoid(x) is the probability of being
    wrong, and both branches of eq. 8 are `q^gamma softplus(x)`, whose derivative is
    `q^gamma (q + gamma (1 - q) softplus(x))`.
    No part of it overflows, whatever the logit.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor, gamma_pos: float, gamma_neg: float, clip: float) -> Tensor:
        ctx.save_for_backward(logits, labels)
        ctx.options = gamma_pos, gamma_neg, clip
        x, targets, unknown, share = _prepare(logits, labels)
        loss = _branch(x, gamma_neg, clip).lerp_(_branch(-x, gamma_pos), targets)
        # Divided before it is summed: the sum of a few logits near the dtype's largest value overflows.
        return loss.masked_fill_(unknown, 0).mul_(share).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, outer: Tensor):
        logits, labels = ctx.saved_tensors
        gamma_pos, gamma_neg, clip = ctx.options
        x, targets, unknown, share = _prepare(logits, labels)
        gradient = _branch_gradient(x, gamma_neg, clip).lerp_(_branch_gradient(-x, gamma_pos).neg_(), targets)
        gradient.masked_fill_(unknown, 0).mul_(share * outer)
        return gradient.to(logits.dtype), None, None, None, None


def _prepare(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits and labels in float32 at least, NaN for a label that is none; which are unknown; each image's share."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    unknown = labels == -1
    targets = labels.to(logits.dtype).masked_fill(~_valid(labels), torch.nan)
    known = logits.shape[1] - unknown.sum(dim=1, keepdim=True)
    return logits, targets, unknown, 1 / (known.clamp(min=1) * logits.shape[0]).to(logits.dtype)


def _branch(x: Tensor, gamma: float, clip: float = 0) -> Tensor:
    """A branch of eq. 8."""
    if clip:
        wrong = _beyond(torch.sigmoid(x), clip)
        return -(wrong**gamma) * torch.log1p(-wrong)
    loss = F.softplus(x, threshold=50)
    return loss.mul_(torch.sigmoid(x).pow_(gamma)) if gamma else loss


def _beyond(wrong: Tensor, clip: float) -> Tensor:
    """A probability less the margin, from 0 on, and below 1 where the margin is lost in rounding; in its place."""
    return wrong.sub_(clip).clamp_(min=0, max=1 - torch.finfo(wrong.dtype).eps / 2)


def _branch_gradient(x: Tensor, gamma: float, clip: float = 0) -> Tensor:
    """The derivative of a branch by x."""
    wrong = torch.sigmoid(x)
    if clip:
        slope = wrong * (1 - wrong)
        wrong = _beyond(wrong, clip)
        inner = wrong**gamma / (1 - wrong)
        if gamma:
            inner -= gamma * wrong ** (gamma - 1) * torch.log1p(-wrong)
        return torch.where(wrong > 0, inner * slope, 0)
    if not gamma:
        return wrong
    softplus = F.softplus(x, threshold=50)
    right_softplus = softplus.addcmul_(softplus, wrong, value=-1)
    return torch.add(wrong, right_softplus, alpha=gamma).mul_(wrong.pow_(gamma))


def association_penalty(association: Tensor, norm: str = "l2") -> Tensor:
    """The norm of A of eq. 9, the mean over the batch.

    Args:
        association: A, `(batch, labels, labels)`, symmetric.
        norm: `"l2"` Frobenius norm, `"l1"` sum of absolute values, `"l1_l2"` the sum of both, `"nuclear"` sum of the
            singular values (of a symmetric matrix, the absolute eigenvalues), `"none"` 0.

    Returns:
        A scalar, at least 0.
    """
    if norm == "nuclear":
        # The eigenvalues of a matrix with a NaN raise an error, where any other norm is NaN.
        finite = association.isfinite().all(2).all(1)
        values = torch.linalg.eigvalsh(association.where(finite[:, None, None], 0)).abs().sum(-1)
        return values.where(finite, torch.nan).mean()
    return association_penalty_from_sums(association_sums(association), norm)


def association_sums(association: Tensor) -> Tensor:
    """Sum of the absolute entries of A `(batch, labels, labels)` and sum of their squares, `(batch, 2)`."""
    return torch.stack([association.abs().sum((1, 2)), association.square().sum((1, 2))], dim=1)


def association_penalty_from_sums(sums: Tensor, norm: str = "l2") -> Tensor:
    """The norm of A of eq. 9 from the sums of `association_sums`; not for `"nuclear"`."""
    total, squares = sums.unbind(-1)
    penalty = torch.zeros_like(total)
    if norm in ("l1", "l1_l2"):
        penalty = penalty + total
    if norm in ("l2", "l1_l2"):
        penalty = penalty + squares.sqrt()
    return penalty.mean()
