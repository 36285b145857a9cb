"""The association matrix in tiles: what eq. 6 and 9 need of A, without a tensor of its size."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Entries of A that are held at a time: on a CPU they stay in the cache of a core.
TILE_ENTRIES = {"cpu": 2**18, "cuda": 2**24}
TILE_LABELS = {"cpu": 512, "cuda": 2048}


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


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, keys: Tensor, gram: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(keys, gram, values)
        queries = keys @ gram
        # The column of ones gives the sums of the rows of A.
        extended = torch.cat([values, values.new_ones(len(values), 1)], dim=1)
        gathered = queries.new_zeros(len(gram), *extended.shape)
        squares = queries.new_zeros(len(gram))
        for images, rows, columns in _tiles(queries):
            tile = (queries[images, rows] @ keys[columns].T).sigmoid_()
            gathered[images, rows] += tile @ extended[columns]
            if rows == columns:
                squares[images] += _sum_of_squares(tile)
            else:
                gathered[images, columns] += tile.mT @ extended[rows]
                squares[images] += 2 * _sum_of_squares(tile)
        return gathered[..., :-1].contiguous(), gathered[..., -1].sum(1), squares

    @staticmethod
    @once_differentiable
    def backward(ctx, gathered_gradient: Tensor, total_gradient: Tensor, squares_gradient: Tensor):
        keys, gram, values = ctx.saved_tensors
        queries = keys @ gram
        # dA + dA' = left right' + 4 dsquares A, with the gradient of the sum as a pair of columns of its own.
        ones = total_gradient[:, None, None].expand(-1, len(keys), 1)
        batch_values = values.expand(len(gram), -1, -1)
        left = torch.cat([gathered_gradient, batch_values, 2 * ones], dim=2)
        right = torch.cat([batch_values, gathered_gradient, torch.ones_like(ones)], dim=2)
        propagated = torch.zeros_like(queries)  # (dZ + dZ') W_K
        values_gradient = torch.zeros_like(values)
        for images, rows, columns in _tiles(queries):
            tile = (queries[images, rows] @ keys[columns].T).sigmoid_()
            values_gradient[columns] += (tile.mT @ gathered_gradient[images, rows]).sum(0)
            if rows != columns:
                values_gradient[rows] += (tile @ gathered_gradient[images, columns]).sum(0)
            gradient = left[images, rows] @ right[images, columns].mT
            gradient += 4 * squares_gradient[images, None, None] * tile
            gradient *= tile.mul_(1 - tile)
            propagated[images, rows] += gradient @ keys[columns]
            if rows != columns:
                propagated[images, columns] += gradient.mT @ keys[rows]
        keys_gradient = (propagated @ gram).sum(0)
        return keys_gradient, 0.5 * keys.T @ propagated, values_gradient


def _tiles(queries: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Images, rows and columns of the tiles on and above the diagonal."""
    kind = queries.device.type
    batch, labels = queries.shape[:2]
    side = min(TILE_LABELS.get(kind, TILE_LABELS["cpu"]), labels)
    group = max(1, TILE_ENTRIES.get(kind, TILE_ENTRIES["cpu"]) // side**2)
    for image in range(0, batch, group):
        for row in range(0, labels, side):
            for column in range(row, labels, side):
                yield slice(image, image + group), slice(row, row + side), slice(column, column + side)


def _sum_of_squares(tile: Tensor) -> Tensor:
    """Of each image, `(batch, rows, columns)` to `(batch,)`."""
    flat = tile.flatten(1)
    return torch.linalg.vecdot(flat, flat)
