"""The association head: eq. 4 to 7 of the paper, computed in their exact low-rank form."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .tiled import tiled_association

TILED_FROM = 1024  # labels; below, A of a batch is small, and faster as a whole


class AssociationScores(NamedTuple):
    """What the head says of a batch; a part that the fusion does not use is None.

    Attributes:
        logits: O of eq. 7, `(batch, labels)`.
        association: A of eq. 5, `(batch, labels, labels)`, symmetric, in (0, 1); None where it is computed in tiles.
        association_sums: sum of the entries of A and sum of their squares, `(batch, 2)`; None where A is held whole.
        association_logits: N1 of eq. 6, `(batch, labels)`.
        embedding_logits: N2 of eq. 7, `(batch, labels)`.
    """

    logits: Tensor
    association: Tensor | None
    association_sums: Tensor | None
    association_logits: Tensor | None
    embedding_logits: Tensor | None


class LabelProjection(nn.Conv1d):
    """A convolution of eq. 4: features `(batch, 1, d)` to one row for each label, `(batch, labels, d)`.

    Args:
        num_features: size d of the feature vector.
        num_labels: number of labels C.
        kernel_size: odd size k; the ends are padded with zeros.
    """

    def __init__(self, num_features: int, num_labels: int, kernel_size: int):
        super().__init__(1, num_labels, kernel_size, padding=kernel_size // 2)
        # The products of two rows then have standard deviation 1 where the features have unit variance, so that
        # sigmoid(K K') starts neither saturated nor, for want of gradient, frozen at 1/2.
        self.initial_std = (num_features * kernel_size**0.5) ** -0.5

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """The same map as a matrix `(labels, kernel_size + 1)` that multiplies the shifts and the ones."""
        return torch.cat([self.weight.squeeze(1), self.bias.unsqueeze(1)], dim=1).to(dtype)


class AssociationModule(nn.Module):
    """Eq. 4 to 6: label-to-label associations of an image, and the evidence gathered along them.

    The three convolutions hold the parameters as the paper names them. They are never run: `K = W_K S` and
    `M = W_M S`, where `S` is `(kernel_size + 1, features)`, the zero-padded shifts of the feature vector and a row of
    ones, and `W` is a convolution's weight with its bias as last column. So, exactly,

        A  = sigmoid(W_K S S' W_K')
        N1 = rowsum((A W_M) * (U S')) + b

    which costs `labels^2 * (kernel_size + 1)` where the convolutions cost `labels^2 * features`.

    Args:
        num_features: size d of the pooled backbone feature.
        num_labels: number of labels C.
        kernel_size: odd size k of the convolutions of eq. 4.
        readout: `"per_label"` reads each label with its own weights, `"shared"` reads all with the same.
        tiled: whether A is computed in tiles and never held whole; by default from 1,024 labels on.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        kernel_size: int = 3,
        readout: str = "per_label",
        tiled: bool | None = None,
    ):
        super().__init__()
        self.tiled = num_labels >= TILED_FROM if tiled is None else tiled
        self.key = LabelProjection(num_features, num_labels, kernel_size)
        self.message = LabelProjection(num_features, num_labels, kernel_size)
        channels = 1 if readout == "shared" else num_labels
        self.readout = nn.Conv1d(channels, channels, num_features, groups=channels)

    def forward(self, features: Tensor, whole: bool = False) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Features `(batch, d)` to A `(batch, C, C)`, its sums `(batch, 2)`, and N1 `(batch, C)`.

        In tiles A is None, else the sums are; `whole` asks for A whatever the module does by default.
        """
        keys, gram, projected = self._factors(features)
        messages = self.message.matrix(features.dtype)
        if self.tiled and not whole:
            gathered, total, squares = tiled_association(keys, gram, messages)
            association, sums = None, torch.stack([total, squares], dim=1)
        else:
            association, sums = _whole(keys, gram), None
            gathered = association @ messages
        return association, sums, (gathered * projected).sum(-1) + self.readout.bias.to(features.dtype)

    def contributions(self, features: Tensor) -> Tensor:
        """Features `(batch, d)` to E `(batch, C, C)`: what label j gives to the association logit of label c.

        `E[c, j] = A[c, j] * <U_c, M_j>`, so that the rows of E sum to N1 less its bias.
        """
        keys, gram, projected = self._factors(features)
        messages = projected @ self.message.matrix(features.dtype).T
        return _whole(keys, gram) * messages

    def _factors(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """W_K `(C, k + 1)`, S S' `(batch, k + 1, k + 1)`, and the readout of S, U S' `(batch, C or 1, k + 1)`."""
        num_features, padding = features.shape[-1], self.key.padding[0]
        shifts = F.pad(features, (padding, padding)).unfold(-1, num_features, 1)
        shifts = torch.cat([shifts, torch.ones_like(shifts[:, :1])], dim=1)
        readout = self.readout.weight.to(features.dtype).flatten(1)
        # In this order the product is one of two matrices, not one for each image.
        return self.key.matrix(features.dtype), shifts @ shifts.mT, (shifts @ readout.T).mT


class AssociationHead(nn.Module):
    """The classifier of AssocFormer: the association module and a linear layer, fused by eq. 7.

    A part with no weight in the fusion is not built. The head computes in float32 at least, under autocast and with
    half-precision weights too: the squared norm of the features overflows float16.

    Args:
        num_features: size d of the pooled backbone feature.
        num_labels: number of labels C.
        kernel_size: see [`AssociationModule`].
        readout: see [`AssociationModule`].
        fusion: `"equal"`, `"association"`, `"learnable"` or `"linear"`, see [`AssocFormerConfig`].
        tiled: see [`AssociationModule`].
        attention_weight: weight of what each label sees where it looks, see [`AssociationHead.evidence_by_place`].
        attention_temperature: how narrowly it looks; 0 looks everywhere alike.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        kernel_size: int = 3,
        readout: str = "per_label",
        fusion: str = "equal",
        tiled: bool | None = None,
        attention_weight: float = 1.0,
        attention_temperature: float = 1.0,
    ):
        super().__init__()
        self.fusion = fusion
        self.attention_weight = attention_weight
        self.attention_temperature = attention_temperature
        if fusion != "linear":
            self.association = AssociationModule(num_features, num_labels, kernel_size, readout, tiled)
        if fusion != "association":
            self.embedding = nn.Linear(num_features, num_labels)
        if fusion == "learnable":
            self.alpha = nn.Parameter(torch.ones(()))

    def forward(self, features: Tensor, whole: bool = False, places: Tensor | None = None) -> AssociationScores:
        """Features `(batch, d)` to [`AssociationScores`].

        Args:
            features: L, the pooled feature of the backbone, `(batch, d)`.
            whole: asks for A where it is computed in tiles.
            places: the backbone's feature map, `(batch, places, d)`, for N2 with attention; without it N2 is of L.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = _at_least_float32(features)
            association = sums = association_logits = embedding_logits = None
            if self.fusion != "linear":
                association, sums, association_logits = self.association(features, whole)
            if self.fusion != "association":
                weight, bias = self.embedding.weight.to(features.dtype), self.embedding.bias.to(features.dtype)
                if places is None:
                    embedding_logits = F.linear(features, weight, bias)
                else:
                    embedding_logits = self._evidence(places, weight).sum(1) + bias
            logits = self._fuse(association_logits, embedding_logits)
            return AssociationScores(logits, association, sums, association_logits, embedding_logits)

    def contributions(self, features: Tensor) -> Tensor:
        """Features `(batch, d)` to E `(batch, C, C)`, see [`AssociationModule.contributions`]."""
        with torch.autocast(features.device.type, enabled=False):
            return self.association.contributions(_at_least_float32(features))

    def evidence_by_place(self, places: Tensor) -> Tensor:
        """A feature map `(batch, places, d)` to what each place gives to each logit, `(batch, places, labels)`.

        Class-specific residual attention: with `s = W x` the scores of a place, a label's N2 is the mean of its s and,
        times `attention_weight`, the mean weighted by `softmax(attention_temperature * s)` over the places. So

            N2 = sum over places of (1 / places + weight * softmax(temperature * s)) * s + b

        is a sum over places without any parameter more than a linear layer's. The answer includes the fusion's factor
        of N2 (eq. 7): summed over the places it is that part of the logit, less its constant b.

        Source: Zhu & Wu, Residual Attention: A Simple but Effective Method for Multi-Label Recognition, ICCV 2021.
        """
        with torch.autocast(places.device.type, enabled=False):
            factor = 0.5 if self.fusion == "equal" else 1.0
            places = _at_least_float32(places)
            return factor * self._evidence(places, self.embedding.weight.to(places.dtype))

    def _evidence(self, places: Tensor, weight: Tensor) -> Tensor:
        scores = F.linear(_at_least_float32(places), weight)
        attention = torch.softmax(self.attention_temperature * scores, dim=1)
        return (1 / scores.shape[1] + self.attention_weight * attention) * scores

    def _fuse(self, association_logits: Tensor | None, embedding_logits: Tensor | None) -> Tensor:
        """Eq. 7."""
        if self.fusion == "association":
            return association_logits
        if self.fusion == "linear":
            return embedding_logits
        if self.fusion == "learnable":
            return self.alpha.to(association_logits.dtype) * association_logits + embedding_logits
        return 0.5 * association_logits + 0.5 * embedding_logits


def _at_least_float32(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))


def _whole(keys: Tensor, gram: Tensor) -> Tensor:
    """Eq. 5, `(batch, labels, labels)`."""
    return torch.sigmoid((gram @ keys.T).mT @ keys.T)
