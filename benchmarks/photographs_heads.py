"""The heads of `benchmarks.photographs`: what they take, and their options.

A head takes pooled features `(batch, channels)`, or with `on_maps` feature maps `(batch, positions, channels)`, and
gives logits `(batch, labels)` and the weighted norm of A of eq. 9, 0 where it has none.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel
from assocformer_hf.model.association import AssociationHead, AssociationModule, AssociationScores
from assocformer_hf.model.losses import association_penalty
from assocformer_hf.model.whole import shifted
from benchmarks import peers
from benchmarks.ablations_runs import FeatureBackbone

Scored = tuple[Tensor, Tensor]


class Linear(nn.Module):
    """A linear layer."""

    on_maps = False

    def __init__(self, channels: int, labels: int):
        super().__init__()
        self.linear = nn.Linear(channels, labels)

    def forward(self, features: Tensor) -> Scored:
        return self.linear(features), features.new_zeros(())


class MLP(nn.Module):
    """One hidden layer; with `residual` a linear layer beside it."""

    on_maps = False

    def __init__(self, channels: int, labels: int, hidden: int = 512, residual: bool = False):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, labels))
        self.linear = nn.Linear(channels, labels) if residual else None

    def forward(self, features: Tensor) -> Scored:
        logits = self.layers(features)
        return logits if self.linear is None else logits + self.linear(features), features.new_zeros(())


class HiddenLinear(nn.Linear):
    """A linear layer with a hidden layer beside it."""

    def __init__(self, channels: int, labels: int, hidden: int):
        super().__init__(channels, labels)
        self.hidden, self.output = nn.Linear(channels, hidden), nn.Linear(hidden, labels, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features `(..., channels)` to scores `(..., labels)`."""
        return super().forward(features) + self.output(nn.functional.gelu(self.hidden(features)))


class MeanMax(Linear):
    """A linear layer on the mean and the maximum of each channel over the positions."""

    on_maps = True

    def __init__(self, channels: int, labels: int):
        super().__init__(2 * channels, labels)

    def forward(self, maps: Tensor) -> Scored:
        return super().forward(torch.cat([maps.mean(1), maps.amax(1)], dim=1))


class Association(AssociationModule):
    """The package's module by operations that heads side by side can share, with the A of `of`.

    Its parameters, and what it computes, are those of the package's.
    """

    def forward(
        self, features: Tensor, whole: bool = True, association: Tensor | None = None
    ) -> tuple[Tensor, None, Tensor]:
        """Features `(batch, d)` to A and N1; with an A of one's own, `(labels, labels)`, to that and its N1."""
        messages, (readout, bias) = self.message(features.dtype), self.readout(features.dtype)
        shifts = shifted(features, messages.shape[1])
        if association is None:
            association = self.of(shifts)
        evidence = ((association @ messages) * (shifts @ readout.T).mT).sum(-1)
        return association, None, evidence + bias

    def of(self, shifts: Tensor) -> Tensor:
        """A `(batch, labels, labels)` from the shifts of the features, eq. 5."""
        keys = self.key(shifts.dtype)
        return torch.sigmoid(keys @ (shifts @ shifts.mT) @ keys.T)


class HalfAssociation(Association):
    """A is 1/2 everywhere, whatever the image: what is left are two linear layers."""

    def of(self, shifts: Tensor) -> Tensor:
        labels = self.key.out_channels
        return shifts.new_full((len(shifts), labels, labels), 0.5)


class StaticAssociation(Association):
    """A is learned, but the same for all images: it is that of a feature of ones."""

    def of(self, shifts: Tensor) -> Tensor:
        constant = shifted(torch.ones_like(shifts[:1, 0]), shifts.shape[1])
        return super().of(constant).expand(len(shifts), -1, -1)


ASSOCIATIONS = {"image": Association, "half": HalfAssociation, "static": StaticAssociation}


class AM(nn.Module):
    """The package's head as the package initialises it.

    Args:
        channels: size d of the pooled feature.
        labels: number of labels C.
        fusion: of eq. 7.
        kernel_size: k of eq. 4.
        theta: weight of the l2 norm of A; 0 is none.
        association: a key of `ASSOCIATIONS`.
        lam: λ of class-specific residual attention, with which the head takes maps; None is without attention.
        temperature: of that.
        hidden: size of a hidden layer beside the linear layer of N2, with attention at each place alike; 0 is none.
    """

    def __init__(
        self,
        channels: int,
        labels: int,
        fusion: str = "equal",
        kernel_size: int = 3,
        theta: float = 0.0,
        association: str = "image",
        lam: float | None = None,
        temperature: float = 1.0,
        hidden: int = 0,
    ):
        super().__init__()
        backbone = FeatureBackbone(PreTrainedConfig(hidden_size=channels))
        config = AssocFormerConfig(
            backbone_config=backbone.config, num_labels=labels, association_kernel_size=kernel_size, fusion=fusion
        )
        self.head: AssociationHead = AssocFormerForMultiLabel(config, backbone).head
        if hidden:
            self.head.embedding = HiddenLinear(channels, labels, hidden)
        if fusion != "linear":
            self.head.association.__class__ = ASSOCIATIONS[association]
        self.theta, self.on_maps = theta, lam is not None
        if self.on_maps:  # as buffers, so that heads that differ in them can be trained side by side
            del self.head.attention_weight, self.head.attention_temperature
            self.head.register_buffer("attention_weight", torch.tensor(lam))
            self.head.register_buffer("attention_temperature", torch.tensor(temperature))

    def forward(self, features: Tensor) -> Scored:
        scores = self._score(features)
        if not self.theta:
            return scores.logits, features.new_zeros(())
        return scores.logits, self.theta * association_penalty(scores.association)

    def with_association(self, features: Tensor, association: Tensor) -> Tensor:
        """Logits with an A of one's own, `(labels, labels)`, in place of the image's."""
        pooled = features.mean(1) if self.on_maps else features
        _, _, evidence = self.head.association(pooled, association=association)
        return self.head._fuse(evidence, self._score(features).embedding_logits)

    def _score(self, features: Tensor) -> AssociationScores:
        return self.head(features.mean(1), feature_map=features) if self.on_maps else self.head(features)


class Peer(nn.Module):
    """A head of `benchmarks.peers`, which takes maps `(batch, channels, height, width)`."""

    on_maps = True

    def __init__(self, channels: int, labels: int, peer: str, **options):
        super().__init__()
        self.peer = peers.HEADS[peer](channels, labels, **options)

    def forward(self, maps: Tensor) -> Scored:
        side = round(maps.shape[1] ** 0.5)
        return self.peer(maps.mT.unflatten(2, (side, side))), maps.new_zeros(())


class InBfloat16(nn.Module):
    """A head whose products are computed in bfloat16; its weights, and the logits, are in float32."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head, self.on_maps = head, head.on_maps

    def forward(self, features: Tensor) -> Scored:
        with torch.autocast(features.device.type, torch.bfloat16):
            logits, penalty = self.head(features)
        return logits.float(), penalty
