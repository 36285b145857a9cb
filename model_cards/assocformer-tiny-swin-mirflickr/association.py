"""The association head: eq. 4 to 7 of the paper, computed in their exact low-rank form."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .fused import fused_association
from .tiled import TiledAssociation, association_by_rows, tiled_association
from .whole import full_precision, shifted, whole_association

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
    """A convolution of eq. 4, held as the map from the shifts of the features to one row for each label.

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

    def forward(self, dtype: torch.dtype) -> Tensor:
        """The convolution as a matrix `(labels, kernel_size + 1)` that multiplies the shifts and the ones."""
        return torch.cat([self.weight.squeeze(1), self.bias.unsqueeze(1)], dim=1).to(dtype)


class LabelReadout(nn.Conv1d):
    """The convolution of eq. 6, held as one row for each label, or one for all."""

    def __init__(self, num_features: int, num_labels: int, shared: bool):
        channels = 1 if shared else num_labels
        super().__init__(channels, channels, num_features, groups=channels)

    def forward(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """U `(labels or 1, d)` and b `(labels or 1,)`."""
        return self.weight.to(dtype).flatten(1), self.bias.to(dtype)


class FusionWeight(nn.Module):
    """Alpha of eq. 7 where it is learned: called, so that hooks of offloading have it there in every use."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))  # of one dimension: FSDP shards no scalar

    def forward(self) -> Tensor:
        """Alpha, `(1,)`."""
        return self.weight


class EmbeddingClassifier(nn.Linear):
    """N2 of eq. 7; computes in the dtype of the features, whatever that of its weights is."""

    def forward(self, features: Tensor) -> Tensor:
        """Features `(batch, d)` to logits `(batch, labels)`."""
        return F.linear(features, self.weight.to(features.dtype), self.bias.to(features.dtype))


class AssociationModule(nn.Module):
    """Eq. 4 to 6: label-to-label associations of an image, and the evidence gathered along them.

    The three convolutions hold the parameters as the paper names them. They are never run: `K = W_K S` and
    `M = W_M S`, where `S` is `(kernel_size + 1, features)`, the zero-padded shifts of the feature vector and a row of
    ones, and `W` is a convolution's weight with its bias as last column. So, exactly,

        A  = sigmoid(W_K S S' W_K')
        N1 = rowsum((A W_M) * (U S')) + b

    which costs `labels^2 * (kernel_size + 1)` where the convolutions cost `labels^2 * features`. The weights are
    got by calling their modules, so that the hooks of offloading and sharding (FSDP) fire before they are used.

    Args:
        num_features: size d of the pooled backbone feature.
        num_labels: number of labels C.
        kernel_size: odd size k of the convolutions of eq. 4.
        readout: `"per_label"` reads each label with its own weights, `"shared"` reads all with the same.
        tiled: whether A is computed in tiles and never held whole; by default from 1,024 labels on.
        fused: whether a compiled loop takes the place of the tiles.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        kernel_size: int = 3,
        readout: str = "per_label",
        tiled: bool | None = None,
        fused: bool = False,
    ):
        super().__init__()
        self.tiled = num_labels >= TILED_FROM if tiled is None else tiled
        self.fused = fused
        self.key = LabelProjection(num_features, num_labels, kernel_size)
        self.message = LabelProjection(num_features, num_labels, kernel_size)
        self.readout = LabelReadout(num_features, num_labels, shared=readout == "shared")

    def forward(self, features: Tensor, whole: bool = False) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Features `(batch, d)` to A `(batch, C, C)`, its sums `(batch, 2)`, and N1 `(batch, C)`.

        In tiles A is None, else the sums are; `whole` asks for A whatever the module does by default.
        """
        keys, messages = self.key(features.dtype), self.message(features.dtype)
        readout, bias = self.readout(features.dtype)
        if not self.tiled or whole:
            association, evidence = whole_association(features, keys, messages, readout)
            return association, None, evidence + bias
        shifts = shifted(features, keys.shape[1])
        gathered, total, squares = self._in_parts()(keys, shifts @ shifts.mT, messages)
        evidence = (gathered * (shifts @ readout.T).mT).sum(-1)
        return None, torch.stack([total, squares], dim=1), evidence + bias

    def _in_parts(self) -> Callable[[Tensor, Tensor, Tensor], TiledAssociation]:
        """What computes A without holding it."""
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            return association_by_rows
        return fused_association if self.fused and not torch.compiler.is_compiling() else tiled_association

    def explain(self, features: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features `(batch, d)` to the rows of A and of E of some labels, `(batch, labels, C)` each.

        `E[c, j] = A[c, j] * <U_c, M_j>` is what label j gives to the association logit of label c: the rows of E sum to
        N1 less its bias.

        Args:
            features: of the images.
            labels: indices `(batch, labels)` of the labels to explain; default: all. Nothing else is held in memory.
        """
        keys, messages = self.key(features.dtype), self.message(features.dtype)
        readout, _ = self.readout(features.dtype)
        shifts = shifted(features, keys.shape[1])
        chosen, projected = keys, (shifts @ readout.T).mT
        if labels is not None:
            chosen = keys[labels]
            if projected.shape[1] > 1:
                projected = projected.take_along_dim(labels.unsqueeze(-1), dim=1)
        association = torch.sigmoid(chosen @ (shifts @ shifts.mT) @ keys.T)
        return association, association * (projected @ messages.T)

    def readings(self, features: Tensor) -> Tensor:
        """Features `(batch, d)` to U S', `(batch, labels or 1, kernel_size + 1)`: what is needed of an image for
        [`read`]."""
        readout, _ = self.readout(features.dtype)
        return (shifted(features, self.key.kernel_size[0] + 1) @ readout.T).mT

    def read(self, readings: Tensor, association: Tensor) -> Tensor:
        """N1 `(batch, labels)` computed with a given A, `(labels, labels)`, in place of each image's own.

        Args:
            readings: of the images, see [`readings`].
            association: in the dtype of the readings.
        """
        _, bias = self.readout(readings.dtype)
        return ((association @ self.message(readings.dtype)) * readings).sum(-1) + bias


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
        fused: see [`AssociationModule`].
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
        fused: bool = False,
        attention_weight: float = 1.0,
        attention_temperature: float = 1.0,
    ):
        super().__init__()
        self.num_labels = num_labels
        self.fusion = fusion
        self.attention_weight = attention_weight
        self.attention_temperature = attention_temperature
        if fusion != "linear":
            self.association = AssociationModule(num_features, num_labels, kernel_size, readout, tiled, fused)
        if fusion != "association":
            self.embedding = EmbeddingClassifier(num_features, num_labels)
        if fusion == "learnable":
            self.alpha = FusionWeight()

    def forward(self, features: Tensor, whole: bool = False, feature_map: Tensor | None = None) -> AssociationScores:
        """Features `(batch, d)` to [`AssociationScores`].

        Args:
            features: L, the pooled feature of the backbone, `(batch, d)`.
            whole: asks for A where it is computed in tiles.
            feature_map: of the backbone, `(batch, places, d)`, for N2 with attention; without it N2 is of L.
        """
        with full_precision(features.device):
            features = _at_least_float32(features)
            association = sums = association_logits = embedding_logits = None
            if self.fusion != "linear":
                association, sums, association_logits = self.association(features, whole)
            if self.fusion != "association":
                if feature_map is None:
                    embedding_logits = self.embedding(features)
                else:
                    evidence, bias = self._evidence(feature_map)
                    embedding_logits = evidence.sum(1) + bias
            logits = self._fuse(association_logits, embedding_logits)
            return AssociationScores(logits, association, sums, association_logits, embedding_logits)

    @property
    def fusion_weights(self) -> tuple[float, float]:
        """Alpha and beta of eq. 7: what the association and the embedding logits are multiplied by."""
        if self.fusion == "learnable":
            return self.alpha().item(), 1.0
        return {"equal": (0.5, 0.5), "association": (1.0, 0.0), "linear": (0.0, 1.0)}[self.fusion]

    def explain(self, features: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features `(batch, d)` to rows of A and contributions, `(batch, labels, C)` each.

        A contribution is the part of a label's logit that came through another label: alpha of eq. 7 times E, see
        [`AssociationModule.explain`].

        Args:
            features: of the images.
            labels: indices `(batch, labels)` of the labels to explain; default: all.
        """
        with full_precision(features.device):
            association, evidence = self.association.explain(_at_least_float32(features), labels)
            return association, self.fusion_weights[0] * evidence

    def evidence_by_place(self, feature_map: Tensor) -> Tensor:
        """A feature map `(batch, places, d)` to what each place gives to each logit, `(batch, places, labels)`.

        Class-specific residual attention: with `s = W x` the scores of a place, a label's N2 is the mean of its s and,
        times `attention_weight`, the mean weighted by `softmax(attention_temperature * s)` over the places. So

            N2 = sum over places of (1 / places + weight * softmax(temperature * s)) * s + b

        is a sum over places without any parameter more than a linear layer's. The answer includes the fusion's factor
        of N2 (eq. 7): summed over the places it is that part of the logit, less its constant b.

        Source: Zhu & Wu, Residual Attention: A Simple but Effective Method for Multi-Label Recognition, ICCV 2021.
        """
        with full_precision(feature_map.device):
            return self.fusion_weights[1] * self._evidence(feature_map)[0]

    def _evidence(self, feature_map: Tensor) -> tuple[Tensor, Tensor]:
        """What each place gives to N2, `(batch, places, labels)`, and b, `(1, labels)`."""
        feature_map = _at_least_float32(feature_map)
        # Called, not read: offloaded weights come and LoRA acts when a module is called.
        bias = self.embedding(feature_map.new_zeros(1, feature_map.shape[-1]))
        scores = self.embedding(feature_map) - bias
        attention = torch.softmax(self.attention_temperature * scores, dim=1)
        return (1 / scores.shape[1] + self.attention_weight * attention) * scores, bias

    def _fuse(self, association_logits: Tensor | None, embedding_logits: Tensor | None) -> Tensor:
        """Eq. 7."""
        if self.fusion == "association":
            return association_logits
        if self.fusion == "linear":
            return embedding_logits
        if self.fusion == "learnable":
            return self.alpha().to(association_logits.dtype) * association_logits + embedding_logits
        return torch.lerp(association_logits, embedding_logits, 0.5)


def _at_least_float32(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))
