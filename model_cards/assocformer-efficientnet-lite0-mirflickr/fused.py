"""The association matrix in one compiled loop: what eq. 6 and 9 need of A, for large label sets.

`keys gram keys'` has an inner dimension of kernel_size + 1, usually 4. Written as that many broadcast products it is
pointwise, and `torch.compile` makes one loop of it, the sigmoid and the sums over each row of A: nothing of A is
stored. On a CPU that takes a C++ compiler, on a GPU Triton; compiling takes half a minute once, and inductor keeps the
result on disk. The tiles of `tiled.py` are the reference, and do the work where there is no compiler.
"""

import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed, FailOnRecompileLimitHit
from torch._inductor.exc import InductorError
from torch.autograd.function import once_differentiable

from .tiled import TiledAssociation, tiled_association
from .whole import full_precision

# Inductor would else store an expression that many sums share, here A itself.
INLINE = {"realize_reads_threshold": 1000, "realize_opcount_threshold": 10000, "realize_acc_reads_threshold": 1000}
LOGGER = logging.getLogger(__name__)


def fused_association(keys: Tensor, gram: Tensor, values: Tensor) -> TiledAssociation:
    """`tiled_association` in one compiled loop; by the tiles themselves, with a warning, where compiling fails."""
    try:
        return TiledAssociation(*_Fused.apply(keys, gram, values))
    except (BackendCompilerFailed, FailOnRecompileLimitHit, InductorError) as error:
        LOGGER.warning(
            "torch.compile failed (%s): A is computed in tiles", (str(error).splitlines() or [type(error).__name__])[0]
        )
        return tiled_association(keys, gram, values)


class _Fused(torch.autograd.Function):
    """Image by image: a batch would give loops of several shapes, which inductor does not join."""

    @staticmethod
    def forward(ctx, keys: Tensor, gram: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(keys, gram, values)
        keys_t, values_t = keys.T.contiguous(), values.T.contiguous()
        sums = [torch.stack(_compiled(_row_sums)(queries, keys_t, values_t)) for queries in keys @ gram]
        sums = torch.stack(sums)
        return sums[:, :-2].mT, sums[:, -2].sum(1), sums[:, -1].sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keys, gram, values = ctx.saved_tensors
        with full_precision(keys.device):
            keys_t, values_t = keys.T.contiguous(), values.T.contiguous()
            sums = [
                torch.stack(_compiled(_row_gradients)(queries, keys_t, values_t, outer.T.contiguous(), total, squares))
                for queries, outer, total, squares in zip(keys @ gram, *gradients, strict=True)
            ]
            propagated, values_gradient = torch.stack(sums).chunk(2, dim=1)
            return (gram @ propagated).sum(0).T, 0.5 * propagated @ keys, values_gradient.sum(0).T


@cache
def _compiled(function: Callable) -> Callable:
    return torch.compile(function, dynamic=False, fullgraph=True, options=INLINE)


def _association(queries: Tensor, keys: Tensor) -> Tensor:
    """A of one image from queries `(labels, rank)` and keys `(rank, labels)`, without a product of matrices."""
    return torch.sigmoid(sum(queries[:, m, None] * keys[m] for m in range(len(keys))))


def _row_sums(queries: Tensor, keys: Tensor, values: Tensor) -> list[Tensor]:
    """The sums over each row of A, weighted by each row of values, plain, and of its squares: each `(labels,)`."""
    association = _association(queries, keys)
    weighted = [(association * row).sum(1) for row in values.unbind()]
    return [*weighted, association.sum(1), association.square().sum(1)]


def _row_gradients(
    queries: Tensor, keys: Tensor, values: Tensor, outer: Tensor, total: Tensor, squares: Tensor
) -> list[Tensor]:
    """`W_K' (dZ + dZ')` and then `dgathered' A`, row by row, each `(labels,)`: A is symmetric."""
    association = _association(queries, keys)
    gradient = 2 * total + 4 * squares * association
    for first, second in zip(outer.unbind(), values.unbind(), strict=True):
        gradient = gradient + first[:, None] * second + second[:, None] * first
    gradient = gradient * association * (1 - association)
    return [(gradient * row).sum(1) for row in keys.unbind()] + [(association * row).sum(1) for row in outer.unbind()]
