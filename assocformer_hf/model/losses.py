"""The training loss: the asymmetric loss of eq. 8 and the norms of A of eq. 9."""

import torch
from torch import Tensor
from torch.nn import functional as F

# Beyond these logits a focusing weight is constant in float32; its gradient there is 0, not the 0 * inf of the formula.
SATURATED_LOGIT = 80.0


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
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    largest = torch.finfo(logits.dtype).max / 2
    logits = logits.clamp(-largest, largest)
    present, known = labels == 1, labels != -1
    bounded = logits.clamp(-SATURATED_LOGIT, SATURATED_LOGIT)
    if clip:
        negative_probability = torch.sigmoid(bounded).sub(clip).clamp(min=0)
        log_negative = torch.log1p(-negative_probability)
        negative_weight = negative_probability**gamma_neg
    else:
        log_negative = F.logsigmoid(-logits)
        negative_weight = torch.exp(gamma_neg * F.logsigmoid(bounded))
    positive_weight = torch.exp(gamma_pos * F.logsigmoid(-bounded))
    loss = torch.where(present, positive_weight * F.logsigmoid(logits), negative_weight * log_negative)
    # Divided before it is summed: the sum of a few logits near the dtype's largest value overflows.
    share = known.to(logits.dtype) / (known.sum(dim=1, keepdim=True).clamp(min=1) * len(labels))
    return -(loss * share).sum()


def association_penalty(association: Tensor, norm: str = "l2") -> Tensor:
    """The norm of A of eq. 9, the mean over the batch.

    Args:
        association: A, `(batch, labels, labels)`, symmetric.
        norm: `"l2"` Frobenius norm, `"l1"` sum of absolute values, `"l1_l2"` the sum of both, `"nuclear"` sum of the
            singular values (of a symmetric matrix, the absolute eigenvalues), `"none"` 0.

    Returns:
        A scalar, at least 0.
    """
    if norm == "none":
        return association.new_zeros(())
    if norm == "nuclear":
        return torch.linalg.eigvalsh(association).abs().sum(-1).mean()
    penalty = association.new_zeros(len(association))
    if norm in ("l1", "l1_l2"):
        penalty = penalty + association.abs().sum((-2, -1))
    if norm in ("l2", "l1_l2"):
        penalty = penalty + torch.linalg.matrix_norm(association)
    return penalty.mean()
