"""The association matrix as a whole: eq. 5 and the readout of eq. 6 in few operations, with their gradient."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def full_precision(device: torch.device) -> AbstractContextManager:
    """Leaves autocast, on a device that has it."""
    return torch.autocast(device.type, enabled=False) if _has_autocast(device.type) else nullcontext()


@torch.compiler.assume_constant_result  # without it torch 2.11 stops compiling here
def _has_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)


def shifted(features: Tensor, rows: int) -> Tensor:
    """S `(batch, rows, d)`: the zero-padded shifts of features `(batch, d)`, and a row of ones."""
    num_features, padding = features.shape[-1], (rows - 2) // 2
    shifts = torch.nn.functional.pad(features, (padding, padding)).unfold(-1, num_features, 1)
    return torch.cat([shifts, torch.ones_like(shifts[:, :1])], dim=1)


def whole_association(features: Tensor, keys: Tensor, messages: Tensor, readout: Tensor) -> tuple[Tensor, Tensor]:
    """A of eq. 5 and N1 of eq. 6 without its bias.

    Some twenty operations forward and backward, where autograd would run three times as many: at 80 labels their fixed
    cost is what counts. A compiler, an exporter or a tracer gets the plain formula.

    Args:
        features: `(batch, d)`.
        keys: W_K, `(labels, kernel_size + 1)`.
        messages: W_M, `(labels, kernel_size + 1)`.
        readout: U, `(labels, d)`, or `(1, d)` for all labels.

    Returns:
        A `(batch, labels, labels)` and `rowsum((A W_M) * (U S'))`, `(batch, labels)`.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return _forward(features, keys, messages, readout)[-2:]
    return _Whole.apply(features, keys, messages, readout)


def _forward(features: Tensor, keys: Tensor, messages: Tensor, readout: Tensor) -> tuple[Tensor, ...]:
    shifts = shifted(features, keys.shape[1])
    gram = shifts @ shifts.mT
    # In this order it is a product of two matrices, not one for each image.
    projected = (shifts @ readout.T).mT
    queries = keys @ gram
    association = torch.sigmoid(queries @ keys.T)
    gathered = association @ messages
    return shifts, gram, queries, projected, gathered, association, (gathered * projected).sum(-1)


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, keys: Tensor, messages: Tensor, readout: Tensor) -> tuple[Tensor, Tensor]:
        *saved, association, evidence = _forward(features, keys, messages, readout)
        ctx.save_for_backward(keys, messages, readout, *saved, association)
        ctx.set_materialize_grads(False)
        return association, evidence

    @staticmethod
    @once_differentiable
    def backward(ctx, association_gradient: Tensor | None, evidence_gradient: Tensor | None):
        keys, messages, readout, shifts, gram, queries, projected, gathered, association = ctx.saved_tensors
        with full_precision(keys.device):
            shifts_gradient = messages_gradient = readout_gradient = None
            if evidence_gradient is not None:
                outer = evidence_gradient.unsqueeze(-1)
                gathered_gradient = outer * projected
                messages_gradient = association.flatten(0, 1).T @ gathered_gradient.flatten(0, 1)
                projected_gradient = outer * gathered
                if len(readout) == 1:
                    projected_gradient = projected_gradient.sum(1, keepdim=True)
                projected_gradient = projected_gradient.mT.flatten(0, 1)
                readout_gradient = projected_gradient.T @ shifts.flatten(0, 1)
                shifts_gradient = (projected_gradient @ readout).view_as(shifts)
                passed = gathered_gradient @ messages.T
                association_gradient = passed if association_gradient is None else passed.add_(association_gradient)
            if association_gradient is None:
                return None, None, None, None
            logits_gradient = torch.ops.aten.sigmoid_backward(association_gradient, association)
            queries_gradient = logits_gradient @ keys
            keys_gradient = logits_gradient.flatten(0, 1).T @ queries.flatten(0, 1)
            keys_gradient += (queries_gradient @ gram).sum(0)
            gram_gradient = keys.T @ queries_gradient
            gram_gradient = gram_gradient + gram_gradient.mT
            if shifts_gradient is None:
                shifts_gradient = gram_gradient @ shifts
            else:
                shifts_gradient.baddbmm_(gram_gradient, shifts)
            return _unshifted(shifts_gradient), keys_gradient, messages_gradient, readout_gradient


def _unshifted(gradient: Tensor) -> Tensor:
    """The gradient by the features from that by their shifts."""
    kernel = gradient.shape[1] - 1
    padding, num_features = kernel // 2, gradient.shape[2]
    result = gradient[:, padding].clone()
    for step in range(1, min(padding, num_features - 1) + 1):
        result[:, step:] += gradient[:, padding + step, :-step]
        result[:, :-step] += gradient[:, padding - step, step:]
    return result
