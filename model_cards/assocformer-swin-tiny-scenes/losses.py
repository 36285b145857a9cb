"""The training loss: the asymmetric loss of eq. 8 and the norms of A of eq. 9."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def asymmetric_loss(
    logits: Tensor, labels: Tensor, gamma_pos: float = 0, gamma_neg: float = 2, clip: float = 0
) -> Tensor:
    """Asymmetric loss of eq. 8, the mean over the known labels of each image, then over the images.

    Computed in float32 (float64 for float64 logits), finite for every finite logit.

    Args:
        logits: `(batch, labels)`, before the sigmoid, of any floating dtype.
        labels: `(batch, labels)`: 1 present, 0 absent, -1 unknown; an unknown label has no part in loss and gradient,
            and an image without known labels counts as a loss of 0.
        gamma_pos: focusing exponent of the present labels.
        gamma_neg: focusing exponent of the absent labels.
        clip: probability margin of the ASL paper, in [0, 1): absent labels below it have no loss. Eq. 8 has none.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: if the shapes differ.

    Source: eq. 8; Ridnik et al., Asymmetric Loss for Multi-Label Classification, ICCV 2021.
    """
    if labels.shape != logits.shape:
        raise ValueError(
            f"labels must be multi-hot with the shape of the logits (batch, labels) = {tuple(logits.shape)}, "
            f"got {tuple(labels.shape)}"
        )
    return _AsymmetricLoss.apply(logits, labels, gamma_pos, gamma_neg, clip)


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
        x, present, unknown, share = _wrongness(logits, labels)
        wrong = torch.sigmoid(x)
        loss = F.softplus(x, threshold=50).mul_(_focus(wrong, present, gamma_pos, gamma_neg))
        if clip:
            wrong.sub_(clip).clamp_(min=0)
            loss = torch.where(present, loss, -(wrong**gamma_neg) * torch.log1p(-wrong))
        # Divided before it is summed: the sum of a few logits near the dtype's largest value overflows.
        return loss.masked_fill_(unknown, 0).mul_(share).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, outer: Tensor):
        logits, labels = ctx.saved_tensors
        gamma_pos, gamma_neg, clip = ctx.options
        x, present, unknown, share = _wrongness(logits, labels)
        wrong = torch.sigmoid(x)
        softplus = F.softplus(x, threshold=50)
        right_softplus = softplus.addcmul_(softplus, wrong, value=-1)
        gradient = torch.add(wrong, right_softplus, alpha=gamma_neg)
        if gamma_pos != gamma_neg:
            gradient = torch.where(present, torch.add(wrong, right_softplus, alpha=gamma_pos), gradient)
        gradient.mul_(_focus(wrong, present, gamma_pos, gamma_neg))
        if clip:
            slope = wrong * (1 - wrong)
            wrong.sub_(clip).clamp_(min=0)
            inner = wrong**gamma_neg / (1 - wrong)
            if gamma_neg:
                inner -= gamma_neg * wrong ** (gamma_neg - 1) * torch.log1p(-wrong)
            gradient = torch.where(present, gradient, torch.where(wrong > 0, inner * slope, 0))
        gradient = torch.where(present, -gradient, gradient).masked_fill_(unknown, 0).mul_(share * outer)
        return gradient.to(logits.dtype), None, None, None, None


def _wrongness(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x `(batch, labels)` in float32 at least, which labels are present and unknown, and each image's share."""
    present, unknown = labels == 1, labels == -1
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    known = logits.shape[1] - unknown.sum(dim=1, keepdim=True)
    share = 1 / (known.clamp(min=1) * len(logits)).to(logits.dtype)
    return torch.where(present, -logits, logits), present, unknown, share


def _focus(wrong: Tensor, present: Tensor, gamma_pos: float, gamma_neg: float) -> Tensor:
    """q^gamma."""
    focus = wrong.pow(gamma_neg)
    if gamma_pos == gamma_neg:
        return focus
    return focus.masked_fill_(present, 1) if gamma_pos == 0 else torch.where(present, wrong.pow(gamma_pos), focus)


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
        return torch.linalg.eigvalsh(association).abs().sum(-1).mean()
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
