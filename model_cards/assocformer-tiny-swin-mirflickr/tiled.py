"""The association matrix in tiles: what eq. 6 and 9 need of A, without a tensor of its size."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .whole import full_precision

# Entries of A that are held at a time: on a CPU they stay in the cache of a core.
TILE_ENTRIES = {"cpu": 768**2, "cuda": 2**24}
TILE_LABELS = {"cpu": 768, "cuda": 2048}


class TiledAssociation(NamedTuple):
    """What is kept of A.

    Attributes:
        gathered: `A W_M`, `(batch, labels, kernel_size + 1)`.
        total: sum of the entries of A, `(batch,)`.
        squares: sum of their squares, `(batch,)`.
    """

    gathered: Tensor
    total: Tensor
    squares: Tensor


def tiled_association(keys: Tensor, gram: Tensor, values: Tensor) -> TiledAssociation:
    """`A = sigmoid(keys gram keys')`, multiplied by the values, summed, and summed in squares, tile by tile.

    A is symmetric: only the tiles on and above its diagonal are computed. The backward pass computes them again.

    Args:
        keys: W_K, `(labels, m)`.
        gram: `S S'`, `(batch, m, m)`, symmetric.
        values: W_M, `(labels, m)`.

    Returns:
        A [`TiledAssociation`].
    """
    return TiledAssociation(*_Tiled.apply(keys, gram, values))


def association_by_rows(keys: Tensor, gram: Tensor, values: Tensor) -> TiledAssociation:
    """`tiled_association` for an exporter: blocks of rows of A, in operations that leave the batch free."""
    queries, side = keys @ gram, TILE_LABELS["cpu"]
    rows = [torch.sigmoid(queries[:, row : row + side] @ keys.T) for row in range(0, len(keys), side)]
    return TiledAssociation(
        torch.cat([block @ values for block in rows], dim=1),
        sum(block.sum((1, 2)) for block in rows),
        sum(block.square().sum((1, 2)) for block in rows),
    )


class _Tiled(torch.autograd.Function):
    """Thin matrices lie with the labels as last dimension: products with a tile are several times faster that way."""

    @staticmethod
    def forward(ctx, keys: Tensor, gram: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(keys, gram, values)
        # The row of ones gives the sums of the rows of A.
        extended = torch.cat([values.T, values.new_ones(1, len(values))]).expand(len(gram), -1, -1)
        gathered = torch.zeros_like(extended, memory_format=torch.contiguous_format)
        squares = keys.new_zeros(len(gram))
        for images, rows, columns, tile in _tiles(keys @ gram, keys.T):
            gathered[images, :, rows].baddbmm_(extended[images, :, columns], tile.mT)
            norm = torch.linalg.vector_norm(tile, dim=(1, 2))
            squares[images] += norm.square() if rows == columns else 2 * norm.square()
            if rows != columns:
                gathered[images, :, columns].baddbmm_(extended[images, :, rows], tile)
        return gathered[:, :-1].mT, gathered[:, -1].sum(1), squares

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with full_precision(gradients[0].device):
            return _gradients(*ctx.saved_tensors, *gradients)


def _gradients(
    keys: Tensor,
    gram: Tensor,
    values: Tensor,
    gathered_gradient: Tensor,
    total_gradient: Tensor,
    squares_gradient: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    outer = gathered_gradient.mT.contiguous()
    keys_t, values_t = (x.T.expand(len(gram), -1, -1) for x in (keys, values))
    # dA + dA' = left right + 4 dsquares A; the gradient of the sum is a pair of rows of its own.
    ones = total_gradient[:, None, None].expand(-1, len(keys), 1)
    left = torch.cat([outer.mT, values_t.mT, 2 * ones], dim=2)
    right = torch.cat([values_t, outer, torch.ones_like(ones).mT], dim=1)
    propagated = torch.zeros_like(outer)  # W_K' (dZ + dZ')
    values_gradient = torch.zeros_like(outer)
    memory = torch.empty_like(left[:0])
    for images, rows, columns, tile in _tiles(keys @ gram, keys.T):
        values_gradient[images, :, columns].baddbmm_(outer[images, :, rows], tile)
        if rows != columns:
            values_gradient[images, :, rows].baddbmm_(outer[images, :, columns], tile.mT)
        memory, buffer = _reuse(memory, tile.shape)
        torch.mul(tile, 4 * squares_gradient[images, None, None], out=buffer)
        buffer.baddbmm_(left[images, rows], right[images, :, columns])
        torch.ops.aten.sigmoid_backward.grad_input(buffer, tile, grad_input=buffer)
        propagated[images, :, rows].baddbmm_(keys_t[images, :, columns], buffer.mT)
        if rows != columns:
            propagated[images, :, columns].baddbmm_(keys_t[images, :, rows], buffer)
    keys_gradient = (gram @ propagated).sum(0).T
    return keys_gradient, 0.5 * propagated @ keys, values_gradient.sum(0).T


def _tiles(queries: Tensor, keys_t: Tensor) -> Iterator[tuple[slice, slice, slice, Tensor]]:
    """Images, rows, columns and entries of the tiles of A on and above its diagonal; a tile lasts until the next."""
    kind = queries.device.type
    batch, labels = queries.shape[:2]
    side = min(TILE_LABELS.get(kind, TILE_LABELS["cpu"]), labels)
    group = max(1, TILE_ENTRIES.get(kind, TILE_ENTRIES["cpu"]) // side**2)
    memory = queries.new_empty(0)
    for image in range(0, batch, group):
        images = slice(image, min(image + group, batch))
        for row in range(0, labels, side):
            rows = slice(row, min(row + side, labels))
            for column in range(row, labels, side):
                columns = slice(column, min(column + side, labels))
                shape = (images.stop - image, rows.stop - row, columns.stop - column)
                memory, tile = _reuse(memory, shape)
                torch.bmm(queries[images, rows], keys_t[:, columns].expand(shape[0], -1, -1), out=tile)
                yield images, rows, columns, tile.sigmoid_()


def _reuse(memory: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Memory, made larger where it is too small, and a contiguous tensor of a shape in it."""
    size = math.prod(shape)
    if memory.numel() < size:
        memory = memory.new_empty(size)
    return memory, memory.flatten()[:size].view(shape)
